//! The metrics registry of one gateway: recorders of `metrics-exporter-prometheus`, and the page that they render.
//!
//! The exporter drops a series that was not updated for a while, even if a handle to it exists, and later updates of
//! that handle are lost. So the gateway's own series, which exist for the life of the process, are in a recorder
//! without a time-out. Endpoints, targets, services, apps and faults are created and deleted by the APIs; their series
//! are in a second recorder, whose time-out runs only while no handle to any series of the same object exists.
//!
//! It is not the process's global recorder, as several gateways run in one test process.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Level, Metadata, Recorder, SharedString,
    Unit,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;

use super::{buckets, process};

/// The content type of [`Registry::render`]'s text. Prometheus 3 fails a scrape without a valid one.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels whose values name objects that can be deleted.
const SUBJECTS: [&str; 6] = ["app", "endpoint", "fault", "service", "target", "zone"];

/// How long series are kept after the last handle is dropped: a few scrapes, and twice Prometheus' lookback delta.
const KEPT_AFTER_END: Duration = Duration::from_secs(600);

type RenderHook = Box<dyn Fn() + Send + Sync>;

/// The metrics of one gateway. Clones share the registry.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<SharedRecorder>,
}

struct SharedRecorder {
    /// Series that exist for the life of the process.
    permanent: (PrometheusRecorder, PrometheusHandle),
    /// Series of objects that can be deleted.
    expiring: (PrometheusRecorder, PrometheusHandle),
    /// The handles to `expiring`, by the object that they describe.
    held: Mutex<HashMap<String, Vec<HeldMetric>>>,
    hooks: Mutex<Vec<RenderHook>>,
}

impl Registry {
    /// Creates a registry with `plgw_build_info` and the process metrics.
    #[must_use]
    pub fn new() -> Self {
        Self::keeping_ended_for(KEPT_AFTER_END)
    }

    /// Like [`new`](Self::new), with the time after which series of deleted objects are dropped.
    #[must_use]
    pub fn keeping_ended_for(time: Duration) -> Self {
        let recorder = |idle_timeout| {
            let builder = buckets::configure(PrometheusBuilder::new());
            let recorder = builder.idle_timeout(MetricKindMask::ALL, idle_timeout).build_recorder();
            let handle = recorder.handle();
            (recorder, handle)
        };
        let shared = SharedRecorder {
            permanent: recorder(None),
            expiring: recorder(Some(time)),
            held: Mutex::default(),
            hooks: Mutex::default(),
        };
        metrics::with_local_recorder(&shared, || {
            process::describe();
            metrics::describe_gauge!("plgw_build_info", "Version and revision of the running build; always 1.");
            let mut labels = vec![("version", env!("CARGO_PKG_VERSION"))];
            labels.extend(option_env!("PLGW_REVISION").map(|revision| ("revision", revision)));
            metrics::gauge!("plgw_build_info", &labels).set(1.0);
        });
        Self { shared: Arc::new(shared) }
    }

    /// The recorder, for libraries.
    #[must_use]
    pub fn recorder(&self) -> &impl Recorder {
        &*self.shared
    }

    /// The recorder as a shared object, for modules that register series later.
    #[must_use]
    pub fn shared_recorder(&self) -> Arc<dyn Recorder + Send + Sync> {
        Arc::clone(&self.shared) as Arc<dyn Recorder + Send + Sync>
    }

    /// Calls `hook` before every page is rendered, to publish a module's own counters. It must not block.
    pub fn on_render(&self, hook: Box<dyn Fn() + Send + Sync>) {
        lock(&self.shared.hooks).push(hook);
    }

    /// Moves histogram samples to their buckets. The exporter stores each sample until then, so this must be called
    /// every few seconds.
    pub fn upkeep(&self) {
        self.shared.permanent.1.run_upkeep();
        self.shared.expiring.1.run_upkeep();
    }

    /// Drops series of deleted objects. Rendering does so too; to be called periodically in case nothing scrapes.
    pub fn drop_ended(&self) {
        self.shared.render_expiring();
    }

    /// Renders the page, of type [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        for hook in lock(&self.shared.hooks).iter() {
            hook();
        }
        metrics::with_local_recorder(&self.shared.permanent.0, process::collect);
        self.shared.permanent.1.render() + &self.shared.render_expiring()
    }
}

