//! Cross-region access through the APIs of both sides: a VPC in `eu-west-1`, the quickstart's service in `us-east-1`.

use serde_json::{Value, json};

use super::fixture::{Gateway, element};
use super::lives_tests::eventually;
use crate::control::Pace;
use crate::plan::ListenerAccess;

const HERE: &str = "eu-west-1";
const SERVICE: &str = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c";

/// A gateway with a VPC and a subnet in [`HERE`].
struct Remote {
    gateway: Gateway,
    vpc: String,
    subnet: String,
    /// The service's path in Atlas' API.
    service: String,
}

impl Remote {
    async fn start() -> Self {
        let gateway = Gateway::start().await;
        let made = gateway.ec2_in(HERE, "Action=CreateVpc&CidrBlock=127.6.0.0/16").await;
        let vpc = element(&made.text(), "vpcId");
        let form = format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=127.6.1.0/24&AvailabilityZone=eu-west-1c");
        let subnet = element(&gateway.ec2_in(HERE, &form).await.text(), "subnetId");
        let service = gateway.service().await["id"].as_str().expect("an id").to_owned();
        Self { gateway, vpc, subnet, service }
    }

    fn form(&self, more: &str) -> String {
        let (vpc, subnet) = (&self.vpc, &self.subnet);
        format!(
            "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={vpc}&ServiceName={SERVICE}&SubnetId.1={subnet}{more}"
        )
    }

    /// A response that must be a success.
    async fn ok(&self, region: &str, form: &str) -> String {
        let answer = self.gateway.ec2_in(region, form).await;
        assert_eq!(answer.status, 200, "{form}: {}", answer.text());
        answer.text()
    }

    /// The error code of a response that must be a refusal.
    async fn code(&self, region: &str, form: &str) -> String {
        let answer = self.gateway.ec2_in(region, form).await;
        assert!(answer.status.is_client_error(), "{form}: {}", answer.text());
        element(&answer.text(), "Code")
    }

    /// Requests on Atlas' side that the service supports `regions`.
    async fn support(&self, regions: Value) -> Value {
        let path = format!("privateEndpoint/endpointService/{}", self.service);
        let body = json!({ "cloudProvider": "AWS", "supportedRemoteRegions": regions });
        self.gateway.atlas("PATCH", &path, body).await.json()
    }

    /// Adds an endpoint to the service on Atlas' side.
    async fn register(&self, endpoint: &str) -> Value {
        let path = format!("privateEndpoint/AWS/endpointService/{}/endpoint", self.service);
        self.gateway.atlas("POST", &path, json!({ "id": endpoint })).await.json()
    }
}

