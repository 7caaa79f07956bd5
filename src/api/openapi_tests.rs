//! Compares the OpenAPI description with the router and the handlers.

use std::collections::{BTreeMap, BTreeSet};

use hyper::Method;
use serde_json::{Value, json};

use super::client::{ApiResponse, Client};
use super::fixture::Gateway;
use super::openapi::DESCRIPTION;
use super::routes::routes;
use crate::model::HumanDuration;

const PROJECT: &str = "5f2a1b3c4d5e6f7081920a3b";

fn description() -> Value {
    serde_json::from_slice(&DESCRIPTION).expect("the description is JSON")
}

#[test]
fn the_description_has_exactly_the_routed_operations() {
    let description = description();
    let paths = description["paths"].as_object().expect("paths");
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().expect("operations").keys().map(move |m| (path.clone(), m.to_uppercase()))
        })
        .collect();
    let routed: BTreeSet<(String, String)> =
        routes().map(|(path, method)| (path.to_owned(), method.to_string())).collect();
    assert_eq!(described, routed);
}

#[test]
fn every_reference_resolves_and_every_operation_has_a_unique_name() {
    let description = description();
    let mut names = BTreeSet::new();
    for item in description["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().expect("an operationId");
            assert!(names.insert(name), "{name} twice");
        }
    }
    let mut nodes = vec![&description];
    while let Some(node) = nodes.pop() {
        if let Some(reference) = node["$ref"].as_str() {
            resolve(&description, reference);
        }
        match node {
            Value::Object(fields) => nodes.extend(fields.values()),
            Value::Array(items) => nodes.extend(items),
            _ => {}
        }
    }
}

fn resolve<'a>(description: &'a Value, reference: &str) -> &'a Value {
    let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads out of the description"));
    description.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

fn follow<'a>(description: &'a Value, node: &'a Value) -> &'a Value {
    node["$ref"].as_str().map_or(node, |reference| resolve(description, reference))
}

/// The differences of `value` from `schema`, for the JSON Schema keywords that the description uses.
fn mistakes(description: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = follow(description, schema);
    let mut wrong = Vec::new();
    for (keyword, wanted) in schema.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "type" => {
                let kinds: Vec<&str> = match wanted {
                    Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
                    one => one.as_str().into_iter().collect(),
                };
                let is = |kind: &&str| match *kind {
                    "null" => value.is_null(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "string" => value.is_string(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("{at}: `{other}` is no type"),
                };
                if !kinds.iter().any(is) {
                    wrong.push(format!("{at}: {value} is no {wanted}"));
                }
            }
            "enum" => {
                if !wanted.as_array().expect("a list").contains(value) {
                    wrong.push(format!("{at}: {value} is none of {wanted}"));
                }
            }
            "const" => {
                if value != wanted {
                    wrong.push(format!("{at}: {value} is not {wanted}"));
                }
            }
            "minimum" | "maximum" => {
                let (value, limit) = (value.as_f64(), wanted.as_f64().expect("a number"));
                if value.is_some_and(|value| if keyword == "minimum" { value < limit } else { value > limit }) {
                    wrong.push(format!("{at}: {value:?} is beyond the {keyword} of {limit}"));
                }
            }
            "minItems" | "maxItems" => {
                let (items, limit) = (value.as_array().map(|all| all.len() as u64), wanted.as_u64().expect("a number"));
                if items.is_some_and(|items| if keyword == "minItems" { items < limit } else { items > limit }) {
                    wrong.push(format!("{at}: has {items:?} items, against the {keyword} of {limit}"));
                }
            }
            "prefixItems" => {
                for (n, (item, inner)) in
                    value.as_array().into_iter().flatten().zip(wanted.as_array().expect("a list")).enumerate()
                {
                    wrong.extend(mistakes(description, inner, item, &format!("{at}[{n}]")));
                }
            }
            // For readers; `format` adds no constraint here.
            "pattern" => {
                assert_eq!(wanted, "^[0-9]+ *(ms|s|m|h|d)$", "{at}: the one pattern that is checked here");
                if value.as_str().is_some_and(|text| text.parse::<HumanDuration>().is_err()) {
                    wrong.push(format!("{at}: {value} is no duration"));
                }
            }
            "description" | "title" | "default" | "format" | "uniqueItems" => {}
            "oneOf" => {
                let all = wanted.as_array().expect("a list");
                let fitting = all.iter().filter(|one| mistakes(description, one, value, at).is_empty()).count();
                if fitting != 1 {
                    wrong.push(format!("{at}: {value} is {fitting} of {} things, not one", all.len()));
                }
            }
            "anyOf" => {
                let all = wanted.as_array().expect("a list");
                if !all.iter().any(|one| mistakes(description, one, value, at).is_empty()) {
                    wrong.push(format!("{at}: {value} is none of {} things", all.len()));
                }
            }
            "required" => {
                for name in wanted.as_array().expect("a list").iter().filter_map(Value::as_str) {
                    if value.is_object() && value.get(name).is_none() {
                        wrong.push(format!("{at}: `{name}` is missing"));
                    }
                }
            }
            "properties" => {
                for (name, inner) in wanted.as_object().expect("an object") {
                    if let Some(value) = value.get(name) {
                        wrong.extend(mistakes(description, inner, value, &format!("{at}.{name}")));
                    }
                }
            }
            "additionalProperties" => {
                let known = schema["properties"].as_object();
                let others = value.as_object().into_iter().flatten();
                for (name, inner) in others.filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name))) {
                    match wanted {
                        Value::Bool(false) => wrong.push(format!("{at}: `{name}` is not described")),
                        Value::Bool(true) => {}
                        other => wrong.extend(mistakes(description, other, inner, &format!("{at}.{name}"))),
                    }
                }
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    wrong.extend(mistakes(description, wanted, item, &format!("{at}[{n}]")));
                }
            }
            other => panic!("{at}: nothing checks `{other}`"),
        }
    }
    wrong
}

