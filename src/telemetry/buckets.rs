//! Histogram buckets.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

/// Connect times and other durations without specific buckets, in seconds: 100 µs × 2.5ⁿ up to 10 s, from loopback to a
/// client's time-out.
pub(super) const LATENCY_SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.000625, 0.0016, 0.004, 0.01, 0.025, 0.0625, 0.16, 0.4, 1.0, 2.5, 6.25, 10.0];

/// Flow durations in seconds. 350 s, the default idle time-out, is a bound, so that idle expiry is visible; 6000 s is
/// the longest idle time-out.
pub(super) const FLOW_SECONDS: [f64; 10] = [0.01, 0.1, 1.0, 10.0, 60.0, 120.0, 350.0, 600.0, 3600.0, 6000.0];

/// Bytes per flow: 64 B, a health check, × 4ⁿ up to 1 GiB, a dump.
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

/// DNS response times in seconds: 50 µs from the snapshot, to 50 ms from an upstream resolver.
pub(super) const DNS_SECONDS: [f64; 10] = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05];

/// Configures the buckets of every histogram by its name.
pub(super) fn configure(builder: PrometheusBuilder) -> PrometheusBuilder {
    let by_name = [
        (Matcher::Suffix("flow_duration_seconds".to_owned()), &FLOW_SECONDS[..]),
        (Matcher::Suffix("flow_bytes".to_owned()), &FLOW_BYTES),
        (Matcher::Prefix("plgw_dns_".to_owned()), &DNS_SECONDS),
    ];
    let builder = builder.set_buckets(&LATENCY_SECONDS);
    let builder =
        by_name.into_iter().fold(builder, |builder, (name, bounds)| builder?.set_buckets_for_metric(name, bounds));
    builder.expect("no list of bounds is empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_of_bounds_ascends() {
        for bounds in [&LATENCY_SECONDS[..], &FLOW_SECONDS, &FLOW_BYTES, &DNS_SECONDS] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
