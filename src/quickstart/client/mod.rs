//! Minimal clients for the self-check, which report details and bind a given source address.

pub(super) mod dns;
pub(super) mod http;
pub(super) mod mongo;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::DnsName;

/// Why a TLS connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsConnectError {
    /// The TCP connection failed.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The TLS handshake failed, for example because the certificate does not match the name.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

/// Connects with TLS, verifying that the server is `host`, which is also sent as SNI.
pub(super) async fn tls(
    source: Option<IpAddr>,
    to: SocketAddr,
    host: &DnsName,
    config: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, TlsConnectError> {
    let stream = connect(source, to).await.map_err(TlsConnectError::Connect)?;
    let name = ServerName::try_from(host.to_string()).map_err(|error| TlsConnectError::Tls(io::Error::other(error)))?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(TlsConnectError::Tls)
}

/// Connects from `source`, or from the kernel's choice: 127.0.0.1 on loopback.
pub(super) async fn connect(source: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
