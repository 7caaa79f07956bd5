//! The data plane: listeners, admission, flows, the relay.
//!
//! It is independent of control, config and API: it opens, retargets and closes the listeners of a snapshot, and counts
//! and logs their flows. `listener` accepts a connection, `flow` serves it to its end: `admission` admits or refuses
//! it, `target_select` chooses a member, `relay` moves the bytes. All of this is one task on the thread of one
//! `worker`.

pub(crate) mod admission;
mod clock;
pub(crate) mod connect;
mod context;
mod counters;
pub(crate) mod descriptors;
mod fault;
mod faulty_relay;
mod flow;
mod flow_guard;
mod flow_log_events;
mod idle;
mod keepalive;
pub(crate) mod leg;
pub(crate) mod listener;
mod metrics;
mod peak;
pub(crate) mod pipes;
mod proxy_header;
pub mod proxy_protocol;
mod refusal;
pub(crate) mod relay;
mod route;
pub(crate) mod scratch;
mod shape;
mod sock_diag;
pub(crate) mod socket;
mod state;
mod table;
mod target_select;
#[cfg(test)]
mod testing;
mod worker;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::Socket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use self::connect::LegOptions;
pub use self::counters::Carried;
pub use self::listener::ListenerBindError;
use self::metrics::DataMetrics;
use self::route::{ListenerRoute, RouteWatch};
use self::state::{DataPlaneState, Reports};
pub use self::table::FlowView;
use self::table::{FlowOrder, FlowRecord};
use self::worker::WorkerCommand;
use crate::config::{LimitSettings, RelaySettings, Settings};
use crate::flowlog::{FlowLog, OpenFlow};
use crate::lifecycle::{Alarm, Losses};
use crate::limits::{Connections, Refusals, Shares, budget};
use crate::model::{CidrSet, ConnectError, DrainReason, FlowId, TargetId, VpceServiceId};
use crate::plan::{Listener, ListenerAccess, Member};

/// Settings of the data plane.
#[derive(Debug, Clone)]
pub struct DataOptions {
    /// Worker threads; each has its own listening sockets and flows.
    pub workers: usize,
    /// The relay's settings.
    pub relay: RelaySettings,
    /// Limits. Blackholed clients use at most an eighth of the process' descriptors, and those of one source half of the
    /// limit; beyond the limit, the client held the longest is reset.
    pub limits: LimitSettings,
    /// Idle time before keepalive probes.
    pub keepalive: Option<Duration>,
    /// Idle and connect time-outs are rounded up to this. 1 s by default; shorter in tests.
    pub tick: Duration,
    /// Flow logs and access log.
    pub flow_log: Option<FlowLog>,
    /// Counts refused connections for the log and the events.
    pub refusals: Arc<Refusals>,
}

impl Default for DataOptions {
    fn default() -> Self {
        Self::from(&Settings::default())
    }
}

impl From<&Settings> for DataOptions {
    fn from(settings: &Settings) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            workers: if settings.workers == 0 { cores() } else { settings.workers },
            relay: settings.relay.clone(),
            limits: settings.limits.clone(),
            keepalive: settings.keepalive,
            tick: Duration::from_secs(1),
            flow_log: None,
            refusals: Arc::default(),
        }
    }
}

impl DataOptions {
    /// The backlog for `listen(2)`.
    fn backlog(&self) -> i32 {
        i32::try_from(self.limits.backlog).unwrap_or(i32::MAX)
    }

    /// The options of the sockets of flows.
    fn leg(&self) -> LegOptions {
        LegOptions { keepalive: self.keepalive, congestion: self.relay.congestion.clone() }
    }
}

/// How long flows may take to end after an order: one poll on their worker, which may be busy.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// Capacity of the queue of failed connects to targets.
const FAILED_DIALS: usize = 64;

/// The running data plane.
#[derive(Debug)]
pub struct DataPlane {
    state: Arc<DataPlaneState>,
    options: DataOptions,
    workers: Vec<mpsc::UnboundedSender<WorkerCommand>>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    listeners: Mutex<HashMap<SocketAddr, ListenerHandle>>,
    failed_dials: Mutex<Option<mpsc::Receiver<SocketAddr>>>,
}

