//! A30: Azure's and Google Cloud's private endpoints by Atlas' calls, over networks that the config names.

use serde_json::{Value, json};

use super::fixture::Gateway;
use crate::config::{self, CLOUDS, QUICKSTART};
use crate::control::Pace;

const PROJECT: &str = "5f2a1b3c4d5e6f7081920a3c";
const AZURE: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/pe0";

/// The quickstart with Azure and Google Cloud; without the private endpoints that the config would name.
async fn gateway() -> Gateway {
    let gateway = Gateway::start().await;
    let clouds = CLOUDS.split("[[private_endpoint]]").next().expect("what is before them");
    let text = [QUICKSTART, "\n", clouds].concat();
    let desired = config::parse(&text, "clouds.toml").expect("a good config").desired;
    gateway.control.replace_inventory(Ok(desired)).await.expect("it can be planned");
    gateway
}

async fn atlas(gateway: &Gateway, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let path = format!("/api/atlas/v2/groups/{PROJECT}/{path}");
    let answer = gateway.ask(method, &path, &body).await;
    (answer.status.as_u16(), answer.json())
}

async fn listeners(gateway: &Gateway) -> Vec<String> {
    let snapshot = gateway.control.snapshot();
    snapshot
        .listeners
        .keys()
        .map(ToString::to_string)
        .filter(|at| at.starts_with("127.4.") || at.starts_with("127.5."))
        .collect()
}

async fn until_done(gateway: &Gateway) {
    while gateway.control.push().await.expect("control is there") {}
}

/// The whole way of each cloud: registered, connected, listened for, in the cluster's strings, removed; with the last endpoint
/// goes the service.
#[tokio::test]
async fn an_endpoint_is_registered_listens_is_in_the_strings_and_goes() {
    let gateway = gateway().await;
    gateway.control.set_pace(Pace::Frozen).await.expect("control is there");
    for (cloud, service, body, name, address, seeds) in [
        (
            "AZURE",
            "65f0000000000000000000a1",
            json!({ "id": AZURE, "privateEndpointIPAddress": "127.4.0.9" }),
            AZURE,
            "127.4.0.9:1024",
            ("Azure0", "mongodb+srv://azure0-pl-0.uzgh6.mongodb.net"),
        ),
        (
            "GCP",
            "65f0000000000000000000b1",
            json!({ "endpointGroupName": "psc", "gcpProjectId": "lab-project",
                    "endpoints": [{ "endpointName": "psc", "ipAddress": "127.5.0.9" }] }),
            "psc",
            "127.5.0.9:1024",
            ("Google0", "mongodb+srv://google0-psc-0.uzgh6.mongodb.net"),
        ),
    ] {
        let one = format!("privateEndpoint/{cloud}/endpointService/{service}");
        let (status, made) = atlas(&gateway, "POST", &format!("{one}/endpoint"), body.clone()).await;
        assert_eq!((status, &made["status"], &made["errorMessage"]), (201, &json!("INITIATING"), &Value::Null));
        assert_eq!(atlas(&gateway, "POST", &format!("{one}/endpoint"), body).await.0, 409, "a second time");
        assert_eq!(listeners(&gateway).await, Vec::<String>::new(), "not before it is connected");
        until_done(&gateway).await;
        let endpoint = format!("{one}/endpoint/{}", name.replace('/', "%2F"));
        let (_, view) = atlas(&gateway, "GET", &endpoint, Value::Null).await;
        assert_eq!(view["status"], "AVAILABLE", "{view}");
        assert_eq!(listeners(&gateway).await.first().map(String::as_str), Some(address));
        let (_, cluster) = atlas(&gateway, "GET", &format!("clusters/{}", seeds.0), Value::Null).await;
        let strings = &cluster["connectionStrings"];
        let private = &strings["privateEndpoint"][0];
        assert_eq!(private["srvConnectionString"], seeds.1, "{strings}");
        assert_eq!(
            (&private["endpoints"][0]["endpointId"], &private["endpoints"][0]["providerName"]),
            (&json!(name), &json!(cloud))
        );
        assert_eq!(strings.get("awsPrivateLink"), None, "that map is AWS's");
        assert_eq!(cluster["replicationSpecs"][0]["regionConfigs"][0]["providerName"], cloud);
        assert_eq!(atlas(&gateway, "DELETE", &endpoint, Value::Null).await.0, 202);
        assert_eq!(listeners(&gateway).await, Vec::<String>::new());
        until_done(&gateway).await;
        assert_eq!(atlas(&gateway, "GET", &one, Value::Null).await.0, 404, "with its last endpoint it goes");
    }
}

