//! `GET /v1/throughput`: what was carried so far, by target. Who asks twice knows the rate in between.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::control::inventory::Timestamp;
use crate::data::Carried;

/// The answer.
#[derive(Serialize)]
pub(super) struct ThroughputView {
    /// When this was, in milliseconds since 1970.
    at_ms: u64,
    total: Carried,
    /// By target id; on the public path too.
    targets: BTreeMap<String, Carried>,
}

impl ThroughputView {
    pub(super) fn of(total: Carried, targets: BTreeMap<String, Carried>) -> Self {
        Self { at_ms: Timestamp::now().0, total, targets }
    }
}
