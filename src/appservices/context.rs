//! State shared by the tasks of a worker.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::server::conn::{http1, http2};
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backend::Backends;
use super::certificates::Certificates;
use super::metrics::AppMetrics;
use super::options::{AppLimits, AppOptions};
use super::streams::StreamExecutor;
use super::websockets::WebSockets;
use crate::data::connect::LegOptions;
use crate::data::descriptors::{AcceptErrors, SpareSlot};
use crate::data::pipes::Pipes;
use crate::data::relay::RelayBuffers;
use crate::data::scratch::Scratch;
use crate::lifecycle::Losses;
use crate::limits::{Connections, Refusals, SourceCounts};
use crate::model::{CidrSet, Origin};
use crate::plan::{AppListener, AppListenerKind, AppsView, Snapshot};

/// Size of the relay's scratch buffer.
const SCRATCH: usize = 128 << 10;
/// Flow-control windows of HTTP/2 clients: of a stream, and of a connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Maximum number of buffered bytes of a stream's response.
const SEND_BUFFER: usize = 128 << 10;

/// State shared by all workers.
pub(crate) struct SharedContext {
    pub(crate) options: AppOptions,
    pub(crate) certificates: Arc<Certificates>,
    /// The TLS configuration for `https` backends.
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) recorder: Arc<dyn metrics::Recorder + Send + Sync>,
    /// Receives the names of threads and listeners that panicked.
    pub(crate) losses: Losses,
    /// Refused clients that are held unanswered, over all listeners of the process.
    pub(crate) held: Arc<Connections>,
    /// Counts refused connections.
    pub(crate) refusals: Arc<Refusals>,
    /// Counts connections by source.
    pub(crate) sources: Arc<SourceCounts>,
    /// The tasks of open connections and WebSockets, over all workers.
    pub(crate) open: TaskTracker,
    pub(crate) websockets: Arc<WebSockets>,
    /// This gateway's name in `Via`.
    pub(crate) pseudonym: String,
}

/// The signals by which the connections of a listener end.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListenerEnd {
    /// Accept no more connections; open ones finish their requests.
    pub(crate) closing: CancellationToken,
    /// End all remaining connections at once.
    pub(crate) cut: CancellationToken,
}

/// A worker's state.
pub(crate) struct HttpWorkerContext {
    pub(crate) options: AppOptions,
    pub(crate) backends: Rc<Backends>,
    pub(crate) metrics: AppMetrics,
    pub(crate) accept_errors: AcceptErrors,
    pub(crate) left_over: SpareSlot,
    pub(crate) tools: RelayBuffers,
    /// HTTP/1.1 and HTTP/2, as ALPN chose. Not hyper-util's `auto`, which with upgrades detects the version from the
    /// first bytes, whatever ALPN chose, and does not limit the size of a head.
    pub(crate) http1: http1::Builder,
    pub(crate) http2: http2::Builder<StreamExecutor>,
    pub(crate) held: Arc<Connections>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) sources: Arc<SourceCounts>,
    /// Open connections of this worker.
    pub(crate) connections: Cell<usize>,
    pub(crate) open: TaskTracker,
    pub(crate) websockets: Arc<WebSockets>,
    pub(crate) losses: Losses,
    pub(crate) pseudonym: String,
    /// The `Via` value for requests of HTTP/1.1 and of HTTP/2.
    pub(crate) via: [HeaderValue; 2],
    snapshots: RefCell<watch::Receiver<Arc<Snapshot>>>,
    apps: RefCell<Arc<AppsView>>,
    service_side: RefCell<Arc<CidrSet>>,
    next: Cell<u64>,
    index: u64,
}

