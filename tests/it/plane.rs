//! The data plane by itself: what control tells it, and what it then does.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plgw::data::{DataOptions, DataPlane};
use plgw::plan::{Generation, PortAllocations, Snapshot, compile};
use plgw::telemetry::Registry;
use tokio::sync::mpsc;

use crate::support::{EchoTarget, Flow, Net, Place, eventually};

/// What the network's config comes to.
fn planned(net: &Net) -> Snapshot {
    compile(&net.config().desired, &PortAllocations::default(), Generation(1)).expect("a plan").0
}

fn started(registry: &Registry) -> (DataPlane, mpsc::UnboundedReceiver<String>) {
    let (losses, lost) = mpsc::unbounded_channel();
    let options = DataOptions { workers: 2, tick: Duration::from_millis(10), ..DataOptions::default() };
    (DataPlane::start(options, registry.shared_recorder(), losses).expect("threads"), lost)
}

/// A change that fails after its ports were bound (another port is taken, the state can't be saved) must not have let
/// anybody into a queue.
#[tokio::test]
async fn a_bound_port_refuses_until_it_is_opened() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let (plane, _lost) = started(&Registry::new());
    let address = SocketAddr::new(net.endpoint_a(), 1024);
    let listener = Arc::clone(&planned(&net).listeners[&address]);
    let bound = plane.bind(&[Arc::clone(&listener)]).expect("free");
    let source = net.source(Place::Vpc);
    let refused = Flow::connect(source, address).await.expect_err("bound, not open");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    drop(bound);
    let bound = plane.bind(&[listener]).expect("free again");
    plane.open(bound).await;
    assert_eq!(Flow::connect(source, address).await.expect("open").echo(b"x").await, b"x");
}

#[tokio::test]
async fn nothing_is_left_of_ports_that_were_bound_when_one_is_taken() {
    let net = Net::claim();
    let (plane, _lost) = started(&Registry::new());
    let snapshot = planned(&net);
    let [first, second] = [1024, 1025].map(|port| SocketAddr::new(net.endpoint_a(), port));
    let taken = std::net::TcpListener::bind(second).expect("free");
    let both = [first, second].map(|address| Arc::clone(&snapshot.listeners[&address]));
    let errors = plane.bind(&both).expect_err("one is taken");
    assert_eq!(errors.iter().map(|error| error.address).collect::<Vec<_>>(), [second]);
    drop(taken);
    assert!(plane.bind(&both).is_ok());
}

/// What comes and goes by the APIs all day long must not stay on the page for ever; totals keep what it carried.
#[tokio::test]
async fn the_series_of_a_closed_listener_leave_the_page_after_a_while() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let registry = Registry::new();
    let (plane, _lost) = started(&registry);
    let snapshot = planned(&net);
    let address = SocketAddr::new(net.endpoint_a(), 1024);
    let listener = &snapshot.listeners[&address];
    plane.open(plane.bind(&[Arc::clone(listener)]).expect("free")).await;
    let mut flow = Flow::connect(net.source(Place::Vpc), address).await.expect("open");
    flow.echo(b"four").await;
    let shown = |line: &str| {
        plane.publish_metrics();
        registry.render().lines().any(|other| other.starts_with(line))
    };
    drop(plane.close(listener).await);
    plane.forget_absent();
    assert!(shown("plgw_active_flows{endpoint=\"vpce-024f5b57108c8d3ed\""), "it still has a flow");
    drop(flow);
    eventually("the flow's end", || if plane.open_flows() == 0 { Ok(()) } else { Err(plane.open_flows()) }).await;
    eventually("the series are let go", || {
        plane.forget_absent();
        // PortAllocations by nobody, so no longer published: what the registry shows is the last value.
        let page = registry.render();
        page.contains(
            "plgw_active_flows{endpoint=\"vpce-024f5b57108c8d3ed\",zone=\"us-east-1a\",target=\"Cluster0/a\"} 0\n",
        )
        .then_some(())
        .ok_or(page)
    })
    .await;
    tokio::time::pause();
    registry.upkeep();
    tokio::time::advance(Duration::from_secs(601)).await;
    plane.forget_absent();
    registry.upkeep();
    let page = registry.render();
    assert!(!page.contains("Cluster0/a") && !page.contains("vpce-024f5b57108c8d3ed"), "{page}");
    let carried = plane.carried();
    assert_eq!((carried.flows, carried.bytes_to_target, carried.bytes_to_client), (1, 4, 4));
}