/// Sends requests and compares every response with the description.
struct Walk {
    gateway: Gateway,
    description: Value,
    session: Option<String>,
    succeeded: BTreeSet<String>,
}

impl Walk {
    async fn send(&self, method: &str, path: &str, body: &str) -> ApiResponse {
        let client = Client::new(self.gateway.address).with_token(self.session.clone());
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let preview = [("accept", "application/vnd.atlas.preview+json")];
        let headers: &[(&str, &str)] = if path.contains("/privateEndpointConnectionStrings") {
            &preview
        } else if body.contains('=') && !body.starts_with(['{', '[']) {
            &form
        } else {
            &[]
        };
        client.send(method, path, headers, body.to_owned()).await.expect("an answer")
    }

    /// Calls the operation `template` with `values` for its parameters; returns the JSON.
    async fn call(&mut self, method: &str, template: &str, values: &[&str], body: Value) -> Value {
        let body = match body {
            Value::Null => String::new(),
            Value::String(form) => form,
            other => other.to_string(),
        };
        let mut rest = values.iter();
        let filled = template.split('/').map(|part| match part.strip_prefix('{') {
            Some(_) => (*rest.next().expect("a value for every parameter")).to_owned(),
            None => part.to_owned(),
        });
        let path = filled.collect::<Vec<_>>().join("/");
        let operation = self.description["paths"][template][method.to_lowercase()].clone();
        let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {template}")).to_owned();
        let answer = self.send(method, &path, &body).await;
        let (status, text) = (answer.status.as_u16(), answer.text());
        let known = operation["responses"].get(status.to_string());
        let known =
            follow(&self.description, known.unwrap_or_else(|| panic!("{name}: {status} is not described: {text}")));
        let Some(content) = known.get("content") else {
            assert!(text.is_empty(), "{name}: {status} has no body by its description, and has {text}");
            self.succeeded.insert(name);
            return Value::Null;
        };
        let media =
            answer.headers["content-type"].to_str().expect("text").split(';').next().unwrap_or_default().to_owned();
        let schema = &content[&media]["schema"];
        assert!(schema.is_object(), "{name}: {status} as {media} is not described");
        let value = if media.ends_with("json") { answer.json() } else { json!(text) };
        let wrong = mistakes(&self.description, schema, &value, &name);
        assert!(wrong.is_empty(), "{status}: {}", wrong.join("\n"));
        if answer.status.is_success() {
            self.succeeded.insert(name);
        }
        value
    }

