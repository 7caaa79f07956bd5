//! The access log: one JSON object per flow, at its end, and one per refused connection.
//!
//! Uses the field names of the log line on standard error, independently of that log's level and format.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::event::{EndedFlow, RefusedFlow};
use crate::model::Origin;
use crate::plan::EndpointAccess;

#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Seconds since 1970, with milliseconds: when the flow ended or was refused.
    time: f64,
    event: &'static str,
    #[serde(rename = "flow.id", skip_serializing_if = "Option::is_none")]
    flow: Option<String>,
    #[serde(rename = "client.addr")]
    client: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    #[serde(rename = "endpoint.id")]
    endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(rename = "listener.addr")]
    listener: SocketAddr,
    #[serde(rename = "target.id")]
    target: &'a str,
    #[serde(flatten)]
    outcome: AccessOutcome,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum AccessOutcome {
    Closed {
        #[serde(rename = "target.addr")]
        target: SocketAddr,
        #[serde(rename = "bytes.to_target")]
        to_target: u64,
        #[serde(rename = "bytes.to_client")]
        to_client: u64,
        duration_ms: u64,
        end: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'static str>,
    },
    Refused {
        refusal: &'static str,
    },
}

/// The line of an ended flow.
pub(super) fn closed(ended: &EndedFlow) -> String {
    let flow = &ended.flow;
    let duration = ended.ended.duration_since(flow.opened).unwrap_or_default();
    json(&Line {
        time: time(ended.ended),
        event: "flow closed",
        flow: Some(flow.id.to_string()),
        client: flow.client,
        origin: Some(flow.origin),
        endpoint: endpoint(flow.access.as_deref()),
        zone: zone(flow.access.as_deref(), flow.local),
        listener: flow.local,
        target: ended.target.as_str(),
        outcome: AccessOutcome::Closed {
            target: ended.target_address,
            to_target: flow.bytes_to_target,
            to_client: flow.bytes_to_client,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            end: ended.end.label(),
            detail: ended.end.detail(),
        },
    })
}

/// The line of a refused connection.
pub(super) fn refused(flow: &RefusedFlow) -> String {
    json(&Line {
        time: time(flow.at),
        event: "flow refused",
        flow: None,
        client: flow.client,
        origin: None,
        endpoint: endpoint(flow.access.as_deref()),
        zone: zone(flow.access.as_deref(), flow.local),
        listener: flow.local,
        target: flow.target.as_str(),
        outcome: AccessOutcome::Refused { refusal: flow.refusal.label() },
    })
}

fn endpoint(access: Option<&EndpointAccess>) -> &str {
    access.map_or("public", |access| access.id.as_str())
}

fn zone(access: Option<&EndpointAccess>, local: SocketAddr) -> Option<&str> {
    access?.addresses.iter().find(|address| address.ip == local.ip()).map(|address| address.zone.as_str())
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 stay below 2^52")]
fn time(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64 / 1000.0)
}

fn json(line: &Line<'_>) -> String {
    serde_json::to_string(line).expect("texts, numbers and addresses are JSON")
}
