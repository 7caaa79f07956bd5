//! A worker on the test's own thread: a flow that gets any orders in any phase ends exactly once.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_local, yield_now};

use super::*;
use crate::data::fault::LiveFault;
use crate::data::flow::{Accepted, serve};
use crate::data::metrics::DataMetrics;
use crate::data::route::ListenerRoute;
use crate::data::socket::Socket;
use crate::data::state::Reports;
use crate::data::table::FlowRecord;
use crate::data::testing::{listener_to, pair, worker_runtime};
use crate::limits::{Connections, Shares};
use crate::model::{DrainReason, Fault, FaultDirection, FaultKind, FaultScope, Share};
use crate::plan::{Listener, TargetGroup};
use crate::telemetry::Registry;

/// The phase of a flow in which it gets orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlowPhase {
    Dialing,
    Relaying,
    Faulty,
    HalfOpen,
    /// Idle time-out passed: removed from the table, sockets kept.
    Expired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OrderStep {
    Freeze,
    Thaw,
    CheckIdle,
    Kill,
    Panic,
}

fn phase() -> impl Strategy<Value = FlowPhase> {
    prop_oneof![
        Just(FlowPhase::Dialing),
        Just(FlowPhase::Relaying),
        Just(FlowPhase::Faulty),
        Just(FlowPhase::HalfOpen),
        Just(FlowPhase::Expired)
    ]
}

fn given() -> impl Strategy<Value = OrderStep> {
    prop_oneof![
        Just(OrderStep::Freeze),
        Just(OrderStep::Thaw),
        Just(OrderStep::CheckIdle),
        Just(OrderStep::Kill),
        Just(OrderStep::Panic)
    ]
}

/// A worker whose clock ticks every millisecond.
fn worker() -> Rc<WorkerContext> {
    let (losses, _) = mpsc::unbounded_channel();
    let (failed_dials, _) = mpsc::channel(1);
    let metrics = DataMetrics::new(Registry::new().shared_recorder());
    let options = DataOptions { tick: Duration::from_millis(1), ..DataOptions::default() };
    let state = Arc::new(DataPlaneState::new(
        1,
        metrics,
        None,
        Connections::new(Shares { limit: 1024, per_source: 512, reserved: 0 }),
        losses,
        Reports { failed_dials, refusals: Arc::default() },
    ));
    let ctx = WorkerContext::new(0, state, options).expect("a timer");
    let (commands, received) = mpsc::unbounded_channel();
    let working = Rc::clone(&ctx);
    spawn_local(async move {
        let _commands = commands;
        work(&working, received).await;
    });
    ctx
}

/// A listener on which a flow reaches `phase`.
fn listener(phase: FlowPhase, backend: SocketAddr) -> Listener {
    let mut listener = listener_to(backend, "127.0.30.194:1024".parse().expect("an address"));
    let mut group = TargetGroup::clone(&listener.group);
    let hour = Duration::from_secs(3600);
    group.idle_timeout = if phase == FlowPhase::Expired { Duration::from_millis(1) } else { hour };
    group.connect_timeout = hour;
    group.members.iter_mut().for_each(|member| member.faulted = phase == FlowPhase::Dialing);
    listener.group = Arc::new(group);
    listener
}

fn faults(phase: FlowPhase) -> Vec<LiveFault> {
    let kind = match phase {
        FlowPhase::Faulty => FaultKind::Latency {
            delay: Duration::from_secs(1),
            jitter: Duration::ZERO,
            direction: FaultDirection::Both,
        },
        FlowPhase::HalfOpen => FaultKind::HalfOpen { time: Duration::ZERO },
        FlowPhase::Dialing | FlowPhase::Relaying | FlowPhase::Expired => return Vec::new(),
    };
    let fault = Fault {
        name: "fault".to_owned(),
        kind,
        scope: FaultScope::default(),
        share: Share::default(),
        seed: 0,
        after: Duration::ZERO,
        lasts: None,
    };
    vec![LiveFault { fault: Arc::new(fault), seen: Arc::default(), affected: Arc::default() }]
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        yield_now().await;
    }
}

/// Accepts the target's side, and waits until the flow reaches `phase`.
async fn reach(phase: FlowPhase, ctx: &WorkerContext, record: &FlowRecord, backend: &std::net::TcpListener) {
    if phase == FlowPhase::Dialing {
        return;
    }
    until(|| record.idle_deadline() < u32::MAX || ctx.state.table.len() == 0).await;
    match phase {
        FlowPhase::HalfOpen => {
            let (mut target, _) = backend.accept().expect("connected");
            target.set_nonblocking(true).expect("a live socket");
            until(|| !matches!(target.read(&mut [0; 512]), Err(error) if error.kind() == io::ErrorKind::WouldBlock))
                .await;
        }
        FlowPhase::Expired => until(|| ctx.state.table.len() == 0).await,
        FlowPhase::Dialing | FlowPhase::Relaying | FlowPhase::Faulty => {}
    }
}

