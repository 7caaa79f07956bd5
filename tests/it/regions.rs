//! Cross-region access: a client in another region's VPC, and the load balancer of the service's region.

use std::collections::BTreeSet;
use std::time::Duration;

use plgw::config::{Config, FlowLogSettings, TrafficType};

use crate::flow_logs;
use crate::support::{ClientNetwork, EchoTarget, Flow, Net, TestGateway, eventually};

/// The VPC and its endpoint are in `eu-west-1`, and the service in `us-east-1` supports that.
fn from_europe(config: &mut Config) {
    let desired = &mut config.desired;
    let here = |zone: &plgw::model::Zone| zone.as_str().replace("us-east-1", "eu-west-1").parse().expect("a zone");
    let vpc = desired.vpcs.values_mut().next().expect("one VPC");
    vpc.region = "eu-west-1".parse().expect("a region");
    vpc.subnets.values_mut().for_each(|subnet| subnet.zone = here(&subnet.zone));
    let endpoint = desired.endpoints.values_mut().next().expect("one endpoint");
    endpoint.addresses.iter_mut().for_each(|address| address.zone = here(&address.zone));
    desired.projects[0].services[0].remote_regions = vec!["eu-west-1".parse().expect("a region")];
}

/// A31: every node through every address, the region in flow logs and metrics, the service's region in names.
#[tokio::test]
async fn a_client_of_another_region_reaches_every_node_by_the_services_names() {
    let directory = tempfile::tempdir().expect("a directory");
    let net = Net::claim();
    let _echoes = EchoTarget::start_three(&net).await;
    let gateway = TestGateway::start_with(net, |config| {
        from_europe(config);
        let format = "${region} ${az-id} ${srcaddr} ${log-status}".parse().expect("a format");
        let accepted = flow_logs::settings(directory.path(), Duration::from_secs(1), TrafficType::Accept);
        config.settings.flow_logs = Some(FlowLogSettings { format, ..accepted });
    })
    .await;
    let source = gateway.net.source(ClientNetwork::Vpc);
    for ip in [gateway.net.endpoint_a(), gateway.net.endpoint_b()] {
        for member in ["a", "b", "c"] {
            let mut flow = Flow::connect(source, (ip, gateway.port(member)).into()).await.expect("it accepts");
            assert_eq!(flow.echo(member.as_bytes()).await, member.as_bytes());
        }
    }
    assert_eq!(
        gateway.answers().await,
        BTreeSet::from([gateway.net.endpoint_a(), gateway.net.endpoint_b()]).into_iter().collect::<Vec<_>>()
    );
    let labels = ["region=\"eu-west-1\"", "service_region=\"us-east-1\""];
    assert_eq!(gateway.metric("plgw_endpoint_info", &labels), Some(1.0));
    assert_eq!(gateway.metric("plgw_flows_opened_total", &["zone=\"eu-west-1a\""]), Some(3.0));
    let source = source.to_string();
    let line = eventually("a record of the client's flows", || {
        let text = std::fs::read_to_string(directory.path().join("flow.log")).unwrap_or_default();
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        text.lines().map(words).find(|words| words[2] == source && words[1] == "euw1-az1").ok_or(text)
    })
    .await;
    assert_eq!((line[0].as_str(), line[3].as_str()), ("eu-west-1", "OK"), "the interface's region");
}

/// A31: a zone of the client's region is none of the load balancer's.
#[tokio::test]
async fn without_cross_zone_load_balancing_a_client_of_another_region_still_reaches_every_node() {
    let net = Net::claim();
    let _echoes = EchoTarget::start_three(&net).await;
    let gateway = TestGateway::start_with(net, |config| {
        from_europe(config);
        config.desired.projects[0].services[0].attributes.cross_zone = false;
    })
    .await;
    for member in ["a", "b", "c"] {
        assert_eq!(gateway.dial(member).await.echo(b"x").await, b"x", "{member}");
    }
}