/// An address that is in no network of the cloud: failed, with what is to be checked.
#[tokio::test]
async fn an_endpoint_that_its_cloud_does_not_know_fails_and_says_what_to_check() {
    let gateway = gateway().await;
    let one = "privateEndpoint/GCP/endpointService/65f0000000000000000000b1/endpoint";
    let body = json!({ "endpointGroupName": "psc", "gcpProjectId": "lab-project",
                       "endpoints": [{ "endpointName": "psc", "ipAddress": "10.77.0.9" }] });
    assert_eq!(atlas(&gateway, "POST", one, body).await.0, 201);
    until_done(&gateway).await;
    let (_, view) = atlas(&gateway, "GET", &format!("{one}/psc"), Value::Null).await;
    assert_eq!(view["status"], "FAILED", "{view}");
    assert!(view["errorMessage"].as_str().is_some_and(|why| why.contains("was not found in Google Cloud")), "{view}");
}

#[tokio::test]
async fn what_atlas_refuses_is_refused() {
    let gateway = gateway().await;
    let services = "privateEndpoint/endpointService";
    let google = "privateEndpoint/GCP/endpointService/65f0000000000000000000b1/endpoint";
    let rule = |name: &str| json!({ "endpointName": name, "ipAddress": "127.5.0.9" });
    for (path, body, status, code, says) in [
        (
            services,
            json!({ "providerName": "GCP", "region": "US_EAST_4" }),
            400,
            "INVALID_ATTRIBUTE",
            "deprecated since 19 February 2026",
        ),
        (
            services,
            json!({ "providerName": "GCP", "region": "US_EAST_2", "portMappingEnabled": true }),
            400,
            "INVALID_REGION",
            "provider GCP",
        ),
        (
            services,
            json!({ "providerName": "AZURE", "region": "US_EAST_2" }),
            409,
            "PRIVATE_ENDPOINT_SERVICE_ALREADY_EXISTS_FOR_REGION",
            "AZURE region US_EAST_2",
        ),
        (
            services,
            json!({ "providerName": "AZURE", "region": "US_WEST", "supportedRemoteRegions": ["US_EAST"] }),
            400,
            "PROVIDER_UNSUPPORTED",
            "AZURE",
        ),
        (
            google,
            json!({ "endpointGroupName": "g", "gcpProjectId": "p", "endpoints": [rule("a"), rule("b")] }),
            400,
            "INVALID_ATTRIBUTE",
            "exactly one endpoint",
        ),
        (
            google,
            json!({ "gcpProjectId": "p", "endpoints": [rule("a")] }),
            400,
            "MISSING_ATTRIBUTE",
            "endpointGroupName",
        ),
        (
            "privateEndpoint/AZURE/endpointService/65f0000000000000000000a1/endpoint",
            json!({ "id": "vpce-0123456789abcdef0", "privateEndpointIPAddress": "127.4.0.9" }),
            400,
            "INVALID_ATTRIBUTE",
            "id",
        ),
    ] {
        let (found, answer) = atlas(&gateway, "POST", path, body.clone()).await;
        assert_eq!((found, &answer["errorCode"]), (status, &json!(code)), "{body}: {answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{answer}");
    }
}

/// A cluster is made in any cloud, by Atlas' names of regions.
#[tokio::test]
async fn a_cluster_is_made_in_each_cloud() {
    let gateway = gateway().await;
    for (cloud, region, zone) in [("AZURE", "EUROPE_WEST", "westeurope-1"), ("GCP", "CENTRAL_US", "us-central1-a")] {
        let specs = json!({ "instanceSize": "M10", "nodeCount": 3 });
        let regions = json!([{ "regionName": region, "providerName": cloud, "electableSpecs": specs }]);
        let name = format!("Made{cloud}");
        let body =
            json!({ "name": name, "clusterType": "REPLICASET", "replicationSpecs": [{ "regionConfigs": regions }] });
        let (status, view) = atlas(&gateway, "POST", "clusters", body).await;
        assert_eq!((status, &view["replicationSpecs"][0]["regionConfigs"][0]["regionName"]), (201, &json!(region)));
        let clusters = &gateway.control.inventory().clusters;
        let record = clusters.values().find(|record| record.cluster.name.as_str() == name).expect("it is there");
        assert_eq!(record.cluster.nodes[0].zone.as_str(), zone);
    }
}

/// What is elsewhere is nothing to EC2, and survives a restart.
#[tokio::test]
async fn ec2_does_not_know_other_clouds() {
    let gateway = gateway().await;
    for action in ["DescribeVpcs", "DescribeVpcEndpoints", "DescribeVpcEndpointServices", "DescribeSubnets"] {
        let answer = gateway.ec2(&format!("Action={action}")).await;
        assert_eq!(answer.status, 200);
        for foreign in ["subscriptions", "projects/", "65f0000000000000000000"] {
            assert!(!answer.text().contains(foreign), "{action}: {}", answer.text());
        }
    }
}
