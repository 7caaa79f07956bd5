//! Lifecycles of API resources, observed through the APIs of both sides.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::client::{ApiResponse, Client};
use super::fixture::{Gateway, element};
use crate::control::Pace;
use crate::control::store::MemoryStore;

const PROJECT: &str = "5f2a1b3c4d5e6f7081920a3b";
const VPC: &str = "vpc-0b3f1c9a7d2e84f56";
const SUBNET: &str = "subnet-0c1d2e3f4a5b60718";
const SERVICE: &str = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c";

impl Gateway {
    pub(super) async fn atlas(&self, method: &str, path: &str, body: Value) -> ApiResponse {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, &format!("/api/atlas/v2/groups/{PROJECT}/{path}"), &body).await
    }

    /// Creates an endpoint in EC2.
    async fn make_endpoint(&self, subnet: Option<&str>) -> String {
        let subnet = subnet.map(|subnet| format!("&SubnetId.1={subnet}")).unwrap_or_default();
        let made = self
            .ec2(&format!(
                "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={VPC}&ServiceName={SERVICE}{subnet}"
            ))
            .await;
        assert_eq!(made.status, 200, "{}", made.text());
        element(&made.text(), "vpcEndpointId")
    }

    pub(super) async fn service(&self) -> Value {
        self.atlas("GET", "privateEndpoint/AWS/endpointService", Value::Null).await.json()[0].clone()
    }

    /// The endpoint in Atlas once it is `wanted`.
    pub(super) async fn until(&self, service: &str, endpoint: &str, wanted: &str) -> Value {
        let path = format!("privateEndpoint/AWS/endpointService/{service}/endpoint/{endpoint}");
        eventually(|| async {
            let view = self.atlas("GET", &path, Value::Null).await.json();
            (view["connectionStatus"] == wanted).then_some(view)
        })
        .await
    }

    pub(super) async fn ec2_state(&self, endpoint: &str) -> String {
        let described = self.ec2(&format!("Action=DescribeVpcEndpoints&VpcEndpointId.1={endpoint}")).await;
        if described.status == 200 { element(&described.text(), "state") } else { element(&described.text(), "Code") }
    }
}

/// The result of `look` within ten seconds.
pub(super) async fn eventually<T, F: Future<Output = Option<T>>>(look: impl Fn() -> F) -> T {
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it comes about in time")
}

/// A23, A26: with a frozen pace, each step is visible on both sides.
#[tokio::test]
async fn an_endpoint_is_accepted_connected_and_removed_and_both_sides_see_each_state() {
    let gateway = Gateway::start().await;
    gateway.control.set_pace(Pace::Frozen).await.unwrap();
    let endpoint = gateway.make_endpoint(Some(SUBNET)).await;
    let service = gateway.service().await["id"].as_str().unwrap().to_owned();
    assert_eq!(gateway.ec2_state(&endpoint).await, "pendingAcceptance");
    let path = format!("privateEndpoint/AWS/endpointService/{service}/endpoint");

    let added = gateway.atlas("POST", &path, json!({ "id": endpoint })).await;
    assert_eq!(added.status, 201, "{}", added.text());
    assert_eq!(
        added.json(),
        json!({
            "cloudProvider": "AWS",
            "connectionStatus": "PENDING_ACCEPTANCE",
            "deleteRequested": false,
            "errorMessage": null,
            "interfaceEndpointId": endpoint,
        })
    );
    for (atlas, ec2) in [("PENDING", "pending"), ("AVAILABLE", "available")] {
        assert!(gateway.control.push().await.unwrap());
        assert_eq!(gateway.until(&service, &endpoint, atlas).await["errorMessage"], Value::Null);
        assert_eq!(gateway.ec2_state(&endpoint).await, ec2);
    }
    let snapshot = gateway.control.snapshot();
    assert!(snapshot.listeners.values().any(|listener| listener.access.label() == endpoint), "its listeners are open");
    assert!(snapshot.strings[0].private.iter().any(|s| s.endpoints.iter().any(|(id, _)| id.as_str() == endpoint)));

    let removed = gateway.atlas("DELETE", &format!("{path}/{endpoint}"), Value::Null).await;
    assert_eq!((removed.status, removed.json()), (StatusCode::ACCEPTED, json!({})));
    assert_eq!(gateway.until(&service, &endpoint, "DELETING").await["deleteRequested"], true);
    assert_eq!(gateway.ec2_state(&endpoint).await, "rejected");
    let snapshot = gateway.control.snapshot();
    assert!(!snapshot.listeners.values().any(|listener| listener.access.label() == endpoint), "they are closed");
    gateway.control.push().await.unwrap();
    assert_eq!(gateway.atlas("GET", &format!("{path}/{endpoint}"), Value::Null).await.status, 404);

    assert_eq!(gateway.ec2(&format!("Action=DeleteVpcEndpoints&VpcEndpointId.1={endpoint}")).await.status, 200);
    assert_eq!(gateway.ec2_state(&endpoint).await, "deleting");
    gateway.control.push().await.unwrap();
    assert_eq!(gateway.ec2_state(&endpoint).await, "InvalidVpcEndpointId.NotFound");
}

