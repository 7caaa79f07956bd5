//! Zones of whole gateways without sockets, on a virtual clock: which listeners are open, and what DNS answers. Part D of
//! tests/CONFORMANCE.md (D1 to D30).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::membership::{LEASE, TAKEOVER};
use super::*;
use crate::config;
use crate::control::shared::HEAD;
use crate::control::store::{MemoryStore, RangeView, Revision, Txn};
use crate::control::{Control, ControlParts};
use crate::model::DrainReason;
use crate::plan::{Changes, Listener, ListenerAccess, Snapshot};

/// Zones of the quickstart.
const ZONES: [&str; 2] = ["us-east-1a", "us-east-1b"];

/// A gateway's connection to the store, with delays.
#[derive(Debug)]
struct Line {
    inner: Arc<dyn StateStore>,
    is_cut: watch::Sender<bool>,
    /// The delays of a read, of a commit before it happens, and of its response.
    times: watch::Sender<[Duration; 3]>,
}

impl Line {
    fn new(inner: Arc<dyn StateStore>) -> Self {
        let time = Duration::from_millis(2);
        Self { inner, is_cut: watch::Sender::new(false), times: watch::Sender::new([time, time, Duration::ZERO]) }
    }

    async fn call(&self, time: Duration) -> Result<(), StoreError> {
        tokio::time::sleep(time).await;
        if *self.is_cut.borrow() { Err(StoreError::Unavailable { source: "cut".into() }) } else { Ok(()) }
    }
}

impl StateStore for Line {
    fn range<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<RangeView, StoreError>> {
        Box::pin(async move {
            let [time, ..] = *self.times.borrow();
            self.call(time).await?;
            self.inner.range(prefix).await
        })
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            let [_, time, answer] = *self.times.borrow();
            self.call(time).await?;
            let outcome = self.inner.commit(txn).await;
            tokio::time::sleep(answer).await;
            outcome
        })
    }

    fn changes<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<BoxStream<'static, ()>, StoreError>> {
        Box::pin(async move {
            let [time, ..] = *self.times.borrow();
            self.call(time).await?;
            self.inner.changes(prefix).await
        })
    }
}

/// A store that announces its first commit and holds it until it is released.
#[derive(Debug)]
struct Overtaken {
    inner: Arc<dyn StateStore>,
    first: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
}

impl StateStore for Overtaken {
    fn range<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<RangeView, StoreError>> {
        self.inner.range(prefix)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            let is_change = txn.puts.iter().any(|(key, _)| key.as_str() == HEAD);
            let first = if is_change { self.first.lock().unwrap().take() } else { None };
            if let Some((comes, may)) = first {
                comes.send(()).expect("the test waits for it");
                may.await.expect("it may");
            }
            self.inner.commit(txn).await
        })
    }

    fn changes<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<BoxStream<'static, ()>, StoreError>> {
        self.inner.changes(prefix)
    }
}

/// The open listeners of all gateways on one host: each address at most once.
#[derive(Debug, Clone, Default)]
struct Host(Arc<Mutex<BTreeSet<IpAddr>>>);

/// The listeners of one gateway.
#[derive(Debug, Default)]
struct Listeners {
    host: Host,
    own: Mutex<Vec<Arc<Listener>>>,
    /// Closes nothing, as a stopped process.
    is_stuck: AtomicBool,
}

impl Listeners {
    fn claims(&self) -> BTreeSet<String> {
        self.own.lock().unwrap().iter().map(|listener| listener.claim().to_owned()).collect()
    }
}

impl Plane for Listeners {
    type Bound = Vec<Arc<Listener>>;
    type Open = ();

    fn bind(&self, changes: &Changes, _: &Arc<Snapshot>) -> (Self::Bound, BTreeMap<SocketAddr, String>) {
        let host = self.host.0.lock().unwrap();
        let own: BTreeSet<_> = self.own.lock().unwrap().iter().map(|listener| listener.address.ip()).collect();
        let new: BTreeSet<_> = changes.open.iter().map(|listener| listener.address.ip()).collect();
        let taken: BTreeSet<_> = new.difference(&own).filter(|ip| host.contains(*ip)).copied().collect();
        let is_taken = |listener: &&Arc<Listener>| taken.contains(&listener.address.ip());
        let failed = |listener: &Arc<Listener>| {
            (listener.address, format!("failed to bind {}: address already in use", listener.address))
        };
        let unbound = changes.open.iter().filter(is_taken).map(failed).collect();
        (changes.open.iter().filter(|listener| !is_taken(listener)).cloned().collect(), unbound)
    }

