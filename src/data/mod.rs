//! The data plane: listeners, admission, flows, the relay.
//!
//! It has no word for control, config or API: it opens, retargets and closes listeners that a snapshot names, and says
//! what became of them. One flow's way: `door` accepts, `admission` decides, `choose` picks a member, `flow` dials it and
//! sees to the end, `relay` moves the bytes. All of it on the thread of one `worker`, which waits for news in `poll`.

pub(crate) mod admission;
mod choose;
pub(crate) mod connect;
mod counters;
mod door;
mod fault;
mod flow;
mod idle;
mod keepalive;
pub(crate) mod leg;
pub(crate) mod listener;
mod local;
mod metrics;
mod outer;
mod peak;
pub(crate) mod pipes;
mod poll;
pub mod proxy_protocol;
mod refuse;
pub(crate) mod relay;
pub(crate) mod scratch;
mod shape;
mod shared;
mod sock_diag;
pub(crate) mod socket;
mod table;
mod tally;
mod tell;
#[cfg(test)]
mod testing;
mod timers;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::Socket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::connect::LegOptions;
pub use self::listener::BindError;
use self::listener::ListenerState;
use self::local::{Local, WorkerOptions};
use self::metrics::DataMetrics;
use self::poll::{Bell, Poller};
use self::shared::Shared;
pub use self::table::FlowView;
use self::table::{FlowRecord, Order};
use self::worker::{Command, Commands, Worker};
use crate::flowlog::{FlowLog, OpenFlow};
use crate::lifecycle::{Alarm, Losses};
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
    /// Refused clients that a worker holds unanswered at once; more are reset.
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
        }
    }
}

/// How long flows may take to end once they are told to: a turn of their worker, which is busy at worst.
const CUT_TIME: Duration = Duration::from_secs(5);

/// Failed connections to targets that may wait to be heard of; of a storm of them the first ones say it all.
const FAILED_DIALS: usize = 64;

/// The running data plane.
#[derive(Debug)]
pub struct DataPlane {
    shared: Arc<Shared>,
    options: DataOptions,
    workers: Vec<Commands>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    failed_dials: Mutex<Option<mpsc::Receiver<SocketAddr>>>,
}

/// Sockets that are bound and don't listen yet: whoever connects is refused. Dropped, they are closed, and nothing has
/// happened.
#[derive(Debug)]
pub struct Bound(Vec<(Arc<Listener>, Vec<Socket>)>);

impl Bound {
    /// The addresses that are bound.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(listener, _)| listener.address)
    }
}

impl DataPlane {
    /// Starts the workers. `losses` hears of listeners and threads that broke.
    ///
    /// # Errors
    ///
    /// When a thread can't be started, or the kernel gives it no epoll.
    pub fn start(
        options: DataOptions,
        recorder: Arc<dyn ::metrics::Recorder + Send + Sync>,
        losses: Losses,
    ) -> io::Result<Self> {
        let count = options.workers.max(1);
        let (failed, failed_dials) = mpsc::channel(FAILED_DIALS);
        let shared = Arc::new(Shared::new(count, DataMetrics::new(recorder), options.flow_log.clone(), losses, failed));
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for index in 0..count {
            let poller = Poller::new()?;
            let bell = Arc::new(Bell::new(&poller)?);
            let (queue, received) = std::sync::mpsc::channel();
            let commands = Commands::new(queue, Arc::clone(&bell));
            let (shared, worker_options) = (Arc::clone(&shared), worker_options(&options));
            let (started, starting) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("plgw-flows-{index}")).spawn(move || {
                let _alarm = Alarm::new(format!("flow thread {index}"), &shared.losses);
                let local = Local::new(index, shared, worker_options, poller);
                match Worker::new(local, received, bell) {
                    Ok(worker) => {
                        let _ = started.send(Ok(()));
                        worker.run();
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })?;
            starting.recv().map_err(io::Error::other)??;
            workers.push(commands);
            threads.push(thread);
        }
        let (threads, failed_dials) = (Mutex::new(threads), Mutex::new(Some(failed_dials)));
        Ok(Self { shared, options, workers, threads, failed_dials })
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
            let state = self.state_of(&listener);
            for (worker, socket) in per_worker.iter_mut().zip(sockets) {
                match listener::listen(socket, self.options.backlog) {
                    Ok(socket) => worker.push((socket, state.clone())),
                    Err(error) => {
                        let address = listener.address;
                        tracing::error!(%address, %error, "a bound socket can't listen: somebody else does there");
                        self.shared.lost_listener(address);
                    }
                }
            }
        }
        let mut opening = Vec::new();
        for (worker, opened) in self.workers.iter().zip(per_worker) {
            let (done, opened_all) = oneshot::channel();
            worker.send(Command::Open(opened, done));
            opening.push(opened_all);
        }
        for opened in opening {
            let _ = opened.await;
        }
    }

