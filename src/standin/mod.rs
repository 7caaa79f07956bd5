//! Stand-ins for the servers behind the load balancer: MongoDB nodes and an App Services backend.
//!
//! They make the quickstart and the tests self-contained. They identify themselves as stand-ins, answer unsupported
//! requests with MongoDB's own errors, store nothing on disk, and have no users, so any client may use them. A config
//! can name real servers instead; only the wiring and the command line use this module.

pub mod app;
pub mod mongo;
mod server;

use std::io;
use std::net::SocketAddr;

/// The name that the stand-ins report.
pub const NAME: &str = "plgw stand-in";

/// Errors of stand-ins.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StandinError {
    /// Its address is in use, or is not an address of this machine.
    #[error("cannot bind the stand-in {what} to {address}")]
    Bind {
        /// Which stand-in.
        what: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No such node.
    #[error("the stand-in has no node {index}, it has {count}")]
    NoNode {
        /// Which was asked for, from 0.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A set's primary did not step down.
    #[error("the primary of the stand-in set {set} did not step down: {reason}")]
    StepDown {
        /// The set.
        set: String,
        /// Why.
        reason: String,
    },
}
