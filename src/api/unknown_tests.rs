//! No part of a request to a vendor's API is silently ignored: an unknown field is refused by its name, at any depth of
//! any body.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::client::{ApiResponse, Client};
use super::fixture::Gateway;
use super::routes::{VENDORS, fits};

const PROJECT: &str = "5f2a1b3c4d5e6f7081920a3b";
const UNKNOWN: &str = "zzz";

/// Copies of a body with an unknown field in one object each, and the path of that object.
fn with_unknown(body: &Value) -> Vec<(String, Value)> {
    fn walk(whole: &Value, node: &Value, at: &str, found: &mut Vec<(String, Value)>) {
        match node {
            Value::Object(fields) => {
                // The keys of this object are names of regions.
                if !at.ends_with("/regionsConfig") {
                    let mut copy = whole.clone();
                    copy.pointer_mut(at).expect("the walk comes from there")[UNKNOWN] = json!(true);
                    found.push((at.to_owned(), copy));
                }
                fields.iter().for_each(|(name, inner)| walk(whole, inner, &format!("{at}/{name}"), found));
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(n, inner)| walk(whole, inner, &format!("{at}/{n}"), found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(body, body, "", &mut found);
    found
}

/// A request that is valid, or refused for a reason other than its fields.
struct Case {
    method: &'static str,
    path: String,
    body: Value,
}

struct Cases {
    gateway: Gateway,
    session: String,
    all: Vec<Case>,
}

impl Cases {
    async fn send(&self, method: &str, path: &str, body: &Value) -> ApiResponse {
        let client = Client::new(self.gateway.address).with_token(Some(self.session.clone()));
        let headers = [("accept", "application/vnd.atlas.preview+json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        client.send(method, path, &headers, body).await.expect("an answer")
    }

    fn add(&mut self, method: &'static str, path: String, body: Value) {
        self.all.push(Case { method, path, body });
    }

    /// Adds a case for both versions of Atlas' API.
    fn atlas(&mut self, method: &'static str, path: &str, body: &Value) {
        for version in ["v2", "v1.0"] {
            self.add(method, format!("/api/atlas/{version}/groups/{PROJECT}/{path}"), body.clone());
        }
    }

    /// Creates a service in each cloud; returns its Atlas id.
    async fn service(&self, cloud: &str) -> String {
        let services = format!("/api/atlas/v2/groups/{PROJECT}/privateEndpoint");
        let of_cloud = format!("{services}/{cloud}/endpointService");
        if cloud != "AWS" {
            let region = if cloud == "AZURE" { "US_EAST_2" } else { "WESTERN_EUROPE" };
            let body = json!({ "providerName": cloud, "region": region, "portMappingEnabled": cloud == "GCP" });
            let made = self.send("POST", &format!("{services}/endpointService"), &body).await;
            assert_eq!(made.status, 201, "{}", made.text());
        }
        self.send("GET", &of_cloud, &Value::Null).await.json()[0]["id"].as_str().expect("an id").to_owned()
    }
}

async fn cases() -> Cases {
    let gateway = Gateway::start().await;
    let login = r#"{"username":"public","apiKey":"private"}"#;
    let session = gateway.ask("POST", "/api/admin/v3.0/auth/providers/mongodb-cloud/login", login).await.json();
    let session = session["access_token"].as_str().expect("a token").to_owned();
    let mut cases = Cases { gateway, session, all: Vec::new() };
    let tag = json!({ "key": "team", "value": "payments" });
    let group = json!({ "name": "another", "orgId": "32b6e34b3d91647abb20e7b8", "tags": [tag] });
    cases.add("POST", "/api/atlas/v2/groups".to_owned(), group);
    cases.add("PATCH", format!("/api/atlas/v2/groups/{PROJECT}"), json!({ "tags": [tag] }));
    cases.atlas("PATCH", "settings", &json!({ "isDataExplorerEnabled": true }));
    let role = json!({ "roleName": "read", "databaseName": "shop", "collectionName": "orders" });
    let scope = json!({ "name": "Cluster0", "type": "CLUSTER" });
    let user = json!({
        "username": "ann", "databaseName": "admin", "password": "longer than 8", "roles": [role], "scopes": [scope], "labels": [tag],
    });
    cases.atlas("POST", "databaseUsers", &user);
    cases.atlas("PATCH", "databaseUsers/admin/ann", &json!({ "roles": [role], "scopes": [scope], "labels": [tag] }));
    cases.atlas("PATCH", "clusters/Cluster0/processArgs", &json!({ "javascriptEnabled": true }));
    let strings = "/privateEndpointConnectionStrings";
    let named = json!({ "name": "reports", "privateEndpointIds": ["vpce-024f5b57108c8d3ed"] });
    let of_cluster = format!("/api/atlas/v2/groups/{PROJECT}/clusters/Cluster0{strings}");
    cases.add("POST", of_cluster.clone(), named);
    cases.add("PATCH", format!("{of_cluster}/65f0000000000000000000a1"), json!({ "name": "billing" }));
    let entry = json!([{ "cidrBlock": "203.0.113.0/24", "comment": "office" }]);
    cases.add("POST", format!("/api/atlas/v1.0/groups/{PROJECT}/whitelist"), entry.clone());
    cases.atlas("POST", "accessList", &entry);
    cases.atlas("PATCH", "limits/atlas.project.deployment.nodesPerPrivateLinkRegion", &json!({ "value": 60 }));
    cases.atlas("PATCH", "privateEndpoint/regionalMode", &json!({ "enabled": false }));
    for (cloud, region) in [("AWS", "EU_WEST_1"), ("AZURE", "US_EAST_2"), ("GCP", "WESTERN_EUROPE")] {
        let service = json!({ "providerName": cloud, "region": region, "portMappingEnabled": cloud == "GCP" });
        cases.atlas("POST", "privateEndpoint/endpointService", &service);
    }
    let resource = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/pe0";
    let rule = json!({ "endpointName": "group-0", "ipAddress": "10.0.0.5" });
    for (cloud, body) in [
        ("AWS", json!({ "id": "vpce-0123456789abcdef0" })),
        ("AZURE", json!({ "id": resource, "privateEndpointIPAddress": "10.0.0.4" })),
        ("GCP", json!({ "endpointGroupName": "group", "gcpProjectId": "p", "endpoints": [rule] })),
    ] {
        let service = cases.service(cloud).await;
        cases.atlas("POST", &format!("privateEndpoint/{cloud}/endpointService/{service}/endpoint"), &body);
        if cloud == "AWS" {
            let change = json!({ "cloudProvider": "AWS", "supportedRemoteRegions": ["EU_WEST_1"] });
            cases.atlas("PATCH", &format!("privateEndpoint/endpointService/{service}"), &change);
            let old = format!("/api/atlas/v1.0/groups/{PROJECT}/privateEndpoint");
            cases.add("POST", old.clone(), json!({ "providerName": "AWS", "region": "ap-south-1" }));
            let endpoint = json!({ "interfaceEndpointId": "vpce-0123456789abcdef1" });
            cases.add("POST", format!("{old}/{service}/interfaceEndpoints"), endpoint);
        }
    }
    clusters(&mut cases, &tag);
    serverless(&mut cases).await;
    apps(&mut cases).await;
    cases
}

fn clusters(cases: &mut Cases, tag: &Value) {
    let specs = json!({ "instanceSize": "M10", "nodeCount": 3, "diskSizeGB": 10, "ebsVolumeType": "STANDARD" });
    let none = json!({ "instanceSize": "M10", "nodeCount": 0 });
    let scaling = json!({
        "compute": { "enabled": true, "scaleDownEnabled": true, "minInstanceSize": "M10", "maxInstanceSize": "M20" },
        "diskGB": { "enabled": true },
    });
    let region = |name: &str| {
        json!({
            "regionName": name, "providerName": "AWS", "priority": 7, "electableSpecs": specs, "autoScaling": scaling,
            "readOnlySpecs": none, "analyticsSpecs": none,
        })
    };
    let regions = json!([region("US_EAST_1"), region("EU_WEST_1")]);
    let cluster = json!({
        "name": "Other", "clusterType": "REPLICASET", "tags": [tag], "labels": [tag], "biConnector": { "enabled": false },
        "replicationSpecs": [{ "zoneName": "Zone 1", "regionConfigs": regions }],
    });
    let settings = json!({ "providerName": "AWS", "instanceSizeName": "M10", "regionName": "US_EAST_1" });
    let nodes = json!({ "electableNodes": 3, "priority": 7, "readOnlyNodes": 0, "analyticsNodes": 0 });
    let old = json!({
        "name": "Other", "providerSettings": settings, "replicationFactor": 3,
        "autoScaling": { "diskGBEnabled": true, "compute": { "enabled": true } },
        "replicationSpecs": [{ "numShards": 1, "regionsConfig": { "US_EAST_1": nodes } }],
    });
    for body in [cluster, old] {
        cases.atlas("POST", "clusters", &body);
        let mut change = body.clone();
        change["name"] = json!("Cluster0");
        cases.atlas("PATCH", "clusters/Cluster0", &change);
    }
}

async fn serverless(cases: &mut Cases) {
    let settings = json!({ "backingProviderName": "AWS", "providerName": "SERVERLESS", "regionName": "US_EAST_1" });
    let backup = json!({ "serverlessContinuousBackupEnabled": false });
    let body = json!({ "name": "Less", "providerSettings": settings, "serverlessBackupOptions": backup });
    let all = format!("/api/atlas/v2/groups/{PROJECT}/serverless");
    assert_eq!(cases.send("POST", &all, &body).await.status, 201);
    let endpoints = "privateEndpoint/serverless/instance/Less/endpoint";
    let path = format!("/api/atlas/v2/groups/{PROJECT}/{endpoints}");
    let endpoint = cases.send("POST", &path, &json!({})).await.json()["_id"].as_str().expect("an id").to_owned();
    cases.atlas("POST", "serverless", &body);
    cases.atlas("PATCH", "serverless/Less", &json!({ "serverlessBackupOptions": backup }));
    cases.atlas("POST", endpoints, &json!({ "comment": "mine" }));
    let change = json!({ "providerName": "AWS", "cloudProviderEndpointId": "vpce-0123456789abcdef2" });
    cases.atlas("PATCH", &format!("{endpoints}/{endpoint}"), &change);
    let archive = json!({ "endpointId": "vpce-0123456789abcdef3", "provider": "AWS", "type": "DATA_LAKE" });
    cases.atlas("POST", "privateNetworkSettings/endpointIds", &archive);
}

async fn apps(cases: &mut Cases) {
    let login = json!({ "username": "public", "apiKey": "private" });
    cases.add("POST", "/api/admin/v3.0/auth/providers/mongodb-cloud/login".to_owned(), login);
    let apps = format!("/api/admin/v3.0/groups/{PROJECT}/apps");
    let app = cases.send("GET", &apps, &Value::Null).await.json()[0]["_id"].as_str().expect("an id").to_owned();
    let app = format!("{apps}/{app}");
    let endpoints = format!("{app}/security/private_endpoints");
    let first = cases.send("GET", &endpoints, &Value::Null).await.json()[0].clone();
    let service = cases.send("GET", &format!("{app}/services"), &Value::Null).await.json()[0].clone();
    let service = service["_id"].as_str().expect("an id");
    cases.add("PUT", format!("{app}/deployment_migration"), json!({ "deployment_model": "LOCAL" }));
    cases.add("PATCH", format!("{app}/services/{service}/config"), json!({ "wireProtocolEnabled": true }));
    cases.add("PUT", format!("{endpoints}/{}", first["_id"].as_str().expect("an id")), first.clone());
    cases.add("POST", endpoints, first);
    let flag = json!({ "allow_non_vpc_client_requests": false });
    cases.add("POST", format!("{app}/security/allow_non_vpc_client_requests"), flag);
}

/// A27.
#[tokio::test]
async fn an_unknown_field_is_refused_by_its_name_at_any_depth() {
    let cases = cases().await;
    let mut reached = BTreeSet::new();
    for Case { method, path, body } in &cases.all {
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let as_v2: Vec<&str> = segments.iter().map(|part| if *part == "v1.0" { "v2" } else { part }).collect();
        let routed = VENDORS.iter().find(|(template, _)| fits(template, &segments) || fits(template, &as_v2));
        reached.insert((*method, routed.unwrap_or_else(|| panic!("{path} has no route")).0));
        for (at, wrong) in with_unknown(body) {
            let answer = cases.send(method, path, &wrong).await;
            assert_eq!(answer.status, 400, "{method} {path} with `{UNKNOWN}` in `{at}`: {}", answer.text());
            assert!(answer.text().contains(UNKNOWN), "{method} {path} with `{UNKNOWN}` in `{at}`: {}", answer.text());
        }
    }
    let bodies = VENDORS.iter().flat_map(|(path, all)| all.iter().map(move |operation| (*path, operation)));
    let json = bodies
        .filter(|(path, operation)| !operation.body.is_empty() && *path != "/" && !path.starts_with("/api/oauth/"));
    let all: BTreeSet<(&str, &str)> = json.map(|(path, operation)| (operation.method.as_str(), path)).collect();
    let left: Vec<_> = all.difference(&reached).collect();
    assert!(left.is_empty(), "no case for {left:?}");
}

/// The bodies of the cases are valid before they are modified: none is refused because of its fields.
#[tokio::test]
async fn the_fields_that_are_known_are_taken() {
    let cases = cases().await;
    for Case { method, path, body } in &cases.all {
        let answer = cases.send(method, path, body).await;
        let text = answer.text();
        assert!(!text.contains("is not known here") && !text.contains("unknown field"), "{method} {path}: {text}");
    }
}

#[tokio::test]
async fn a_query_parameter_that_the_call_does_not_have_is_refused_by_its_name() {
    let cases = cases().await;
    let apps = format!("/api/admin/v3.0/groups/{PROJECT}/apps");
    for path in [&apps, "/api/admin/v3.0/provider_regions", "/api/atlas/v2/groups", "/api/atlas/v2/orgs"] {
        let answer = cases.send("GET", &format!("{path}?{UNKNOWN}=1"), &Value::Null).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(answer.text().contains(UNKNOWN), "{path}: {}", answer.text());
    }
    for (query, count) in [("", 1), ("?product=standard&product=atlas", 1), ("?product=atlas", 0)] {
        let found = cases.send("GET", &format!("{apps}{query}"), &Value::Null).await.json();
        assert_eq!(found.as_array().expect("a list").len(), count, "{query}");
    }
    for (query, count) in [("", 1), ("?name=PL", 1), ("?name=other", 0), ("?itemsPerPage=1&pageNum=2", 0)] {
        let found = cases.send("GET", &format!("/api/atlas/v2/orgs{query}"), &Value::Null).await.json();
        assert_eq!(found["results"].as_array().expect("a page").len(), count, "{query}");
    }
}
