//! A certificate with its key, and rustls configurations made from it.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::TlsError;
use crate::files;

const CHAIN: &str = "certificates in PEM form";

/// A certificate chain with the private key of its first certificate.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pem: String,
}

impl Identity {
    pub(super) fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>, pem: String) -> Self {
        Self { chain, key, pem }
    }

    /// The certificate chain, the end-entity certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Certificate and key in PEM form. Contains the private key.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Reads an identity from two PEM files: a chain with the end-entity certificate first, and its key.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when a file cannot be read or has unexpected content, or when the key does not match the
    /// certificate.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let text = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::File { what: "read", path: path.to_owned(), source })
        };
        let wrong = |path: &Path, expected, reason: String| TlsError::Unfit { path: path.to_owned(), expected, reason };
        let pem = text(certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(|error| wrong(certificate, CHAIN, error.to_string()))?;
        if chain.is_empty() {
            return Err(wrong(certificate, CHAIN, "it contains none".to_owned()));
        }
        let key_pem =
            files::read_private(key).map_err(|source| TlsError::File { what: "read", path: key.to_owned(), source })?;
        let private = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|error| wrong(key, "private key in PEM form", error.to_string()))?;
        let both = [pem.as_slice(), b"\n", key_pem.as_slice()].concat();
        let identity = Self::new(chain, private, String::from_utf8_lossy(&both).into_owned());
        identity.certified_key().map_err(|error| {
            wrong(
                key,
                "private key of that certificate",
                format!("{} goes with another: {error}", certificate.display()),
            )
        })?;
        Ok(identity)
    }

    /// Certificate and key for a certificate resolver, checked to match.
    ///
    /// # Errors
    ///
    /// [`TlsError::Config`] when rustls rejects the key, or it does not match the certificate.
    pub fn certified_key(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let key = CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider())?;
        Ok(Arc::new(key))
    }

    /// A server configuration with this identity: TLS 1.2 and 1.3, no client authentication.
    ///
    /// `alpn` lists the supported protocols, most preferred first; if empty, ALPN is not negotiated, as on a MongoDB
    /// port.
    ///
    /// # Errors
    ///
    /// [`TlsError::Config`] when rustls rejects the certificate or its key.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// A client configuration that trusts only `ca`.
///
/// # Errors
///
/// [`TlsError::Config`] when rustls rejects the certificate.
pub fn client_config(ca: &CertificateDer<'static>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The cryptography provider of every configuration.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