/// A24.
#[tokio::test]
async fn an_endpoint_without_a_subnet_fails_and_a_subnet_heals_it() {
    let gateway = Gateway::start().await;
    let endpoint = gateway.make_endpoint(None).await;
    let service = gateway.service().await["id"].as_str().unwrap().to_owned();
    let path = format!("privateEndpoint/AWS/endpointService/{service}/endpoint");
    gateway.atlas("POST", &path, json!({ "id": endpoint })).await;
    let failed = gateway.until(&service, &endpoint, "REJECTED").await;
    assert_eq!(
        failed["errorMessage"],
        format!(
            "No dns entries found for endpoint {endpoint}, your endpoint must be provisioned in at least one subnet. Click \
             \"Edit\" to fix the problem."
        )
    );
    let healed =
        gateway.ec2(&format!("Action=ModifyVpcEndpoint&VpcEndpointId={endpoint}&AddSubnetId.1={SUBNET}")).await;
    assert_eq!(element(&healed.text(), "return"), "true", "{}", healed.text());
    gateway.until(&service, &endpoint, "AVAILABLE").await;
}

#[tokio::test]
async fn an_endpoint_unknown_to_aws_waits_and_then_fails() {
    let gateway = Gateway::start().await;
    gateway.control.set_pace(Pace::Frozen).await.unwrap();
    let (service, endpoint) = (gateway.service().await["id"].as_str().unwrap().to_owned(), "vpce-0123456789abcdef0");
    let path = format!("privateEndpoint/AWS/endpointService/{service}/endpoint");
    assert_eq!(gateway.atlas("POST", &path, json!({ "id": endpoint })).await.json()["connectionStatus"], "PENDING");
    gateway.control.push().await.unwrap();
    let failed = gateway.until(&service, endpoint, "REJECTED").await;
    assert!(failed["errorMessage"].as_str().unwrap().contains("was not found"), "{failed}");
}

/// A23: INITIATING, AVAILABLE, DELETING, removed; one per region.
#[tokio::test]
async fn a_service_is_made_once_a_region_and_goes_with_its_last_endpoint() {
    let gateway = Gateway::start().await;
    let new = json!({ "providerName": "AWS", "region": "eu-west-1" });
    let made = gateway.atlas("POST", "privateEndpoint/endpointService", new.clone()).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.headers["content-type"], "application/vnd.atlas.2023-01-01+json;charset=utf-8");
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(
        made.json(),
        json!({
            "cloudProvider": "AWS", "endpointServiceName": null, "errorMessage": null, "id": id,
            "interfaceEndpoints": [], "regionName": "EU_WEST_1", "status": "INITIATING", "supportedRemoteRegions": null,
        })
    );
    let again = gateway.atlas("POST", "privateEndpoint/endpointService", new).await;
    assert_eq!(
        again.json(),
        json!({
            "detail": "A private endpoint service already exists for AWS region EU_WEST_1.", "error": 409,
            "errorCode": "PRIVATE_ENDPOINT_SERVICE_ALREADY_EXISTS_FOR_REGION", "parameters": ["AWS", "EU_WEST_1"],
            "reason": "Conflict",
        })
    );
    let path = format!("privateEndpoint/AWS/endpointService/{id}");
    let view = eventually(|| async {
        let view = gateway.atlas("GET", &path, Value::Null).await.json();
        (view["status"] == "AVAILABLE").then_some(view)
    })
    .await;
    assert!(view["endpointServiceName"].as_str().unwrap().starts_with("com.amazonaws.vpce.eu-west-1.vpce-svc-"));
    let endpoint = format!("{path}/endpoint");
    let unknown = "vpce-0123456789abcdef0";
    assert_eq!(gateway.atlas("POST", &endpoint, json!({ "id": unknown })).await.status, 201);
    assert_eq!(gateway.atlas("POST", &endpoint, json!({ "id": unknown })).await.status, 409);
    assert_eq!(gateway.atlas("DELETE", &format!("{endpoint}/{unknown}"), Value::Null).await.status, 202);
    eventually(|| async { (gateway.atlas("GET", &path, Value::Null).await.status == 404).then_some(()) }).await;
}

