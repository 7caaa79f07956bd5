//! A small client of `/v1`, for the operator's commands and for tests.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::http::uri::Authority;
use hyper::rt::{Read, Write};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::control::chain;

/// How long an answer may take. A reload with many listeners is the slowest there is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Names the file of CA certificates that an admin API behind TLS is checked with: `plgw lab run` sets it, too.
const CA_VARIABLE: &str = "PLGW_CA";

/// Why there is no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection came about.
    #[error(
        "cannot reach the gateway's admin API at {address}; is `plgw serve` running, and is this its `admin` address?"
    )]
    Connect {
        /// The address that was dialled.
        address: AdminAddress,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The exchange broke off.
    #[error("the gateway's admin API at {address} broke off: {reason}")]
    Broken {
        /// Where.
        address: AdminAddress,
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
        /// The reason, human-readable.
        message: String,
    },
}

/// Where an admin API is: `ADDRESS:PORT`, `NAME:PORT`, or a URL without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAddress {
    tls: bool,
    authority: Authority,
}

impl AdminAddress {
    /// The port: the scheme's own where none is written.
    fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// The name or address, without the brackets of an IPv6 address.
    fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }
}

impl From<SocketAddr> for AdminAddress {
    fn from(address: SocketAddr) -> Self {
        let authority = address.to_string().parse().expect("a socket address is an authority");
        Self { tls: false, authority }
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "write ADDRESS:PORT, NAME:PORT, or a URL without a path, as `http://127.0.0.1:8474`";
        let has_scheme = text.contains("://");
        let uri: Uri = if has_scheme { text.parse() } else { format!("http://{text}").parse() }
            .map_err(|error| format!("{error}; {wanted}"))?;
        let parts = uri.into_parts();
        let tls = match parts.scheme.as_ref().map(hyper::http::uri::Scheme::as_str) {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wanted.to_owned()),
        };
        let authority =
            parts.authority.filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
        let bare = parts.path_and_query.is_none_or(|path| path == "/");
        match authority {
            Some(authority) if bare && (has_scheme || authority.port().is_some()) => Ok(Self { tls, authority }),
            _ => Err(wanted.to_owned()),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.tls { "https://" } else { "" }, self.authority)
    }
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct ApiResponse {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl ApiResponse {
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

/// A client of one gateway. Every request opens a connection.
#[derive(Debug, Clone)]
pub struct Client {
    address: AdminAddress,
    token: Option<String>,
    ca: Option<PathBuf>,
}

impl Client {
    /// A client of the admin API at `address`.
    #[must_use]
    pub fn new(address: impl Into<AdminAddress>) -> Self {
        Self { address: address.into(), token: None, ca: None }
    }

    /// A client of another gateway's admin API, with the same token and the same CAs.
    #[must_use]
    pub fn at(&self, address: AdminAddress) -> Self {
        Self { address, ..self.clone() }
    }

    /// The same client, with a bearer token.
    #[must_use]
    pub fn with_token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    /// The same client, which trusts the CAs in a file (PEM); `None`: those in the file that `PLGW_CA` names.
    #[must_use]
    pub fn trusting(self, ca: Option<PathBuf>) -> Self {
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
    ) -> Result<ApiResponse, ClientError> {
        let mut request = Request::builder().method(method).uri(path);
        // The admin API answers to its own address and to `localhost` alone (DNS rebinding), and knows neither a name that
        // leads to it nor an address that is translated on the way. A TLS proxy goes by its own name.
        let host = if self.address.tls { self.address.authority.as_str() } else { "localhost" };
        let has = |wanted: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if !has("host") {
            request = request.header(HOST, host);
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
            let response = self.exchange(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| self.broken(error.to_string()))?.to_bytes();
            Ok(ApiResponse { status: head.status, headers: head.headers, body })
        };
        timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(self.broken("no answer in time".to_owned())))
    }

    /// Connects, sends, and reads the head of the answer.
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let failed = |source| ClientError::Connect { address: self.address.clone(), source };
        let connect = async {
            let tcp = TcpStream::connect((self.address.host(), self.address.port())).await?;
            tcp.set_nodelay(true)?;
            if !self.address.tls {
                return Ok(Err(tcp));
            }
            let name = ServerName::try_from(self.address.host().to_owned()).map_err(io::Error::other)?;
            TlsConnector::from(tls_config(self.ca.clone())?).connect(name, tcp).await.map(Ok)
        };
        let connected = timeout(CONNECT_TIMEOUT, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match connected.map_err(failed)? {
            Ok(tls) => self.over(TokioIo::new(tls), request).await,
            Err(tcp) => self.over(TokioIo::new(tcp), request).await,
        }
    }

    async fn over<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError>
    where
        S: Read + Write + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| self.broken(chain(&error));
        let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
        // Ends with the connection; an error of it is the request's too.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(broken)
    }

    fn broken(&self, reason: String) -> ClientError {
        ClientError::Broken { address: self.address.clone(), reason }
    }
}

/// Trusts the CAs in the file `ca`, or in the one that `PLGW_CA` names: a public CA's certificates are in the system's own
/// such file.
fn tls_config(ca: Option<PathBuf>) -> io::Result<Arc<ClientConfig>> {
    let named = || std::env::var_os(CA_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = ca.or_else(named).ok_or_else(|| {
        io::Error::other(format!("{CA_VARIABLE} is not set; https needs it to name a file of CA certificates (PEM)"))
    })?;
    let unusable =
        |error: &dyn fmt::Display| io::Error::other(format!("the CA certificates in {}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&path).map_err(|error| unusable(&error))? {
        roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_a_name_and_a_url_are_read() {
        for (text, tls, host, port) in [
            ("127.0.0.1:8474", false, "127.0.0.1", 8474),
            ("[::1]:8474", false, "::1", 8474),
            ("gateway:8474", false, "gateway", 8474),
            ("http://10.0.0.7:8474/", false, "10.0.0.7", 8474),
            ("https://plgw.example", true, "plgw.example", 443),
        ] {
            let address: AdminAddress = text.parse().expect(text);
            assert_eq!((address.tls, address.host(), address.port()), (tls, host, port), "{text}");
        }
        for text in
            ["", "8474", "gateway", ":8474", "http://", "ftp://x:1", "http://x:1/console", "http://me@x:1", "a b:1"]
        {
            let error = text.parse::<AdminAddress>().expect_err(text);
            assert!(error.contains("write ADDRESS:PORT"), "{text}: {error}");
        }
    }
}
