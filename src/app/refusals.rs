//! Refused connections as events: added up over a second, so that a client which tries all the time is one line a second.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};

use crate::control::events::{EventKind, EventLog, Severity};
use crate::data::RefusedConnection;
use crate::model::{Refusal, TargetId};

/// How long refused connections are added up.
const WINDOW: Duration = Duration::from_secs(1);

/// How many sources are named in a window; the others are added up.
const SOURCES: usize = 16;

/// Where a connection was refused and why, and where it came from: `None` where there are too many sources to name.
type Subject = (TargetId, String, Refusal, Option<IpAddr>);

/// Records what is refused until the data plane ends.
pub(super) async fn record(mut refused: Receiver<RefusedConnection>, events: EventLog) {
    while let Some(first) = refused.recv().await {
        let (until, mut counts) = (Instant::now() + WINDOW, BTreeMap::new());
        add(&mut counts, &first);
        while let Ok(Some(next)) = timeout_at(until, refused.recv()).await {
            add(&mut counts, &next);
        }
        for ((target, path, refusal, source), count) in counts {
            let source = source.map_or_else(|| "other sources".to_owned(), |source| source.to_string());
            let plural = if count == 1 { "connection" } else { "connections" };
            let message =
                format!("refused {count} {plural} from {source} to {target} through {path}: {}", refusal.label());
            events.record(EventKind::Refusal, Severity::Warning, target.as_str(), message);
        }
    }
}

fn add(counts: &mut BTreeMap<Subject, usize>, refused: &RefusedConnection) {
    let RefusedConnection { listener, client, refusal } = refused;
    let subject = |source| (listener.group.target.clone(), listener.gate.label().to_owned(), *refusal, source);
    let named = subject(Some(client.to_canonical()));
    let is_room = counts.len() < SOURCES || counts.contains_key(&named);
    *counts.entry(if is_room { named } else { subject(None) }).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::config;
    use crate::plan::{self, PortAllocations};

    #[tokio::test(start_paused = true)]
    async fn refused_connections_are_added_up_by_source_and_reason_over_a_second() {
        let desired = config::quickstart().desired;
        let (snapshot, _) = plan::compile(&desired, &PortAllocations::default(), plan::Generation(1)).expect("a plan");
        let listener = snapshot.listeners.values().next().expect("a listener");
        let (refuse, refused) = mpsc::channel(1024);
        for n in 0..40_u8 {
            // Two named sources that come again, and more others than are named.
            let client = if n % 4 == 0 { [127, 9, 9, 1] } else { [127, 9, 0, n] };
            let refusal = if n % 8 == 0 { Refusal::Origin } else { Refusal::OneWay };
            let refused = RefusedConnection { listener: Arc::clone(listener), client: client.into(), refusal };
            refuse.send(refused).await.expect("there is room");
        }
        drop(refuse);
        let events = EventLog::default();
        record(refused, events.clone()).await;
        let messages: Vec<_> = events.latest(1_000).events.into_iter().map(|event| event.message).collect();
        let (target, path) = (&listener.group.target, listener.gate.label());
        let named = format!("refused 5 connections from 127.9.9.1 to {target} through {path}: origin");
        assert!(messages.contains(&named), "{messages:?}");
        let others = format!("connections from other sources to {target} through {path}: one_way");
        assert!(messages.iter().any(|message| message.ends_with(&others)), "{messages:?}");
        assert!(messages.len() <= SOURCES + 2, "{messages:?}");
    }
}
