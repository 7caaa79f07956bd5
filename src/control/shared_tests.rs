//! Several gateways on one state, without sockets: random changes by all of them at once, pauses, cut connections, crashes.
//!
//! The clock is virtual, and every call of the store takes some of its time, so that the gateways' changes overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::metrics::NoopRecorder;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::draft::ec2::NewEndpoint;
use super::health::{Probe, ProbeTarget};
use super::store::{MemoryStore, RangeView, Revision, StateStore, StoreError, Txn, Watch};
use super::*;
use crate::config;
use crate::model::{DrainReason, VpceId};
use crate::plan::{Changes, Gate, Listener};

/// The gateways of a test.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// The store as one gateway reaches it.
#[derive(Debug)]
struct Connection {
    inner: Arc<dyn StateStore>,
    /// What happens to its calls.
    state: watch::Sender<Reach>,
    calls: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// They are answered.
    There,
    /// They wait, as those of a process that is stopped.
    Paused,
    /// They fail.
    Cut,
    /// Changes happen and their answers get lost; reads are answered.
    Mute,
}

impl Connection {
    fn new(inner: Arc<dyn StateStore>) -> Arc<Self> {
        Arc::new(Self { inner, state: watch::Sender::new(Reach::There), calls: AtomicU64::new(0) })
    }

    async fn call(&self) -> Result<Reach, StoreError> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1 + calls * 7 % 5)).await;
        let reach = *self.state.subscribe().wait_for(|reach| *reach != Reach::Paused).await.expect("it is there");
        if reach == Reach::Cut { Err(StoreError::Unavailable { source: "cut".into() }) } else { Ok(reach) }
    }
}

impl StateStore for Connection {
    fn range<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<RangeView, StoreError>> {
        Box::pin(async move {
            self.call().await?;
            self.inner.range(prefix).await
        })
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            let reach = self.call().await?;
            let revision = self.inner.commit(txn).await?;
            if reach == Reach::Mute { Err(StoreError::OutcomeUnknown { source: "mute".into() }) } else { Ok(revision) }
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Watch, StoreError>> {
        Box::pin(async move {
            self.call().await?;
            self.inner.watch(prefix, after).await
        })
    }
}

type OpenPort = (VpceServiceId, TargetId, u16);

/// Remembers what is open, draining listeners too, until a test lets their flows end.
#[derive(Debug, Default)]
struct Ports {
    open: Mutex<Vec<OpenPort>>,
    ended: watch::Sender<u64>,
}

fn open_port(listener: &Listener) -> Option<OpenPort> {
    let is_private = matches!(listener.gate, Gate::Endpoint(_));
    is_private.then(|| (listener.group.service.clone(), listener.group.target.clone(), listener.address.port()))
}

impl Plane for Ports {
    type Bound = Vec<OpenPort>;
    type Open = Option<OpenPort>;

    fn bind(&self, changes: &Changes, _: &Arc<Snapshot>) -> Result<Self::Bound, Vec<String>> {
        Ok(changes.open.iter().filter_map(|listener| open_port(listener)).collect())
    }

    async fn open(&self, bound: Self::Bound, _: &Arc<Snapshot>) {
        self.open.lock().unwrap().extend(bound);
    }

    async fn retarget(&self, _: &Changes, _: &Arc<Snapshot>) {}

    async fn close(&self, listener: &Arc<Listener>) -> Self::Open {
        open_port(listener)
    }

    async fn drain(&self, open: Self::Open, _: Duration, _: Option<DrainReason>) {
        let mut ended = self.ended.subscribe();
        let now = *ended.borrow();
        ended.wait_for(|count| *count > now).await.expect("it is there");
        let mut ports = self.open.lock().unwrap();
        if let Some(at) = open.and_then(|open| ports.iter().position(|other| *other == open)) {
            ports.swap_remove(at);
        }
    }
}

/// No probe ever ends.
#[derive(Debug)]
struct NoAnswer;

impl Probe for NoAnswer {
    fn probe(&self, _: ProbeTarget) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(std::future::pending())
    }
}

struct Gateway {
    control: Control,
    ports: Arc<Ports>,
    connection: Arc<Connection>,
    stop: CancellationToken,
}

