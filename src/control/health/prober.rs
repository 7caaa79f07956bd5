//! Probes every member in its time and tells what changes.
//!
//! One task and one timer serve all members: a hundred of them cost a hundred entries in an ordered queue. Probes
//! themselves run side by side, so one that waits for an answer delays no other.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Checker, HealthReason, HttpQuestion, Probe, ProbeTarget, Verdict};
use crate::model::{ConnectError, HealthCheck, HealthProtocol, TargetId, TargetPort, TargetState, VpceServiceId};

/// Which member of which target group of which load balancer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct MemberKey {
    /// The load balancer.
    pub service: VpceServiceId,
    /// The addressable target.
    pub target: TargetId,
    /// The member's name.
    pub member: String,
}

/// A member that is to be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedMember {
    /// Which.
    pub key: MemberKey,
    /// Where it listens.
    pub address: SocketAddr,
    /// The address to probe from: the first of the load balancer's; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// Begin with a PROXY header, as its flows do.
    pub proxy_protocol: bool,
    /// How often, how long, how many.
    pub check: HealthCheck,
    /// What a fault lets every probe meet.
    pub fault: Option<ConnectError>,
}

/// A member's state changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthEvent {
    /// Which member.
    #[serde(flatten)]
    pub key: MemberKey,
    /// Where it was probed: a member may have moved since.
    pub address: SocketAddr,
    /// Its state now.
    pub state: TargetState,
    /// Why; healthy members have no reason.
    pub reason: Option<HealthReason>,
    /// What the last probe met, for people.
    pub cause: Option<ConnectError>,
    /// Why the latest connection to its traffic port failed; `None` when it came about.
    pub reach: Option<ConnectError>,
}

/// Runs the health checks of a set of members until it is dropped or cancelled.
#[derive(Debug)]
pub struct HealthProber {
    members: watch::Sender<Arc<[ProbedMember]>>,
    doubts: mpsc::UnboundedSender<SocketAddr>,
}

impl HealthProber {
    /// A prober without members, and the future that does its work: it ends when the prober is dropped, `stop` is
    /// cancelled, or nobody receives `events` any more.
    ///
    /// An event is sent when a member's state changes and when a member that moved to another address is `initial`
    /// again; a new member is `initial` without an event.
    pub fn new(
        probe: Arc<dyn Probe>,
        events: mpsc::Sender<HealthEvent>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (members, wanted) = watch::channel(Arc::from([]));
        let (doubts, doubted) = mpsc::unbounded_channel();
        let work = async move {
            let rounds = Rounds::new(probe);
            stop.run_until_cancelled(rounds.run(wanted, doubted, events)).await;
        };
        (Self { members, doubts }, work)
    }

    /// Where to say that a connection to an address failed: its members are looked at at once, and then every second
    /// until they can be reached again. Such looks are no health checks.
    pub fn doubts(&self) -> mpsc::UnboundedSender<SocketAddr> {
        self.doubts.clone()
    }

    /// Says which members are probed from now on. One that is already probed keeps its state and its rhythm; with other
    /// settings it keeps its state; at another address it begins anew. Never waits.
    pub fn set(&self, members: Vec<ProbedMember>) {
        self.members.send_replace(Arc::from(members));
    }
}

/// The work of a prober.
struct Rounds {
    probe: Arc<dyn Probe>,
    /// Events that nobody has taken yet: a slow receiver delays no probe.
    outbox: VecDeque<HealthEvent>,
    members: HashMap<MemberKey, Member>,
    /// When which member is probed next. Those being probed aren't in it.
    queue: BTreeSet<(Instant, u64)>,
    keys: HashMap<u64, MemberKey>,
    /// Part of this task: a task for each would wake another thread for work that takes microseconds.
    running: FuturesUnordered<BoxFuture<'static, Probed>>,
    /// When which member that can't be reached is looked at next.
    looks: BTreeSet<(Instant, u64)>,
    next_id: u64,
}

/// Which member was probed, when that began, what for, and what it met.
type Probed = (u64, Instant, Kind, Result<(), ConnectError>);

/// What a connection is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A health check.
    Check,
    /// A look whether the member can be reached.
    Look,
}