impl HttpWorkerContext {
    pub(crate) fn new(index: usize, common: &SharedContext) -> Rc<Self> {
        let options = common.options.clone();
        let leg = LegOptions { keepalive: options.keepalive, congestion: None };
        let mut snapshots = common.snapshots.clone();
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let via = ["1.1", "2"].map(|version| {
            HeaderValue::from_str(&format!("{version} {}", common.pseudonym)).expect("a pseudonym is a token")
        });
        Rc::new(Self {
            backends: Backends::new(&common.client, options.limits.clone(), leg),
            metrics: AppMetrics::new(Arc::clone(&common.recorder)),
            accept_errors: AcceptErrors::new(common.recorder.as_ref()),
            left_over: SpareSlot::default(),
            tools: RelayBuffers { scratch: Scratch::new(SCRATCH), pipes: Pipes::new(0, 0) },
            http1: http1_builder(&options.limits),
            http2: http2_builder(&options.limits),
            held: Arc::clone(&common.held),
            refusals: Arc::clone(&common.refusals),
            sources: Arc::clone(&common.sources),
            connections: Cell::new(0),
            open: common.open.clone(),
            websockets: Arc::clone(&common.websockets),
            losses: common.losses.clone(),
            pseudonym: common.pseudonym.clone(),
            via,
            apps: RefCell::new(Arc::clone(&snapshot.apps)),
            service_side: RefCell::new(Arc::clone(&snapshot.service_side)),
            snapshots: RefCell::new(snapshots),
            next: Cell::new(0),
            index: index as u64 + 1,
            options,
        })
    }

    /// The apps of the current snapshot.
    pub(crate) fn apps(&self) -> Arc<AppsView> {
        self.refresh();
        Arc::clone(&self.apps.borrow())
    }

    /// The origin of a client of `app_listener`.
    pub(crate) fn origin(&self, app_listener: &AppListener, source: IpAddr) -> Origin {
        let service_side = self.service_side.borrow();
        match &app_listener.kind {
            AppListenerKind::Private { access, .. } => access.origin(source, &service_side),
            AppListenerKind::Public if service_side.contains(source) => Origin::Service,
            AppListenerKind::Public => Origin::Public,
        }
    }

    /// A receiver of published snapshots.
    pub(crate) fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.borrow().clone()
    }

    /// The networks of the service's side.
    pub(crate) fn service_side(&self) -> Arc<CidrSet> {
        self.refresh();
        Arc::clone(&self.service_side.borrow())
    }

    /// Applies a new snapshot, if there is one. Otherwise this is one atomic load.
    pub(crate) fn refresh(&self) {
        let mut snapshots = self.snapshots.borrow_mut();
        // An error means that no more snapshots will be published; the last one stays.
        if snapshots.has_changed().unwrap_or(false) {
            self.apply_snapshot(&snapshots.borrow_and_update());
        }
    }

    /// Applies `snapshot` to requests from now on.
    pub(crate) fn apply_snapshot(&self, snapshot: &Snapshot) {
        *self.apps.borrow_mut() = Arc::clone(&snapshot.apps);
        self.metrics.retain_apps(|app| snapshot.apps.apps.contains_key(app));
        *self.service_side.borrow_mut() = Arc::clone(&snapshot.service_side);
    }

    /// A number that is unique among the connections and WebSockets of the process.
    pub(crate) fn next_number(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.index << 44 | self.next.get()
    }

    pub(crate) fn app_listener(&self, address: SocketAddr) -> Option<Arc<AppListener>> {
        self.apps().listeners.get(&address).cloned()
    }
}

fn http1_builder(limits: &AppLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The connection's own limit on a head starts with its first byte (`activity.rs`).
    builder.max_header_size(limits.header_size).max_buf_size(limits.header_size).header_read_timeout(None);
    if limits.headers != DEFAULT_FIELDS {
        builder.max_headers(limits.headers);
    }
    builder
}

fn http2_builder(limits: &AppLimits) -> http2::Builder<StreamExecutor> {
    let mut builder = http2::Builder::new(StreamExecutor { limit: limits.body_idle });
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .enable_connect_protocol();
    builder
}

/// hyper's default limit of fields in a head. If it is set explicitly, even to this value, hyper allocates space for
/// that many fields with every head.
const DEFAULT_FIELDS: usize = 100;
