//! The config's real nodes and apps, made reachable from the lab.
//!
//! They are in this machine's network, to which the lab has no link. So their addresses are assigned to the service's
//! host, and one process of the lab stays in this machine's network: it accepts on sockets that were created at the
//! service's host and passed to it, connects to the real address, and relays bytes. It needs no privileges, and the
//! service's side gets access to those addresses only.

use std::io::{IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::error::IoContext;
use super::{LabError, holder};

/// The list in the lab's directory.
pub(super) const FILE: &str = "backends.json";

/// Probe interval: the maximum delay until the gateway's health checks see a change.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// Time limit of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Listen backlog.
const BACKLOG: i32 = 128;

/// A backend's address in the lab and its real address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Backend {
    /// The address in the service's VPC.
    pub(super) at: SocketAddrV4,
    /// The real address.
    pub(super) real: SocketAddrV4,
}

/// Reads the list in `dir`.
pub(super) fn read(dir: &Path) -> Result<Vec<Backend>, LabError> {
    let path = dir.join(FILE);
    let text = crate::files::read_trusted(&path).map_err(|source| LabError::File {
        what: "read",
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|error| LabError::File { what: "read", path, source: error.into() })
}

/// Creates a socket for every backend in the current network namespace, not listening yet, and sends them in order.
pub(super) fn send_sockets(backends: &[Backend], to: &UnixStream) -> Result<(), LabError> {
    for backend in backends {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("make a socket for a backend")?;
        socket.set_reuse_address(true).context("prepare a backend's socket")?;
        socket.bind(&SocketAddr::V4(backend.at).into()).context(format!("bind {} in the service's VPC", backend.at))?;
        let fds = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::empty()).context("hand over a backend's socket")?;
    }
    Ok(())
}

/// Receives the next socket.
fn receive_socket(from: impl AsFd) -> Result<Socket, LabError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let what = "take over a backend's socket";
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC).context(what)?;
    let found: Option<OwnedFd> = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    // The lab's first process ended before it sent a socket.
    found.map(Socket::from).ok_or_else(|| LabError::Build("no socket was handed over".to_owned()))
}

/// Serves the backends of `dir` until the lab ends. The sockets are received on standard input.
pub(super) fn serve(dir: &Path) -> Result<(), LabError> {
    let backends = read(dir)?;
    let input = std::io::stdin().as_fd().try_clone_to_owned().context("use standard input")?;
    let sockets = backends.iter().map(|_| receive_socket(&input)).collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("start a runtime")?;
    for (backend, socket) in backends.into_iter().zip(sockets) {
        runtime.spawn(follow(backend, socket));
    }
    holder::report_to_parent(holder::SERVES)?;
    // The other end is closed when the lab ends; this process then ends too.
    let _ = UnixStream::from(input).read(&mut [0]);
    Ok(())
}

/// Listens while the backend accepts connections, and refuses otherwise, so that clients in the lab see the backend's
/// state.
async fn follow(backend: Backend, socket: Socket) {
    loop {
        if dial(backend.real).await.is_none() {
            sleep(PROBE_INTERVAL).await;
            continue;
        }
        if let Err(error) = listen(&backend, &socket).await {
            tracing::warn!(at = %backend.at, %error, "lab: cannot listen for a backend");
            sleep(PROBE_INTERVAL).await;
        }
        // Stops listening; the socket can listen again.
        let _ = socket.shutdown(Shutdown::Read);
    }
}

/// Accepts for a backend until it no longer responds.
async fn listen(backend: &Backend, socket: &Socket) -> std::io::Result<()> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket.try_clone()?.into())?;
    loop {
        let accepted = timeout(PROBE_INTERVAL, listener.accept()).await;
        let answering = dial(backend.real).await;
        match (accepted, answering) {
            (Err(_) | Ok(Err(_)), Some(_)) => {}
            (Err(_) | Ok(Err(_)), None) => return Ok(()),
            (Ok(Ok((client, _))), Some(real)) => {
                tokio::spawn(join(client, real));
            }
            (Ok(Ok((client, _))), None) => {
                // As if the port were closed.
                let _ = client.set_zero_linger();
                return Ok(());
            }
        }
    }
}

async fn dial(real: SocketAddrV4) -> Option<TcpStream> {
    timeout(PROBE_TIMEOUT, TcpStream::connect(real)).await.ok()?.ok()
}

/// Relays until both sides have finished; an error on one side resets the other.
async fn join(mut client: TcpStream, mut real: TcpStream) {
    let (_, _) = (client.set_nodelay(true), real.set_nodelay(true));
    if tokio::io::copy_bidirectional(&mut client, &mut real).await.is_err() {
        let (_, _) = (client.set_zero_linger(), real.set_zero_linger());
    }
}
