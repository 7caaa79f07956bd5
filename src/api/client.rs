//! A small client of `/v1`, for the operator's commands and for tests.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::tls::identity::client_config;

/// How long an answer may take. A reload with many listeners is the slowest there is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection came about.
    #[error(
        "cannot reach the gateway's admin API at {address}; is `plgw serve` running, and is this its `admin` address?"
    )]
    Connect {
        /// The address that was dialled.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The exchange broke off.
    #[error("the gateway's admin API at {address} broke off: {reason}")]
    Broken {
        /// Where.
        address: SocketAddr,
        /// How.
        reason: String,
    },
    /// The gateway refuses.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The one lower-case name of the reason.
        code: String,
        /// The reason, in words for people.
        message: String,
    },
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }
}

/// `/v1`'s error.
#[derive(Deserialize)]
struct Problem {
    code: String,
    message: String,
}

/// A client of one gateway. Every request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    token: Option<String>,
    ca: Option<PathBuf>,
}

impl Client {
    /// A client of the admin API at `address`.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, token: None, ca: None }
    }

    /// The same client, with a bearer token.
    #[must_use]
    pub fn with_token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    /// The same client, over TLS if there is a file with the CA certificate that the gateway's is checked by.
    #[must_use]
    pub fn with_ca(self, ca: Option<PathBuf>) -> Self {
        Self { ca, ..self }
    }

    /// What `GET path` answers.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call("GET", path, String::new()).await
    }

    /// What a request answers; an empty answer is JSON's `null`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], with the gateway's own words when it refuses.
    pub async fn call<T: DeserializeOwned>(&self, method: &str, path: &str, body: String) -> Result<T, ClientError> {
        let answer = self.send(method, path, &[], body).await?;
        if !answer.status.is_success() {
            let status = answer.status.as_u16();
            return Err(match serde_json::from_slice::<Problem>(&answer.body) {
                Ok(problem) => ClientError::Refused { status, code: problem.code, message: problem.message },
                Err(_) => self.broken(format!("it answered {status}, which is not the admin API's way")),
            });
        }
        let body = if answer.body.is_empty() { b"null" } else { answer.body.as_ref() };
        serde_json::from_slice(body).map_err(|error| self.broken(format!("its answer is not understood: {error}")))
    }

    /// Sends any request.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`] and [`ClientError::Broken`].
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, ClientError> {
        let address = self.address;
        let mut request = Request::builder().method(method).uri(path);
        let has = |wanted: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if !has("host") {
            request = request.header(HOST, address.to_string());
        }
        if !body.is_empty() && !has("content-type") {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::<Bytes>::from(body)).map_err(|error| self.broken(error.to_string()))?;
        let exchange = async {
            let broken = |error: hyper::Error| self.broken(crate::control::chain(&error));
            let (mut requests, connection) =
                http1::handshake(TokioIo::new(self.connect().await?)).await.map_err(broken)?;
            tokio::spawn(connection);
            let (head, body) = requests.send_request(request).await.map_err(broken)?.into_parts();
            let body = body.collect().await.map_err(broken)?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(self.broken("no answer in time".to_owned())))
    }

    /// A connection, over TLS if there is a CA to check the gateway by.
    async fn connect(&self) -> Result<Either<TcpStream, TlsStream<TcpStream>>, ClientError> {
        let address = self.address;
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = connected.map_err(|source| ClientError::Connect { address, source })?;
        let Some(path) = &self.ca else { return Ok(Either::Left(stream)) };
        let ca = CertificateDer::from_pem_file(path)
            .map_err(|error| self.broken(format!("cannot read the CA certificate `{}`: {error}", path.display())))?;
        let config = client_config(&ca, &[]).map_err(|error| self.broken(crate::control::chain(&error)))?;
        let name = ServerName::IpAddress(address.ip().into());
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        shaken.map(Either::Right).map_err(|error| self.broken(format!("no TLS with it: {error}")))
    }

    fn broken(&self, reason: String) -> ClientError {
        ClientError::Broken { address: self.address, reason }
    }
}
