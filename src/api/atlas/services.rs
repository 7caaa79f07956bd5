//! Private endpoint services and their interface endpoints.

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::{no_endpoint, no_service};
use super::{AtlasError, AtlasRequest, AtlasResult, clouds};
use crate::api::text::object_id;
use crate::control::inventory::{Inventory, Pair, Registration, ServiceRecord, ServiceState};
use crate::model::{Cloud, EndpointState, MAXIMUM_REMOTE_REGIONS, Region, VpceId, VpceServiceId, is_prefixed_hex};

/// The Atlas id of an endpoint service.
pub(super) fn atlas_id(id: &VpceServiceId) -> String {
    object_id("endpoint-service", id.as_str())
}

pub(super) async fn answer(request: &AtlasRequest<'_>, rest: &[&str]) -> AtlasResult {
    match (&request.call.method, rest) {
        (&Method::POST, ["endpointService"]) => create(request).await,
        (&Method::PATCH, ["endpointService", id]) => change(request, id).await,
        (_, ["endpointService"] | ["endpointService", _]) => Err(AtlasError::method(request.call)),
        (&Method::GET, ["AWS", "endpointService"]) => Ok(list(request)),
        (&Method::GET, ["AWS", "endpointService", id]) => describe(request, id),
        (&Method::DELETE, ["AWS", "endpointService", id]) => delete(request, id).await,
        (&Method::POST, ["AWS", "endpointService", id, "endpoint"]) => register(request, id).await,
        (&Method::GET, ["AWS", "endpointService", id, "endpoint", endpoint]) => {
            describe_endpoint(request, id, endpoint)
        }
        (&Method::DELETE, ["AWS", "endpointService", id, "endpoint", endpoint]) => {
            unregister(request, id, endpoint).await
        }
        (_, ["AWS", "endpointService", ..]) if rest.len() <= 5 => Err(AtlasError::method(request.call)),
        (_, [provider, rest @ ..]) => match Cloud::of_label(provider) {
            Some(cloud) => clouds::answer(request, cloud, rest).await,
            None => Err(AtlasError::no_resource(request.call)),
        },
        _ => Err(AtlasError::no_resource(request.call)),
    }
}

pub(super) fn region(text: &str) -> Result<Region, AtlasError> {
    region_of(None, text)
}

/// The region of a provider, in Atlas' or the provider's own notation.
pub(super) fn region_of(cloud: Option<Cloud>, text: &str) -> Result<Region, AtlasError> {
    let provider = cloud.map_or("AWS", Cloud::label);
    Region::of(cloud, text).map_err(|_| {
        let detail = format!("No region {text} exists for provider {provider}.");
        AtlasError::new(400, "INVALID_REGION", detail).with([text, provider])
    })
}

/// `supportedRemoteRegions`: only in Atlas' notation, each region once; an empty list and `null` are equal.
fn remote_regions(texts: Option<Vec<String>>) -> Result<Vec<Region>, AtlasError> {
    const NAME: &str = "supportedRemoteRegions";
    let texts = texts.unwrap_or_default();
    if texts.len() > MAXIMUM_REMOTE_REGIONS {
        let detail = format!("{NAME} has {} regions; write {MAXIMUM_REMOTE_REGIONS} at most.", texts.len());
        return Err(AtlasError::new(400, "INVALID_ATTRIBUTE", detail).with([NAME]));
    }
    let mut regions: Vec<Region> = Vec::new();
    for text in texts {
        let region: Option<Region> = text.parse().ok().filter(|region: &Region| region.atlas() == text);
        let region = region.ok_or_else(|| invalid(NAME, &text))?;
        if !regions.contains(&region) {
            regions.push(region);
        }
    }
    Ok(regions)
}

/// The error for an AWS-only feature on another provider.
fn unsupported(provider: &str) -> AtlasError {
    let detail = format!("Cross-region private endpoints are not supported for the cloud provider {provider}.");
    AtlasError::new(400, "PROVIDER_UNSUPPORTED", detail).with([provider])
}

/// The cloud of a provider's name in the attribute `field`; `None`: AWS.
pub(super) fn provider(field: &str, name: &str) -> Result<Option<Cloud>, AtlasError> {
    if name == "AWS" {
        return Ok(None);
    }
    Cloud::of_label(name).map(Some).ok_or_else(|| invalid(field, name))
}

/// Whether a text is an Atlas id: 24 hex digits.
pub(super) fn is_id(id: &str) -> bool {
    is_prefixed_hex(id, "", &[24])
}

pub(super) fn find<'a>(
    request: &AtlasRequest<'_>,
    inventory: &'a Inventory,
    id: &str,
) -> Result<&'a ServiceRecord, AtlasError> {
    if !is_id(id) {
        return Err(AtlasError::path(request.call, "endpointServiceId", id));
    }
    let own = inventory.services.values().filter(|record| record.project == request.project);
    let found = own.into_iter().find(|record| atlas_id(&record.service.id) == id);
    found.ok_or_else(|| no_service(id))
}

