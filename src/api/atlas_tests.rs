//! The calls of Terraform's provider, community.mongodb and mongodb-mcp-server to Atlas' API.

use std::sync::Arc;

use serde_json::{Value, json};

use super::client::{ApiResponse, Client};
use super::fixture::Gateway;
use crate::control::Pace;
use crate::control::store::MemoryStore;
use crate::model::DnsName;

const PROJECT: &str = "5f2a1b3c4d5e6f7081920a3b";
const ENDPOINT: &str = "vpce-024f5b57108c8d3ed";

impl Gateway {
    async fn of_group(&self, version: &str, method: &str, path: &str, body: Value) -> ApiResponse {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let path = format!("/api/atlas/{version}/groups/{PROJECT}/{path}");
        self.ask(method, path.trim_end_matches('/'), &body).await
    }

    /// A request with the preview version.
    async fn preview(&self, method: &str, path: &str, body: Value) -> ApiResponse {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let accept = [("accept", "application/vnd.atlas.preview+json")];
        let path = format!("/api/atlas/v2/groups/{PROJECT}/{path}");
        Client::new(self.address).send(method, &path, &accept, body).await.expect("an answer")
    }

    /// A gateway whose project opted in to connection strings that are created by name.
    async fn with_strings_on(store: Arc<MemoryStore>) -> Self {
        let gateway = Self::start_on(store).await;
        let on = json!({ "privateEndpointConnectionStringsEnabled": true });
        assert_eq!(gateway.preview("PATCH", "settings", on).await.status, 200);
        gateway
    }

    async fn states(&self, version: &str) -> Vec<String> {
        let list = self.of_group(version, "GET", "clusters", Value::Null).await.json();
        let own = list["results"].as_array().expect("a page").clone();
        own.iter().map(|cluster| cluster["stateName"].as_str().expect("a state").to_owned()).collect()
    }

    async fn until_idle(&self) {
        for _ in 0..1000 {
            if self.states("v2").await.iter().all(|state| state == "IDLE") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("clusters are never idle again: {:?}", self.states("v2").await);
    }
}

fn code(answer: &ApiResponse) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["errorCode"].as_str().unwrap_or_default().to_owned())
}

/// Terraform's provider waits for every cluster to be `IDLE` after it added or removed an endpoint.
#[tokio::test]
async fn clusters_are_updating_until_an_endpoint_is_removed_or_added() {
    let gateway = Gateway::start().await;
    gateway.control.set_pace(Pace::Frozen).await.unwrap();
    let services = gateway.of_group("v2", "GET", "privateEndpoint/AWS/endpointService", Value::Null).await.json();
    let service = services[0]["id"].as_str().expect("an id").to_owned();
    let path = format!("privateEndpoint/AWS/endpointService/{service}/endpoint");
    // A second endpoint, so that the service stays when the first is removed.
    assert_eq!(gateway.of_group("v2", "POST", &path, json!({ "id": "vpce-0123456789abcdef0" })).await.status, 201);
    assert!(gateway.states("v2").await.iter().all(|state| state == "IDLE"), "AWS does not know that endpoint");
    let removed = gateway.of_group("v2", "DELETE", &format!("{path}/{ENDPOINT}"), Value::Null).await;
    assert_eq!(removed.status, 202);
    for version in ["v1.0", "v1.5", "v2"] {
        assert!(gateway.states(version).await.iter().any(|state| state == "UPDATING"), "{version}");
    }
    gateway.control.set_pace(Pace::Fast).await.unwrap();
    gateway.until_idle().await;
    let view = gateway.of_group("v2", "GET", &format!("{path}/{ENDPOINT}"), Value::Null).await;
    assert_eq!(view.status, 404, "a cluster is idle only when the endpoint is gone");
    gateway.control.set_pace(Pace::Frozen).await.unwrap();
    assert_eq!(gateway.of_group("v2", "POST", &path, json!({ "id": ENDPOINT })).await.status, 201);
    assert!(gateway.states("v2").await.iter().any(|state| state == "UPDATING"));
    gateway.control.set_pace(Pace::Fast).await.unwrap();
    gateway.until_idle().await;
    let view = gateway.of_group("v2", "GET", &format!("{path}/{ENDPOINT}"), Value::Null).await.json();
    assert_eq!(view["connectionStatus"], "AVAILABLE");
}

