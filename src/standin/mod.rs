//! Stand-ins for what lies behind the load balancer: MongoDB nodes and an App Services backend.
//!
//! They make the quickstart and the tests self-contained. They say what they are in whatever they report, answer what
//! they can't do with MongoDB's own errors, keep nothing on disk, and know no users: whoever reaches one may use it.
//! Every config can name real servers instead; nothing but the wiring and the command line reads this room.

pub mod app;
pub mod mongo;
mod server;

use std::io;
use std::net::SocketAddr;

/// What the stand-ins call themselves.
pub const NAME: &str = "plgw stand-in";

/// Why a stand-in could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StandinError {
    /// Its address is taken, or is not an address of this machine.
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
