//! A log-linear histogram: 64 buckets to every power of two, so a value is off by at most 1.6 %.

const BUCKETS_PER_DOUBLING: u64 = 64;
const SHIFT: u32 = BUCKETS_PER_DOUBLING.trailing_zeros();

/// Counts of nanoseconds.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; (64 * BUCKETS_PER_DOUBLING) as usize], total: 0 }
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
        self.total += 1;
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The value that `share` of all values are at or below, in microseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(at) as f64 / 1e3;
            }
        }
        0.0
    }
}

fn bucket(value: u64) -> usize {
    if value < BUCKETS_PER_DOUBLING {
        return value as usize;
    }
    let doublings = u64::from(63 - value.leading_zeros() - SHIFT);
    (doublings * BUCKETS_PER_DOUBLING + (value >> doublings)) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * BUCKETS_PER_DOUBLING {
        return bucket;
    }
    let doublings = bucket / BUCKETS_PER_DOUBLING - 1;
    let mantissa = bucket - doublings * BUCKETS_PER_DOUBLING;
    ((mantissa + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_values_and_is_narrow() {
        for value in (0..200_000).chain([u64::from(u32::MAX), 1 << 40, u64::MAX >> 8]) {
            let top = upper(bucket(value));
            assert!(top >= value && top - value <= value / 32, "{value} is in a bucket up to {top}");
        }
    }
}
