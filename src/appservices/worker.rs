//! A worker: one thread, one current-thread runtime, its own listening sockets, clients and connections to backends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use slab::Slab;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::backend::Backends;
use super::certificates::Certificates;
use super::connection;
use super::live::{Cut, Live, Order, Patience};
use super::metrics::AppMetrics;
use super::options::AppOptions;
use super::sockets::Sockets;
use crate::data::connect::LegOptions;
use crate::data::listener::is_scarcity;
use crate::data::pipes::Pipes;
use crate::data::relay::Tools;
use crate::data::scratch::Scratch;
use crate::model::{CidrSet, Origin};
use crate::plan::{AppsView, Door, DoorWay, Snapshot};

/// First wait when no descriptor is left; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Longest wait between two tries to accept without descriptors.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Ticks between two looks at certificate files: a few seconds, as nobody waits for a renewed certificate.
const CERTIFICATE_TICKS: u32 = 5;
/// The relay's one buffer.
const SCRATCH: usize = 128 << 10;

/// What a worker is told.
pub(crate) enum Command {
    /// Judge by this snapshot, and accept on these sockets.
    Open(Vec<(SocketAddr, std::net::TcpListener)>, Arc<Snapshot>, oneshot::Sender<()>),
    /// Accept no more there; let what is open finish, and cut WebSockets after this long.
    Close(SocketAddr, Duration, oneshot::Sender<()>),
    /// End this WebSocket now.
    Kill(u64),
}

/// What all workers share.
pub(crate) struct Common {
    pub(crate) options: AppOptions,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) recorder: Arc<dyn metrics::Recorder + Send + Sync>,
    /// Connections and WebSockets that are open, over all workers.
    pub(crate) open: Arc<AtomicUsize>,
    /// The WebSockets among them.
    pub(crate) sockets: Arc<Sockets>,
}

/// A worker's state, shared by its tasks.
pub(crate) struct Worker {
    pub(crate) options: AppOptions,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) backends: Rc<Backends>,
    pub(crate) metrics: AppMetrics,
    pub(crate) tools: Tools,
    /// Refused clients that are held unanswered now.
    pub(crate) held: Cell<usize>,
    snapshots: RefCell<watch::Receiver<Arc<Snapshot>>>,
    apps: RefCell<Arc<AppsView>>,
    service_side: RefCell<Arc<CidrSet>>,
    live: RefCell<Slab<Rc<Live>>>,
    open: Arc<AtomicUsize>,
    pub(crate) sockets: Arc<Sockets>,
    clock: Arc<AtomicU32>,
    next: Cell<u64>,
    index: u64,
    /// Looked after by the first worker.
    certificates: Option<Arc<Certificates>>,
}

impl Worker {
    pub(crate) fn new(index: usize, common: &Common) -> Rc<Self> {
        let options = common.options.clone();
        let leg = LegOptions { keepalive: options.keepalive, congestion: None };
        let mut snapshots = common.snapshots.clone();
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        Rc::new(Self {
            backends: Backends::new(&common.client, options.limits.clone(), leg),
            server: Arc::clone(&common.server),
            metrics: AppMetrics::new(Arc::clone(&common.recorder)),
            tools: Tools { scratch: Scratch::new(SCRATCH), pipes: Pipes::new(0, 0) },
            held: Cell::new(0),
            apps: RefCell::new(Arc::clone(&snapshot.apps)),
            service_side: RefCell::new(Arc::clone(&snapshot.service_side)),
            snapshots: RefCell::new(snapshots),
            live: RefCell::default(),
            open: Arc::clone(&common.open),
            sockets: Arc::clone(&common.sockets),
            clock: Arc::new(AtomicU32::new(1)),
            next: Cell::new(0),
            index: index as u64 + 1,
            certificates: (index == 0).then(|| Arc::clone(&common.certificates)),
            options,
        })
    }

