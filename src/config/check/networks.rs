//! A map of networks with efficient overlap queries.

use std::collections::BTreeMap;

use ipnet::IpNet;

/// Networks with values; of equal ones the first is kept.
#[derive(Debug)]
pub(super) struct NetworkMap<T>(BTreeMap<IpNet, T>);

impl<T> Default for NetworkMap<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> NetworkMap<T> {
    /// Adds a network without host bits.
    pub(super) fn insert(&mut self, network: IpNet, value: T) {
        self.0.entry(network).or_insert(value);
    }

    /// The value of the widest network that contains `network`.
    pub(super) fn enclosing(&self, network: IpNet) -> Option<&T> {
        let wider = |length| IpNet::new(network.addr(), length).map(|wider| wider.trunc()).ok();
        (0..=network.prefix_len()).filter_map(wider).find_map(|wider| self.0.get(&wider))
    }

    /// The value of a network that overlaps `network`: of two such networks, one contains the other.
    pub(super) fn overlapping(&self, network: IpNet) -> Option<&T> {
        // Contained networks follow directly in the order of addresses.
        let inside = || self.0.range(network..).next().filter(|(found, _)| network.contains(*found));
        self.enclosing(network).or_else(|| inside().map(|(_, value)| value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_network_that_overlaps_is_found_where_there_is_one(
            networks in proptest::collection::vec((0..64_u32, 26..=32_u8), 0..12),
            (start, length) in (0..64_u32, 24..=32_u8),
        ) {
            let network = |start: u32, length| IpNet::new((0x0a00_0000 + start).to_be_bytes().into(), length).expect("short").trunc();
            let networks: Vec<IpNet> = networks.into_iter().map(|(start, length)| network(start, length)).collect();
            let wanted = network(start, length);
            let mut map = NetworkMap::default();
            networks.iter().for_each(|network| map.insert(*network, *network));
            let overlaps = |other: &IpNet| other.contains(&wanted) || wanted.contains(other);
            prop_assert_eq!(map.overlapping(wanted).is_some(), networks.iter().any(overlaps));
            prop_assert!(map.overlapping(wanted).is_none_or(overlaps));
            prop_assert_eq!(map.enclosing(wanted).is_some(), networks.iter().any(|other| other.contains(&wanted)));
        }
    }
}
