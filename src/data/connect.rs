//! Opens the target's leg of a flow.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
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
/// covers it.
pub(crate) async fn connect(target: SocketAddr, source: Option<Source>, options: &LegOptions) -> io::Result<TcpStream> {
    let socket = || -> io::Result<TcpSocket> {
        let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        options.apply(&SockRef::from(&socket));
        Ok(socket)
    };
    let Some(source) = source else { return socket()?.connect(target).await };
    let ports = ephemeral_ports();
    let mut none_free = io::ErrorKind::AddrNotAvailable.into();
    for step in 0..TRIES {
        let socket = socket()?;
        // A port that `bind` chooses is this socket's alone, whatever the target: 28,000 in all. `IP_BIND_ADDRESS_NO_PORT`
        // puts the choice off until `connect`, and no safe code can set it. A port that we choose and share does the same:
        // each target has all of them, and `connect` says when this very pair is in use.
        socket.set_reuseaddr(true)?;
        let at = source.turn.wrapping_add(step * 101) % ports.len();
        let port = ports.start + u16::try_from(at).unwrap_or(0);
        let tried = match socket.bind(SocketAddr::new(source.address, port)) {
            Ok(()) => socket.connect(target).await,
            Err(error) => Err(error),
        };
        match tried {
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {
                none_free = error;
            }
            connected => return connected,
        }
    }
    Err(none_free)
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
