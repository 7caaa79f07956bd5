//! Opens the target's leg of a flow.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// How sockets towards targets are set up.
#[derive(Debug, Clone, Default)]
pub(crate) struct LegOptions {
    /// Probe a silent peer after this long, so that a half-dead one is seen; `None`: never.
    pub(crate) keepalive: Option<Duration>,
    /// A congestion control by name; `None`: the host's.
    pub(crate) congestion: Option<String>,
}

impl LegOptions {
    /// Sets a socket up; options that this host refuses are left out.
    pub(crate) fn apply(&self, socket: &SockRef<'_>) {
        self.apply_now(socket);
        self.keep_alive(socket);
    }

    /// The part that the first byte needs.
    fn apply_now(&self, socket: &SockRef<'_>) {
        // None of these is needed for a flow to work, so a refusal (an unknown congestion control, say) is let be.
        let _ = socket.set_tcp_nodelay(true);
        if let Some(name) = &self.congestion {
            let _ = socket.set_tcp_congestion(name.as_bytes());
        }
    }

    /// The part that can wait until a connection has been silent for a while: two system calls that most never need. The
    /// kernel counts its idle time from the last segment, whenever this is set.
    pub(crate) fn keep_alive(&self, socket: &SockRef<'_>) {
        if let Some(idle) = self.keepalive {
            let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle));
        }
    }
}

/// An address of the pool to dial from, and whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) address: IpAddr,
    /// Differs from dial to dial: where the search for a port begins.
    pub(crate) turn: usize,
}

/// How many ports are tried before none counts as free.
const TRIES: usize = 64;

/// Connects to `target`, from `source` where one is given.
///
/// # Errors
///
/// What the kernel says: refused, unreachable, or no source port free. There is no time-out here: the flow's patience
/// covers it. Keepalive is left to whoever keeps the connection ([`LegOptions::keep_alive`]).
pub(crate) async fn connect(target: SocketAddr, source: Option<Source>, options: &LegOptions) -> io::Result<TcpStream> {
    let stream = begin(target, source, options)?;
    poll_fn(|cx| poll_connected(&stream, cx)).await?;
    Ok(stream)
}

/// A socket that is connecting.
fn begin(target: SocketAddr, source: Option<Source>, options: &LegOptions) -> io::Result<TcpStream> {
    let socket = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        options.apply_now(&SockRef::from(&socket));
        Ok(socket)
    };
    let dial = |socket: &Socket| match socket.connect(&target.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    let Some(source) = source else {
        let socket = socket()?;
        dial(&socket)?;
        return TcpStream::from_std(socket.into());
    };
    let ports = ephemeral_ports();
    let mut none_free = io::ErrorKind::AddrNotAvailable.into();
    for step in 0..TRIES {
        let socket = socket()?;
        // A port that `bind` chooses is this socket's alone, whatever the target: 28,000 in all. `IP_BIND_ADDRESS_NO_PORT`
        // puts the choice off until `connect`, and no safe code can set it. A port that we choose and share does the same:
        // each target has all of them, and `connect` says at once when this very pair is in use.
        socket.set_reuse_address(true)?;
        let at = source.turn.wrapping_add(step * 101) % ports.len();
        let port = ports.start + u16::try_from(at).unwrap_or(0);
        match socket.bind(&SocketAddr::new(source.address, port).into()).and_then(|()| dial(&socket)) {
            Ok(()) => return TcpStream::from_std(socket.into()),
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {
                none_free = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(none_free)
}

/// Waits for the connection. The runtime's own `connect` asks the kernel for an error after every success too; here it is
/// asked when the readiness says that there is one.
fn poll_connected(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    ready!(stream.poll_write_ready(cx))?;
    // Ready at once, as the line above was. A flow's task has no room for this future.
    let ready = ready!(pin!(stream.ready(Interest::WRITABLE)).poll(cx))?;
    // Closed for writing: it failed, or was reset at once.
    Poll::Ready(if ready.is_write_closed() { stream.take_error()?.map_or(Ok(()), Err) } else { Ok(()) })
}

/// The ports that this host uses for outgoing connections.
fn ephemeral_ports() -> std::ops::Range<u16> {
    static PORTS: OnceLock<(u16, u16)> = OnceLock::new();
    let (first, last) = *PORTS.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
        // The kernel's defaults.
        numbers.next().zip(numbers.next()).filter(|(first, last)| first < last).unwrap_or((32_768, 60_999))
    });
    first..last
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_target_that_refuses_is_told_from_one_that_accepts() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let target = listener.local_addr().expect("bound");
        let source = Source { address: Ipv4Addr::LOCALHOST.into(), turn: 4711 };
        for source in [None, Some(source)] {
            let connected = connect(target, source, &LegOptions::default()).await.expect("somebody listens");
            assert_eq!(connected.peer_addr().expect("connected"), target);
        }
        drop(listener);
        for source in [None, Some(source)] {
            let refused = connect(target, source, &LegOptions::default()).await.expect_err("nobody listens");
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