    /// New flows of these listeners' addresses take the new routes; open ones keep theirs. A worker is told of all of them at
    /// once: a reload may retarget hundreds, and each call would be an interruption of its own.
    pub fn retarget(&self, listeners: &[Arc<Listener>]) {
        if listeners.is_empty() {
            return;
        }
        let states: Vec<_> = listeners.iter().map(|listener| self.state_of(listener)).collect();
        if let Some((last, others)) = self.workers.split_last() {
            others.iter().for_each(|worker| worker.send(Command::Retarget(states.clone())));
            last.send(Command::Retarget(states));
        }
        listeners.iter().for_each(|listener| self.freeze_or_thaw(listener));
    }

    /// Stops what flows through a lost zone or to a target that is silent by a fault, and lets it go on afterwards.
    fn freeze_or_thaw(&self, listener: &Listener) {
        let is_silent = |member: &Member| member.faulted && member.reach != Some(ConnectError::Refused);
        let stands = |flow: &FlowRecord| {
            let same = |member: &&Member| member.name == flow.member().name && member.address == flow.member().address;
            listener.outage || listener.group.members.iter().find(same).is_some_and(is_silent)
        };
        let some = listener.outage || listener.group.members.iter().any(is_silent);
        if !some && !self.shared.has_frozen() {
            return;
        }
        let flows = self.shared.table.select(|flow| flow.listener.address == listener.address);
        let (standing, moving): (Vec<_>, Vec<_>) = flows.into_iter().partition(|flow| stands(flow));
        if !standing.is_empty() {
            self.shared.note_frozen();
        }
        standing.iter().for_each(|flow| flow.tell(Order::Frozen));
        self.wake(&standing);
        self.wake(&moving.into_iter().filter(|flow| flow.thaw()).collect::<Vec<_>>());
    }

    /// Sources of which no connection is let in on any listener.
    pub fn refuse_service_side(&self, cidrs: &Arc<CidrSet>) {
        for worker in &self.workers {
            worker.send(Command::ServiceSide(Arc::clone(cidrs)));
        }
    }

    /// Accepts no more at the address of `listener`. Returns once the sockets are closed, with the flows that its target
    /// still has there: another one's, who had the port before, are no part of it.
    pub async fn close(&self, listener: &Listener) -> OpenFlows {
        self.shut(listener.address).await;
        let (address, group) = (listener.address, &listener.group);
        let is_own = |flow: &FlowRecord| {
            let of = &flow.listener;
            of.address == address && of.group.service == group.service && of.group.target == group.target
        };
        OpenFlows { flows: self.shared.table.select(is_own) }
    }

    /// Accepts no more at `address`. Returns once the sockets are closed.
    pub async fn shut(&self, address: SocketAddr) {
        let mut closing = Vec::new();
        for worker in &self.workers {
            let (done, closed) = oneshot::channel();
            worker.send(Command::Close(address, done));
            closing.push(closed);
        }
        for closed in closing {
            let _ = closed.await;
        }
    }

    /// The flows that a member of a target group has. Retargets that were asked for before are in force by then, so where
    /// those leave the member out, no flow joins these any more.
    pub async fn flows_to(&self, service: &VpceServiceId, target: &TargetId, member: &Member) -> OpenFlows {
        self.in_step().await;
        let is_on = |flow: &FlowRecord| {
            let (group, on) = (&flow.listener.group, flow.member());
            group.service == *service
                && group.target == *target
                && on.name == member.name
                && on.address == member.address
        };
        OpenFlows { flows: self.shared.table.select(is_on) }
    }

