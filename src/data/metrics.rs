//! The data plane's metrics: handles from the recorder that is passed in, fed from the workers' counts at each scrape.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use tokio::time::Instant;

use super::counters::Series;
use super::shared::Shared;
use crate::model::{FlowEnd, Refusal, TargetId};

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// What is counted, for `# HELP`.
const DESCRIPTIONS: &[(&str, &str)] = &[
    ("plgw_flows_opened_total", "Flows admitted (NLB: NewFlowCount)."),
    ("plgw_flows_closed_total", "Flows ended, by end; opened less closed is what is open."),
    ("plgw_processed_bytes_total", "Payload bytes written, by direction (NLB: ProcessedBytes, which adds headers)."),
    ("plgw_tcp_resets_total", "RSTs passed on from client or target, or made by the gateway (elb)."),
    ("plgw_refused_flows_total", "Connections not let through, by reason."),
    ("plgw_port_allocation_errors_total", "Flows for which no source port was free (NLB: PortAllocationErrorCount)."),
    ("plgw_faulted_flows_total", "Flows that a fault which was asked for befell."),
    (
        "plgw_unhealthy_routing_flows_total",
        "Flows admitted while their group failed open (NLB: UnhealthyRoutingFlowCount).",
    ),
    ("plgw_accept_errors_total", "Failures to accept a connection."),
];

/// Peak throughput: sampled every 10 s, not at a scrape.
const PEAK: &str = "plgw_peak_bytes_per_second";

/// What is noted of each flow once, by target.
const HISTOGRAMS: [(&str, Unit, &str); 3] = [
    ("plgw_connect_duration_seconds", Unit::Seconds, "Time that a target took to accept a new flow's connection."),
    ("plgw_flow_duration_seconds", Unit::Seconds, "How long flows lasted, from admission to end."),
    ("plgw_flow_bytes", Unit::Bytes, "Payload bytes of a flow, both ways."),
];

/// Handles, resolved when their series first shows.
pub(crate) struct DataMetrics {
    recorder: Arc<dyn Recorder + Send + Sync>,
    accept_errors: [Counter; 2],
    handles: Mutex<HashMap<Key, Handle>>,
}

impl fmt::Debug for DataMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataMetrics").finish_non_exhaustive()
    }
}

enum Handle {
    Counter(Counter),
    Gauge(Gauge),
}

impl DataMetrics {
    /// Describes the metrics and registers those without labels of their own.
    pub(crate) fn new(recorder: Arc<dyn Recorder + Send + Sync>) -> Self {
        for (name, text) in DESCRIPTIONS {
            recorder.describe_counter((*name).into(), None, (*text).into());
        }
        recorder.describe_gauge("plgw_active_flows".into(), None, "Flows open now (NLB: ActiveFlowCount).".into());
        let peak = "Highest average of 10 s within the last 60 s (NLB: PeakBytesPerSecond).";
        recorder.describe_gauge(PEAK.into(), None, peak.into());
        for (name, unit, text) in HISTOGRAMS {
            recorder.describe_histogram(name.into(), Some(unit), text.into());
        }
        let accept_errors = ["descriptors", "other"]
            .map(|kind| recorder.register_counter(&key("plgw_accept_errors_total", &[("kind", kind)]), &METADATA));
        Self { recorder, accept_errors, handles: Mutex::default() }
    }

    /// Where is noted how long `target` takes to accept a connection, and how long and how large its flows are.
    pub(crate) fn histograms(&self, target: &TargetId) -> [Histogram; 3] {
        HISTOGRAMS
            .map(|(name, _, _)| self.recorder.register_histogram(&key(name, &[("target", target.as_str())]), &METADATA))
    }

    pub(crate) fn accept_error(&self, error: &io::Error) {
        let scarce = matches!(
            rustix::io::Errno::from_io_error(error),
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
        );
        self.accept_errors[usize::from(!scarce)].increment(1);
    }

