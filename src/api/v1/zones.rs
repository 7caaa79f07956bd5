//! `/v1/zones`: what DNS leads to in each zone, and zonal shifts.

use std::time::Duration;

use hyper::Method;
use serde::{Deserialize, Serialize};

use super::{Outcome, Refusal, bad, ok, only, refused};
use crate::api::Shared;
use crate::api::call::{Call, Reply};
use crate::api::text::iso8601;
use crate::control::{Control, Shift};
use crate::model::{FaultKind, VpceServiceId, Zone};
use crate::plan::ZoneView;

/// A zone of a load balancer.
#[derive(Serialize)]
struct ZoneOut<'a> {
    #[serde(flatten)]
    view: &'a ZoneView,
    /// Whether DNS answers any of its addresses.
    in_dns: bool,
    /// The zonal shift that stands.
    shift: Option<ShiftOut>,
    /// Outages that have begun there, by the fault's name.
    outages: Vec<String>,
}

#[derive(Serialize)]
struct ShiftOut {
    since: String,
    expires: Option<String>,
}

impl From<&Shift> for ShiftOut {
    fn from(shift: &Shift) -> Self {
        Self { since: iso8601(shift.since, true), expires: shift.expires.map(|at| iso8601(at, true)) }
    }
}

pub(super) fn list(control: &Control) -> Reply {
    let (snapshot, shifts) = (control.snapshot(), control.shifts());
    let zones = snapshot.zones.iter().map(|view| ZoneOut {
        view,
        in_dns: view.addresses.iter().any(|address| address.in_dns),
        shift: shifts.iter().find(|s| s.service == view.service && s.zone == view.zone).map(ShiftOut::from),
        outages: outages(&snapshot.faults, view),
    });
    ok(&serde_json::json!({ "zones": zones.collect::<Vec<_>>() }))
}

fn outages(faults: &[std::sync::Arc<crate::model::Fault>], view: &ZoneView) -> Vec<String> {
    let here = faults.iter().filter(|fault| {
        fault.is_active()
            && fault.kind == FaultKind::ZoneOutage
            && fault.scope.zone.as_ref() == Some(&view.zone)
            && fault.scope.service.as_ref().is_none_or(|service| *service == view.service)
    });
    here.map(|fault| fault.name.clone()).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShiftBody {
    service: Option<VpceServiceId>,
    expires_in_seconds: Option<u64>,
}

/// A year: AWS's zonal shifts last three days at most and can be prolonged; nobody's lab runs longer.
const LONGEST: u64 = 366 * 86_400;

pub(super) async fn shift(shared: &Shared, call: &Call, zone: &str) -> Outcome {
    let control = &shared.control;
    let zone: Zone = zone.parse().map_err(bad)?;
    let outcome = match call.method {
        Method::POST => {
            let body: ShiftBody = call.json().map_err(bad)?;
            match body.expires_in_seconds {
                None => control.shift_zone(zone, body.service).await,
                Some(seconds @ 1..=LONGEST) => {
                    control.shift_zone_for(zone, body.service, Duration::from_secs(seconds)).await
                }
                Some(seconds) => {
                    return Err(bad(format!(
                        "`expires_in_seconds` is {seconds}; write 1 to {LONGEST}, or leave it out"
                    )));
                }
            }
        }
        Method::DELETE => {
            let service = call.query("service").map(str::parse).transpose().map_err(bad)?;
            control.end_zonal_shift(zone, service).await
        }
        _ => return Ok(only("POST, DELETE")),
    };
    outcome.map_err(|error| -> Refusal { refused(&error) })?;
    Ok(list(control))
}
