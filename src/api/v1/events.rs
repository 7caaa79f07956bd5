//! `/v1/events`: recent events in pages, and new events as they happen.

use std::time::Duration;

use hyper::Method;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;

use super::operation::{Operation, OperationRequest};
use super::{V1Error, bad};
use crate::api::text::iso8601;
use crate::control::events::{Event, EventKind, MAX_EVENTS, Severity};
use crate::model::HumanDuration;

/// Maximum wait for an event: below the clients' response time-outs.
const MAX_WAIT: Duration = Duration::from_secs(30);

pub(super) fn operations() -> Vec<Operation> {
    let summary = "Recent events: after `since`, or without it the last `limit` ones; waits up to `wait`, as `20s`, for the next one";
    let list = Operation::new(Method::GET, "/v1/events", "listEvents", summary, list);
    vec![list.query(&["since", "limit", "wait"])]
}

/// Events, oldest first.
#[derive(Serialize, JsonSchema)]
struct Events {
    events: Vec<EventOut>,
    /// The `since` of the next page.
    next: u64,
    /// Whether events after `since` were already dropped.
    missed: bool,
    /// Notices about forms of earlier versions in the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notices: Vec<String>,
}

/// An event.
#[derive(Serialize, JsonSchema)]
struct EventOut {
    /// Its sequence number, which grows with each event, also over restarts.
    seq: u64,
    at: String,
    kind: EventKind,
    severity: Severity,
    /// The name of the affected target, zone, fault or endpoint.
    subject: Option<String>,
    message: String,
}

impl From<Event> for EventOut {
    fn from(event: Event) -> Self {
        let Event { seq, at, kind, severity, subject, message } = event;
        Self { seq, at: iso8601(at, true), kind, severity, subject, message }
    }
}

async fn list(request: OperationRequest) -> Result<Events, V1Error> {
    let number = |name: &str, most: u64| match request.query(name) {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(number) if number <= most => Ok(Some(number)),
            _ => Err(bad(format!("`{name}` is `{text}`; write a whole number up to {most}, or leave it out"))),
        },
    };
    let since = number("since", u64::MAX)?;
    let (wait, notice) = wait(request.query("wait"))?;
    let limit = number("limit", MAX_EVENTS as u64)?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(MAX_EVENTS);
    let (events, control) = (request.shared.control.events(), &request.shared.control);
    let page = match since {
        None => events.latest(limit),
        Some(since) => {
            if let Some(wait) = wait {
                // A stopping gateway answers waiting clients at once.
                let next = async {
                    tokio::select! {
                        () = events.wait(since) => {}
                        () = control.ended() => {}
                    }
                };
                let _ = timeout(wait, next).await;
            }
            events.after(since, limit)
        }
    };
    Ok(Events {
        events: page.events.into_iter().map(EventOut::from).collect(),
        next: page.next,
        missed: page.missed,
        notices: notice.into_iter().collect(),
    })
}

/// The parameter `wait`, and a notice where it is a number of seconds, as an earlier version had it.
fn wait(text: Option<&str>) -> Result<(Option<Duration>, Option<String>), V1Error> {
    let Some(text) = text else { return Ok((None, None)) };
    let former = text.parse().ok().map(|seconds| HumanDuration(Duration::from_secs(seconds)));
    match former.map_or_else(|| text.parse(), Ok) {
        Ok(HumanDuration(wait)) if wait <= MAX_WAIT => {
            let notice = former.map(|now| format!("wait: the form of an earlier version; write `wait={now}`"));
            notice.iter().for_each(|notice| tracing::warn!(notice, "request notice"));
            Ok((Some(wait), notice))
        }
        _ => {
            let longest = HumanDuration(MAX_WAIT);
            Err(bad(format!("`wait` is `{text}`; write a duration up to `{longest}`, or leave it out")))
        }
    }
}
