//! Several gateways on one state, without sockets: random changes by all of them at once, pauses, cut connections, crashes.
//!
//! The clock is virtual, and every call of the store takes some of its time, so that the gateways' changes overlap. Part D of
//! tests/CONFORMANCE.md (D1 to D30).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use proptest::prelude::*;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::draft::ec2::NewInterfaceEndpoint;
use super::store::{MemoryStore, RangeView, Revision, StateStore, StoreError, Txn};
use super::*;
use crate::config;
use crate::model::{DrainReason, IpAddressType, VpceId};
use crate::plan::{Changes, Listener, ListenerAccess};

/// The gateways of a test.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// A gateway's connection to the store.
#[derive(Debug)]
struct Connection {
    inner: Mutex<Arc<dyn StateStore>>,
    /// How its calls behave.
    state: watch::Sender<Reach>,
    calls: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Calls are answered.
    There,
    /// Calls wait, as those of a stopped process.
    Paused,
    /// Calls fail.
    Cut,
    /// Changes happen but their responses are lost; reads are answered.
    Mute,
}

impl Connection {
    fn new(inner: Arc<dyn StateStore>) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(inner), state: watch::Sender::new(Reach::There), calls: AtomicU64::new(0) })
    }

    fn inner(&self) -> Arc<dyn StateStore> {
        Arc::clone(&self.inner.lock().unwrap())
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
            self.inner().range(prefix).await
        })
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            let reach = self.call().await?;
            let revision = self.inner().commit(txn).await?;
            if reach == Reach::Mute { Err(StoreError::OutcomeUnknown { source: "mute".into() }) } else { Ok(revision) }
        })
    }

    fn changes<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<BoxStream<'static, ()>, StoreError>> {
        Box::pin(async move {
            self.call().await?;
            self.inner().changes(prefix).await
        })
    }
}

type OpenPort = (VpceServiceId, TargetId, u16);

/// Records open ports, including those of draining listeners until a test ends their flows.
#[derive(Debug, Default)]
struct Ports {
    /// Ports that another process has bound.
    taken: Mutex<BTreeSet<u16>>,
    open: Mutex<Vec<OpenPort>>,
    ended: watch::Sender<u64>,
}

fn open_port(listener: &Listener) -> Option<OpenPort> {
    let is_private = matches!(listener.access, ListenerAccess::Endpoint(_));
    is_private.then(|| (listener.group.service.clone(), listener.group.target.clone(), listener.address.port()))
}

impl Plane for Ports {
    type Bound = Vec<OpenPort>;
    type Open = Option<OpenPort>;

