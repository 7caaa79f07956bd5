//! What can go wrong with certificates.

use std::io;
use std::path::PathBuf;

/// Why a certificate, a key or a configuration of them could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The directory of the lab CA.
    #[error("cannot use the directory {} for the lab CA", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is there but cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A server certificate by the name of one of the CA's files.
    #[error("cannot write a server certificate to {}: that is the lab CA's own file; give it another name", path.display())]
    Reserved {
        /// The file.
        path: PathBuf,
    },
    /// One of the two files is there, the other is not.
    #[error(
        "the lab CA in {} has {present} but no {missing}; put {missing} back, or delete {present} for a new CA",
        dir.display()
    )]
    Half {
        /// The directory.
        dir: PathBuf,
        /// The file that is there.
        present: &'static str,
        /// The file that is not.
        missing: &'static str,
    },
    /// A file that holds something else than expected.
    #[error("{} holds no {expected}: {reason}; put the right file back, or delete ca.pem and ca-key.pem for a new CA", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong, by the library that read it.
        reason: String,
    },
    /// A server's own file that holds something else than expected.
    #[error("{} holds no {expected}: {reason}", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong, by the library that read it.
        reason: String,
    },
    /// Certificate and key do not belong together.
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
    /// The CA's time has run out.
    #[error("the lab CA {} expired on {expired}; delete ca.pem and ca-key.pem for a new one", path.display())]
    Expired {
        /// The certificate.
        path: PathBuf,
        /// When.
        expired: String,
    },
    /// Making or signing a certificate.
    #[error("cannot make a certificate for {subject}")]
    Sign {
        /// For whom.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A configuration that rustls refuses.
    #[error("cannot make a TLS configuration")]
    Config(#[from] rustls::Error),
}