#[tokio::test]
async fn api_resources_outlive_the_process() {
    let store = Arc::new(MemoryStore::new());
    let gateway = Gateway::start_on(store.clone()).await;
    let endpoint = gateway.make_endpoint(Some(SUBNET)).await;
    let vpc = gateway.ec2("Action=CreateVpc&CidrBlock=127.4.0.0/16").await;
    let vpc = element(&vpc.text(), "vpcId");
    let address = element(&gateway.ec2("Action=DescribeNetworkInterfaces").await.text(), "privateIpAddress");
    gateway.atlas("POST", "accessList", json!([{ "ipAddress": "203.0.113.7", "comment": "me" }])).await;
    drop(gateway);
    let gateway = Gateway::start_on(store).await;
    assert_eq!(gateway.ec2_state(&endpoint).await, "pendingAcceptance");
    assert_eq!(element(&gateway.ec2("Action=DescribeNetworkInterfaces").await.text(), "privateIpAddress"), address);
    assert_eq!(gateway.ec2(&format!("Action=DescribeVpcs&VpcId.1={vpc}")).await.status, 200);
    let list = gateway.atlas("GET", "accessList/203.0.113.7", Value::Null).await;
    assert_eq!(list.json()["comment"], "me");
    gateway.ask("POST", "/v1/reload", "").await;
    assert_eq!(gateway.ec2_state(&endpoint).await, "pendingAcceptance", "a reload leaves it");
}

#[tokio::test]
async fn writers_at_once_lose_nothing() {
    let gateway = Arc::new(Gateway::start().await);
    let writers: Vec<_> = (0..40)
        .map(|n| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move {
                let subnet = if n % 2 == 0 { SUBNET } else { "subnet-0d2e3f4a5b6c71829" };
                gateway.make_endpoint(Some(subnet)).await
            })
        })
        .collect();
    let mut made = std::collections::BTreeSet::new();
    for writer in writers {
        made.insert(writer.await.unwrap());
    }
    assert_eq!(made.len(), 40);
    let inventory = gateway.control.inventory();
    let addresses: std::collections::BTreeSet<_> =
        inventory.endpoints.values().flat_map(|e| e.endpoint.addresses.iter().map(|a| a.ip)).collect();
    assert_eq!(inventory.endpoints.len(), 43);
    assert_eq!(addresses.len(), 46, "no address was given twice");
}

#[tokio::test]
async fn a_client_token_makes_one_endpoint() {
    let gateway = Gateway::start().await;
    let form = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={VPC}&ServiceName={SERVICE}&SubnetId.1={SUBNET}"
    );
    let first = gateway.ec2(&format!("{form}&ClientToken=t")).await;
    let second = gateway.ec2(&format!("{form}&ClientToken=t")).await;
    assert_eq!(element(&first.text(), "vpcEndpointId"), element(&second.text(), "vpcEndpointId"));
    let other = gateway.ec2(&format!("{form}&ClientToken=t&PolicyDocument=%7B%7D")).await;
    assert_eq!(element(&other.text(), "Code"), "IdempotentParameterMismatch");
}

#[tokio::test]
async fn ec2_refuses_with_its_own_codes() {
    let gateway = Gateway::start().await;
    let create = "Action=CreateVpcEndpoint&VpcEndpointType=Interface";
    let unknown = "com.amazonaws.vpce.us-east-1.vpce-svc-0dead000000000001";
    for (form, code) in [
        ("Action=Nonsense".to_owned(), "InvalidAction"),
        (String::new(), "MissingAction"),
        (format!("{create}&ServiceName={SERVICE}"), "MissingParameter"),
        (format!("{create}&ServiceName={SERVICE}&VpcId=vpc-1"), "InvalidVpcID.Malformed"),
        (format!("{create}&ServiceName={SERVICE}&VpcId=vpc-0dead000000000001"), "InvalidVpcID.NotFound"),
        (format!("{create}&ServiceName={unknown}&VpcId={VPC}"), "InvalidServiceName"),
        (format!("{create}&ServiceName={SERVICE}&VpcId={VPC}&SubnetId.1=subnet-0dead000"), "InvalidSubnetID.NotFound"),
        (format!("{create}&ServiceName={SERVICE}&VpcId={VPC}&SecurityGroupId.1=sg-0dead000"), "InvalidGroup.NotFound"),
        (format!("{create}&ServiceName={SERVICE}&VpcId={VPC}&PrivateDnsEnabled=true"), "InvalidParameter"),
        (format!("{create}&ServiceName={SERVICE}&VpcId={VPC}&DryRun=true"), "DryRunOperation"),
        (
            "Action=DescribeVpcEndpoints&VpcEndpointId.1=vpce-0dead000000000001".to_owned(),
            "InvalidVpcEndpointId.NotFound",
        ),
        ("Action=DescribeVpcEndpoints&VpcEndpointId.1=x".to_owned(), "InvalidVpcEndpointId.Malformed"),
        ("Action=DescribeVpcEndpoints&Filter.1.Name=x&Filter.1.Value.1=y".to_owned(), "InvalidParameterValue"),
        (
            format!("Action=ModifyVpcAttribute&VpcId={VPC}&EnableDnsSupport.Value=true&EnableDnsHostnames.Value=true"),
            "InvalidParameterCombination",
        ),
        (format!("Action=CreateSubnet&VpcId={VPC}&CidrBlock=127.0.30.0/25"), "InvalidSubnet.Conflict"),
        (format!("Action=CreateSubnet&VpcId={VPC}&CidrBlock=10.0.0.0/24"), "InvalidSubnet.Range"),
        (format!("Action=DeleteVpc&VpcId={VPC}"), "DependencyViolation"),
    ] {
        let refused = gateway.ec2(&form).await;
        assert_eq!(element(&refused.text(), "Code"), code, "{form}: {}", refused.text());
        assert!(refused.status.is_client_error(), "{form}");
    }
    assert_eq!(gateway.control.inventory().endpoints.len(), 3, "nothing was made");
}

