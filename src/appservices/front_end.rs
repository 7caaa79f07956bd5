//! The HTTP front end as a whole: its threads and its listening addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use socket2::Socket;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::certificates::Certificates;
use super::context::{ListenerEnd, SharedContext};
use super::metrics;
use super::options::AppOptions;
use super::websockets::WebSockets;
use super::worker::{self, OpenSockets, WorkerSocket};
use crate::data::FlowView;
use crate::data::connect::LegOptions;
use crate::data::listener::{bind_shared, listen};
use crate::lifecycle::{Alarm, BindError, Losses};
use crate::limits::{Connections, Refusals, SourceCounts, budget};
use crate::model::FlowId;
use crate::plan::{AppsView, Snapshot};
use crate::tls::TlsError;
use crate::tls::identity::provider;

/// Extra time for connections to end after their drain time.
const END_TIMEOUT: Duration = Duration::from_millis(100);

/// Why the HTTP front end cannot start or cannot apply a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontEndError {
    /// A certificate cannot be read or issued.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A thread or its runtime cannot be started.
    #[error("failed to start a thread of the App Services front end")]
    Thread(#[source] io::Error),
    /// No random bytes for session tickets.
    #[error("failed to make keys for TLS session tickets")]
    Tickets(#[source] rustls::Error),
    /// No random bytes for the name in `Via`.
    #[error("failed to read random bytes")]
    Random,
}

/// The running front end.
///
/// Each request is decided by the snapshot that is current when it arrives. The owner of the snapshots opens and closes
/// addresses in three steps: [`bind`](Self::bind), [`open`](Self::open), and, once the snapshot is published,
/// [`retire`](Self::retire).
#[derive(Debug)]
pub struct AppFrontEnd {
    options: AppOptions,
    certificates: Arc<Certificates>,
    workers: Vec<mpsc::UnboundedSender<OpenSockets>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    losses: Losses,
    listeners: Mutex<BTreeMap<SocketAddr, OpenListener>>,
    open: TaskTracker,
    websockets: Arc<WebSockets>,
}

/// The parts of the process shared with the HTTP front end.
pub struct AppFrontEndParts<'a> {
    /// The published snapshots.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The certificates of the listeners.
    pub certificates: Arc<Certificates>,
    /// A CA for `https` backends, in addition to [`AppOptions::backend_ca`].
    pub lab_ca: Option<&'a CertificateDer<'static>>,
    /// Refused clients that are held unanswered, shared with the data plane.
    pub held: Arc<Connections>,
    /// Counts refused connections for the log and the events.
    pub refusals: Arc<Refusals>,
    /// The metrics recorder.
    pub recorder: Arc<dyn ::metrics::Recorder + Send + Sync>,
    /// Receives the names of threads and listeners that panic.
    pub losses: Losses,
}

/// A listener, open on all workers.
#[derive(Debug, Clone, Default)]
struct OpenListener {
    end: ListenerEnd,
    accepting: TaskTracker,
}

/// Bound sockets that do not listen yet, so clients are refused. Dropping them undoes the bind.
#[derive(Debug)]
pub struct BoundListeners(BTreeMap<SocketAddr, (Vec<Socket>, Arc<ServerConfig>)>);

