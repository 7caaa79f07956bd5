//! Listening sockets: binding, listener modes, and accepting clients.
//!
//! Behind a load balancer, the client's handshake completes only if the target accepts, so the client sees a target
//! that refuses or does not answer as a port that does the same. This gateway's kernel completes the handshake before a
//! target is chosen, so the listener mirrors its target's state: accept, refuse (RST) or blackhole (drop SYNs).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockFilter, SockRef, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::connect::LegOptions;
use super::context::WorkerContext;
use super::descriptors::Backoff;
pub(crate) use super::descriptors::is_scarcity;
use super::flow::{self, Accepted};
use super::route::RouteWatch;
use super::socket::{Socket, register};
use crate::lifecycle::Alarm;
use crate::plan::{Listener, ListenerMode};

/// A listener's address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind listener `{target}` of {access} to {address}{hint}")]
pub struct ListenerBindError {
    /// The address.
    pub address: SocketAddr,
    target: String,
    access: String,
    hint: &'static str,
    #[source]
    source: io::Error,
}

impl ListenerBindError {
    fn new(listener: &Listener, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::AddrNotAvailable => " (the address is on no interface of this host)",
            io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
            _ => "",
        };
        Self {
            address: listener.address,
            target: listener.group.target.to_string(),
            access: listener.access.label().to_owned(),
            hint,
            source,
        }
    }
}

/// Binds one socket per worker to the listener's address.
///
/// # Errors
///
/// [`ListenerBindError`] when the address is in use or not available.
pub(crate) fn bind(
    listener: &Listener,
    workers: usize,
    options: &LegOptions,
) -> Result<Vec<socket2::Socket>, ListenerBindError> {
    bind_shared(listener.address, workers, options).map_err(|source| ListenerBindError::new(listener, source))
}

/// Binds one socket per worker to `address`, without listening: a client must not enter a backlog until the whole
/// change is certain to succeed.
///
/// # Errors
///
/// The kernel's, for example when another process listens on the address.
pub(crate) fn bind_shared(
    address: SocketAddr,
    workers: usize,
    options: &LegOptions,
) -> io::Result<Vec<socket2::Socket>> {
    // `SO_REUSEPORT` sockets of another process would not conflict, so try an exclusive bind first.
    drop(bound(address, false)?);
    (0..workers).map(|_| ready(address, options)).collect()
}

