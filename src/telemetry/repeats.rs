//! Lines that repeat: of each call site the first few in an interval are written, the others counted, and how many there
//! were is said in one line once the interval is over.
//!
//! Records, which are one a flow or a request, are never left out here: each says something else.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::model::LOG_RECORDS;

/// The target of the lines that say how many were left out: written whatever the levels are, and never limited.
pub(super) const SUMMARY: &str = "logs";

/// How often a line may repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineLimit {
    /// Lines of one call site in one interval; 0: as many as there are.
    pub lines: u32,
    /// The interval.
    pub interval: Duration,
}

impl Default for LineLimit {
    /// A hundred: every target of a load balancer may change its health at once.
    fn default() -> Self {
        Self { lines: 100, interval: Duration::from_secs(10) }
    }
}

/// Lines of one call site that were left out in one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// What the line says, or its place in the sources where it has no constant sentence.
    line: String,
    /// Its room's path.
    target: &'static str,
    /// How many.
    lines: u64,
    /// In how many seconds.
    seconds: u64,
}

impl LeftOut {
    /// Says so in the log.
    pub(super) fn announce(&self) {
        tracing::warn!(
            target: "logs",
            { line = self.line, of = self.target, seconds = self.seconds, suppressed = self.lines },
            "… {} more suppressed", self.lines
        );
    }
}

/// Counts the lines of every call site. There are as many call sites as the program has, so this stays small.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    limit: LineLimit,
    sites: HashMap<Identifier, Site>,
    /// Of intervals that are over and not yet said.
    due: Vec<LeftOut>,
    /// All that were left out, by room.
    total: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Site {
    since: Instant,
    written: u32,
    left_out: u64,
    line: String,
    target: &'static str,
}

impl Site {
    fn new(event: &Event<'_>, now: Instant) -> Self {
        let mut said = Sentence::default();
        event.record(&mut said);
        let at = event.metadata();
        let place = || format!("{}:{}", at.file().unwrap_or("?"), at.line().unwrap_or_default());
        Self { since: now, written: 0, left_out: 0, line: said.0.unwrap_or_else(place), target: at.target() }
    }

    /// Ends the interval; what was left out in it.
    fn turn(&mut self, now: Instant) -> Option<LeftOut> {
        let seconds = (now - self.since).as_secs().max(1);
        (self.since, self.written) = (now, 0);
        let lines = std::mem::take(&mut self.left_out);
        (lines > 0).then(|| LeftOut { line: self.line.clone(), target: self.target, lines, seconds })
    }
}

impl Repeats {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limit(&self) -> LineLimit {
        self.lock().limit
    }

    pub(super) fn set_limit(&self, limit: LineLimit) {
        self.lock().limit = limit;
    }

    /// All that were left out since the start, by room.
    pub(super) fn total(&self) -> BTreeMap<&'static str, u64> {
        self.lock().total.clone()
    }

    /// Whether this line is written.
    fn admit(&self, event: &Event<'_>, now: Instant) -> bool {
        if !is_limited(event.metadata()) {
            return true;
        }
        let mut inner = self.lock();
        let Inner { limit, sites, due, total } = &mut *inner;
        if limit.lines == 0 {
            return true;
        }
        let site = sites.entry(event.metadata().callsite()).or_insert_with(|| Site::new(event, now));
        if now - site.since >= limit.interval {
            due.extend(site.turn(now));
        }
        let admitted = site.written < limit.lines;
        if admitted {
            site.written += 1;
        } else {
            site.left_out += 1;
            *total.entry(room(site.target)).or_default() += 1;
        }
        admitted
    }

    /// What is to be said by now; at the end of the process (`all`) whatever was left out.
    pub(super) fn due(&self, now: Instant, all: bool) -> Vec<LeftOut> {
        let mut inner = self.lock();
        let Inner { limit, sites, due, .. } = &mut *inner;
        let over = |site: &&mut Site| site.left_out > 0 && (all || now - site.since >= limit.interval);
        due.extend(sites.values_mut().filter(over).filter_map(|site| site.turn(now)));
        std::mem::take(due)
    }

    /// Whether something may have to be said although nobody writes another line: lines were left out, or may be, as a call
    /// site has written some in an interval that is not over.
    pub(super) fn may_have_more(&self, now: Instant) -> bool {
        let Inner { limit, sites, due, .. } = &*self.lock();
        let is_open = |site: &Site| site.left_out > 0 || now - site.since < limit.interval;
        !due.is_empty() || sites.values().any(is_open)
    }
}

