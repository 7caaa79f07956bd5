//! One probe of a member: a TCP connection, or an HTTP request.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use futures_util::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::http::{self, HttpCheck};

/// The PROXY protocol v2 header of the load balancer's own connections: command LOCAL, no addresses.
///
/// With PROXY protocol on, health checks start with a header without a client (*Edit target group attributes*); its
/// bytes follow the specification, §2.2.
pub const LOCAL_HEADER: [u8; 16] = *b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x20\x00\x00\x00";

/// The target of a probe and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTarget {
    /// The address to connect to.
    pub address: SocketAddr,
    /// The address to connect from; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// Start with [`LOCAL_HEADER`].
    pub proxy_protocol: bool,
    /// Send an HTTP request; `None`: only connect.
    pub http: Option<HttpCheck>,
}

/// Probes a member. The prober applies the time limit.
pub trait Probe: Send + Sync + fmt::Debug + 'static {
    /// A health check: `Ok` when it passes.
    fn probe(&self, target: ProbeTarget) -> BoxFuture<'static, io::Result<()>>;

    /// A reach probe: `Ok` when a connection to the member's traffic port succeeds, whatever the health checks say.
    fn reach(&self, target: ProbeTarget) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(handshake(target))
    }
}

/// Probes over the network. A TCP check connects and closes, as NLB's does: it sends nothing except the PROXY header,
/// and the connection ends with FIN.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpProbe;

impl Probe for TcpProbe {
    fn probe(&self, target: ProbeTarget) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            let Some(question) = target.http.clone() else { return handshake(target).await };
            let (address, mut stream) = (target.address, connect(&target).await?);
            let host = SocketAddr::new(stream.local_addr()?.ip(), address.port());
            if target.proxy_protocol {
                stream.write_all(&LOCAL_HEADER).await?;
            }
            if question.tls {
                let name = ServerName::from(address.ip());
                http::ask(http::connector().connect(name, stream).await?, host, &question).await
            } else {
                http::ask(stream, host, &question).await
            }
        })
    }
}

/// Connects and closes.
async fn handshake(target: ProbeTarget) -> io::Result<()> {
    let mut stream = connect(&target).await?;
    if target.proxy_protocol {
        stream.write_all(&LOCAL_HEADER).await?;
    }
    // The handshake was the check; how the member closes is irrelevant.
    let _ = stream.shutdown().await;
    Ok(())
}

async fn connect(target: &ProbeTarget) -> io::Result<TcpStream> {
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
    use crate::model::StatusRange;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// The member's view: the source, the bytes, and whether the connection ended with FIN.
    async fn seen(proxy_protocol: bool, source: Option<IpAddr>) -> (IpAddr, Vec<u8>, bool) {
        let (listener, address) = listener().await;
        let probe = TcpProbe.probe(ProbeTarget { address, source, proxy_protocol, http: None });
        let (probed, accepted) = tokio::join!(probe, listener.accept());
        probed.expect("a member that listens passes");
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
    async fn a_probe_with_proxy_protocol_sends_the_local_command() {
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

    /// The request that a member receives, and whether its response passes.
    async fn asked(path: &str, matcher: &str, answer: &'static str) -> (String, io::Result<()>) {
        let (listener, address) = listener().await;
        let http = HttpCheck { tls: false, path: path.to_owned(), matcher: matcher.parse().unwrap() };
        let probe = TcpProbe.probe(ProbeTarget { address, source: None, proxy_protocol: true, http: Some(http) });
        let member = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = vec![0; 4096];
            let mut n = 0;
            while !question[..n].ends_with(b"\r\n\r\n") {
                n += stream.read(&mut question[n..]).await.unwrap();
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            question.truncate(n);
            assert!(question.starts_with(&LOCAL_HEADER));
            String::from_utf8(question.split_off(16)).unwrap()
        };
        let (outcome, question) = tokio::join!(probe, member);
        (question, outcome)
    }

    #[tokio::test]
    async fn http_passes_when_the_status_matches() {
        let (question, outcome) = asked("/healthz?a=b", "200-399", "HTTP/1.1 302 Found\r\n\r\n").await;
        assert!(question.starts_with("GET /healthz?a=b HTTP/1.1\r\nHost: 127.0.0.1:"), "{question}");
        assert!(outcome.is_ok());
        let (_, outcome) = asked("/", "200", "HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(outcome.expect_err("204 is not 200").to_string(), "the status is 204");
        let (_, outcome) = asked("/", "200-599", "+OK this is another protocol\r\n").await;
        assert_eq!(outcome.expect_err("no HTTP").to_string(), "the answer is no HTTP/1");
    }

    #[tokio::test]
    async fn https_takes_any_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let ca = crate::tls::LabCa::open_or_create(directory.path()).unwrap();
        let identity = ca.issue(&["other.example".parse().unwrap()], &[]).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(identity.server_config(&[]).unwrap());
        let (listener, address) = listener().await;
        let http = HttpCheck { tls: true, path: "/".to_owned(), matcher: StatusRange::default() };
        let probe = TcpProbe.probe(ProbeTarget { address, source: None, proxy_protocol: false, http: Some(http) });
        let member = async {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
            let mut question = [0; 512];
            assert!(stream.read(&mut question).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        };
        let (outcome, ()) = tokio::join!(probe, member);
        outcome.expect("a pass");
    }

    #[tokio::test]
    async fn a_member_that_does_not_listen_fails() {
        let (listener, address) = listener().await;
        drop(listener);
        let error = TcpProbe.probe(ProbeTarget { address, source: None, proxy_protocol: false, http: None }).await;
        assert_eq!(error.expect_err("nothing listens").kind(), io::ErrorKind::ConnectionRefused);
    }
}
