//! Targets, endpoints and the process itself going away under open flows.

use std::time::Duration;

use plgw::config::Config;

use crate::support::{ClientNetwork, Closed, EchoTarget, Flow, Net, TestGateway};

/// The same config without member `a`.
fn without_a(net: &Net, change: impl FnOnce(&mut Config)) -> plgw::model::Desired {
    let mut config = net.config();
    change(&mut config);
    config.desired.projects[0].clusters[0].nodes.remove(0);
    config.desired
}

fn quick_delay(config: &mut Config) {
    let attributes = &mut config.desired.projects[0].services[0].attributes;
    attributes.deregistration_delay = Duration::from_millis(300);
}

fn quick_cut(config: &mut Config) {
    quick_delay(config);
    config.desired.projects[0].services[0].attributes.terminate_on_deregistration = true;
}

#[tokio::test]
async fn a_deregistered_target_keeps_its_flows_until_the_delay_ends_when_termination_is_on() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, quick_cut).await;
    let mut flow = gateway.dial("a").await;
    flow.echo(b"before").await;
    let address = gateway.address("a");
    gateway.gateway.control().replace_inventory(Ok(without_a(&gateway.net, quick_cut))).await.expect("applied");
    assert_eq!(flow.echo(b"still here").await, b"still here");
    let source = gateway.net.source(ClientNetwork::Vpc);
    eventually_refused(source, address).await;
    assert_eq!(flow.closed().await, Closed::Reset);
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="drained""#], 1.0).await;
}

/// NLB's default: a draining target keeps its flows, even beyond the delay.
#[tokio::test]
async fn a_deregistered_target_keeps_its_flows_when_termination_is_off() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let no_delay = |config: &mut Config| {
        config.desired.projects[0].services[0].attributes.deregistration_delay = Duration::ZERO;
    };
    let gateway = TestGateway::start_with(net, no_delay).await;
    let mut flow = gateway.dial("a").await;
    flow.echo(b"before").await;
    let address = gateway.address("a");
    gateway.gateway.control().replace_inventory(Ok(without_a(&gateway.net, no_delay))).await.expect("applied");
    eventually_refused(gateway.net.source(ClientNetwork::Vpc), address).await;
    assert_eq!(flow.echo(b"long after").await, b"long after");
}

/// A released port is assigned again; when its next owner is removed, flows of the previous one are not reset.
#[tokio::test]
async fn a_moved_target_does_not_affect_flows_of_its_ports_former_owner() {
    let net = Net::claim();
    let _echoes = [EchoTarget::start(net.target(0)).await, EchoTarget::start(net.target(1)).await];
    let gateway = TestGateway::start_with(net, |config| {
        quick_delay(config);
        config.settings.move_grace = Duration::ZERO;
    })
    .await;
    let mut former = gateway.dial("a").await;
    former.echo(b"before").await;
    let port = gateway.address("a").port();
    gateway.gateway.control().replace_inventory(Ok(without_a(&gateway.net, quick_delay))).await.expect("applied");
    let target: plgw::model::TargetId = "Cluster0/b".parse().expect("an id");
    // Released once the delay is over.
    loop {
        let moved = gateway.gateway.control().move_target(target.clone(), None, port.try_into().ok()).await;
        if moved.is_ok() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut next = gateway.dial("b").await;
    next.echo(b"at the same port").await;
    gateway.gateway.control().move_target(target, None, None).await.expect("moved away");
    assert_eq!(next.closed().await, Closed::Reset);
    assert_eq!(former.echo(b"still here").await, b"still here");
}

/// A26: removing an endpoint closes its ports, deletes its names, and resets the remaining flows after the delay.
#[tokio::test]
async fn a_removed_endpoint_takes_its_ports_names_and_flows_along() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, quick_delay).await;
    let mut flow = gateway.dial("a").await;
    flow.echo(b"before").await;
    let address = gateway.address("a");
    let mut config = gateway.net.config();
    quick_delay(&mut config);
    config.desired.endpoints.clear();
    gateway.gateway.control().replace_inventory(Ok(config.desired)).await.expect("applied");
    let names = &gateway.gateway.snapshot().dns.public;
    assert!(!names.values().any(|zone| zone.records.keys().any(|name| name.as_str().starts_with("pl-0"))));
    eventually_refused(gateway.net.source(ClientNetwork::Vpc), address).await;
    assert_eq!(flow.closed().await, Closed::Reset);
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="drained""#], 1.0).await;
}

/// `DescribeTargetHealth` shows a deregistered target as `draining` until its delay is over.
#[tokio::test]
async fn a_target_that_left_with_its_port_is_shown_as_draining_until_it_has_drained() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        config.settings.admin = Some((std::net::Ipv4Addr::LOCALHOST, 0).into());
    })
    .await;
    let admin = plgw::api::client::Client::new(gateway.gateway.admin_address().expect("it has an admin API"));
    let states = async || {
        let targets: serde_json::Value = admin.get("/v1/targets").await.expect("an answer");
        let state = |target: &serde_json::Value| {
            (
                target["id"].as_str().unwrap_or_default().to_owned(),
                target["state"].as_str().unwrap_or_default().to_owned(),
            )
        };
        let states = targets["targets"].as_array().expect("a list").iter().map(state);
        states.filter(|(id, _)| id == "Cluster0/a").collect::<Vec<_>>()
    };
    let mut flow = gateway.dial("a").await;
    flow.echo(b"before").await;
    gateway.gateway.control().replace_inventory(Ok(without_a(&gateway.net, |_| {}))).await.expect("applied");
    assert_eq!(states().await, [("Cluster0/a".to_owned(), "draining".to_owned())]);
    gateway.expect_metric("plgw_targets", &[r#"state="draining""#], 1.0).await;
    gateway.expect_metric("plgw_target_slots_used", &[], 2.0).await;
    assert_eq!(flow.echo(b"drains").await, b"drains");
    drop(flow);
    let deadline = tokio::time::Instant::now() + crate::support::SOON;
    while !states().await.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "it still drains");
    }
    gateway.expect_metric("plgw_targets", &[r#"state="draining""#], 0.0).await;
}

#[tokio::test]
async fn a_stop_waits_for_flows_and_resets_those_that_outlast_the_grace() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let TestGateway { gateway, net } = TestGateway::start(net).await;
    let address = (net.endpoint_a(), 1024).into();
    let source = net.source(ClientNetwork::Vpc);
    let mut brief = Flow::connect(source, address).await.expect("it accepts");
    let mut stubborn = Flow::connect(source, address).await.expect("it accepts");
    brief.echo(b"x").await;
    stubborn.echo(b"x").await;
    let stopping = tokio::spawn(gateway.stop_within(Duration::from_millis(500)));
    eventually_refused(source, address).await;
    assert_eq!(brief.echo(b"in the grace").await, b"in the grace");
    use tokio::io::AsyncWriteExt;
    brief.stream.shutdown().await.expect("FIN");
    assert_eq!(brief.closed().await, Closed::Fin);
    assert_eq!(stubborn.closed().await, Closed::Reset);
    let carried = stopping.await.expect("it stops");
    assert!(carried.flows >= 2, "and those that found the port still open");
    assert_eq!(carried.bytes_to_target, 14);
}

/// Connections in a socket's backlog are accepted until it closes, and are then reset.
async fn eventually_refused(source: std::net::IpAddr, address: std::net::SocketAddr) {
    loop {
        match Flow::connect(source, address).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return,
            _ => tokio::task::yield_now().await,
        }
    }
}
