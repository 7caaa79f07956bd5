//! A30: private endpoints of Azure and Google Cloud by Atlas' calls, with the config's networks.

use serde_json::{Value, json};

use super::fixture::Gateway;
use crate::config::{self, CLOUDS, QUICKSTART};
use crate::control::Pace;

const PROJECT: &str = "5f2a1b3c4d5e6f7081920a3c";
const AZURE: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/pe0";

/// The quickstart with Azure and Google Cloud, without the config's private endpoints.
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

/// The whole lifecycle in each cloud: registered, connected, listening, in the cluster's strings, removed; the service
/// is removed with its last endpoint.
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

/// An address outside the cloud's networks: failed, with a message about what to check.
#[tokio::test]
async fn an_endpoint_unknown_to_its_cloud_fails_with_advice() {
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

/// A wrong address is corrected by adding the endpoint again, although the failed one exists.
#[tokio::test]
async fn a_failed_endpoint_is_added_again_after_a_correction() {
    let gateway = gateway().await;
    let one = "privateEndpoint/AZURE/endpointService/65f0000000000000000000a1/endpoint";
    let google = "privateEndpoint/GCP/endpointService/65f0000000000000000000b1/endpoint";
    let rule = json!({ "endpointGroupName": "psc", "gcpProjectId": "lab-project",
                       "endpoints": [{ "endpointName": "psc", "ipAddress": "127.5.0.9" }] });
    assert_eq!(atlas(&gateway, "POST", google, rule).await.0, 201);
    let second = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/pe1";
    let body = |id: &str, ip: &str| json!({ "id": id, "privateEndpointIPAddress": ip });
    assert_eq!(atlas(&gateway, "POST", one, body(AZURE, "10.77.0.9")).await.0, 201);
    until_done(&gateway).await;
    let view = format!("{one}/{}", AZURE.replace('/', "%2F"));
    assert_eq!(atlas(&gateway, "GET", &view, Value::Null).await.1["status"], "FAILED");
    let (status, again) = atlas(&gateway, "POST", one, body(AZURE, "127.4.0.9")).await;
    assert_eq!((status, &again["status"], &again["errorMessage"]), (201, &json!("INITIATING"), &Value::Null));
    until_done(&gateway).await;
    assert_eq!(atlas(&gateway, "GET", &view, Value::Null).await.1["status"], "AVAILABLE");
    // Now it counts again, so a second one in its region, besides Google's, exceeds the limit.
    let (status, refused) = atlas(&gateway, "POST", one, body(second, "127.4.0.10")).await;
    assert_eq!((status, &refused["errorCode"]), (409, &json!("MULTIPLE_PRIVATE_ENDPOINTS_IN_MULTIPLE_REGIONS")));
    assert!(refused["detail"].as_str().is_some_and(|why| why.contains("1 in GCP CENTRAL_US")), "{refused}");
}

/// `/v1` lists the same as Atlas, with the provider; limits are each provider's, and can be changed.
#[tokio::test]
async fn private_endpoints_and_limits_have_the_services_of_every_provider() {
    let gateway = gateway().await;
    let one = "privateEndpoint/AZURE/endpointService/65f0000000000000000000a1/endpoint";
    let body = |ip: &str| json!({ "id": AZURE, "privateEndpointIPAddress": ip });
    assert_eq!(atlas(&gateway, "POST", one, body("10.77.0.9")).await.0, 201);
    let shown = async || {
        let view = gateway.ask("GET", "/v1/private-endpoints", "").await.json();
        let services = view["private_endpoints"].as_array().expect("a list").clone();
        services.into_iter().find(|service| service["id"] == "65f0000000000000000000a1").expect("it is there")
    };
    let service = shown().await;
    assert_eq!(
        (&service["provider"], &service["region"], &service["status"]),
        (&json!("AZURE"), &json!("eastus2"), &json!("Available"))
    );
    assert_eq!(
        (&service["endpoints"][0]["id"], &service["endpoints"][0]["status"]),
        (&json!(AZURE), &json!("Initiating"))
    );
    until_done(&gateway).await;
    let failed = shown().await["endpoints"][0].clone();
    assert_eq!(
        (&failed["status"], &failed["registered"], &failed["vpc"]),
        (&json!("Failed"), &json!(false), &Value::Null)
    );
    assert!(failed["error"].as_str().is_some_and(|why| why.contains("was not found in Azure")), "{failed}");
    assert_eq!(atlas(&gateway, "POST", one, body("127.4.0.9")).await.0, 201);
    until_done(&gateway).await;
    let endpoint = shown().await["endpoints"][0].clone();
    assert_eq!(
        (&endpoint["status"], &endpoint["state"], &endpoint["registered"]),
        (&json!("Available"), &Value::Null, &json!(true))
    );
    assert_eq!(
        (&endpoint["addresses"][0]["ip"], &endpoint["addresses"][0]["zone"]),
        (&json!("127.4.0.9"), &json!("eastus2"))
    );
    assert!(endpoint["vpc"].as_str().is_some_and(|network| network.ends_with("virtualNetworks/app")), "{endpoint}");

    let limits = async |method: &str, body: &str| {
        let answer = gateway.ask(method, "/v1/limits", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let view = answer.json();
        let all = view["limits"].as_array().expect("a list").iter();
        let targets = all.map(|own| {
            let targets = &own["targets_per_region"];
            format!("{} {} of {} to {}", own["provider"], targets["used"], targets["limit"], targets["maximum"])
        });
        targets.collect::<Vec<_>>()
    };
    let expected = ["\"AWS\" 4 of 50 to 100", "\"AZURE\" 3 of 150 to 200", "\"GCP\" 3 of 150 to 200"];
    assert_eq!(limits("GET", "").await, expected);
    let changed = limits("PUT", "{\"service\":\"65f0000000000000000000a1\",\"targets_per_region\":200}").await;
    assert_eq!(changed[1], "\"AZURE\" 3 of 200 to 200");
    let too_many = gateway.ask("PUT", "/v1/limits", "{\"targets_per_region\":200}").await;
    assert_eq!(too_many.status.as_u16() / 100, 4, "AWS' is 100 at most: {}", too_many.text());
}

/// A cluster is UPDATING while an endpoint is added in its region, on every provider.
#[tokio::test]
async fn a_cluster_is_updating_while_an_endpoint_of_its_cloud_comes_and_goes() {
    let gateway = gateway().await;
    gateway.control.set_pace(Pace::Frozen).await.expect("control is there");
    let state = async |name: &str| {
        let (_, cluster) = atlas(&gateway, "GET", &format!("clusters/{name}"), Value::Null).await;
        cluster["stateName"].as_str().expect("a state").to_owned()
    };
    let one = "privateEndpoint/AZURE/endpointService/65f0000000000000000000a1/endpoint";
    let body = json!({ "id": AZURE, "privateEndpointIPAddress": "127.4.0.9" });
    assert_eq!(atlas(&gateway, "POST", one, body).await.0, 201);
    assert_eq!((state("Azure0").await.as_str(), state("Google0").await.as_str()), ("UPDATING", "IDLE"));
    until_done(&gateway).await;
    assert_eq!(state("Azure0").await, "IDLE");
    assert_eq!(atlas(&gateway, "DELETE", &format!("{one}/{}", AZURE.replace('/', "%2F")), Value::Null).await.0, 202);
    assert_eq!(state("Azure0").await, "UPDATING");
    until_done(&gateway).await;
    assert_eq!(state("Azure0").await, "IDLE");
}

#[tokio::test]
async fn requests_that_atlas_refuses_are_refused() {
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

/// A cluster is created in each cloud, with Atlas' names of regions.
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

/// EC2's API does not list resources of other clouds.
#[tokio::test]
async fn ec2_does_not_show_endpoints_of_other_clouds() {
    let gateway = gateway().await;
    for action in ["DescribeVpcs", "DescribeVpcEndpoints", "DescribeVpcEndpointServices", "DescribeSubnets"] {
        let answer = gateway.ec2(&format!("Action={action}")).await;
        assert_eq!(answer.status, 200);
        for foreign in ["subscriptions", "projects/", "65f0000000000000000000"] {
            assert!(!answer.text().contains(foreign), "{action}: {}", answer.text());
        }
    }
}
