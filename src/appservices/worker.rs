//! A worker: one thread, one current-thread runtime, its own listening sockets, clients and connections to backends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::certificates::Certificates;
use super::connection::{self, HttpListener};
use super::context::{HttpWorkerContext, ListenerEnd, SharedContext};
use crate::data::descriptors::{Backoff, SpareSocket, is_scarcity};
use crate::data::listener::drop_handshakes;
use crate::data::socket::register;
use crate::lifecycle::Alarm;
use crate::plan::Snapshot;

/// How often certificate files are checked for changes. A renewed certificate is not urgent.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
/// How often idle backend connections are checked.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A listening socket of a worker.
pub(crate) struct WorkerSocket {
    pub(crate) address: SocketAddr,
    pub(crate) socket: std::net::TcpListener,
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) end: ListenerEnd,
    /// The accept tasks of this address.
    pub(crate) accepting: TaskTracker,
}

/// New listening sockets, the snapshot to apply from now on, and a reply channel for when that is done.
pub(crate) type OpenSockets = (Vec<WorkerSocket>, Arc<Snapshot>, oneshot::Sender<()>);

/// Runs until the command channel closes.
pub(crate) async fn run(index: usize, common: &SharedContext, mut commands: mpsc::UnboundedReceiver<OpenSockets>) {
    let context = HttpWorkerContext::new(index, common);
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    if index == 0 {
        tokio::task::spawn_local(watch_certificates(Arc::clone(&common.certificates)));
    }
    loop {
        tokio::select! {
            command = commands.recv() => {
                let Some((opened, snapshot, done)) = command else { return };
                context.refresh();
                context.apply_snapshot(&snapshot);
                for one in opened {
                    let alarm = Alarm::new(format!("the App Services listener at {}", one.address), &context.losses);
                    let accepting = one.accepting.clone();
                    let task = accept(Rc::clone(&context), one);
                    tokio::task::spawn_local(accepting.track_future(async move {
                        let _alarm = alarm;
                        task.await;
                    }));
                }
                let _ = done.send(());
            }
            _ = sweep.tick() => {
                context.refresh();
                context.backends.sweep();
            }
        }
    }
}

/// Reloads certificate files when they change, and renews the lab CA's certificates.
async fn watch_certificates(certificates: Arc<Certificates>) {
    let mut look = tokio::time::interval(CERTIFICATE_INTERVAL);
    loop {
        look.tick().await;
        let certificates = Arc::clone(&certificates);
        let reading = tokio::task::spawn_blocking(move || match certificates.refresh(SystemTime::now()) {
            Ok(false) => {}
            Ok(true) => tracing::info!("App Services certificates were renewed"),
            Err(error) => {
                tracing::error!(%error, "failed to renew App Services certificates: the former ones stay in use")
            }
        });
        // A panic is already on stderr, and the next check may succeed.
        let _ = reading.await;
    }
}

/// Accepts until the listener closes.
async fn accept(context: Rc<HttpWorkerContext>, opened: WorkerSocket) {
    let WorkerSocket { address, socket, tls, end, .. } = opened;
    let socket = match register(socket.into(), Interest::READABLE) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, %address, "failed to watch the listening socket: the App Services address is lost");
            return;
        }
    };
    let listener = Rc::new(HttpListener { address, tls: TlsAcceptor::from(tls), end, outage: Rc::default() });
    let (mut backoff, mut in_a_row, mut snapshots) = (Backoff::new(), 0, context.snapshots());
    loop {
        let is_lost = {
            let snapshot = snapshots.borrow_and_update();
            snapshot.apps.listeners.get(&address).is_some_and(|app_listener| app_listener.outage)
        };
        if listener.outage.set(is_lost)
            && let Err(error) = drop_handshakes(&socket, is_lost)
        {
            tracing::error!(%error, %address, "failed to drop handshakes in a zone outage: clients connect and get no answer");
        }
        let accepted = tokio::select! {
            biased;
            () = listener.end.closing.cancelled() => {
                // Connections suspended by the outage end like the others.
                listener.outage.set(false);
                return;
            }
            Ok(()) = snapshots.changed() => continue,
            accepted = accept_one(&context, &socket) => accepted,
        };
        match accepted {
            Ok((client, peer, spare)) => {
                backoff.reset();
                connection::accept(&context, &listener, client, peer, spare);
                in_a_row += 1;
                if in_a_row >= context.options.accepts_per_wake {
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                context.accept_errors.count(&error);
                // Otherwise a client closed before it was accepted.
                if is_scarcity(&error) {
                    context.backends.close_idle();
                    let wait = backoff.next();
                    tracing::warn!(%error, wait_ms = wait.as_millis(), "failed to accept a connection, accepting waits: the process or the host is out of descriptors or memory");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
}

/// Waits for a client, and accepts it once there is a socket for its first backend connection (see `descriptors`). On
/// an error that socket is closed, as another worker may need the descriptor.
async fn accept_one(
    context: &HttpWorkerContext,
    socket: &AsyncFd<OwnedFd>,
) -> io::Result<(TcpStream, SocketAddr, SpareSocket)> {
    // The address family is a guess; for a backend of the other family, the descriptor is reused.
    const ANY_BACKEND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    loop {
        let mut ready = socket.readable().await?;
        let spare = context.left_over.take(ANY_BACKEND)?;
        match acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((client, peer)) => {
                let peer =
                    peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(io::ErrorKind::AddrNotAvailable)?;
                return Ok((TcpStream::from_std(client.into())?, peer, spare));
            }
            Err(Errno::AGAIN) => {
                context.left_over.keep(Some(spare));
                ready.clear_ready();
            }
            Err(error) => return Err(error.into()),
        }
    }
}