fn is_limited(at: &Metadata<'_>) -> bool {
    !LOG_RECORDS.contains(&at.target()) && at.target() != SUMMARY
}

/// The room of a path: `data` of `plgw::data::listener`; of a library its name.
fn room(target: &'static str) -> &'static str {
    let inner = target.strip_prefix("plgw::").unwrap_or(target);
    inner.split("::").next().unwrap_or(inner)
}

/// The message of an event: in this program a constant sentence.
#[derive(Debug, Default)]
struct Sentence(Option<String>);

impl Visit for Sentence {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

/// The layer that asks [`Repeats`] about every line.
#[derive(Debug)]
pub(super) struct RepeatsLayer(pub(super) std::sync::Arc<Repeats>);

impl<S: Subscriber> Layer<S> for RepeatsLayer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.0.admit(event, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What is left out while `log` logs, two lines a minute allowed.
    fn with_two_a_minute(log: impl FnOnce(&Repeats)) {
        let repeats = Arc::new(Repeats::default());
        repeats.set_limit(LineLimit { lines: 2, interval: Duration::from_secs(60) });
        let subscriber = tracing_subscriber::registry().with(RepeatsLayer(Arc::clone(&repeats)));
        tracing::subscriber::with_default(subscriber, || log(&repeats));
    }

    fn complain(n: u32) {
        tracing::warn!(n, "cannot accept");
    }

    #[tokio::test(start_paused = true)]
    async fn lines_past_the_limit_are_counted_and_said_once_the_interval_is_over() {
        let repeats = Arc::new(Repeats::default());
        repeats.set_limit(LineLimit { lines: 2, interval: Duration::from_secs(60) });
        let subscriber = tracing_subscriber::registry().with(RepeatsLayer(Arc::clone(&repeats)));
        let _logging = tracing::subscriber::set_default(subscriber);
        (0..10).for_each(complain);
        assert_eq!(repeats.due(Instant::now(), false), [], "the interval is not over");
        tokio::time::advance(Duration::from_secs(61)).await;
        let said = |lines| LeftOut {
            line: "cannot accept".to_owned(),
            target: "plgw::telemetry::repeats::tests",
            lines,
            seconds: 61,
        };
        assert_eq!(repeats.due(Instant::now(), false), [said(8)]);
        assert_eq!(repeats.due(Instant::now(), false), [], "said once");
        (0..3).for_each(complain);
        tokio::time::advance(Duration::from_secs(61)).await;
        // A line of the next interval ends the last one too.
        complain(0);
        assert_eq!(repeats.due(Instant::now(), false), [said(1)]);
        assert_eq!(repeats.total(), BTreeMap::from([("telemetry", 9)]));
    }

    #[test]
    fn call_sites_are_counted_by_themselves_and_the_last_ones_at_the_end() {
        with_two_a_minute(|repeats| {
            (0..3).for_each(complain);
            tracing::warn!("something else");
            let due = repeats.due(Instant::now(), true);
            assert_eq!(
                due.iter().map(|out| (out.line.as_str(), out.lines)).collect::<Vec<_>>(),
                [("cannot accept", 1)]
            );
        });
    }

    #[test]
    fn records_are_never_left_out_and_without_a_limit_nothing_is() {
        with_two_a_minute(|repeats| {
            (0..9).for_each(|_| tracing::info!(target: "access", "flow closed"));
            assert_eq!(repeats.due(Instant::now(), true), []);
            repeats.set_limit(LineLimit { lines: 0, ..LineLimit::default() });
            (0..9).for_each(complain);
            assert!(repeats.total().is_empty());
        });
    }

    #[test]
    fn a_room_is_the_second_word_of_its_path() {
        assert_eq!((room("plgw::data::listener"), room("plgw::dns"), room("hyper::proto")), ("data", "dns", "hyper"));
    }
}
