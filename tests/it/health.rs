//! The effect of a target's health on its port and its flows.

use std::time::Duration;

use plgw::config::Config;
use plgw::model::{ClusterKind, TargetState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::support::{
    ClientNetwork, Closed, DyingTarget, EchoTarget, Flow, Net, Resolver, SOON, SilentTarget, TestGateway, eventually,
};

/// Probes often enough for a test.
pub(crate) fn quick_checks(config: &mut Config) {
    let check = &mut config.desired.projects[0].services[0].attributes.health_check;
    (check.interval, check.timeout) = (Duration::from_millis(50), Duration::from_millis(50));
    (check.healthy_threshold, check.unhealthy_threshold) = (2, 2);
}

/// One port for all three nodes, as mongos behind an optimized string.
pub(crate) fn optimized(config: &mut Config) {
    config.desired.projects[0].clusters[0].kind = ClusterKind::Sharded { optimized: true };
}

pub(crate) async fn state_of(gateway: &TestGateway, member: &str, state: TargetState) {
    eventually(&format!("{member} {}", state.label()), || {
        let snapshot = gateway.gateway.snapshot();
        let members: Vec<_> = snapshot.targets.iter().flat_map(|target| target.members.clone()).collect();
        let found = members.iter().find(|other| other.name == member);
        found.is_some_and(|member| member.state == state).then_some(()).ok_or(members)
    })
    .await;
}

/// Fail-open with one target: the client sees the target's own state, as through AWS: a refusal, not a reset.
#[tokio::test]
async fn the_port_of_a_target_that_refuses_refuses_and_accepts_again_with_it() {
    let net = Net::claim();
    let echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    assert_eq!(gateway.dial("a").await.echo(b"up").await, b"up");
    drop(echo);
    let (source, address) = (gateway.net.source(ClientNetwork::Vpc), gateway.address("a"));
    // The first client detects it for all; the interval of the health checks is 30 s here.
    eventually_connects(source, address, false).await;
    // Nothing listens there now, yet no other socket may bind it: std sets SO_REUSEADDR, as most servers do.
    let taken = std::net::TcpListener::bind(address).expect_err("the gateway keeps the port");
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    let _echo = EchoTarget::start(gateway.net.target(0)).await;
    eventually_connects(source, address, true).await;
    assert_eq!(gateway.dial("a").await.echo(b"up again").await, b"up again");
}

async fn eventually_connects(source: std::net::IpAddr, address: std::net::SocketAddr, connects: bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        match Flow::connect(source, address).await {
            Ok(_) if connects => return,
            Err(error) if !connects && error.kind() == std::io::ErrorKind::ConnectionRefused => return,
            other => assert!(tokio::time::Instant::now() < deadline, "{other:?}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_target_that_never_listened_makes_its_port_refuse() {
    let gateway = TestGateway::start(Net::claim()).await;
    eventually_connects(gateway.net.source(ClientNetwork::Vpc), gateway.address("b"), false).await;
    state_of(&gateway, "b", TargetState::Initial).await;
}

/// Fail-open with one target: with a silent target, the client's connect times out.
#[tokio::test]
async fn the_port_of_a_silent_target_is_silent_and_answers_again_with_it() {
    let net = Net::claim();
    let silent = SilentTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, quick_checks).await;
    state_of(&gateway, "a", TargetState::Unhealthy).await;
    let (source, address) = (gateway.net.source(ClientNetwork::Vpc), gateway.address("a"));
    let attempt = async || {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((source, 0).into()).expect("a port");
        tokio::time::timeout(Duration::from_millis(100), socket.connect(address)).await
    };
    // The listeners learn of it one after another.
    let deadline = tokio::time::Instant::now() + SOON;
    while let Ok(connected) = attempt().await {
        assert!(connected.is_ok(), "silence is neither RST nor refusal: {connected:?}");
        assert!(tokio::time::Instant::now() < deadline, "the port still accepts");
    }
    drop(silent);
    let _echo = EchoTarget::start(gateway.net.target(0)).await;
    eventually_connects(source, address, true).await;
    assert_eq!(gateway.dial("a").await.echo(b"answers").await, b"answers");
}

/// Opens flows through the optimized port until `member` has one.
async fn flow_on(gateway: &TestGateway, member: &str) -> Flow {
    loop {
        let address = (gateway.net.endpoint_a(), gateway.port("lb")).into();
        let mut flow = Flow::connect(gateway.net.source(ClientNetwork::Vpc), address).await.expect("it accepts");
        let mut header = [0; 100];
        flow.stream.write_all(b"x").await.expect("written");
        flow.stream.read_exact(&mut header).await.expect("the echoed PROXY header");
        let mut one = [0; 1];
        flow.stream.read_exact(&mut one).await.expect("the echo");
        let client = flow.stream.local_addr().expect("connected");
        if gateway.gateway.flows().iter().any(|view| view.client == client && view.member == member) {
            return flow;
        }
    }
}

/// NLB: `target_health_state.unhealthy.connection_termination.enabled`, on.
#[tokio::test]
async fn flows_of_a_target_that_becomes_unhealthy_are_reset_while_others_are_healthy() {
    let net = Net::claim();
    let dying = DyingTarget::start(net.target(0)).await;
    let _others = [EchoTarget::start(net.target(1)).await, EchoTarget::start(net.target(2)).await];
    let gateway = TestGateway::start_with(net, |config| {
        quick_checks(config);
        optimized(config);
    })
    .await;
    for member in ["a", "b", "c"] {
        state_of(&gateway, member, TargetState::Healthy).await;
    }
    let mut doomed = flow_on(&gateway, "a").await;
    let mut spared = flow_on(&gateway, "b").await;
    dying.stop_listening();
    assert_eq!(doomed.closed().await, Closed::Reset);
    assert_eq!(spared.echo(b"spared").await, b"spared");
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="drained""#], 1.0).await;
    gateway.expect_metric("plgw_tcp_resets_total", &[r#"origin="elb""#], 1.0).await;
    // A mongos that died takes no new flow.
    for _ in 0..50 {
        let _flow = flow_on(&gateway, "c").await;
    }
    let on_a = gateway.gateway.flows().iter().filter(|flow| flow.member == "a").count();
    assert_eq!(on_a, 0);
}

/// NLB: `dns_failover.minimum_healthy_targets.percentage` and `unhealthy_state_routing…`: each threshold that is not
/// met takes effect.
#[tokio::test]
async fn a_zone_below_its_share_of_healthy_targets_leaves_dns_and_its_group_fails_open() {
    let net = Net::claim();
    let dying = DyingTarget::start(net.target(0)).await;
    let _others = [EchoTarget::start(net.target(1)).await, EchoTarget::start(net.target(2)).await];
    let gateway = TestGateway::start_with(net, |config| {
        quick_checks(config);
        optimized(config);
        let project = &mut config.desired.projects[0];
        let zones = ["us-east-1a", "us-east-1a", "us-east-1b"];
        for (node, zone) in project.clusters[0].nodes.iter_mut().zip(zones) {
            node.zone = zone.parse().expect("a zone");
        }
        let attributes = &mut project.services[0].attributes;
        attributes.cross_zone = false;
        attributes.dns_minimum.percentage = Some(51);
        attributes.routing_minimum.percentage = Some(51);
    })
    .await;
    let (a, b) = (gateway.net.endpoint_a(), gateway.net.endpoint_b());
    for member in ["a", "b", "c"] {
        state_of(&gateway, member, TargetState::Healthy).await;
    }
    assert_eq!(gateway.answers().await, [b, a]);
    let mut spared = flow_on(&gateway, "a").await;
    dying.stop_listening();
    state_of(&gateway, "a", TargetState::Unhealthy).await;
    assert_eq!(gateway.answers().await, [b], "one of two is less than 51 %");
    assert_eq!(spared.echo(b"still").await, b"still", "the group fails open, and its resets are suspended");
}

/// NLB does not reset flows while the group fails open, or with the attribute off.
#[tokio::test]
async fn flows_of_an_unhealthy_target_live_on_in_fail_open_or_with_termination_off() {
    for off in [false, true] {
        let net = Net::claim();
        let dying = DyingTarget::start(net.target(0)).await;
        let gateway = TestGateway::start_with(net, |config| {
            quick_checks(config);
            config.desired.projects[0].services[0].attributes.terminate_on_unhealthy = !off;
        })
        .await;
        state_of(&gateway, "a", TargetState::Healthy).await;
        let mut flow = gateway.dial("a").await;
        flow.echo(b"before").await;
        dying.stop_listening();
        state_of(&gateway, "a", TargetState::Unhealthy).await;
        assert_eq!(flow.echo(b"after").await, b"after", "off: {off}");
    }
}

#[tokio::test]
async fn with_termination_off_an_unhealthy_target_drains_first() {
    let net = Net::claim();
    let dying = DyingTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        quick_checks(config);
        let attributes = &mut config.desired.projects[0].services[0].attributes;
        attributes.terminate_on_unhealthy = false;
        attributes.unhealthy_draining_interval = Duration::from_millis(300);
    })
    .await;
    state_of(&gateway, "a", TargetState::Healthy).await;
    dying.stop_listening();
    state_of(&gateway, "a", TargetState::UnhealthyDraining).await;
    state_of(&gateway, "a", TargetState::Unhealthy).await;
}

/// A member that is removed from a group drains: no new flows, open ones until the delay is over, then as the attribute
/// says.
#[tokio::test]
async fn a_deregistered_member_drains_and_its_flows_are_reset_if_the_attribute_is_set() {
    let net = Net::claim();
    let _echoes = [
        EchoTarget::start(net.target(0)).await,
        EchoTarget::start(net.target(1)).await,
        EchoTarget::start(net.target(2)).await,
    ];
    let change = |config: &mut Config| {
        optimized(config);
        let attributes = &mut config.desired.projects[0].services[0].attributes;
        attributes.deregistration_delay = Duration::from_millis(400);
        attributes.terminate_on_deregistration = true;
    };
    let gateway = TestGateway::start_with(net, change).await;
    let mut leaving = flow_on(&gateway, "a").await;
    let mut staying = flow_on(&gateway, "b").await;
    let mut config = gateway.net.config();
    change(&mut config);
    config.desired.projects[0].clusters[0].nodes.remove(0);
    gateway.gateway.control().replace_inventory(Ok(config.desired)).await.expect("applied");
    state_of(&gateway, "a", TargetState::Draining).await;
    assert_eq!(leaving.echo(b"still").await, b"still");
    assert_eq!(leaving.closed().await, Closed::Reset);
    assert_eq!(staying.echo(b"stays").await, b"stays");
    eventually("a is gone", || {
        let snapshot = gateway.gateway.snapshot();
        let members = snapshot.targets[0].members.clone();
        (members.len() == 2).then_some(()).ok_or(members)
    })
    .await;
    assert_eq!(staying.echo(b"stays").await, b"stays");
}

/// NLB: an address leaves DNS while any target group has no healthy target for its zone; with all zones so, all are
/// answered. With cross-zone off, one dead mongod takes its zone's address out.
#[tokio::test]
async fn a_zone_without_healthy_targets_leaves_dns_and_comes_back() {
    let net = Net::claim();
    let in_a = DyingTarget::start(net.target(0)).await;
    let _in_b = [EchoTarget::start(net.target(1)).await, EchoTarget::start(net.target(2)).await];
    let gateway = TestGateway::start_with(net, |config| {
        quick_checks(config);
        optimized(config);
        config.desired.projects[0].services[0].attributes.cross_zone = false;
    })
    .await;
    let (a, b) = (gateway.net.endpoint_a(), gateway.net.endpoint_b());
    for member in ["a", "b", "c"] {
        state_of(&gateway, member, TargetState::Healthy).await;
    }
    assert_eq!(gateway.answers().await, [b, a]);
    in_a.stop_listening();
    state_of(&gateway, "a", TargetState::Unhealthy).await;
    assert_eq!(gateway.answers().await, [b]);
    gateway.expect_metric("plgw_zonal_health", &[r#"zone="us-east-1a""#], 0.0).await;
    // The zonal name always has the zone's address, healthy or not.
    assert_eq!(zonal_answers(&gateway, "us-east-1a").await, [a]);
    assert_eq!(zonal_answers(&gateway, "us-east-1b").await, [b]);
    let _back = EchoTarget::start(gateway.net.target(0)).await;
    state_of(&gateway, "a", TargetState::Healthy).await;
    assert_eq!(gateway.answers().await, [b, a]);
    gateway.expect_metric("plgw_zonal_health", &[r#"zone="us-east-1a""#], 1.0).await;
}

/// The addresses of the endpoint's zonal name.
async fn zonal_answers(gateway: &TestGateway, zone: &str) -> Vec<std::net::IpAddr> {
    let name =
        format!("vpce-024f5b57108c8d3ed-ypwbxwll-{zone}.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com");
    let resolver = Resolver::new(gateway.net.source(ClientNetwork::Vpc), gateway.net.dns()).await;
    resolver.addresses(&name).await
}

/// NLB: with cross-zone off, a node uses only the targets in its zone.
#[tokio::test]
async fn without_cross_zone_an_address_leads_to_the_targets_of_its_zone() {
    let net = Net::claim();
    let _echoes = [
        EchoTarget::start(net.target(0)).await,
        EchoTarget::start(net.target(1)).await,
        EchoTarget::start(net.target(2)).await,
    ];
    let gateway = TestGateway::start_with(net, |config| {
        optimized(config);
        config.desired.projects[0].services[0].attributes.cross_zone = false;
    })
    .await;
    let port = gateway.port("lb");
    for (address, own) in [(gateway.net.endpoint_a(), &["a"][..]), (gateway.net.endpoint_b(), &["b", "c"])] {
        let mut flows = Vec::new();
        for _ in 0..30 {
            let mut flow = Flow::connect(gateway.net.source(ClientNetwork::Vpc), (address, port).into())
                .await
                .expect("it accepts");
            flow.stream.read_exact(&mut [0; 100]).await.expect("the echoed PROXY header");
            flows.push(flow);
        }
        let views = gateway.gateway.flows().into_iter().filter(|view| view.listener.ip() == address);
        let met: std::collections::BTreeSet<_> = views.map(|view| view.member).collect();
        assert_eq!(met.iter().map(String::as_str).collect::<Vec<_>>(), own, "through {address}");
    }
}

/// NLB: a zonal shift takes the zone's address out of DNS and gives its targets no new flow, cross-zone or not; open
/// flows continue, and zonal names still resolve.
#[tokio::test]
async fn a_zonal_shift_keeps_open_flows_and_admits_no_new_ones() {
    let net = Net::claim();
    let _echoes = [
        EchoTarget::start(net.target(0)).await,
        EchoTarget::start(net.target(1)).await,
        EchoTarget::start(net.target(2)).await,
    ];
    let gateway = TestGateway::start_with(net, optimized).await;
    let mut before = flow_on(&gateway, "a").await;
    let control = gateway.gateway.control();
    let (zone_a, zone_b) = ("us-east-1a".parse().expect("a zone"), "us-east-1b".parse().expect("a zone"));
    control.shift_zone(zone_a, None).await.expect("shifted");
    let second = control.shift_zone(zone_b, None).await.expect_err("one at a time");
    assert!(second.to_string().contains("us-east-1a"), "{second}");
    assert_eq!(gateway.answers().await, [gateway.net.endpoint_b()]);
    assert_eq!(zonal_answers(&gateway, "us-east-1a").await, [gateway.net.endpoint_a()]);
    assert_eq!(before.echo(b"runs on").await, b"runs on");
    for _ in 0..60 {
        let _new = flow_on(&gateway, "b").await;
    }
    let on_a = gateway.gateway.flows().iter().filter(|flow| flow.member == "a").count();
    assert_eq!(on_a, 1, "the one from before");
    let unknown = control.shift_zone("eu-west-1a".parse().expect("a zone"), None).await.expect_err("no such zone");
    assert!(unknown.to_string().contains("us-east-1a, us-east-1b"), "{unknown}");
    control.end_zonal_shift("us-east-1a".parse().expect("a zone"), None).await.expect("ended");
    assert_eq!(gateway.answers().await.len(), 2);
    let _new = flow_on(&gateway, "a").await;
}