/// AWS's default quotas, with AWS's codes.
#[tokio::test]
async fn ec2_makes_no_more_than_its_quotas_allow() {
    let gateway = Gateway::start().await;
    let code = async |form: &str| {
        let answer = gateway.ec2(form).await.text();
        if answer.contains("<Code>") { element(&answer, "Code") } else { "ok".to_owned() }
    };
    let mut groups = String::new();
    for n in 1..=6 {
        let form = format!("Action=CreateSecurityGroup&GroupName=g{n}&GroupDescription=a&VpcId={VPC}");
        let made = gateway.ec2(&form).await;
        groups += &format!("&SecurityGroupId.{n}={}", element(&made.text(), "groupId"));
    }
    let create = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={VPC}&ServiceName={SERVICE}&SubnetId.1={SUBNET}"
    );
    assert_eq!(code(&format!("{create}{groups}")).await, "SecurityGroupsPerInterfaceLimitExceeded");
    let in_vpc = || {
        let inventory = gateway.control.inventory();
        inventory.endpoints.values().filter(|record| record.endpoint.vpc.as_str() == VPC).count()
    };
    while in_vpc() < 50 {
        assert_eq!(code(&create).await, "ok");
    }
    assert_eq!(code(&create).await, "VpcEndpointLimitExceeded");
    let mut codes = Vec::new();
    for n in 0..5 {
        codes.push(code(&format!("Action=CreateVpc&CidrBlock=10.{n}.0.0/16")).await);
    }
    assert_eq!(codes.first().map(String::as_str), Some("ok"), "{codes:?}");
    assert_eq!(codes.last().map(String::as_str), Some("VpcLimitExceeded"), "{codes:?}");
}

/// A18, A22, A28.
#[tokio::test]
async fn the_plans_rules_reach_atlas_in_its_own_shape() {
    let gateway = Gateway::start().await;
    let code = |answer: ApiResponse| answer.json()["errorCode"].as_str().unwrap_or_default().to_owned();
    let on = gateway.atlas("PATCH", "privateEndpoint/regionalMode", json!({ "enabled": true })).await;
    assert_eq!((on.status.as_u16(), code(on)), (409, "REGIONALIZED_PRIVATE_ENDPOINTS_WITH_REPLICA_SET".to_owned()));
    let cluster = |name: &str, size: &str, kind: &str| {
        let specs = json!({ "instanceSize": size, "nodeCount": 3 });
        json!({ "name": name, "clusterType": kind, "replicationSpecs": [{ "regionConfigs": [
            { "regionName": "US_EAST_1", "providerName": "AWS", "electableSpecs": specs }] }] })
    };
    let shared = gateway.atlas("POST", "clusters", cluster("Free", "M0", "REPLICASET")).await;
    assert_eq!(code(shared), "PRIVATE_ENDPOINTS_UNSUPPORTED_FOR_SHARED_TIER");
    let made = gateway.atlas("POST", "clusters", cluster("More", "M10", "SHARDED")).await;
    assert_eq!((made.status, made.json()["stateName"].as_str()), (StatusCode::CREATED, Some("CREATING")));
    assert_eq!(gateway.atlas("DELETE", "clusters/Cluster0", Value::Null).await.status, 202);
    eventually(|| async { (gateway.atlas("GET", "clusters/Cluster0", Value::Null).await.status == 404).then_some(()) })
        .await;
    let on = gateway.atlas("PATCH", "privateEndpoint/regionalMode", json!({ "enabled": true })).await;
    assert_eq!((on.status, on.json()), (StatusCode::ACCEPTED, json!({ "enabled": true })));
    let refused = gateway.atlas("POST", "clusters", cluster("Set", "M10", "REPLICASET")).await;
    assert_eq!(code(refused), "REGIONALIZED_PRIVATE_ENDPOINTS_WITH_REPLICA_SET");
    let limit = gateway.atlas("GET", "limits/atlas.project.deployment.nodesPerPrivateLinkRegion", Value::Null).await;
    assert_eq!((limit.json()["value"].as_u64(), limit.json()["currentUsage"].as_u64()), (Some(50), Some(2)));
}

