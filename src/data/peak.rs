//! Peak throughput as in CloudWatch: the highest average over 10 s.
//!
//! NLB's PeakBytesPerSecond is the highest 10 s average within a period of 60 s. Scrape intervals vary, so the averages
//! are sampled independently, and the gauge is the highest of the last six.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// The length of one average.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// Number of averages that are kept: 60 s, a CloudWatch period.
const WINDOWS: usize = 6;

/// An endpoint's id, or `public`, and a zone.
type EndpointZone = (String, String);

/// The latest averages by endpoint and zone.
#[derive(Debug, Default)]
pub(crate) struct Peaks {
    taken: Option<Instant>,
    peaks: BTreeMap<EndpointZone, Peak>,
}

#[derive(Debug, Default)]
struct Peak {
    carried: u64,
    averages: VecDeque<u64>,
}

impl Peaks {
    /// Adds a sample of the bytes `carried` since the start, taken at `now`, and returns all peaks. A new endpoint
    /// starts from 0 bytes.
    pub(crate) fn sample(&mut self, carried: BTreeMap<EndpointZone, u64>, now: Instant) -> Vec<(EndpointZone, u64)> {
        let since = self.taken.replace(now).map(|before| now.duration_since(before)).unwrap_or(WINDOW);
        let millis = since.as_millis().max(1);
        self.peaks.retain(|key, _| carried.contains_key(key));
        let mut peaks = Vec::with_capacity(carried.len());
        for (key, carried) in carried {
            let peak = self.peaks.entry(key.clone()).or_default();
            let moved = carried.saturating_sub(peak.carried);
            peak.carried = carried;
            let average = u128::from(moved) * 1000 / millis;
            peak.averages.push_back(u64::try_from(average).unwrap_or(u64::MAX));
            if peak.averages.len() > WINDOWS {
                peak.averages.pop_front();
            }
            peaks.push((key, peak.averages.iter().copied().max().unwrap_or(0)));
        }
        peaks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_shows_for_a_minute_and_then_expires() {
        let mut peaks = Peaks::default();
        let start = Instant::now();
        let key = ("vpce-1".to_owned(), "us-east-1a".to_owned());
        let mut seen = Vec::new();
        for n in 0..9_u32 {
            // 10 MB in the second window, 1 MB before it.
            let carried = if n == 0 { 1_000_000 } else { 11_000_000 };
            let peak = peaks.sample([(key.clone(), carried)].into(), start + WINDOW * n);
            seen.push(peak[0].1);
        }
        assert_eq!(seen, [100_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 0, 0]);
    }

    #[test]
    fn removed_entries_are_forgotten() {
        let mut peaks = Peaks::default();
        let now = Instant::now();
        peaks.sample([(("a".to_owned(), "z".to_owned()), 5)].into(), now);
        assert!(peaks.sample(BTreeMap::new(), now + WINDOW).is_empty());
        assert!(peaks.peaks.is_empty());
    }
}