impl SharedRecorder {
    fn render_expiring(&self) -> String {
        lock(&self.held).retain(|_, series| {
            let is_held = series.iter().any(HeldMetric::is_held);
            if is_held {
                series.iter().for_each(HeldMetric::touch);
            }
            is_held
        });
        // Without the lock, as flows register series meanwhile.
        let page = self.expiring.1.render();
        for series in lock(&self.held).values().flatten() {
            series.renew(&self.expiring.0);
        }
        page
    }

    /// The existing handle to a series of `subject`, or a new one by `make`.
    fn handle<T>(
        &self,
        subject: String,
        key: &Key,
        found: impl Fn(&HeldMetric) -> Option<Arc<T>>,
        make: impl FnOnce() -> (HeldMetric, Arc<T>),
    ) -> Arc<T> {
        let mut held = lock(&self.held);
        let series = held.entry(subject).or_default();
        if let Some(handle) = series.iter().filter(|series| series.key() == key).find_map(found) {
            return handle;
        }
        let (entry, handle) = make();
        series.push(entry);
        handle
    }
}

impl Recorder for SharedRecorder {
    // The labels, which are not known here, determine the recorder of a family, so both get the description.
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.permanent.0.describe_counter(key.clone(), unit, description.clone());
        self.expiring.0.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.permanent.0.describe_gauge(key.clone(), unit, description.clone());
        self.expiring.0.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.permanent.0.describe_histogram(key.clone(), unit, description.clone());
        self.expiring.0.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let Some(subject) = subject(key) else { return self.permanent.0.register_counter(key, metadata) };
        let found = |held: &HeldMetric| {
            if let HeldMetric::Counter(_, counter) = held { Some(Arc::clone(counter)) } else { None }
        };
        Counter::from_arc(self.handle(subject, key, found, || {
            let inner = self.expiring.0.register_counter(key, metadata);
            let counter = Arc::new(HeldCounter { inner, absolute: AtomicU64::new(0) });
            (HeldMetric::Counter(key.clone(), Arc::clone(&counter)), counter)
        }))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let Some(subject) = subject(key) else { return self.permanent.0.register_gauge(key, metadata) };
        let found =
            |held: &HeldMetric| if let HeldMetric::Gauge(_, gauge) = held { Some(Arc::clone(gauge)) } else { None };
        Gauge::from_arc(self.handle(subject, key, found, || {
            let gauge = Arc::new(HeldGauge(self.expiring.0.register_gauge(key, metadata)));
            (HeldMetric::Gauge(key.clone(), Arc::clone(&gauge)), gauge)
        }))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let Some(subject) = subject(key) else { return self.permanent.0.register_histogram(key, metadata) };
        let found = |held: &HeldMetric| {
            if let HeldMetric::Histogram(_, histogram) = held { Some(Arc::clone(histogram)) } else { None }
        };
        Histogram::from_arc(self.handle(subject, key, found, || {
            let histogram = Arc::new(HeldHistogram(RwLock::new(self.expiring.0.register_histogram(key, metadata))));
            (HeldMetric::Histogram(key.clone(), Arc::clone(&histogram)), histogram)
        }))
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

/// A handle to a series.
enum HeldMetric {
    Counter(Key, Arc<HeldCounter>),
    Gauge(Key, Arc<HeldGauge>),
    Histogram(Key, Arc<HeldHistogram>),
}

impl HeldMetric {
    fn key(&self) -> &Key {
        match self {
            Self::Counter(key, _) | Self::Gauge(key, _) | Self::Histogram(key, _) => key,
        }
    }

    /// Whether the handle is referenced outside the registry.
    fn is_held(&self) -> bool {
        1 < match self {
            Self::Counter(_, counter) => Arc::strong_count(counter),
            Self::Gauge(_, gauge) => Arc::strong_count(gauge),
            Self::Histogram(_, histogram) => Arc::strong_count(histogram),
        }
    }

    /// Updates the series without changing its value, to restart its time-out. Histograms have no such update.
    fn touch(&self) {
        match self {
            Self::Counter(_, counter) => counter.inner.increment(0),
            Self::Gauge(_, gauge) => gauge.0.increment(0.0),
            Self::Histogram(..) => {}
        }
    }

    /// Connects a histogram's handle to the recorder's current series, as the previous one may have been dropped.
    fn renew(&self, recorder: &PrometheusRecorder) {
        if let Self::Histogram(key, histogram) = self {
            *histogram.0.write().unwrap_or_else(PoisonError::into_inner) = recorder.register_histogram(key, &METADATA);
        }
    }
}

struct HeldCounter {
    inner: Counter,
    /// The last absolute value. An object that is recreated under the same name counts from 0, but its series
    /// continues.
    absolute: AtomicU64,
}

impl CounterFn for HeldCounter {
    fn increment(&self, value: u64) {
        self.inner.increment(value);
    }

