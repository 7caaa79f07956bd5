//! The front as a whole: its threads, and the addresses that it answers on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};

use super::certificates::Certificates;
use super::metrics;
use super::options::AppOptions;
use super::sockets::Sockets;
use super::worker::{Command, Common, Worker};
use crate::data::FlowView;
use crate::data::connect::LegOptions;
use crate::data::listener::bind_shared;
use crate::lifecycle::BindError;
use crate::model::FlowId;
use crate::plan::{AppsView, Snapshot};
use crate::tls::TlsError;
use crate::tls::identity::provider;

/// How often the front looks whether something has ended, while it waits for that.
const LOOK: Duration = Duration::from_millis(20);

/// Why the front can't be started or can't take over a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontError {
    /// A certificate can't be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address can't be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A thread or its runtime.
    #[error("cannot start a thread of the App Services front")]
    Thread(#[source] io::Error),
    /// Random bytes for session tickets.
    #[error("cannot make keys for TLS session tickets")]
    Tickets(#[source] rustls::Error),
}

/// The running front.
///
/// Requests are judged by the snapshot that is in force when they come; addresses are opened and closed by whoever owns
/// the snapshots, in three steps: [`bind`](Self::bind), [`open`](Self::open), and, once the snapshot is published,
/// [`retire`](Self::retire).
#[derive(Debug)]
pub struct AppFront {
    options: AppOptions,
    certificates: Arc<Certificates>,
    workers: Vec<mpsc::UnboundedSender<Command>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    held: Mutex<BTreeSet<SocketAddr>>,
    open: Arc<AtomicUsize>,
    sockets: Arc<Sockets>,
}

/// Sockets that are bound and not yet accepted on. Dropped, they are closed, and nothing has happened.
#[derive(Debug)]
pub struct BoundDoors(BTreeMap<SocketAddr, Vec<std::net::TcpListener>>);

impl AppFront {
    /// Starts the threads; nothing is bound yet. `snapshots` says what holds at each moment, `certificates` is what
    /// clients are shown, `lab_ca` what `https` backends are checked against besides [`AppOptions::backend_ca`].
    ///
    /// # Errors
    ///
    /// [`FrontError`] when a thread can't be started or a CA file can't be read.
    pub fn start(
        options: AppOptions,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        certificates: Arc<Certificates>,
        lab_ca: Option<&CertificateDer<'static>>,
        recorder: Arc<dyn ::metrics::Recorder + Send + Sync>,
    ) -> Result<Self, FrontError> {
        metrics::describe(recorder.as_ref());
        let open = Arc::new(AtomicUsize::new(0));
        let sockets = Arc::new(Sockets::default());
        let common = Arc::new(Common {
            server: server_config(&certificates)?,
            certificates: Arc::clone(&certificates),
            client: client_config(&options, lab_ca)?,
            options: options.clone(),
            snapshots,
            recorder,
            open: Arc::clone(&open),
            sockets: Arc::clone(&sockets),
        });
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for index in 0..options.workers.max(1) {
            let (commands, received) = mpsc::unbounded_channel();
            let common = Arc::clone(&common);
            let (started, starting) = std::sync::mpsc::sync_channel(1);
            let mut builder = Builder::new_current_thread();
            builder.enable_all();
            let work = move || match builder.build_local(LocalOptions::default()) {
                Ok(runtime) => {
                    let _ = started.send(Ok(()));
                    runtime.block_on(async move { Worker::new(index, &common).run(received).await });
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            };
            let thread = std::thread::Builder::new().name(format!("plgw-apps-{index}")).spawn(work);
            let thread = thread.map_err(FrontError::Thread)?;
            starting.recv().map_err(io::Error::other).flatten().map_err(FrontError::Thread)?;
            workers.push(commands);
            threads.push(thread);
        }
        Ok(Self { options, certificates, workers, threads, held: Mutex::default(), open, sockets })
    }

    /// Binds the addresses of `view` that aren't open yet: all of them or none. Has certificates for all of its names.
    ///
    /// # Errors
    ///
    /// Every address that could not be bound, or the certificate that could not be made.
    ///
    /// # Panics
    ///
    /// Never: the lock is not held where anything can panic.
    pub fn bind(&self, view: &AppsView) -> Result<BoundDoors, Vec<FrontError>> {
        let leg = LegOptions { keepalive: self.options.keepalive, congestion: None };
        let mut bound = BTreeMap::new();
        let mut errors: Vec<FrontError> = Vec::new();
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for door in view.doors.values().filter(|door| !held.contains(&door.address)) {
            match bind_shared(door.address, self.workers.len(), self.options.backlog, &leg) {
                Ok(sockets) => {
                    bound.insert(door.address, sockets);
                }
                Err(source) => {
                    let what = format!("the App Services front ({})", door.label());
                    let moved_by = "`app.public_address` or the endpoint's address";
                    errors.push(BindError::new(&what, door.address, moved_by, source).into());
                }
            }
        }
        if errors.is_empty()
            && let Err(error) = self.certificates.cover(view)
        {
            errors.push(error.into());
        }
        if errors.is_empty() { Ok(BoundDoors(bound)) } else { Err(errors) }
    }

    /// Accepts on what was bound, and judges by `snapshot` from then on, which is about to be published; returns once
    /// every worker does.
    pub async fn open(&self, bound: BoundDoors, snapshot: &Arc<Snapshot>) {
        let mut per_worker: Vec<Vec<_>> = self.workers.iter().map(|_| Vec::new()).collect();
        self.held.lock().unwrap_or_else(PoisonError::into_inner).extend(bound.0.keys().copied());
        for (address, sockets) in bound.0 {
            for (worker, socket) in per_worker.iter_mut().zip(sockets) {
                worker.push((address, socket));
            }
        }
        let open = |sockets, done| Command::Open(sockets, Arc::clone(snapshot), done);
        self.tell_all(per_worker.into_iter(), open).await;
    }

    /// Closes the addresses that `view`, the snapshot now in force, no longer has: no new connections; requests at hand
    /// are answered; WebSockets last for [`AppOptions::drain`] at most. Returns once the sockets are closed.
    pub async fn retire(&self, view: &AppsView) {
        let gone: Vec<SocketAddr> = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = held.iter().filter(|address| !view.doors.contains_key(address)).copied().collect();
            held.retain(|address| view.doors.contains_key(address));
            gone
        };
        for address in gone {
            self.close(address, self.options.drain).await;
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

    /// The addresses that it answers on.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Connections and WebSockets that are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The WebSockets that are open.
    #[must_use]
    pub fn websockets(&self) -> Vec<FlowView> {
        self.sockets.views()
    }

    /// Ends a WebSocket at once; false when there is no such one.
    #[must_use]
    pub fn kill(&self, id: FlowId) -> bool {
        let Some((worker, live)) = self.sockets.find(id) else { return false };
        self.workers.get(worker).is_some_and(|worker| worker.send(Command::Kill(live)).is_ok())
    }

    /// Closes every address, lets what is open finish for `grace`, cuts the rest and ends the threads.
    pub async fn stop(self, grace: Duration) {
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        for address in held {
            self.close(address, grace).await;
        }
        let empty = async {
            while self.open_count() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        // What doesn't end even then ends with its thread.
        let _ = tokio::time::timeout(grace + LOOK * 5, empty).await;
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

    async fn close(&self, address: SocketAddr, drain: Duration) {
        self.tell_all(self.workers.iter().map(|_| address), |address, done| Command::Close(address, drain, done)).await;
    }

    /// Tells each worker something of its own and waits until all have done it.
    async fn tell_all<T>(&self, each: impl Iterator<Item = T>, command: impl Fn(T, oneshot::Sender<()>) -> Command) {
        let mut doing = Vec::new();
        for (worker, what) in self.workers.iter().zip(each) {
            let (done, all_done) = oneshot::channel();
            // A worker that is gone went with the process.
            let _ = worker.send(command(what, done));
            doing.push(all_done);
        }
        for done in doing {
            let _ = done.await;
        }
    }
}

fn server_config(certificates: &Arc<Certificates>) -> Result<Arc<ServerConfig>, FrontError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::from)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(certificates) as Arc<_>);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
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
