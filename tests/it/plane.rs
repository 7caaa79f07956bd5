//! The data plane alone: control's commands and their effects.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plgw::data::{DataOptions, DataPlane};
use plgw::plan::{Generation, PortAllocations, Snapshot, compile};
use plgw::telemetry::Registry;
use tokio::sync::mpsc;

use crate::support::{ClientNetwork, EchoTarget, Flow, Net, eventually};

/// The desired state of the network's config.
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
    let source = net.source(ClientNetwork::Vpc);
    let refused = Flow::connect(source, address).await.expect_err("bound, not open");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    drop(bound);
    let bound = plane.bind(&[listener]).expect("free again");
    plane.open(bound).await;
    assert_eq!(Flow::connect(source, address).await.expect("open").echo(b"x").await, b"x");
}

#[tokio::test]
async fn bound_ports_are_released_when_one_is_taken() {
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

/// The page once a listener was closed after a flow of four bytes each way, and the data plane.
async fn page_of_a_closed_listener(registry: &Registry) -> (String, DataPlane) {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let (plane, _lost) = started(registry);
    let snapshot = planned(&net);
    let address = SocketAddr::new(net.endpoint_a(), 1024);
    let listener = &snapshot.listeners[&address];
    plane.open(plane.bind(&[Arc::clone(listener)]).expect("free")).await;
    let mut flow = Flow::connect(net.source(ClientNetwork::Vpc), address).await.expect("open");
    flow.echo(b"four").await;
    drop(plane.close(listener).await);
    plane.forget_absent();
    plane.publish_metrics();
    let page = registry.render();
    assert!(page.contains("plgw_active_flows{endpoint=\"vpce-024f5b57108c8d3ed\""), "it still has a flow: {page}");
    drop(flow);
    eventually("the flow's end", || if plane.open_flows() == 0 { Ok(()) } else { Err(plane.open_flows()) }).await;
    let let_go = eventually("the last values are published", || {
        plane.publish_metrics();
        plane.forget_absent();
        let page = registry.render();
        let closed = crate::support::metric(&page, "plgw_flows_closed_total", &["Cluster0/a", "completed"]);
        let active = crate::support::metric(&page, "plgw_active_flows", &["Cluster0/a"]);
        // Dropped at once where the registry keeps nothing.
        let is_last = (closed, active) == (Some(1.0), Some(0.0)) || (closed, active) == (None, None);
        is_last.then_some(page.clone()).ok_or(page)
    });
    (let_go.await, plane)
}

#[tokio::test]
async fn the_series_of_a_closed_listener_show_their_last_values_for_a_while() {
    let (page, _plane) = page_of_a_closed_listener(&Registry::new()).await;
    assert_eq!(crate::support::metric(&page, "plgw_active_flows", &["Cluster0/a"]), Some(0.0));
}

/// Objects that the APIs create and delete must not stay on the page forever; totals keep their bytes.
#[tokio::test]
async fn the_series_of_a_closed_listener_are_removed_after_a_while() {
    let registry = Registry::keeping_ended_for(Duration::ZERO);
    let (_, plane) = page_of_a_closed_listener(&registry).await;
    eventually("nothing is left", || {
        plane.forget_absent();
        let page = registry.render();
        let is_gone = !page.contains("Cluster0/a") && !page.contains("vpce-024f5b57108c8d3ed");
        is_gone.then_some(()).ok_or(page)
    })
    .await;
    let carried = plane.carried();
    assert_eq!((carried.flows, carried.bytes_to_target, carried.bytes_to_client), (1, 4, 4));
}