#[tokio::test]
async fn an_unknown_project_is_refused_as_recorded() {
    let gateway = Gateway::start().await;
    let id = "111111111111111111111111";
    let answer = gateway.ask("GET", &format!("/api/atlas/v2/groups/{id}/privateEndpoint/regionalMode"), "").await;
    assert_eq!(
        answer.json(),
        json!({ "detail": format!("No group with ID {id} exists."), "error": 404, "errorCode": "GROUP_NOT_FOUND",
                "parameters": [id], "reason": "Not Found" })
    );
}

/// B10, B4, B12.
#[tokio::test]
async fn the_app_services_procedure_works_as_the_page_gives_it() {
    let gateway = Gateway::start().await;
    let login = r#"{"username":"public","apiKey":"private"}"#;
    let login = gateway.ask("POST", "/api/admin/v3.0/auth/providers/mongodb-cloud/login", login).await.json();
    let token = login["access_token"].as_str().unwrap().to_owned();
    let client = Client::new(gateway.address).with_token(Some(token));
    let ask = async |method: &str, path: &str, body: &str| {
        client
            .send(method, &format!("/api/admin/v3.0/groups/{PROJECT}/apps{path}"), &[], body.to_owned())
            .await
            .unwrap()
    };
    let app = ask("GET", "", "").await.json()[0].clone();
    assert_eq!((&app["client_app_id"], &app["provider_region"]), (&json!("myapp-abcde"), &json!("aws-us-east-1")));
    let security = format!("/{}/security", app["_id"].as_str().unwrap());
    let infos = ask("GET", &format!("{security}/private_endpoint_service_infos"), "").await.json();
    assert_eq!(
        infos[0],
        json!({ "cloud_provider_region": "aws-us-east-1", "endpoint_type": "general",
        "service_name": "com.amazonaws.vpce.us-east-1.vpce-svc-0718bec2c0bdeab5c" })
    );
    let list = ask("GET", &format!("{security}/private_endpoints"), "").await.json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let first = format!("{security}/private_endpoints/{}", list[0]["_id"].as_str().unwrap());
    assert_eq!(ask("DELETE", &first, "").await.status, 204);
    assert_eq!(ask("GET", &first, "").await.status, 404);
    let mut body = list[0].clone();
    body["comment"] = json!("again");
    let made = ask("POST", &format!("{security}/private_endpoints"), &body.to_string()).await;
    assert_eq!((made.status, &made.json()["comment"]), (StatusCode::CREATED, &json!("again")));
    body["endpoint_type"] = json!("sync");
    assert_eq!(ask("PUT", &first, &body.to_string()).await.status, 400);
    for (key, value) in [
        ("endpoint_type", "legacy"),
        ("cloud_provider_endpoint_id", "vpce-nonsense"),
        ("cloud_provider_endpoint_id", "vpce-0dead000000000001"),
        ("cloud_provider_region", "azure-eastus"),
    ] {
        let mut wrong = list[0].clone();
        wrong[key] = json!(value);
        let refused = ask("POST", &format!("{security}/private_endpoints"), &wrong.to_string()).await;
        assert_eq!(refused.status, 400, "{key}={value}: {}", refused.text());
        assert!(refused.json()["error_code"].is_string() && refused.json()["error"].is_string());
    }
    let open = r#"{"allow_non_vpc_client_requests":true}"#;
    assert_eq!(ask("POST", &format!("{security}/allow_non_vpc_client_requests"), open).await.status, 204);
    assert!(gateway.control.inventory().apps["myapp-abcde"].allow_non_vpc_requests);
    let bare = gateway.ask("GET", &format!("/api/admin/v3.0/groups/{PROJECT}/apps"), "").await;
    assert_eq!((bare.status.as_u16(), &bare.json()["error_code"]), (401, &json!("InvalidSession")));
}

