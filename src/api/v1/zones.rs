//! `/v1/zones`: the addresses that DNS answers in each zone, and zonal shifts.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Operation, OperationRequest};
use super::{V1Error, bad, refused};
use crate::api::text::iso8601;
use crate::control::{Control, Shift};
use crate::model::{Fault, FaultKind, VpceServiceId, Zone};
use crate::plan::{DnsAnswer, ZoneView};

pub(super) fn operations() -> Vec<Operation> {
    let shift_path = "/v1/zones/{zone}/shift";
    vec![
        Operation::new(Method::GET, "/v1/zones", "listZones", "Every zone: its addresses, health and shift", list),
        Operation::with_body(Method::POST, shift_path, "shiftZone", "Shifts traffic away from a zone", shift),
        Operation::new(Method::DELETE, shift_path, "endShift", "Ends a zonal shift", end).query(&["service"]),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Zones {
    zones: Vec<ZoneOut>,
}

/// A zone of a load balancer.
#[derive(Serialize, JsonSchema)]
struct ZoneOut {
    #[serde(flatten)]
    view: ZoneView,
    /// Whether DNS answers any of its addresses.
    in_dns: bool,
    /// Why DNS answers them though the zone is unhealthy or lost; nothing where that is not so.
    fail_open: Option<&'static str>,
    /// The zonal shift in force.
    shift: Option<ShiftOut>,
    /// Outages that have begun there, by the fault's name.
    outages: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct ShiftOut {
    since: String,
    expires: Option<String>,
}

impl From<&Shift> for ShiftOut {
    fn from(shift: &Shift) -> Self {
        Self { since: iso8601(shift.since, true), expires: shift.expires.map(|at| iso8601(at, true)) }
    }
}

async fn list(request: OperationRequest) -> Result<Zones, V1Error> {
    Ok(zones(&request.shared.control))
}

fn zones(control: &Control) -> Zones {
    let (snapshot, shifts) = (control.snapshot(), control.shifts());
    let zones = snapshot.zones.iter().map(|view| ZoneOut {
        view: view.clone(),
        in_dns: view.addresses.iter().any(|address| address.in_dns),
        fail_open: view.fail_open().map(DnsAnswer::reason),
        shift: shifts.iter().find(|s| s.service == view.service && s.zone == view.zone).map(ShiftOut::from),
        outages: outages(&snapshot.faults, view),
    });
    Zones { zones: zones.collect() }
}

fn outages(faults: &[Arc<Fault>], view: &ZoneView) -> Vec<String> {
    let here = faults.iter().filter(|fault| {
        fault.is_active()
            && fault.kind == FaultKind::ZoneOutage
            && fault.scope.zone.as_ref() == Some(&view.zone)
            && fault.scope.service.as_ref().is_none_or(|service| *service == view.service)
    });
    here.map(|fault| fault.name.clone()).collect()
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ShiftRequest {
    /// Left out: every load balancer.
    service: Option<VpceServiceId>,
    /// Left out: until it is ended.
    #[schemars(range(min = 1, max = LONGEST))]
    expires_in_seconds: Option<u64>,
}

/// A year. AWS's zonal shifts last three days at most and can be prolonged.
const LONGEST: u64 = 366 * 86_400;

async fn shift(request: OperationRequest, body: ShiftRequest) -> Result<Zones, V1Error> {
    let (control, zone) = (&request.shared.control, zone(&request)?);
    let outcome = match body.expires_in_seconds {
        None => control.shift_zone(zone, body.service).await,
        Some(seconds @ 1..=LONGEST) => control.shift_zone_for(zone, body.service, Duration::from_secs(seconds)).await,
        Some(seconds) => {
            return Err(bad(format!("`expires_in_seconds` is {seconds}; write 1 to {LONGEST}, or leave it out")));
        }
    };
    outcome.map_err(|error| refused(&error))?;
    Ok(zones(control))
}

async fn end(request: OperationRequest) -> Result<Zones, V1Error> {
    let (control, zone) = (&request.shared.control, zone(&request)?);
    let service = request.query("service").map(str::parse).transpose().map_err(bad)?;
    control.end_zonal_shift(zone, service).await.map_err(|error| refused(&error))?;
    Ok(zones(control))
}

fn zone(request: &OperationRequest) -> Result<Zone, V1Error> {
    request.part("zone").parse().map_err(bad)
}