    async fn open(&self, bound: Self::Bound, _: &Arc<Snapshot>) {
        self.host.0.lock().unwrap().extend(bound.iter().map(|listener| listener.address.ip()));
        self.own.lock().unwrap().extend(bound);
    }

    async fn retarget(&self, _: &Changes, _: &Arc<Snapshot>) {}

    async fn close(&self, listener: &Arc<Listener>) {
        if self.is_stuck.load(Ordering::Relaxed) {
            return;
        }
        let mut own = self.own.lock().unwrap();
        own.retain(|other| other.address != listener.address);
        if !own.iter().any(|other| other.address.ip() == listener.address.ip()) {
            self.host.0.lock().unwrap().remove(&listener.address.ip());
        }
    }

    async fn drain(&self, (): (), _: Duration, cut: Option<DrainReason>) {
        assert_ne!(cut, Some(DrainReason::ClaimLost), "flows run on");
    }
}

struct Gateway {
    control: Control,
    listeners: Arc<Listeners>,
    line: Arc<Line>,
    stop: CancellationToken,
}

impl Gateway {
    async fn start(name: &str, claims: Option<&[&str]>, store: &Arc<dyn StateStore>, host: &Host) -> Self {
        Self::try_start(name, claims, store, host).await.expect("it starts")
    }

    async fn try_start(
        name: &str,
        claims: Option<&[&str]>,
        store: &Arc<dyn StateStore>,
        host: &Host,
    ) -> Result<Self, ChangeError> {
        let listeners = Arc::new(Listeners { host: host.clone(), ..Listeners::default() });
        let line = Arc::new(Line::new(Arc::clone(store)));
        let stop = CancellationToken::new();
        let claims = claims.map(|claims| claims.iter().map(|claim| claim.parse().unwrap()).collect());
        let parts = ControlParts {
            gateway: Some(name.parse().unwrap()),
            gateway_parts: GatewayParts { claims, left: stop.clone(), ..GatewayParts::default() },
            stop: stop.clone(),
            ..ControlParts::for_test(Arc::clone(&listeners), line.clone())
        };
        let control = Control::start(parts, config::quickstart().desired, &TaskTracker::new()).await?;
        Ok(Self { control, listeners, line, stop })
    }

    /// The zones whose addresses are in DNS.
    fn in_dns(&self) -> BTreeSet<String> {
        let snapshot = self.control.snapshot();
        let views = snapshot.zones.iter().filter(|view| view.addresses.iter().any(|address| address.in_dns));
        views.map(|view| view.zone.to_string()).collect()
    }

    fn state(&self, name: &str) -> GatewayState {
        let view = self.control.gateways().expect("the state is shared");
        view.gateways.iter().find(|gateway| gateway.id.as_str() == name).expect(name).state
    }

