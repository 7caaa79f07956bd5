//! Histograms: which buckets each has, and how values are counted into them.
//!
//! A value is counted into its bucket at once, so nothing is kept of it and nothing is left to be folded later: a histogram
//! into which nobody records costs no work at all.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::HistogramFn;

/// Seconds until a target answered, and every duration without buckets of its own: 100 µs × 2.5ⁿ up to 10 s. Below lies
/// the loopback, above a client has given up.
pub(super) const LATENCY_SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.000625, 0.0016, 0.004, 0.01, 0.025, 0.0625, 0.16, 0.4, 1.0, 2.5, 6.25, 10.0];

/// Seconds that flows last. 350 s is an edge, so that idle expiry shows; 6000 s is the longest idle timeout.
pub(super) const FLOW_SECONDS: [f64; 10] = [0.01, 0.1, 1.0, 10.0, 60.0, 120.0, 350.0, 600.0, 3600.0, 6000.0];

/// Bytes of one flow: 64 B, a health check, × 4ⁿ up to 1 GiB, a dump.
pub(super) const FLOW_BYTES: [f64; 13] = [
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];

/// Seconds until a DNS answer: 50 µs, from the snapshot, to 50 ms, from an upstream resolver.
pub(super) const DNS_SECONDS: [f64; 10] = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05];

/// The upper bounds of a histogram's buckets, by its name.
pub(super) fn bounds(name: &str) -> &'static [f64] {
    if name.ends_with("flow_duration_seconds") {
        &FLOW_SECONDS
    } else if name.ends_with("flow_bytes") {
        &FLOW_BYTES
    } else if name.starts_with("plgw_dns_") {
        &DNS_SECONDS
    } else {
        &LATENCY_SECONDS
    }
}

/// One histogram. Recorded into from any thread without a lock.
#[derive(Debug)]
pub(super) struct Buckets {
    bounds: &'static [f64],
    /// How many values lie in each bucket and in none below; the last is what lies above every bound.
    counts: Box<[AtomicU64]>,
    /// The sum of all values, an `f64`'s bits.
    sum: AtomicU64,
}

impl Buckets {
    /// Empty buckets up to each of `bounds`, which ascend, and one for the rest.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Every bound with the number of values up to it, and the number of all values.
    pub(super) fn cumulative(&self) -> (impl Iterator<Item = (f64, u64)>, u64) {
        let mut total = 0;
        let up_to: Vec<_> = self
            .counts
            .iter()
            .map(|count| {
                total += count.load(Ordering::Relaxed);
                total
            })
            .collect();
        // Without its last, which has no bound.
        (self.bounds.iter().copied().zip(up_to), total)
    }

    /// The sum of all values.
    pub(super) fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_bucket_whose_bound_it_reaches() {
        let buckets = Buckets::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 2.0, 7.0] {
            buckets.record(value);
        }
        let (cumulative, total) = buckets.cumulative();
        assert_eq!(cumulative.collect::<Vec<_>>(), [(1.0, 2), (2.0, 4)]);
        assert_eq!((total, buckets.sum()), (5, 12.0));
    }

    #[test]
    fn every_list_of_bounds_ascends() {
        for bounds in [&LATENCY_SECONDS[..], &FLOW_SECONDS, &FLOW_BYTES, &DNS_SECONDS] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