/// Time between two looks at a member that can't be reached: how late a port answers again that its target's state had
/// closed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Moments within an interval at which members that were registered together are probed: enough that a hundred of them are
/// no burst, and few enough that those of one moment are probed in one waking.
const PHASES: u64 = 12;
/// Longest wait for the answer to a look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

struct Member {
    /// Never given twice, so a late result of a member that is gone is told from its successor's.
    id: u64,
    settings: ProbedMember,
    checker: Checker,
    probes: u64,
    reach: Option<ConnectError>,
    /// A look is planned or under way.
    watched: bool,
}

impl Rounds {
    fn new(probe: Arc<dyn Probe>) -> Self {
        Self {
            probe,
            outbox: VecDeque::new(),
            members: HashMap::new(),
            queue: BTreeSet::new(),
            keys: HashMap::new(),
            running: FuturesUnordered::new(),
            looks: BTreeSet::new(),
            next_id: 0,
        }
    }

    async fn run(
        mut self,
        mut wanted: watch::Receiver<Arc<[ProbedMember]>>,
        mut doubted: mpsc::UnboundedReceiver<SocketAddr>,
        events: mpsc::Sender<HealthEvent>,
    ) {
        wanted.mark_changed();
        loop {
            let due = self.queue.first().into_iter().chain(self.looks.first()).map(|(due, _)| *due).min();
            let changes = tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let members = Arc::clone(&wanted.borrow_and_update());
                    self.replace_members(&members)
                }
                Some((id, started, kind, outcome)) = self.running.next() => {
                    self.record(id, started, kind, outcome).into_iter().collect()
                }
                () = async { sleep_until(due.expect("the branch is off without one")).await }, if due.is_some() => {
                    self.start_due();
                    Vec::new()
                }
                Some(address) = doubted.recv() => {
                    self.doubt(address);
                    Vec::new()
                }
                permit = events.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.outbox.pop_front() {
                            permit.send(event);
                        }
                        Vec::new()
                    }
                    Err(_) => return,
                },
                () = events.closed() => return,
            };
            for event in changes {
                tracing::info!(
                    service.id = %event.key.service, target.id = %event.key.target, target.member = event.key.member,
                    target.addr = %event.address, state = event.state.label(),
                    reason = event.reason.map(HealthReason::code), cause = event.cause.map(ConnectError::label),
                    "health: target changed"
                );
                self.outbox.push_back(event);
            }
        }
    }

    /// Takes on new members, lets go of old ones, and keeps the rest; returns what changes by that.
    fn replace_members(&mut self, wanted: &[ProbedMember]) -> Vec<HealthEvent> {
        let mut before = std::mem::take(&mut self.members);
        let mut moved = Vec::new();
        for settings in wanted {
            let member = match before.remove(&settings.key) {
                Some(mut member) if member.settings.address == settings.address => {
                    member.checker.set_thresholds(&settings.check);
                    member.settings = settings.clone();
                    member
                }
                known => {
                    let member = self.register(settings);
                    if let Some(known) = known {
                        self.forget(&known);
                        if known.checker.state() != TargetState::Initial {
                            moved.push(member.event(None));
                        }
                    }
                    member
                }
            };
            self.members.insert(settings.key.clone(), member);
        }
        for member in before.values() {
            self.forget(member);
        }
        moved
    }

    fn register(&mut self, settings: &ProbedMember) -> Member {
        let id = self.next_id;
        self.next_id += 1;
        self.keys.insert(id, settings.key.clone());
        self.queue.insert((Instant::now(), id));
        let (settings, checker) = (settings.clone(), Checker::new(&settings.check));
        Member { id, settings, checker, probes: 0, reach: None, watched: false }
    }

    fn forget(&mut self, member: &Member) {
        self.keys.remove(&member.id);
        self.queue.retain(|(_, id)| *id != member.id);
        self.looks.retain(|(_, id)| *id != member.id);
    }

    /// Starts the probes whose time has come.
    fn start_due(&mut self) {
        let now = Instant::now();
        while let Some((due, id)) = self.queue.first().copied() {
            if due > now {
                break;
            }
            self.queue.pop_first();
            let Some(member) = self.keys.get(&id).and_then(|key| self.members.get_mut(key)) else { continue };
            member.probes += 1;
            let probe = match member.settings.fault {
                None => self.probe.probe(member.probe_target(Kind::Check)),
                Some(fault) => faulted(fault),
            };
            let probe = timeout(member.settings.check.timeout, probe);
            self.start(id, now, Kind::Check, probe);
        }
        while let Some((due, id)) = self.looks.first().copied() {
            if due > now {
                break;
            }
            self.looks.pop_first();
            let Some(member) = self.keys.get(&id).and_then(|key| self.members.get(key)) else { continue };
            let look = match member.settings.fault {
                None => self.probe.reach(member.probe_target(Kind::Look)),
                Some(fault) => faulted(fault),
            };
            let look = timeout(LOOK_TIMEOUT, look);
            self.start(id, now, Kind::Look, look);
        }
    }

    fn start(
        &mut self,
        id: u64,
        now: Instant,
        kind: Kind,
        probe: impl Future<Output = Result<io::Result<()>, Elapsed>> + Send + 'static,
    ) {
        self.running.push(Box::pin(async move {
            // A probe that panics is a failed one: its member stays in the rounds.
            let outcome = match AssertUnwindSafe(probe).catch_unwind().await {
                Ok(Ok(outcome)) => outcome.map_err(|error| ConnectError::from(&error)),
                Ok(Err(_)) => Err(ConnectError::TimedOut),
                Err(_) => Err(ConnectError::Other),
            };
            (id, now, kind, outcome)
        }));
    }

    /// Looks at the members at an address to which a connection failed.
    fn doubt(&mut self, address: SocketAddr) {
        let now = Instant::now();
        for member in self.members.values_mut().filter(|member| member.settings.address == address) {
            if !std::mem::replace(&mut member.watched, true) {
                self.looks.insert((now, member.id));
            }
        }
    }

    /// Takes a probe's result and plans the next one; returns what changes.
    fn record(
        &mut self,
        id: u64,
        started: Instant,
        kind: Kind,
        outcome: Result<(), ConnectError>,
    ) -> Option<HealthEvent> {
        let now = Instant::now();
        let member = self.keys.get(&id).and_then(|key| self.members.get_mut(key))?;
        if kind == Kind::Look {
            member.watched = outcome.is_err();
            if member.watched {
                self.looks.insert(((started + LOOK_AGAIN).max(now), id));
            }
            let before = std::mem::replace(&mut member.reach, outcome.err());
            return (before != member.reach).then(|| member.event(outcome.err()));
        }
        // From start to start, so that the rhythm doesn't depend on how long a probe takes.
        let next = (started + member.gap()).max(now);
        self.queue.insert((next, id));
        let verdict = if outcome.is_ok() { Verdict::Pass } else { Verdict::Fail };
        let before = member.reach;
        if outcome.is_err() && !std::mem::replace(&mut member.watched, true) {
            let again = if member.settings.check.tells_reach() { LOOK_AGAIN } else { Duration::ZERO };
            self.looks.insert((now + again, id));
        }
        if member.settings.check.tells_reach() {
            member.reach = outcome.err();
        }
        let changed = member.checker.observe(verdict).is_some() || member.reach != before;
        changed.then(|| member.event(outcome.err()))
    }
}