    fn bind(&self, changes: &Changes, _: &Arc<Snapshot>) -> (Self::Bound, BTreeMap<SocketAddr, String>) {
        let taken = self.taken.lock().unwrap();
        let (unbound, bound): (Vec<_>, Vec<_>) =
            changes.open.iter().partition(|listener| taken.contains(&listener.address.port()));
        let unbound = unbound.into_iter().map(|listener| (listener.address, format!("{} is taken", listener.address)));
        (bound.into_iter().filter_map(|listener| open_port(listener)).collect(), unbound.collect())
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

struct Gateway {
    control: Control,
    ports: Arc<Ports>,
    connection: Arc<Connection>,
    stop: CancellationToken,
}

impl Gateway {
    async fn start(name: &str, inner: &Arc<dyn StateStore>) -> Result<Self, ChangeError> {
        Self::start_with(name, inner, config::quickstart().desired).await
    }

    async fn start_with(name: &str, inner: &Arc<dyn StateStore>, desired: Desired) -> Result<Self, ChangeError> {
        let (ports, connection) = (Arc::new(Ports::default()), Connection::new(Arc::clone(inner)));
        let stop = CancellationToken::new();
        let parts = ControlParts {
            gateway: Some(name.parse().unwrap()),
            gateway_parts: GatewayParts {
                admin: Some(format!("http://{name}:8474")),
                left: stop.clone(),
                ..GatewayParts::default()
            },
            stop: stop.clone(),
            ..ControlParts::for_test(Arc::clone(&ports), connection.clone())
        };
        let control = Control::start(parts, desired, &TaskTracker::new()).await?;
        Ok(Self { control, ports, connection, stop })
    }

    /// Ends the process; `crashes`: without leaving.
    async fn end(&self, crashes: bool) {
        self.connection.state.send_replace(if crashes { Reach::Cut } else { Reach::There });
        self.stop.cancel();
        self.control.ended().await;
    }

    fn status(&self) -> SharedStatus {
        self.control.shared_status().borrow().clone()
    }

    /// Waits until its status of the shared state satisfies `is_so`.
    async fn says(&self, is_so: impl FnMut(&SharedStatus) -> bool) -> SharedStatus {
        let mut status = self.control.shared_status();
        let found = status.wait_for(is_so).await.expect("it is there");
        found.clone()
    }

    fn ports(&self) -> Vec<(TargetId, ListenerPort)> {
        self.control.snapshot().targets.iter().map(|view| (view.id.clone(), view.port)).collect()
    }

    fn new_endpoint(&self, token: Option<&str>) -> BoxFuture<'static, Result<VpceId, ChangeError>> {
        let desired = config::quickstart().desired;
        let vpc = desired.vpcs.values().next().unwrap();
        let service = desired.projects[0].services[0].name();
        let subnet = vpc.subnets.keys().next().unwrap().clone();
        let new = NewInterfaceEndpoint {
            vpc: vpc.id.clone(),
            service,
            subnets: vec![(subnet, Vec::new())],
            ip_address_type: IpAddressType::default(),
            dns_record_ip_type: None,
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

/// The saved state.
async fn saved(store: &Arc<dyn StateStore>) -> (PortAllocations, Inventory, u64) {
    let reader = Shared::join(&**store, "reader".parse().unwrap(), Holder::new(None, None)).await.expect("it is free");
    let (_, loaded) = SavedState::load(Arc::clone(store), Some(reader)).await.expect("readable");
    let base = Inventory::from_config(&config::quickstart().desired);
    let head = store.range("head").await.unwrap().entries;
    let head: serde_json::Value = serde_json::from_slice(&head[0].value).unwrap();
    (loaded.held, base.with(&loaded.resources).expect("readable"), head["seq"].as_u64().unwrap())
}

/// Invariant: nothing was assigned twice, and no port belongs to one target while a gateway has it open for another.
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
        // A gateway binds and opens only what is saved, and follows what others saved; so a port that it has open
        // either still belongs to the target, or waits for this gateway.
        assert!(drains || holder == Some(target.clone()), "port {port} of {target} is {holder:?}'s while it is open");
    }
}

/// Waits until every gateway has applied the latest change.
async fn caught_up(store: &Arc<dyn StateStore>, gateways: &[Gateway]) {
    let views = || {
        let view = |gateway: &Gateway| {
            let snapshot = gateway.control.snapshot();
            let targets = snapshot.targets.iter().map(|view| (view.service.clone(), view.id.clone(), view.port));
            let endpoints =
                snapshot.endpoints.iter().map(|(id, access)| (id.clone(), access.state)).collect::<Vec<_>>();
            (targets.collect::<Vec<_>>(), endpoints)
        };
        gateways.iter().map(view).collect::<Vec<_>>()
    };
    // Lifecycles continue for a while; the clock is virtual.
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
    Restart { gateway: usize, crashes: bool },
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
        1 => (gateway, any::<bool>()).prop_map(|(gateway, crashes)| Step::Restart { gateway, crashes }),
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
            Step::Restart { gateway, crashes } => {
                gateways[gateway].end(crashes).await;
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

/// The same with the real clock: etcd is unreachable for one gateway, and compacts what that one has not seen.
#[cfg(feature = "etcd")]
#[tokio::test]
async fn a_gateway_that_compaction_overtook_reads_everything_again() {
    let Some(wired) = store::etcd_tests::Wired::connect().await else { return };
    let (direct, through): (Arc<dyn StateStore>, Arc<dyn StateStore>) = (wired.direct.clone(), wired.through.clone());
    let (a, b) = (Gateway::start("a", &direct).await.unwrap(), Gateway::start("b", &through).await.unwrap());
    wired.cut(true);
    b.says(|status| status.unreachable.is_some()).await;
    let before = b.ports();
    let error = b.move_target(0).await.expect_err("it can't be saved");
    assert!(chain(&error).contains("nothing was changed"), "{error}");
    a.move_target(0).await.expect("a goes on");
    let moved = a.move_target(1).await.expect("a goes on");
    assert_eq!(b.ports(), before);
    wired.compact().await;
    wired.cut(false);
    let follows =
        |snapshot: &Arc<Snapshot>| snapshot.targets.iter().any(|view| view.id == moved.target && view.port == moved.to);
    b.control.snapshots().wait_for(follows).await.expect("b follows");
    assert_eq!(a.ports(), b.ports());
    b.says(|status| status.unreachable.is_none()).await;
    b.move_target(2).await.expect("and changes");
}

/// Eight clients of three gateways create endpoints in one subnet, and three with one client token.
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

/// The quickstart without a member of its first cluster for each of `fewer`.
fn config_with(fewer: usize) -> Desired {
    let mut desired = config::quickstart().desired;
    for _ in 0..fewer {
        desired.projects[0].clusters[0].nodes.pop();
    }
    desired
}

#[test]
fn a_reload_of_one_gateway_is_the_config_of_all() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let (a, b) = (Gateway::start("a", &store).await.unwrap(), Gateway::start("b", &store).await.unwrap());
        a.control.replace_inventory(Ok(config_with(1))).await.expect("a reload is for all");
        b.says(|status| status.file_differs).await;
        assert_eq!(a.ports(), b.ports());
        assert!(a.ports().len() < config_targets(0));
        assert!(!a.status().file_differs);
        b.move_target(0).await.expect("another file locks no gateway out");
        b.control.replace_inventory(Ok(config_with(0))).await.expect("its file is the config of all");
        a.says(|status| status.file_differs).await;
        assert_eq!((a.ports().len(), b.ports().len()), (config_targets(0), config_targets(0)));
        assert!(!b.status().file_differs);
    });
}

/// The number of targets in a config.
fn config_targets(fewer: usize) -> usize {
    crate::plan::compile(&config_with(fewer), &PortAllocations::default(), Generation(1))
        .expect("a plan")
        .0
        .targets
        .len()
}

#[test]
fn one_of_two_concurrent_reloads_is_refused_and_names_the_other() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let (a, b) = (Gateway::start("a", &store).await.unwrap(), Gateway::start("b", &store).await.unwrap());
        let (first, second) = tokio::join!(
            a.control.replace_inventory(Ok(config_with(1))),
            b.control.replace_inventory(Ok(config_with(2)))
        );
        let (winner, refused) = match (first, second) {
            (Ok(_), Err(error)) => ("a", error),
            (Err(error), Ok(_)) => ("b", error),
            other => panic!("{other:?}"),
        };
        let expected = format!("gateway `{winner}` changed the config of all gateways at the same time");
        assert!(refused.to_string().starts_with(&expected), "{refused}");
        caught_up(&store, &[a, b]).await;
    });
}

