//! Series that end with what they count for.
//!
//! Endpoints, targets, services, apps and faults come and go for as long as the process runs, by the APIs without any
//! limit. Their series go with them: a series lives while somebody holds a handle to it, and a little longer, so that a
//! scraper sees its last value. Prometheus' recorder can't forget single series, so those of one thing have a recorder of
//! their own, which is dropped whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};
use tokio::time::Instant;

/// Labels whose values name things that come and go.
const SUBJECTS: [&str; 6] = ["app", "endpoint", "fault", "service", "target", "zone"];

/// How long series are shown after the last handle is gone: a few scrapes, and twice as long as Prometheus looks back.
const KEPT: Duration = Duration::from_secs(600);

/// The recorders of all things that have series now.
pub(super) struct Perishable {
    build: fn() -> PrometheusRecorder,
    things: Mutex<BTreeMap<String, Thing>>,
    descriptions: Mutex<HashMap<String, (Option<Unit>, SharedString)>>,
}

/// The series of one thing.
struct Thing {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// Every handle has a clone.
    held: Arc<()>,
    /// Since when no handle has.
    orphaned: Option<Instant>,
}

impl Thing {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.held) > 1
    }
}

/// What the series of a key are kept under: the things that it names; `None` when it names none.
fn subject(key: &Key) -> Option<String> {
    let mut labels: Vec<_> = key.labels().filter(|label| SUBJECTS.contains(&label.key())).collect();
    labels.sort_by_key(|label| label.key());
    let parts = labels.iter().map(|label| format!("{}={}\0", label.key(), label.value()));
    (!labels.is_empty()).then(|| parts.collect())
}

impl Perishable {
    /// `build` makes each thing's recorder.
    pub(super) fn new(build: fn() -> PrometheusRecorder) -> Self {
        Self { build, things: Mutex::default(), descriptions: Mutex::default() }
    }

    /// Keeps what a metric is for.
    pub(super) fn describe(&self, name: &KeyName, unit: Option<Unit>, text: &SharedString) {
        let mut descriptions = self.descriptions.lock().unwrap_or_else(PoisonError::into_inner);
        descriptions.insert(name.as_str().to_owned(), (unit, text.clone()));
    }

    /// The counter of `key`; `None` when it names nothing that ends.
    pub(super) fn counter(&self, key: &Key, metadata: &Metadata<'_>) -> Option<Counter> {
        self.register(key, |recorder, describe, held| {
            if let Some((name, unit, text)) = describe {
                recorder.describe_counter(name, unit, text);
            }
            Counter::from_arc(Arc::new(Held { handle: recorder.register_counter(key, metadata), _held: held }))
        })
    }

    /// The gauge of `key`; `None` when it names nothing that ends.
    pub(super) fn gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Option<Gauge> {
        self.register(key, |recorder, describe, held| {
            if let Some((name, unit, text)) = describe {
                recorder.describe_gauge(name, unit, text);
            }
            Gauge::from_arc(Arc::new(Held { handle: recorder.register_gauge(key, metadata), _held: held }))
        })
    }

    /// The histogram of `key`; `None` when it names nothing that ends.
    pub(super) fn histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Option<Histogram> {
        self.register(key, |recorder, describe, held| {
            if let Some((name, unit, text)) = describe {
                recorder.describe_histogram(name, unit, text);
            }
            Histogram::from_arc(Arc::new(Held { handle: recorder.register_histogram(key, metadata), _held: held }))
        })
    }

    fn register<T>(
        &self,
        key: &Key,
        register: impl FnOnce(&PrometheusRecorder, Option<(KeyName, Option<Unit>, SharedString)>, Arc<()>) -> T,
    ) -> Option<T> {
        let subject = subject(key)?;
        let descriptions = self.descriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let described = descriptions.get(key.name()).cloned();
        drop(descriptions);
        let mut things = self.things();
        // One that nobody holds any more has ended: what comes under its name begins anew.
        things.retain(|name, thing| *name != subject || thing.is_held());
        let thing = things.entry(subject).or_insert_with(|| {
            let recorder = (self.build)();
            Thing { handle: recorder.handle(), recorder, held: Arc::new(()), orphaned: None }
        });
        let described = described.map(|(unit, text)| (KeyName::from(key.name().to_owned()), unit, text));
        Some(register(&thing.recorder, described, Arc::clone(&thing.held)))
    }

    /// Folds what histograms have collected, and drops what has ended long ago.
    pub(super) fn upkeep(&self) {
        let now = Instant::now();
        self.things().retain(|_, thing| {
            thing.handle.run_upkeep();
            let since = if thing.is_held() { None } else { Some(*thing.orphaned.get_or_insert(now)) };
            thing.orphaned = since;
            since.is_none_or(|since| now.saturating_duration_since(since) < KEPT)
        });
    }

    /// Adds every thing's page to `page`.
    pub(super) fn render(&self, page: &mut String) {
        for thing in self.things().values() {
            page.push('\n');
            page.push_str(&thing.handle.render());
        }
    }

    fn things(&self) -> MutexGuard<'_, BTreeMap<String, Thing>> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle that says that it is held.
struct Held<T> {
    handle: T,
    _held: Arc<()>,
}

impl CounterFn for Held<Counter> {
    fn increment(&self, value: u64) {
        self.handle.increment(value);
    }

    fn absolute(&self, value: u64) {
        self.handle.absolute(value);
    }
}

impl GaugeFn for Held<Gauge> {
    fn increment(&self, value: f64) {
        self.handle.increment(value);
    }

    fn decrement(&self, value: f64) {
        self.handle.decrement(value);
    }

    fn set(&self, value: f64) {
        self.handle.set(value);
    }
}

impl HistogramFn for Held<Histogram> {
    fn record(&self, value: f64) {
        self.handle.record(value);
    }
}