#[tokio::test]
async fn attributes_that_tools_write_are_shown_listed_and_stored() {
    let store = Arc::new(MemoryStore::new());
    let gateway = Gateway::start_on(store.clone()).await;
    let wanted = [
        ("PATCH", "settings", json!({ "isDataExplorerEnabled": false }), 200),
        ("DELETE", "managedSlowMs/disable", Value::Null, 204),
        ("PATCH", "clusters/Cluster0/processArgs", json!({ "javascriptEnabled": false, "oplogSizeMB": 2000 }), 200),
        ("PATCH", "clusters/Cluster0", json!({ "tags": [{ "key": "a", "value": "b" }], "diskSizeGB": 20 }), 200),
        (
            "POST",
            "databaseUsers",
            json!({ "username": "ann", "databaseName": "admin", "password": "longer than eight", "groupId": PROJECT,
                    "roles": [{ "roleName": "read", "databaseName": "shop" }], "deleteAfterDate": "2999-01-01T00:00:00Z" }),
            201,
        ),
    ];
    for (method, path, body, status) in wanted {
        let answer = gateway.of_group("v2", method, path, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    let renamed = gateway.of_group("v2", "PATCH", "", json!({ "name": "renamed", "tags": [] })).await.json();
    assert_eq!(renamed["name"], "renamed");
    gateway.until_idle().await;
    let paths = [
        "",
        "settings",
        "managedSlowMs",
        "clusters",
        "clusters/Cluster0",
        "clusters/Cluster0/processArgs",
        "databaseUsers",
        "databaseUsers/admin/ann",
        "containers",
        "ipAddresses",
    ];
    let mut before = Vec::new();
    for path in paths {
        before.push(gateway.of_group("v2", "GET", path, Value::Null).await.json());
    }
    assert_eq!(before[1]["isDataExplorerEnabled"], false);
    assert_eq!(before[2], false);
    assert_eq!((&before[4]["diskSizeGB"], &before[4]["tags"][0]["key"]), (&json!(20), &json!("a")));
    assert_eq!(
        (&before[5]["javascriptEnabled"], &before[5]["minimumEnabledTlsProtocol"]),
        (&json!(false), &json!("TLS1_2"))
    );
    assert_eq!(before[6]["results"][0], before[7]);
    assert_eq!((&before[7]["deleteAfterDate"], &before[7]["password"]), (&json!("2999-01-01T00:00:00Z"), &Value::Null));
    drop(gateway);
    let again = Gateway::start_on(store).await;
    for (path, before) in paths.into_iter().zip(before) {
        assert_eq!(again.of_group("v2", "GET", path, Value::Null).await.json(), before, "{path}");
    }
}

/// Fields that the lab's clusters, projects and users don't support are refused, never silently ignored.
#[tokio::test]
async fn fields_that_can_be_neither_stored_nor_applied_are_refused_by_name() {
    let gateway = Gateway::start().await;
    let spec = |size: &str| {
        let specs = json!({ "instanceSize": size, "nodeCount": 3 });
        json!({ "regionConfigs": [{ "regionName": "US_EAST_1", "electableSpecs": specs }] })
    };
    let sharded = |specs: Value| json!({ "name": "C", "clusterType": "SHARDED", "replicationSpecs": specs });
    // Two regions that differ in one field.
    let two = |field: &str, value: Value| {
        let specs = json!({ "instanceSize": "M10", "nodeCount": 2, "diskIOPS": 3000 });
        let scaling = json!({ "diskGB": { "enabled": false } });
        let first = json!({ "regionName": "US_EAST_1", "electableSpecs": specs, "autoScaling": scaling });
        let mut second = json!({ "regionName": "EU_WEST_1", "electableSpecs": { "nodeCount": 1 } });
        second[field] = value;
        json!({ "name": "C", "replicationSpecs": [{ "regionConfigs": [first, second] }] })
    };
    for (method, path, body, wanted) in [
        ("PATCH", "clusters/Cluster0", json!({ "backupEnabled": true }), "UNSUPPORTED_CHANGE"),
        ("PATCH", "clusters/Cluster0", json!({ "clusterType": "SHARDED" }), "UNSUPPORTED_CHANGE"),
        ("PATCH", "clusters/Cluster0", json!({ "name": "Other" }), "UNSUPPORTED_CHANGE"),
        ("PATCH", "clusters/Cluster0", json!({ "nonsense": 1 }), "UNSUPPORTED_CHANGE"),
        ("PATCH", "clusters/Cluster0", json!({ "labels": ["a"] }), "INVALID_JSON_ATTRIBUTE"),
        ("PATCH", "clusters/Cluster0", json!({ "rootCertType": "OTHER" }), "UNSUPPORTED_CHANGE"),
        ("PATCH", "clusters/Cluster0", json!({ "versionReleaseSystem": "DAILY" }), "INVALID_ATTRIBUTE"),
        ("PATCH", "clusters/Cluster0", json!({ "mongoDBMajorVersion": "newest" }), "INVALID_ATTRIBUTE"),
        ("PATCH", "clusters/Cluster0", json!({ "replicationFactor": 5 }), "UNSUPPORTED_CHANGE"),
        ("PATCH", "clusters/Cluster0", json!({ "labBackends": ["127.1.0.9:27017"] }), "UNSUPPORTED_CHANGE"),
        (
            "PATCH",
            "clusters/Cluster0",
            json!({ "replicationSpecs": [{ "zoneId": "x", "nonsense": 1 }] }),
            "UNSUPPORTED_CHANGE",
        ),
        (
            "POST",
            "clusters",
            two("electableSpecs", json!({ "instanceSize": "M20", "nodeCount": 3 })),
            "UNSUPPORTED_CHANGE",
        ),
        ("POST", "clusters", two("electableSpecs", json!({ "nodeCount": 3, "diskIOPS": 4000 })), "UNSUPPORTED_CHANGE"),
        (
            "POST",
            "clusters",
            two("electableSpecs", json!({ "nodeCount": 3, "ebsVolumeType": "FAST" })),
            "INVALID_ATTRIBUTE",
        ),
        ("POST", "clusters", two("autoScaling", json!({ "diskGB": { "enabled": true } })), "UNSUPPORTED_CHANGE"),
        ("POST", "clusters", two("readOnlySpecs", json!({ "nodeCount": 1 })), "UNSUPPORTED_CHANGE"),
        (
            "POST",
            "clusters",
            two("analyticsSpecs", json!({ "nodeCount": 0, "instanceSize": "M40" })),
            "UNSUPPORTED_CHANGE",
        ),
        ("POST", "clusters", two("analyticsAutoScaling", json!({})), "UNSUPPORTED_CHANGE"),
        ("POST", "clusters", two("regionName", json!("US_EAST_1")), "INVALID_ATTRIBUTE"),
        (
            "POST",
            "clusters",
            json!({ "name": "C", "providerSettings": { "providerName": "AWS", "regionName": "US_EAST_1", "instanceSizeName": "M20" },
                    "replicationSpecs": [spec("M30")] }),
            "UNSUPPORTED_CHANGE",
        ),
        ("PATCH", "clusters/Cluster0/processArgs", json!({ "minimumEnabledTlsProtocol": "SSL3" }), "INVALID_ATTRIBUTE"),
        (
            "POST",
            "accessList",
            json!([{ "cidrBlock": "203.0.113.0/24", "ipAddress": "203.0.113.9" }]),
            "INVALID_ATTRIBUTE",
        ),
        ("POST", "accessList", json!([{ "cidrBlock": "203.0.113.0/24", "groupId": "other" }]), "INVALID_ATTRIBUTE"),
        (
            "POST",
            "privateEndpoint/endpointService",
            json!({ "providerName": "AWS", "region": "EU_WEST_1", "portMappingEnabled": true }),
            "INVALID_ATTRIBUTE",
        ),
        ("PATCH", "settings", json!({ "privateEndpointConnectionStringsEnabled": true }), "INVALID_ATTRIBUTE"),
        ("GET", "clusters?pageNum=0", Value::Null, "INVALID_QUERY_PARAMETER"),
        ("GET", "clusters?itemsPerPage=501", Value::Null, "INVALID_QUERY_PARAMETER"),
        ("GET", "clusters?colour=red", Value::Null, "INVALID_QUERY_PARAMETER"),
        ("GET", "settings?pageNum=1", Value::Null, "INVALID_QUERY_PARAMETER"),
        ("DELETE", "clusters/Cluster0?retainBackups=true", Value::Null, "UNSUPPORTED_CHANGE"),
        ("PATCH", "clusters/Cluster0/processArgs", json!({ "nonsense": 1 }), "INVALID_ATTRIBUTE"),
        ("PATCH", "clusters/Cluster0/processArgs", json!({ "noTableScan": "no" }), "INVALID_ATTRIBUTE"),
        ("PATCH", "settings", json!({ "nonsense": true }), "INVALID_ATTRIBUTE"),
        ("PATCH", "", json!({ "nonsense": true }), "UNSUPPORTED_CHANGE"),
        ("PATCH", "", json!({ "orgId": "32b6e34b3d91647abb20e7b8" }), "UNSUPPORTED_CHANGE"),
        ("POST", "clusters", sharded(json!([spec("M30"), spec("M30")])), "UNSUPPORTED_CHANGE"),
        ("POST", "clusters", sharded(json!([spec("R40")])), "UNSUPPORTED_CHANGE"),
        ("POST", "clusters", sharded(json!([spec("M40_NVME")])), "UNSUPPORTED_CHANGE"),
        (
            "POST",
            "clusters",
            json!({ "name": "C", "clusterType": "GEOSHARDED", "replicationSpecs": [spec("M30")] }),
            "UNSUPPORTED_CHANGE",
        ),
        (
            "POST",
            "clusters",
            json!({ "name": "C", "paused": true, "replicationSpecs": [spec("M30")] }),
            "UNSUPPORTED_CHANGE",
        ),
        (
            "POST",
            "clusters",
            sharded(json!([{ "regionConfigs": [{ "regionName": "US_EAST_1", "providerName": "ORACLE" }] }])),
            "INVALID_ATTRIBUTE",
        ),
        ("POST", "accessList", json!([{ "awsSecurityGroup": "sg-1" }]), "UNSUPPORTED_CHANGE"),
        ("POST", "databaseUsers", json!({ "username": "ann", "databaseName": "admin" }), "MISSING_ATTRIBUTE"),
        (
            "POST",
            "databaseUsers",
            json!({ "username": "a//b", "databaseName": "admin", "password": "longer than eight" }),
            "INVALID_ATTRIBUTE",
        ),
        (
            "PATCH",
            "clusters/Cluster0",
            json!({ "replicationSpecs": [{ "nonsense": 1, "regionConfigs": [{ "regionName": "US_EAST_1" }] }] }),
            "UNSUPPORTED_CHANGE",
        ),
        (
            "POST",
            "databaseUsers",
            json!({ "username": "ann", "databaseName": "admin", "password": "short" }),
            "INVALID_ATTRIBUTE",
        ),
    ] {
        let answer = gateway.of_group("v2", method, path, body).await;
        assert_eq!(code(&answer), (400, wanted.to_owned()), "{path}: {}", answer.text());
    }
    assert_eq!(
        gateway.of_group("v2", "PATCH", "clusters/Cluster0", json!({ "backupEnabled": false })).await.status,
        200
    );
    assert!(gateway.states("v2").await.iter().all(|state| state == "IDLE"), "what is so already is no change");
}

/// community.mongodb: GET, POST (201), GET and compare with what was sent, PATCH of everything, DELETE.
#[tokio::test]
async fn the_first_version_answers_as_ansibles_modules_expect() {
    let gateway = Gateway::start().await;
    let mut cluster = json!({
        "name": "Ansible", "clusterType": "REPLICASET", "replicationFactor": 3, "diskSizeGB": 10, "pitEnabled": false,
        "mongoDBMajorVersion": "7.0", "autoScaling": { "diskGBEnabled": false }, "providerBackupEnabled": false,
        "providerSettings": { "providerName": "AWS", "regionName": "US_EAST_1", "instanceSizeName": "M10" },
    });
    let user = json!({
        "databaseName": "admin", "username": "ann", "password": "longer than eight",
        "roles": [{ "roleName": "read", "databaseName": "shop" }], "scopes": [],
    });
    let entry = json!({ "cidrBlock": "203.0.113.0/24", "comment": "ansible" });
    for (list, one, sent) in [
        ("clusters", "clusters/Ansible", &cluster),
        ("databaseUsers", "databaseUsers/admin/ann", &user),
        ("whitelist", "whitelist/203.0.113.0%2F24", &entry),
    ] {
        assert_eq!(gateway.of_group("v1.0", "GET", one, Value::Null).await.status, 404, "{one}");
        let body = if list == "whitelist" { json!([sent]) } else { sent.clone() };
        let made = gateway.of_group("v1.0", "POST", list, body).await;
        assert_eq!(made.status, 201, "{one}: {}", made.text());
        let shown = gateway.of_group("v1.0", "GET", one, Value::Null).await.json();
        for (name, value) in sent.as_object().expect("fields").iter().filter(|(name, _)| *name != "password") {
            let same = &shown[name] == value || shown[name].as_f64().is_some_and(|shown| Some(shown) == value.as_f64());
            assert!(same, "{one}.{name}: {} is not {value}", shown[name]);
        }
    }
    cluster["providerSettings"]["instanceSizeName"] = json!("M20");
    let changed = gateway.of_group("v1.0", "PATCH", "clusters/Ansible", cluster.clone()).await;
    assert_eq!(changed.json()["providerSettings"], cluster["providerSettings"], "{}", changed.text());
    assert_eq!(gateway.of_group("v1.0", "PATCH", "databaseUsers/admin/ann", user).await.status, 200);
    for (one, status) in
        [("clusters/Ansible", 202), ("databaseUsers/admin/ann", 204), ("whitelist/203.0.113.0%2F24", 204)]
    {
        assert_eq!(gateway.of_group("v1.0", "DELETE", one, Value::Null).await.status, status, "{one}");
    }
    assert_eq!(
        gateway.of_group("v2", "GET", "whitelist", Value::Null).await.status,
        404,
        "the second version has no such name"
    );
}

/// mongodb-mcp-server's temporary user expires.
#[tokio::test]
async fn a_database_user_goes_at_its_date() {
    let gateway = Gateway::start().await;
    let user = json!({
        "username": "mcpUser", "databaseName": "admin", "password": "longer than eight", "deleteAfterDate": "2020-01-01T00:00:00Z",
    });
    gateway.of_group("v2", "POST", "databaseUsers", user).await;
    for _ in 0..1000 {
        if gateway.of_group("v2", "GET", "databaseUsers/admin/mcpUser", Value::Null).await.status == 404 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the user stays");
}

/// mongodb-mcp-server's lists, and its query for its own address.
#[tokio::test]
async fn organizations_projects_and_clusters_are_listed_across_projects() {
    let gateway = Gateway::start().await;
    let get = async |path: &str| gateway.ask("GET", path, "").await.json();
    let made =
        gateway.ask("POST", "/api/atlas/v2/groups", r#"{"name":"other","orgId":"32b6e34b3d91647abb20e7b8"}"#).await;
    assert_eq!(made.json()["orgId"], "32b6e34b3d91647abb20e7b8");
    let orgs = get("/api/atlas/v2/orgs").await;
    assert_eq!(orgs["totalCount"], 2, "{orgs}");
    let own = get("/api/atlas/v2/orgs/32b6e34b3d91647abb20e7b8/groups").await;
    assert_eq!((&own["totalCount"], &own["results"][0]["name"]), (&json!(1), &json!("other")));
    let all = get("/api/atlas/v2/clusters").await;
    let of = |name: &str| all["results"].as_array().unwrap().iter().any(|group| group["groupName"] == name);
    assert!(of("other"), "{all}");
    let names = all["results"].as_array().unwrap().iter().flat_map(|group| group["clusters"].as_array().unwrap());
    assert!(names.into_iter().any(|cluster| cluster["name"] == "Cluster0"), "{all}");
    assert_eq!(get("/api/private/ipinfo").await, json!({ "currentIpv4Address": "127.0.0.1" }));
}

const STRINGS: &str = "clusters/Cluster0/privateEndpointConnectionStrings";

impl Gateway {
    async fn until_strings_are(&self, path: &str, status: &str) -> Value {
        for _ in 0..1000 {
            let shown = self.preview("GET", path, Value::Null).await.json();
            if shown["status"] == status {
                return shown;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("never {status}: {}", self.preview("GET", path, Value::Null).await.json());
    }
}

/// A32.
#[tokio::test]
async fn connection_strings_are_made_by_name_published_changed_and_removed() {
    let store = Arc::new(MemoryStore::new());
    let gateway = Gateway::with_strings_on(store.clone()).await;
    gateway.control.set_pace(Pace::Frozen).await.unwrap();
    let wanted = json!({ "name": "reports", "privateEndpointIds": [ENDPOINT] });
    let made = gateway.preview("POST", STRINGS, wanted).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    assert_eq!((&made["status"], &made["managementType"]), (&json!("PENDING"), &json!("SELF_MANAGED")));
    assert_eq!((&made["connectionString"], &made["errorMessage"]), (&Value::Null, &Value::Null));
    let (id, slug) = (made["connectionStringId"].as_str().unwrap(), made["slug"].as_str().unwrap());
    assert!(id.len() == 24 && slug.bytes().all(|b| b.is_ascii_alphanumeric()), "{made}");
    let path = format!("{STRINGS}/{id}");

    gateway.control.set_pace(Pace::Fast).await.unwrap();
    let shown = gateway.until_strings_are(&path, "AVAILABLE").await;
    let host = format!("cs-{slug}-us-east-1-k45tj.mongodb.net");
    assert_eq!(shown["srvConnectionString"], format!("mongodb+srv://cluster0-cs-{slug}-k45tj.mongodb.net"));
    assert_eq!(
        shown["connectionString"],
        format!(
            "mongodb://{host}:1024,{host}:1025,{host}:1026/?ssl=true&authSource=admin&replicaSet=Cluster0-shard-0-shard-0"
        )
    );
    let snapshot = gateway.control.snapshot();
    let cluster = &crate::config::quickstart().desired.projects[0].clusters[0];
    let horizons = crate::plan::horizons(cluster, &snapshot.strings[0], &snapshot);
    assert!(horizons.iter().any(|horizon| horizon.name == format!("cs-{slug}")), "{horizons:?}");
    let (apex, name): (DnsName, DnsName) = ("mongodb.net".parse().unwrap(), host.parse().unwrap());
    let records = snapshot.dns.public[&apex].records.get(&name).expect("a record");
    assert!(records.cname.as_ref().is_some_and(|name| name.as_str().starts_with(ENDPOINT)), "{records:?}");

    // The cluster shows only its endpoints' own strings.
    let cluster = gateway.of_group("v2", "GET", "clusters/Cluster0", Value::Null).await.json();
    assert_eq!(cluster["connectionStrings"]["privateEndpoint"].as_array().unwrap().len(), 1);

    // The published strings stay while a change is pending, also over a restart.
    gateway.control.set_pace(Pace::Frozen).await.unwrap();
    let changed = gateway.preview("PATCH", &path, json!({ "name": "billing" })).await;
    assert_eq!(changed.status, 200);
    let changed = changed.json();
    assert_eq!((&changed["name"], &changed["status"]), (&json!("billing"), &json!("PENDING")));
    assert_eq!(changed["connectionString"], shown["connectionString"]);
    drop(gateway);
    let gateway = Gateway::start_on(store).await;
    gateway.control.set_pace(Pace::Fast).await.unwrap();
    let again = gateway.until_strings_are(&path, "AVAILABLE").await;
    assert_eq!((&again["slug"], &again["connectionString"]), (&shown["slug"], &shown["connectionString"]));
    let list = gateway.preview("GET", STRINGS, Value::Null).await.json();
    assert_eq!((&list["totalCount"], &list["results"][0]), (&json!(1), &again));
    let other = gateway.preview("GET", &path.replace("Cluster0", "Sharded0"), Value::Null).await;
    assert_eq!(other.status, 404, "another cluster's");

    assert_eq!(gateway.preview("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(gateway.preview("GET", &path, Value::Null).await.status, 404);
    let snapshot = gateway.control.snapshot();
    assert!(!snapshot.dns.public[&apex].records.contains_key(&name), "its names go with it");
}

#[tokio::test]
async fn connection_strings_that_cannot_be_are_refused_or_fail() {
    let gateway = Gateway::with_strings_on(Arc::default()).await;
    let good = json!({ "name": "a", "privateEndpointIds": [ENDPOINT] });
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, said) in [
        (json!({ "privateEndpointIds": [ENDPOINT] }), "name"),
        (json!({ "name": "a" }), "privateEndpointIds"),
        (with("name", json!("x".repeat(65))), "64 characters"),
        (with("privateEndpointIds", json!([])), "is empty"),
        (with("privateEndpointIds", json!([ENDPOINT, ENDPOINT])), "twice"),
        (with("privateEndpointIds", json!(["vpce-0123456789abcdef9"])), "no AWS private endpoint of the project"),
        (with("optimizedModeEnabled", json!(true)), "has no optimized connection strings"),
        (with("selectiveMongosEnabled", json!(true)), "is not published"),
        (with("slug", json!("mine")), "slug"),
    ] {
        let refused = gateway.preview("POST", STRINGS, body.clone()).await;
        assert_eq!(refused.status, 400, "{body}");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(said), "{body}: {detail}");
    }
    let nowhere = "clusters/Nowhere/privateEndpointConnectionStrings";
    assert_eq!(code(&gateway.preview("POST", nowhere, good.clone()).await), (404, "CLUSTER_NOT_FOUND".into()));
    assert_eq!(gateway.of_group("v1.0", "GET", STRINGS, Value::Null).await.status, 404, "the first version has none");

    let made = gateway.preview("POST", STRINGS, good.clone()).await.json();
    let path = format!("{STRINGS}/{}", made["connectionStringId"].as_str().unwrap());
    let refused = gateway.preview("PATCH", &path, json!({ "optimizedModeEnabled": false })).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["parameters"]), (400, &json!(["optimizedModeEnabled"])));
    gateway.until_strings_are(&path, "AVAILABLE").await;

    // A change fails, with a reason, when its endpoint is removed before it is complete.
    gateway.control.set_pace(Pace::Frozen).await.unwrap();
    assert_eq!(gateway.preview("PATCH", &path, good).await.status, 200);
    let services = gateway.of_group("v2", "GET", "privateEndpoint/AWS/endpointService", Value::Null).await.json();
    let service = services[0]["id"].as_str().expect("an id");
    let endpoint = format!("privateEndpoint/AWS/endpointService/{service}/endpoint/{ENDPOINT}");
    assert_eq!(gateway.of_group("v2", "DELETE", &endpoint, Value::Null).await.status, 202);
    gateway.control.set_pace(Pace::Fast).await.unwrap();
    let failed = gateway.until_strings_are(&path, "FAILED").await;
    assert!(failed["errorMessage"].as_str().unwrap().contains("was removed"), "{failed}");
}

/// A sharded cluster with optimized strings has one port, so its named strings use the `-lb` name.
#[tokio::test]
async fn strings_by_name_of_an_optimized_cluster_are_load_balanced() {
    let gateway = Gateway::with_strings_on(Arc::default()).await;
    let list = STRINGS.replace("Cluster0", "Sharded0");
    let body = json!({ "name": "a", "privateEndpointIds": [ENDPOINT], "optimizedModeEnabled": true });
    let made = gateway.preview("POST", &list, body).await.json();
    let path = format!("{list}/{}", made["connectionStringId"].as_str().expect("an id"));
    let shown = gateway.until_strings_are(&path, "AVAILABLE").await;
    let srv = shown["srvConnectionString"].as_str().unwrap();
    assert!(srv.contains(&format!("-cs-{}", shown["slug"].as_str().unwrap())) && srv.contains("-lb."), "{srv}");
    assert!(shown["connectionString"].as_str().unwrap().ends_with("&loadBalanced=true"), "{shown}");
}

/// A32: the resource and the setting exist only in the version `preview`, and a project has to opt in.
#[tokio::test]
async fn strings_by_name_need_the_preview_version_and_a_project_that_opted_in() {
    let gateway = Gateway::start().await;
    let setting = "privateEndpointConnectionStringsEnabled";
    assert_eq!(gateway.preview("GET", "settings", Value::Null).await.json()[setting], false);
    assert_eq!(gateway.of_group("v2", "GET", "settings", Value::Null).await.json()[setting], Value::Null);
    let body = json!({ "name": "a", "privateEndpointIds": [ENDPOINT] });
    let refused = gateway.preview("POST", STRINGS, body.clone()).await;
    assert_eq!(code(&refused), (409, "CONFLICT".into()));
    assert!(refused.text().contains(setting), "{}", refused.text());
    assert_eq!(gateway.preview("GET", STRINGS, Value::Null).await.json()["totalCount"], 0);
    assert_eq!(gateway.preview("PATCH", "settings", json!({ setting: true })).await.json()[setting], true);
    assert_eq!(gateway.preview("POST", STRINGS, body).await.status, 201);
    let opting_out = gateway.preview("PATCH", "settings", json!({ setting: false })).await;
    assert_eq!(code(&opting_out), (409, "CONFLICT".into()), "it has such strings");
    for accept in ["*/*", "application/json", "application/vnd.atlas.2025-03-12+json"] {
        let path = format!("/api/atlas/v2/groups/{PROJECT}/{STRINGS}");
        let answer = Client::new(gateway.address).send("GET", &path, &[("accept", accept)], String::new()).await;
        assert_eq!(code(&answer.expect("an answer")), (406, "INVALID_VERSION_DATE".into()), "{accept}");
    }
}

/// Terraform reads a cluster's containers by its provider.
#[tokio::test]
async fn containers_are_those_of_the_requested_provider() {
    let gateway = Gateway::start().await;
    for (provider, region) in [("AZURE", "US_EAST_2"), ("GCP", "WESTERN_EUROPE"), ("GCP", "CENTRAL_US")] {
        let body = json!({ "providerName": provider, "region": region, "portMappingEnabled": provider == "GCP" });
        assert_eq!(gateway.of_group("v2", "POST", "privateEndpoint/endpointService", body).await.status, 201);
    }
    let mut together = 0;
    for (query, provider, fields) in [
        ("", "AWS", json!({ "regionName": "US_EAST_1" })),
        ("?providerName=AWS", "AWS", json!({ "regionName": "US_EAST_1" })),
        ("?providerName=AZURE", "AZURE", json!({ "region": "US_EAST_2" })),
        ("?providerName=GCP", "GCP", json!({ "regions": ["WESTERN_EUROPE", "CENTRAL_US"] })),
    ] {
        let list = gateway.of_group("v2", "GET", &format!("containers{query}"), Value::Null).await.json();
        let own = list["results"].as_array().expect("a page");
        assert_eq!(own.len(), 1, "{query}: {list}");
        assert_eq!(own[0]["providerName"], provider);
        for (name, value) in fields.as_object().expect("fields") {
            assert_eq!(&own[0][name], value, "{query}: {list}");
        }
        together += usize::from(!query.is_empty());
    }
    let all = gateway.of_group("v2", "GET", "containers/all", Value::Null).await.json();
    assert_eq!(all["totalCount"], together, "{all}");
    let wrong = gateway.of_group("v2", "GET", "containers?providerName=ORACLE", Value::Null).await;
    assert_eq!(code(&wrong), (400, "INVALID_ATTRIBUTE".into()));
}

#[tokio::test]
async fn an_advanced_option_that_is_set_to_null_has_its_default_again() {
    let gateway = Gateway::start().await;
    let path = "clusters/Cluster0/processArgs";
    let set = |value: Value| gateway.of_group("v2", "PATCH", path, json!({ "javascriptEnabled": value }));
    assert_eq!(set(json!(false)).await.json()["javascriptEnabled"], false);
    assert_eq!(set(Value::Null).await.json()["javascriptEnabled"], true);
}