#[test]
fn a_gateway_that_starts_beside_others_goes_by_their_config_and_alone_by_its_file() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let a = Gateway::start("a", &store).await.unwrap();
        a.end(false).await;
        let a = Gateway::start_with("a", &store, config_with(1)).await.expect("no other gateway is known");
        assert_eq!((a.ports().len(), a.status().file_differs), (config_targets(1), false));
        let b = Gateway::start_with("b", &store, config_with(2)).await.expect("it takes over what is in force");
        assert_eq!((b.ports(), b.status().file_differs), (a.ports(), true));
        a.end(false).await;
        let a = Gateway::start_with("a", &store, config_with(0)).await.expect("b may be there");
        assert_eq!((a.ports(), a.status().file_differs), (b.ports(), true));
    });
}

#[test]
fn a_gateway_id_is_one_process_and_free_once_that_is_gone() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let first = Gateway::start("a", &store).await.unwrap();
        let Err(taken) = Gateway::start("a", &store).await else { panic!("two processes with one id") };
        let text = chain(&taken);
        assert!(text.contains("gateway id `a` is taken") && text.contains("http://a:8474"), "{text}");
        first.move_target(0).await.expect("the first one is as it was");
        first.end(false).await;
        let second = Gateway::start("a", &store).await.expect("the first one has left");
        second.end(true).await;
        let third = Gateway::start("a", &store).await.expect("nothing was heard of the second one for a while");
        third.move_target(0).await.expect("it is the gateway");
    });
}

#[test]
fn a_process_whose_id_was_taken_while_it_was_suspended_changes_nothing_and_ends() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let first = Gateway::start("a", &store).await.unwrap();
        first.connection.state.send_replace(Reach::Paused);
        let late = tokio::spawn(first.move_target(0));
        let second = Gateway::start("a", &store).await.expect("nothing was heard of the first one");
        let before = second.ports();
        first.connection.state.send_replace(Reach::There);
        first.control.ended().await;
        late.await.unwrap().expect_err("it is not the gateway any more");
        let behind = first.status().behind.expect("it says why it ended");
        assert!(behind.contains("gateway id `a` is taken"), "{behind}");
        assert_eq!(second.ports(), before);
        second.move_target(0).await.expect("it is the gateway");
    });
}