/// Binds a socket. Until it listens, the kernel answers a SYN with RST.
fn bound(address: SocketAddr, share: bool) -> io::Result<socket2::Socket> {
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

/// Binds one worker's socket and applies its options.
fn ready(address: SocketAddr, options: &LegOptions) -> io::Result<socket2::Socket> {
    let socket = bound(address, true)?;
    // Accepted sockets inherit these, which saves system calls per flow.
    options.apply(&SockRef::from(&socket));
    Ok(socket)
}

/// One worker's listening socket.
fn listening(address: SocketAddr, backlog: i32, options: &LegOptions) -> io::Result<std::net::TcpListener> {
    listen(ready(address, options)?, backlog)
}

/// Makes a bound socket listen.
///
/// # Errors
///
/// The kernel's, for example when another process has started to listen on the address.
pub(crate) fn listen(socket: socket2::Socket, backlog: i32) -> io::Result<std::net::TcpListener> {
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A classic BPF program, `ret 0`: drops every packet. Socket filters need no privilege (socket(7),
/// `SO_ATTACH_FILTER`), and on a listening socket they run before the handshake.
const DROP_ALL: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// Lets the kernel drop every packet that would open a connection to a listening socket, or takes that back.
pub(crate) fn drop_handshakes(socket: &AsyncFd<OwnedFd>, silent: bool) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if silent { socket.attach_filter(&DROP_ALL) } else { socket.detach_filter() }
}

/// Starts one worker's accept task of a listener.
pub(crate) fn open(ctx: &Rc<WorkerContext>, socket: TcpListener, route_watch: RouteWatch) {
    let (address, answer) = {
        let route = route_watch.current.borrow();
        (route.listener.address, route.listener.answer)
    };
    match WorkerListener::new(address, socket) {
        Ok(mut listener) => {
            listener.take_mode(ctx, answer);
            tokio::task::spawn_local(run(Rc::clone(ctx), listener, route_watch));
        }
        Err(error) => {
            tracing::error!(%address, %error, "failed to register a listening socket: the listener is lost");
            ctx.state.lost_listener(address);
        }
    }
}

/// Accepts clients and follows the mode of the current route until the listener closes.
async fn run(ctx: Rc<WorkerContext>, listener: WorkerListener, route_watch: RouteWatch) {
    let _alarm = Alarm::new(format!("the listener at {}", listener.address), &ctx.state.losses);
    let (mut changes, route_watch, mut backoff) = (route_watch.current.clone(), Rc::new(route_watch), Backoff::new());
    // Declared after the route watch, so closed before it: the end of the watch says that the socket is closed.
    let mut listener = listener;
    loop {
        let answer = changes.borrow_and_update().listener.answer;
        let in_mode = listener.take_mode(&ctx, answer);
        tokio::select! {
            biased;
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            // Retry the mode change.
            () = ctx.clock.sleep_until(Instant::now() + ctx.options.tick), if !in_mode => {}
            () = listener.accept_clients(&ctx, &route_watch, &mut backoff) => {}
        }
    }
}

/// One worker's sockets of a listener.
#[derive(Debug)]
struct WorkerListener {
    address: SocketAddr,
    listening: Option<AsyncFd<OwnedFd>>,
    /// Reserves the port in refuse mode: the kernel answers with RST, and no other process can bind it.
    placeholder: Option<socket2::Socket>,
    silent: bool,
    /// The last mode change failed: no descriptor, or another process bound the port.
    failed: bool,
}

impl WorkerListener {
    fn new(address: SocketAddr, socket: TcpListener) -> io::Result<Self> {
        let listening = Some(register(socket.into(), Interest::READABLE)?);
        Ok(Self { address, listening, placeholder: None, silent: false, failed: false })
    }

    /// Switches to a mode; false if that failed and should be retried.
    fn take_mode(&mut self, ctx: &WorkerContext, answer: ListenerMode) -> bool {
        let taken = match answer {
            ListenerMode::Refuse => self.refuse(),
            ListenerMode::Accept => self.listen(ctx).and_then(|()| self.silence(false)),
            ListenerMode::Ignore => self.listen(ctx).and_then(|()| self.silence(true)),
        };
        if let Err(error) = &taken
            && !self.failed
        {
            tracing::error!(address = %self.address, %error, "failed to switch a listener to the mode of its target; retried every second");
        }
        self.failed = taken.is_err();
        !self.failed
    }

    fn refuse(&mut self) -> io::Result<()> {
        if self.listening.is_some() {
            // Bound before the listening socket closes, so that the port is never free.
            let placeholder = bound(self.address, true)?;
            self.listening = None;
            self.silent = false;
            // Otherwise another process that sets `SO_REUSEADDR`, as most servers do, could bind the port and listen.
            placeholder.set_reuse_address(false)?;
            self.placeholder = Some(placeholder);
        }
        Ok(())
    }

    fn listen(&mut self, ctx: &WorkerContext) -> io::Result<()> {
        if self.listening.is_none() {
            let socket = listening(self.address, ctx.options.backlog(), &ctx.leg)?;
            self.listening = Some(register(socket.into(), Interest::READABLE)?);
            self.placeholder = None;
        }
        Ok(())
    }

    fn silence(&mut self, silent: bool) -> io::Result<()> {
        if let Some(socket) = self.listening.as_ref().filter(|_| self.silent != silent) {
            drop_handshakes(socket, silent)?;
            self.silent = silent;
        }
        Ok(())
    }

    /// Accepts clients until it is dropped. While descriptors or memory are exhausted it backs off, and clients wait in
    /// the backlog.
    async fn accept_clients(&self, ctx: &Rc<WorkerContext>, route_watch: &Rc<RouteWatch>, backoff: &mut Backoff) {
        let Some(socket) = &self.listening else { return std::future::pending().await };
        loop {
            if let Err(error) = accept_waiting(socket, ctx, route_watch, backoff).await {
                ctx.state.accept_error(&error);
                if is_scarcity(&error) {
                    let wait = backoff.next();
                    tracing::warn!(%error, wait_ms = wait.as_millis(), "failed to accept a connection, accepting waits: the process or the host is out of descriptors or memory");
                    ctx.clock.sleep_until(Instant::now() + wait).await;
                }
            }
            // Let the worker's other tasks run.
            tokio::task::yield_now().await;
        }
    }
}

/// Waits for clients and accepts up to `accepts_per_wake` of them.
async fn accept_waiting(
    socket: &AsyncFd<OwnedFd>,
    ctx: &Rc<WorkerContext>,
    route_watch: &Rc<RouteWatch>,
    backoff: &mut Backoff,
) -> io::Result<()> {
    let mut ready = socket.readable().await?;
    for _ in 0..ctx.options.limits.accepts_per_wake {
        // Created before accepting, see `descriptors`. Not needed if the group has no member.
        let target = route_watch.current.borrow().any_target();
        let spare = target.map(|target| ctx.spare_socket.take(target)).transpose()?;
        match acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((client, peer)) => {
                backoff.reset();
                if let Some(Ok(peer)) = peer.map(SocketAddr::try_from) {
                    let client = Socket::new(client)?;
                    let accepted = Box::new(Accepted { route_watch: Rc::clone(route_watch), peer, spare });
                    tokio::task::spawn_local(flow::serve(Rc::clone(ctx), client, accepted));
                }
            }
            Err(Errno::AGAIN) => {
                ctx.spare_socket.keep(spare);
                ready.clear_ready();
                return Ok(());
            }
            Err(Errno::INTR) => ctx.spare_socket.keep(spare),
            // The spare socket is closed, as another worker may need the descriptor.
            Err(error) => return Err(error.into()),
        }
        // Usually one client waits, and an `accept` that returns `EAGAIN` costs nearly as much as a successful one.
        if !is_client_waiting(socket) {
            ready.clear_ready();
            return Ok(());
        }
    }
    Ok(())
}

fn is_client_waiting(socket: &AsyncFd<OwnedFd>) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&at_once)).is_ok_and(|ready| ready > 0)
}
