//! `/v1/faults`: fault injection.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::Method;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::former_keys::{FormerKeys, Renamed};
use super::operation::{Created, NoContent, Operation, OperationRequest};
use super::{V1Error, bad, refused};
use crate::api::text::iso8601;
use crate::control::inventory::Timestamp;
use crate::control::{ChangeError, FaultOrigin, FaultRecord};
use crate::model::{Fault, rename_former_fault_keys};

pub(super) fn operations() -> Vec<Operation> {
    let (all, one) = ("/v1/faults", "/v1/faults/{faultName}");
    vec![
        Operation::new(Method::GET, all, "listFaults", "Every fault that is set", list),
        Operation::with_body(Method::POST, all, "addFault", "Adds a fault", add),
        Operation::new(Method::DELETE, all, "clearFaults", "Clears every fault", clear_all).refusals(&[400, 503]),
        Operation::new(Method::GET, one, "getFault", "One fault", show).refusals(&[400, 404]),
        Operation::with_body(Method::PUT, one, "setFault", "Sets a fault, in the place of one that has its name", set),
        Operation::new(Method::DELETE, one, "clearFault", "Clears a fault", clear).refusals(&[400, 404, 409, 503]),
    ]
}

impl FormerKeys for Fault {
    fn rename(body: &mut Value) -> Vec<String> {
        rename_former_fault_keys(body)
    }
}

/// A fault and its state.
#[derive(Serialize, JsonSchema)]
struct FaultView {
    #[serde(flatten)]
    fault: Arc<Fault>,
    /// `command` (persistent), or `config`.
    origin: FaultOrigin,
    /// `waiting` until it begins, then `active`.
    #[schemars(extend("enum" = ["waiting", "active"]))]
    state: &'static str,
    /// Whether a replica set that loses its primary to it elects another. Otherwise it affects only the clients' path.
    elects: bool,
    /// Its effect as seen by drivers.
    drivers_see: &'static str,
    set_at: String,
    begins_at: String,
    ends_at: Option<String>,
    /// The number of affected flows.
    flows: u64,
    /// Notices about deprecated keys in the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notices: Vec<String>,
}

impl FaultView {
    fn of(record: &FaultRecord, affected: &BTreeMap<String, u64>) -> Self {
        let text = |moment: Timestamp| iso8601(moment, true);
        Self {
            fault: Arc::clone(&record.fault),
            origin: record.origin,
            state: if record.begun { "active" } else { "waiting" },
            elects: record.fault.kind.elects(),
            drivers_see: record.fault.kind.drivers_see(),
            set_at: text(record.since),
            begins_at: text(record.begins()),
            ends_at: record.ends().map(text),
            flows: affected.get(&record.fault.name).copied().unwrap_or_default(),
            notices: Vec::new(),
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct Faults {
    faults: Vec<FaultView>,
}

async fn list(request: OperationRequest) -> Result<Faults, V1Error> {
    let affected = request.shared.flows.affected_flows();
    let records = request.shared.control.faults();
    Ok(Faults { faults: records.iter().map(|record| FaultView::of(record, &affected)).collect() })
}

async fn add(
    request: OperationRequest,
    Renamed { body, notices }: Renamed<Fault>,
) -> Result<Created<FaultView>, V1Error> {
    let record = request.shared.control.add_fault(body).await.map_err(|error| refused(&error))?;
    Ok(Created(FaultView { notices, ..FaultView::of(&record, &request.shared.flows.affected_flows()) }))
}

#[derive(Serialize, JsonSchema)]
struct Cleared {
    /// The number of cleared faults.
    cleared: usize,
}

async fn clear_all(request: OperationRequest) -> Result<Cleared, V1Error> {
    let cleared = request.shared.control.clear_faults().await.map_err(|error| refused(&error))?;
    Ok(Cleared { cleared })
}

async fn show(request: OperationRequest) -> Result<FaultView, V1Error> {
    let name = request.part("faultName");
    let records = request.shared.control.faults();
    match records.iter().find(|record| record.fault.name == name) {
        Some(record) => Ok(FaultView::of(record, &request.shared.flows.affected_flows())),
        None => {
            let known = records.iter().map(|record| record.fault.name.as_str());
            Err(refused(&ChangeError::no_such_fault(name, known)))
        }
    }
}

/// The name is in the path, and optional in the body.
async fn set(
    request: OperationRequest,
    Renamed { body: mut fault, notices }: Renamed<Fault>,
) -> Result<FaultView, V1Error> {
    let name = request.part("faultName");
    if fault.name.is_empty() {
        name.clone_into(&mut fault.name);
    } else if fault.name != name {
        let written = &fault.name;
        return Err(bad(format!("the body names the fault `{written}`, the path `{name}`; write one of them")));
    }
    let record = request.shared.control.set_fault(fault).await.map_err(|error| refused(&error))?;
    Ok(FaultView { notices, ..FaultView::of(&record, &request.shared.flows.affected_flows()) })
}

async fn clear(request: OperationRequest) -> Result<NoContent, V1Error> {
    request.shared.control.clear_fault(request.part("faultName").to_owned()).await.map_err(|error| refused(&error))?;
    Ok(NoContent)
}