#[tokio::test]
async fn an_endpoint_of_another_region_is_made_once_the_owner_supports_the_region() {
    let remote = Remote::start().await;
    let cross = remote.form("&ServiceRegion=us-east-1");
    let refused = remote.gateway.ec2_in(HERE, &cross).await.text();
    assert_eq!(element(&refused, "Code"), "InvalidServiceName", "{refused}");
    assert!(element(&refused, "Message").contains("add eu-west-1 to its supported remote regions"), "{refused}");

    let changed = remote.support(json!(["EU_WEST_1"])).await;
    assert_eq!((&changed["status"], &changed["supportedRemoteRegions"]), (&json!("INITIATING"), &json!(["EU_WEST_1"])));
    assert_eq!(changed["endpointServiceName"], SERVICE, "it stands meanwhile");
    assert_eq!(remote.code(HERE, &remote.form("")).await, "InvalidServiceName", "the caller's region is the default");
    assert_eq!(remote.code(HERE, &remote.form("&ServiceRegion=eu-west-1")).await, "InvalidServiceName");
    assert_eq!(remote.code(HERE, &remote.form("&ServiceRegion=moon")).await, "InvalidParameterValue");
    assert_eq!(remote.code("us-east-1", &cross).await, "InvalidVpcID.NotFound", "the VPC is not there");

    let made = remote.ok(HERE, &cross).await;
    let endpoint = element(&made, "vpcEndpointId");
    assert_eq!(element(&made, "serviceRegion"), "us-east-1");
    assert!(element(&made, "dnsName").ends_with(".vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com"), "{made}");
    assert!(made.contains("-eu-west-1c.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com"), "{made}");
    remote.register(&endpoint).await;
    remote.gateway.until(&remote.service, &endpoint, "AVAILABLE").await;
    let snapshot = remote.gateway.control.snapshot();
    let through = |listener: &crate::plan::Listener| matches!(&listener.access, ListenerAccess::Endpoint(access) if access.id.as_str() == endpoint);
    assert_eq!(snapshot.listeners.values().filter(|listener| through(listener)).count(), 4, "a port for each target");

    // The consumer sees it in the VPC's region, the owner in the service's.
    let describe = format!("Action=DescribeVpcEndpoints&VpcEndpointId.1={endpoint}");
    remote.ok(HERE, &describe).await;
    assert_eq!(remote.code("us-east-1", &describe).await, "InvalidVpcEndpointId.NotFound");
    let filter = "&Filter.1.Name=vpc-endpoint-region&Filter.1.Value.1=eu-west-1";
    let connections = format!("Action=DescribeVpcEndpointConnections{filter}");
    let seen = remote.ok("us-east-1", &connections).await;
    assert_eq!((element(&seen, "vpcEndpointId"), element(&seen, "vpcEndpointRegion")), (endpoint, HERE.to_owned()));
    assert_eq!(element(&remote.ok(HERE, &connections).await, "vpcEndpointId"), "");
    let interfaces = remote.ok(HERE, "Action=DescribeNetworkInterfaces").await;
    assert_eq!(element(&interfaces, "availabilityZone"), "eu-west-1c");
    let v1 = remote.gateway.ask("GET", "/v1/private-endpoints", "").await.json();
    let service =
        v1["private_endpoints"].as_array().expect("services").iter().find(|s| s["kind"] == "atlas").expect("one");
    assert_eq!(service["supported_remote_regions"], json!(["eu-west-1"]));
    let mut regions: Vec<_> =
        service["endpoints"].as_array().expect("endpoints").iter().map(|of| &of["region"]).collect();
    regions.sort_by_key(ToString::to_string);
    assert_eq!(regions, [HERE, "us-east-1"]);
}

/// AWS PrivateLink, *Configure an endpoint service*: existing endpoints stay.
#[tokio::test]
async fn a_region_that_is_taken_away_keeps_its_endpoints_and_gets_no_new_one() {
    let remote = Remote::start().await;
    remote.support(json!(["EU_WEST_1", "EU_WEST_2"])).await;
    let cross = remote.form("&ServiceRegion=us-east-1");
    let [first, late] = [
        element(&remote.ok(HERE, &cross).await, "vpcEndpointId"),
        element(&remote.ok(HERE, &cross).await, "vpcEndpointId"),
    ];
    remote.register(&first).await;
    remote.gateway.until(&remote.service, &first, "AVAILABLE").await;
    for none in [json!([]), Value::Null] {
        assert_eq!(remote.support(none).await["supportedRemoteRegions"], Value::Null);
    }
    assert_eq!(remote.code(HERE, &cross).await, "InvalidServiceName");
    remote.gateway.until(&remote.service, &first, "AVAILABLE").await;
    // An endpoint that Atlas does not know yet is refused there, until the region is supported again and it is added
    // again.
    let refused = remote.register(&late).await;
    assert_eq!(refused["connectionStatus"], "REJECTED", "{refused}");
    assert!(refused["errorMessage"].as_str().expect("why").contains("EU_WEST_1"), "{refused}");
    remote.support(json!(["EU_WEST_1"])).await;
    remote.register(&late).await;
    remote.gateway.until(&remote.service, &late, "AVAILABLE").await;
}

#[tokio::test]
async fn services_are_listed_where_endpoints_to_them_can_be_made() {
    let remote = Remote::start().await;
    let names = |text: String| text.matches(&format!("<item>{SERVICE}</item>")).count();
    let by_name = format!("Action=DescribeVpcEndpointServices&ServiceName.1={SERVICE}");
    let list = "Action=DescribeVpcEndpointServices&ServiceRegion.1=us-east-1";
    assert_eq!(names(remote.ok(HERE, list).await), 0);
    assert_eq!(names(remote.ok("us-east-1", list).await), 1);
    remote.support(json!(["EU_WEST_1"])).await;
    let seen = remote.ok(HERE, list).await;
    assert_eq!(element(&seen, "serviceRegion"), "us-east-1");
    assert_eq!(names(seen), 1);
    assert_eq!(names(remote.ok("eu-west-2", list).await), 0);
    assert_eq!(remote.code(HERE, &by_name).await, "InvalidServiceName");
    assert_eq!(names(remote.ok(HERE, &format!("{by_name}&ServiceRegion.1=us-east-1")).await), 1);
    assert_eq!(
        remote.code(HERE, "Action=DescribeVpcEndpointServices&ServiceRegion.1=moon").await,
        "InvalidParameterValue"
    );
}

