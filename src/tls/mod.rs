//! The lab's certificate authority, the certificates it issues, and rustls configurations made from them.
//!
//! No process-wide default is installed: every configuration names its cryptography provider.

mod error;
pub mod identity;
mod lab_ca;

pub use error::TlsError;
pub use identity::Identity;
pub use lab_ca::LabCa;
