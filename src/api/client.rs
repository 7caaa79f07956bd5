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

/// Time limit of a response. A reload with many listeners takes the longest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Time limit of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The environment variable with a file of CA certificates for an admin API behind TLS; also set by `plgw lab run`.
const CA_VARIABLE: &str = "PLGW_CA";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection failed.
    #[error(
        "cannot reach the gateway's admin API at {address}; is `plgw serve` running, and is this its `admin` address?"
    )]
    Connect {
        /// The address.
        address: AdminAddress,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The connection failed during the exchange.
    #[error("the gateway's admin API at {address} broke off: {reason}")]
    Broken {
        /// The address.
        address: AdminAddress,
        /// The cause.
        reason: String,
    },
    /// The gateway refused the request.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code.
        code: String,
        /// The error message.
        message: String,
    },
}

/// The address of an admin API: `ADDRESS:PORT`, `NAME:PORT`, or a URL without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAddress {
    tls: bool,
    authority: Authority,
}

impl AdminAddress {
    /// The port; by default the scheme's.
    fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// The name or address; an IPv6 address without brackets.
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

/// A response with any status.
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

    /// The body as JSON; null if it is not valid JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }
}

/// An error of `/v1`.
#[derive(Deserialize)]
struct ErrorBody {
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
    /// Creates a client of the admin API at `address`.
    #[must_use]
    pub fn new(address: impl Into<AdminAddress>) -> Self {
        Self { address: address.into(), token: None, ca: None }
    }

    /// A client of another gateway's admin API, with the same token and CAs.
    #[must_use]
    pub fn at(&self, address: AdminAddress) -> Self {
        Self { address, ..self.clone() }
    }

    /// Sets the bearer token.
    #[must_use]
    pub fn with_token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    /// Sets the file of trusted CAs (PEM); `None`: the file of `PLGW_CA`.
    #[must_use]
    pub fn with_ca(self, ca: Option<PathBuf>) -> Self {
        Self { ca, ..self }
    }

    /// Sends `GET path` and parses the response.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call("GET", path, String::new()).await
    }

    /// Sends a request and parses the response; an empty one is JSON's `null`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], with the gateway's message when it refuses.
    pub async fn call<T: DeserializeOwned>(&self, method: &str, path: &str, body: String) -> Result<T, ClientError> {
        let answer = self.send(method, path, &[], body).await?;
        if !answer.status.is_success() {
            let status = answer.status.as_u16();
            return Err(match serde_json::from_slice::<ErrorBody>(&answer.body) {
                Ok(problem) => ClientError::Refused { status, code: problem.code, message: problem.message },
                Err(_) => self.broken(format!("it answered {status}, which is not the admin API's way")),
            });
        }
        let body = if answer.body.is_empty() { b"null" } else { answer.body.as_ref() };
        serde_json::from_slice(body).map_err(|error| self.broken(format!("its answer is not understood: {error}")))
    }

    /// Sends a request and returns the response with any status.
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
        // The admin API accepts only its own address and `localhost` as host (DNS rebinding), so neither a name for it
        // nor a translated address would work. A TLS proxy needs its own name.
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

    /// Connects, sends, and reads the head of the response.
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
        // Ends with the connection; the request fails with it.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(broken)
    }

    fn broken(&self, reason: String) -> ClientError {
        ClientError::Broken { address: self.address.clone(), reason }
    }
}

/// Trusts the CAs in the file `ca`, or in that of `PLGW_CA`. For a public CA, the system has such a file.
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
