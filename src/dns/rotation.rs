//! The order of several records.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Question;

/// Enough that two names that a client queries alternately rarely share a counter.
const COUNTERS: usize = 256;

/// Rotation counters by question.
///
/// A single counter would not suffice: a client that always queries A and then AAAA, or one name and then another,
/// would advance it by two, and get the same one of two addresses first every time.
#[derive(Debug)]
pub(super) struct Rotation([AtomicU64; COUNTERS]);

impl Rotation {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// The rotation for this question, incremented with every call.
    pub(super) fn next(&self, question: &Question<'_>) -> u64 {
        // FNV-1a: simple, and spreads names well enough over counters.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = question.name.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        let hash = step(hash, question.kind as u8);
        let index = usize::try_from(hash % COUNTERS as u64).expect("less than COUNTERS");
        self.0[index].fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::QueryType;
    use super::*;

    #[test]
    fn a_client_that_asks_for_both_families_gets_every_rotation() {
        let rotation = Rotation::new();
        let a = Question { name: "pl-0-us-east-1-k45tj.mongodb.net", kind: QueryType::A };
        let aaaa = Question { kind: QueryType::Aaaa, ..a };
        let turns: Vec<_> = (0..4).map(|_| (rotation.next(&a), rotation.next(&aaaa)).0 % 2).collect();
        assert_eq!(turns, [0, 1, 0, 1]);
    }
}
