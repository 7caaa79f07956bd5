//! Clients: raw bytes over TLS, and hyper's HTTP/1.1 and HTTP/2.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::lab::{HOST, Lab};

pub(super) type Tls = TlsStream<TcpStream>;

/// A TCP connection from a place.
pub(super) async fn tcp(lab: &Lab, from: &str, to: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{from}:0").parse().expect("an address")).expect("bound");
    socket.connect(lab.at(to)).await.expect("connected")
}

/// A TLS connection from a place.
pub(super) async fn tls(lab: &Lab, from: &str, to: &str, name: &str, alpn: &[&[u8]]) -> std::io::Result<Tls> {
    let tcp = tcp(lab, from, to).await;
    let config: Arc<ClientConfig> =
        plgw::tls::identity::client_config(lab.ca.certificate(), alpn).expect("a configuration");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    TlsConnector::from(config).connect(name, tcp).await
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) async fn from(answer: hyper::Response<hyper::body::Incoming>) -> Self {
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Self { status: parts.status, headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

/// A connection that speaks HTTP.
pub(super) enum Client {
    Http1(http1::SendRequest<Full<Bytes>>, u16),
    Http2(http2::SendRequest<Full<Bytes>>, u16),
}

/// Which HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Http {
    One,
    Two,
}

impl Client {
    pub(super) async fn connect(lab: &Lab, http: Http, from: &str, to: &str) -> Self {
        let alpn: &[u8] = if http == Http::One { b"http/1.1" } else { b"h2" };
        let io = tls(lab, from, to, HOST, &[alpn]).await.expect("TLS");
        assert_eq!(io.get_ref().1.alpn_protocol(), Some(alpn));
        match http {
            Http::One => {
                let (sender, connection) = http1::handshake(TokioIo::new(io)).await.expect("HTTP/1.1");
                tokio::spawn(connection);
                Self::Http1(sender, lab.port)
            }
            Http::Two => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.expect("HTTP/2");
                tokio::spawn(connection);
                Self::Http2(sender, lab.port)
            }
        }
    }

    /// A request to the app's usual host.
    pub(super) fn request(&self, method: &str, path: &str) -> hyper::http::request::Builder {
        match self {
            Self::Http1(_, port) => {
                Request::builder().method(method).uri(path).header("host", format!("{HOST}:{port}"))
            }
            Self::Http2(_, port) => Request::builder().method(method).uri(format!("https://{HOST}:{port}{path}")),
        }
    }

    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        let answer = match self {
            Self::Http1(sender, _) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender, _) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        Ok(Answer::from(answer).await)
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        let request = self.request("GET", path).body(Full::default()).expect("a request");
        self.send(request).await.expect("an answer")
    }
}

/// One GET from a place.
pub(super) async fn get(lab: &Lab, http: Http, from: &str, to: &str, path: &str) -> Answer {
    Client::connect(lab, http, from, to).await.get(path).await
}

/// Sends bytes as they are, by HTTP/1.1, and reads until the gateway closes or has said `enough`.
pub(super) async fn raw(lab: &Lab, from: &str, to: &str, bytes: &[u8], enough: impl Fn(&str) -> bool) -> String {
    let mut io = tls(lab, from, to, HOST, &[b"http/1.1"]).await.expect("TLS");
    io.write_all(bytes).await.expect("written");
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        loop {
            match io.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => said.extend_from_slice(&buffer[..n]),
            }
            if enough(&String::from_utf8_lossy(&said)) {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), reading).await.expect("an answer in time");
    String::from_utf8_lossy(&said).into_owned()
}