pub(super) fn view(inventory: &Inventory, record: &ServiceRecord) -> Value {
    let id = &record.service.id;
    let made = !matches!(record.state, ServiceState::Initiating | ServiceState::Failed);
    let endpoints: Vec<&str> =
        inventory.registrations.keys().filter(|key| key.0 == *id).map(|key| key.1.as_str()).collect();
    let remote = &record.service.remote_regions;
    let remote = (!remote.is_empty()).then(|| remote.iter().map(Region::atlas).collect::<Vec<_>>());
    json!({
        "cloudProvider": "AWS",
        "endpointServiceName": made.then(|| record.service.name().to_string()),
        "errorMessage": record.error,
        "id": atlas_id(id),
        "interfaceEndpoints": endpoints,
        "regionName": record.service.region.atlas(),
        "status": record.state.label(),
        "supportedRemoteRegions": remote,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewService {
    provider_name: Option<String>,
    region: Option<String>,
    supported_remote_regions: Option<Vec<String>>,
    port_mapping_enabled: Option<bool>,
}

pub(super) async fn create(request: &AtlasRequest<'_>) -> AtlasResult {
    let body: NewService = request.body()?;
    let port_mapping = body.port_mapping_enabled.unwrap_or(false);
    if let Some(other) = body.provider_name.as_deref().filter(|name| port_mapping && *name != "GCP") {
        let detail = format!("Invalid attribute portMappingEnabled specified: it is Google Cloud's, not {other}'s.");
        return Err(AtlasError::new(400, "INVALID_ATTRIBUTE", detail).with(["portMappingEnabled"]));
    }
    let name = body.provider_name.as_deref().ok_or_else(|| missing("providerName"))?;
    let cloud = provider("providerName", name)?;
    if let (Some(cloud), Some(_)) = (cloud, &body.supported_remote_regions) {
        return Err(unsupported(cloud.label()));
    }
    let wanted = region_of(cloud, &body.region.ok_or_else(|| missing("region"))?)?;
    if cloud == Some(Cloud::Gcp) && !port_mapping {
        return Err(AtlasError::new(400, "INVALID_ATTRIBUTE", clouds::NOT_PORT_MAPPED).with(["portMappingEnabled"]));
    }
    let remote = remote_regions(body.supported_remote_regions)?;
    let project = request.project.clone();
    let id = request.shared.control.edit(move |draft| draft.create_service(&project, wanted, remote)).await?;
    // Its state may have changed already; the response shows it as requested.
    let inventory = request.shared.control.inventory();
    let record = inventory.project_service(&id).ok_or_else(|| no_service(id.as_str()))?;
    let created = ServiceRecord { state: ServiceState::Initiating, ..record.clone() };
    let view: fn(&Inventory, &ServiceRecord) -> Value = if cloud.is_some() { clouds::view } else { view };
    Ok((StatusCode::CREATED, view(&inventory, &created)))
}

pub(super) fn missing(name: &str) -> AtlasError {
    AtlasError::new(400, "MISSING_ATTRIBUTE", format!("The required attribute {name} was not specified.")).with([name])
}

pub(super) fn invalid(name: &str, value: &str) -> AtlasError {
    let detail = format!("Invalid attribute {name} specified: {value}.");
    AtlasError::new(400, "INVALID_ATTRIBUTE", detail).with([name])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceChange {
    cloud_provider: Option<String>,
    supported_remote_regions: Option<Vec<String>>,
}

async fn change(request: &AtlasRequest<'_>, id: &str) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    let service = find(request, &inventory, id)?.service.id.clone();
    let body: ServiceChange = request.body()?;
    let name = body.cloud_provider.as_deref().ok_or_else(|| missing("cloudProvider"))?;
    if let Some(other) = provider("cloudProvider", name)? {
        return Err(unsupported(other.label()));
    }
    let remote = remote_regions(body.supported_remote_regions)?;
    request.shared.control.edit(move |draft| draft.set_remote_regions(&service, remote)).await?;
    describe(request, id)
}

pub(super) fn list(request: &AtlasRequest<'_>) -> (StatusCode, Value) {
    let inventory = request.shared.control.inventory();
    let mut own: Vec<_> = inventory.services.values().filter(|record| record.project == request.project).collect();
    // There is one in each region, and ids have no meaningful order.
    own.sort_by(|a, b| a.service.region.cmp(&b.service.region));
    (StatusCode::OK, own.into_iter().map(|record| view(&inventory, record)).collect())
}

pub(super) fn describe(request: &AtlasRequest<'_>, id: &str) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    let record = find(request, &inventory, id)?;
    Ok((StatusCode::OK, view(&inventory, record)))
}

pub(super) async fn delete(request: &AtlasRequest<'_>, id: &str) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    let service = find(request, &inventory, id)?.service.id.clone();
    request.shared.control.edit(move |draft| draft.delete_service(&service)).await?;
    Ok((StatusCode::ACCEPTED, json!({})))
}

#[derive(Deserialize)]
struct NewServiceEndpoint {
    /// The first version's name is the longer one.
    #[serde(alias = "interfaceEndpointId")]
    id: Option<String>,
    #[serde(rename = "cloudProvider")]
    cloud_provider: Option<String>,
}

/// A body may contain the provider, which must be the path's.
pub(super) fn check_provider(named: Option<&str>, own: &str) -> Result<(), AtlasError> {
    match named {
        Some(other) if other != own => Err(invalid("cloudProvider", other)),
        _ => Ok(()),
    }
}

pub(super) async fn register(request: &AtlasRequest<'_>, id: &str) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    let service = find(request, &inventory, id)?.service.id.clone();
    let body: NewServiceEndpoint = request.body()?;
    check_provider(body.cloud_provider.as_deref(), "AWS")?;
    let text = body.id.ok_or_else(|| missing("id"))?;
    let endpoint = VpceId::of_aws(text.trim()).map_err(|_| invalid("id", &text))?;
    let (to, what) = (service.clone(), endpoint.clone());
    request.shared.control.edit(move |draft| draft.register(&to, &what)).await?;
    let inventory = request.shared.control.inventory();
    let registration = inventory.registrations.get(&Pair(service, endpoint.clone()));
    let registration = registration.ok_or_else(|| no_endpoint(endpoint.as_str()))?;
    Ok((StatusCode::CREATED, endpoint_view(&inventory, &endpoint, registration)))
}

pub(super) fn describe_endpoint(request: &AtlasRequest<'_>, id: &str, endpoint: &str) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    let service = find(request, &inventory, id)?.service.id.clone();
    let endpoint: VpceId = endpoint.parse().map_err(|_| no_endpoint(endpoint))?;
    let registration = inventory.registrations.get(&Pair(service, endpoint.clone()));
    let registration = registration.ok_or_else(|| no_endpoint(endpoint.as_str()))?;
    Ok((StatusCode::OK, endpoint_view(&inventory, &endpoint, registration)))
}

pub(super) async fn unregister(request: &AtlasRequest<'_>, id: &str, endpoint: &str) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    let service = find(request, &inventory, id)?.service.id.clone();
    let endpoint: VpceId = endpoint.parse().map_err(|_| no_endpoint(endpoint))?;
    request.shared.control.edit(move |draft| draft.unregister(&service, &endpoint)).await?;
    Ok((StatusCode::ACCEPTED, json!({})))
}

pub(super) fn endpoint_view(inventory: &Inventory, id: &VpceId, registration: &Registration) -> Value {
    let (status, error) = status(inventory, id, registration);
    json!({
        "cloudProvider": "AWS",
        "connectionStatus": status,
        "deleteRequested": registration.deleting,
        "errorMessage": error,
        "interfaceEndpointId": id.as_str(),
    })
}

/// Atlas' status of an endpoint, and why it failed.
pub(super) fn status(
    inventory: &Inventory,
    id: &VpceId,
    registration: &Registration,
) -> (&'static str, Option<String>) {
    if registration.deleting {
        return ("DELETING", None);
    }
    if registration.error.is_some() {
        return ("REJECTED", registration.error.clone());
    }
    // AWS may create it later: until the wait ends, it is pending.
    let Some(record) = inventory.endpoints.get(id) else { return ("PENDING", None) };
    match record.endpoint.state {
        EndpointState::PendingAcceptance if record.created.is_some() => ("PENDING_ACCEPTANCE", None),
        state if record.endpoint.addresses.is_empty() && state != EndpointState::Deleting => {
            ("REJECTED", Some(record.error.clone().unwrap_or_else(|| no_dns_entries(id))))
        }
        EndpointState::PendingAcceptance => ("PENDING_ACCEPTANCE", None),
        EndpointState::Pending => ("PENDING", None),
        EndpointState::Available => ("AVAILABLE", None),
        EndpointState::Deleting | EndpointState::Deleted => ("DELETING", None),
        EndpointState::Rejected | EndpointState::Failed | EndpointState::Expired => ("REJECTED", record.error.clone()),
    }
}

fn no_dns_entries(id: &VpceId) -> String {
    format!(
        "No dns entries found for endpoint {id}, your endpoint must be provisioned in at least one subnet. Click \"Edit\" \
         to fix the problem."
    )
}
