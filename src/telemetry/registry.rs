//! The metrics registry: handles for the rooms, the text page for Prometheus.
//!
//! It is a recorder of the crate `metrics`, and not the process's own, so that every test has its own. Rooms get handles
//! once, when a listener or a snapshot begins; what they count by themselves (per worker, say) they publish from a hook
//! right before each scrape.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit};

use super::series::AllSeries;

/// The type of [`Registry::render`]'s text. Prometheus 3 fails a scrape without a valid one.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric's name, unit and purpose: a constant beside the room that it measures.
///
/// Names follow Prometheus' conventions and carry their unit: `_total` for counters, `_seconds`, `_bytes`. A histogram's
/// buckets follow from its name: `…flow_duration_seconds`, `…flow_bytes`, `plgw_dns_…_seconds`; latency buckets otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its unit, where it has one.
    pub unit: Option<Unit>,
    /// The question that it answers, without a period.
    pub help: &'static str,
}

impl Metric {
    /// A metric without a unit: things that are counted.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, unit: None, help }
    }

    /// The same metric, measured in `unit`.
    #[must_use]
    pub const fn in_unit(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }
}

const BUILD_INFO: Metric = Metric::new("plgw_build_info", "Which build runs; always 1");
const START_TIME: Metric =
    Metric::new("process_start_time_seconds", "When the process started, in seconds since 1970").in_unit(Unit::Seconds);

type RenderHook = Box<dyn Fn() + Send + Sync>;

/// The metrics of one gateway. Clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    series: AllSeries,
    hooks: Mutex<Vec<RenderHook>>,
}

impl Registry {
    /// A registry with `plgw_build_info` and the start time in it.
    #[must_use]
    pub fn new() -> Self {
        let registry = Self { shared: Arc::default() };
        let mut labels = vec![("version", env!("CARGO_PKG_VERSION"))];
        labels.extend(option_env!("PLGW_REVISION").map(|revision| ("revision", revision)));
        registry.gauge(&BUILD_INFO, &labels).set(1);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        registry.gauge(&START_TIME, &[]).set(since_1970.as_secs_f64());
        super::process::publish(&registry);
        registry
    }

