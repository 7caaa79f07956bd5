//! Metrics of the admin listener.

use std::sync::Arc;

use hyper::StatusCode;
use metrics::{Counter, Key, Label, Level, Metadata, Recorder};

use crate::http::ConnectionRefusal;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

const REQUESTS: &str = "plgw_admin_requests_total";
const REFUSED: &str = "plgw_admin_refused_connections_total";

/// The admin listener's handles.
pub(super) struct ApiMetrics {
    recorder: Arc<dyn Recorder + Send + Sync>,
    refused: [Counter; ConnectionRefusal::ALL.len()],
}

impl ApiMetrics {
    pub(super) fn new(recorder: Arc<dyn Recorder + Send + Sync>) -> Self {
        recorder.describe_counter(REQUESTS.into(), None, "Requests to the admin listener, by front and status.".into());
        recorder.describe_counter(
            REFUSED.into(),
            None,
            "Connections to the admin listener closed unanswered, by reason.".into(),
        );
        let refused = ConnectionRefusal::ALL
            .map(|reason| recorder.register_counter(&key(REFUSED, &[("reason", reason.label())]), &METADATA));
        Self { recorder, refused }
    }

    /// Counts a connection that is closed without a response.
    pub(super) fn refused(&self, reason: ConnectionRefusal) {
        self.refused[reason as usize].increment(1);
    }

    /// Counts a response. `front` is from a closed set, so a client can't create series.
    pub(super) fn answered(&self, front: &'static str, status: StatusCode) {
        let labels = [("front", front.to_owned()), ("status", status.as_str().to_owned())];
        let labels: Vec<Label> = labels.into_iter().map(|(name, value)| Label::new(name, value)).collect();
        self.recorder.register_counter(&Key::from_parts(REQUESTS, labels), &METADATA).increment(1);
    }
}

fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    Key::from_parts(name, labels.iter().map(|(name, value)| Label::new(*name, *value)).collect::<Vec<_>>())
}
