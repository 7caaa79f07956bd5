//! `/v1/zones`: the addresses in DNS by zone, and zonal shifts.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::former_keys::{FormerKeys, Renamed};
use super::operation::{Operation, OperationRequest};
use super::{V1Error, bad, refused};
use crate::api::text::iso8601;
use crate::control::{Control, ZonalShift};
use crate::model::{Fault, HumanDuration, VpceServiceId, Zone, rename_former_time};
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
    /// Notices about deprecated keys in the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notices: Vec<String>,
}

/// A zone of a load balancer.
#[derive(Serialize, JsonSchema)]
struct ZoneOut {
    #[serde(flatten)]
    view: ZoneView,
    /// Whether any of its addresses is in DNS.
    in_dns: bool,
    /// Why its addresses are in DNS although the zone is unhealthy or in outage; null if that is not so.
    fail_open: Option<&'static str>,
    /// The active zonal shift.
    shift: Option<ShiftOut>,
    /// Outages in the zone, by the fault's name.
    outages: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct ShiftOut {
    since: String,
    expires: Option<String>,
}

impl From<&ZonalShift> for ShiftOut {
    fn from(shift: &ZonalShift) -> Self {
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
    Zones { zones: zones.collect(), notices: Vec::new() }
}

fn outages(faults: &[Arc<Fault>], view: &ZoneView) -> Vec<String> {
    let here = faults.iter().filter(|fault| fault.is_active() && fault.loses_zone(&view.service, &view.zone));
    here.map(|fault| fault.name.clone()).collect()
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ShiftRequest {
    /// Missing: every load balancer.
    service: Option<VpceServiceId>,
    /// The duration, from one second to 366 days. Missing: until it is ended.
    #[serde(rename = "for")]
    lasts: Option<HumanDuration>,
}

impl FormerKeys for ShiftRequest {
    /// `expires_in_seconds`, a number or null.
    fn rename(body: &mut Value) -> Vec<String> {
        let renamed = body
            .as_object_mut()
            .and_then(|body| rename_former_time(body, ("expires_in_seconds", "for"), Duration::from_secs));
        renamed.into_iter().collect()
    }
}

/// AWS's zonal shifts last at most three days and can be extended.
const MIN_DURATION: Duration = Duration::from_secs(1);
const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);

async fn shift(request: OperationRequest, Renamed { body, notices }: Renamed<ShiftRequest>) -> Result<Zones, V1Error> {
    let (control, zone) = (&request.shared.control, zone(&request)?);
    let outcome = match body.lasts {
        None => control.shift_zone(zone, body.service).await,
        Some(HumanDuration(lasts)) if (MIN_DURATION..=MAX_DURATION).contains(&lasts) => {
            control.shift_zone_for(zone, body.service, lasts).await
        }
        Some(lasts) => {
            let (shortest, longest) = (HumanDuration(MIN_DURATION), HumanDuration(MAX_DURATION));
            return Err(bad(format!("`for` is `{lasts}`; write `{shortest}` to `{longest}`, or leave it out")));
        }
    };
    outcome.map_err(|error| refused(&error))?;
    Ok(Zones { notices, ..zones(control) })
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
