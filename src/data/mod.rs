//! The data plane: listeners, admission, flows, the relay.
//!
//! It has no word for control, config or API: it opens, retargets and closes listeners that a snapshot names, and counts and
//! logs what became of their flows. One connection's way: `listener` accepts it, `flow` serves it from there to its end,
//! `admission` decides, `target_select` picks a member, `relay` moves the bytes. All of it in one task on the thread of one
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
use self::context::WorkerOptions;
pub use self::counters::Carried;
pub use self::listener::BindError;
use self::metrics::DataMetrics;
use self::route::{Route, Routes};
use self::state::{DataPlaneState, Reports};
pub use self::table::FlowView;
use self::table::{FlowRecord, Order};
use self::worker::Command;
use crate::flowlog::{FlowLog, OpenFlow};
use crate::lifecycle::{Alarm, Losses};
use crate::limits::{Connections, Refusals, Shares, budget};
use crate::model::{CidrSet, ConnectError, DrainReason, FlowId, TargetId, VpceServiceId};
use crate::plan::{Gate, Listener, Member};

/// How the data plane works.
#[derive(Debug, Clone)]
pub struct DataOptions {
    /// Threads; each has its own listening sockets and flows.
    pub workers: usize,
    /// Bytes of a worker's one read buffer.
    pub scratch: usize,
    /// Pipes that a worker may have for splicing; 0 turns it off.
    pub pipes_per_worker: usize,
    /// Bytes of a pipe.
    pub pipe_size: usize,
    /// Length of a listening socket's queue.
    pub backlog: i32,
    /// Connections that a listener accepts at most before others have their turn.
    pub accepts_per_wake: u32,
    /// Refused clients that the process holds unanswered at once, at most an eighth of its descriptors and half of them of
    /// one source; beyond, the one that was held for longest is reset.
    pub held_refusals: usize,
    /// How long a refused client is held.
    pub hold_time: Duration,
    /// Probe silent peers after this long.
    pub keepalive: Option<Duration>,
    /// Congestion control by name.
    pub congestion: Option<String>,
    /// What idle and connect time-outs are rounded up to. 1 s; tests take less.
    pub tick: Duration,
    /// Where flows are recorded at their end.
    pub flow_log: Option<FlowLog>,
    /// Where refused connections are counted for the log and the events.
    pub refusals: Arc<Refusals>,
}

impl Default for DataOptions {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            scratch: 128 << 10,
            pipes_per_worker: 64,
            pipe_size: 256 << 10,
            backlog: 4096,
            accepts_per_wake: 32,
            held_refusals: 1024,
            hold_time: Duration::from_secs(127),
            keepalive: Some(Duration::from_secs(120)),
            congestion: None,
            tick: Duration::from_secs(1),
            flow_log: None,
            refusals: Arc::default(),
        }
    }
}

/// How long flows may take to end once they are ordered to: a turn of their worker, which is busy at worst.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// Failed connections to targets that are queued for the receiver.
const FAILED_DIALS: usize = 64;

/// The running data plane.
#[derive(Debug)]
pub struct DataPlane {
    state: Arc<DataPlaneState>,
    options: DataOptions,
    workers: Vec<mpsc::UnboundedSender<Command>>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    listeners: Mutex<HashMap<SocketAddr, OpenListener>>,
    failed_dials: Mutex<Option<mpsc::Receiver<SocketAddr>>>,
}

/// A listener that the workers accept on.
#[derive(Debug)]
struct OpenListener {
    /// Dropped, it closes the listener.
    route: watch::Sender<Arc<Route>>,
    /// Ends once every worker has closed its socket, and every client that it had accepted is in the table or refused.
    open: mpsc::Receiver<Infallible>,
}

/// Sockets that are bound and don't listen yet: a client is refused. Dropped, they are closed, and nothing has happened.
#[derive(Debug, Default)]
pub struct Bound(Vec<(Arc<Listener>, Vec<Socket>)>);

impl Bound {
    /// Adds what another one has.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The addresses that are bound.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(listener, _)| listener.address)
    }
}

