//! Probes every member at its interval and reports changes.
//!
//! Every member has its own task, so a slow probe does not delay other members. The task runs two loops: the health
//! checks, and reach probes, which run only while the member's traffic port can't be reached.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Checker, HealthReason, HttpCheck, Probe, ProbeResult, ProbeTarget};
use crate::model::{ConnectError, HealthCheck, HealthProtocol, TargetId, TargetPort, TargetState, VpceServiceId};

/// A member of a target group of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberKey {
    /// The load balancer.
    pub service: VpceServiceId,
    /// The addressable target.
    pub target: TargetId,
    /// The member's name.
    pub member: String,
}

/// A member to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedMember {
    /// Its identity: a member with the same key and address keeps its state.
    pub key: MemberKey,
    /// Its traffic address.
    pub address: SocketAddr,
    /// The address to probe from: the load balancer's first; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// Start with a PROXY header, as its flows do.
    pub proxy_protocol: bool,
    /// Interval, timeout, thresholds and protocol.
    pub check: HealthCheck,
    /// An injected fault: every probe fails like this.
    pub fault: Option<ConnectError>,
}

/// A member's state changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthEvent {
    /// The member.
    pub key: MemberKey,
    /// The address that was probed; the member may have moved since.
    pub address: SocketAddr,
    /// The new state.
    pub state: TargetState,
    /// The reason for the state; healthy members have none.
    pub reason: Option<HealthReason>,
    /// How the last probe failed.
    pub cause: Option<ConnectError>,
    /// Why the latest connection to its traffic port failed; `None` when it succeeded.
    pub reach: Option<ConnectError>,
}

/// Runs the health checks of a set of members until it is dropped or cancelled.
#[derive(Debug)]
pub struct HealthProber {
    members: watch::Sender<Arc<[ProbedMember]>>,
    failed_dials: mpsc::UnboundedSender<SocketAddr>,
}

impl HealthProber {
    /// Creates a prober without members, and its future, which ends when the prober is dropped, `stop` is cancelled, or
    /// `events` is closed.
    ///
    /// An event is sent when a member's state or reach changes, and when a member that moved to another address is
    /// `initial` again; a new member is `initial` without an event.
    pub fn new(
        probe: Arc<dyn Probe>,
        events: mpsc::UnboundedSender<HealthEvent>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (members, wanted) = watch::channel(Arc::from([]));
        let (failed_dials, failed) = mpsc::unbounded_channel();
        let work = async move {
            stop.run_until_cancelled(supervise(probe, wanted, failed, events)).await;
        };
        (Self { members, failed_dials }, work)
    }

    /// Receives addresses to which a connection failed: their members get a reach probe at once, and then every second
    /// until one succeeds. Reach probes are not health checks.
    pub fn failed_dials(&self) -> mpsc::UnboundedSender<SocketAddr> {
        self.failed_dials.clone()
    }

    /// Replaces the probed members. A known member keeps its state and its schedule, also with other settings; at
    /// another address it starts again. Does not block.
    pub fn set(&self, members: Vec<ProbedMember>) {
        self.members.send_replace(Arc::from(members));
    }
}

/// Time between two reach probes of an unreachable member: the maximum delay before its port accepts again.
const REACH_INTERVAL: Duration = Duration::from_secs(1);
/// Time limit of a reach probe.
const REACH_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs one task per member.
async fn supervise(
    probe: Arc<dyn Probe>,
    mut wanted: watch::Receiver<Arc<[ProbedMember]>>,
    mut failed_dials: mpsc::UnboundedReceiver<SocketAddr>,
    events: mpsc::UnboundedSender<HealthEvent>,
) {
    let mut members: HashMap<MemberKey, (Arc<ProbeTask>, AbortOnDropHandle<()>)> = HashMap::new();
    wanted.mark_changed();
    loop {
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = Arc::clone(&wanted.borrow_and_update());
                let mut before = std::mem::take(&mut members);
                for settings in wanted.iter() {
                    let known = before.remove(&settings.key);
                    let entry = match known {
                        Some(kept) if kept.0.update(settings) => kept,
                        known => {
                            // The address has changed: the old task ends before the new one reports.
                            let moved = known.is_some_and(|(member, _)| member.state().checker.state() != TargetState::Initial);
                            let member = Arc::new(ProbeTask::new(settings, Arc::clone(&probe), events.clone()));
                            (Arc::clone(&member), AbortOnDropHandle::new(tokio::spawn(member.run(moved))))
                        }
                    };
                    members.insert(settings.key.clone(), entry);
                }
            }
            Some(address) = failed_dials.recv() => {
                let at = members.values().filter(|(member, _)| member.state().settings.address == address);
                at.for_each(|(member, _)| member.unreachable.notify_one());
            }
            () = events.closed() => return,
        }
    }
}

