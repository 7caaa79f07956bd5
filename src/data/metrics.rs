//! The data plane's metrics: the workers' counters are written to the recorder before each scrape.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use tokio::time::Instant;

use super::counters::SeriesKey;
use super::descriptors::AcceptErrors;
use super::state::DataPlaneState;
use crate::model::{FlowEnd, Refusal};
use crate::plan::TargetGroup;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Help texts of counters.
const DESCRIPTIONS: &[(&str, &str)] = &[
    ("plgw_flows_opened_total", "Flows admitted (NLB: NewFlowCount)."),
    ("plgw_flows_closed_total", "Flows ended, by end; opened less closed is what is open."),
    ("plgw_processed_bytes_total", "Payload bytes written, by direction (NLB: ProcessedBytes, which adds headers)."),
    ("plgw_tcp_resets_total", "RSTs passed on from client or target, or made by the gateway (elb)."),
    ("plgw_refused_flows_total", "Connections not let through, by reason."),
    ("plgw_port_allocation_errors_total", "Flows for which no source port was free (NLB: PortAllocationErrorCount)."),
    ("plgw_faulted_flows_total", "Flows that an injected fault affected."),
    (
        "plgw_unhealthy_routing_flows_total",
        "Flows admitted while their group failed open (NLB: UnhealthyRoutingFlowCount).",
    ),
];

/// Peak throughput, sampled every 10 s independently of scrapes.
const PEAK: &str = "plgw_peak_bytes_per_second";

/// Histograms with one observation per flow, by target.
const HISTOGRAMS: [(&str, Unit, &str); 4] = [
    ("plgw_connect_duration_seconds", Unit::Seconds, "Time until a target accepted a new flow's connection."),
    (
        "plgw_first_byte_duration_seconds",
        Unit::Seconds,
        "Time from a flow's admission to the first byte that its client received.",
    ),
    ("plgw_flow_duration_seconds", Unit::Seconds, "How long flows lasted, from admission to end."),
    ("plgw_flow_bytes", Unit::Bytes, "Payload bytes of a flow, both ways."),
];

/// Metric handles, resolved when a series is first written.
pub(crate) struct DataMetrics {
    recorder: Arc<dyn Recorder + Send + Sync>,
    pub(crate) accept_errors: AcceptErrors,
    /// By owner, in the fixed order in which the owner's values are written, so that names and labels are built only
    /// once.
    handles: Mutex<HashMap<SeriesOwner, Vec<Handle>>>,
}

/// The owner of a group of series, which are removed together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SeriesOwner {
    /// A target's at an endpoint's address.
    Series(SeriesKey),
    /// An endpoint's in a zone.
    Address(String, String),
    /// The peak of an endpoint in a zone.
    Peak(String, String),
    /// A fault's, by its name and type.
    Fault(String, &'static str),
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

/// A value to write to a series.
#[derive(Debug, Clone, Copy)]
enum Value {
    Counter(u64),
    Gauge(u64),
}

impl DataMetrics {
    /// Describes the metrics.
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
        let accept_errors = AcceptErrors::new(recorder.as_ref());
        Self { recorder, accept_errors, handles: Mutex::default() }
    }

    /// The histograms of a target group, in the order of [`HISTOGRAMS`].
    pub(crate) fn histograms(&self, group: &TargetGroup) -> [Histogram; 4] {
        let labels = [("service", group.service.as_str()), ("target", group.target.as_str())];
        HISTOGRAMS.map(|(name, _, _)| self.recorder.register_histogram(&key(name, &labels), &METADATA))
    }

    /// Releases an owner's handles.
    pub(crate) fn forget(&self, owner: &SeriesOwner) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(owner);
    }

    /// Writes all values of `owner`, which must always be in the same order. `keys` is called only for a new owner.
    fn set(&self, owner: &SeriesOwner, values: impl IntoIterator<Item = Value>, keys: impl FnOnce() -> Vec<Key>) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let values: Vec<_> = values.into_iter().collect();
        // Avoids cloning the owner for `entry` in the usual case.
        if !handles.contains_key(owner) {
            let register = |(value, key): (&Value, Key)| match value {
                Value::Counter(_) => Handle::Counter(self.recorder.register_counter(&key, &METADATA)),
                Value::Gauge(_) => Handle::Gauge(self.recorder.register_gauge(&key, &METADATA)),
            };
            let keys = keys();
            debug_assert_eq!(values.len(), keys.len(), "every value has its name");
            handles.insert(owner.clone(), values.iter().zip(keys).map(register).collect());
        }
        for (handle, value) in handles[owner].iter().zip(values) {
            match (handle, value) {
                (Handle::Counter(counter), Value::Counter(value)) => counter.absolute(value),
                #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and flows are fewer than 2^52")]
                (Handle::Gauge(gauge), Value::Gauge(value)) => gauge.set(value as f64),
                (Handle::Counter(_), Value::Gauge(_)) | (Handle::Gauge(_), Value::Counter(_)) => {
                    unreachable!("an owner's values are always in the same order")
                }
            }
        }
    }
}