fn send_order(record: &FlowRecord, given: OrderStep) {
    match given {
        OrderStep::Freeze => record.set_order(FlowOrder::Freeze),
        OrderStep::Thaw => record.thaw(),
        OrderStep::CheckIdle => record.set_order(FlowOrder::CheckIdle),
        OrderStep::Kill => record.set_order(FlowOrder::End(DrainReason::Killed)),
        OrderStep::Panic => record.set_order(FlowOrder::Panic),
    }
}

fn route(ctx: &WorkerContext, listener: Listener, faults: Vec<LiveFault>) -> ListenerRoute {
    let listener = Arc::new(listener);
    let (series, flows_of_members) = (ctx.state.series(&listener), ctx.state.flows_of_members(&listener.group));
    ListenerRoute { listener, series, flows_of_members, faults, cap: None }
}

/// Serves a client that was accepted, and waits until its flow is in the table.
async fn open_flow(ctx: &Rc<WorkerContext>, route: ListenerRoute, client: Socket) -> (JoinHandle<()>, Arc<FlowRecord>) {
    let series = Arc::clone(&route.series);
    let (route, current) = watch::channel(Arc::new(route));
    let (open, _closed) = mpsc::channel(1);
    let source = "127.0.1.9:4711".parse().expect("an address");
    let accepted = Accepted { route_watch: Rc::new(RouteWatch { current, open }), peer: source, spare: None };
    let task = spawn_local(serve(Rc::clone(ctx), client, Box::new(accepted)));
    until(|| series.sum(|shard| shard.opened.get()) == 1).await;
    drop(route);
    (task, ctx.state.table.select(|_| true).pop().expect("it is open"))
}

/// Takes a flow to `phase`, sends it these orders, each followed by a number of yields, then kills it. Stores the
/// client's end in `peer`.
async fn live_through(
    phase: FlowPhase,
    orders: &[(OrderStep, usize)],
    peer: &mut Option<TcpStream>,
) -> Result<(), TestCaseError> {
    let ctx = worker();
    let backend = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let route = route(&ctx, listener(phase, backend.local_addr().expect("bound")), faults(phase));
    let (series, flows_of_members) = (Arc::clone(&route.series), Arc::clone(&route.flows_of_members));
    let (near, client) = pair();
    *peer = Some(near);
    let (task, record) = open_flow(&ctx, route, client).await;
    reach(phase, &ctx, &record, &backend).await;
    for (given, turns) in orders {
        send_order(&record, *given);
        for _ in 0..*turns {
            yield_now().await;
        }
    }
    send_order(&record, OrderStep::Kill);
    let panicked = task.await.is_err();
    prop_assert!(!panicked || orders.iter().any(|(given, _)| *given == OrderStep::Panic));
    prop_assert_eq!(ctx.state.table.len(), 0);
    prop_assert_eq!(series.sum(|shard| shard.opened.get()), 1);
    prop_assert_eq!(series.sum(|shard| shard.closed.iter().map(crate::data::counters::Count::get).sum()), 1);
    let carried: usize = flows_of_members.iter().map(|flows| flows.load(std::sync::atomic::Ordering::Relaxed)).sum();
    prop_assert_eq!(carried, 0, "every slot on a member is released");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The flow is killed at the end. Its client sees RST, whether the task ended or panicked.
    #[test]
    fn a_flow_is_closed_once_whatever_it_is_ordered_in_whatever_phase(
        phase in phase(),
        orders in vec((given(), 0..4_usize), 0..6),
    ) {
        let mut peer = None;
        worker_runtime().block_on(live_through(phase, &orders, &mut peer))?;
        let error = peer.expect("connected").read(&mut [0]).expect_err("RST");
        prop_assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

/// A notification whose order was replaced meanwhile must not suppress later ones.
#[test]
fn a_command_reaches_a_flow_after_earlier_commands_were_withdrawn() {
    let orders = [(OrderStep::Freeze, 0), (OrderStep::Thaw, 3), (OrderStep::Freeze, 3), (OrderStep::Thaw, 0)];
    for phase in [FlowPhase::Dialing, FlowPhase::Relaying, FlowPhase::Faulty, FlowPhase::HalfOpen, FlowPhase::Expired] {
        worker_runtime().block_on(live_through(phase, &orders, &mut None)).expect("it ends");
    }
}

/// A client that the kernel accepted just before its zone was lost gets nothing until the outage is over, as all others there.
#[test]
fn a_client_accepted_as_its_zone_is_lost_gets_nothing_until_the_outage_is_over() {
    worker_runtime().block_on(async {
        let ctx = worker();
        let backend = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        backend.set_nonblocking(true).expect("a live socket");
        let lost = Listener { outage: true, ..listener(FlowPhase::Relaying, backend.local_addr().expect("bound")) };
        let (_near, client) = pair();
        let (task, record) = open_flow(&ctx, route(&ctx, lost, Vec::new()), client).await;
        assert_eq!(record.order(), FlowOrder::Freeze);
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(backend.accept().expect_err("no connection is made").kind(), io::ErrorKind::WouldBlock);
        assert!(ctx.state.has_frozen(), "it is found when the outage is over");
        record.thaw();
        until(|| backend.accept().is_ok()).await;
        record.set_order(FlowOrder::End(DrainReason::Killed));
        task.await.expect("it ends");
    });
}