impl DataPlane {
    /// Starts the workers. `losses` gets the names of listeners and threads that broke.
    ///
    /// # Errors
    ///
    /// When a thread can't be started, or the kernel gives it no epoll or timer.
    pub fn start(
        options: DataOptions,
        recorder: Arc<dyn ::metrics::Recorder + Send + Sync>,
        losses: Losses,
    ) -> io::Result<Self> {
        let count = options.workers.max(1);
        let (failed, failed_dials) = mpsc::channel(FAILED_DIALS);
        let reports = Reports { failed_dials: failed, refusals: Arc::clone(&options.refusals) };
        let metrics = DataMetrics::new(recorder);
        let limit = budget::share(8, options.held_refusals);
        let held = Connections::new(Shares { limit, per_source: limit.div_ceil(2), reserved: 0 });
        let state = Arc::new(DataPlaneState::new(count, metrics, options.flow_log.clone(), held, losses, reports));
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for index in 0..count {
            let (commands, received) = mpsc::unbounded_channel();
            let (state, worker_options) = (Arc::clone(&state), worker_options(&options));
            let (started, starting) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("plgw-flows-{index}")).spawn(move || {
                let _alarm = Alarm::new(format!("flow thread {index}"), &state.losses);
                worker::run(index, state, worker_options, received, &started);
            })?;
            starting.recv().map_err(io::Error::other)??;
            workers.push(commands);
            threads.push(thread);
        }
        let (failed_dials, threads) = (Mutex::new(Some(failed_dials)), Mutex::new(threads));
        Ok(Self { state, options, workers, threads, listeners: Mutex::default(), failed_dials })
    }

    /// The refused clients that the process holds, for listeners of other kinds.
    #[must_use]
    pub fn held_refusals(&self) -> Arc<Connections> {
        Arc::clone(&self.state.held)
    }

    /// Binds what is to be opened: all of it or nothing.
    ///
    /// # Errors
    ///
    /// Every address that could not be bound.
    pub fn bind(&self, listeners: &[Arc<Listener>]) -> Result<Bound, Vec<BindError>> {
        let leg = worker_options(&self.options).leg;
        let mut bound = Vec::new();
        let mut errors = Vec::new();
        for listener in listeners {
            match listener::bind(listener, self.workers.len(), &leg) {
                Ok(sockets) => bound.push((Arc::clone(listener), sockets)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Bound(bound)) } else { Err(errors) }
    }

    /// Listens and accepts on what was bound; returns once every worker does.
    pub async fn open(&self, bound: Bound) {
        let mut per_worker: Vec<Vec<_>> = self.workers.iter().map(|_| Vec::new()).collect();
        for (listener, sockets) in bound.0 {
            let (route, current) = watch::channel(Arc::new(self.route_of(&listener)));
            let (open, closed) = mpsc::channel(1);
            for (worker, socket) in per_worker.iter_mut().zip(sockets) {
                match listener::listen(socket, self.options.backlog) {
                    Ok(socket) => worker.push((socket, Routes { current: current.clone(), open: open.clone() })),
                    Err(error) => {
                        let address = listener.address;
                        tracing::error!(%address, %error, "failed to listen on a bound socket: another process listens at the address");
                        self.state.lost_listener(address);
                    }
                }
            }
            self.listeners().insert(listener.address, OpenListener { route, open: closed });
        }
        let mut opening = Vec::new();
        for (worker, opened) in self.workers.iter().zip(per_worker) {
            let (done, opened_all) = oneshot::channel();
            // Fails only where the worker ended, and the process with it; so below.
            let _ = worker.send(Command::Open(opened, done));
            opening.push(opened_all);
        }
        for opened in opening {
            let _ = opened.await;
        }
    }

    /// New flows of these listeners' addresses take the new routes; open ones keep theirs. Once it returns, no flow joins an
    /// earlier route any more.
    pub fn retarget(&self, listeners: &[Arc<Listener>]) {
        for listener in listeners {
            if let Some(open) = self.listeners().get(&listener.address) {
                let route = Arc::new(self.route_of(listener));
                // The route is read at each accept; the workers are woken for another mode alone.
                open.route.send_if_modified(|present| {
                    let before = std::mem::replace(present, route);
                    before.listener.answer != present.listener.answer
                });
            }
            self.freeze_or_thaw(listener);
        }
    }

    /// Freezes the flows through a lost zone or to a target that is silent by a fault, and thaws the others.
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
                flow.give(Order::Freeze);
            } else {
                flow.thaw();
            }
        }
    }

    /// Sources of which no connection is let in on any listener.
    pub fn refuse_service_side(&self, cidrs: &Arc<CidrSet>) {
        self.state.service_side.send_replace(Arc::clone(cidrs));
    }

    /// Accepts no more at the address of `listener`. Returns once the sockets are closed, with the flows that its target
    /// still has there: those of another listener that had the port before are no part of it.
    pub async fn close(&self, listener: &Listener) -> OpenFlows {
        self.shut(listener.address).await;
        let (address, group) = (listener.address, &listener.group);
        let is_own = |flow: &FlowRecord| {
            let of = &flow.listener;
            of.address == address && of.group.service == group.service && of.group.target == group.target
        };
        OpenFlows { flows: self.state.table.select(is_own) }
    }

    /// Accepts no more at `address`. Returns once the sockets are closed, and every client that was accepted is in the flow
    /// table or refused.
    pub async fn shut(&self, address: SocketAddr) {
        let closing = self.listeners().remove(&address);
        if let Some(OpenListener { route, mut open }) = closing {
            drop(route);
            let _ = open.recv().await;
        }
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<SocketAddr, OpenListener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flows that a member of a target group has. Where the routes leave the member out by then, no flow joins these any
    /// more.
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

    /// Waits until every worker has answered: one that hangs never does.
    pub async fn in_step(&self) {
        let mut answers = Vec::new();
        for worker in &self.workers {
            let (answer, answered) = oneshot::channel();
            let _ = worker.send(Command::Answer(answer));
            answers.push(answered);
        }
        for answered in answers {
            let _ = answered.await;
        }
    }

    /// Addresses of targets to which a flow's connection failed, each as it happens. For the first caller; later ones get `None`.
    #[must_use]
    pub fn failed_dials(&self) -> Option<mpsc::Receiver<SocketAddr>> {
        self.failed_dials.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How many flows each process behind a target carries: by load balancer, target and member.
    #[must_use]
    pub fn flows_by_member(&self) -> std::collections::BTreeMap<(VpceServiceId, TargetId, String), usize> {
        self.state.flows_by_member()
    }

    /// Why a flow log or the access log is not written; `None`: it is.
    #[must_use]
    pub fn flow_log_problem(&self) -> Option<String> {
        self.state.flow_log.as_ref().and_then(FlowLog::problem)
    }

    /// Every flow that is open.
    #[must_use]
    pub fn all_open(&self) -> OpenFlows {
        OpenFlows { flows: self.state.table.select(|_| true) }
    }

    /// Waits until these flows have ended, at most until `deadline`; then those that are left are reset, if `cut` names
    /// a reason, and waited for a moment longer.
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
                    "flows did not end although they were ordered to"
                );
            }
        }
    }

    /// Ends one flow at once; false when there is no such flow.
    #[must_use]
    pub fn kill(&self, id: FlowId) -> bool {
        let flow = self.state.table.get(id);
        order_end(flow.as_slice(), DrainReason::Killed);
        flow.is_some()
    }

    /// Every open flow, oldest first.
    #[must_use]
    pub fn flows(&self) -> Vec<FlowView> {
        let mut flows = self.state.table.select(|_| true);
        flows.sort_by_key(|flow| (flow.opened, flow.id));
        flows.iter().map(|flow| FlowView::from(flow.as_ref())).collect()
    }

    /// How many flows are open.
    #[must_use]
    pub fn open_flows(&self) -> usize {
        self.state.table.len()
    }

    /// Flows and bytes (to targets, to clients) carried since the start.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.state.carried()
    }

    /// The same by target; targets of two load balancers that have one name are one here, as in the metrics.
    #[must_use]
    pub fn carried_by_target(&self) -> std::collections::BTreeMap<String, Carried> {
        let mut targets = std::collections::BTreeMap::<String, Carried>::new();
        for series in self.state.all_series().0 {
            targets.entry(series.key.target.clone()).or_default().add(&series);
        }
        targets
    }

    /// How many flows each fault affected, by its name.
    #[must_use]
    pub fn affected_flows(&self) -> std::collections::BTreeMap<String, u64> {
        self.state.affected().into_iter().map(|(name, _, affected)| (name, affected)).collect()
    }

    /// Writes the workers' sums into the metrics registry; to be called right before a scrape.
    pub fn publish_metrics(&self) {
        metrics::publish(&self.state);
    }

    /// How often [`sample_rates`](Self::sample_rates) is to be called.
    pub const RATE_WINDOW: Duration = peak::WINDOW;

    /// Flows that are open through endpoints, for the flow logs: with what the kernel counted of each, so this takes a
    /// system call or two a flow.
    #[must_use]
    pub fn open_for_flow_log(&self) -> Vec<OpenFlow> {
        let diag = sock_diag::SockDiag::open().ok();
        let flows = self.state.table.select(|flow| matches!(flow.listener.gate, Gate::Endpoint(_)));
        flows.iter().filter_map(|flow| flow_log_events::open(flow, diag.as_ref())).collect()
    }

    /// Notes what was carried since the last time, for the peak throughput.
    pub fn sample_rates(&self) {
        metrics::sample(&self.state, Instant::now());
    }

    /// Forgets the counts of endpoints, targets and faults that are gone, once their last values are in the registry.
    pub fn forget_absent(&self) {
        if self.state.has_absent() {
            metrics::publish(&self.state);
            self.state.forget_absent();
        }
    }

    /// Ends what is left and waits for the threads. Listeners should have been closed, and flows drained.
    pub fn stop(&self) {
        for worker in &self.workers {
            let _ = worker.send(Command::Stop);
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A worker that panicked has said so on stderr; the process stops either way.
            let _ = thread.join();
        }
    }

    /// Has the first worker do `how` instead of its work.
    #[cfg(test)]
    pub(crate) fn misbehave(&self, how: impl FnOnce() + Send + 'static) {
        let _ = self.workers[0].send(Command::Misbehave(Box::new(how)));
    }

    fn route_of(&self, listener: &Arc<Listener>) -> Route {
        Route {
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
    flows.iter().for_each(|flow| flow.give(Order::End(reason)));
}

impl Drop for DataPlane {
    /// Its ports are free afterwards.
    fn drop(&mut self) {
        self.stop();
    }
}

/// Flows that were open when their listener closed.
#[derive(Debug, Default)]
pub struct OpenFlows {
    flows: Vec<Arc<FlowRecord>>,
}

fn worker_options(options: &DataOptions) -> WorkerOptions {
    WorkerOptions {
        scratch: options.scratch,
        pipes: options.pipes_per_worker,
        pipe_size: options.pipe_size,
        accepts_per_wake: options.accepts_per_wake,
        backlog: options.backlog,
        blackhole_time: options.hold_time,
        leg: LegOptions { keepalive: options.keepalive, congestion: options.congestion.clone() },
        tick: options.tick,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::lifecycle::Losses;
    use crate::telemetry::Registry;

    /// One worker, and the listener of a target that is `backend`, at a free port of `ip`.
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
        plane.misbehave(|| panic!("as asked"));
        assert_eq!(lost.recv().await.as_deref(), Some("flow thread 0 panicked"));
        plane.stop();
        assert!(lost.try_recv().is_err(), "one that is stopped is none");
    }

    /// A drain has an end, whatever became of the worker.
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
        plane.misbehave(move || {
            let _ = wait.recv();
        });
        plane.drain(plane.all_open(), Duration::from_secs(1), Some(DrainReason::Killed)).await;
        assert_eq!(plane.open_flows(), 1, "the worker has had no chance to end it");
        drop(go_on);
        plane.drain(plane.all_open(), Duration::from_secs(3600), None).await;
    }
}
