//! `/v1/limits`: how much each load balancer may hold, and how much of it is taken.

use std::collections::BTreeMap;

use hyper::Method;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Outcome, bad, ok, only, refused};
use crate::api::Shared;
use crate::api::call::{Call, Reply};
use crate::control::draft::NewLimits;
use crate::model::{MAXIMUM_TARGET_LIMIT, ProjectId, Region, VpceServiceId};

/// The limits of one load balancer.
#[derive(Serialize)]
struct LimitsOut<'a> {
    service: &'a VpceServiceId,
    project: &'a ProjectId,
    region: &'a Region,
    /// Addressable targets in the region.
    targets_per_region: Used,
    /// Flows that one process may hold, and the most that one holds now.
    flows_per_target: Used,
    /// What one endpoint address may carry each way; null: no cap.
    bandwidth_bytes_per_second: Option<u64>,
    /// Listener ports.
    ports: Ports,
}

#[derive(Serialize)]
struct Used {
    limit: usize,
    used: usize,
    /// What the limit can be set to.
    maximum: usize,
}

#[derive(Serialize)]
struct Ports {
    range: String,
    used: usize,
}

/// What can be set at run time; what is left out stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Left out: every load balancer.
    service: Option<VpceServiceId>,
    targets_per_region: Option<usize>,
    flows_per_target: Option<usize>,
    /// Null takes the cap away.
    #[serde(default, deserialize_with = "present")]
    bandwidth_bytes_per_second: Option<Option<u64>>,
}

/// Tells null from what is left out.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// More flows than any machine holds.
const MOST_FLOWS: usize = 10_000_000;
/// As the config has it: a million megabits a second.
const MOST_BANDWIDTH: u64 = 1_000_000 * 125_000;

pub(super) async fn answer(shared: &Shared, call: &Call) -> Outcome {
    match call.method {
        Method::GET => Ok(view(shared)),
        Method::PUT => {
            let change: Change = call.json().map_err(bad)?;
            check(&change)?;
            let limits = NewLimits {
                targets_per_region: change.targets_per_region,
                flows_per_target: change.flows_per_target,
                bandwidth_cap: change.bandwidth_bytes_per_second,
            };
            let edit = shared.control.edit(move |draft| draft.set_limits(change.service.as_ref(), limits));
            edit.await.map_err(|error| refused(&error))?;
            Ok(view(shared))
        }
        _ => Ok(only("GET, PUT")),
    }
}

fn check(change: &Change) -> Result<(), super::Refusal> {
    let within = |name: &str, value: Option<u64>, most: u64| match value {
        Some(value) if !(1..=most).contains(&value) => {
            Err(bad(format!("`{name}` is {value}; write 1 to {most}, or leave it out")))
        }
        _ => Ok(()),
    };
    let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    within("targets_per_region", change.targets_per_region.map(wide), wide(MAXIMUM_TARGET_LIMIT))?;
    within("flows_per_target", change.flows_per_target.map(wide), wide(MOST_FLOWS))?;
    within("bandwidth_bytes_per_second", change.bandwidth_bytes_per_second.flatten(), MOST_BANDWIDTH)
}

fn view(shared: &Shared) -> Reply {
    let (inventory, snapshot) = (shared.control.inventory(), shared.control.snapshot());
    let desired = inventory.desired();
    let mut held: BTreeMap<(String, String), usize> = BTreeMap::new();
    for flow in shared.flows.flows() {
        *held.entry((flow.target, flow.member)).or_default() += 1;
    }
    let of_projects = desired.projects.iter().flat_map(|project| project.services.iter().map(move |s| (project, s)));
    let services = of_projects.map(|(project, service)| {
        let own = || snapshot.targets.iter().filter(|target| target.service == service.id);
        let fullest = own().flat_map(|target| {
            let held = &held;
            let of = |name: &str| held.get(&(target.id.to_string(), name.to_owned())).copied();
            target.members.iter().filter_map(move |member| of(&member.name)).collect::<Vec<_>>()
        });
        LimitsOut {
            service: &service.id,
            project: &project.id,
            region: &service.region,
            targets_per_region: Used {
                limit: service.target_limit,
                used: own().count(),
                maximum: MAXIMUM_TARGET_LIMIT,
            },
            flows_per_target: Used {
                limit: service.attributes.flows_per_target,
                used: fullest.max().unwrap_or(0),
                maximum: MOST_FLOWS,
            },
            bandwidth_bytes_per_second: service.attributes.bandwidth_cap,
            ports: Ports { range: service.ports.to_string(), used: own().count() },
        }
    });
    ok(&serde_json::json!({ "limits": services.collect::<Vec<_>>() }))
}
