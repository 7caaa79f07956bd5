//! Errors of certificates and keys.

use std::io;
use std::path::PathBuf;

/// Why a certificate, a key or a TLS configuration is not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The lab CA's directory cannot be created, or is not trusted.
    #[error("cannot use the directory {} for the lab CA", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A server certificate has the name of one of the CA's files.
    #[error("cannot write a server certificate to {}: that is the lab CA's own file; give it another name", path.display())]
    Reserved {
        /// The file.
        path: PathBuf,
    },
    /// One of the CA's two files is missing.
    #[error(
        "the lab CA in {} has {present} but no {missing}; put {missing} back, or delete {present} for a new CA",
        dir.display()
    )]
    Half {
        /// The directory.
        dir: PathBuf,
        /// The file that exists.
        present: &'static str,
        /// The file that is missing.
        missing: &'static str,
    },
    /// A file of the CA has unexpected content.
    #[error("{} holds no {expected}: {reason}; put the right file back, or delete ca.pem and ca-key.pem for a new CA", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// The expected content.
        expected: &'static str,
        /// The library's error.
        reason: String,
    },
    /// A server's certificate or key file has unexpected content.
    #[error("{} holds no {expected}: {reason}", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// The expected content.
        expected: &'static str,
        /// The library's error.
        reason: String,
    },
    /// Certificate and key do not match.
    #[error(
        "{} is not the key of {}; put the right one back, or delete both for a new CA",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The CA has expired.
    #[error("the lab CA {} expired on {expired}; delete ca.pem and ca-key.pem for a new one", path.display())]
    Expired {
        /// The certificate.
        path: PathBuf,
        /// When.
        expired: String,
    },
    /// A certificate cannot be created or signed.
    #[error("cannot make a certificate for {subject}")]
    Sign {
        /// The certificate's subject.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// rustls rejects a configuration.
    #[error("cannot make a TLS configuration")]
    Config(#[from] rustls::Error),
}
