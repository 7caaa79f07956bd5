//! The DNS server's settings.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::CidrSet;

/// Settings of DNS answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsOptions {
    /// TTL of records: 60 s, as of Atlas' and `vpce` names.
    pub ttl: Duration,
    /// TTL of negative answers: 900 s, that of Route 53's SOA. Resolvers use the lesser of it and the SOA's minimum,
    /// 86,400 s (RFC 2308 §5).
    pub negative_ttl: Duration,
    /// Upstream resolvers for names outside the zones, in order of preference, for clients of a VPC. Empty: such names
    /// do not exist for them.
    pub forward: Vec<SocketAddr>,
    /// The sources that can resolve public names, besides the VPCs.
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
    /// `ttl` in seconds, as in a record.
    pub(super) fn ttl_seconds(&self) -> u32 {
        seconds(self.ttl)
    }

    /// `negative_ttl` in seconds, as in a record.
    pub(super) fn negative_ttl_seconds(&self) -> u32 {
        seconds(self.negative_ttl)
    }
}

/// Whole seconds, at most 2³¹ − 1: a TTL with the top bit set counts as zero (RFC 2181 §8).
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs())
}
