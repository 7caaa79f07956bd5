//! Aggregates refused connections: at most one log line and one event per source and second, with a count, so that a
//! flood of connections does not flood the log.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::sources::{IPV6_PREFIX, source_of};

/// Sources that are counted individually; further ones are counted together.
const MAX_SOURCES: usize = 1024;

/// The key for grouping refused connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RefusedSource {
    /// The kind of listener: `flows`, `app_services`, `admin`, `metrics`.
    pub(crate) listener: &'static str,
    /// The source of the connections, of IPv6 its /64; `None`: many sources.
    pub(crate) source: Option<IpAddr>,
    /// Why they were refused.
    pub(crate) reason: &'static str,
}

impl RefusedSource {
    /// The source as text.
    pub(crate) fn name(&self) -> String {
        match self.source {
            Some(source @ IpAddr::V4(_)) => source.to_string(),
            Some(source @ IpAddr::V6(_)) => format!("{source}/{IPV6_PREFIX}"),
            None => "many sources".to_owned(),
        }
    }
}

/// The refused connections of one group in a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RefusedCount {
    /// The target or app endpoint of the first one. Empty for listeners without targets.
    pub(crate) subject: String,
    /// Whether others were for another target or app endpoint.
    pub(crate) has_others: bool,
    /// Number of connections.
    pub(crate) count: u64,
}

impl RefusedCount {
    fn add(&mut self, subject: &str) {
        if self.count == 0 {
            subject.clone_into(&mut self.subject);
        } else {
            self.has_others |= self.subject != subject;
        }
        self.count += 1;
    }
}

/// The refusals of the current second, of all listeners of a gateway.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<RefusedSource, RefusedCount>>);

impl Refusals {
    /// Counts a refused connection to `subject`. Returns true for the source's first one, which the caller logs at once
    /// in full.
    pub(crate) fn is_first(&self, listener: &'static str, source: IpAddr, reason: &'static str, subject: &str) -> bool {
        let mut counts = self.lock();
        let of = RefusedSource { listener, source: Some(source_of(source)), reason };
        if let Some(counted) = counts.get_mut(&of) {
            counted.add(subject);
            return false;
        }
        let is_room = counts.len() < MAX_SOURCES;
        let of = if is_room { of } else { RefusedSource { source: None, ..of } };
        counts.entry(of).or_default().add(subject);
        is_room
    }

    /// Takes the counts since the last call; to be called once a second. They include first refusals, which were
    /// already logged.
    pub(crate) fn take(&self) -> Vec<(RefusedSource, RefusedCount)> {
        let mut counts = self.lock();
        // Entries with a count of 0 were kept for one more second, so that an ongoing source is not logged as a first
        // one.
        counts.retain(|_, counted| counted.count > 0);
        let mut taken: Vec<_> = counts.iter_mut().map(|(of, counted)| (*of, std::mem::take(counted))).collect();
        drop(counts);
        taken.sort_unstable();
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RefusedSource, RefusedCount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    fn is_first(refusals: &Refusals, listener: &'static str, n: u32, subject: &str) -> bool {
        refusals.is_first(listener, source(n), "one_way", subject)
    }

    #[test]
    fn a_flood_of_one_source_is_one_line_at_once_and_one_count_a_second() {
        let refusals = Refusals::default();
        let at_once = (0..1000).filter(|_| is_first(&refusals, "flows", 1, "a")).count();
        assert_eq!(at_once, 1);
        assert!(is_first(&refusals, "flows", 2, "a"), "another source has its own");
        assert!(is_first(&refusals, "admin", 1, ""), "as another listener has");
        let counts: Vec<_> = refusals.take().into_iter().map(|(_, refused)| refused.count).collect();
        assert_eq!(counts, [1, 1000, 1]);
        assert!(!is_first(&refusals, "flows", 1, "a"), "it goes on");
        assert_eq!(refusals.take().into_iter().map(|(_, refused)| refused.count).sum::<u64>(), 1);
        assert!(refusals.take().is_empty());
        assert!(is_first(&refusals, "flows", 1, "a"), "it begins again");
    }

    #[test]
    fn addresses_of_one_ipv6_subnet_are_one_source() {
        let refusals = Refusals::default();
        let refused = |text: &str| refusals.is_first("flows", text.parse().expect("an address"), "one_way", "a");
        assert!(refused("2001:db8:1:2::1") && !refused("2001:db8:1:2:ffff::9") && refused("2001:db8:1:3::1"));
        let names: Vec<_> = refusals.take().into_iter().map(|(of, refused)| (of.name(), refused.count)).collect();
        assert_eq!(names, [("2001:db8:1:2::/64".to_owned(), 2), ("2001:db8:1:3::/64".to_owned(), 1)]);
    }

    #[test]
    fn a_count_names_the_first_target_of_its_second_and_mentions_the_others() {
        let refusals = Refusals::default();
        let second = |subjects: &[&str]| {
            for subject in subjects {
                is_first(&refusals, "flows", 1, subject);
            }
            let (_, taken) = refusals.take().pop().expect("a count");
            (taken.subject, taken.has_others, taken.count)
        };
        assert_eq!(second(&["a", "a"]), ("a".to_owned(), false, 2));
        assert_eq!(second(&["b", "a", "b"]), ("b".to_owned(), true, 3));
        assert_eq!(second(&["c"]), ("c".to_owned(), false, 1));
    }

    #[test]
    fn many_sources_take_no_more_memory_than_some() {
        let refusals = Refusals::default();
        let at_once = (0..100_000).filter(|n| is_first(&refusals, "flows", *n, "a")).count();
        assert_eq!(at_once, MAX_SOURCES);
        let taken = refusals.take();
        assert_eq!(taken.len(), MAX_SOURCES + 1);
        assert_eq!(taken.iter().map(|(_, refused)| refused.count).sum::<u64>(), 100_000);
        assert_eq!(taken[0].0.source, None);
    }
}