    /// Ends as a process that closes its listeners first.
    async fn leave(self) {
        self.stop.cancel();
        self.control.ended().await;
        let own = self.listeners.own.lock().unwrap().clone();
        for listener in own {
            self.listeners.close(&listener).await;
        }
        self.control.leave_gateways().await;
    }
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The addresses of the quickstart's endpoints in `zone`.
fn addresses_of(zone: &str) -> BTreeSet<IpAddr> {
    let endpoints = config::quickstart().desired.endpoints.into_values();
    let addresses = endpoints.flat_map(|endpoint| endpoint.addresses);
    addresses.filter(|address| address.zone.as_str() == zone).map(|address| address.ip).collect()
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future);
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

fn memory() -> Arc<dyn StateStore> {
    Arc::new(MemoryStore::new())
}

#[test]
fn each_gateway_listens_in_its_zones_and_dns_leaves_out_those_that_are_not_served() {
    block_on(async {
        let (store, host) = (memory(), Host::default());
        let a = Gateway::start("a", Some(&[ZONES[0], "public"]), &store, &host).await;
        assert_eq!(a.listeners.claims(), set(&[ZONES[0], "public"]), "from the start on");
        seconds(2).await;
        assert_eq!(a.in_dns(), set(&[ZONES[0]]));
        let b = Gateway::start("b", Some(&[ZONES[1]]), &store, &host).await;
        assert_eq!(b.listeners.claims(), set(&[ZONES[1]]));
        seconds(3).await;
        assert_eq!((a.in_dns(), b.in_dns()), (set(&ZONES), set(&ZONES)));
        let moved = a.control.snapshot().targets[0].id.clone();
        a.control.move_target(moved, None, None).await.expect("changes are of all zones");
        b.leave().await;
        seconds(3).await;
        assert_eq!(a.in_dns(), set(&[ZONES[0]]));
        let shown = a.control.snapshot().zones.iter().filter(|view| view.unserved).count();
        assert_eq!(shown, 1);
        let b = Gateway::start("b", Some(&[ZONES[1]]), &store, &host).await;
        seconds(3).await;
        assert_eq!((a.in_dns(), b.in_dns()), (set(&ZONES), set(&ZONES)), "it came back");
    });
}

#[test]
fn a_gateway_that_died_leaves_dns_and_its_standby_takes_its_zone() {
    block_on(async {
        let (store, host) = (memory(), Host::default());
        let a = Gateway::start("a", Some(&ZONES[..1]), &store, &host).await;
        let b = Gateway::start("b", Some(&ZONES[1..]), &store, &host).await;
        let c = Gateway::start("c", Some(&ZONES[..1]), &store, &Host::default()).await;
        seconds(3).await;
        assert_eq!((c.listeners.claims(), c.state("c")), (set(&[]), GatewayState::Standby));
        a.line.is_cut.send_replace(true);
        seconds(LEASE.as_secs() + 1).await;
        assert_eq!((b.in_dns(), b.state("a")), (set(&ZONES[1..]), GatewayState::Gone));
        assert_eq!(
            (a.listeners.claims(), c.listeners.claims()),
            (set(&[]), set(&[])),
            "its lease is over before another's"
        );
        seconds(TAKEOVER.as_secs()).await;
        assert_eq!((c.listeners.claims(), b.in_dns()), (set(&ZONES[..1]), set(&ZONES)));
        a.line.is_cut.send_replace(false);
        seconds(3).await;
        assert_eq!((a.listeners.claims(), a.state("a")), (set(&[]), GatewayState::Standby));
        assert_eq!(a.in_dns(), set(&ZONES));
    });
}

#[test]
fn zones_without_a_standby_are_served_and_no_gateway_is_declared_gone_while_the_store_is_unavailable() {
    block_on(async {
        let (store, host) = (memory(), Host::default());
        let a = Gateway::start("a", Some(&ZONES[..1]), &store, &host).await;
        let b = Gateway::start("b", Some(&ZONES[1..]), &store, &host).await;
        seconds(3).await;
        for gateway in [&a, &b] {
            gateway.line.is_cut.send_replace(true);
        }
        seconds(600).await;
        for (gateway, zone) in [&a, &b].into_iter().zip(ZONES) {
            assert_eq!((gateway.listeners.claims(), gateway.in_dns()), (set(&[zone]), set(&ZONES)));
            let problem = gateway.control.gateways().unwrap().problem.clone().expect("it says so");
            assert!(problem.contains("cut"), "{problem}");
        }
        a.line.is_cut.send_replace(false);
        seconds(2).await;
        assert_eq!(a.in_dns(), set(&ZONES), "b may have been without the store too");
        seconds(LEASE.as_secs() + 2).await;
        assert_eq!(a.in_dns(), set(&ZONES[..1]), "b has had the time");
    });
}

/// As on one host: the claim is free before the address is.
#[test]
fn a_zone_whose_addresses_are_taken_is_served_once_they_are_free() {
    block_on(async {
        let (store, host) = (memory(), Host::default());
        let a = Gateway::start("a", Some(&ZONES[..1]), &store, &host).await;
        let c = Gateway::start("c", Some(&ZONES[..1]), &store, &host).await;
        seconds(3).await;
        a.listeners.is_stuck.store(true, Ordering::Relaxed);
        a.line.is_cut.send_replace(true);
        seconds(TAKEOVER.as_secs() + 3).await;
        assert_eq!(c.listeners.claims(), set(&[]));
        let problem = c.control.gateways().unwrap().problem.clone().expect("it says so");
        assert!(problem.contains("cannot serve us-east-1a: failed to bind"), "{problem}");
        assert_eq!(c.in_dns(), set(&ZONES), "of no zone that answers all are answered");
        host.0.lock().unwrap().clear();
        seconds(3).await;
        assert_eq!((c.listeners.claims(), c.in_dns()), (set(&ZONES[..1]), set(&ZONES[..1])));
        assert_eq!(c.control.gateways().unwrap().problem, None);
    });
}

#[test]
fn a_start_whose_addresses_are_taken_fails_and_leaves_nothing() {
    block_on(async {
        let (store, host) = (memory(), Host::default());
        host.0.lock().unwrap().extend(ZONES.into_iter().flat_map(addresses_of));
        let error = Gateway::try_start("a", Some(&ZONES), &store, &host).await.err().expect("it fails");
        assert!(matches!(error, ChangeError::Bind(_)), "{error}");
        assert_eq!(store.range("").await.unwrap().entries, []);
        let b = Gateway::start("b", Some(&ZONES), &store, &Host::default()).await;
        assert_eq!(b.listeners.claims(), set(&ZONES));
    });
}

#[test]
fn a_start_with_the_addresses_of_one_zone_taken_serves_the_others_and_that_one_later() {
    block_on(async {
        let (store, host) = (memory(), Host::default());
        let taken = addresses_of(ZONES[1]);
        host.0.lock().unwrap().clone_from(&taken);
        let a = Gateway::start("a", Some(&ZONES), &store, &host).await;
        assert_eq!(a.listeners.claims(), set(&ZONES[..1]));
        seconds(2).await;
        let problem = a.control.gateways().unwrap().problem.clone().expect("it says so");
        assert!(problem.contains("cannot serve us-east-1b: failed to bind"), "{problem}");
        assert_eq!(a.in_dns(), set(&ZONES[..1]));
        host.0.lock().unwrap().retain(|ip| !taken.contains(ip));
        seconds(3).await;
        assert_eq!((a.listeners.claims(), a.in_dns()), (set(&ZONES), set(&ZONES)));
        assert_eq!(a.control.gateways().unwrap().problem, None);
    });
}

/// The other gateway's change in the meantime stays.
#[test]
fn a_start_that_is_overtaken_before_it_finds_addresses_taken_undoes_nothing() {
    block_on(async {
        let (store, host) = (memory(), Host::default());
        let b = Gateway::start("b", Some(&ZONES[1..]), &store, &Host::default()).await;
        let target = b.control.snapshot().targets[0].id.clone();
        let ((comes, coming), (go, may)) = (oneshot::channel(), oneshot::channel());
        let overtaken: Arc<dyn StateStore> =
            Arc::new(Overtaken { inner: Arc::clone(&store), first: Mutex::new(Some((comes, may))) });
        let other = async {
            coming.await.expect("a makes its first change");
            let moved = b.control.move_target(target.clone(), None, None).await.expect("moved");
            // Its other port drains, so that b makes no more changes.
            seconds(60).await;
            host.0.lock().unwrap().extend(addresses_of(ZONES[0]));
            go.send(()).expect("a waits");
            moved
        };
        let (a, moved) = tokio::join!(Gateway::start("a", Some(&[ZONES[0], "public"]), &overtaken, &host), other);
        assert_eq!(a.listeners.claims(), set(&["public"]));
        seconds(3).await;
        for gateway in [&a, &b] {
            let snapshot = gateway.control.snapshot();
            assert_eq!(snapshot.targets.iter().find(|view| view.id == target).unwrap().port, moved.to);
        }
    });
}

#[test]
fn a_zone_that_its_gateway_cannot_bind_goes_to_a_standby() {
    block_on(async {
        let (store, host) = (memory(), Host::default());
        host.0.lock().unwrap().extend(addresses_of(ZONES[1]));
        let a = Gateway::start("a", Some(&ZONES), &store, &host).await;
        seconds(TAKEOVER.as_secs()).await;
        assert!(a.control.gateways().unwrap().problem.is_some(), "no other gateway wants it");
        let c = Gateway::start("c", Some(&ZONES[1..]), &store, &Host::default()).await;
        seconds(5).await;
        assert_eq!((a.listeners.claims(), c.listeners.claims()), (set(&ZONES[..1]), set(&ZONES[1..])));
        assert_eq!((a.in_dns(), c.in_dns()), (set(&ZONES), set(&ZONES)));
        assert_eq!(a.control.gateways().unwrap().problem, None, "it is the standby");
    });
}

#[test]
fn a_lease_does_not_end_while_the_store_answers_in_time() {
    block_on(async {
        let store = memory();
        let a = Gateway::start("a", Some(&ZONES[..1]), &store, &Host::default()).await;
        let c = Gateway::start("c", Some(&ZONES[..1]), &store, &Host::default()).await;
        seconds(3).await;
        a.line.times.send_replace([CALL_TIMEOUT * 19 / 40, CALL_TIMEOUT * 19 / 20, Duration::ZERO]);
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let own = a.listeners.own.lock().unwrap().clone();
            assert!(!own.is_empty());
            assert!(own.iter().all(|listener| !listener.lease.is_over(|| Instant::now().into_std())));
        }
        assert_eq!(c.listeners.claims(), set(&[]));
    });
}