/// A probe of a member that a fault makes unreachable.
fn faulted(fault: ConnectError) -> BoxFuture<'static, io::Result<()>> {
    match fault {
        ConnectError::Refused => Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into()))),
        // Silence: the time-out ends it.
        _ => Box::pin(std::future::pending()),
    }
}

impl Member {
    /// Where and how it is asked.
    fn probe_target(&self, kind: Kind) -> ProbeTarget {
        let settings = &self.settings;
        let (mut address, proxy_protocol) = (settings.address, settings.proxy_protocol);
        let mut http = None;
        if kind == Kind::Check {
            let check = &settings.check;
            address.set_port(check.port.map_or(address.port(), TargetPort::get));
            http = (check.protocol != HealthProtocol::Tcp).then(|| HttpQuestion {
                tls: check.protocol == HealthProtocol::Https,
                path: check.path.clone(),
                matcher: check.matcher,
            });
        }
        ProbeTarget { address, source: settings.source, proxy_protocol, http }
    }

    /// The time from this probe to the next: the interval, but after the first probe a part of it between a half and
    /// the whole that the member's name decides, so that members registered together aren't probed in lockstep for ever.
    fn gap(&self) -> Duration {
        let interval = self.settings.check.interval;
        if self.probes > 1 {
            return interval;
        }
        // Fixed keys: the same member has the same phase in every run.
        let mut hasher = DefaultHasher::new();
        self.settings.key.hash(&mut hasher);
        let phase = hasher.finish() % PHASES;
        interval.mul_f64(0.5 + (phase as f64 + 0.5) / (2 * PHASES) as f64)
    }