#[test]
fn a_store_that_does_not_answer_refuses_changes_and_nothing_else() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let (a, b) = (Gateway::start("a", &store).await.unwrap(), Gateway::start("b", &store).await.unwrap());
        a.connection.state.send_replace(Reach::Cut);
        let status = a.says(|status| status.unreachable.is_some()).await;
        assert!(status.problems(|moment| moment.0.to_string())[0].contains("has not answered since"), "{status:?}");
        let before = a.ports();
        for _ in 0..2 {
            let refused = a.move_target(0).await.expect_err("it can't be saved");
            assert!(chain(&refused).contains("nothing was changed"), "{refused}");
            let same = a.control.set_pace(a.control.pace()).await;
            same.expect_err("whether it is a change at all is not known");
        }
        let zone = a.control.snapshot().zones[0].zone.clone();
        let silent = a.control.set_zone_silent(zone.clone(), true).await.expect("what is this gateway's own goes on");
        assert_eq!(a.control.snapshot().generation, silent);
        b.move_target(0).await.expect("the others go on");
        assert_eq!(a.ports(), before);
        a.connection.state.send_replace(Reach::There);
        let after = b.ports();
        a.control.snapshots().wait_for(|_| a.ports() == after).await.expect("it follows");
        a.says(|status| status.unreachable.is_none()).await;
        a.move_target(1).await.expect("and changes");
    });
}

#[test]
fn a_change_is_decided_on_the_latest_state_also_when_it_seems_to_change_nothing() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let (a, b) = (Gateway::start("a", &store).await.unwrap(), Gateway::start("b", &store).await.unwrap());
        let target = a.ports()[0].0.clone();
        for (one, other) in [(&a, &b), (&b, &a)] {
            one.control.set_fault(refusal(&target)).await.expect("set");
            assert_eq!(other.control.clear_faults().await.expect("cleared"), 1, "it was set before");
        }
        a.control.set_pace(Pace::Frozen).await.expect("saved");
        b.control.set_pace(Pace::Fast).await.expect("what its config says is no longer so");
        a.control.shared_status().wait_for(|_| a.control.pace() == Pace::Fast).await.expect("it follows");
    });
}

fn refusal(target: &TargetId) -> Fault {
    let fault = serde_json::json!({ "name": "no", "type": "refuse", "target": target });
    serde_json::from_value(fault).expect("a fault")
}

#[test]
fn an_address_that_one_gateway_cannot_bind_is_retried_and_blocks_nothing_else() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let (a, b) = (Gateway::start("a", &store).await.unwrap(), Gateway::start("b", &store).await.unwrap());
        let port = 1100;
        b.ports.taken.lock().unwrap().insert(port);
        let target = a.control.snapshot().targets[0].id.clone();
        let moved = a.control.move_target(target, None, Some(port.try_into().unwrap())).await.expect("decided");
        let status = b.says(|status| !status.unbound.is_empty()).await;
        assert!(status.unbound[0].contains("1100 is taken"), "{status:?}");
        assert!(b.ports().contains(&(moved.target.clone(), moved.to)), "it goes by what was decided");
        b.move_target(1).await.expect("other changes are as before");
        let is_open = || b.ports.open.lock().unwrap().iter().any(|(.., open)| *open == port);
        assert!(!is_open());
        b.ports.taken.lock().unwrap().clear();
        b.says(|status| status.unbound.is_empty()).await;
        assert!(is_open());
        b.ports.taken.lock().unwrap().insert(1200);
        let own = b.control.move_target(moved.target, None, Some(1200.try_into().unwrap())).await;
        assert!(matches!(own, Err(ChangeError::Bind(_))), "its own change is refused: {own:?}");
    });
}

#[test]
fn a_store_that_was_restored_from_an_older_copy_is_noticed_and_not_followed() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::with_gaps());
        let (a, b) = (Gateway::start("a", &store).await.unwrap(), Gateway::start("b", &store).await.unwrap());
        let copy: Arc<dyn StateStore> = Arc::new(MemoryStore::with_gaps());
        for entry in store.range("").await.unwrap().entries {
            copy.commit(Txn::new().put(entry.key, entry.value)).await.unwrap();
        }
        a.move_target(0).await.expect("saved after the copy was made");
        let before = a.ports();
        b.control.snapshots().wait_for(|_| b.ports() == before).await.expect("it follows");
        for gateway in [&a, &b] {
            *gateway.connection.inner.lock().unwrap() = Arc::clone(&copy);
        }
        for gateway in [&a, &b] {
            let status = gateway.says(|status| status.behind.is_some()).await;
            assert!(status.behind.unwrap().contains("restored from an older copy"));
            assert_eq!(gateway.ports(), before);
            gateway.move_target(0).await.expect_err("nothing is written to it");
            gateway.end(true).await;
        }
        let a = Gateway::start("a", &copy).await.expect("a restart takes over what is there");
        a.move_target(0).await.expect("saved");
    });
}

