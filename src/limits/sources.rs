//! How much each source has open, and may have.

use std::net::IpAddr;

use dashmap::DashMap;

/// Bits that one host's IPv6 addresses share: it may have every address of its subnet, so they count together.
const IPV6_PREFIX: u32 = 64;

/// The source that an address counts for.
pub(crate) fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() >> IPV6_PREFIX << IPV6_PREFIX).into(),
    }
}

/// Counts by source.
#[derive(Debug)]
pub(crate) struct SourceCounts {
    most: usize,
    open: DashMap<IpAddr, usize>,
}

impl SourceCounts {
    /// Counts of which none passes `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, open: DashMap::new() }
    }

    /// Whether `source` may have one more.
    pub(crate) fn has_room(&self, source: IpAddr) -> bool {
        self.open.get(&source_of(source)).is_none_or(|open| *open < self.most)
    }

    /// Counts one more.
    pub(crate) fn add(&self, source: IpAddr) {
        *self.open.entry(source_of(source)).or_default() += 1;
    }

    /// Counts one less; a source without any is forgotten.
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
        assert!(counts.has_room(source));
        counts.add(source);
        assert!(!counts.has_room(source) && counts.has_room(other));
        counts.remove(source);
        assert!(counts.has_room(source));
        counts.remove(source);
        assert!(counts.open.is_empty());
    }

    #[test]
    fn all_addresses_of_one_ipv6_subnet_are_one_source() {
        let ip = |text: &str| text.parse::<IpAddr>().expect(text);
        let counts = SourceCounts::new(2);
        counts.add(ip("2001:db8:a:30::a"));
        counts.add(ip("2001:db8:a:30:ffff::b"));
        assert!(!counts.has_room(ip("2001:db8:a:30::c")) && counts.has_room(ip("2001:db8:a:31::a")));
        counts.remove(ip("2001:db8:a:30::a"));
        assert!(counts.has_room(ip("2001:db8:a:30::c")));
        assert_eq!(source_of(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    }
}
