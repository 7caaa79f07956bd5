//! Metrics of the HTTP front end: each worker keeps its own handles, created on first use.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};

use super::verdict::Verdict;
use crate::model::{AppEndpointKind, AppId, Origin};
use crate::plan::{AppListener, AppListenerKind};

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Help texts.
const DESCRIPTIONS: &[(&str, &str)] = &[
    (REQUESTS, "Requests to App Services apps, by endpoint type, origin, verdict and status class."),
    (WEBSOCKETS_OPENED, "WebSockets handed to the relay."),
    (WEBSOCKETS_CLOSED, "WebSockets ended, by end; opened less closed is what is open."),
    (WEBSOCKET_BYTES, "Payload bytes relayed on WebSockets, by direction."),
    (CONNECTIONS, "Connections of clients that were accepted."),
    (REFUSED, "Connections of clients that were refused, by reason."),
    (HANDSHAKES_FAILED, "TLS handshakes that failed."),
];

const REQUESTS: &str = "plgw_app_requests_total";
const DURATION: &str = "plgw_app_request_duration_seconds";
const WEBSOCKETS_OPENED: &str = "plgw_app_websockets_opened_total";
const WEBSOCKETS_CLOSED: &str = "plgw_app_websockets_closed_total";
const WEBSOCKETS_OPEN: &str = "plgw_app_websockets_open";
const WEBSOCKET_BYTES: &str = "plgw_app_websocket_bytes_total";
const CONNECTIONS: &str = "plgw_app_connections_total";
const REFUSED: &str = "plgw_app_refused_connections_total";
const HANDSHAKES_FAILED: &str = "plgw_app_tls_failures_total";

/// The `endpoint` label: `general`, `sync` or `public`.
pub(crate) fn endpoint_type(app_listener: &AppListener) -> &'static str {
    match &app_listener.kind {
        AppListenerKind::Private { kind: AppEndpointKind::General, .. } => "general",
        AppListenerKind::Private { kind: AppEndpointKind::Sync, .. } => "sync",
        AppListenerKind::Public => "public",
    }
}

/// Registers the metrics' descriptions.
pub(crate) fn describe(recorder: &dyn Recorder) {
    for (name, text) in DESCRIPTIONS {
        recorder.describe_counter((*name).into(), None, (*text).into());
    }
    recorder.describe_gauge(WEBSOCKETS_OPEN.into(), None, "WebSockets open now.".into());
    let text = "From a request's head to its answer's.";
    recorder.describe_histogram(DURATION.into(), Some(Unit::Seconds), text.into());
}

/// Labels of a request. An app that doesn't exist has no name here: a client must not be able to create labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestKey {
    pub(crate) app: Option<AppId>,
    pub(crate) endpoint: &'static str,
    pub(crate) origin: Origin,
    pub(crate) verdict: Verdict,
    /// The first digit of the status code.
    pub(crate) class: u16,
}

/// The handles of one worker.
pub(crate) struct AppMetrics {
    recorder: Arc<dyn Recorder + Send + Sync>,
    requests: RefCell<BTreeMap<RequestKey, (Counter, Histogram)>>,
    connections: RefCell<HashMap<&'static str, Counter>>,
    refused: RefCell<HashMap<[&'static str; 2], Counter>>,
    handshakes_failed: Counter,
}

impl fmt::Debug for AppMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppMetrics").finish_non_exhaustive()
    }
}

/// The handles of a WebSocket.
pub(crate) struct WebSocketSeries {
    labels: [(&'static str, String); 2],
    pub(crate) open: Gauge,
    pub(crate) opened: Counter,
    pub(crate) to_backend: Counter,
    pub(crate) to_client: Counter,
}

impl WebSocketSeries {
    pub(crate) fn app(&self) -> &str {
        &self.labels[0].1
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.labels[1].1
    }
}

impl AppMetrics {
    pub(crate) fn new(recorder: Arc<dyn Recorder + Send + Sync>) -> Self {
        let handshakes_failed = recorder.register_counter(&Key::from_static_name(HANDSHAKES_FAILED), &METADATA);
        let (requests, connections, refused) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { recorder, requests, connections, refused, handshakes_failed }
    }

    /// Counts a request and its duration.
    pub(crate) fn request(&self, key: RequestKey, took: Duration) {
        let mut requests = self.requests.borrow_mut();
        let (counter, histogram) = requests.entry(key).or_insert_with_key(|key| {
            let app = key.app.as_ref().map_or("none", AppId::as_str);
            let status = ["1xx", "2xx", "3xx", "4xx", "5xx"];
            let labels = [
                ("app", app),
                ("endpoint", key.endpoint),
                ("origin", key.origin.label()),
                ("verdict", key.verdict.label()),
                ("status", status[usize::from(key.class.clamp(1, 5)) - 1]),
            ];
            let duration = named(DURATION, &labels[..2]);
            (
                self.recorder.register_counter(&named(REQUESTS, &labels), &METADATA),
                self.recorder.register_histogram(&duration, &METADATA),
            )
        });
        counter.increment(1);
        histogram.record(took.as_secs_f64());
    }

    pub(crate) fn connection(&self, endpoint: &'static str) {
        let mut connections = self.connections.borrow_mut();
        let counter = connections.entry(endpoint).or_insert_with(|| {
            self.recorder.register_counter(&named(CONNECTIONS, &[("endpoint", endpoint)]), &METADATA)
        });
        counter.increment(1);
    }

    pub(crate) fn refused(&self, endpoint: &'static str, reason: &'static str) {
        let mut refused = self.refused.borrow_mut();
        let counter = refused.entry([endpoint, reason]).or_insert_with(|| {
            let key = named(REFUSED, &[("endpoint", endpoint), ("reason", reason)]);
            self.recorder.register_counter(&key, &METADATA)
        });
        counter.increment(1);
    }

    /// Releases the handles of deleted apps.
    pub(crate) fn retain_apps(&self, is_there: impl Fn(&AppId) -> bool) {
        self.requests.borrow_mut().retain(|key, _| key.app.as_ref().is_none_or(&is_there));
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.increment(1);
    }

    /// The handles for WebSockets of an app at listeners of one type.
    pub(crate) fn websocket(&self, app: &AppId, endpoint: &'static str) -> WebSocketSeries {
        let labels = [("app", app.as_str()), ("endpoint", endpoint)];
        let counter = |name: &'static str, more: &[(&'static str, &str)]| {
            let all: Vec<_> = labels.iter().chain(more).copied().collect();
            self.recorder.register_counter(&named(name, &all), &METADATA)
        };
        WebSocketSeries {
            open: self.recorder.register_gauge(&named(WEBSOCKETS_OPEN, &labels), &METADATA),
            opened: counter(WEBSOCKETS_OPENED, &[]),
            to_backend: counter(WEBSOCKET_BYTES, &[("direction", "to_backend")]),
            to_client: counter(WEBSOCKET_BYTES, &[("direction", "to_client")]),
            labels: labels.map(|(name, value)| (name, value.to_owned())),
        }
    }

    pub(crate) fn websocket_closed(&self, series: &WebSocketSeries, end: &'static str) {
        let [(app, id), (endpoint, kind)] = &series.labels;
        let key = named(WEBSOCKETS_CLOSED, &[(app, id), (endpoint, kind), ("end", end)]);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }
}

fn named(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    Key::from_parts(name, labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect::<Vec<_>>())
}
