//! Binds listening sockets and accepts on them.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;

use super::connect::LegOptions;
use super::counters::Series;
use super::worker::Worker;
use super::{admission, choose, flow, refuse};
use crate::plan::Listener;

/// First wait when no descriptor is left; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Longest wait between two tries to accept without descriptors.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What a listener needs at hand for each new flow.
#[derive(Debug, Clone)]
pub(crate) struct ListenerState {
    /// The route for new flows.
    pub(crate) listener: Arc<Listener>,
    /// Where it counts.
    pub(crate) series: Arc<Series>,
    /// Flows that each member holds, over all workers and listeners.
    pub(crate) held_flows: Arc<[Arc<AtomicUsize>]>,
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind listener `{target}` of {gate} to {address}{hint}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    target: String,
    gate: String,
    hint: &'static str,
    #[source]
    source: io::Error,
}

impl BindError {
    fn new(listener: &Listener, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::AddrNotAvailable => " (the address is on no interface of this host)",
            io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
            _ => "",
        };
        Self {
            address: listener.address,
            target: listener.group.target.to_string(),
            gate: listener.gate.label().to_owned(),
            hint,
            source,
        }
    }
}

/// One listening socket per worker, all at the listener's address.
///
/// # Errors
///
/// [`BindError`] when the address is taken (by anybody, another gateway included) or not to be had.
pub(crate) fn bind(
    listener: &Listener,
    workers: usize,
    backlog: i32,
    options: &LegOptions,
) -> Result<Vec<std::net::TcpListener>, BindError> {
    bind_shared(listener.address, workers, backlog, options).map_err(|source| BindError::new(listener, source))
}

/// One listening socket per worker, all at `address`.
///
/// # Errors
///
/// What the kernel says, as when the address is taken by anybody, another gateway included.
pub(crate) fn bind_shared(
    address: SocketAddr,
    workers: usize,
    backlog: i32,
    options: &LegOptions,
) -> io::Result<Vec<std::net::TcpListener>> {
    // Sockets that share a port don't clash with another process' that share it too, so ask alone first.
    let probe = bound(address, false)?;
    probe.listen(1)?;
    drop(probe);
    (0..workers).map(|_| listening(address, backlog, options)).collect()
}

/// A socket that is bound; unless it listens, the kernel answers whoever comes with RST.
pub(crate) fn bound(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One worker's listening socket.
pub(crate) fn listening(address: SocketAddr, backlog: i32, options: &LegOptions) -> io::Result<std::net::TcpListener> {
    let socket = bound(address, true)?;
    // Accepted sockets inherit these, which saves a call per flow.
    options.apply(&SockRef::from(&socket));
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts until it is aborted.
pub(crate) async fn accept(worker: Rc<Worker>, socket: Rc<TcpListener>, state: Rc<RefCell<ListenerState>>) {
    let mut wait = FIRST_WAIT;
    let mut in_a_row = 0;
    loop {
        match socket.accept().await {
            Ok((client, address)) => {
                wait = FIRST_WAIT;
                take(&worker, &state.borrow(), client, address);
                in_a_row += 1;
                if in_a_row >= worker.options.accepts_per_wake {
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                worker.shared.accept_error(&error);
                if is_scarcity(&error) {
                    tracing::warn!(%error, wait_ms = wait.as_millis(), "accepting waits: the process or the host is out of descriptors or memory");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }
}

/// Whether trying again at once would only fail again.
pub(crate) fn is_scarcity(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Admits or refuses one connection.
fn take(worker: &Rc<Worker>, state: &ListenerState, client: tokio::net::TcpStream, address: SocketAddr) {
    let admitted = admission::admit(&state.listener, address, &worker.service_side.borrow());
    match admitted.and_then(|origin| choose::reserve(worker, state, address).map(|seat| (origin, seat))) {
        Ok((origin, seat)) => flow::start(worker, state, client, address, origin, seat),
        Err(refusal) => refuse::refuse(worker, state, client, address, refusal),
    }
}
