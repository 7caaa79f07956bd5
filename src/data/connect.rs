//! Opens the target's leg of a flow.

use std::io;
use std::net::{IpAddr, SocketAddr};
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

    /// The part that can wait until a flow has lived for a while: two system calls that short flows never make.
    pub(crate) fn keep_alive(&self, socket: &SockRef<'_>) {
        if let Some(idle) = self.keepalive {
            let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle));
        }
    }
}

/// Connects to `target`, from `source` where one is given.
///
/// # Errors
///
/// What the kernel says: refused, unreachable, or no source port free. There is no time-out here: the flow's patience
/// covers it. Keepalive is still to be set.
pub(crate) async fn connect(target: SocketAddr, source: Option<IpAddr>, options: &LegOptions) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    options.apply_now(&SockRef::from(&socket));
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    // Writable: connected. Closed for writing as well: it failed, and only then is the kernel asked why.
    let ready = stream.ready(Interest::WRITABLE).await?;
    if ready.is_write_closed()
        && let Some(error) = stream.take_error()?
    {
        return Err(error);
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_target_that_refuses_is_told_from_one_that_accepts() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let target = listener.local_addr().expect("bound");
        let connected = connect(target, None, &LegOptions::default()).await.expect("somebody listens");
        assert_eq!(connected.peer_addr().expect("connected"), target);
        drop(listener);
        let refused = connect(target, None, &LegOptions::default()).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn keepalive_waits_until_it_is_asked_for() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let target = listener.local_addr().expect("bound");
        let options = LegOptions { keepalive: Some(Duration::from_secs(120)), congestion: None };
        let connected = connect(target, None, &options).await.expect("somebody listens");
        let socket = SockRef::from(&connected);
        assert!(socket.tcp_nodelay().expect("a live socket"));
        assert!(!socket.keepalive().expect("a live socket"));
        options.keep_alive(&socket);
        assert!(socket.keepalive().expect("a live socket"));
        assert_eq!(socket.tcp_keepalive_time().expect("a live socket"), Duration::from_secs(120));
    }
}