/// Writes the sums over all workers to the registry. Called before each scrape.
pub(crate) fn publish(state: &DataPlaneState) {
    let metrics = &state.metrics;
    let (all_series, mut by_address) = state.all_series();
    for series in all_series {
        // `closed` is read before `opened`, so that a flow that ends meanwhile is never closed but not opened.
        let closed = FlowEnd::LABELS.iter().enumerate().map(|(at, _)| series.sum(|shard| shard.closed[at].get()));
        let mut values: Vec<_> = closed.map(Value::Counter).collect();
        values.push(Value::Gauge(series.open_flows()));
        values.push(Value::Counter(series.sum(|shard| shard.opened.get())));
        values.push(Value::Counter(series.sum(|shard| shard.to_target.get())));
        values.push(Value::Counter(series.sum(|shard| shard.to_client.get())));
        metrics.set(&SeriesOwner::Series(series.key.clone()), values, || keys_of_series(&series.key));
        by_address.entry(series.key.address()).or_default().add(&series);
    }
    for (name, kind, affected) in state.affected() {
        let keys = || vec![key("plgw_faulted_flows_total", &[("fault", &name), ("type", kind)])];
        metrics.set(&SeriesOwner::Fault(name.clone(), kind), [Value::Counter(affected)], keys);
    }
    for ((endpoint, zone), totals) in by_address {
        let resets = [totals.client_resets, totals.target_resets, totals.gateway_resets];
        let others = [totals.port_allocation_errors, totals.unhealthy_routing];
        let values = resets.into_iter().chain(totals.refused).chain(others).map(Value::Counter);
        metrics
            .set(&SeriesOwner::Address(endpoint.clone(), zone.clone()), values, || keys_of_address(&endpoint, &zone));
    }
}

/// The keys of a target at an endpoint's address, in the order of [`publish`].
fn keys_of_series(series: &SeriesKey) -> Vec<Key> {
    let labels =
        [("endpoint", series.endpoint.as_str()), ("zone", series.zone.as_str()), ("target", series.target.as_str())];
    let with = |label, value| [labels[0], labels[1], labels[2], (label, value)];
    let closed = FlowEnd::LABELS.iter().map(|end| key("plgw_flows_closed_total", &with("end", end)));
    let bytes = |direction| key("plgw_processed_bytes_total", &with("direction", direction));
    let others = [key("plgw_active_flows", &labels), key("plgw_flows_opened_total", &labels)];
    closed.chain(others).chain(["to_target", "to_client"].map(bytes)).collect()
}

/// The keys of an endpoint in a zone, in the order of [`publish`].
fn keys_of_address(endpoint: &str, zone: &str) -> Vec<Key> {
    let labels = [("endpoint", endpoint), ("zone", zone)];
    let with = |label, value| [labels[0], labels[1], (label, value)];
    let resets = ["client", "target", "elb"].map(|origin| key("plgw_tcp_resets_total", &with("origin", origin)));
    let refused = Refusal::ALL.iter().map(|refusal| key("plgw_refused_flows_total", &with("reason", refusal.label())));
    let others =
        ["plgw_port_allocation_errors_total", "plgw_unhealthy_routing_flows_total"].map(|name| key(name, &labels));
    resets.into_iter().chain(refused).chain(others).collect()
}

/// Samples the throughput of every endpoint in each zone. Called every [`peak::WINDOW`](super::peak::WINDOW).
pub(crate) fn sample(state: &DataPlaneState, now: Instant) {
    let carried = state.all_series().0.into_iter().fold(BTreeMap::<_, u64>::new(), |mut carried, series| {
        let bytes = series.sum(|s| s.to_target.get()) + series.sum(|s| s.to_client.get());
        *carried.entry(series.key.address()).or_default() += bytes;
        carried
    });
    let peaks = state.peaks.lock().unwrap_or_else(PoisonError::into_inner).sample(carried, now);
    for ((endpoint, zone), peak) in peaks {
        let keys = || vec![key(PEAK, &[("endpoint", &endpoint), ("zone", &zone)])];
        state.metrics.set(&SeriesOwner::Peak(endpoint.clone(), zone.clone()), [Value::Gauge(peak)], keys);
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    Key::from_parts(name, labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect::<Vec<_>>())
}