    /// Waits until every worker has taken what it was told so far.
    pub async fn in_step(&self) {
        let mut reaching = Vec::new();
        for worker in &self.workers {
            let (done, reached) = oneshot::channel();
            worker.send(Command::Sync(done));
            reaching.push(reached);
        }
        for reached in reaching {
            let _ = reached.await;
        }
    }

    /// Addresses of targets to which a flow's connection failed, each as it happens. For one taker: later ones get `None`.
    #[must_use]
    pub fn failed_dials(&self) -> Option<mpsc::Receiver<SocketAddr>> {
        self.failed_dials.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Every flow that is open.
    #[must_use]
    pub fn all_open(&self) -> OpenFlows {
        OpenFlows { flows: self.shared.table.select(|_| true) }
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
        let ended = tokio::time::timeout_at(deadline, self.shared.until(|table| gone(&mut flows, table))).await;
        if ended.is_err()
            && let Some(reason) = cut
        {
            self.cut(&flows, reason);
            let ended = self.shared.until(|table| gone(&mut flows, table));
            if tokio::time::timeout(CUT_TIME, ended).await.is_err() {
                tracing::error!(flows = flows.len(), reason = reason.label(), "flows that were told to end have not");
            }
        }
    }

    /// Ends one flow at once; false when there is no such flow.
    #[must_use]
    pub fn kill(&self, id: FlowId) -> bool {
        let flow = self.shared.table.get(id);
        self.cut(flow.as_slice(), DrainReason::Killed);
        flow.is_some()
    }

    /// Every open flow, oldest first.
    #[must_use]
    pub fn flows(&self) -> Vec<FlowView> {
        let mut flows = self.shared.table.select(|_| true);
        flows.sort_by_key(|flow| (flow.opened, flow.id));
        flows.iter().map(|flow| FlowView::from(flow.as_ref())).collect()
    }

    /// How many flows are open.
    #[must_use]
    pub fn open_flows(&self) -> usize {
        self.shared.table.len()
    }

    /// Flows and bytes (to targets, to clients) carried since the start.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.shared.carried()
    }

    /// The same by target; targets of two load balancers that have one name are one here, as in the metrics.
    #[must_use]
    pub fn carried_by_target(&self) -> std::collections::BTreeMap<String, Carried> {
        let mut targets = std::collections::BTreeMap::<String, Carried>::new();
        for series in self.shared.all_series().0 {
            targets.entry(series.key.target.clone()).or_default().add(&series);
        }
        targets
    }

    /// How many flows each fault befell, by its name.
    #[must_use]
    pub fn befallen(&self) -> std::collections::BTreeMap<String, u64> {
        self.shared.struck().into_iter().map(|(name, _, struck)| (name, struck)).collect()
    }

    /// Writes the workers' sums into the metrics registry; to be called right before a scrape.
    pub fn publish_metrics(&self) {
        metrics::publish(&self.shared);
    }

    /// How often [`sample_rates`](Self::sample_rates) is to be called.
    pub const RATE_WINDOW: Duration = peak::WINDOW;

    /// Flows that are open through endpoints, for the flow logs: with what the kernel counted of each, so this takes a
    /// system call or two a flow.
    #[must_use]
    pub fn open_for_flow_log(&self) -> Vec<OpenFlow> {
        let diag = sock_diag::SockDiag::open().ok();
        let flows = self.shared.table.select(|flow| matches!(flow.listener.gate, Gate::Endpoint(_)));
        flows.iter().filter_map(|flow| tell::open(flow, diag.as_ref())).collect()
    }

    /// Notes what was carried since the last time, for the peak throughput.
    pub fn sample_rates(&self) {
        metrics::sample(&self.shared, Instant::now());
    }

    /// Forgets the counts of endpoints, targets and faults that are gone, once their last values are in the registry.
    pub fn forget_absent(&self) {
        if self.shared.has_absent() {
            metrics::publish(&self.shared);
            self.shared.forget_absent();
        }
    }

