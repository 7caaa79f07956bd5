//! `/v1/faults`: what is to go wrong.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde::Serialize;

use super::{Outcome, bad, ok, only, refused};
use crate::api::Shared;
use crate::api::call::{Call, empty, json};
use crate::api::text::iso8601;
use crate::control::inventory::Timestamp;
use crate::control::{FaultOrigin, FaultRecord};
use crate::model::Fault;

/// A fault, and how it fares.
#[derive(Serialize)]
struct FaultView<'a> {
    #[serde(flatten)]
    fault: &'a Fault,
    /// Whose it is: `command`, and then it outlives the process, or `config`.
    origin: FaultOrigin,
    /// `waiting` until it begins, then `active`.
    state: &'static str,
    set_at: String,
    begins_at: String,
    ends_at: Option<String>,
    /// Flows that it befell.
    flows: u64,
}

impl<'a> FaultView<'a> {
    fn of(record: &'a FaultRecord, befallen: &BTreeMap<String, u64>) -> Self {
        let text = |moment: Timestamp| iso8601(moment, true);
        Self {
            fault: &record.fault,
            origin: record.origin,
            state: if record.begun { "active" } else { "waiting" },
            set_at: text(record.since),
            begins_at: text(record.begins()),
            ends_at: record.ends().map(text),
            flows: befallen.get(&record.fault.name).copied().unwrap_or_default(),
        }
    }
}

pub(super) async fn all(shared: &Shared, call: &Call) -> Outcome {
    match call.method {
        Method::GET => {
            let (records, befallen) = (shared.control.faults(), shared.flows.befallen());
            let views: Vec<_> = records.iter().map(|record| FaultView::of(record, &befallen)).collect();
            Ok(ok(&serde_json::json!({ "faults": views })))
        }
        Method::POST => {
            let fault = fault_of(call, "")?;
            let record = shared.control.add_fault(fault).await.map_err(|error| refused(&error))?;
            Ok(json(StatusCode::CREATED, &FaultView::of(&record, &shared.flows.befallen())))
        }
        Method::DELETE => {
            let cleared = shared.control.clear_faults().await.map_err(|error| refused(&error))?;
            Ok(ok(&serde_json::json!({ "cleared": cleared })))
        }
        _ => Ok(only("GET, POST, DELETE")),
    }
}

pub(super) async fn one(shared: &Shared, call: &Call, name: &str) -> Outcome {
    match call.method {
        Method::GET => {
            let records = shared.control.faults();
            match records.iter().find(|record| record.fault.name == name) {
                Some(record) => Ok(ok(&FaultView::of(record, &shared.flows.befallen()))),
                None => {
                    let known: Vec<_> = records.iter().map(|record| record.fault.name.as_str()).collect();
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    let error = crate::control::ChangeError::NoSuchFault { name: name.to_owned(), known };
                    Err(refused(&error))
                }
            }
        }
        Method::PUT => {
            let fault = fault_of(call, name)?;
            let record = shared.control.set_fault(fault).await.map_err(|error| refused(&error))?;
            Ok(ok(&FaultView::of(&record, &shared.flows.befallen())))
        }
        Method::DELETE => {
            shared.control.clear_fault(name.to_owned()).await.map_err(|error| refused(&error))?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        _ => Ok(only("GET, PUT, DELETE")),
    }
}

/// The fault that a request's body has; its name may stand in the path, or be left out.
fn fault_of(call: &Call, name: &str) -> Result<Fault, super::Refusal> {
    let mut body: serde_json::Value = call.json().map_err(bad)?;
    if let Some(fields) = body.as_object_mut() {
        let written = fields.entry("name").or_insert_with(|| name.into());
        if !name.is_empty() && written != name {
            return Err(bad(format!("the body names the fault {written}, the path `{name}`; write one of them")));
        }
    }
    serde_json::from_value(body).map_err(|error| bad(format!("the body is not what is expected: {error}")))
}
