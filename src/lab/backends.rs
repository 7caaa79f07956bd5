//! The config's real nodes and apps, reached from the lab.
//!
//! They are on this machine's network, which the lab has no cable to. So their addresses are given to the service's host,
//! and one process of the lab stays in this machine's network: it accepts on sockets that were made at the service's
//! host and handed to it, dials the real address, and moves bytes. It needs no right to do so, and the service's side gets
//! no way into this machine's network but to those addresses.

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

/// The list, in the lab's directory.
pub(super) const FILE: &str = "backends.json";

/// How often a backend is tried: the gateway's health checks see within that time what it comes to.
const TRY: Duration = Duration::from_secs(2);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Where the gateway dials a backend, and where that really is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Backend {
    /// In the service's VPC.
    pub(super) at: SocketAddrV4,
    /// From this machine.
    pub(super) real: SocketAddrV4,
}

/// The list in `dir`.
pub(super) fn read(dir: &Path) -> Result<Vec<Backend>, LabError> {
    let path = dir.join(FILE);
    let text = crate::files::read_trusted(&path).map_err(|source| LabError::File {
        what: "read",
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|error| LabError::File { what: "read", path, source: error.into() })
}

/// Makes a socket for every backend where this thread is, not listening yet, and hands them over in order.
pub(super) fn hand_over(backends: &[Backend], to: &UnixStream) -> Result<(), LabError> {
    for backend in backends {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).doing("make a socket for a backend")?;
        socket.set_reuse_address(true).doing("prepare a backend's socket")?;
        socket.bind(&SocketAddr::V4(backend.at).into()).doing(format!("bind {} in the service's VPC", backend.at))?;
        let fds = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::empty()).doing("hand over a backend's socket")?;
    }
    Ok(())
}

/// The next socket that is handed over.
fn take_over(from: impl AsFd) -> Result<Socket, LabError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let what = "take over a backend's socket";
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC).doing(what)?;
    let found: Option<OwnedFd> = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    // The lab's first process ended before it handed anything over.
    found.map(Socket::from).ok_or_else(|| LabError::Build("no socket was handed over".to_owned()))
}

/// Serves the backends of `dir` until the lab ends. The sockets come over standard input.
pub(super) fn serve(dir: &Path) -> Result<(), LabError> {
    let backends = read(dir)?;
    let input = std::io::stdin().as_fd().try_clone_to_owned().doing("use standard input")?;
    let sockets = backends.iter().map(|_| take_over(&input)).collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.doing("start a runtime")?;
    for (backend, socket) in backends.into_iter().zip(sockets) {
        runtime.spawn(follow(backend, socket));
    }
    holder::say(holder::SERVES)?;
    // The other end is closed when the lab ends; this process then ends with it.
    let _ = UnixStream::from(input).read(&mut [0]);
    Ok(())
}

/// Listens while the backend answers, and refuses while it does not: so a client here sees what it would see there.
async fn follow(backend: Backend, socket: Socket) {
    loop {
        if dial(backend.real).await.is_none() {
            sleep(TRY).await;
            continue;
        }
        if let Err(error) = listen(&backend, &socket).await {
            tracing::warn!(at = %backend.at, %error, "lab: cannot listen for a backend");
            sleep(TRY).await;
        }
        // A socket that listened no longer does, and may again.
        let _ = socket.shutdown(Shutdown::Read);
    }
}

/// Accepts for a backend until it no longer answers.
async fn listen(backend: &Backend, socket: &Socket) -> std::io::Result<()> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket.try_clone()?.into())?;
    loop {
        let accepted = timeout(TRY, listener.accept()).await;
        let answering = dial(backend.real).await;
        match (accepted, answering) {
            (Err(_) | Ok(Err(_)), Some(_)) => {}
            (Err(_) | Ok(Err(_)), None) => return Ok(()),
            (Ok(Ok((client, _))), Some(real)) => {
                tokio::spawn(join(client, real));
            }
            (Ok(Ok((client, _))), None) => {
                // What a client of a closed port meets.
                let _ = client.set_zero_linger();
                return Ok(());
            }
        }
    }
}

async fn dial(real: SocketAddrV4) -> Option<TcpStream> {
    timeout(ANSWER, TcpStream::connect(real)).await.ok()?.ok()
}

/// Moves bytes until both sides have finished; a side that failed resets the other.
async fn join(mut client: TcpStream, mut real: TcpStream) {
    let (_, _) = (client.set_nodelay(true), real.set_nodelay(true));
    if tokio::io::copy_bidirectional(&mut client, &mut real).await.is_err() {
        let (_, _) = (client.set_zero_linger(), real.set_zero_linger());
    }
}
