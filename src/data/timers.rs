//! Times at which a worker is to do something, for the few things that need one: faults, held clients, pauses. Idle flows
//! have the [`Wheel`](super::idle::Wheel).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tokio::time::Instant;

/// Who is to be called at which time. An entry can't be taken back: whoever is called looks whether there is still
/// something to do.
#[derive(Debug)]
pub(crate) struct Timers<K>(BinaryHeap<Reverse<(Instant, K)>>);

impl<K: Ord> Timers<K> {
    pub(crate) fn new() -> Self {
        Self(BinaryHeap::new())
    }

    /// Calls `who` at `at`.
    pub(crate) fn set(&mut self, at: Instant, who: K) {
        self.0.push(Reverse((at, who)));
    }

    /// How long it is until somebody is to be called; `None`: nobody is.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.0.peek().map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()))
    }

    /// One whose time has come by `now`, with that time.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(Instant, K)> {
        self.0.peek().is_some_and(|Reverse((at, _))| *at <= now).then(|| self.0.pop()).flatten().map(|Reverse(due)| due)
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
        assert_eq!(std::iter::from_fn(|| timers.due(now)).map(|(_, who)| who).collect::<Vec<_>>(), [10, 20]);
        assert!(!timers.is_empty());
    }
}