    /// Repeats a call until the response is as wanted.
    async fn until(&mut self, template: &str, values: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..1000 {
            let value = self.call("GET", template, values, Value::Null).await;
            if wanted(&value) {
                return value;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{template}: never as wanted");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[tokio::test]
async fn every_described_operation_answers_as_described() {
    let description = description();
    let gateway = Gateway::sharing_with_one_gone().await;
    let mut walk = Walk { gateway, description, session: None, succeeded: BTreeSet::new() };
    wrong_requests(&mut walk).await;
    operator(&mut walk).await;
    projects(&mut walk).await;
    services(&mut walk).await;
    serverless(&mut walk).await;
    apps(&mut walk).await;
    walk.call("POST", "/", &[], json!("Action=DescribeVpcs&Version=2016-11-15")).await;
    walk.call("POST", "/", &[], json!("Action=CreateVpcEndpoint&DryRun=true")).await;
    walk.call("GET", "/openapi.json", &[], Value::Null).await;
    let all: BTreeSet<String> = walk.description["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| text(&operation["operationId"]).to_owned())
        .collect();
    let left: Vec<_> = all.difference(&walk.succeeded).collect();
    assert!(left.is_empty(), "nothing succeeded: {left:?}");
}

/// Invalid requests to every operation: for missing resources, without a body, with a malformed one, by another method.
async fn wrong_requests(walk: &mut Walk) {
    let mut methods_of: BTreeMap<&str, Vec<&Method>> = BTreeMap::new();
    for (template, method) in routes() {
        methods_of.entry(template).or_default().push(method);
    }
    for (template, methods) in methods_of {
        let values: Vec<&str> = template
            .split('/')
            .filter_map(|part| match part {
                "{groupId}" => Some(PROJECT),
                "{cloudProvider}" => Some("AWS"),
                part if part.starts_with('{') => Some("0123456789abcdef01234567"),
                _ => None,
            })
            .collect();
        for method in &methods {
            let is_reload = template == "/v1/reload";
            for body in [Value::Null, json!("{"), json!([]), json!({ "id": 7, "name": [], "port": -1 })] {
                if !(is_reload || *method == Method::DELETE && template == "/v1/faults") {
                    walk.call(method.as_str(), template, &values, body).await;
                }
            }
        }
        if template != "/" {
            let path = template.replace(['{', '}'], "");
            let refused = walk.send("TRACE", &path, "").await;
            assert_eq!(refused.status, 405, "{template}");
            let allowed: Vec<String> = methods.iter().map(ToString::to_string).collect();
            assert_eq!(refused.headers["allow"].to_str().unwrap(), allowed.join(", "));
        }
    }
}

async fn operator(walk: &mut Walk) {
    walk.call("PUT", "/v1/logs", &[], json!({ "levels": "info" })).await;
    let none = Value::Null;
    for path in [
        "status",
        "snapshot",
        "targets",
        "endpoints",
        "private-endpoints",
        "throughput",
        "connection-strings",
        "flows",
        "apps",
        "lifecycle",
        "zones",
        "gateways",
        "limits",
        "logs",
        "standins",
    ] {
        walk.call("GET", &format!("/v1/{path}"), &[], none.clone()).await;
    }
    let target = ["Cluster0", "shard-00-00"];
    walk.call("POST", "/v1/targets/{cluster}/{member}/move", &target, json!({ "port": 2000 })).await;
    walk.call("POST", "/v1/targets/{cluster}/{member}/deregister", &target, none.clone()).await;
    walk.call("POST", "/v1/targets/{cluster}/{member}/register", &target, none.clone()).await;
    walk.call("POST", "/v1/standins/{cluster}/{member}/stop", &target, none.clone()).await;
    walk.call("POST", "/v1/standins/{cluster}/{member}/start", &target, none.clone()).await;
    walk.call("POST", "/v1/standins/{cluster}/step-down", &target[..1], none.clone()).await;
    let slow = json!({ "name": "slow", "type": "latency", "delay": "1ms", "for": "1h" });
    walk.call("POST", "/v1/faults", &[], slow).await;
    walk.call("GET", "/v1/faults", &[], none.clone()).await;
    walk.call("PUT", "/v1/faults/{faultName}", &["slow"], json!({ "type": "refuse" })).await;
    walk.call("GET", "/v1/faults/{faultName}", &["slow"], none.clone()).await;
    walk.call("DELETE", "/v1/faults/{faultName}", &["slow"], none.clone()).await;
    walk.call("DELETE", "/v1/faults", &[], none.clone()).await;
    walk.call("POST", "/v1/zones/{zone}/shift", &["us-east-1a"], json!({ "for": "10m" })).await;
    walk.call("DELETE", "/v1/zones/{zone}/shift", &["us-east-1a"], none.clone()).await;
    walk.call("DELETE", "/v1/gateways/{gateway}", &["gone"], none.clone()).await;
    walk.call("PUT", "/v1/limits", &[], json!({ "flows_per_target": 10 })).await;
    walk.call("DELETE", "/v1/flows/{flowId}", &["a1"], none.clone()).await;
    walk.call("PATCH", "/v1/apps/{clientAppId}", &["myapp-abcde"], json!({ "allow_non_vpc_client_requests": false }))
        .await;
    walk.call("PUT", "/v1/lifecycle", &[], json!({ "pace": "fast" })).await;
    walk.call("PUT", "/v1/logs", &[], json!({ "levels": "info,data=debug" })).await;
    walk.call("POST", "/v1/lifecycle/push", &[], none.clone()).await;
    walk.call("POST", "/v1/reload", &[], none).await;
}

const GROUP: &str = "/api/atlas/v2/groups/{groupId}";

async fn projects(walk: &mut Walk) {
    let none = || Value::Null;
    walk.call("GET", "/api/atlas/v2/groups", &[], none()).await;
    let made = walk.call("POST", "/api/atlas/v2/groups", &[], json!({ "name": "another", "orgId": "0" })).await;
    walk.call("GET", "/api/atlas/v2/groups/byName/{groupName}", &["another"], none()).await;
    walk.call("PATCH", GROUP, &[text(&made["id"])], json!({ "name": "renamed" })).await;
    walk.call("DELETE", GROUP, &[text(&made["id"])], none()).await;
    walk.call("GET", GROUP, &[PROJECT], none()).await;
    let orgs = walk.call("GET", "/api/atlas/v2/orgs", &[], none()).await;
    let org = text(&orgs["results"][0]["id"]).to_owned();
    walk.call("GET", "/api/atlas/v2/orgs/{orgId}", &[&org], none()).await;
    walk.call("GET", "/api/atlas/v2/orgs/{orgId}/groups", &[&org], none()).await;
    walk.call("GET", "/api/atlas/v2/clusters", &[], none()).await;
    walk.call("GET", "/api/private/ipinfo", &[], none()).await;
    for path in ["settings", "managedSlowMs", "teams", "users", "alerts", "flexClusters", "ipAddresses", "containers"] {
        walk.call("GET", &format!("{GROUP}/{path}"), &[PROJECT], none()).await;
    }
    walk.call("PATCH", &format!("{GROUP}/settings"), &[PROJECT], json!({ "isSchemaAdvisorEnabled": false })).await;
    walk.call("DELETE", &format!("{GROUP}/managedSlowMs/disable"), &[PROJECT], none()).await;
    walk.call("POST", &format!("{GROUP}/managedSlowMs/enable"), &[PROJECT], none()).await;
    let containers = walk.call("GET", &format!("{GROUP}/containers/all"), &[PROJECT], none()).await;
    let container = text(&containers["results"][0]["id"]).to_owned();
    walk.call("GET", &format!("{GROUP}/containers/{{containerId}}"), &[PROJECT, &container], none()).await;
    let users = format!("{GROUP}/databaseUsers");
    let role = json!({ "roleName": "readWrite", "databaseName": "shop" });
    let user = json!({ "username": "ann", "databaseName": "admin", "password": "longer than 8", "roles": [role] });
    walk.call("POST", &users, &[PROJECT], user).await;
    walk.call("GET", &users, &[PROJECT], none()).await;
    let one = format!("{users}/{{databaseName}}/{{username}}");
    walk.call("GET", &one, &[PROJECT, "admin", "ann"], none()).await;
    walk.call("PATCH", &one, &[PROJECT, "admin", "ann"], json!({ "description": "hers" })).await;
    walk.call("DELETE", &one, &[PROJECT, "admin", "ann"], none()).await;
    let old = "/api/atlas/v1.0/groups/{groupId}/whitelist";
    walk.call("POST", old, &[PROJECT], json!([{ "cidrBlock": "203.0.113.0/24" }])).await;
    walk.call("GET", old, &[PROJECT], none()).await;
    let one = format!("{old}/{{entryValue}}");
    walk.call("GET", &one, &[PROJECT, "203.0.113.0%2F24"], none()).await;
    walk.call("DELETE", &one, &[PROJECT, "203.0.113.0%2F24"], none()).await;
    let list = format!("{GROUP}/accessList");
    walk.call("POST", &list, &[PROJECT], json!([{ "ipAddress": "203.0.113.7", "comment": "me" }])).await;
    walk.call("GET", &list, &[PROJECT], none()).await;
    for part in ["", "/status"] {
        walk.call("GET", &format!("{list}/{{entryValue}}{part}"), &[PROJECT, "203.0.113.7"], none()).await;
    }
    walk.call("DELETE", &format!("{list}/{{entryValue}}"), &[PROJECT, "203.0.113.7"], none()).await;
    let limit = "atlas.project.deployment.nodesPerPrivateLinkRegion";
    walk.call("GET", &format!("{GROUP}/limits"), &[PROJECT], none()).await;
    let one = format!("{GROUP}/limits/{{limitName}}");
    walk.call("GET", &one, &[PROJECT, limit], none()).await;
    walk.call("PATCH", &one, &[PROJECT, limit], json!({ "value": 60 })).await;
    walk.call("DELETE", &one, &[PROJECT, limit], none()).await;
    let specs = json!({ "instanceSize": "M10", "nodeCount": 3 });
    let regions = json!([{ "regionName": "US_EAST_1", "providerName": "AWS", "electableSpecs": specs }]);
    let cluster = json!({ "name": "More", "replicationSpecs": [{ "regionConfigs": regions }] });
    walk.call("POST", &format!("{GROUP}/clusters"), &[PROJECT], cluster).await;
    walk.call("GET", &format!("{GROUP}/clusters"), &[PROJECT], none()).await;
    let one = format!("{GROUP}/clusters/{{clusterName}}");
    walk.call("GET", &one, &[PROJECT, "More"], none()).await;
    walk.call("PATCH", &one, &[PROJECT, "More"], json!({ "paused": true })).await;
    let args = format!("{one}/processArgs");
    walk.call("PATCH", &args, &[PROJECT, "More"], json!({ "javascriptEnabled": false })).await;
    walk.call("GET", &args, &[PROJECT, "More"], none()).await;
    let on = json!({ "privateEndpointConnectionStringsEnabled": true }).to_string();
    let accept = [("accept", "application/vnd.atlas.preview+json")];
    let settings = format!("/api/atlas/v2/groups/{PROJECT}/settings");
    let client = Client::new(walk.gateway.address);
    assert_eq!(client.send("PATCH", &settings, &accept, on).await.expect("an answer").status, 200);
    let list = format!("{one}/privateEndpointConnectionStrings");
    let strings = json!({ "name": "reports", "privateEndpointIds": ["vpce-024f5b57108c8d3ed"] });
    let made = walk.call("POST", &list, &[PROJECT, "Cluster0"], strings).await;
    walk.call("GET", &list, &[PROJECT, "Cluster0"], none()).await;
    let of = [PROJECT, "Cluster0", text(&made["connectionStringId"])];
    let strings = format!("{list}/{{connectionStringId}}");
    walk.until(&strings, &of, |view| view["status"] == "AVAILABLE").await;
    walk.call("PATCH", &strings, &of, json!({ "name": "billing" })).await;
    walk.call("DELETE", &strings, &of, none()).await;
    walk.call("DELETE", &one, &[PROJECT, "More"], none()).await;
    let mode = format!("{GROUP}/privateEndpoint/regionalMode");
    walk.call("GET", &mode, &[PROJECT], none()).await;
    walk.call("PATCH", &mode, &[PROJECT], json!({ "enabled": false })).await;
}

async fn services(walk: &mut Walk) {
    let none = || Value::Null;
    let service = format!("{GROUP}/privateEndpoint/endpointService");
    let of_cloud = format!("{GROUP}/privateEndpoint/{{cloudProvider}}/endpointService");
    let one = format!("{of_cloud}/{{endpointServiceId}}");
    let azure = "%2Fsubscriptions%2Fs%2FresourceGroups%2Fg%2Fproviders%2FMicrosoft.Network%2FprivateEndpoints%2Fpe";
    for (cloud, region, body, name) in [
        ("AWS", "eu-west-1", json!({ "id": "vpce-0123456789abcdef0" }), "vpce-0123456789abcdef0"),
        (
            "AZURE",
            "EUROPE_NORTH",
            json!({ "id": azure.replace("%2F", "/"), "privateEndpointIPAddress": "10.0.0.4" }),
            azure,
        ),
        (
            "GCP",
            "WESTERN_EUROPE",
            json!({ "endpointGroupName": "group", "gcpProjectId": "p",
                    "endpoints": [{ "endpointName": "group-0", "ipAddress": "10.0.0.5" }] }),
            "group-0",
        ),
    ] {
        let made = walk
            .call(
                "POST",
                &service,
                &[PROJECT],
                json!({ "providerName": cloud, "region": region, "portMappingEnabled": cloud == "GCP" }),
            )
            .await;
        let id = text(&made["id"]).to_owned();
        walk.until(&one, &[PROJECT, cloud, &id], |view| view["status"] == "AVAILABLE").await;
        if cloud == "AWS" {
            let body = json!({ "cloudProvider": "AWS", "supportedRemoteRegions": ["US_EAST_1"] });
            walk.call("PATCH", &format!("{service}/{{endpointServiceId}}"), &[PROJECT, &id], body).await;
        }
        walk.call("POST", &format!("{one}/endpoint"), &[PROJECT, cloud, &id], body).await;
        walk.call("GET", &of_cloud, &[PROJECT, cloud], none()).await;
        let endpoint = format!("{one}/endpoint/{{endpointId}}");
        walk.call("GET", &endpoint, &[PROJECT, cloud, &id, name], none()).await;
        walk.call("DELETE", &endpoint, &[PROJECT, cloud, &id, name], none()).await;
        walk.call("DELETE", &one, &[PROJECT, cloud, &id], none()).await;
    }
    let old = "/api/atlas/v1.0/groups/{groupId}/privateEndpoint";
    let made = walk.call("POST", old, &[PROJECT], json!({ "providerName": "AWS", "region": "ap-south-1" })).await;
    let id = text(&made["id"]).to_owned();
    walk.call("GET", old, &[PROJECT], none()).await;
    let one = format!("{old}/{{endpointServiceId}}");
    walk.until(&one, &[PROJECT, &id], |view| view["status"] == "AVAILABLE").await;
    let endpoint = json!({ "interfaceEndpointId": "vpce-0123456789abcdef1" });
    walk.call("POST", &format!("{one}/interfaceEndpoints"), &[PROJECT, &id], endpoint).await;
    let endpoint = format!("{one}/interfaceEndpoints/{{endpointId}}");
    walk.call("GET", &endpoint, &[PROJECT, &id, "vpce-0123456789abcdef1"], none()).await;
    walk.call("DELETE", &endpoint, &[PROJECT, &id, "vpce-0123456789abcdef1"], none()).await;
    walk.call("DELETE", &one, &[PROJECT, &id], none()).await;
}

async fn serverless(walk: &mut Walk) {
    let none = || Value::Null;
    let settings = json!({ "backingProviderName": "AWS", "providerName": "SERVERLESS", "regionName": "US_EAST_1" });
    let all = format!("{GROUP}/serverless");
    walk.call("POST", &all, &[PROJECT], json!({ "name": "Less", "providerSettings": settings })).await;
    walk.call("GET", &all, &[PROJECT], none()).await;
    let one = format!("{all}/{{instanceName}}");
    walk.call("GET", &one, &[PROJECT, "Less"], none()).await;
    walk.call("PATCH", &one, &[PROJECT, "Less"], json!({})).await;
    let endpoints = format!("{GROUP}/privateEndpoint/serverless/instance/{{instanceName}}/endpoint");
    let made = walk.call("POST", &endpoints, &[PROJECT, "Less"], json!({ "comment": "mine" })).await;
    let id = text(&made["_id"]).to_owned();
    walk.call("GET", &endpoints, &[PROJECT, "Less"], none()).await;
    let endpoint = format!("{endpoints}/{{endpointId}}");
    walk.until(&endpoint, &[PROJECT, "Less", &id], |view| view["status"] == "RESERVED").await;
    let change = json!({ "providerName": "AWS", "cloudProviderEndpointId": "vpce-0123456789abcdef2" });
    walk.call("PATCH", &endpoint, &[PROJECT, "Less", &id], change).await;
    walk.call("DELETE", &endpoint, &[PROJECT, "Less", &id], none()).await;
    walk.until(&endpoints, &[PROJECT, "Less"], |list| list == &json!([])).await;
    walk.call("DELETE", &one, &[PROJECT, "Less"], none()).await;
    let archives = format!("{GROUP}/privateNetworkSettings/endpointIds");
    let entry = json!({ "endpointId": "vpce-0123456789abcdef3", "comment": "mine" });
    walk.call("POST", &archives, &[PROJECT], entry).await;
    walk.call("GET", &archives, &[PROJECT], none()).await;
    let archive = format!("{archives}/{{endpointId}}");
    walk.call("GET", &archive, &[PROJECT, "vpce-0123456789abcdef3"], none()).await;
    walk.call("DELETE", &archive, &[PROJECT, "vpce-0123456789abcdef3"], none()).await;
    let token =
        walk.call("POST", "/api/oauth/token", &[], json!("grant_type=client_credentials&client_id=a&client_secret=b"));
    let token = text(&token.await["access_token"]).to_owned();
    walk.call("POST", "/api/oauth/revoke", &[], json!(format!("token={token}"))).await;
}

async fn apps(walk: &mut Walk) {
    const BASE: &str = "/api/admin/v3.0";
    let none = || Value::Null;
    let login = json!({ "username": "public", "apiKey": "private" });
    let session = walk.call("POST", &format!("{BASE}/auth/providers/mongodb-cloud/login"), &[], login).await;
    walk.session = Some(text(&session["refresh_token"]).to_owned());
    let fresh = walk.call("POST", &format!("{BASE}/auth/session"), &[], none()).await;
    walk.session = Some(text(&fresh["access_token"]).to_owned());
    walk.call("GET", &format!("{BASE}/auth/profile"), &[], none()).await;
    walk.call("GET", &format!("{BASE}/provider_regions"), &[], none()).await;
    let apps = format!("{BASE}/groups/{{groupId}}/apps");
    let app = walk.call("GET", &apps, &[PROJECT], none()).await[0].clone();
    let app = text(&app["_id"]).to_owned();
    let own = |rest: &str| format!("{apps}/{{appId}}{rest}");
    walk.call("GET", &own(""), &[PROJECT, &app], none()).await;
    walk.call("GET", &own("/deployment_migration"), &[PROJECT, &app], none()).await;
    walk.call("GET", &own("/security/private_endpoint_service_infos"), &[PROJECT, &app], none()).await;
    let list = walk.call("GET", &own("/security/private_endpoints"), &[PROJECT, &app], none()).await;
    let endpoint = own("/security/private_endpoints/{privateEndpointId}");
    let first = list.as_array().expect("a list")[0].clone();
    let id = text(&first["_id"]).to_owned();
    walk.call("GET", &endpoint, &[PROJECT, &app, &id], none()).await;
    walk.call("PUT", &endpoint, &[PROJECT, &app, &id], first.clone()).await;
    walk.call(
        "POST",
        &own("/security/allow_non_vpc_client_requests"),
        &[PROJECT, &app],
        json!({ "allow_non_vpc_client_requests": true }),
    )
    .await;
    for entry in list.as_array().expect("a list") {
        walk.call("DELETE", &endpoint, &[PROJECT, &app, text(&entry["_id"])], none()).await;
    }
    walk.call("POST", &own("/security/private_endpoints"), &[PROJECT, &app], first).await;
    let made = walk.call("GET", &own("/security/private_endpoints"), &[PROJECT, &app], none()).await;
    walk.call("DELETE", &endpoint, &[PROJECT, &app, text(&made[0]["_id"])], none()).await;
    let to = json!({ "deployment_model": "LOCAL", "provider_region": "aws-us-west-2" });
    walk.call("PUT", &own("/deployment_migration"), &[PROJECT, &app], to).await;
    let services = walk.call("GET", &own("/services"), &[PROJECT, &app], none()).await;
    let service = text(&services[0]["_id"]).to_owned();
    walk.call("GET", &own("/services/{serviceId}"), &[PROJECT, &app, &service], none()).await;
    let config = own("/services/{serviceId}/config");
    walk.call("PATCH", &config, &[PROJECT, &app, &service], json!({ "wireProtocolEnabled": true })).await;
    let view = walk.call("GET", &config, &[PROJECT, &app, &service], none()).await;
    assert_eq!(view["wireProtocolEnabled"], true);
    walk.call("DELETE", &format!("{BASE}/auth/session"), &[], none()).await;
    walk.session = None;
}