/// A23: every state of a service and of an endpoint is reached and shown.
#[tokio::test]
async fn every_state_of_services_and_endpoints_is_reached_and_shown() {
    let gateway = Gateway::start().await;
    gateway.control.set_pace(Pace::Frozen).await.unwrap();
    let push = async || assert!(gateway.control.push().await.unwrap(), "something is under way");
    // Creating, available, deleting.
    let new = json!({ "providerName": "AWS", "region": "EU_WEST_1" });
    let made = gateway.atlas("POST", "privateEndpoint/endpointService", new).await.json();
    let path = format!("privateEndpoint/AWS/endpointService/{}", made["id"].as_str().unwrap());
    let service = async || gateway.atlas("GET", &path, Value::Null).await.json();
    assert_eq!(
        (&service().await["status"], &service().await["endpointServiceName"]),
        (&json!("INITIATING"), &Value::Null)
    );
    push().await;
    let available = service().await;
    assert_eq!(
        (&available["status"], &available["interfaceEndpoints"]),
        (&json!("AVAILABLE"), &json!([])),
        "not configured"
    );
    assert_eq!(gateway.atlas("DELETE", &path, Value::Null).await.status, 202);
    assert_eq!(service().await["status"], "DELETING");
    push().await;
    assert_eq!(gateway.atlas("GET", &path, Value::Null).await.status, 404);

    // Failed: a region with more targets than a load balancer takes.
    let specs = json!({ "instanceSize": "M10", "nodeCount": 51 });
    let regions = json!([{ "regionName": "US_WEST_2", "providerName": "AWS", "electableSpecs": specs }]);
    let body =
        json!({ "name": "Crowd", "clusterType": "REPLICASET", "replicationSpecs": [{ "regionConfigs": regions }] });
    assert_eq!(gateway.atlas("POST", "clusters", body).await.status, 201);
    let new = json!({ "providerName": "AWS", "region": "US_WEST_2" });
    let made = gateway.atlas("POST", "privateEndpoint/endpointService", new).await.json();
    let path = format!("privateEndpoint/AWS/endpointService/{}", made["id"].as_str().unwrap());
    let failed = async || {
        let view = gateway.atlas("GET", &path, Value::Null).await.json();
        (view["status"] == "FAILED").then_some(view)
    };
    while failed().await.is_none() {
        push().await;
    }
    let view = failed().await.unwrap();
    assert!(view["errorMessage"].as_str().unwrap().contains("51"), "{view}");

    // Pending acceptance, pending, available, rejected, and by the owner's EC2 call; deleting is tested elsewhere.
    let own = gateway.service().await["id"].as_str().unwrap().to_owned();
    let endpoints = format!("privateEndpoint/AWS/endpointService/{own}/endpoint");
    let endpoint = gateway.make_endpoint(Some(SUBNET)).await;
    gateway.atlas("POST", &endpoints, json!({ "id": endpoint })).await;
    let both = async || {
        let atlas = gateway.atlas("GET", &format!("{endpoints}/{endpoint}"), Value::Null).await.json();
        (atlas["connectionStatus"].as_str().unwrap().to_owned(), gateway.ec2_state(&endpoint).await)
    };
    let pair = |atlas: &str, ec2: &str| (atlas.to_owned(), ec2.to_owned());
    assert_eq!(both().await, pair("PENDING_ACCEPTANCE", "pendingAcceptance"));
    while both().await != pair("PENDING", "pending") {
        push().await;
    }
    while both().await != pair("AVAILABLE", "available") {
        push().await;
    }
    let reject =
        format!("Action=RejectVpcEndpointConnections&ServiceId=vpce-svc-02863655456245e5c&VpcEndpointId.1={endpoint}");
    assert_eq!(gateway.ec2(&reject).await.status, 200);
    assert_eq!(both().await, pair("REJECTED", "rejected"));
    // A rejected endpoint is requested again.
    assert_eq!(gateway.atlas("POST", &endpoints, json!({ "id": endpoint })).await.status, 201);
    assert_eq!(both().await, pair("PENDING_ACCEPTANCE", "pendingAcceptance"));
}

