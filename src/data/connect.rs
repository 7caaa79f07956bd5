//! Opens the target's leg of a flow.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

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
        // None of these is needed for a flow to work, so a refusal (an unknown congestion control, say) is let be.
        let _ = socket.set_tcp_nodelay(true);
        if let Some(idle) = self.keepalive {
            let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle));
        }
        if let Some(name) = &self.congestion {
            let _ = socket.set_tcp_congestion(name.as_bytes());
        }
    }
}

/// Connects to `target`, from `source` where one is given.
///
/// # Errors
///
/// What the kernel says: refused, unreachable, or no source port free. There is no time-out here: the flow's patience
/// covers it.
pub(crate) async fn connect(target: SocketAddr, source: Option<IpAddr>, options: &LegOptions) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    options.apply(&SockRef::from(&socket));
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(target).await
}