impl Gateway {
    async fn start(name: &str, inner: &Arc<dyn StateStore>) -> Result<Self, ChangeError> {
        let (ports, connection) = (Arc::new(Ports::default()), Connection::new(Arc::clone(inner)));
        let stop = CancellationToken::new();
        let parts = ControlParts {
            plane: Arc::clone(&ports),
            snapshots: watch::Sender::new(Arc::default()),
            store: connection.clone(),
            gateway: Some(name.parse().unwrap()),
            probe: Arc::new(NoAnswer),
            name_servers: Vec::new(),
            recorder: Arc::new(NoopRecorder),
            move_grace: Duration::ZERO,
            pace: Pace::Fast,
            stop: stop.clone(),
        };
        let control = Control::start(parts, config::quickstart().desired, &TaskTracker::new()).await?;
        Ok(Self { control, ports, connection, stop })
    }

    fn new_endpoint(&self, token: Option<&str>) -> BoxFuture<'static, Result<VpceId, ChangeError>> {
        let desired = config::quickstart().desired;
        let vpc = desired.vpcs.values().next().unwrap();
        let service = desired.projects[0].services[0].name();
        let subnet = vpc.subnets.keys().next().unwrap().clone();
        let new = NewEndpoint {
            vpc: vpc.id.clone(),
            service,
            subnets: vec![(subnet, None)],
            groups: Vec::new(),
            tags: BTreeMap::new(),
            policy: None,
            private_dns: false,
            token: token.map(|token| (token.to_owned(), String::new())),
        };
        let control = self.control.clone();
        Box::pin(async move { control.edit(move |draft| draft.create_endpoint(new)).await.map(|(id, _)| id) })
    }

    fn move_target(&self, number: usize) -> BoxFuture<'static, Result<Moved, ChangeError>> {
        let targets: Vec<_> = self.control.snapshot().targets.iter().map(|view| view.id.clone()).collect();
        let (control, target) = (self.control.clone(), targets[number % targets.len()].clone());
        Box::pin(async move { control.move_target(target, None, None).await })
    }
}

/// What is saved.
async fn saved(store: &Arc<dyn StateStore>) -> (PortAllocations, Inventory, u64) {
    let (_, loaded) =
        Saved::load(Arc::clone(store), Some(("reader".parse().unwrap(), digest()))).await.expect("readable");
    let base = Inventory::from_config(&config::quickstart().desired);
    let head = store.range("head").await.unwrap().entries;
    let head: serde_json::Value = serde_json::from_slice(&head[0].value).unwrap();
    (loaded.held, base.with(&loaded.resources).expect("readable"), head["seq"].as_u64().unwrap())
}

fn digest() -> String {
    let desired = config::quickstart().desired;
    follow::digest(&Inventory::from_config(&desired), &desired.faults)
}

/// Whatever happened, nothing was given twice, and no port belongs to one target while a gateway has it open for another.
async fn check(store: &Arc<dyn StateStore>, ports: &[Arc<Ports>]) {
    let (held, inventory, _) = saved(store).await;
    let mut addresses = BTreeSet::new();
    for record in inventory.endpoints.values() {
        for address in &record.endpoint.addresses {
            assert!(addresses.insert(address.ip), "{} is given twice", address.ip);
        }
    }
    let mut indexes = BTreeSet::new();
    for (endpoint, index) in &held.indexes {
        if let Some(record) = inventory.endpoints.get(endpoint) {
            assert!(indexes.insert((record.endpoint.service.service(), index)), "index {index} is given twice");
        }
    }
    for (service, target, port) in ports.iter().flat_map(|ports| ports.open.lock().unwrap().clone()) {
        let ledger = held.ledgers.get(&service).expect("a ledger");
        let drains = ledger.draining().any(|drains| drains.get() == port);
        let holder = ledger.ports().find(|(_, held)| held.get() == port).map(|(holder, _)| holder.clone());
        // A gateway binds and opens only what is saved, and follows what others saved; so what it has open is either the
        // target's still, or waits for it.
        assert!(drains || holder == Some(target.clone()), "port {port} of {target} is {holder:?}'s while it is open");
    }
}

/// Waits until every gateway goes by the latest change.
async fn caught_up(store: &Arc<dyn StateStore>, gateways: &[Gateway]) {
    let views = || {
        let view = |gateway: &Gateway| {
            let snapshot = gateway.control.snapshot();
            let targets = snapshot.targets.iter().map(|view| (view.service.clone(), view.id.clone(), view.port));
            let endpoints = snapshot.endpoints.iter().map(|(id, gate)| (id.clone(), gate.state)).collect::<Vec<_>>();
            (targets.collect::<Vec<_>>(), endpoints)
        };
        gateways.iter().map(view).collect::<Vec<_>>()
    };
    // Lifecycles go on for a while; the clock is virtual.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (held, inventory, seq) = saved(store).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let is_quiet = saved(store).await.2 == seq && lifecycle::next(&inventory, Pace::Fast).is_none();
        let views = views();
        let of_ledger = |view: &[(VpceServiceId, TargetId, ListenerPort)]| {
            view.iter().all(|(service, target, port)| held.ledgers[service].port(target) == Some(*port))
        };
        if is_quiet && views.iter().all(|view| *view == views[0] && of_ledger(&view.0)) {
            return;
        }
    }
    panic!("the gateways do not agree: {:#?}", views());
}

