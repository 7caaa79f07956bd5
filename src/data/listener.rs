//! Binds listening sockets, and says what becomes of a connection that was accepted.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Type};

use super::connect::LegOptions;
use super::counters::Series;
use super::fault::{LiveFault, Plight};
use super::flow::Flow;
use super::local::Local;
use super::outer::Outer;
use super::shape::Bucket;
use super::socket::Socket;
use super::worker::Entry;
use super::{admission, choose, refuse};
use crate::model::Refusal;
use crate::plan::Listener;

/// What a listener needs at hand for each new flow.
#[derive(Debug, Clone)]
pub(crate) struct ListenerState {
    /// The route for new flows.
    pub(crate) listener: Arc<Listener>,
    /// Where it counts.
    pub(crate) series: Arc<Series>,
    /// Flows that each member holds, over all workers and listeners.
    pub(crate) held_flows: Arc<[Arc<AtomicUsize>]>,
    /// Faults that may befall new flows.
    pub(crate) faults: Vec<LiveFault>,
    /// What its address may carry.
    pub(crate) cap: Option<[Arc<Bucket>; 2]>,
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

/// One bound socket per worker, all at the listener's address.
///
/// # Errors
///
/// [`BindError`] when the address is taken (by anybody, another gateway included) or not to be had.
pub(crate) fn bind(
    listener: &Listener,
    workers: usize,
    options: &LegOptions,
) -> Result<Vec<socket2::Socket>, BindError> {
    bind_shared(listener.address, workers, options).map_err(|source| BindError::new(listener, source))
}

/// One bound socket per worker, all at `address`. None listens yet: until everything else that a change needs is had,
/// nobody may be let into a queue that might be closed again.
///
/// # Errors
///
/// What the kernel says, as when somebody listens at the address, another gateway included.
pub(crate) fn bind_shared(
    address: SocketAddr,
    workers: usize,
    options: &LegOptions,
) -> io::Result<Vec<socket2::Socket>> {
    // Sockets that share a port don't clash with another process' that share it too, so ask alone first.
    drop(bound(address, false)?);
    (0..workers).map(|_| ready(address, options)).collect()
}

/// A socket that is bound; unless it listens, the kernel answers whoever comes with RST.
pub(crate) fn bound(address: SocketAddr, share: bool) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One worker's socket, bound and set up.
fn ready(address: SocketAddr, options: &LegOptions) -> io::Result<socket2::Socket> {
    let socket = bound(address, true)?;
    // Accepted sockets inherit these, which saves a call per flow.
    options.apply(&SockRef::from(&socket));
    Ok(socket)
}

/// One worker's listening socket.
pub(crate) fn listening(address: SocketAddr, backlog: i32, options: &LegOptions) -> io::Result<std::net::TcpListener> {
    listen(ready(address, options)?, backlog)
}

/// Makes a bound socket listen.
///
/// # Errors
///
/// What the kernel says, as when somebody began to listen at the address meanwhile.
pub(crate) fn listen(socket: socket2::Socket, backlog: i32) -> io::Result<std::net::TcpListener> {
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether trying again at once would only fail again.
pub(crate) fn is_scarcity(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// What is wrong with the next flow; mostly nothing.
fn plight(state: &ListenerState) -> Result<Option<Box<Plight>>, Refusal> {
    if state.faults.is_empty() && state.cap.is_none() {
        return Ok(None);
    }
    let mut plight = Plight::draw(&state.faults)?;
    plight.cap.clone_from(&state.cap);
    Ok((!plight.is_nothing()).then(|| Box::new(plight)))
}

/// What becomes of a new connection: at once, or when a load balancer in front of this one has said for whom it is.
/// `None`: it is refused, and over.
pub(crate) fn take(local: &Rc<Local>, state: &ListenerState, client: Socket, address: SocketAddr) -> Option<Entry> {
    let outer = &state.listener.group.proxy_sources;
    if !outer.is_empty() && outer.contains(address.ip().to_canonical()) {
        return Some(Entry::Outer(Box::new(Outer::new(client, state, address))));
    }
    admit(local, state, client, address)
}

/// Admits or refuses one connection.
pub(crate) fn admit(local: &Rc<Local>, state: &ListenerState, client: Socket, address: SocketAddr) -> Option<Entry> {
    let admitted = admission::admit(&state.listener, address, &local.service_side.borrow());
    let admitted = admitted.and_then(|origin| {
        let seat = choose::reserve(local, state, address)?;
        Ok((origin, seat, plight(state)?))
    });
    match admitted {
        Ok((origin, seat, plight)) => {
            Some(Entry::Flow(Box::new(Flow::new(local, state, client, address, origin, seat, plight))))
        }
        Err(refusal) => refuse::refuse(local, state, client, address, refusal).map(|held| Entry::Held(Box::new(held))),
    }
}
