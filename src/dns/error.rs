//! Errors of DNS.

use std::io;
use std::net::SocketAddr;

use hickory_server::net::NetError;

use crate::model::VpcId;

/// Why DNS does not run, or names cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// An address could not be bound.
    #[error("cannot bind DNS to {address} ({transport}); `{key}` sets the address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// The key or flag that sets the address.
        key: String,
        /// The cause.
        source: io::Error,
    },
    /// An upstream resolver is this server itself.
    #[error("cannot forward names to {0}: this DNS server listens there; name another resolver in `dns.forward`")]
    ForwardsToItself(SocketAddr),
    /// The UDP sockets' task ended while it should run.
    #[error("the DNS server's UDP sockets failed")]
    Stopped(#[source] NetError),
    /// There is no such VPC.
    #[error("cannot export names as `{wanted}` sees them: there is no such VPC; there is {known}")]
    UnknownVpc {
        /// The VPC that was asked for.
        wanted: VpcId,
        /// The VPCs that exist.
        known: String,
    },
}
