//! A wheel of one-tick slots that finds silent flows without a timer per flow or per read.
//!
//! A flow is visited when its slot comes up; one whose deadline lies ahead by then is moved to its new slot. So a busy
//! flow costs one visit per time-out, and nothing per read.

/// Slots of the wheel; a deadline further ahead is visited after this many ticks and moved on.
const SLOTS: u32 = 512;

/// Keys by the tick at which they are to be looked at.
#[derive(Debug)]
pub(crate) struct Wheel<K> {
    slots: Vec<Vec<K>>,
    /// The tick that was turned to last.
    now: u32,
}

impl<K> Wheel<K> {
    /// A wheel that stands at `now`.
    pub(crate) fn new(now: u32) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), now }
    }

    /// Looks at `key` at `deadline` or, when that is too far ahead, before. Never before the next turn.
    pub(crate) fn place(&mut self, key: K, deadline: u32) {
        let at = deadline.clamp(self.now + 1, self.now + SLOTS - 1);
        self.slots[(at % SLOTS) as usize].push(key);
    }

    /// Turns to `now`. `visit` gives a key its next deadline, or `None` to let it go.
    pub(crate) fn turn(&mut self, now: u32, mut visit: impl FnMut(&K) -> Option<u32>) {
        while self.now < now {
            self.now += 1;
            let due = std::mem::take(&mut self.slots[(self.now % SLOTS) as usize]);
            for key in due {
                if let Some(deadline) = visit(&key) {
                    self.place(key, deadline);
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
        let mut wheel = Wheel::new(100);
        wheel.place('a', 103);
        for now in 101..103 {
            wheel.turn(now, |key| panic!("{key} at {now}"));
        }
        let mut seen = Vec::new();
        wheel.turn(103, |key| {
            seen.push(*key);
            None
        });
        assert_eq!(seen, ['a']);
    }

    #[test]
    fn a_deadline_beyond_the_wheel_is_reached_in_steps() {
        let mut wheel = Wheel::new(0);
        wheel.place((), 6000);
        let mut fired = None;
        for now in 1..=6100 {
            wheel.turn(now, |()| {
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
        let mut wheel = Wheel::new(0);
        for deadline in 1..=600 {
            wheel.place(deadline, deadline);
        }
        let mut seen = 0;
        wheel.turn(700, |deadline| {
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
