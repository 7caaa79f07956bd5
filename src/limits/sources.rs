//! How much each source has open, and may have.

use std::net::IpAddr;

use dashmap::DashMap;

/// Counts by source address.
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
        self.open.get(&source).is_none_or(|open| *open < self.most)
    }

    /// Counts one more.
    pub(crate) fn add(&self, source: IpAddr) {
        *self.open.entry(source).or_default() += 1;
    }

    /// Counts one less; a source without any is forgotten.
    pub(crate) fn remove(&self, source: IpAddr) {
        if let dashmap::Entry::Occupied(mut open) = self.open.entry(source) {
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
}