    /// Ends what is left and waits for the threads. Listeners should have been closed, and flows drained.
    pub fn stop(&self) {
        for worker in &self.workers {
            worker.send(Command::Stop);
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
        self.workers[0].send(Command::Misbehave(Box::new(|_| how())));
    }

    fn cut(&self, flows: &[Arc<FlowRecord>], reason: DrainReason) {
        for flow in flows {
            flow.tell(Order::Cut(reason));
        }
        self.wake(flows);
    }

    fn wake(&self, flows: &[Arc<FlowRecord>]) {
        for (index, worker) in self.workers.iter().enumerate() {
            let own: Vec<_> = flows.iter().filter(|flow| usize::from(flow.worker) == index).cloned().collect();
            if !own.is_empty() {
                worker.send(Command::Wake(own));
            }
        }
    }

    fn state_of(&self, listener: &Arc<Listener>) -> ListenerState {
        ListenerState {
            listener: Arc::clone(listener),
            series: self.shared.series(listener),
            held_flows: self.shared.held_flows(&listener.group),
            faults: listener.faults.iter().map(|fault| self.shared.live_fault(fault)).collect(),
            cap: listener.group.bandwidth_cap.map(|cap| self.shared.cap(listener.address.ip(), cap)),
        }
    }
}

impl Drop for DataPlane {
    /// Whoever drops it finds its ports free.
    fn drop(&mut self) {
        self.stop();
    }
}

/// Flows that were open when their listener closed.
#[derive(Debug, Default)]
pub struct OpenFlows {
    flows: Vec<Arc<FlowRecord>>,
}

/// What was carried since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Carried {
    /// Flows admitted.
    pub flows: u64,
    /// Connections refused.
    pub refused: u64,
    /// Payload bytes written to targets.
    pub bytes_to_target: u64,
    /// Payload bytes written to clients.
    pub bytes_to_client: u64,
}

impl Carried {
    /// Adds what `series` counted.
    fn add(&mut self, series: &counters::Series) {
        self.flows += series.sum(|shard| shard.opened.get());
        self.bytes_to_target += series.sum(|shard| shard.to_target.get());
        self.bytes_to_client += series.sum(|shard| shard.to_client.get());
        self.refused += series.sum(|shard| shard.refused.iter().map(counters::Count::get).sum());
    }
}

fn worker_options(options: &DataOptions) -> WorkerOptions {
    WorkerOptions {
        scratch: options.scratch,
        pipes: options.pipes_per_worker,
        pipe_size: options.pipe_size,
        accepts_per_wake: options.accepts_per_wake,
        backlog: options.backlog,
        held_refusals: options.held_refusals,
        hold_time: options.hold_time,
        leg: LegOptions { keepalive: options.keepalive, congestion: options.congestion.clone() },
        tick: options.tick,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::lifecycle::Losses;
    use crate::plan::{Generation, PortAllocations, compile};
    use crate::telemetry::Registry;

    /// One worker, and the listener of a target that is `backend`, at a free port of `ip`.
    fn one_worker(backend: SocketAddr, ip: &str, losses: Losses) -> (DataPlane, Arc<Listener>) {
        let options = DataOptions { workers: 1, ..DataOptions::default() };
        let plane = DataPlane::start(options, Registry::new().shared_recorder(), losses).expect("a thread");
        let desired = crate::config::quickstart().desired;
        let snapshot = compile(&desired, &PortAllocations::default(), Generation(1)).expect("a plan").0;
        let free = std::net::TcpListener::bind((ip, 0)).and_then(|free| free.local_addr()).expect("a free port");
        let mut listener = Listener::clone(snapshot.listeners.values().next().expect("a listener"));
        listener.address = free;
        let mut group = crate::plan::TargetGroup::clone(&listener.group);
        group.members.iter_mut().for_each(|member| member.address = backend);
        listener.group = Arc::new(group);
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
    async fn a_drain_does_not_wait_for_ever_for_a_worker_that_does_not_come_back() {
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
