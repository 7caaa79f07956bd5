//! Opens connections: the target's leg of a flow, and those of the App Services HTTP front end to its backends.

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

/// Addresses to dial from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// One at least.
    pub(crate) pool: &'a [IpAddr],
    /// Differs from dial to dial: which of them is tried first.
    pub(crate) turn: usize,
}

/// Connects to `target` on the runtime that this is called in; `spare` is used if it fits.
///
/// # Errors
///
/// What the kernel says: refused, or unreachable. There is no time-out here. Keepalive is left to the owner of the
/// connection ([`LegOptions::keep_alive`]).
pub(crate) async fn connect(
    target: SocketAddr,
    options: &LegOptions,
    spare: Option<SpareSocket>,
) -> io::Result<TcpStream> {
    let stream = TcpStream::from_std(std::net::TcpStream::from(begin(target, None, options, spare)?))?;
    // The runtime's own `connect` asks the kernel for an error after every success too; here it is asked when the readiness
    // says that there is one.
    if stream.ready(Interest::WRITABLE).await?.is_write_closed() {
        stream.take_error()?.map_or(Ok(()), Err)?;
    }
    Ok(stream)
}

/// A socket that is connecting to `target`, from `source` where one is given; `spare` is used if it fits. Once it is
/// writable it is connected, or has an error to tell.
///
/// # Errors
///
/// What the kernel says at once: unreachable, or no source port free.
pub(crate) fn begin(
    target: SocketAddr,
    source: Option<Source<'_>>,
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
        // A port that `bind` chose would be this socket's alone, whatever the target: 28,000 in all. Chosen by `connect`, each
        // target has all of them from each address (ip(7), `IP_BIND_ADDRESS_NO_PORT`).
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

    /// A port on which nothing listens: the dial fails at once or when the answer is there.
    #[test]
    fn a_refusal_shows_whatever_the_source_is() {
        let target =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a port");
        let pool = [Ipv4Addr::LOCALHOST.into()];
        for source in [None, Some(Source { pool: &pool, turn: 4711 })] {
            let socket = begin(target, source, &LegOptions::default(), None).expect("begun");
            let poller = rustix::event::PollFd::new(&socket, rustix::event::PollFlags::OUT);
            rustix::event::poll(&mut [poller], None).expect("polled");
            let error = SockRef::from(&socket).take_error().expect("asked").expect("nothing listens");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn sources_take_turns() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let target = listener.local_addr().expect("bound");
        let pool = [Ipv4Addr::new(127, 0, 0, 2).into(), Ipv4Addr::new(127, 0, 0, 3).into()];
        for turn in 0..2 {
            let _near = begin(target, Some(Source { pool: &pool, turn }), &LegOptions::default(), None).expect("begun");
            assert_eq!(listener.accept().expect("connected").1.ip(), pool[turn]);
        }
    }
}