    fn set_counter(&self, key: Key, value: u64) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = handles
            .entry(key)
            .or_insert_with_key(|key| Handle::Counter(self.recorder.register_counter(key, &METADATA)));
        if let Handle::Counter(counter) = handle {
            counter.absolute(value);
        }
    }

    fn set_gauge(&self, key: Key, value: u64) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let handle =
            handles.entry(key).or_insert_with_key(|key| Handle::Gauge(self.recorder.register_gauge(key, &METADATA)));
        if let Handle::Gauge(gauge) = handle {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and flows are fewer than 2^52")]
            gauge.set(value as f64);
        }
    }
}

/// Writes the workers' sums into the registry. Called right before a scrape is answered.
pub(crate) fn publish(shared: &Shared) {
    let metrics = &shared.metrics;
    let mut by_address: BTreeMap<(String, String), Vec<Arc<Series>>> = BTreeMap::new();
    for series in shared.all_series() {
        let labels = [
            ("endpoint", series.key.endpoint.as_str()),
            ("zone", series.key.zone.as_str()),
            ("target", series.key.target.as_str()),
        ];
        let with = |label, value| [labels[0], labels[1], labels[2], (label, value)];
        // The ends before the beginnings, so that a flow which ends meanwhile can't be closed but never opened.
        for (at, end) in FlowEnd::LABELS.iter().enumerate() {
            metrics.set_counter(key("plgw_flows_closed_total", &with("end", end)), series.sum(|s| s.closed[at].get()));
        }
        metrics.set_gauge(key("plgw_active_flows", &labels), series.open_flows());
        metrics.set_counter(key("plgw_flows_opened_total", &labels), series.sum(|s| s.opened.get()));
        for (direction, bytes) in
            [("to_target", series.sum(|s| s.to_target.get())), ("to_client", series.sum(|s| s.to_client.get()))]
        {
            metrics.set_counter(key("plgw_processed_bytes_total", &with("direction", direction)), bytes);
        }
        by_address.entry((series.key.endpoint.clone(), series.key.zone.clone())).or_default().push(series);
    }
    for (name, kind, struck) in shared.struck() {
        metrics.set_counter(key("plgw_faulted_flows_total", &[("fault", &name), ("type", kind)]), struck);
    }
    for ((endpoint, zone), all) in by_address {
        let at = [("endpoint", endpoint.as_str()), ("zone", zone.as_str())];
        let with = |label, value| [at[0], at[1], (label, value)];
        let sum = |pick: &dyn Fn(&super::counters::Shard) -> u64| all.iter().map(|series| series.sum(pick)).sum();
        for (origin, resets) in [
            ("client", sum(&|s| s.client_resets.get())),
            ("target", sum(&|s| s.target_resets.get())),
            ("elb", sum(&|s| s.gateway_resets.get())),
        ] {
            metrics.set_counter(key("plgw_tcp_resets_total", &with("origin", origin)), resets);
        }
        for (n, refusal) in Refusal::ALL.iter().enumerate() {
            let key = key("plgw_refused_flows_total", &with("reason", refusal.label()));
            metrics.set_counter(key, sum(&|s| s.refused[n].get()));
        }
        for (name, count) in [
            ("plgw_port_allocation_errors_total", sum(&|s| s.port_allocation_errors.get())),
            ("plgw_unhealthy_routing_flows_total", sum(&|s| s.unhealthy_routing.get())),
        ] {
            metrics.set_counter(key(name, &at), count);
        }
    }
}

/// Takes the next sample of what every endpoint carries in each zone. Called every [`peak::WINDOW`](super::peak::WINDOW).
pub(crate) fn sample(shared: &Shared, now: Instant) {
    let mut carried: BTreeMap<(String, String), u64> = BTreeMap::new();
    for series in shared.all_series() {
        let bytes = series.sum(|s| s.to_target.get()) + series.sum(|s| s.to_client.get());
        *carried.entry((series.key.endpoint.clone(), series.key.zone.clone())).or_default() += bytes;
    }
    let peaks = shared.peaks.lock().unwrap_or_else(PoisonError::into_inner).sample(carried, now);
    for ((endpoint, zone), peak) in peaks {
        shared.metrics.set_gauge(key(PEAK, &[("endpoint", &endpoint), ("zone", &zone)]), peak);
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    Key::from_parts(name, labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect::<Vec<_>>())
}
