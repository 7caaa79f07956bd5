//! Logs and events of refused connections: once a second for each source, with a count.

use std::time::Duration;

use crate::control::events::{EventKind, EventLog, Severity};
use crate::limits::{Refusals, RefusedCount, RefusedSource};

/// The interval over which refusals are counted.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of sources in the events of one interval; the log has more.
const MAX_EVENTS: usize = 16;

/// Reports refusals every second, for as long as it is polled.
pub(super) async fn report(refusals: &Refusals, events: &EventLog) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        let taken = refusals.take();
        for (of, refused) in &taken {
            log(of, refused.count);
        }
        record(&taken, events);
    }
}

/// A source's first refusal was logged when it happened.
fn log(of: &RefusedSource, refused: u64) {
    if refused > 1 {
        let RefusedSource { listener, reason, .. } = of;
        tracing::info!(target: "access", { listener, client.ip = of.name(), reason, refused }, "refused in a second");
    }
}

fn record(taken: &[(RefusedSource, RefusedCount)], events: &EventLog) {
    for (of, RefusedCount { subject, has_others, count }) in taken.iter().take(MAX_EVENTS) {
        let subject = if subject.is_empty() { of.listener } else { subject.as_str() };
        let plural = if *count == 1 { "connection" } else { "connections" };
        let others = if *has_others { " and others" } else { "" };
        let message = format!("refused {count} {plural} from {} to {subject}{others}: {}", of.name(), of.reason);
        events.record(EventKind::Refusal, Severity::Warning, subject, message);
    }
    let others = taken.get(MAX_EVENTS..).unwrap_or_default();
    if !others.is_empty() {
        let (count, sources) = (others.iter().map(|(_, refused)| refused.count).sum::<u64>(), others.len());
        let message = format!("refused {count} connections from {sources} other sources");
        events.record(EventKind::Refusal, Severity::Warning, "", message);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refused_connections_are_one_event_a_second_for_each_source_and_reason() {
        let (refusals, events) = (Refusals::default(), EventLog::default());
        for n in 0..80_u8 {
            // One recurring source, and more others than are named.
            let source = IpAddr::from(if n % 4 == 0 { [127, 9, 0, 0] } else { [127, 9, 1, n] });
            let (reason, subject) = if n % 8 == 0 { ("origin", "shard-00-00") } else { ("one_way", "shard-00-01") };
            refusals.is_first("flows", source, reason, subject);
        }
        refusals.is_first("admin", [127, 0, 0, 1].into(), "source_limit", "");
        let _ = tokio::time::timeout(INTERVAL / 2, report(&refusals, &events)).await;
        let messages: Vec<_> = events.latest(1_000).events.into_iter().map(|event| event.message).collect();
        for expected in [
            "refused 10 connections from 127.9.0.0 to shard-00-00: origin",
            "refused 10 connections from 127.9.0.0 to shard-00-01: one_way",
            "refused 1 connection from 127.0.0.1 to admin: source_limit",
            "refused 47 connections from 47 other sources",
        ] {
            assert!(messages.iter().any(|message| message == expected), "{expected}: {messages:#?}");
        }
        assert_eq!(messages.len(), MAX_EVENTS + 1, "{messages:#?}");
    }
}