/// Whatever happens to the response: the standby may take the claim from then on.
#[test]
fn a_lease_has_its_end_before_the_store_has_that_it_has_one() {
    block_on(async {
        let store = memory();
        let a = Gateway::start("a", Some(&ZONES[..1]), &store, &Host::default()).await;
        let may_end = |own: &Listener| own.lease.is_over(|| (Instant::now() + LEASE).into_std());
        assert!(!a.listeners.own.lock().unwrap().iter().any(|own| may_end(own)), "no other gateway wants the zone");
        a.line.times.send_modify(|[_, _, answer]| *answer = CALL_TIMEOUT);
        let c = Gateway::start("c", Some(&ZONES[..1]), &store, &Host::default()).await;
        let is_fenced = async || {
            let claim = store.range("gateways/claims/").await.unwrap().entries.remove(0);
            serde_json::from_slice::<serde_json::Value>(&claim.value).unwrap()["fenced"] == true
        };
        while !is_fenced().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let own = a.listeners.own.lock().unwrap().clone();
        assert!(!own.is_empty() && own.iter().all(|own| may_end(own)));
        assert_eq!(c.listeners.claims(), set(&[]));
    });
}

#[test]
fn gateways_without_zones_listen_everywhere_and_nothing_is_unserved() {
    block_on(async {
        let store = memory();
        let a = Gateway::start("a", None, &store, &Host::default()).await;
        let b = Gateway::start("b", Some(&ZONES[..1]), &store, &Host::default()).await;
        seconds(3).await;
        for gateway in [&a, &b] {
            assert_eq!(gateway.in_dns(), set(&ZONES));
            assert_eq!((gateway.state("a"), gateway.state("b")), (GatewayState::Serving, GatewayState::Serving));
        }
        assert!(
            a.listeners
                .own
                .lock()
                .unwrap()
                .iter()
                .any(|listener| matches!(listener.access, ListenerAccess::Public { .. }))
        );
        assert_eq!(a.control.gateways().unwrap().claims[0].holder, Some("b".parse().unwrap()));
    });
}