#[derive(Debug, Clone)]
enum Step {
    Move { gateway: usize, target: usize },
    Endpoint { gateway: usize },
    Reach { gateway: usize, reach: Reach },
    FlowsEnd { gateway: usize },
    Restart { gateway: usize },
    Wait { milliseconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let gateway = 0..NAMES.len();
    let reach =
        prop_oneof![3 => Just(Reach::There), 1 => Just(Reach::Paused), 1 => Just(Reach::Cut), 1 => Just(Reach::Mute)];
    prop_oneof![
        5 => (gateway.clone(), 0usize..5).prop_map(|(gateway, target)| Step::Move { gateway, target }),
        3 => gateway.clone().prop_map(|gateway| Step::Endpoint { gateway }),
        3 => (gateway.clone(), reach).prop_map(|(gateway, reach)| Step::Reach { gateway, reach }),
        3 => gateway.clone().prop_map(|gateway| Step::FlowsEnd { gateway }),
        1 => gateway.prop_map(|gateway| Step::Restart { gateway }),
        3 => (0u64..40).prop_map(|milliseconds| Step::Wait { milliseconds }),
    ]
}

async fn run(steps: Vec<Step>) {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::with_gaps());
    let mut gateways = Vec::new();
    for name in NAMES {
        gateways.push(Gateway::start(name, &store).await.expect("it joins"));
    }
    let mut changes: JoinSet<Result<(), ChangeError>> = JoinSet::new();
    for step in steps {
        match step {
            Step::Move { gateway, target } => {
                let change = gateways[gateway].move_target(target);
                changes.spawn(async move { change.await.map(drop) });
            }
            Step::Endpoint { gateway } => {
                let change = gateways[gateway].new_endpoint(None);
                changes.spawn(async move { change.await.map(drop) });
            }
            Step::Reach { gateway, reach } => drop(gateways[gateway].connection.state.send_replace(reach)),
            Step::FlowsEnd { gateway } => gateways[gateway].ports.ended.send_modify(|count| *count += 1),
            Step::Restart { gateway } => {
                let old = &gateways[gateway];
                old.connection.state.send_replace(Reach::There);
                old.stop.cancel();
                old.control.ended().await;
                // Its sockets go with the process.
                gateways[gateway] = Gateway::start(NAMES[gateway], &store).await.expect("it joins again");
            }
            Step::Wait { milliseconds } => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
        }
        let ports: Vec<_> = gateways.iter().map(|gateway| Arc::clone(&gateway.ports)).collect();
        check(&store, &ports).await;
    }
    for gateway in &gateways {
        gateway.connection.state.send_replace(Reach::There);
    }
    while let Some(change) = changes.join_next().await {
        match change.expect("no change panics") {
            Ok(())
            | Err(ChangeError::Edit(_) | ChangeError::Save(_) | ChangeError::Plan(_) | ChangeError::Stopping) => {}
            Err(error) => panic!("{error}"),
        }
    }
    for _ in 0..3 {
        gateways.iter().for_each(|gateway| gateway.ports.ended.send_modify(|count| *count += 1));
        caught_up(&store, &gateways).await;
    }
    let ports: Vec<_> = gateways.iter().map(|gateway| Arc::clone(&gateway.ports)).collect();
    check(&store, &ports).await;
    let (held, ..) = saved(&store).await;
    assert_eq!(held.draining().count(), 0, "no flow is left, so every port is free again: {held:?}");
    gateways.iter().for_each(|gateway| gateway.stop.cancel());
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn gateways_that_share_a_state_give_nothing_twice_and_agree_in_the_end(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        block_on(run(steps));
    }
}

#[test]
fn endpoints_that_three_gateways_make_at_once_have_addresses_of_their_own() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let gateways = make_endpoints_at_once(&store).await;
        caught_up(&store, &gateways).await;
    });
}

/// The same on etcd, by the real clock.
#[cfg(feature = "etcd")]
#[tokio::test]
async fn gateways_share_a_state_in_etcd() {
    let Some((store, _remembered)) = store::etcd_tests::store().await else { return };
    let store: Arc<dyn StateStore> = Arc::new(store);
    let gateways = make_endpoints_at_once(&store).await;
    let moved = gateways[0].move_target(0).await.expect("one moves it");
    let mut snapshots = gateways[1].control.snapshots();
    let has_moved =
        |snapshot: &Arc<Snapshot>| snapshot.targets.iter().any(|view| view.id == moved.target && view.port == moved.to);
    snapshots.wait_for(has_moved).await.expect("the other follows");
    check(&store, &gateways.iter().map(|gateway| Arc::clone(&gateway.ports)).collect::<Vec<_>>()).await;
}

