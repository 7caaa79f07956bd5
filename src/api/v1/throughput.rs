//! `GET /v1/throughput`: traffic since the start, by target. The difference of two responses gives the rate.

use std::collections::BTreeMap;

use hyper::Method;
use schemars::JsonSchema;
use serde::Serialize;

use super::V1Error;
use super::operation::{Operation, OperationRequest};
use crate::control::inventory::Timestamp;
use crate::data::Carried;

pub(super) fn operations() -> Vec<Operation> {
    let summary = "What was carried since the start, in all and by target";
    vec![Operation::new(Method::GET, "/v1/throughput", "getThroughput", summary, show)]
}

#[derive(Serialize, JsonSchema)]
struct Throughput {
    /// The time of the counts, in milliseconds since 1970.
    at_ms: u64,
    total: Carried,
    /// By target id; includes the public path.
    targets: BTreeMap<String, Carried>,
}

async fn show(request: OperationRequest) -> Result<Throughput, V1Error> {
    let flows = &request.shared.flows;
    Ok(Throughput { at_ms: Timestamp::now().0, total: flows.carried(), targets: flows.carried_by_target() })
}