/// A29: a serverless instance has its own private endpoint with its own API, and it carries flows.
#[tokio::test]
async fn a_serverless_instance_has_its_own_private_endpoint() {
    let gateway = Gateway::start().await;
    let settings = json!({ "backingProviderName": "AWS", "providerName": "SERVERLESS", "regionName": "US_EAST_1" });
    let body = json!({ "name": "Less", "providerSettings": settings, "labBackends": ["127.1.0.99:27016"] });
    let made = gateway.atlas("POST", "serverless", body).await;
    assert_eq!((made.status.as_u16(), &made.json()["stateName"]), (201, &json!("CREATING")), "{}", made.text());
    let rows = "privateEndpoint/serverless/instance/Less/endpoint";
    let reserved = gateway.atlas("POST", rows, json!({ "comment": "mine" })).await;
    assert_eq!(reserved.status, 201);
    let reserved = reserved.json();
    assert_eq!(
        (&reserved["status"], &reserved["endpointServiceName"]),
        (&json!("RESERVATION_REQUESTED"), &Value::Null)
    );
    assert_eq!(gateway.atlas("POST", rows, json!({})).await.status, 409, "one each");
    let row = format!("{rows}/{}", reserved["_id"].as_str().unwrap());
    let until = async |wanted: &str| {
        eventually(|| async {
            let view = gateway.atlas("GET", &row, Value::Null).await.json();
            (view["status"] == wanted).then_some(view)
        })
        .await
    };
    let name = until("RESERVED").await["endpointServiceName"].as_str().unwrap().to_owned();
    let create = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={VPC}&ServiceName={name}&SubnetId.1={SUBNET}"
    );
    let endpoint = element(&gateway.ec2(&create).await.text(), "vpcEndpointId");
    let claim = json!({ "providerName": "AWS", "cloudProviderEndpointId": endpoint });
    assert_eq!(gateway.atlas("PATCH", &row, claim).await.json()["cloudProviderEndpointId"], endpoint);
    until("AVAILABLE").await;
    assert_eq!(gateway.ec2_state(&endpoint).await, "available");
    let instance = gateway.atlas("GET", "serverless/Less", Value::Null).await.json();
    let string = &instance["connectionStrings"]["privateEndpoint"][0];
    let srv = string["srvConnectionString"].as_str().unwrap();
    assert!(srv.starts_with("mongodb+srv://less-pl-0-lb.") && srv.ends_with(".mongodb.net"), "{srv}");
    assert_eq!(string["endpoints"][0]["endpointId"], endpoint);
    let snapshot = gateway.control.snapshot();
    let listener =
        snapshot.listeners.values().find(|listener| listener.access.label() == endpoint).expect("it listens");
    assert_eq!(listener.group.members[0].address, "127.1.0.99:27016".parse().unwrap());
    assert_eq!(gateway.atlas("GET", "clusters", Value::Null).await.json()["totalCount"], 2, "rows of its own");
    assert_eq!(gateway.atlas("DELETE", "serverless/Less", Value::Null).await.status, 409);
    assert_eq!(gateway.atlas("DELETE", &row, Value::Null).await.status, 204);
    eventually(|| async { (gateway.atlas("GET", &row, Value::Null).await.status == 404).then_some(()) }).await;
    assert_eq!(gateway.ec2_state(&endpoint).await, "rejected");
    assert_eq!(gateway.atlas("DELETE", "serverless/Less", Value::Null).await.status, 202);
}

/// A29: an Online Archive's endpoint connects to AWS' published service of its region.
#[tokio::test]
async fn online_archives_have_private_endpoints_by_rows_of_their_own() {
    let gateway = Gateway::start().await;
    let name = "com.amazonaws.vpce.us-east-1.vpce-svc-00e311695874992b4";
    let create = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={VPC}&ServiceName={name}&SubnetId.1={SUBNET}"
    );
    let endpoint = element(&gateway.ec2(&create).await.text(), "vpcEndpointId");
    let entry = json!({ "endpointId": endpoint, "comment": "archives", "labBackends": ["127.1.0.98:27017"] });
    let added = gateway.atlas("POST", "privateNetworkSettings/endpointIds", entry).await;
    assert_eq!((added.status.as_u16(), &added.json()["results"][0]["type"]), (200, &json!("DATA_LAKE")));
    let row = format!("privateNetworkSettings/endpointIds/{endpoint}");
    eventually(|| async { (gateway.atlas("GET", &row, Value::Null).await.json()["status"] == "OK").then_some(()) })
        .await;
    let snapshot = gateway.control.snapshot();
    let listener =
        snapshot.listeners.values().find(|listener| listener.access.label() == endpoint).expect("it listens");
    assert_eq!(
        (listener.address.port(), listener.group.members[0].address),
        (27017, "127.1.0.98:27017".parse().unwrap())
    );
    let again = json!({ "endpointId": endpoint, "comment": "renamed" });
    let list = gateway.atlas("POST", "privateNetworkSettings/endpointIds", again).await.json();
    assert_eq!((&list["totalCount"], &list["results"][0]["comment"]), (&json!(1), &json!("renamed")));
    assert_eq!(gateway.atlas("DELETE", &row, Value::Null).await.status, 204);
    eventually(|| async { (gateway.atlas("GET", &row, Value::Null).await.status == 404).then_some(()) }).await;
    assert_eq!(gateway.ec2_state(&endpoint).await, "rejected");
}

