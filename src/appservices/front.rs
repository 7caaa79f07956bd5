//! The HTTP front end as a whole: its threads, and the addresses that it listens on.

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

/// How much longer than their drain time connections may take to end.
const END_TIMEOUT: Duration = Duration::from_millis(100);

/// Why the front end cannot be started or cannot take over a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontError {
    /// A certificate cannot be read or made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A thread or its runtime.
    #[error("failed to start a thread of the App Services front end")]
    Thread(#[source] io::Error),
    /// Random bytes for session tickets.
    #[error("failed to make keys for TLS session tickets")]
    Tickets(#[source] rustls::Error),
    /// Random bytes for the name in `Via`.
    #[error("failed to read random bytes")]
    Random,
}

/// The running front end.
///
/// Requests are decided by the snapshot that is in force when they come; addresses are opened and closed by the owner of
/// the snapshots, in three steps: [`bind`](Self::bind), [`open`](Self::open), and, once the snapshot is published,
/// [`retire`](Self::retire).
#[derive(Debug)]
pub struct AppFront {
    options: AppOptions,
    certificates: Arc<Certificates>,
    workers: Vec<mpsc::UnboundedSender<OpenSockets>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    losses: Losses,
    listeners: Mutex<BTreeMap<SocketAddr, OpenListener>>,
    open: TaskTracker,
    websockets: Arc<WebSockets>,
}

/// What the HTTP front end shares with the rest of the process.
pub struct AppFrontParts<'a> {
    /// What holds at each moment.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What clients are shown.
    pub certificates: Arc<Certificates>,
    /// What `https` backends are checked against besides [`AppOptions::backend_ca`].
    pub lab_ca: Option<&'a CertificateDer<'static>>,
    /// Refused clients that are held unanswered, the data plane's too.
    pub held: Arc<Connections>,
    /// Where refused connections are counted for the log and the events.
    pub refusals: Arc<Refusals>,
    /// Where it counts.
    pub recorder: Arc<dyn ::metrics::Recorder + Send + Sync>,
    /// Gets the names of threads and listeners that panic.
    pub losses: Losses,
}

/// A listener of all workers.
#[derive(Debug, Clone, Default)]
struct OpenListener {
    end: ListenerEnd,
    accepting: TaskTracker,
}

/// Sockets that are bound and do not listen yet: connections are refused. Dropped, they are closed, and nothing has
/// happened.
#[derive(Debug)]
pub struct BoundListeners(BTreeMap<SocketAddr, (Vec<Socket>, Arc<ServerConfig>)>);

impl AppFront {
    /// Starts the threads; nothing is bound yet.
    ///
    /// # Errors
    ///
    /// [`FrontError`] when a thread cannot be started or a CA file cannot be read.
    pub fn start(options: AppOptions, parts: AppFrontParts<'_>) -> Result<Self, FrontError> {
        let AppFrontParts { snapshots, certificates, lab_ca, held, refusals, recorder, losses } = parts;
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
            let thread = thread.map_err(FrontError::Thread)?;
            starting.recv().map_err(io::Error::other).flatten().map_err(FrontError::Thread)?;
            workers.push(commands);
            threads.push(thread);
        }
        let losses = common.losses.clone();
        let listeners = Mutex::default();
        Ok(Self { options, certificates, workers, threads, losses, listeners, open, websockets })
    }

    /// Binds the addresses of `view` that are not open yet: all of them or none. Has certificates for all of its names.
    ///
    /// # Errors
    ///
    /// Every address that could not be bound, or the certificate that could not be made.
    pub fn bind(&self, view: &AppsView) -> Result<BoundListeners, Vec<FrontError>> {
        let leg = LegOptions { keepalive: self.options.keepalive, congestion: None };
        let mut bound = BTreeMap::new();
        let mut errors: Vec<FrontError> = Vec::new();
        let open: BTreeSet<SocketAddr> = self.addresses().into_iter().collect();
        for app_listener in view.listeners.values().filter(|app_listener| !open.contains(&app_listener.address)) {
            let sockets = bind_shared(app_listener.address, self.workers.len(), &leg).map_err(|source| {
                let what = format!("the App Services front end ({})", app_listener.label());
                let moved_by = "`app.public_address` or the endpoint's address";
                FrontError::from(BindError::new(&what, app_listener.address, moved_by, source))
            });
            match sockets.and_then(|sockets| Ok((sockets, server_config(&self.certificates, app_listener.address)?))) {
                Ok(one) => {
                    bound.insert(app_listener.address, one);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty()
            && let Err(error) = self.certificates.cover(view)
        {
            errors.push(error.into());
        }
        if errors.is_empty() { Ok(BoundListeners(bound)) } else { Err(errors) }
    }

    /// Listens and accepts on what was bound, and decides by `snapshot` from then on, which is about to be published; returns
    /// once every worker does.
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
                        // Not received only when the process stops anyway.
                        let _ = self.losses.send(format!("the App Services listener at {address} stopped"));
                    }
                }
            }
        }
        let mut opening = Vec::new();
        for (worker, opened) in self.workers.iter().zip(per_worker) {
            let (done, opened_all) = oneshot::channel();
            // A worker that is gone went with the process.
            let _ = worker.send((opened, Arc::clone(snapshot), done));
            opening.push(opened_all);
        }
        for opened in opening {
            let _ = opened.await;
        }
    }

    /// Closes the addresses that `view`, the snapshot now in force, no longer has: no new connections; requests in flight
    /// are answered; WebSockets last for [`AppOptions::drain`] at most. Returns once the sockets are closed.
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
    /// [`TlsError`] when one of them is wrong; those that are in use stay.
    pub fn reload_certificates(&self) -> Result<(), TlsError> {
        self.certificates.reload()
    }

    /// The addresses that it listens on.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().keys().copied().collect()
    }

    /// Connections and WebSockets that are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The WebSockets that are open.
    #[must_use]
    pub fn websockets(&self) -> Vec<FlowView> {
        self.websockets.views()
    }

    /// Ends a WebSocket at once; false when there is no such one.
    #[must_use]
    pub fn kill(&self, id: FlowId) -> bool {
        self.websockets.kill(id)
    }

    /// Closes every address, lets what is open finish for `grace`, cuts the rest and ends the threads.
    pub async fn stop(self, grace: Duration) {
        let listeners = std::mem::take(&mut *self.lock());
        for listener in listeners.into_values() {
            listener.close(grace).await;
        }
        self.open.close();
        // What does not end even then ends with its thread.
        let _ = tokio::time::timeout(grace + END_TIMEOUT, self.open.wait()).await;
        drop(self.workers);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A worker that panicked has said so on stderr; the process stops either way.
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
    /// Accepts no more and has connections finish; cuts them after `drain`. Returns once the sockets are closed.
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

/// This gateway's name in `Via`: by it, a request that comes back is known.
fn pseudonym() -> Result<String, FrontError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| FrontError::Random)?;
    Ok(format!("plgw-{:016x}", u64::from_be_bytes(bytes)))
}

fn server_config(certificates: &Arc<Certificates>, address: SocketAddr) -> Result<Arc<ServerConfig>, FrontError> {
    let mut config = certificates.server_config(address.ip(), &[b"h2", b"http/1.1"])?;
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(FrontError::Tickets)?;
    Ok(Arc::new(config))
}

fn client_config(
    options: &AppOptions,
    lab_ca: Option<&CertificateDer<'static>>,
) -> Result<Arc<ClientConfig>, FrontError> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = lab_ca {
        roots.add(ca.clone()).map_err(TlsError::from)?;
    }
    if let Some(path) = &options.backend_ca {
        let pem = std::fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source })?;
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
