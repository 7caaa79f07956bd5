//! Times at which a worker is to do something, for the few things that need one: faults, held clients, PROXY headers that
//! are waited for, pauses. Idle flows have the [`Wheel`](super::idle::Wheel).

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// Longest wait at a time: where the kernel's clock of a wait ends (24 days) nobody needs to know.
const LONGEST: Duration = Duration::from_secs(3600);

/// Who is to be called at which time.
#[derive(Debug)]
pub(crate) struct Timers<K>(BTreeSet<(Instant, K)>);

impl<K: Copy + Ord> Timers<K> {
    pub(crate) fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Calls `who` at `at`.
    pub(crate) fn set(&mut self, at: Instant, who: K) {
        self.0.insert((at, who));
    }

    /// Doesn't call `who` at `at` after all.
    pub(crate) fn take_back(&mut self, at: Instant, who: K) {
        self.0.remove(&(at, who));
    }

    /// How long it is until somebody is to be called, or the times are to be looked at again; `None`: nobody is.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| at.saturating_duration_since(Instant::now()).min(LONGEST))
    }

    /// One whose time has come by `now`.
    pub(crate) fn due(&mut self, now: Instant) -> Option<K> {
        let (at, _) = self.0.first()?;
        if *at <= now { self.0.pop_first().map(|(_, who)| who) } else { None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn everybody_is_called_in_order_and_not_before_the_time() {
        let (mut timers, start) = (Timers::new(), Instant::now());
        for at in [30, 10, 20] {
            timers.set(start + Duration::from_millis(at), at);
        }
        assert!(timers.due(start).is_none());
        assert_eq!(timers.wait(), Some(Duration::from_millis(10)));
        let now = start + Duration::from_millis(20);
        assert_eq!(std::iter::from_fn(|| timers.due(now)).collect::<Vec<_>>(), [10, 20]);
        assert!(!timers.is_empty());
    }

    #[test]
    fn what_is_taken_back_leaves_nothing_behind() {
        let (mut timers, now) = (Timers::new(), Instant::now());
        timers.set(now, 1);
        timers.set(now, 2);
        timers.take_back(now, 1);
        assert_eq!(timers.due(now), Some(2));
        assert!(timers.is_empty());
    }
}
