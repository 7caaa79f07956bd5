//! `/v1/limits`: the limits of each load balancer, and their use.

use hyper::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::operation::{Operation, OperationRequest};
use super::{V1Error, bad, refused};
use crate::api::ApiState;
use crate::control::draft::atlas::NewLimits;
use crate::model::{Cloud, MAXIMUM_CLOUD_TARGET_LIMIT, ProjectId, Region, VpceServiceId};

pub(super) fn operations() -> Vec<Operation> {
    let path = "/v1/limits";
    vec![
        Operation::new(Method::GET, path, "getLimits", "The limits of every load balancer, and how much is used", show),
        Operation::with_body(Method::PUT, path, "setLimits", "Changes limits at run time", set),
    ]
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Limits {
    pub(super) limits: Vec<LimitsOut>,
}

/// The limits of one load balancer.
#[derive(Serialize, JsonSchema)]
pub(super) struct LimitsOut {
    pub(super) service: VpceServiceId,
    project: ProjectId,
    /// The cloud provider.
    #[schemars(extend("enum" = ["AWS", "AZURE", "GCP"]))]
    provider: &'static str,
    region: Region,
    /// Addressable targets in the region.
    pub(super) targets_per_region: Used,
    /// Flows of one process, and the highest number that one has now.
    pub(super) flows_per_target: Used,
    /// Bandwidth of one endpoint address in each direction; null: no cap.
    bandwidth_bytes_per_second: Option<u64>,
    /// Listener ports.
    pub(super) ports: Ports,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Used {
    pub(super) limit: usize,
    pub(super) used: usize,
    /// The maximum that can be set.
    maximum: usize,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Ports {
    pub(super) range: String,
    pub(super) used: usize,
}

/// Limits to change at run time; missing fields are unchanged.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LimitsRequest {
    /// Missing: every load balancer.
    service: Option<VpceServiceId>,
    #[schemars(range(min = 1, max = MAX_TARGETS))]
    targets_per_region: Option<usize>,
    #[schemars(range(min = 1, max = MAX_FLOWS))]
    flows_per_target: Option<usize>,
    /// Null removes the cap.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<u64>", range(min = 1, max = MAX_BANDWIDTH))]
    bandwidth_bytes_per_second: Option<Option<u64>>,
}

/// Distinguishes null from a missing field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Maximum of the limit of targets, for the provider with the highest one; the plan checks each provider's.
const MAX_TARGETS: usize = MAXIMUM_CLOUD_TARGET_LIMIT;
/// More flows than any machine can hold.
const MAX_FLOWS: usize = 10_000_000;
/// The config's maximum: a million megabits per second.
const MAX_BANDWIDTH: u64 = 1_000_000 * 125_000;

async fn show(request: OperationRequest) -> Result<Limits, V1Error> {
    Ok(view(&request.shared))
}

async fn set(request: OperationRequest, change: LimitsRequest) -> Result<Limits, V1Error> {
    check(&change)?;
    let limits = NewLimits {
        targets_per_region: change.targets_per_region,
        flows_per_target: change.flows_per_target,
        bandwidth_cap: change.bandwidth_bytes_per_second,
    };
    let edit = request.shared.control.edit(move |draft| draft.set_limits(change.service.as_ref(), limits));
    edit.await.map_err(|error| refused(&error))?;
    Ok(view(&request.shared))
}

fn check(change: &LimitsRequest) -> Result<(), V1Error> {
    let within = |name: &str, value: Option<u64>, most: u64| match value {
        Some(value) if !(1..=most).contains(&value) => {
            Err(bad(format!("`{name}` is {value}; write 1 to {most}, or leave it out")))
        }
        _ => Ok(()),
    };
    let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    within("targets_per_region", change.targets_per_region.map(wide), wide(MAX_TARGETS))?;
    within("flows_per_target", change.flows_per_target.map(wide), wide(MAX_FLOWS))?;
    within("bandwidth_bytes_per_second", change.bandwidth_bytes_per_second.flatten(), MAX_BANDWIDTH)
}

pub(super) fn view(shared: &ApiState) -> Limits {
    let (inventory, snapshot) = (shared.control.inventory(), shared.control.snapshot());
    let desired = inventory.desired();
    let flows = shared.flows.flows_by_member();
    let of_projects = desired.projects.iter().flat_map(|project| project.services.iter().map(move |s| (project, s)));
    let services = of_projects.map(|(project, service)| {
        let own = || snapshot.targets.iter().filter(|target| target.service == service.id);
        let of_service = flows.iter().filter(|((of, _, _), _)| *of == service.id);
        let fullest = of_service.map(|(_, flows)| *flows);
        LimitsOut {
            service: service.id.clone(),
            project: project.id.clone(),
            provider: service.region.provider(),
            region: service.region.clone(),
            targets_per_region: Used {
                limit: service.target_limit,
                used: own().count(),
                maximum: Cloud::maximum_target_limit(service.region.cloud()),
            },
            flows_per_target: Used {
                limit: service.attributes.flows_per_target,
                used: fullest.max().unwrap_or(0),
                maximum: MAX_FLOWS,
            },
            bandwidth_bytes_per_second: service.attributes.bandwidth_cap,
            ports: Ports { range: service.ports.to_string(), used: own().count() },
        }
    });
    Limits { limits: services.collect() }
}