/// An open listener.
#[derive(Debug)]
struct ListenerHandle {
    /// Dropping it closes the listener.
    route: watch::Sender<Arc<ListenerRoute>>,
    /// Closes once every worker has closed its socket, and every accepted client is in the table or refused.
    open: mpsc::Receiver<Infallible>,
}

/// Bound sockets that do not listen yet, so clients are refused. Dropping them undoes the bind.
#[derive(Debug, Default)]
pub struct BoundSockets(Vec<(Arc<Listener>, Vec<Socket>)>);

impl BoundSockets {
    /// Adds the sockets of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The bound addresses.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(listener, _)| listener.address)
    }
}

impl DataPlane {
    /// Starts the workers. Listeners and threads that fail are reported to `losses`.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started, or the kernel cannot create its epoll instance or timer.
    pub fn start(
        options: DataOptions,
        recorder: Arc<dyn ::metrics::Recorder + Send + Sync>,
        losses: Losses,
    ) -> io::Result<Self> {
        let count = options.workers.max(1);
        let (failed, failed_dials) = mpsc::channel(FAILED_DIALS);
        let reports = Reports { failed_dials: failed, refusals: Arc::clone(&options.refusals) };
        let metrics = DataMetrics::new(recorder);
        let limit = budget::share(8, options.limits.held_refusals);
        let held = Connections::new(Shares { limit, per_source: limit.div_ceil(2), reserved: 0 });
        let state = Arc::new(DataPlaneState::new(count, metrics, options.flow_log.clone(), held, losses, reports));
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for index in 0..count {
            let (commands, received) = mpsc::unbounded_channel();
            let (state, options) = (Arc::clone(&state), options.clone());
            let (started, starting) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("plgw-flows-{index}")).spawn(move || {
                let _alarm = Alarm::new(format!("flow thread {index}"), &state.losses);
                worker::run(index, state, options, received, &started);
            })?;
            starting.recv().map_err(io::Error::other)??;
            workers.push(commands);
            threads.push(thread);
        }
        let (failed_dials, threads) = (Mutex::new(Some(failed_dials)), Mutex::new(threads));
        Ok(Self { state, options, workers, threads, listeners: Mutex::default(), failed_dials })
    }

    /// The limiter of blackholed clients, shared with other kinds of listeners.
    #[must_use]
    pub fn held_refusals(&self) -> Arc<Connections> {
        Arc::clone(&self.state.held)
    }

    /// Binds all listeners or none.
    ///
    /// # Errors
    /// One error for each address that cannot be bound.
    pub fn bind(&self, listeners: &[Arc<Listener>]) -> Result<BoundSockets, Vec<ListenerBindError>> {
        let leg = self.options.leg();
        let mut bound = Vec::new();
        let mut errors = Vec::new();
        for listener in listeners {
            match listener::bind(listener, self.workers.len(), &leg) {
                Ok(sockets) => bound.push((Arc::clone(listener), sockets)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(BoundSockets(bound)) } else { Err(errors) }
    }

    /// Starts listening and accepting on bound sockets; returns once every worker accepts.
    pub async fn open(&self, bound: BoundSockets) {
        let mut per_worker: Vec<Vec<_>> = self.workers.iter().map(|_| Vec::new()).collect();
        for (listener, sockets) in bound.0 {
            let (route, current) = watch::channel(Arc::new(self.route_of(&listener)));
            let (open, closed) = mpsc::channel(1);
            for (worker, socket) in per_worker.iter_mut().zip(sockets) {
                match listener::listen(socket, self.options.backlog()) {
                    Ok(socket) => worker.push((socket, RouteWatch { current: current.clone(), open: open.clone() })),
                    Err(error) => {
                        let address = listener.address;
                        tracing::error!(%address, %error, "failed to listen on a bound socket: another process listens on the address");
                        self.state.lost_listener(address);
                    }
                }
            }
            self.listeners().insert(listener.address, ListenerHandle { route, open: closed });
        }
        let mut opening = Vec::new();
        for (worker, opened) in self.workers.iter().zip(per_worker) {
            let (done, opened_all) = oneshot::channel();
            // Fails only if the worker has ended, which ends the process; the same below.
            let _ = worker.send(WorkerCommand::Open(opened, done));
            opening.push(opened_all);
        }
        for opened in opening {
            let _ = opened.await;
        }
    }

    /// Replaces the routes of these listeners for new flows; open flows keep theirs. Once it returns, no new flow takes
    /// an earlier route.
    pub fn retarget(&self, listeners: &[Arc<Listener>]) {
        for listener in listeners {
            if let Some(open) = self.listeners().get(&listener.address) {
                let route = Arc::new(self.route_of(listener));
                // The route is read at each accept; the workers are notified only if the mode changes.
                open.route.send_if_modified(|present| {
                    let before = std::mem::replace(present, route);
                    before.listener.answer != present.listener.answer
                });
            }
            self.freeze_or_thaw(listener);
        }
    }

    /// Freezes flows through a zone in outage or to a target that a fault silences, and thaws all others.
    fn freeze_or_thaw(&self, listener: &Listener) {
        let is_silent = |member: &Member| member.faulted && member.reach != Some(ConnectError::Refused);
        let is_frozen = |flow: &FlowRecord| {
            let same = |member: &&Member| member.name == flow.member().name && member.address == flow.member().address;
            listener.outage || listener.group.members.iter().find(same).is_some_and(is_silent)
        };
        let some = listener.outage || listener.group.members.iter().any(is_silent);
        if !some && !self.state.has_frozen() {
            return;
        }
        for flow in self.state.table.select(|flow| flow.listener.address == listener.address) {
            if is_frozen(&flow) {
                self.state.note_frozen();
                flow.set_order(FlowOrder::Freeze);
            } else {
                flow.thaw();
            }
        }
    }

    /// Sets the sources on the service's side, which every listener refuses.
    pub fn refuse_service_side(&self, cidrs: &Arc<CidrSet>) {
        self.state.service_side.send_replace(Arc::clone(cidrs));
    }

    /// Closes the sockets at the address of `listener`, then returns its target's flows that are still open there.
    /// Flows of another listener that had the port before are not included.
    pub async fn close(&self, listener: &Listener) -> OpenFlows {
        self.shut(listener.address).await;
        let (address, group) = (listener.address, &listener.group);
        let is_own = |flow: &FlowRecord| {
            let of = &flow.listener;
            of.address == address && of.group.service == group.service && of.group.target == group.target
        };
        OpenFlows { flows: self.state.table.select(is_own) }
    }

    /// Closes the sockets at `address`. Returns once they are closed, and every accepted client is in the flow table or
    /// refused.
    pub async fn shut(&self, address: SocketAddr) {
        let closing = self.listeners().remove(&address);
        if let Some(ListenerHandle { route, mut open }) = closing {
            drop(route);
            let _ = open.recv().await;
        }
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<SocketAddr, ListenerHandle>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flows to a member of a target group. The result is complete if the routes no longer contain the member.
    pub async fn flows_to(&self, service: &VpceServiceId, target: &TargetId, member: &Member) -> OpenFlows {
        let is_on = |flow: &FlowRecord| {
            let (group, on) = (&flow.listener.group, flow.member());
            group.service == *service
                && group.target == *target
                && on.name == member.name
                && on.address == member.address
        };
        OpenFlows { flows: self.state.table.select(is_on) }
    }

    /// Waits until every worker has responded; never returns if one hangs. For the health check.
    pub async fn workers_respond(&self) {
        let mut answers = Vec::new();
        for worker in &self.workers {
            let (answer, answered) = oneshot::channel();
            let _ = worker.send(WorkerCommand::Answer(answer));
            answers.push(answered);
        }
        for answered in answers {
            let _ = answered.await;
        }
    }

    /// The addresses of targets to which a flow failed to connect, as a stream. Only the first caller gets the
    /// receiver.
    #[must_use]
    pub fn failed_dials(&self) -> Option<mpsc::Receiver<SocketAddr>> {
        self.failed_dials.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The number of flows of each member, by load balancer, target and member.
    #[must_use]
    pub fn flows_by_member(&self) -> std::collections::BTreeMap<(VpceServiceId, TargetId, String), usize> {
        self.state.flows_by_member()
    }

    /// Why a flow log or the access log cannot be written; `None` if all is well.
    #[must_use]
    pub fn flow_log_problem(&self) -> Option<String> {
        self.state.flow_log.as_ref().and_then(FlowLog::problem)
    }

    /// All open flows.
    #[must_use]
    pub fn all_open(&self) -> OpenFlows {
        OpenFlows { flows: self.state.table.select(|_| true) }
    }

    /// Waits for these flows to end, for at most `deadline`. The remaining ones are then reset, if `cut` gives a
    /// reason.
    pub async fn drain(&self, open: OpenFlows, deadline: Duration, cut: Option<DrainReason>) {
        let mut flows = open.flows;
        let gone = |flows: &mut Vec<Arc<FlowRecord>>, table: &table::FlowTable| {
            flows.retain(|flow| table.get(flow.id).is_some());
            flows.is_empty()
        };
        let deadline = Instant::now() + deadline;
        let ended = tokio::time::timeout_at(deadline, self.state.until(|table| gone(&mut flows, table))).await;
        if ended.is_err()
            && let Some(reason) = cut
        {
            order_end(&flows, reason);
            let ended = self.state.until(|table| gone(&mut flows, table));
            if tokio::time::timeout(CUT_TIMEOUT, ended).await.is_err() {
                tracing::error!(
                    flows = flows.len(),
                    reason = reason.label(),
                    "failed to end flows: they did not end in time"
                );
            }
        }
    }

    /// Ends a flow at once; false if there is no such flow.
    #[must_use]
    pub fn kill(&self, id: FlowId) -> bool {
        let flow = self.state.table.get(id);
        order_end(flow.as_slice(), DrainReason::Killed);
        flow.is_some()
    }

    /// All open flows, oldest first.
    #[must_use]
    pub fn flows(&self) -> Vec<FlowView> {
        let mut flows = self.state.table.select(|_| true);
        flows.sort_by_key(|flow| (flow.opened, flow.id));
        flows.iter().map(|flow| FlowView::from(flow.as_ref())).collect()
    }

    /// The number of open flows.
    #[must_use]
    pub fn open_flows(&self) -> usize {
        self.state.table.len()
    }

    /// The traffic since the start.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.state.carried()
    }

    /// The traffic by target. As in the metrics, targets of the same name on two load balancers are added up.
    #[must_use]
    pub fn carried_by_target(&self) -> std::collections::BTreeMap<String, Carried> {
        let mut targets = std::collections::BTreeMap::<String, Carried>::new();
        for series in self.state.all_series().0 {
            targets.entry(series.key.target.clone()).or_default().add(&series);
        }
        targets
    }

    /// The number of flows that each fault affected, by its name.
    #[must_use]
    pub fn affected_flows(&self) -> std::collections::BTreeMap<String, u64> {
        self.state.affected().into_iter().map(|(name, _, affected)| (name, affected)).collect()
    }

    /// Writes the workers' counters to the metrics registry; to be called before each scrape.
    pub fn publish_metrics(&self) {
        metrics::publish(&self.state);
    }

    /// The interval at which [`sample_rates`](Self::sample_rates) must be called.
    pub const RATE_WINDOW: Duration = peak::WINDOW;

    /// The open flows through endpoints, for the flow logs. Includes the kernel's segment counts, so it takes two
    /// system calls per flow.
    #[must_use]
    pub fn open_for_flow_log(&self) -> Vec<OpenFlow> {
        let diag = sock_diag::SockDiag::open().ok();
        let flows = self.state.table.select(|flow| matches!(flow.listener.access, ListenerAccess::Endpoint(_)));
        flows.iter().map(|flow| flow_log_events::open(flow, diag.as_ref())).collect()
    }

    /// Samples the traffic since the last call, for the peak throughput.
    pub fn sample_rates(&self) {
        metrics::sample(&self.state, Instant::now());
    }

    /// Removes the counters of deleted endpoints, targets and faults, after writing their last values to the registry.
    pub fn forget_absent(&self) {
        if self.state.has_absent() {
            metrics::publish(&self.state);
            self.state.forget_absent();
        }
    }

    /// Ends all remaining flows and joins the threads. Close the listeners and drain the flows before.
    pub fn stop(&self) {
        for worker in &self.workers {
            let _ = worker.send(WorkerCommand::Stop);
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // The panic of a worker is already on stderr, and the process stops anyway.
            let _ = thread.join();
        }
    }

    /// Runs `how` on the first worker's thread.
    #[cfg(test)]
    pub(crate) fn run_on_worker(&self, how: impl FnOnce() + Send + 'static) {
        let _ = self.workers[0].send(WorkerCommand::Run(Box::new(how)));
    }

    fn route_of(&self, listener: &Arc<Listener>) -> ListenerRoute {
        ListenerRoute {
            listener: Arc::clone(listener),
            series: self.state.series(listener),
            flows_of_members: self.state.flows_of_members(&listener.group),
            faults: listener.faults.iter().map(|fault| self.state.live_fault(fault)).collect(),
            cap: listener.group.bandwidth_cap.map(|cap| self.state.cap(listener.address.ip(), cap)),
        }
    }
}

/// Orders flows to end.
fn order_end(flows: &[Arc<FlowRecord>], reason: DrainReason) {
    flows.iter().for_each(|flow| flow.set_order(FlowOrder::End(reason)));
}

impl Drop for DataPlane {
    /// Stops the workers and frees the ports.
    fn drop(&mut self) {
        self.stop();
    }
}

/// A set of open flows, for [`DataPlane::drain`].
#[derive(Debug, Default)]
pub struct OpenFlows {
    flows: Vec<Arc<FlowRecord>>,
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::lifecycle::Losses;
    use crate::telemetry::Registry;

    /// A data plane with one worker, and a listener with the target `backend` on a free port of `ip`.
    fn one_worker(backend: SocketAddr, ip: &str, losses: Losses) -> (DataPlane, Arc<Listener>) {
        let options = DataOptions { workers: 1, ..DataOptions::default() };
        let plane = DataPlane::start(options, Registry::new().shared_recorder(), losses).expect("a thread");
        let free = std::net::TcpListener::bind((ip, 0)).and_then(|free| free.local_addr()).expect("a free port");
        let listener = testing::listener_to(backend, free);
        (plane, Arc::new(listener))
    }

    #[tokio::test]
    async fn a_worker_that_panics_is_a_loss() {
        let (losses, mut lost) = mpsc::unbounded_channel();
        let backend = "127.1.0.11:9".parse().expect("an address");
        let (plane, _) = one_worker(backend, "127.0.30.194", losses);
        plane.run_on_worker(|| panic!("as asked"));
        assert_eq!(lost.recv().await.as_deref(), Some("flow thread 0 panicked"));
        plane.stop();
        assert!(lost.try_recv().is_err(), "a stopped worker is not reported");
    }

    /// A drain ends even if the worker hangs.
    #[tokio::test(start_paused = true)]
    async fn a_drain_does_not_wait_for_ever_for_a_worker_that_hangs() {
        let backend = TcpListener::bind("127.1.0.11:0").await.expect("a free port");
        let (losses, _lost) = mpsc::unbounded_channel();
        let (plane, listener) = one_worker(backend.local_addr().expect("bound"), "127.0.30.194", losses);
        plane.open(plane.bind(&[Arc::clone(&listener)]).expect("free")).await;
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.1.9:0".parse().expect("an address")).expect("a free port");
        let _client = socket.connect(listener.address).await.expect("it accepts");
        while plane.open_flows() == 0 {
            tokio::task::yield_now().await;
        }
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        plane.run_on_worker(move || {
            let _ = wait.recv();
        });
        plane.drain(plane.all_open(), Duration::from_secs(1), Some(DrainReason::Killed)).await;
        assert_eq!(plane.open_flows(), 1, "the worker has had no chance to end it");
        drop(go_on);
        plane.drain(plane.all_open(), Duration::from_secs(3600), None).await;
    }
}
