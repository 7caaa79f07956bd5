//! What can go wrong with DNS.

use std::io;
use std::net::SocketAddr;

use crate::model::VpcId;

/// Why DNS does not run, or cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// An address could not be bound.
    #[error("cannot bind DNS to {address} ({transport}); `{key}` sets the address")]
    Bind {
        /// Where to.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// The key or flag that sets the address.
        key: String,
        /// Why.
        source: io::Error,
    },
    /// Questions would go round for ever.
    #[error("cannot forward names to {0}: DNS itself listens there; name another resolver")]
    ForwardsToItself(SocketAddr),
    /// A socket or its task ended while it should run.
    #[error("DNS stopped on {address} ({transport})")]
    Stopped {
        /// Which socket.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There is no such VPC.
    #[error("cannot export names as `{wanted}` sees them: there is no such VPC; there is {known}")]
    UnknownVpc {
        /// The VPC that was asked for.
        wanted: VpcId,
        /// Those that there are.
        known: String,
    },
}
