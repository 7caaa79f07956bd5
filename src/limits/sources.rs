//! Counts and limits the open connections of each source.

use std::net::IpAddr;

use dashmap::DashMap;

/// Prefix length by which IPv6 addresses are counted, as a host may use every address of its subnet.
pub(super) const IPV6_PREFIX: u32 = 64;

/// The source that an address is counted for: an IPv4 address or an IPv6 prefix.
pub(crate) fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() >> IPV6_PREFIX << IPV6_PREFIX).into(),
    }
}

/// Counts by source.
#[derive(Debug)]
pub(crate) struct SourceCounts {
    limit: usize,
    open: DashMap<IpAddr, usize>,
}

impl SourceCounts {
    /// Creates counters with a limit of `limit` per source.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, open: DashMap::new() }
    }

    /// Whether `source` is below the limit.
    pub(crate) fn has_capacity(&self, source: IpAddr) -> bool {
        self.open.get(&source_of(source)).is_none_or(|open| *open < self.limit)
    }

    /// Adds a connection.
    pub(crate) fn add(&self, source: IpAddr) {
        *self.open.entry(source_of(source)).or_default() += 1;
    }

    /// Removes a connection, and the entry of a source without any.
    pub(crate) fn remove(&self, source: IpAddr) {
        if let dashmap::Entry::Occupied(mut open) = self.open.entry(source_of(source)) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_and_is_forgotten_with_its_last() {
        let (counts, source, other) = (SourceCounts::new(2), IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        counts.add(source);
        assert!(counts.has_capacity(source));
        counts.add(source);
        assert!(!counts.has_capacity(source) && counts.has_capacity(other));
        counts.remove(source);
        assert!(counts.has_capacity(source));
        counts.remove(source);
        assert!(counts.open.is_empty());
    }

    #[test]
    fn all_addresses_of_one_ipv6_subnet_are_one_source() {
        let ip = |text: &str| text.parse::<IpAddr>().expect(text);
        let counts = SourceCounts::new(2);
        counts.add(ip("2001:db8:a:30::a"));
        counts.add(ip("2001:db8:a:30:ffff::b"));
        assert!(!counts.has_capacity(ip("2001:db8:a:30::c")) && counts.has_capacity(ip("2001:db8:a:31::a")));
        counts.remove(ip("2001:db8:a:30::a"));
        assert!(counts.has_capacity(ip("2001:db8:a:30::c")));
        assert_eq!(source_of(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    }
}