/// Eight clients of three gateways make endpoints in one subnet, and three with one client token.
async fn make_endpoints_at_once(store: &Arc<dyn StateStore>) -> Vec<Gateway> {
    let mut gateways = Vec::new();
    for name in NAMES {
        gateways.push(Gateway::start(name, store).await.expect("it joins"));
    }
    let mut clients = JoinSet::new();
    for client in 0..8 {
        clients.spawn(gateways[client % NAMES.len()].new_endpoint(None));
    }
    let made = clients.join_all().await.into_iter().collect::<Result<BTreeSet<_>, _>>().expect("each is made");
    assert_eq!(made.len(), 8);
    let with_one_token = gateways.iter().map(|gateway| gateway.new_endpoint(Some("once")));
    let made: BTreeSet<_> =
        futures_util::future::join_all(with_one_token).await.into_iter().map(|id| id.expect("it is made")).collect();
    assert_eq!(made.len(), 1, "a client token makes one endpoint, whichever gateway is asked");
    check(store, &[]).await;
    let configured = Inventory::from_config(&config::quickstart().desired).endpoints.len();
    assert_eq!(saved(store).await.1.endpoints.len(), configured + 9);
    gateways
}

#[test]
fn a_port_is_not_given_again_while_a_gateway_that_is_away_may_have_it_open() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let (a, b) = (Gateway::start("a", &store).await.unwrap(), Gateway::start("b", &store).await.unwrap());
        b.connection.state.send_replace(Reach::Paused);
        let first = a.move_target(0).await.expect("a moves it");
        a.ports.ended.send_modify(|count| *count += 1);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let second = a.move_target(0).await.expect("a moves it again");
        assert_ne!(second.to, first.from, "b has the first port open");
        b.connection.state.send_replace(Reach::There);
        tokio::time::sleep(Duration::from_secs(10)).await;
        for gateway in [&a, &b] {
            gateway.ports.ended.send_modify(|count| *count += 1);
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(a.move_target(0).await.expect("a moves it back").to, first.from);
    });
}

#[test]
fn another_config_is_refused_until_all_gateways_have_it() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let (a, b) = (Gateway::start("a", &store).await.unwrap(), Gateway::start("b", &store).await.unwrap());
        let mut other = config::quickstart().desired;
        other.projects[0].clusters[0].nodes.pop();
        a.control.replace_inventory(Ok(other.clone())).await.expect("a reload is for all");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let problem = b.control.store_problem().expect("it says so");
        assert!(problem.contains("run with another config"), "{problem}");
        let refused = b.move_target(0).await.expect_err("it goes by another config");
        assert!(matches!(refused, ChangeError::Save(_)), "{refused}");
        let mut third = other.clone();
        third.projects[0].clusters[0].nodes.pop();
        b.control.replace_inventory(Ok(third)).await.expect_err("two reloads at once: one is refused");
        b.control.replace_inventory(Ok(other)).await.expect("the same one");
        caught_up_with(&a, &b).await;
        b.move_target(0).await.expect("both go by one config");
        assert_eq!(b.control.store_problem(), None);
    });
}

async fn caught_up_with(a: &Gateway, b: &Gateway) {
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ports = |gateway: &Gateway| {
        let targets = gateway.control.snapshot();
        targets.targets.iter().map(|view| (view.id.clone(), view.port)).collect::<Vec<_>>()
    };
    assert_eq!(ports(a), ports(b));
}

#[test]
fn a_store_that_went_back_is_not_followed() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let a = Gateway::start("a", &store).await.unwrap();
        a.move_target(0).await.expect("saved");
        let ports = |gateway: &Gateway| {
            gateway.control.snapshot().targets.iter().map(|view| (view.id.clone(), view.port)).collect::<Vec<_>>()
        };
        let before = ports(&a);
        let all = store.range("").await.unwrap().entries.into_iter().map(|entry| entry.key);
        let txn = all.fold(Txn::new(), Txn::delete);
        store.commit(txn).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let problem = a.control.store_problem().expect("it says so");
        assert!(problem.contains("its keys were deleted"), "{problem}");
        assert_eq!(ports(&a), before);
        a.move_target(0).await.expect_err("nothing is written to it");
    });
}
