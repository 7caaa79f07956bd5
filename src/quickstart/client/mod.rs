//! Small clients for the self-check: they say what they met, and bind the source that they are told.

pub(super) mod dns;
pub(super) mod http;
pub(super) mod mongo;

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

/// Connects from `source`, or from wherever the kernel chooses: 127.0.0.1 on loopback.
pub(super) async fn connect(source: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
