//! Ports that change, and ports that don't.

use std::time::Duration;

use plgw::config::StateLocation;
use plgw::control::ChangeError;
use plgw::model::TargetId;
use tokio::io::AsyncWriteExt;

use crate::support::{ClientNetwork, Closed, EchoTarget, Flow, Net, TestGateway, eventually};

fn target(member: &str) -> TargetId {
    format!("Cluster0/{member}").parse().expect("a target id")
}

/// A6: the new port is open and in DNS before the answer to the command; the old one drains.
#[tokio::test]
async fn a_moved_target_is_found_at_its_new_port_and_keeps_its_flows() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| config.settings.move_grace = Duration::ZERO).await;
    let old = gateway.address("a");
    let mut flow = gateway.dial("a").await;
    flow.echo(b"before").await;
    let moved = gateway.gateway.control().move_target(target("a"), None, None).await.expect("moved");
    assert_eq!((moved.from.get(), moved.to.get()), (1024, 1027));
    assert_eq!(gateway.port("a"), 1027);
    assert_eq!(gateway.dial("a").await.echo(b"new port").await, b"new port");
    assert_eq!(flow.echo(b"on the old port").await, b"on the old port");
    let source = gateway.net.source(ClientNetwork::Vpc);
    while Flow::connect(source, old).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let taken = "1024".parse::<u16>().ok().and_then(|port| port.try_into().ok());
    let error = gateway.gateway.control().move_target(target("b"), None, taken).await.expect_err("it drains");
    assert!(matches!(error, ChangeError::Plan(_)), "{error}");
    flow.stream.shutdown().await.expect("FIN");
    assert_eq!(flow.closed().await, Closed::Fin);
    // Once nothing drains there, the port may be given again.
    loop {
        match gateway.gateway.control().move_target(target("b"), None, taken).await {
            Ok(moved) => break assert_eq!(moved.to.get(), 1024),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn a_move_to_a_held_port_is_refused_and_changes_nothing() {
    let gateway = TestGateway::start(Net::claim()).await;
    let held = 1025_u16.try_into().ok();
    let control = gateway.gateway.control();
    let error = control.move_target(target("a"), None, held).await.expect_err("b has it");
    assert!(error.to_string().contains("Cluster0/b"), "{error}");
    assert_eq!(gateway.port("a"), 1024);
    let error = control.move_target(target("z"), None, None).await.expect_err("no such target");
    assert_eq!(error.to_string(), "there is no target `Cluster0/z`; `plgw plan` lists the targets");
}

/// A5, A6: a target's port outlives restarts, and is not reassigned while the target exists.
#[tokio::test]
async fn ports_outlive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state.json");
    let with_file = |config: &mut plgw::config::Config| config.settings.state = StateLocation::File(file.clone());
    let gateway = TestGateway::start_with(Net::claim(), with_file).await;
    gateway.gateway.control().move_target(target("a"), None, None).await.expect("moved");
    let TestGateway { gateway, net } = gateway;
    gateway.stop_within(Duration::ZERO).await;
    let gateway = TestGateway::start_with(net, with_file).await;
    assert_eq!((gateway.port("a"), gateway.port("b"), gateway.port("c")), (1027, 1025, 1026));
}

/// Clients resolve and connect repeatedly while ports move: none is refused at a port that DNS returned.
#[tokio::test]
async fn a_client_that_has_just_resolved_is_not_refused_during_moves() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let source = gateway.net.source(ClientNetwork::Vpc);
    let clients = async {
        for _ in 0..200 {
            let address = gateway.address("a");
            tokio::task::yield_now().await;
            let mut flow = Flow::connect(source, address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
            assert_eq!(flow.echo(b"x").await, b"x");
        }
    };
    let moves = async {
        for _ in 0..5 {
            gateway.gateway.control().move_target(target("a"), None, None).await.expect("moved");
            eventually("the next move", || Ok::<_, ()>(())).await;
        }
    };
    tokio::join!(clients, moves);
}