    /// Does what it is told until nobody can tell it anything any more.
    pub(crate) async fn run(self: Rc<Self>, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut listeners: HashMap<SocketAddr, JoinHandle<()>> = HashMap::new();
        let mut ticks = tokio::time::interval(self.options.tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        ticks.tick().await;
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Open(sockets, snapshot, done)) => {
                        self.refresh();
                        self.take_over(&snapshot);
                        for (address, socket) in sockets {
                            let task = accept(Rc::clone(&self), address, socket);
                            listeners.insert(address, tokio::task::spawn_local(task));
                        }
                        let _ = done.send(());
                    }
                    Some(Command::Close(address, drain, done)) => {
                        if let Some(task) = listeners.remove(&address) {
                            task.abort();
                            // Only when the task is gone is its socket closed.
                            let _ = task.await;
                        }
                        self.drain(address, drain);
                        let _ = done.send(());
                    }
                    Some(Command::Kill(id)) => {
                        for (_, live) in self.live.borrow().iter().filter(|(_, live)| live.id == id) {
                            live.tell(Order::Cut(Cut::Killed));
                        }
                    }
                    None => return,
                },
                _ = ticks.tick() => self.turn(),
            }
        }
    }

    /// The apps as they are now.
    pub(crate) fn apps(&self) -> Arc<AppsView> {
        self.refresh();
        Arc::clone(&self.apps.borrow())
    }

    /// Where a client of `door` comes from.
    pub(crate) fn origin(&self, door: &Door, source: IpAddr) -> Origin {
        let service_side = self.service_side.borrow();
        match &door.way {
            DoorWay::Private { gate, .. } => gate.origin(source, &service_side),
            DoorWay::Public if service_side.contains(source) => Origin::Service,
            DoorWay::Public => Origin::Public,
        }
    }

    /// The networks of the service's side.
    pub(crate) fn service_side(&self) -> Arc<CidrSet> {
        self.refresh();
        Arc::clone(&self.service_side.borrow())
    }

    /// Takes over a new snapshot. An atomic load when there is none.
    fn refresh(&self) {
        let mut snapshots = self.snapshots.borrow_mut();
        // An error means that nobody publishes any more: the last one stays.
        if snapshots.has_changed().unwrap_or(false) {
            self.take_over(&snapshots.borrow_and_update());
        }
    }

    fn take_over(&self, snapshot: &Snapshot) {
        *self.apps.borrow_mut() = Arc::clone(&snapshot.apps);
        *self.service_side.borrow_mut() = Arc::clone(&snapshot.service_side);
    }

    /// Makes a connection or WebSocket known to the tick and to orders.
    pub(crate) fn enter(&self, peer: SocketAddr, door: SocketAddr, is_websocket: bool) -> (Rc<Live>, usize) {
        let n = self.next.get() + 1;
        self.next.set(n);
        let live = Rc::new(Live::new(self.index << 44 | n, peer, door, &self.clock, is_websocket));
        let slot = self.live.borrow_mut().insert(Rc::clone(&live));
        self.open.fetch_add(1, Ordering::Relaxed);
        (live, slot)
    }

    /// Forgets it.
    pub(crate) fn leave(&self, slot: usize) {
        self.live.borrow_mut().remove(slot);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many are open here.
    pub(crate) fn open_here(&self) -> usize {
        self.live.borrow().len()
    }

    /// One tick: whoever outstayed a limit is told so, old connections to backends are closed.
    fn turn(&self) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        let ticks = |time: Duration| {
            let ticks = time.as_nanos().div_ceil(self.options.tick.as_nanos().max(1));
            u32::try_from(ticks).unwrap_or(u32::MAX / 2).max(1)
        };
        let limits = &self.options.limits;
        let patience = Patience {
            head: ticks(limits.header_time),
            idle: ticks(limits.idle),
            stall: ticks(limits.body_idle),
            websocket: ticks(self.options.websocket_idle),
        };
        for (_, live) in self.live.borrow().iter() {
            live.look(now, &patience);
        }
        self.backends.sweep();
        if now.is_multiple_of(CERTIFICATE_TICKS)
            && let Some(certificates) = self.certificates.clone()
        {
            tokio::task::spawn_blocking(move || match certificates.reload_if_changed() {
                Ok(false) => {}
                Ok(true) => tracing::info!("App Services certificates were read again"),
                Err(error) => tracing::error!(%error, "App Services certificates stay as they were"),
            });
        }
    }

    /// Lets what came to an address finish; cuts it in the end.
    fn drain(self: &Rc<Self>, address: SocketAddr, drain: Duration) {
        let here = move |live: &Live| live.door == address;
        for (_, live) in self.live.borrow().iter().filter(|(_, live)| here(live)) {
            live.tell(Order::Finish);
        }
        let worker = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(drain).await;
            let Some(worker) = worker.upgrade() else { return };
            for (_, live) in worker.live.borrow().iter().filter(|(_, live)| here(live) && live.is_finishing()) {
                live.tell(Order::Cut(Cut::Closed));
            }
        });
    }
}

/// Accepts until it is aborted.
async fn accept(worker: Rc<Worker>, address: SocketAddr, socket: std::net::TcpListener) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, %address, "App Services address is lost: its socket cannot be watched");
            return;
        }
    };
    let mut wait = FIRST_WAIT;
    let mut in_a_row = 0;
    loop {
        match socket.accept().await {
            Ok((client, peer)) => {
                wait = FIRST_WAIT;
                connection::take(&worker, address, client, peer);
                in_a_row += 1;
                if in_a_row >= worker.options.accepts_per_wake {
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if is_scarcity(&error) => {
                tracing::warn!(%error, wait_ms = wait.as_millis(), "accepting waits: the process or the host is out of descriptors or memory");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            // A client that went away before it was accepted.
            Err(_) => {}
        }
    }
}
