//! Listening sockets: how they are bound, how they answer a client's SYN, and how clients are accepted.
//!
//! On the load balancer a client's handshake completes with the target, so a target that refuses or stays silent shows to
//! the client as a port that does. A gateway's kernel accepts before anything is decided; so the listener itself takes the
//! mode of its target: accept, refuse or stay silent.

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
use super::route::Routes;
use super::socket::{Socket, register};
use crate::lifecycle::Alarm;
use crate::plan::{Answer, Listener};

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
/// [`BindError`] when the address is taken (by another gateway, say) or not to be had.
pub(crate) fn bind(
    listener: &Listener,
    workers: usize,
    options: &LegOptions,
) -> Result<Vec<socket2::Socket>, BindError> {
    bind_shared(listener.address, workers, options).map_err(|source| BindError::new(listener, source))
}

/// One bound socket per worker, all at `address`. None listens yet: until everything else that a change needs is had,
/// no client may enter a queue that might be closed again.
///
/// # Errors
///
/// What the kernel says, as when another process listens at the address.
pub(crate) fn bind_shared(
    address: SocketAddr,
    workers: usize,
    options: &LegOptions,
) -> io::Result<Vec<socket2::Socket>> {
    // Sockets that share a port don't clash with another process' that share it too, so ask alone first.
    drop(bound(address, false)?);
    (0..workers).map(|_| ready(address, options)).collect()
}

/// A socket that is bound; unless it listens, the kernel answers a SYN with RST.
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

/// One worker's socket, bound and set up.
fn ready(address: SocketAddr, options: &LegOptions) -> io::Result<socket2::Socket> {
    let socket = bound(address, true)?;
    // Accepted sockets inherit these, which saves a call per flow.
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
/// What the kernel says, as when another process began to listen at the address meanwhile.
pub(crate) fn listen(socket: socket2::Socket, backlog: i32) -> io::Result<std::net::TcpListener> {
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Classic BPF's "return the constant": of the packet, 0 bytes pass. Socket filters need no privilege (socket(7),
/// `SO_ATTACH_FILTER`), and on a listening socket they come before the handshake.
const DROP_ALL: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// Opens one worker's part of a listener, and starts its task.
pub(crate) fn open(ctx: &Rc<WorkerContext>, socket: TcpListener, routes: Routes) {
    let (address, answer) = {
        let route = routes.current.borrow();
        (route.listener.address, route.listener.answer)
    };
    match WorkerListener::new(address, socket) {
        Ok(mut listener) => {
            listener.take_mode(ctx, answer);
            tokio::task::spawn_local(run(Rc::clone(ctx), listener, routes));
        }
        Err(error) => {
            tracing::error!(%address, %error, "failed to watch a listening socket: the listener is lost");
            ctx.state.lost_listener(address);
        }
    }
}

/// Accepts clients, and takes the mode that the present route asks for, until the listener is to close.
async fn run(ctx: Rc<WorkerContext>, mut listener: WorkerListener, routes: Routes) {
    let _alarm = Alarm::new(format!("the listener at {}", listener.address), &ctx.state.losses);
    let (mut changes, routes, mut backoff) = (routes.current.clone(), Rc::new(routes), Backoff::new());
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
            // It may do better then.
            () = ctx.clock.sleep_until(Instant::now() + ctx.options.tick), if !in_mode => {}
            () = listener.accept_clients(&ctx, &routes, &mut backoff) => {}
        }
    }
}

/// What one worker has at a listener's address.
#[derive(Debug)]
struct WorkerListener {
    address: SocketAddr,
    listening: Option<AsyncFd<OwnedFd>>,
    /// Keeps the port while nothing listens on it: the kernel then answers with RST, and no other process can take it.
    placeholder: Option<socket2::Socket>,
    silent: bool,
    /// The last mode could not be taken: no descriptor, or another process took the port.
    failed: bool,
}

