//! Refused connections in the log: one line a second for a source, with a count. Refusing must not cost more than asking.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Sources that are told apart in a second; the others have one line together.
const MOST_SOURCES: usize = 1024;

/// Those of the process, as its log is.
pub(crate) static REFUSALS: LazyLock<Refusals> = LazyLock::new(Refusals::default);

/// What one line speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RefusedSource {
    /// The kind of listener: `flows`, `app_services`, `admin`, `metrics`, `dns`.
    pub(crate) listener: &'static str,
    /// Where the connections came from; `None`: many places.
    pub(crate) source: Option<IpAddr>,
    /// Why.
    pub(crate) reason: &'static str,
}

/// Refusals of the present second.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<RefusedSource, u64>>);

impl Refusals {
    /// Counts a refusal. Whether it is the source's first in a while, which is logged at once with all that is known of it.
    pub(crate) fn is_first(&self, listener: &'static str, source: IpAddr, reason: &'static str) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = RefusedSource { listener, source: Some(source), reason };
        if let Some(count) = counts.get_mut(&of) {
            *count += 1;
            return false;
        }
        if counts.len() < MOST_SOURCES {
            counts.insert(of, 1);
            return true;
        }
        *counts.entry(RefusedSource { source: None, ..of }).or_default() += 1;
        false
    }

    /// What was refused since the last call, with its number; to be called once a second. A source's first refusal, which
    /// was logged, is part of it.
    pub(crate) fn take(&self) -> Vec<(RefusedSource, u64)> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A source that goes on is not logged at once again.
        counts.retain(|_, count| *count > 0);
        let mut taken: Vec<_> = counts.iter_mut().map(|(of, count)| (*of, std::mem::take(count))).collect();
        taken.sort_unstable();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn a_flood_of_one_source_is_one_line_at_once_and_one_count_a_second() {
        let refusals = Refusals::default();
        let at_once = (0..1000).filter(|_| refusals.is_first("flows", source(1), "one_way")).count();
        assert_eq!(at_once, 1);
        assert!(refusals.is_first("flows", source(2), "one_way"), "another source has its own");
        assert!(refusals.is_first("admin", source(1), "one_way"), "as another listener has");
        let counts: Vec<_> = refusals.take().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 1000, 1]);
        assert!(!refusals.is_first("flows", source(1), "one_way"), "it goes on");
        assert_eq!(refusals.take().into_iter().map(|(_, count)| count).sum::<u64>(), 1);
        assert!(refusals.take().is_empty());
        assert!(refusals.is_first("flows", source(1), "one_way"), "it begins again");
    }

    #[test]
    fn many_sources_take_no_more_memory_than_some() {
        let refusals = Refusals::default();
        let at_once = (0..100_000).filter(|n| refusals.is_first("flows", source(*n), "one_way")).count();
        assert_eq!(at_once, MOST_SOURCES);
        let taken = refusals.take();
        assert_eq!(taken.len(), MOST_SOURCES + 1);
        assert_eq!(taken.iter().map(|(_, count)| count).sum::<u64>(), 100_000);
        assert_eq!(taken[0].0.source, None);
    }
}