    fn event(&self, cause: Option<ConnectError>) -> HealthEvent {
        HealthEvent {
            key: self.settings.key.clone(),
            address: self.settings.address,
            state: self.checker.state(),
            reason: self.checker.reason(),
            cause,
            reach: self.reach,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A member that does what the test says, and keeps when it was asked.
    #[derive(Debug, Default)]
    struct ScriptedProbe {
        answers: Mutex<HashMap<SocketAddr, Answer>>,
        asked: Mutex<Vec<(Instant, ProbeTarget)>>,
    }

    #[derive(Debug, Clone, Copy)]
    enum Answer {
        Well,
        Refused,
        Silent,
        Panics,
    }

    impl Probe for ScriptedProbe {
        fn probe(&self, target: ProbeTarget) -> BoxFuture<'static, io::Result<()>> {
            self.asked.lock().unwrap().push((Instant::now(), target.clone()));
            match self.answers.lock().unwrap().get(&target.address).copied().unwrap_or(Answer::Well) {
                Answer::Well => async { Ok(()) }.boxed(),
                Answer::Refused => async { Err(io::ErrorKind::ConnectionRefused.into()) }.boxed(),
                Answer::Silent => std::future::pending().boxed(),
                Answer::Panics => async { panic!("as the test wants it") }.boxed(),
            }
        }

        /// Looks are not kept: they are no checks.
        fn reach(&self, target: ProbeTarget) -> BoxFuture<'static, io::Result<()>> {
            match self.answers.lock().unwrap().get(&target.address).copied().unwrap_or(Answer::Well) {
                Answer::Well | Answer::Panics => async { Ok(()) }.boxed(),
                Answer::Refused => async { Err(io::ErrorKind::ConnectionRefused.into()) }.boxed(),
                Answer::Silent => std::future::pending().boxed(),
            }
        }
    }

    struct Bench {
        probe: Arc<ScriptedProbe>,
        prober: HealthProber,
        events: mpsc::Receiver<HealthEvent>,
        start: Instant,
        states: HashMap<MemberKey, TargetState>,
    }

    impl Bench {
        fn start() -> Self {
            let probe = Arc::new(ScriptedProbe::default());
            let (sender, events) = mpsc::channel(16);
            let (prober, work) = HealthProber::new(Arc::clone(&probe) as _, sender, CancellationToken::new());
            tokio::spawn(work);
            Self { probe, prober, events, start: Instant::now(), states: HashMap::new() }
        }

        fn answer(&self, member: &ProbedMember, answer: Answer) {
            self.probe.answers.lock().unwrap().insert(member.address, answer);
        }

        /// The next event, when it came and which probe of its address it followed.
        async fn event(&mut self) -> (Duration, HealthEvent) {
            loop {
                let (at, event) = self.any_event().await;
                let before = self.states.insert(event.key.clone(), event.state).unwrap_or(TargetState::Initial);
                if before != event.state {
                    return (at, event);
                }
            }
        }

        /// The next event, also one that says of the reach alone.
        async fn any_event(&mut self) -> (Duration, HealthEvent) {
            let event = self.events.recv().await.expect("an event");
            (self.start.elapsed(), event)
        }

        fn asked(&self, address: SocketAddr) -> Vec<Duration> {
            let asked = self.probe.asked.lock().unwrap();
            asked.iter().filter(|(_, target)| target.address == address).map(|(at, _)| *at - self.start).collect()
        }

        /// Lets `time` pass; the paused clock jumps from timer to timer.
        async fn pass(&self, time: Duration) {
            tokio::time::sleep(time).await;
        }
    }

