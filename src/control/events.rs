//! A log of recent events: health changes, port moves, faults, zones, reloads, registrations, refused connections.
//!
//! A ring buffer in memory. Refused connections have a separate one, so that a client that is refused all day displaces
//! no other event.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

use super::inventory::Timestamp;

/// Capacity of each ring buffer.
pub const MAX_EVENTS: usize = 1_000;

/// The severity of an event or a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Clients are not served, or soon will not be.
    Critical,
    /// Something is wrong.
    Warning,
    /// Normal, and worth knowing.
    Info,
}

/// The subject of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The health of a target's member.
    Health,
    /// A target's port.
    Move,
    /// A fault.
    Fault,
    /// A zone: shifts, and whether DNS contains its addresses.
    Zone,
    /// The state of an interface endpoint.
    Endpoint,
    /// A reload of the config.
    Reload,
    /// Members were deregistered or registered.
    Registration,
    /// The address of a node's host name.
    #[serde(rename = "node_name")]
    NodeName,
    /// Refused connections.
    Refusal,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Grows with each event. Starts at the start time in milliseconds since 1970, so it also grows over restarts.
    pub seq: u64,
    /// The time of the event.
    pub at: Timestamp,
    /// Its subject.
    pub kind: EventKind,
    /// Its severity.
    pub severity: Severity,
    /// The name of the affected target, zone, fault or endpoint; `None`: the whole gateway.
    pub subject: Option<String>,
    /// The event as a sentence.
    pub message: String,
}

/// A part of the events, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// The `since` of the next page.
    pub next: u64,
    /// Whether events after `since` were already dropped.
    pub missed: bool,
}

/// The events. Clones are the same log.
#[derive(Debug, Clone)]
pub struct EventLog {
    rings: Arc<Mutex<EventBuffers>>,
    last: watch::Sender<u64>,
}

#[derive(Debug)]
struct EventBuffers {
    changes: VecDeque<Event>,
    refusals: VecDeque<Event>,
    last: u64,
    /// The sequence number of the last dropped event.
    dropped: u64,
}

impl Default for EventLog {
    fn default() -> Self {
        let last = Timestamp::now().0;
        let rings = EventBuffers { changes: VecDeque::new(), refusals: VecDeque::new(), last, dropped: 0 };
        Self { rings: Arc::new(Mutex::new(rings)), last: watch::Sender::new(last) }
    }
}

impl EventLog {
    /// Adds an event. An empty `subject` means the whole gateway.
    pub fn record(&self, kind: EventKind, severity: Severity, subject: &str, message: String) {
        let mut rings = self.rings();
        rings.last += 1;
        let subject = (!subject.is_empty()).then(|| subject.to_owned());
        let event = Event { seq: rings.last, at: Timestamp::now(), kind, severity, subject, message };
        let ring = if kind == EventKind::Refusal { &mut rings.refusals } else { &mut rings.changes };
        ring.push_back(event);
        if ring.len() > MAX_EVENTS {
            let dropped = ring.pop_front().map_or(0, |event| event.seq);
            rings.dropped = rings.dropped.max(dropped);
        }
        self.last.send_replace(rings.last);
    }

    /// The first `limit` events after number `since`.
    #[must_use]
    pub fn after(&self, since: u64, limit: usize) -> EventPage {
        let rings = self.rings();
        let mut events: Vec<Event> = [&rings.changes, &rings.refusals]
            .into_iter()
            .flat_map(|ring| ring.iter().skip(ring.partition_point(|event| event.seq <= since)))
            .cloned()
            .collect();
        events.sort_by_key(|event| event.seq);
        events.truncate(limit);
        let next = events.last().map_or(rings.last, |event| event.seq);
        EventPage { events, next, missed: since > 0 && since < rings.dropped }
    }

    /// The last `limit` events.
    #[must_use]
    pub fn latest(&self, limit: usize) -> EventPage {
        let page = self.after(0, usize::MAX);
        let events = page.events[page.events.len().saturating_sub(limit)..].to_vec();
        EventPage { events, ..page }
    }

    /// Waits until there is an event after number `since`.
    pub async fn wait(&self, since: u64) {
        // The sender is here, so the channel is open.
        let _ = self.last.subscribe().wait_for(|last| *last > since).await;
    }

    fn rings(&self) -> MutexGuard<'_, EventBuffers> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(log: &EventLog, kind: EventKind, subject: &str) {
        log.record(kind, Severity::Info, subject, format!("{subject} changed"));
    }

    fn subjects(page: &EventPage) -> Vec<&str> {
        page.events.iter().filter_map(|event| event.subject.as_deref()).collect()
    }

    #[test]
    fn events_are_read_page_by_page_in_their_order() {
        let log = EventLog::default();
        let begin = log.after(0, 10).next;
        for (kind, subject) in
            [(EventKind::Fault, "a"), (EventKind::Refusal, "b"), (EventKind::Zone, "c"), (EventKind::Refusal, "d")]
        {
            record(&log, kind, subject);
        }
        let first = log.after(begin, 3);
        assert_eq!(subjects(&first), ["a", "b", "c"]);
        let second = log.after(first.next, 3);
        assert_eq!((subjects(&second), second.missed), (vec!["d"], false));
        assert_eq!(log.after(second.next, 3), EventPage { events: Vec::new(), next: second.next, missed: false });
        assert_eq!(subjects(&log.latest(2)), ["c", "d"]);
    }

    #[test]
    fn refused_connections_displace_no_other_event_and_missed_events_are_reported() {
        let log = EventLog::default();
        record(&log, EventKind::Health, "a");
        let since = log.after(0, usize::MAX).next;
        for _ in 0..=MAX_EVENTS {
            record(&log, EventKind::Refusal, "b");
        }
        assert_eq!(subjects(&log.after(0, 1)), ["a"]);
        let page = log.after(since, usize::MAX);
        assert_eq!((page.events.len(), page.missed), (MAX_EVENTS, true));
        assert!(!log.after(page.next, 1).missed);
    }

    #[tokio::test]
    async fn a_reader_waits_for_the_next_event() {
        let log = EventLog::default();
        let since = log.after(0, 1).next;
        let waiting = tokio::spawn({
            let log = log.clone();
            async move { log.wait(since).await }
        });
        record(&log, EventKind::Move, "a");
        waiting.await.expect("it ends");
    }
}