    /// The counter with these labels. The same labels give the same counter.
    pub fn counter(&self, metric: &Metric, labels: &[(&'static str, &str)]) -> Counter {
        let recorder = &*self.shared;
        recorder.describe_counter(KeyName::from_const_str(metric.name), metric.unit, metric.help.into());
        recorder.register_counter(&key(metric, labels), &METADATA)
    }

    /// The gauge with these labels. The same labels give the same gauge.
    pub fn gauge(&self, metric: &Metric, labels: &[(&'static str, &str)]) -> Gauge {
        let recorder = &*self.shared;
        recorder.describe_gauge(KeyName::from_const_str(metric.name), metric.unit, metric.help.into());
        recorder.register_gauge(&key(metric, labels), &METADATA)
    }

    /// The histogram with these labels. The same labels give the same histogram.
    pub fn histogram(&self, metric: &Metric, labels: &[(&'static str, &str)]) -> Histogram {
        let recorder = &*self.shared;
        recorder.describe_histogram(KeyName::from_const_str(metric.name), metric.unit, metric.help.into());
        recorder.register_histogram(&key(metric, labels), &METADATA)
    }

    /// The registry for one of its own hooks, which must not keep it.
    pub(super) fn downgrade(&self) -> WeakRegistry {
        WeakRegistry(Arc::downgrade(&self.shared))
    }

    /// The recorder, for libraries that want one.
    #[must_use]
    pub fn recorder(&self) -> &impl Recorder {
        &*self.shared
    }

    /// The recorder as a shared object, for rooms that register series as they come up.
    #[must_use]
    pub fn shared_recorder(&self) -> Arc<dyn Recorder + Send + Sync> {
        Arc::clone(&self.shared) as Arc<dyn Recorder + Send + Sync>
    }

    /// Calls `hook` right before every page: to publish what a room counts by itself. It must not block.
    pub fn on_render(&self, hook: Box<dyn Fn() + Send + Sync>) {
        self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(hook);
    }

    /// Drops series that ended a while ago. Every page does so too; somebody must where nobody scrapes.
    pub fn upkeep(&self) {
        self.shared.series.forget_ended();
    }

    /// The page, of type [`CONTENT_TYPE`]: families in order of name, so that two pages can be compared.
    #[must_use]
    pub fn render(&self) -> String {
        for hook in self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            hook();
        }
        self.upkeep();
        self.shared.series.render()
    }
}

/// A registry as long as somebody else has it.
pub(super) struct WeakRegistry(Weak<Shared>);

impl WeakRegistry {
    /// The registry, if it still is.
    pub(super) fn upgrade(&self) -> Option<Registry> {
        Some(Registry { shared: self.0.upgrade()? })
    }
}

impl Recorder for Shared {
    // Units are in the names, and the page has no other place for them.
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.series.describe(key, description);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.series.describe(key, description);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.series.describe(key, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.series.counter(key).into()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.series.gauge(key).into()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.series.histogram(key).into()
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

/// Where a metric comes from plays no part in the page.
const METADATA: Metadata<'static> = Metadata::new("plgw", Level::INFO, None);

fn key(metric: &Metric, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(name, value)| Label::new(*name, SharedString::from((*value).to_owned()))).collect();
    Key::from_parts(metric.name, labels)
}

#[cfg(test)]
mod tests {
    use super::super::buckets::{FLOW_SECONDS, LATENCY_SECONDS};
    use super::*;

    const OPENED: Metric = Metric::new("plgw_flows_opened_total", "Flows that were opened");
    const CONNECT: Metric = Metric::new("plgw_target_connect_seconds", "Time until a target answered");
    const DURATION: Metric = Metric::new("plgw_flow_duration_seconds", "How long flows lasted").in_unit(Unit::Seconds);

    #[test]
    fn a_page_has_help_type_and_value_in_order_of_name() {
        let registry = Registry::new();
        registry.counter(&OPENED, &[("listener", "b")]).increment(2);
        registry.counter(&OPENED, &[("listener", "a")]).increment(1);
        registry.counter(&OPENED, &[("listener", "a")]).increment(1);
        let page = registry.render();
        let from = page.find("# HELP plgw_flows_opened_total").expect("the family");
        assert_eq!(
            page[from..].lines().take(4).collect::<Vec<_>>(),
            [
                "# HELP plgw_flows_opened_total Flows that were opened",
                "# TYPE plgw_flows_opened_total counter",
                "plgw_flows_opened_total{listener=\"a\"} 2",
                "plgw_flows_opened_total{listener=\"b\"} 2",
            ]
        );
        let names: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert!(page.ends_with('\n') && !page.contains("\n\n"));
    }

    #[test]
    fn a_page_tells_the_build_and_the_start() {
        let page = Registry::new().render();
        let build = format!("plgw_build_info{{version=\"{}\"", env!("CARGO_PKG_VERSION"));
        assert!(page.lines().any(|line| line.starts_with(&build) && line.ends_with(" 1")), "{page}");
        let start =
            page.lines().find_map(|line| line.strip_prefix("process_start_time_seconds ")).expect("a start time");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((start.parse::<f64>().unwrap() - now).abs() < 60.0);
    }

    #[test]
    fn histograms_have_the_buckets_of_what_they_measure_in_their_order() {
        let registry = Registry::new();
        registry.histogram(&DURATION, &[]).record(349.0);
        let _unused = registry.histogram(&CONNECT, &[]);
        let page = registry.render();
        let bounds = |name: &str| -> Vec<f64> {
            let prefix = format!("{name}_bucket{{le=\"");
            let lines = page.lines().filter_map(|line| line.strip_prefix(&prefix)?.split('"').next());
            lines.filter_map(|bound| bound.parse().ok()).filter(|bound: &f64| bound.is_finite()).collect()
        };
        assert_eq!(bounds(DURATION.name), FLOW_SECONDS);
        assert_eq!(bounds(CONNECT.name), LATENCY_SECONDS);
        assert!(page.contains("plgw_flow_duration_seconds_bucket{le=\"120\"} 0\n"));
        assert!(page.contains("plgw_flow_duration_seconds_bucket{le=\"350\"} 1\n"), "{page}");
        assert!(page.contains("plgw_target_connect_seconds_count 0\n"));
    }

    #[test]
    fn a_hook_publishes_right_before_each_page() {
        let registry = Registry::new();
        let counter = registry.counter(&OPENED, &[]);
        let seen = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = Arc::clone(&seen);
        registry.on_render(Box::new(move || counter.absolute(counted.load(std::sync::atomic::Ordering::Relaxed))));
        seen.store(7, std::sync::atomic::Ordering::Relaxed);
        assert!(registry.render().contains("plgw_flows_opened_total 7\n"));
        seen.store(9, std::sync::atomic::Ordering::Relaxed);
        assert!(registry.render().contains("plgw_flows_opened_total 9\n"));
    }

    #[test]
    fn a_label_with_quotes_and_line_ends_stays_on_its_line() {
        let registry = Registry::new();
        registry.counter(&OPENED, &[("target", "a\"b\n\nc\\d")]).increment(1);
        let page = registry.render();
        assert!(page.contains("plgw_flows_opened_total{target=\"a\\\"b\\n\\nc\\\\d\"} 1\n"), "{page}");
    }

    #[tokio::test(start_paused = true)]
    async fn series_of_what_is_gone_are_shown_for_a_while_and_then_dropped() {
        let registry = Registry::new();
        let gone = registry.counter(&OPENED, &[("target", "gone")]);
        let stays = registry.counter(&OPENED, &[("target", "stays")]);
        let lasting = Metric::new("plgw_answers_total", "Answers");
        registry.counter(&lasting, &[("status", "200")]).increment(1);
        registry.histogram(&CONNECT, &[("target", "gone"), ("service", "x")]).record(0.5);
        gone.increment(3);
        stays.increment(4);
        drop(gone);
        let shown = |line: &str| registry.render().contains(line);
        assert!(shown("plgw_flows_opened_total{target=\"gone\"} 3\n"));
        tokio::time::advance(std::time::Duration::from_secs(599)).await;
        assert!(shown("plgw_flows_opened_total{target=\"gone\"} 3\n"));
        assert!(shown("plgw_target_connect_seconds_count{target=\"gone\",service=\"x\"} 1\n"));
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        assert!(!shown("gone"));
        assert!(shown("plgw_flows_opened_total{target=\"stays\"} 4\n"));
        assert!(shown("plgw_answers_total{status=\"200\"} 1\n"), "nobody holds it, and it names nothing that ends");
    }

    #[test]
    fn what_comes_back_under_an_old_name_begins_anew() {
        let registry = Registry::new();
        registry.counter(&OPENED, &[("target", "a")]).absolute(9);
        let again = registry.counter(&OPENED, &[("target", "a")]);
        again.absolute(1);
        let other = registry.counter(&OPENED, &[("target", "a"), ("end", "idle")]);
        other.increment(2);
        let page = registry.render();
        assert!(page.contains("plgw_flows_opened_total{target=\"a\"} 1\n"), "{page}");
        assert!(page.contains("plgw_flows_opened_total{target=\"a\",end=\"idle\"} 2\n"), "{page}");
        assert_eq!(page.matches("# TYPE plgw_flows_opened_total").count(), 1);
    }

    #[test]
    fn registries_know_nothing_of_one_another() {
        let (one, other) = (Registry::new(), Registry::new());
        one.counter(&OPENED, &[]).increment(1);
        assert!(!other.render().contains(OPENED.name));
    }
}