    fn member(number: u8) -> ProbedMember {
        ProbedMember {
            key: MemberKey {
                service: "vpce-svc-02863655456245e5c".parse().unwrap(),
                target: format!("Cluster0/shard-00-{number:02}").parse().unwrap(),
                member: format!("node-{number}"),
            },
            address: SocketAddr::from(([127, 1, 0, number], 27017)),
            source: None,
            proxy_protocol: false,
            check: HealthCheck::default(),
            fault: None,
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_member_that_answers_is_healthy_at_once_and_said_so_once() {
        let mut bench = Bench::start();
        bench.prober.set(vec![member(1)]);
        let (at, event) = bench.event().await;
        assert!(at < SECOND, "the first probe goes out at once: {at:?}");
        assert_eq!((event.state, event.reason, event.cause), (TargetState::Healthy, None, None));
        bench.pass(300 * SECOND).await;
        assert!(bench.events.try_recv().is_err(), "nothing changed");
        let asked = bench.asked(member(1).address);
        assert!((10..=11).contains(&asked.len()), "{asked:?}");
        assert!(asked.windows(2).skip(1).all(|pair| pair[1].abs_diff(pair[0] + 30 * SECOND) < SECOND), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_stops_answering_is_unhealthy_after_two_probes_and_back_after_five() {
        let mut bench = Bench::start();
        bench.prober.set(vec![member(1)]);
        bench.event().await;
        bench.answer(&member(1), Answer::Refused);
        let (_, event) = bench.event().await;
        assert_eq!(event.state, TargetState::Unhealthy);
        assert_eq!(event.reason, Some(HealthReason::FailedHealthChecks));
        assert_eq!(event.cause, Some(ConnectError::Refused));
        assert_eq!(bench.asked(member(1).address).len(), 3);
        bench.answer(&member(1), Answer::Well);
        assert_eq!(bench.event().await.1.state, TargetState::Healthy);
        assert_eq!(bench.asked(member(1).address).len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_stays_silent_fails_at_the_timeout_and_keeps_its_rhythm() {
        let mut bench = Bench::start();
        bench.answer(&member(1), Answer::Silent);
        bench.answer(&member(2), Answer::Well);
        bench.prober.set(vec![member(1), member(2)]);
        assert_eq!(bench.event().await.1.key, member(2).key, "a silent member delays no other");
        let (at, event) = bench.event().await;
        assert_eq!((event.state, event.cause), (TargetState::Unhealthy, Some(ConnectError::TimedOut)));
        let asked = bench.asked(member(1).address);
        assert_eq!(asked.len(), 2);
        assert!(at.abs_diff(asked[1] + 10 * SECOND) < SECOND, "{at:?} {asked:?}");
        bench.pass(60 * SECOND).await;
        let asked = bench.asked(member(1).address);
        assert!(asked[2].abs_diff(asked[1] + 30 * SECOND) < SECOND, "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_panics_is_a_failed_one() {
        let mut bench = Bench::start();
        bench.answer(&member(1), Answer::Panics);
        bench.prober.set(vec![member(1)]);
        let (_, event) = bench.event().await;
        assert_eq!((event.state, event.cause), (TargetState::Unhealthy, Some(ConnectError::Other)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_longer_than_the_interval_never_has_two_probes_of_a_member_at_once() {
        let mut slow = member(1);
        slow.check.interval = 5 * SECOND;
        slow.check.timeout = 12 * SECOND;
        let bench = Bench::start();
        bench.answer(&slow, Answer::Silent);
        bench.prober.set(vec![slow.clone()]);
        bench.pass(100 * SECOND).await;
        let asked = bench.asked(slow.address);
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 12 * SECOND), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn members_registered_together_are_not_probed_in_lockstep() {
        let bench = Bench::start();
        let members: Vec<_> = (0..100).map(member).collect();
        bench.prober.set(members.clone());
        bench.pass(90 * SECOND).await;
        let phases: BTreeSet<_> = members.iter().map(|member| bench.asked(member.address)[1].as_secs()).collect();
        assert!(phases.len() >= 10, "a hundred second probes fall into {} different seconds", phases.len());
        assert!(members.iter().all(|member| bench.asked(member.address)[0] < SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn setting_the_same_members_again_changes_nothing() {
        let mut bench = Bench::start();
        bench.answer(&member(1), Answer::Refused);
        bench.prober.set(vec![member(1)]);
        bench.pass(20 * SECOND).await;
        let mut probed = member(1);
        probed.check.healthy_threshold = 3;
        for _ in 0..20 {
            bench.pass(SECOND).await;
            bench.prober.set(vec![probed.clone(), member(2)]);
        }
        let states: Vec<_> = [bench.event().await.1, bench.event().await.1].map(|e| (e.key.member, e.state)).into();
        assert!(states.contains(&("node-1".to_owned(), TargetState::Unhealthy)), "{states:?}");
        assert!(states.contains(&("node-2".to_owned(), TargetState::Healthy)), "{states:?}");
        assert!(bench.asked(member(1).address).len() <= 3);
        bench.answer(&member(1), Answer::Well);
        let before = bench.asked(member(1).address).len();
        bench.event().await;
        assert_eq!(bench.asked(member(1).address).len() - before, 3, "the new threshold holds");
    }

    /// What a client's connection meets is known at once, and again within a second, whatever the thresholds say.
    #[tokio::test(start_paused = true)]
    async fn a_member_that_is_doubted_is_looked_at_until_it_can_be_reached() {
        let mut bench = Bench::start();
        bench.prober.set(vec![member(1)]);
        bench.event().await;
        bench.pass(SECOND).await;
        bench.answer(&member(1), Answer::Refused);
        bench.prober.doubts().send(member(1).address).unwrap();
        let (at, event) = bench.any_event().await;
        assert!(at < 2 * SECOND, "{at:?}");
        assert_eq!((event.state, event.reach), (TargetState::Healthy, Some(ConnectError::Refused)));
        bench.pass(5 * SECOND).await;
        bench.answer(&member(1), Answer::Well);
        let (at, event) = bench.any_event().await;
        assert!(at < 8 * SECOND, "{at:?}");
        assert_eq!((event.state, event.reach), (TargetState::Healthy, None));
        assert_eq!(bench.asked(member(1).address).len(), 1, "looks are no checks");
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_at_another_address_begins_anew() {
        let mut bench = Bench::start();
        bench.prober.set(vec![member(1)]);
        bench.event().await;
        let mut moved = member(1);
        moved.address = member(9).address;
        moved.source = Some("127.1.0.4".parse().unwrap());
        moved.proxy_protocol = true;
        bench.prober.set(vec![moved.clone()]);
        let (_, event) = bench.event().await;
        assert_eq!((event.state, event.address), (TargetState::Initial, moved.address));
        assert_eq!(event.reason.map(HealthReason::code), Some("Elb.InitialHealthChecking"));
        assert_eq!(bench.event().await.1.state, TargetState::Healthy);
        let (_, target) = bench.probe.asked.lock().unwrap().last().unwrap().clone();
        assert_eq!(
            target,
            ProbeTarget { address: moved.address, source: moved.source, proxy_protocol: true, http: None }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_is_gone_is_probed_and_reported_no_more() {
        let mut bench = Bench::start();
        bench.answer(&member(1), Answer::Silent);
        bench.prober.set(vec![member(1)]);
        bench.pass(5 * SECOND).await;
        bench.prober.set(vec![]);
        bench.pass(100 * SECOND).await;
        assert_eq!(bench.asked(member(1).address).len(), 1);
        assert!(bench.events.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_work_ends_with_the_prober_its_listener_or_its_token() {
        let probe = Arc::new(ScriptedProbe::default());
        let new = |stop: &CancellationToken| {
            let (sender, events) = mpsc::channel(1);
            let (prober, work) = HealthProber::new(Arc::clone(&probe) as _, sender, stop.clone());
            (prober, work, events)
        };
        let stop = CancellationToken::new();
        let (prober, work, _events) = new(&stop);
        drop(prober);
        work.await;
        let (_prober, work, events) = new(&stop);
        drop(events);
        work.await;
        let (_prober, work, _events) = new(&stop);
        stop.cancel();
        work.await;
    }
}