impl WorkerListener {
    fn new(address: SocketAddr, socket: TcpListener) -> io::Result<Self> {
        let listening = Some(register(socket.into(), Interest::READABLE)?);
        Ok(Self { address, listening, placeholder: None, silent: false, failed: false })
    }

    /// Takes a mode; false when that failed, as may change.
    fn take_mode(&mut self, ctx: &WorkerContext, answer: Answer) -> bool {
        let taken = match answer {
            Answer::Refuse => self.refuse(),
            Answer::Accept => self.listen(ctx).and_then(|()| self.silence(false)),
            Answer::Ignore => self.listen(ctx).and_then(|()| self.silence(true)),
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
            // Bound before the listening socket goes, so that the port is never free.
            let placeholder = bound(self.address, true)?;
            self.listening = None;
            self.silent = false;
            // Another process that binds with `SO_REUSEADDR`, as most servers do, could share it otherwise, and listen.
            placeholder.set_reuse_address(false)?;
            self.placeholder = Some(placeholder);
        }
        Ok(())
    }

    fn listen(&mut self, ctx: &WorkerContext) -> io::Result<()> {
        if self.listening.is_none() {
            let socket = listening(self.address, ctx.options.backlog, &ctx.options.leg)?;
            self.listening = Some(register(socket.into(), Interest::READABLE)?);
            self.placeholder = None;
        }
        Ok(())
    }

    fn silence(&mut self, silent: bool) -> io::Result<()> {
        if let Some(socket) = self.listening.as_ref().filter(|_| self.silent != silent) {
            let socket = SockRef::from(socket);
            if silent { socket.attach_filter(&DROP_ALL) } else { socket.detach_filter() }?;
            self.silent = silent;
        }
        Ok(())
    }

    /// Accepts clients for as long as it is polled. While descriptors or memory are short it waits longer and longer, and
    /// clients wait in the queue.
    async fn accept_clients(&self, ctx: &Rc<WorkerContext>, routes: &Rc<Routes>, backoff: &mut Backoff) {
        let Some(socket) = &self.listening else { return std::future::pending().await };
        loop {
            if let Err(error) = accept_waiting(socket, ctx, routes, backoff).await {
                ctx.state.accept_error(&error);
                if is_scarcity(&error) {
                    let wait = backoff.next();
                    tracing::warn!(%error, wait_ms = wait.as_millis(), "accepting waits: the process or the host is out of descriptors or memory");
                    ctx.clock.sleep_until(Instant::now() + wait).await;
                }
            }
            // Others of the worker have their turn.
            tokio::task::yield_now().await;
        }
    }
}

/// Waits for clients and accepts those that are there, up to the number after which others of the worker have their turn.
async fn accept_waiting(
    socket: &AsyncFd<OwnedFd>,
    ctx: &Rc<WorkerContext>,
    routes: &Rc<Routes>,
    backoff: &mut Backoff,
) -> io::Result<()> {
    let mut ready = socket.readable().await?;
    for _ in 0..ctx.options.accepts_per_wake {
        // Before the client, see `descriptors`. Without a member there is nothing to dial, and no socket is needed.
        let target = routes.current.borrow().any_target();
        let spare = target.map(|target| ctx.left_over.take(target)).transpose()?;
        match acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((client, peer)) => {
                backoff.reset();
                if let Some(Ok(peer)) = peer.map(SocketAddr::try_from) {
                    let client = Socket::new(client)?;
                    let accepted = Box::new(Accepted { routes: Rc::clone(routes), peer, spare });
                    tokio::task::spawn_local(flow::serve(Rc::clone(ctx), client, accepted));
                }
            }
            Err(Errno::AGAIN) => {
                ctx.left_over.keep(spare);
                ready.clear_ready();
                return Ok(());
            }
            Err(Errno::INTR) => ctx.left_over.keep(spare),
            // The spare socket is given up meanwhile: another worker may have a client for it.
            Err(error) => return Err(error.into()),
        }
        // Mostly one client waits, and an `accept` that finds none costs nearly as much as one that finds one.
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