impl AppFrontEnd {
    /// Starts the threads, without binding any address.
    ///
    /// # Errors
    ///
    /// [`FrontEndError`] when a thread cannot be started or a CA file cannot be read.
    pub fn start(options: AppOptions, parts: AppFrontEndParts<'_>) -> Result<Self, FrontEndError> {
        let AppFrontEndParts { snapshots, certificates, lab_ca, held, refusals, recorder, losses } = parts;
        metrics::describe(recorder.as_ref());
        let open = TaskTracker::new();
        let websockets = Arc::new(WebSockets::default());
        let common = Arc::new(SharedContext {
            certificates: Arc::clone(&certificates),
            client: client_config(&options, lab_ca)?,
            options: options.clone(),
            snapshots,
            recorder,
            losses,
            held,
            refusals,
            sources: Arc::new(SourceCounts::new(budget::flows_of_one_source())),
            open: open.clone(),
            websockets: Arc::clone(&websockets),
            pseudonym: pseudonym()?,
        });
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for index in 0..options.workers.max(1) {
            let (commands, received) = mpsc::unbounded_channel();
            let common = Arc::clone(&common);
            let (started, starting) = std::sync::mpsc::sync_channel(1);
            let mut builder = Builder::new_current_thread();
            builder.enable_all();
            let work = move || {
                let _alarm = Alarm::new(format!("App Services thread {index}"), &common.losses);
                match builder.build_local(LocalOptions::default()) {
                    Ok(runtime) => {
                        let _ = started.send(Ok(()));
                        runtime.block_on(async move { worker::run(index, &common, received).await });
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("plgw-apps-{index}")).spawn(work);
            let thread = thread.map_err(FrontEndError::Thread)?;
            starting.recv().map_err(io::Error::other).flatten().map_err(FrontEndError::Thread)?;
            workers.push(commands);
            threads.push(thread);
        }
        let losses = common.losses.clone();
        let listeners = Mutex::default();
        Ok(Self { options, certificates, workers, threads, losses, listeners, open, websockets })
    }

    /// Binds all addresses of `view` that are not open yet, or none, and makes sure that there are certificates for its
    /// names.
    ///
    /// # Errors
    ///
    /// One error for each address that cannot be bound, or the certificate that cannot be issued.
    pub fn bind(&self, view: &AppsView) -> Result<BoundListeners, Vec<FrontEndError>> {
        let leg = LegOptions { keepalive: self.options.keepalive, congestion: None };
        let mut bound = BTreeMap::new();
        let mut errors: Vec<FrontEndError> = Vec::new();
        let open: BTreeSet<SocketAddr> = self.addresses().into_iter().collect();
        for app_listener in view.listeners.values().filter(|app_listener| !open.contains(&app_listener.address)) {
            let sockets = bind_shared(app_listener.address, self.workers.len(), &leg).map_err(|source| {
                let what = format!("the App Services front end ({})", app_listener.label());
                let moved_by = "`app.public_address` or the endpoint's address";
                FrontEndError::from(BindError::new(&what, app_listener.address, moved_by, source))
            });
            match sockets.and_then(|sockets| Ok((sockets, server_config(&self.certificates, app_listener.address)?))) {
                Ok(one) => {
                    bound.insert(app_listener.address, one);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty()
            && let Err(error) = self.certificates.ensure_certificates(view)
        {
            errors.push(error.into());
        }
        if errors.is_empty() { Ok(BoundListeners(bound)) } else { Err(errors) }
    }

    /// Starts listening and accepting on bound sockets, and decides requests by `snapshot`, which is about to be
    /// published. Returns once every worker does both.
    pub async fn open(&self, bound: BoundListeners, snapshot: &Arc<Snapshot>) {
        let mut per_worker: Vec<Vec<WorkerSocket>> = self.workers.iter().map(|_| Vec::new()).collect();
        for (address, (sockets, tls)) in bound.0 {
            let OpenListener { end, accepting } = self.lock().entry(address).or_default().clone();
            for (worker, socket) in per_worker.iter_mut().zip(sockets) {
                match listen(socket, self.options.backlog) {
                    Ok(socket) => {
                        let (tls, end, accepting) = (Arc::clone(&tls), end.clone(), accepting.clone());
                        worker.push(WorkerSocket { address, socket, tls, end, accepting });
                    }
                    Err(error) => {
                        tracing::error!(%address, %error, "failed to listen on a bound socket");
                        // Fails only if the process is stopping anyway.
                        let _ = self.losses.send(format!("the App Services listener at {address} stopped"));
                    }
                }
            }
        }
        let mut opening = Vec::new();
        for (worker, opened) in self.workers.iter().zip(per_worker) {
            let (done, opened_all) = oneshot::channel();
            // A worker is gone only if the process is ending.
            let _ = worker.send((opened, Arc::clone(snapshot), done));
            opening.push(opened_all);
        }
        for opened in opening {
            let _ = opened.await;
        }
    }

    /// Closes the addresses that are not in `view`, the current snapshot's. Requests in flight are answered; WebSockets
    /// stay open for at most [`AppOptions::drain`]. Returns once the sockets are closed.
    pub async fn retire(&self, view: &AppsView) {
        let gone = self.lock().extract_if(.., |address, _| !view.listeners.contains_key(address)).collect::<Vec<_>>();
        for (_, listener) in gone {
            listener.close(self.options.drain).await;
        }
    }

    /// Reads certificate files again; see [`Certificates::reload`].
    ///
    /// # Errors
    ///
    /// [`TlsError`] when one of them is invalid; the certificates in use stay.
    pub fn reload_certificates(&self) -> Result<(), TlsError> {
        self.certificates.reload()
    }

    /// The listening addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().keys().copied().collect()
    }

    /// The number of open connections and WebSockets.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The open WebSockets.
    #[must_use]
    pub fn websockets(&self) -> Vec<FlowView> {
        self.websockets.views()
    }

    /// Ends a WebSocket at once; false if there is no WebSocket with this id.
    #[must_use]
    pub fn kill(&self, id: FlowId) -> bool {
        self.websockets.kill(id)
    }

    /// Closes every address, drains connections for `grace`, cuts the rest and joins the threads.
    pub async fn stop(self, grace: Duration) {
        let listeners = std::mem::take(&mut *self.lock());
        for listener in listeners.into_values() {
            listener.close(grace).await;
        }
        self.open.close();
        // A connection that does not end even then ends with its thread.
        let _ = tokio::time::timeout(grace + END_TIMEOUT, self.open.wait()).await;
        drop(self.workers);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A worker's panic is already on stderr, and the process stops anyway.
                let _ = thread.join();
            }
        });
        let _ = joined.await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, OpenListener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenListener {
    /// Stops accepting and drains connections; cuts them after `drain`. Returns once the sockets are closed.
    async fn close(self, drain: Duration) {
        self.end.closing.cancel();
        self.accepting.close();
        self.accepting.wait().await;
        tokio::spawn(async move {
            tokio::time::sleep(drain).await;
            self.end.cut.cancel();
        });
    }
}

/// This gateway's name in `Via`, by which it detects a request that comes back.
fn pseudonym() -> Result<String, FrontEndError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| FrontEndError::Random)?;
    Ok(format!("plgw-{:016x}", u64::from_be_bytes(bytes)))
}

fn server_config(certificates: &Arc<Certificates>, address: SocketAddr) -> Result<Arc<ServerConfig>, FrontEndError> {
    let mut config = certificates.server_config(address.ip(), &[b"h2", b"http/1.1"])?;
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(FrontEndError::Tickets)?;
    Ok(Arc::new(config))
}

fn client_config(
    options: &AppOptions,
    lab_ca: Option<&CertificateDer<'static>>,
) -> Result<Arc<ClientConfig>, FrontEndError> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = lab_ca {
        roots.add(ca.clone()).map_err(TlsError::from)?;
    }
    if let Some(path) = &options.backend_ca {
        let pem = std::fs::read(path).map_err(|source| TlsError::File { what: "read", path: path.clone(), source })?;
        let wrong =
            |reason: String| TlsError::Unfit { path: path.clone(), expected: "CA certificates in PEM form", reason };
        let mut any = false;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            any = true;
        }
        if !any {
            return Err(wrong("there is none in it".to_owned()).into());
        }
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::from)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