/// A member that is probed.
struct ProbeTask {
    probe: Arc<dyn Probe>,
    events: mpsc::UnboundedSender<HealthEvent>,
    state: Mutex<ProbeTaskState>,
    /// Notified when a connection to it failed, to start reach probes.
    unreachable: Notify,
}

struct ProbeTaskState {
    settings: ProbedMember,
    checker: Checker,
    reach: Option<ConnectError>,
}

impl ProbeTask {
    fn new(settings: &ProbedMember, probe: Arc<dyn Probe>, events: mpsc::UnboundedSender<HealthEvent>) -> Self {
        let state = ProbeTaskState { settings: settings.clone(), checker: Checker::new(&settings.check), reach: None };
        Self { probe, events, state: Mutex::new(state), unreachable: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, ProbeTaskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies other settings and keeps the state; false when the address differs.
    fn update(&self, settings: &ProbedMember) -> bool {
        let mut state = self.state();
        let same = state.settings.address == settings.address;
        if same && state.settings != *settings {
            state.checker.set_thresholds(&settings.check);
            state.settings = settings.clone();
        }
        same
    }

    /// Probes until it is aborted. `moved`: a member with this key was in another state at another address.
    async fn run(self: Arc<Self>, moved: bool) {
        if moved {
            let event = self.state().event(None);
            self.report(event);
        }
        tokio::join!(self.check_health(), self.probe_reach());
    }

    /// Runs health checks at a fixed rate, independent of how long a probe takes.
    async fn check_health(&self) {
        let mut started = Instant::now();
        let mut share = self.state().settings.jitter();
        loop {
            let settings = self.state().settings.clone();
            let target = settings.check_target();
            let probe = async { self.probe.probe(target).await };
            let outcome = outcome(settings.fault, settings.check.timeout, probe).await;
            if outcome.is_err() {
                self.unreachable.notify_one();
            }
            let event = self.state().apply_check(outcome);
            if let Some(event) = event {
                self.report(event);
            }
            let interval = self.state().settings.check.interval;
            let next = started + interval.mul_f64(std::mem::replace(&mut share, 1.0));
            sleep_until(next).await;
            started = Instant::now();
        }
    }

    /// Runs reach probes while the member can't be reached.
    async fn probe_reach(&self) {
        loop {
            self.unreachable.notified().await;
            loop {
                let started = Instant::now();
                let settings = self.state().settings.clone();
                let probe = async { self.probe.reach(settings.reach_target()).await };
                let outcome = outcome(settings.fault, REACH_TIMEOUT, probe).await;
                let event = self.state().apply_reach(outcome);
                if let Some(event) = event {
                    self.report(event);
                }
                if outcome.is_ok() {
                    break;
                }
                sleep_until(started + REACH_INTERVAL).await;
            }
        }
    }

    fn report(&self, event: HealthEvent) {
        // Closed: the prober is about to end.
        let _ = self.events.send(event);
    }
}

/// The result of a probe within `limit`. A probe that panics has failed; its member is still probed afterwards.
async fn outcome(
    fault: Option<ConnectError>,
    limit: Duration,
    probe: impl Future<Output = io::Result<()>>,
) -> Result<(), ConnectError> {
    let probe = async {
        match fault {
            None => AssertUnwindSafe(probe).catch_unwind().await,
            Some(ConnectError::Refused) => Ok(Err(io::ErrorKind::ConnectionRefused.into())),
            Some(_) => std::future::pending().await,
        }
    };
    match timeout(limit, probe).await {
        Ok(Ok(outcome)) => outcome.map_err(|error| ConnectError::from(&error)),
        Ok(Err(_)) => Err(ConnectError::Other),
        Err(_) => Err(ConnectError::TimedOut),
    }
}

impl ProbeTaskState {
    /// Applies a health check's result; returns what changes.
    fn apply_check(&mut self, outcome: Result<(), ConnectError>) -> Option<HealthEvent> {
        let verdict = if outcome.is_ok() { ProbeResult::Pass } else { ProbeResult::Fail };
        let before = self.reach;
        if self.settings.check.covers_traffic_port() {
            self.reach = outcome.err();
        }
        let changed = self.checker.observe(verdict).is_some() || self.reach != before;
        changed.then(|| self.event(outcome.err()))
    }

    /// Applies a reach probe's result; returns what changes.
    fn apply_reach(&mut self, outcome: Result<(), ConnectError>) -> Option<HealthEvent> {
        let before = std::mem::replace(&mut self.reach, outcome.err());
        (before != self.reach).then(|| self.event(outcome.err()))
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

impl ProbedMember {
    /// The target of reach probes: the traffic port, by a connection only.
    fn reach_target(&self) -> ProbeTarget {
        ProbeTarget { address: self.address, source: self.source, proxy_protocol: self.proxy_protocol, http: None }
    }

    /// The target of health checks: their port and protocol.
    fn check_target(&self) -> ProbeTarget {
        let check = &self.check;
        let mut target = self.reach_target();
        target.address.set_port(check.port.map_or(self.address.port(), TargetPort::get));
        target.http = (check.protocol != HealthProtocol::Tcp).then(|| HttpCheck {
            tls: check.protocol == HealthProtocol::Https,
            path: check.path.clone(),
            matcher: check.matcher,
        });
        target
    }

    /// The share of the interval after which the second check starts, from a half to the whole, so that members that
    /// were registered together aren't probed in lockstep. Derived from the member's name, so it is the same in every
    /// run.
    fn jitter(&self) -> f64 {
        let mut hasher = DefaultHasher::new();
        self.key.hash(&mut hasher);
        0.5 + f64::from(hasher.finish() as u16) / f64::from(u16::MAX) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::future::BoxFuture;

    use super::*;

    /// A member with scripted probe results, which records the probes.
    #[derive(Debug, Default)]
    struct ScriptedProbe {
        answers: Mutex<HashMap<SocketAddr, ScriptedAnswer>>,
        asked: Mutex<Vec<(Instant, ProbeTarget)>>,
    }

    #[derive(Debug, Clone, Copy)]
    enum ScriptedAnswer {
        Well,
        Refused,
        Silent,
        Panics,
    }

    impl Probe for ScriptedProbe {
        fn probe(&self, target: ProbeTarget) -> BoxFuture<'static, io::Result<()>> {
            self.asked.lock().unwrap().push((Instant::now(), target.clone()));
            match self.answers.lock().unwrap().get(&target.address).copied().unwrap_or(ScriptedAnswer::Well) {
                ScriptedAnswer::Well => async { Ok(()) }.boxed(),
                ScriptedAnswer::Refused => async { Err(io::ErrorKind::ConnectionRefused.into()) }.boxed(),
                ScriptedAnswer::Silent => std::future::pending().boxed(),
                ScriptedAnswer::Panics => async { panic!("as the test wants it") }.boxed(),
            }
        }

        /// Reach probes are not recorded: they are not checks.
        fn reach(&self, target: ProbeTarget) -> BoxFuture<'static, io::Result<()>> {
            match self.answers.lock().unwrap().get(&target.address).copied().unwrap_or(ScriptedAnswer::Well) {
                ScriptedAnswer::Well | ScriptedAnswer::Panics => async { Ok(()) }.boxed(),
                ScriptedAnswer::Refused => async { Err(io::ErrorKind::ConnectionRefused.into()) }.boxed(),
                ScriptedAnswer::Silent => std::future::pending().boxed(),
            }
        }
    }

    struct TestProber {
        probe: Arc<ScriptedProbe>,
        prober: HealthProber,
        events: mpsc::UnboundedReceiver<HealthEvent>,
        start: Instant,
        states: HashMap<MemberKey, TargetState>,
    }

    impl TestProber {
        fn start() -> Self {
            let probe = Arc::new(ScriptedProbe::default());
            let (sender, events) = mpsc::unbounded_channel();
            let (prober, work) = HealthProber::new(Arc::clone(&probe) as _, sender, CancellationToken::new());
            tokio::spawn(work);
            Self { probe, prober, events, start: Instant::now(), states: HashMap::new() }
        }

        fn answer(&self, member: &ProbedMember, answer: ScriptedAnswer) {
            self.probe.answers.lock().unwrap().insert(member.address, answer);
        }

        /// The next event, its time, and which probe of its address it followed.
        async fn event(&mut self) -> (Duration, HealthEvent) {
            loop {
                let (at, event) = self.any_event().await;
                let before = self.states.insert(event.key.clone(), event.state).unwrap_or(TargetState::Initial);
                if before != event.state {
                    return (at, event);
                }
            }
        }

        /// The next event, including changes of reach only.
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
    async fn a_member_that_answers_is_healthy_at_once_and_reported_once() {
        let mut bench = TestProber::start();
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
        let mut bench = TestProber::start();
        bench.prober.set(vec![member(1)]);
        bench.event().await;
        bench.answer(&member(1), ScriptedAnswer::Refused);
        let (_, event) = bench.event().await;
        assert_eq!(event.state, TargetState::Unhealthy);
        assert_eq!(event.reason, Some(HealthReason::FailedHealthChecks));
        assert_eq!(event.cause, Some(ConnectError::Refused));
        assert_eq!(bench.asked(member(1).address).len(), 3);
        bench.answer(&member(1), ScriptedAnswer::Well);
        assert_eq!(bench.event().await.1.state, TargetState::Healthy);
        assert_eq!(bench.asked(member(1).address).len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_member_fails_at_the_timeout_and_keeps_its_interval() {
        let mut bench = TestProber::start();
        bench.answer(&member(1), ScriptedAnswer::Silent);
        bench.answer(&member(2), ScriptedAnswer::Well);
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
        let mut bench = TestProber::start();
        bench.answer(&member(1), ScriptedAnswer::Panics);
        bench.prober.set(vec![member(1)]);
        let (_, event) = bench.event().await;
        assert_eq!((event.state, event.cause), (TargetState::Unhealthy, Some(ConnectError::Other)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_longer_than_the_interval_never_has_two_probes_of_a_member_at_once() {
        let mut slow = member(1);
        slow.check.interval = 5 * SECOND;
        slow.check.timeout = 12 * SECOND;
        let bench = TestProber::start();
        bench.answer(&slow, ScriptedAnswer::Silent);
        bench.prober.set(vec![slow.clone()]);
        bench.pass(100 * SECOND).await;
        let asked = bench.asked(slow.address);
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 12 * SECOND), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn members_registered_together_are_not_probed_in_lockstep() {
        let bench = TestProber::start();
        let members: Vec<_> = (0..100).map(member).collect();
        bench.prober.set(members.clone());
        bench.pass(90 * SECOND).await;
        let phases: BTreeSet<_> = members.iter().map(|member| bench.asked(member.address)[1].as_secs()).collect();
        assert!(phases.len() >= 10, "a hundred second probes fall into {} different seconds", phases.len());
        assert!(members.iter().all(|member| bench.asked(member.address)[0] < SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn setting_the_same_members_again_changes_nothing() {
        let mut bench = TestProber::start();
        bench.answer(&member(1), ScriptedAnswer::Refused);
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
        bench.answer(&member(1), ScriptedAnswer::Well);
        let before = bench.asked(member(1).address).len();
        bench.event().await;
        assert_eq!(bench.asked(member(1).address).len() - before, 3, "the new threshold holds");
    }

    /// A client's failed connection is detected at once, and its end within a second, whatever the thresholds.
    #[tokio::test(start_paused = true)]
    async fn a_failed_dial_starts_reach_probes_until_one_succeeds() {
        let mut bench = TestProber::start();
        bench.prober.set(vec![member(1)]);
        bench.event().await;
        bench.pass(SECOND).await;
        bench.answer(&member(1), ScriptedAnswer::Refused);
        bench.prober.failed_dials().send(member(1).address).unwrap();
        let (at, event) = bench.any_event().await;
        assert!(at < 2 * SECOND, "{at:?}");
        assert_eq!((event.state, event.reach), (TargetState::Healthy, Some(ConnectError::Refused)));
        bench.pass(5 * SECOND).await;
        bench.answer(&member(1), ScriptedAnswer::Well);
        let (at, event) = bench.any_event().await;
        assert!(at < 8 * SECOND, "{at:?}");
        assert_eq!((event.state, event.reach), (TargetState::Healthy, None));
        assert_eq!(bench.asked(member(1).address).len(), 1, "reach probes are no checks");
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_at_another_address_starts_again() {
        let mut bench = TestProber::start();
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
    async fn a_removed_member_is_neither_probed_nor_reported() {
        let mut bench = TestProber::start();
        bench.answer(&member(1), ScriptedAnswer::Silent);
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
            let (sender, events) = mpsc::unbounded_channel();
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
