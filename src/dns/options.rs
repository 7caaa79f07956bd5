//! The DNS server's settings.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::CidrSet;

/// Settings of the answers, apart from the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsOptions {
    /// How long a record may be cached: 60 s, as Atlas' and `vpce` names have it.
    pub ttl: Duration,
    /// How long a negative answer may be cached: 900 s, Route 53's SOA TTL. Resolvers take the lesser of it
    /// and the SOA's own minimum, 86,400 s (RFC 2308 §5).
    pub negative_ttl: Duration,
    /// Upstream resolvers for names outside the zones, asked in this order for clients of a VPC. Empty: such names do not
    /// exist for them.
    pub forward: Vec<SocketAddr>,
    /// The sources that get the public names, besides the VPCs.
    pub public_clients: CidrSet,
}

impl Default for DnsOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(900),
            forward: Vec::new(),
            public_clients: CidrSet::default(),
        }
    }
}

impl DnsOptions {
    /// Seconds of `ttl` as a record has them.
    pub(super) fn ttl_seconds(&self) -> u32 {
        seconds(self.ttl)
    }

    /// Seconds of `negative_ttl` as a record has them.
    pub(super) fn negative_ttl_seconds(&self) -> u32 {
        seconds(self.negative_ttl)
    }
}

/// Whole seconds, at most 2³¹ − 1: a TTL with the top bit set counts as zero (RFC 2181 §8).
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs())
}
