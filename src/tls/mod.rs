//! The lab's certificate authority, the certificates it signs, and rustls configurations made of them.
//!
//! Nothing here is installed process-wide: every configuration names its cryptography provider.

mod error;
pub mod identity;
mod lab_ca;

pub use error::TlsError;
pub use identity::Identity;
pub use lab_ca::LabCa;
