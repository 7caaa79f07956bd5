//! A timer wheel with one-tick slots, which finds idle flows without a timer per flow or per read.
//!
//! A flow is visited when its slot expires; if its deadline has moved, it is rescheduled. So a busy flow costs one
//! visit per time-out, and nothing per read.

/// Number of slots. A later deadline is reached in several steps.
const SLOTS: u32 = 512;

/// Keys by the tick at which they are visited.
#[derive(Debug)]
pub(crate) struct TimerWheel<K> {
    slots: Vec<Vec<K>>,
    /// The current tick.
    now: u32,
}

impl<K> TimerWheel<K> {
    /// Creates a wheel whose current tick is `now`.
    pub(crate) fn new(now: u32) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), now }
    }

    /// Schedules a visit of `key` at `deadline`, or earlier if that is beyond the wheel. Never before the next tick.
    pub(crate) fn schedule(&mut self, key: K, deadline: u32) {
        let at = deadline.clamp(self.now + 1, self.now + SLOTS - 1);
        self.slots[(at % SLOTS) as usize].push(key);
    }

    /// Advances to `now` and visits the keys that are due. `visit` returns the key's next deadline, or `None` to remove
    /// it.
    pub(crate) fn advance(&mut self, now: u32, mut visit: impl FnMut(&K) -> Option<u32>) {
        while self.now < now {
            self.now += 1;
            let due = std::mem::take(&mut self.slots[(self.now % SLOTS) as usize]);
            for key in due {
                if let Some(deadline) = visit(&key) {
                    self.schedule(key, deadline);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visited_at_its_deadline_and_not_before() {
        let mut wheel = TimerWheel::new(100);
        wheel.schedule('a', 103);
        for now in 101..103 {
            wheel.advance(now, |key| panic!("{key} at {now}"));
        }
        let mut seen = Vec::new();
        wheel.advance(103, |key| {
            seen.push(*key);
            None
        });
        assert_eq!(seen, ['a']);
    }

    #[test]
    fn a_deadline_beyond_the_wheel_is_reached_in_steps() {
        let mut wheel = TimerWheel::new(0);
        wheel.schedule((), 6000);
        let mut fired = None;
        for now in 1..=6100 {
            wheel.advance(now, |()| {
                if now >= 6000 {
                    fired = fired.or(Some(now));
                    None
                } else {
                    Some(6000)
                }
            });
        }
        assert_eq!(fired, Some(6000));
    }

    #[test]
    fn turning_several_ticks_at_once_leaves_out_no_key() {
        let mut wheel = TimerWheel::new(0);
        for deadline in 1..=600 {
            wheel.schedule(deadline, deadline);
        }
        let mut seen = 0;
        wheel.advance(700, |deadline| {
            if *deadline > 600 {
                None
            } else {
                seen += 1;
                None
            }
        });
        assert_eq!(seen, 600);
    }
}