    fn absolute(&self, value: u64) {
        let before = self.absolute.swap(value, Ordering::Relaxed);
        self.inner.increment(value.saturating_sub(before));
    }
}

struct HeldGauge(Gauge);

impl GaugeFn for HeldGauge {
    fn increment(&self, value: f64) {
        self.0.increment(value);
    }

    fn decrement(&self, value: f64) {
        self.0.decrement(value);
    }

    fn set(&self, value: f64) {
        self.0.set(value);
    }
}

struct HeldHistogram(RwLock<Histogram>);

impl HistogramFn for HeldHistogram {
    fn record(&self, value: f64) {
        self.0.read().unwrap_or_else(PoisonError::into_inner).record(value);
    }
}

/// The exporter ignores the metadata.
const METADATA: Metadata<'static> = Metadata::new("plgw", Level::INFO, None);

/// The objects that a key's labels name, as one string; `None` if they name none.
fn subject(key: &Key) -> Option<String> {
    let mut labels: Vec<_> = key.labels().filter(|label| SUBJECTS.contains(&label.key())).collect();
    labels.sort_by_key(|label| label.key());
    let parts = labels.iter().map(|label| format!("{}={}\0", label.key(), label.value()));
    (!labels.is_empty()).then(|| parts.collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use metrics::{counter, histogram, with_local_recorder};

    use super::super::buckets::{FLOW_SECONDS, LATENCY_SECONDS};
    use super::*;

    const OPENED: &str = "plgw_flows_opened_total";
    const CONNECT: &str = "plgw_connect_duration_seconds";
    const DURATION: &str = "plgw_flow_duration_seconds";

    fn recorded<T>(registry: &Registry, record: impl FnOnce() -> T) -> T {
        with_local_recorder(registry.recorder(), record)
    }

    /// The lines of the page that begin with `text`, sorted.
    fn lines(registry: &Registry, text: &str) -> Vec<String> {
        let page = registry.render();
        let mut lines: Vec<_> = page.lines().filter(|line| line.starts_with(text)).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_family_has_help_type_and_values() {
        let registry = Registry::new();
        recorded(&registry, || {
            metrics::describe_counter!(OPENED, "Flows that were opened.");
            counter!(OPENED, "endpoint" => "b").increment(2);
            counter!(OPENED, "endpoint" => "a").increment(1);
            counter!(OPENED, "endpoint" => "a").increment(1);
        });
        let page = registry.render();
        for line in [
            "# HELP plgw_flows_opened_total Flows that were opened.",
            "# TYPE plgw_flows_opened_total counter",
            "plgw_flows_opened_total{endpoint=\"a\"} 2",
            "plgw_flows_opened_total{endpoint=\"b\"} 2",
        ] {
            assert_eq!(page.lines().filter(|other| *other == line).count(), 1, "{line} in {page}");
        }
        let mut families: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let all = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), all, "a family occurs once");
    }

    #[test]
    fn a_page_has_the_build_and_the_process_metrics() {
        let registry = Registry::new();
        let build = format!("plgw_build_info{{version=\"{}\"", env!("CARGO_PKG_VERSION"));
        assert!(lines(&registry, &build).iter().any(|line| line.ends_with(" 1")));
        let value = |name: &str| -> f64 {
            let line = lines(&registry, &format!("{name} ")).pop().unwrap_or_else(|| panic!("{name} is absent"));
            line.rsplit(' ').next().unwrap().parse().expect("a number")
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(value("process_start_time_seconds") <= now && value("process_start_time_seconds") > 1e9);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }

    #[test]
    fn histograms_have_ascending_buckets_for_their_unit() {
        let registry = Registry::new();
        recorded(&registry, || {
            histogram!(DURATION).record(349.0);
            let _unused = histogram!(CONNECT);
        });
        let page = registry.render();
        let bounds = |name: &str| -> Vec<f64> {
            let prefix = format!("{name}_bucket{{le=\"");
            let lines = page.lines().filter_map(|line| line.strip_prefix(&prefix)?.split('"').next());
            lines.filter_map(|bound| bound.parse().ok()).filter(|bound: &f64| bound.is_finite()).collect()
        };
        assert_eq!(bounds(DURATION), FLOW_SECONDS);
        assert_eq!(bounds(CONNECT), LATENCY_SECONDS);
        assert!(page.contains("plgw_flow_duration_seconds_bucket{le=\"120\"} 0\n"), "{page}");
        assert!(page.contains("plgw_flow_duration_seconds_bucket{le=\"350\"} 1\n"), "{page}");
        assert!(page.contains("plgw_connect_duration_seconds_count 0\n"), "{page}");
    }

    #[test]
    fn a_hook_publishes_right_before_each_page() {
        let registry = Registry::new();
        let counter = recorded(&registry, || counter!(OPENED));
        let seen = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&seen);
        registry.on_render(Box::new(move || counter.absolute(counted.load(Ordering::Relaxed))));
        for count in [7, 9] {
            seen.store(count, Ordering::Relaxed);
            assert_eq!(lines(&registry, OPENED), [format!("plgw_flows_opened_total {count}")]);
        }
    }

    #[test]
    fn a_label_with_quotes_and_line_ends_stays_on_its_line() {
        let registry = Registry::new();
        recorded(&registry, || counter!(OPENED, "target" => "a\"b\n\nc\\d").increment(1));
        assert_eq!(lines(&registry, OPENED), ["plgw_flows_opened_total{target=\"a\\\"b\\n\\nc\\\\d\"} 1"]);
    }

    #[test]
    fn only_series_of_deleted_objects_are_dropped() {
        let registry = Registry::keeping_ended_for(Duration::ZERO);
        let (gone, stays) = recorded(&registry, || {
            metrics::gauge!("plgw_active_flows", "target" => "gone").set(1.0);
            histogram!(CONNECT, "target" => "gone").record(0.5);
            counter!("plgw_dns_queries_total", "view" => "vpc").increment(1);
            // Registered and dropped, while another handle of the same object exists.
            counter!("plgw_flows_closed_total", "target" => "stays").increment(1);
            (counter!(OPENED, "target" => "gone"), counter!(OPENED, "target" => "stays"))
        });
        gone.increment(3);
        stays.increment(4);
        for _ in 0..3 {
            assert_eq!(lines(&registry, "plgw_flows_opened_total{target=\"gone\"}").len(), 1, "its handle is held");
        }
        drop(gone);
        let _ = registry.render();
        let page = registry.render();
        assert!(!page.contains("gone"), "{page}");
        stays.increment(1);
        let page = registry.render();
        assert!(page.contains("plgw_flows_opened_total{target=\"stays\"} 5\n"), "{page}");
        assert!(page.contains("plgw_flows_closed_total{target=\"stays\"} 1\n"), "{page}");
        assert!(page.contains("plgw_dns_queries_total{view=\"vpc\"} 1\n"), "it names no object: {page}");
    }

    #[test]
    fn a_series_of_a_deleted_object_is_shown_for_a_while() {
        let registry = Registry::new();
        recorded(&registry, || counter!(OPENED, "target" => "gone").increment(3));
        for _ in 0..3 {
            assert_eq!(lines(&registry, OPENED), ["plgw_flows_opened_total{target=\"gone\"} 3"]);
        }
    }

    /// The exporter drops an idle histogram; later samples must not be lost.
    #[test]
    fn a_histogram_that_was_idle_still_records_into_its_handle() {
        let registry = Registry::keeping_ended_for(Duration::ZERO);
        let connect = recorded(&registry, || histogram!(CONNECT, "target" => "a"));
        for _ in 0..3 {
            let _ = registry.render();
        }
        connect.record(0.5);
        assert_eq!(
            lines(&registry, "plgw_connect_duration_seconds_count"),
            ["plgw_connect_duration_seconds_count{target=\"a\"} 1"]
        );
    }

    #[test]
    fn a_recreated_object_continues_its_series() {
        let registry = Registry::new();
        recorded(&registry, || counter!(OPENED, "target" => "a").absolute(9));
        let _ = registry.render();
        let again = recorded(&registry, || counter!(OPENED, "target" => "a"));
        again.absolute(1);
        again.absolute(3);
        assert_eq!(lines(&registry, OPENED), ["plgw_flows_opened_total{target=\"a\"} 12"]);
    }

    #[test]
    fn registries_are_independent() {
        let (one, other) = (Registry::new(), Registry::new());
        recorded(&one, || counter!(OPENED).increment(1));
        assert!(lines(&other, OPENED).is_empty());
    }
}
