//! How a member is asked whether it is well.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

/// The PROXY protocol v2 header of a connection that is the load balancer's own: command LOCAL, no addresses.
///
/// With PROXY protocol on, health checks begin with a header that has no client in it (*Edit target group attributes*);
/// its bytes follow the specification, §2.2.
pub const LOCAL_HEADER: [u8; 16] = *b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x20\x00\x00\x00";

/// Whom to ask, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Where the member listens.
    pub address: SocketAddr,
    /// The address to ask from; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// Begin with [`LOCAL_HEADER`].
    pub proxy_protocol: bool,
}

/// Asks a member. The prober limits the time; a probe need not.
pub trait Probe: Send + Sync + fmt::Debug + 'static {
    /// `Ok` when the member is well.
    fn probe(&self, target: ProbeTarget) -> BoxFuture<'static, io::Result<()>>;

    /// `Ok` when a connection to the member's traffic port comes about, whatever the checks say.
    fn reach(&self, target: ProbeTarget) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(handshake(target))
    }
}

/// Connects and closes, as NLB's TCP check does: no byte is sent but the PROXY header, and the connection ends with FIN.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpProbe;

impl Probe for TcpProbe {
    fn probe(&self, target: ProbeTarget) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(handshake(target))
    }
}

/// A connection that ends at once.
async fn handshake(target: ProbeTarget) -> io::Result<()> {
    let mut stream = connect(target).await?;
    if target.proxy_protocol {
        stream.write_all(&LOCAL_HEADER).await?;
    }
    // The handshake was the check: what the member makes of the end of the connection doesn't count.
    let _ = stream.shutdown().await;
    Ok(())
}

async fn connect(target: ProbeTarget) -> io::Result<TcpStream> {
    let socket = match target.address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(source) = target.source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(target.address).await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// What the member sees: who asked, the bytes, and whether the connection ended with FIN.
    async fn seen(proxy_protocol: bool, source: Option<IpAddr>) -> (IpAddr, Vec<u8>, bool) {
        let (listener, address) = listener().await;
        let probe = TcpProbe.probe(ProbeTarget { address, source, proxy_protocol });
        let (probed, accepted) = tokio::join!(probe, listener.accept());
        probed.expect("a member that listens is well");
        let (mut stream, from) = accepted.unwrap();
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes).await;
        (from.ip(), bytes, end.is_ok())
    }

    #[tokio::test]
    async fn a_probe_connects_and_closes_without_a_byte() {
        assert_eq!(seen(false, None).await, ("127.0.0.1".parse().unwrap(), vec![], true));
    }

    #[tokio::test]
    async fn with_proxy_protocol_a_probe_says_that_it_is_the_load_balancers_own() {
        let (_, bytes, ended) = seen(true, None).await;
        assert!(ended);
        let header = ppp::v2::Header::try_from(bytes.as_slice()).expect("a PROXY header");
        assert_eq!((header.command, header.len()), (ppp::v2::Command::Local, bytes.len()));
        assert_eq!(header.addresses, ppp::v2::Addresses::Unspecified);
    }

    #[tokio::test]
    async fn a_probe_comes_from_the_address_that_it_is_given() {
        let source: IpAddr = "127.1.0.4".parse().unwrap();
        assert_eq!(seen(false, Some(source)).await.0, source);
    }

    #[tokio::test]
    async fn a_member_that_does_not_listen_is_not_well() {
        let (listener, address) = listener().await;
        drop(listener);
        let error = TcpProbe.probe(ProbeTarget { address, source: None, proxy_protocol: false }).await;
        assert_eq!(error.expect_err("nobody listens").kind(), io::ErrorKind::ConnectionRefused);
    }
}