#[test]
fn a_gateway_that_is_gone_is_forgotten_with_its_reserved_ports() {
    block_on(async {
        let (store, host) = (memory(), Host::default());
        let a = Gateway::start("a", Some(&ZONES[..1]), &store, &host).await;
        let b = Gateway::start("b", Some(&ZONES[1..]), &store, &host).await;
        seconds(2).await;
        let forget = |name: &str| a.control.forget_gateway(name.parse().unwrap());
        let lives = forget("b").await.expect_err("it lives");
        assert!(matches!(lives, ChangeError::Refused(Refused::GatewayLives, _)), "{lives}");
        let unknown = forget("z").await.expect_err("there is none");
        assert!(matches!(unknown, ChangeError::Refused(Refused::NoSuchGateway, _)), "{unknown}");
        b.line.is_cut.send_replace(true);
        let target = a.control.snapshot().targets[0].id.clone();
        let first = a.control.move_target(target.clone(), None, None).await.expect("moved");
        seconds(LEASE.as_secs() + 3).await;
        let second = a.control.move_target(target.clone(), None, None).await.expect("moved again");
        assert_ne!(second.to, first.from, "b may have the port open");
        assert_eq!(forget("b").await.expect("forgotten"), 2, "both ports that were given up");
        let third = a.control.move_target(target, None, None).await.expect("moved back");
        assert_eq!(third.to, first.from);
        seconds(2).await;
        assert!(!a.control.gateways().unwrap().gateways.iter().any(|gateway| gateway.id.as_str() == "b"));
        assert!(matches!(forget("b").await, Err(ChangeError::Refused(Refused::NoSuchGateway, _))));
        let c = Gateway::start("c", Some(&ZONES[1..]), &store, &Host::default()).await;
        seconds(2).await;
        assert_eq!(c.listeners.claims(), set(&ZONES[1..]), "its claim is free");
    });
}
