//! Owns the desired state and what must outlive the process.
//!
//! [`store`] keeps what is acknowledged through any crash; [`health`] probes targets and says what changed.

pub mod health;
pub mod store;
