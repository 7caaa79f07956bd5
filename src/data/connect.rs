//! Outgoing connections: flows to their targets, and the App Services HTTP front end to its backends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::descriptors::SpareSocket;

/// Socket options of connections to targets.
#[derive(Debug, Clone, Default)]
pub(crate) struct LegOptions {
    /// Idle time before keepalive probes, which detect a dead peer; `None`: no probes.
    pub(crate) keepalive: Option<Duration>,
    /// Congestion control algorithm; `None`: the host's default.
    pub(crate) congestion: Option<String>,
}

impl LegOptions {
    /// Applies all options; those that the host refuses are ignored.
    pub(crate) fn apply(&self, socket: &SockRef<'_>) {
        self.apply_now(socket);
        self.keep_alive(socket);
    }

    /// Applies the options that must be set before the first byte.
    fn apply_now(&self, socket: &SockRef<'_>) {
        // A flow works without these, so errors (for example an unknown congestion control algorithm) are ignored.
        let _ = socket.set_tcp_nodelay(true);
        if let Some(name) = &self.congestion {
            let _ = socket.set_tcp_congestion(name.as_bytes());
        }
    }

    /// Enables keepalive. Deferred until a connection has been silent for a while, as it costs two system calls and
    /// most connections never need it. The kernel counts the idle time from the last segment, whenever this is set.
    pub(crate) fn keep_alive(&self, socket: &SockRef<'_>) {
        if let Some(idle) = self.keepalive {
            let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle));
        }
    }
}

/// The source addresses of outgoing connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourcePool<'a> {
    /// At least one address.
    pub(crate) pool: &'a [IpAddr],
    /// The index (modulo the pool's size) of the address that is tried first; advanced with each connection.
    pub(crate) turn: usize,
}

/// Connects to `target` on the current runtime, using `spare` if it fits.
///
/// # Errors
///
/// The kernel's: refused, or unreachable. The caller applies a time-out, and enables keepalive
/// ([`LegOptions::keep_alive`]).
pub(crate) async fn connect(
    target: SocketAddr,
    options: &LegOptions,
    spare: Option<SpareSocket>,
) -> io::Result<TcpStream> {
    let stream = TcpStream::from_std(std::net::TcpStream::from(begin(target, None, options, spare)?))?;
    // `TcpStream::connect` reads `SO_ERROR` after every success too; here it is read only when readiness indicates an
    // error.
    if stream.ready(Interest::WRITABLE).await?.is_write_closed() {
        stream.take_error()?.map_or(Ok(()), Err)?;
    }
    Ok(stream)
}

/// Starts a non-blocking connect to `target`, from `source` if given, using `spare` if it fits. Once the socket is
/// writable, it is connected or has an error in `SO_ERROR`.
///
/// # Errors
///
/// Those that the kernel returns at once: unreachable, or no free source port.
pub(crate) fn begin(
    target: SocketAddr,
    source: Option<SourcePool<'_>>,
    options: &LegOptions,
    spare: Option<SpareSocket>,
) -> io::Result<OwnedFd> {
    let mut spare = spare.filter(|spare| spare.fits(target));
    let mut socket = || -> io::Result<Socket> {
        let socket = spare.take().map_or_else(|| SpareSocket::new(target), Ok)?.into_socket();
        options.apply_now(&SockRef::from(&socket));
        Ok(socket)
    };
    let dial = |socket: &Socket| match socket.connect(&target.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    // A target of the family that no address of the pool has is dialled from the kernel's choice.
    let is_of_target = |address: &IpAddr| address.is_ipv4() == target.is_ipv4();
    let Some(source) = source.filter(|source| source.pool.iter().any(is_of_target)) else {
        let socket = socket()?;
        dial(&socket)?;
        return Ok(socket.into());
    };
    let mut none_free = io::ErrorKind::AddrNotAvailable.into();
    for step in 0..source.pool.len() {
        let address = source.pool[source.turn.wrapping_add(step) % source.pool.len()];
        if !is_of_target(&address) {
            continue;
        }
        let socket = socket()?;
        // A port chosen by `bind` is exclusive to this socket, whatever the target: 28,000 in all. Chosen by `connect`,
        // the full range is available for each target and source address (ip(7), `IP_BIND_ADDRESS_NO_PORT`).
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        match socket.bind(&SocketAddr::new(address, 0).into()).and_then(|()| dial(&socket)) {
            Ok(()) => return Ok(socket.into()),
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {
                none_free = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(none_free)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_target_that_refuses_is_distinguished_from_one_that_accepts() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let target = listener.local_addr().expect("bound");
        let connected = connect(target, &LegOptions::default(), None).await.expect("it listens");
        assert_eq!(connected.peer_addr().expect("connected"), target);
        drop(listener);
        let refused = connect(target, &LegOptions::default(), None).await.expect_err("nothing listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// Nothing listens on the port: the connect fails at once or when the RST arrives.
    #[test]
    fn a_refusal_shows_whatever_the_source_is() {
        let target =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a port");
        let pool = [Ipv4Addr::LOCALHOST.into()];
        for source in [None, Some(SourcePool { pool: &pool, turn: 4711 })] {
            let socket = begin(target, source, &LegOptions::default(), None).expect("begun");
            let poller = rustix::event::PollFd::new(&socket, rustix::event::PollFlags::OUT);
            rustix::event::poll(&mut [poller], None).expect("polled");
            let error = SockRef::from(&socket).take_error().expect("asked").expect("nothing listens");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn source_addresses_rotate() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let target = listener.local_addr().expect("bound");
        let pool = [Ipv4Addr::new(127, 0, 0, 2).into(), Ipv4Addr::new(127, 0, 0, 3).into()];
        for turn in 0..2 {
            let _near =
                begin(target, Some(SourcePool { pool: &pool, turn }), &LegOptions::default(), None).expect("begun");
            assert_eq!(listener.accept().expect("connected").1.ip(), pool[turn]);
        }
    }
}
