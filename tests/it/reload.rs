//! Another config under load: all of it or nothing.

use std::path::Path;
use std::time::Duration;

use plgw::app::{Gateway, GatewayOptions};
use plgw::config;

use crate::support::{ClientNetwork, EchoTarget, Flow, Net, TestGateway, eventually};

async fn start_from(file: &Path, net: &Net) -> Gateway {
    std::fs::write(file, net.text()).expect("written");
    let config = config::load(file).unwrap_or_else(|errors| panic!("{errors}"));
    let options = GatewayOptions { source: Some(file.to_owned()), ..GatewayOptions::default() };
    Gateway::start(config, options).await.expect("the gateway starts")
}

#[tokio::test]
async fn a_changed_file_is_applied_and_open_flows_stay() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("gateway.toml");
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = start_from(&file, &net).await;
    let gateway = TestGateway { gateway, net };
    assert_eq!(gateway.metric("plgw_reload_last_ok", &[]), Some(1.0), "what it started with was taken over");
    assert_eq!(gateway.metric("plgw_reloads_total", &[]), Some(0.0), "and was no reload");
    let mut flow = gateway.dial("a").await;
    flow.echo(b"before").await;
    let text = gateway.net.text();
    let fewer = text.replace(
        &text[text.find("[[project.cluster.node]]\nname = \"c\"").expect("member c")
            ..text.find("[[project.endpoint_service]]").expect("the service")],
        "",
    );
    std::fs::write(&file, fewer).expect("written");
    eventually("two targets", || {
        let targets = gateway.gateway.snapshot().targets.len();
        (targets == 2).then_some(()).ok_or(targets)
    })
    .await;
    assert_eq!(flow.echo(b"after").await, b"after");
    gateway.expect_metric("plgw_reloads_total", &[r#"outcome="applied""#], 1.0).await;
    eventually("the listeners that are left, in the readiness detail", || {
        let view = gateway.gateway.readiness().view();
        let listeners = view.conditions.into_iter().find(|condition| condition.name == "listeners").expect("listeners");
        (listeners.detail == "5 listeners accept").then_some(()).ok_or(listeners.detail)
    })
    .await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_the_error_has_the_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("gateway.toml");
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = start_from(&file, &net).await;
    let gateway = TestGateway { gateway, net };
    let mut flow = gateway.dial("a").await;
    let before = gateway.gateway.snapshot();
    let bad = gateway.net.text().replace("tier", "teir").replace("naming = \"dash\"", "naming = \"dashes\"");
    std::fs::write(&file, bad).expect("written");
    eventually("the reason in the readiness detail", || {
        let view = gateway.gateway.readiness().view();
        let config = view.conditions.iter().find(|condition| condition.name == "config").expect("config");
        (config.detail.contains("naming") && view.ready).then_some(()).ok_or(config.detail.clone())
    })
    .await;
    gateway.expect_metric("plgw_reloads_total", &[r#"outcome="refused""#], 1.0).await;
    assert_eq!(gateway.metric("plgw_reload_last_ok", &[]), Some(0.0));
    let after = gateway.gateway.snapshot();
    assert!(after.listeners.keys().eq(before.listeners.keys()));
    assert_eq!(after.strings, before.strings);
    assert_eq!(flow.echo(b"as before").await, b"as before");
}

#[tokio::test]
async fn a_port_that_is_taken_refuses_the_whole_reload() {
    let net = Net::claim();
    let gateway = TestGateway::start(net).await;
    let taken = tokio::net::TcpListener::bind((gateway.net.endpoint_b(), 1027)).await.expect("free");
    let mut config = gateway.net.config();
    let mut node = config.desired.projects[0].clusters[0].nodes[0].clone();
    (node.name, node.public_address) = ("d".to_owned(), None);
    node.address = std::net::SocketAddr::new(gateway.net.target(0).ip(), 27_018).into();
    config.desired.projects[0].clusters[0].nodes.push(node);
    let error = gateway.gateway.control().replace_inventory(Ok(config.desired.clone())).await.expect_err("taken");
    assert!(error.to_string().contains(&taken.local_addr().expect("bound").to_string()), "{error}");
    let first = (gateway.net.endpoint_a(), 1027).into();
    let source = gateway.net.source(ClientNetwork::Vpc);
    assert!(Flow::connect(source, first).await.is_err(), "the other address was not opened either");
    drop(taken);
    gateway.gateway.control().replace_inventory(Ok(config.desired)).await.expect("free now");
    assert_eq!(gateway.port("d"), 1027);
}

/// Reloads under traffic: no flow ends, no connection is refused.
#[tokio::test]
async fn reloads_that_keep_a_target_drop_none_of_its_flows() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let mut flow = gateway.dial("a").await;
    for round in 0..20_u64 {
        let mut desired = gateway.net.config().desired;
        desired.projects[0].services[0].attributes.connect_timeout = Duration::from_secs(5 + round);
        gateway.gateway.control().replace_inventory(Ok(desired)).await.expect("applied");
        assert_eq!(flow.echo(b"same flow").await, b"same flow");
        assert_eq!(gateway.dial("a").await.echo(b"new flow").await, b"new flow");
    }
}