/// A19, by Atlas' own request.
#[tokio::test]
async fn regional_mode_is_not_switched_off_with_two_endpoints_here_and_one_there() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.atlas("DELETE", "clusters/Cluster0", Value::Null).await.status, 202);
    let mode = async |on: bool| {
        let answer = gateway.atlas("PATCH", "privateEndpoint/regionalMode", json!({ "enabled": on })).await;
        (answer.status.as_u16(), answer.json()["errorCode"].as_str().unwrap_or_default().to_owned())
    };
    eventually(|| async { (mode(true).await.0 == 202).then_some(()) }).await;
    let register = async |service: &str, endpoint: &str| {
        let path = format!("privateEndpoint/AWS/endpointService/{service}/endpoint");
        let added = gateway.atlas("POST", &path, json!({ "id": endpoint })).await;
        assert_eq!(added.status, 201, "{}", added.text());
        gateway.until(service, endpoint, "AVAILABLE").await;
    };
    let here = gateway.service().await["id"].as_str().unwrap().to_owned();
    register(&here, &gateway.make_endpoint(Some(SUBNET)).await).await;
    let new = json!({ "providerName": "AWS", "region": "EU_WEST_1" });
    let there = gateway.atlas("POST", "privateEndpoint/endpointService", new).await.json();
    let there = there["id"].as_str().unwrap().to_owned();
    let path = format!("privateEndpoint/AWS/endpointService/{there}");
    let service = eventually(|| async {
        let view = gateway.atlas("GET", &path, Value::Null).await.json();
        view["endpointServiceName"].as_str().map(str::to_owned)
    })
    .await;
    let signed = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("authorization", "AWS4-HMAC-SHA256 Credential=a/20260810/eu-west-1/ec2/aws4_request, Signature=x"),
    ];
    let ec2 = async |form: String| {
        let answer = Client::new(gateway.address).send("POST", "/", &signed, form).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    };
    let vpc = element(&ec2("Action=CreateVpc&CidrBlock=127.7.0.0/16".to_owned()).await, "vpcId");
    let subnet = element(&ec2(format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=127.7.1.0/24")).await, "subnetId");
    let form = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={vpc}&ServiceName={service}&SubnetId.1={subnet}"
    );
    let made = ec2(form).await;
    assert_eq!(element(&made, "hostedZoneId"), "Z38GZ743OKFT7T", "a region has its own");
    register(&there, &element(&made, "vpcEndpointId")).await;
    assert_eq!(mode(false).await, (409, "CANNOT_DISABLE_REGIONALIZED_PRIVATE_ENDPOINTS".to_owned()));
}

/// B11: an app that moves to another region does not keep its endpoints.
#[tokio::test]
async fn an_app_that_moves_needs_new_endpoints() {
    let gateway = Gateway::start().await;
    let login = r#"{"username":"public","apiKey":"private"}"#;
    let login = gateway.ask("POST", "/api/admin/v3.0/auth/providers/mongodb-cloud/login", login).await.json();
    let client = Client::new(gateway.address).with_token(Some(login["access_token"].as_str().unwrap().to_owned()));
    let ask = async |method: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        client.send(method, &format!("/api/admin/v3.0/groups/{PROJECT}/apps{path}"), &[], body).await.unwrap()
    };
    let app = ask("GET", "", Value::Null).await.json()[0]["_id"].as_str().unwrap().to_owned();
    let to = json!({ "deployment_model": "LOCAL", "provider_region": "aws-us-west-2" });
    let moved = ask("PUT", &format!("/{app}/deployment_migration"), to).await;
    assert_eq!(
        (moved.status.as_u16(), &moved.json()["provider_region"]),
        (200, &json!("aws-us-west-2")),
        "{}",
        moved.text()
    );
    let list = ask("GET", &format!("/{app}/security/private_endpoints"), Value::Null).await.json();
    assert_eq!(list[0]["cloud_provider_region"], "aws-us-east-1", "it stands where it stood");
    let mut again = list[0].clone();
    again["comment"] = json!("again");
    let refused = ask("POST", &format!("/{app}/security/private_endpoints"), again).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.json()["error"].as_str().unwrap().contains("aws-us-west-2"), "{}", refused.text());
}