/// Rolled back, or left behind by an upgrade of the others.
#[test]
fn a_state_in_a_later_format_is_not_followed_and_keeps_an_older_program_from_starting() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let a = Gateway::start("a", &store).await.unwrap();
        let before = a.ports();
        let head = store.range(shared::HEAD).await.unwrap().entries.remove(0);
        let mut later: serde_json::Value = serde_json::from_slice(&head.value).unwrap();
        assert_eq!(later["format"], shared::FORMAT);
        (later["seq"], later["by"], later["format"]) = (2.into(), "z".into(), (shared::FORMAT + 1).into());
        let ledger = store.range("ports/").await.unwrap().entries.remove(0).key;
        store.commit(Txn::new().put(head.key, later.to_string()).put(ledger, "[1, 2]")).await.unwrap();
        let behind = a.says(|status| status.behind.is_some()).await.behind.unwrap();
        assert!(behind.contains("gateway `z` wrote the shared state in format 2"), "{behind}");
        assert!(behind.contains("upgrade this gateway"), "{behind}");
        a.move_target(0).await.expect_err("nothing is written on what it can't read");
        assert_eq!(a.ports(), before);
        let error = Gateway::start("b", &store).await.err().expect("it would serve what it can't read");
        assert!(chain(&error).contains("upgrade this gateway"), "{}", chain(&error));
    });
}

#[test]
fn a_target_that_a_fault_moves_is_moved_once_although_every_gateway_has_the_fault() {
    block_on(async {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let mut gateways = Vec::new();
        for name in NAMES {
            gateways.push(Gateway::start(name, &store).await.unwrap());
        }
        let before = gateways[0].ports();
        gateways[2].control.set_fault(port_move(&before[0].0, None)).await.expect("set");
        caught_up(&store, &gateways).await;
        assert_eq!(gateways.iter().map(moves).sum::<usize>(), 1);
        assert_ne!(gateways[0].ports(), before);
    });
}

/// The moves that a gateway made.
fn moves(gateway: &Gateway) -> usize {
    let page = gateway.control.events().latest(usize::MAX);
    page.events.iter().filter(|event| event.kind == events::EventKind::Move).count()
}

fn port_move(target: &TargetId, every: Option<u64>) -> Fault {
    let mut fault = serde_json::json!({ "name": "mover", "type": "port-move", "target": target });
    if let Some(every) = every {
        fault["every"] = format!("{every}ms").into();
    }
    serde_json::from_value(fault).expect("a fault")
}

/// With the real clock, as times are saved.
#[tokio::test]
async fn a_repeating_move_is_made_once_a_period_by_whichever_gateway() {
    const PERIOD: u64 = 200;
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    let mut gateways = Vec::new();
    for name in NAMES {
        gateways.push(Gateway::start(name, &store).await.unwrap());
    }
    let mut changes = store.changes("overrides/moved/").await.unwrap();
    let target = gateways[0].ports()[0].0.clone();
    gateways[1].control.set_fault(port_move(&target, Some(PERIOD))).await.expect("set");
    let mut moved = BTreeMap::new();
    while moved.len() < 4 {
        changes.next().await.expect("a change");
        for latest in store.range("overrides/moved/").await.unwrap().entries {
            let made: serde_json::Value = serde_json::from_slice(&latest.value).unwrap();
            moved.insert(latest.revision, made["at"].as_u64().unwrap());
        }
    }
    gateways[1].control.clear_fault("mover".to_owned()).await.expect("cleared");
    caught_up(&store, &gateways).await;
    // At most one more was made before the fault was cleared. A move made twice in a period would be counted twice.
    let made: usize = gateways.iter().map(moves).sum();
    assert!(made == moved.len() || made == moved.len() + 1, "{made} moves, saved at {moved:?}");
    let moments: Vec<u64> = moved.into_values().collect();
    assert!(moments.windows(2).all(|two| two[1] >= two[0] + PERIOD), "{moments:?}");
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
        let problem = a.status().behind.expect("it says so");
        assert!(problem.contains("its keys were deleted"), "{problem}");
        assert_eq!(ports(&a), before);
        a.move_target(0).await.expect_err("nothing is written to it");
    });
}
