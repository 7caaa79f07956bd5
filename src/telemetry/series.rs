//! Every series there is, and how they look on the page.
//!
//! Endpoints, targets, services, apps and faults come and go for as long as the process runs, by the APIs without any
//! limit. Their series go with them: a series lives while somebody holds a handle to it or to another of the same things,
//! and a little longer, so that a scraper sees its last value.
//!
//! Nothing has to be done for a series between two pages, and one that is never counted into costs its name, its labels and
//! a number.

use std::cmp::Ordering as Order;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Key, KeyName, SharedString};
use tokio::time::Instant;

use super::buckets::{self, Buckets};

/// Labels whose values name things that come and go.
const SUBJECTS: [&str; 6] = ["app", "endpoint", "fault", "service", "target", "zone"];

/// How long series are shown after the last handle is gone: a few scrapes, and twice as long as Prometheus looks back.
const KEPT: Duration = Duration::from_secs(600);

/// What a family's series are. In this order they stand where two families have one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// Its name on the page.
    fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Where a series is counted. Whoever has a handle shares it.
#[derive(Debug, Clone)]
enum Value {
    Counter(Arc<AtomicU64>),
    /// An `f64`'s bits.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

impl Value {
    fn new(kind: Kind, name: &str) -> Self {
        match kind {
            Kind::Counter => Self::Counter(Arc::default()),
            Kind::Gauge => Self::Gauge(Arc::default()),
            Kind::Histogram => Self::Histogram(Arc::new(Buckets::new(buckets::bounds(name)))),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Histogram(_) => Kind::Histogram,
        }
    }

    fn is_held(&self) -> bool {
        1 < match self {
            Self::Counter(value) | Self::Gauge(value) => Arc::strong_count(value),
            Self::Histogram(buckets) => Arc::strong_count(buckets),
        }
    }
}

/// One series.
#[derive(Debug)]
struct Series {
    name: SharedString,
    /// As the page has them, without braces.
    labels: Box<str>,
    value: Value,
}

impl Series {
    /// Where it stands beside the series of `kind`, `name` and `labels`.
    fn order(&self, kind: Kind, name: &str, labels: &str) -> Order {
        (&*self.name, self.value.kind(), &*self.labels).cmp(&(name, kind, labels))
    }
}

/// The series of one thing, in order.
#[derive(Debug, Default)]
struct Thing {
    series: Vec<Series>,
    /// Since when no series of it has a handle.
    orphaned: Option<Instant>,
}

impl Thing {
    fn is_held(&self) -> bool {
        self.series.iter().any(|series| series.value.is_held())
    }

    /// The series of `key`, which is made when it is new.
    fn register(&mut self, kind: Kind, key: &Key) -> Value {
        let labels = label_text(key);
        match self.series.binary_search_by(|series| series.order(kind, key.name(), &labels)) {
            Ok(at) => self.series[at].value.clone(),
            Err(at) => {
                let (name, value) = (key.name_shared().into_inner(), Value::new(kind, key.name()));
                self.series.insert(at, Series { name, labels: labels.into(), value: value.clone() });
                value
            }
        }
    }
}

/// All series.
#[derive(Debug, Default)]
pub(super) struct AllSeries {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// What families are for.
    descriptions: BTreeMap<SharedString, SharedString>,
    /// Series that last as long as the process.
    lasting: Thing,
    /// Those of what comes and goes, by its name.
    passing: BTreeMap<Box<str>, Thing>,
}

impl AllSeries {
    /// Keeps what a family is for; whoever says so first is believed.
    pub(super) fn describe(&self, name: KeyName, text: SharedString) {
        self.lock().descriptions.entry(name.into_inner()).or_insert(text);
    }

    /// A counter's value.
    pub(super) fn counter(&self, key: &Key) -> Arc<AtomicU64> {
        let Value::Counter(value) = self.register(Kind::Counter, key) else { unreachable!("its kind is in its order") };
        value
    }

