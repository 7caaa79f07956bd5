//! Requests and responses of HTTP and HTTPS checks.
//!
//! Written by hand, as it is one request line and one status line. With hyper's client the connection must be driven
//! beside the request, and its errors hide the `io::ErrorKind` that a check reports.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::model::StatusRange;

/// Maximum length of a status line; real ones are far shorter.
const MAX_STATUS_LENGTH: usize = 1024;

/// An HTTP health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// Whether to use TLS.
    pub tls: bool,
    /// The path and query that are requested.
    pub path: String,
    /// The statuses that pass.
    pub matcher: StatusRange,
}

/// Sends the request; `Ok` when the status matches. The body is not read.
pub(super) async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    host: SocketAddr,
    question: &HttpCheck,
) -> io::Result<()> {
    // The host is the load balancer node's address and port, the user agent its name, as in logs of real targets.
    let text = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n",
        question.path
    );
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < MAX_STATUS_LENGTH {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    let status = std::str::from_utf8(line.get(..12).unwrap_or_default())
        .ok()
        .and_then(|start| start.strip_prefix("HTTP/1.1 ").or_else(|| start.strip_prefix("HTTP/1.0 ")))
        .and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(status) if question.matcher.contains(status) => Ok(()),
        Some(status) => Err(io::Error::other(format!("the status is {status}"))),
        None => Err(io::Error::other("the answer is no HTTP/1")),
    }
}

/// TLS as used by the load balancer's checks: version 1.2, so targets with 1.3 only fail, and any certificate is
/// accepted (*Health checks*; *Target groups*: certificates of targets are not validated).
pub(super) fn connector() -> TlsConnector {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .expect("the provider has TLS 1.2")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider)))
            .with_no_client_auth();
        Arc::new(config)
    });
    TlsConnector::from(Arc::clone(config))
}

/// Accepts any certificate whose private key the server has.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