#[tokio::test]
async fn a_zone_without_cross_region_access_takes_no_endpoint() {
    let gateway = Gateway::start().await;
    let path = "privateEndpoint/endpointService";
    let body = json!({ "providerName": "AWS", "region": "EU_WEST_1", "supportedRemoteRegions": ["US_EAST_1"] });
    let made = gateway.atlas("POST", path, body).await.json();
    let one = format!("privateEndpoint/AWS/endpointService/{}", made["id"].as_str().expect("an id"));
    let name = eventually(|| async {
        gateway.atlas("GET", &one, Value::Null).await.json()["endpointServiceName"].as_str().map(str::to_owned)
    })
    .await;
    let vpc = element(&gateway.ec2("Action=CreateVpc&CidrBlock=127.7.0.0/16").await.text(), "vpcId");
    for (third, zone, status) in [(1, "us-east-1c", 400), (2, "us-east-1f", 200)] {
        let form = format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=127.7.{third}.0/24&AvailabilityZone={zone}");
        let subnet = element(&gateway.ec2(&form).await.text(), "subnetId");
        let form = format!(
            "Action=CreateVpcEndpoint&VpcEndpointType=Interface&VpcId={vpc}&ServiceName={name}&ServiceRegion=eu-west-1\
             &SubnetId.1={subnet}"
        );
        let answer = gateway.ec2(&form).await;
        assert_eq!(answer.status, status, "{zone}: {}", answer.text());
        if status == 400 {
            let message = element(&answer.text(), "Message");
            assert!(message.contains("does not support the availability zone of the subnet"), "{message}");
        }
    }
}

#[tokio::test]
async fn atlas_refuses_what_cannot_be_supported() {
    let remote = Remote::start().await;
    let gateway = &remote.gateway;
    let code = |view: Value| view["errorCode"].as_str().unwrap_or("none").to_owned();
    assert_eq!(code(remote.support(json!(["US_EAST_1"])).await), "CROSS_REGION_PRIVATE_LINK_SELF_REGION");
    assert_eq!(code(remote.support(json!(["eu-west-1"])).await), "INVALID_ATTRIBUTE");
    assert_eq!(code(remote.support(json!(["MOON_WEST_1"])).await), "INVALID_ATTRIBUTE");
    assert_eq!(code(remote.support(json!(vec!["EU_WEST_1"; 36])).await), "INVALID_ATTRIBUTE");
    let path = format!("privateEndpoint/endpointService/{}", remote.service);
    for (body, wanted) in [
        (json!({ "supportedRemoteRegions": [] }), "MISSING_ATTRIBUTE"),
        (json!({ "cloudProvider": "AZURE", "supportedRemoteRegions": [] }), "PROVIDER_UNSUPPORTED"),
        (json!({ "cloudProvider": "MOON", "supportedRemoteRegions": [] }), "INVALID_ATTRIBUTE"),
    ] {
        assert_eq!(code(gateway.atlas("PATCH", &path, body).await.json()), wanted);
    }
    let body = json!({ "providerName": "AZURE", "region": "EUROPE_WEST", "supportedRemoteRegions": ["US_EAST_2"] });
    assert_eq!(
        code(gateway.atlas("POST", "privateEndpoint/endpointService", body).await.json()),
        "PROVIDER_UNSUPPORTED"
    );
    assert_eq!(gateway.service().await["status"], "AVAILABLE", "nothing was changed");
    gateway.control.set_pace(Pace::Frozen).await.expect("a pace");
    gateway.atlas("DELETE", &format!("privateEndpoint/AWS/endpointService/{}", remote.service), Value::Null).await;
    assert_eq!(code(remote.support(json!(["EU_WEST_1"])).await), "PRIVATE_ENDPOINT_SERVICE_NOT_READY");
}