    /// A gauge's value, an `f64`'s bits.
    pub(super) fn gauge(&self, key: &Key) -> Arc<AtomicU64> {
        let Value::Gauge(value) = self.register(Kind::Gauge, key) else { unreachable!("its kind is in its order") };
        value
    }

    /// A histogram's buckets.
    pub(super) fn histogram(&self, key: &Key) -> Arc<Buckets> {
        let Value::Histogram(buckets) = self.register(Kind::Histogram, key) else {
            unreachable!("its kind is in its order")
        };
        buckets
    }

    fn register(&self, kind: Kind, key: &Key) -> Value {
        let mut book = self.lock();
        let Some(subject) = subject(key) else { return book.lasting.register(kind, key) };
        let thing = book.passing.entry(subject).or_default();
        // One that nobody holds any more has ended: what comes under its name begins anew.
        if !thing.is_held() {
            *thing = Thing::default();
        }
        thing.register(kind, key)
    }

    /// Drops what has ended long ago, and notes what has ended since the last time.
    pub(super) fn forget_ended(&self) {
        let now = Instant::now();
        self.lock().passing.retain(|_, thing| {
            let since = if thing.is_held() { None } else { Some(*thing.orphaned.get_or_insert(now)) };
            thing.orphaned = since;
            since.is_none_or(|since| now.saturating_duration_since(since) < KEPT)
        });
    }

    /// The page: families in order of name, the series of each in order of labels, so that two pages can be compared.
    pub(super) fn render(&self) -> String {
        let book = self.lock();
        let mut families: BTreeMap<(&str, Kind), Vec<&Series>> = BTreeMap::new();
        for series in std::iter::once(&book.lasting).chain(book.passing.values()).flat_map(|thing| &thing.series) {
            families.entry((&series.name, series.value.kind())).or_default().push(series);
        }
        let mut page = String::new();
        for ((name, kind), mut family) in families {
            if let Some(text) = book.descriptions.get(name) {
                let _ = writeln!(page, "# HELP {name} {}", text.replace('\\', "\\\\").replace('\n', "\\n"));
            }
            let _ = writeln!(page, "# TYPE {name} {}", kind.label());
            family.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
            family.into_iter().for_each(|series| write_series(&mut page, series));
        }
        page
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the series of a key are kept under: the things that it names; `None` when it names none.
fn subject(key: &Key) -> Option<Box<str>> {
    let mut labels: Vec<_> = key.labels().filter(|label| SUBJECTS.contains(&label.key())).collect();
    labels.sort_by_key(|label| label.key());
    let parts = labels.iter().map(|label| format!("{}={}\0", label.key(), label.value()));
    (!labels.is_empty()).then(|| parts.collect::<String>().into())
}

/// A key's labels as the page has them, without braces. Names of labels are the program's own words; values may be anything.
fn label_text(key: &Key) -> String {
    let mut text = String::new();
    for label in key.labels() {
        let separator = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{separator}{}=\"", label.key());
        for letter in label.value().chars() {
            match letter {
                '\n' => text.push_str("\\n"),
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                letter => text.push(letter),
            }
        }
        text.push('"');
    }
    text
}

fn write_series(page: &mut String, Series { name, labels, value }: &Series) {
    let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = match value {
        Value::Counter(value) => writeln!(page, "{name}{braced} {}", value.load(Ordering::Acquire)),
        Value::Gauge(value) => writeln!(page, "{name}{braced} {}", f64::from_bits(value.load(Ordering::Acquire))),
        Value::Histogram(buckets) => {
            let comma = if labels.is_empty() { "" } else { "," };
            let (cumulative, count) = buckets.cumulative();
            for (bound, up_to) in cumulative {
                let _ = writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {up_to}");
            }
            let _ = writeln!(page, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
            let _ = writeln!(page, "{name}_sum{braced} {}", buckets.sum());
            writeln!(page, "{name}_count{braced} {count}")
        }
    };
}
