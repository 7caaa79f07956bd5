//! The data plane's metrics: handles from the recorder that is passed in, fed from the workers' counts at each scrape.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};

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
    ("plgw_accept_errors_total", "Failures to accept a connection."),
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
        recorder.describe_histogram(
            "plgw_connect_duration_seconds".into(),
            Some(Unit::Seconds),
            "Time that a target took to accept a new flow's connection.".into(),
        );
        let accept_errors = ["descriptors", "other"]
            .map(|kind| recorder.register_counter(&key("plgw_accept_errors_total", &[("kind", kind)]), &METADATA));
        Self { recorder, accept_errors, handles: Mutex::default() }
    }

    /// Where the time is noted that `target` takes to accept a connection.
    pub(crate) fn connect_time(&self, target: &TargetId) -> Histogram {
        let key = key("plgw_connect_duration_seconds", &[("target", target.as_str())]);
        self.recorder.register_histogram(&key, &METADATA)
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
    let mut by_endpoint: BTreeMap<String, Vec<Arc<Series>>> = BTreeMap::new();
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
        by_endpoint.entry(series.key.endpoint.clone()).or_default().push(series);
    }
    for (name, kind, struck) in shared.struck() {
        metrics.set_counter(key("plgw_faulted_flows_total", &[("fault", &name), ("type", kind)]), struck);
    }
    for (endpoint, all) in by_endpoint {
        let sum = |pick: &dyn Fn(&super::counters::Shard) -> u64| all.iter().map(|series| series.sum(pick)).sum();
        for (origin, resets) in [
            ("client", sum(&|s| s.client_resets.get())),
            ("target", sum(&|s| s.target_resets.get())),
            ("elb", sum(&|s| s.gateway_resets.get())),
        ] {
            let key = key("plgw_tcp_resets_total", &[("endpoint", &endpoint), ("origin", origin)]);
            metrics.set_counter(key, resets);
        }
        for (at, refusal) in Refusal::ALL.iter().enumerate() {
            let key = key("plgw_refused_flows_total", &[("endpoint", &endpoint), ("reason", refusal.label())]);
            metrics.set_counter(key, sum(&|s| s.refused[at].get()));
        }
        let key = key("plgw_port_allocation_errors_total", &[("endpoint", &endpoint)]);
        metrics.set_counter(key, sum(&|s| s.port_allocation_errors.get()));
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    Key::from_parts(name, labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect::<Vec<_>>())
}
