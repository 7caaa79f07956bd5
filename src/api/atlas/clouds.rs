//! Private endpoint services on Azure and Google Cloud: Atlas' records with each cloud's names.

use std::net::{IpAddr, Ipv4Addr};

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::{no_endpoint, no_service};
use super::services::{check_provider, invalid, is_id, missing};
use super::{AtlasError, AtlasRequest, AtlasResult};
use crate::api::text::object_id;
use crate::control::inventory::{CloudEndpoint, CloudEndpointKey, Inventory, ServiceRecord, ServiceState};
use crate::model::{Cloud, VpceId};

/// The scheme before port mapping, with a service attachment and an address for every node. Source: Atlas, *Set Up a
/// Private Endpoint*; MongoDB, *Port Mapping for Google Private Service Connect on MongoDB Atlas* (19 February 2026).
pub(super) const NOT_PORT_MAPPED: &str = "Private Service Connect without port mapping, which takes 50 addresses in a region, is deprecated \
     since 19 February 2026 and is switched off on 30 April 2027; this gateway does not make it. Set portMappingEnabled to true.";

pub(super) async fn answer(request: &AtlasRequest<'_>, cloud: Cloud, rest: &[&str]) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    match (&request.call.method, rest) {
        (&Method::GET, ["endpointService"]) => {
            let own = inventory.cloud_services.values().filter(|record| is_own(request, cloud, record));
            Ok((StatusCode::OK, own.map(|record| view(&inventory, record)).collect()))
        }
        (&Method::GET, ["endpointService", id]) => {
            Ok((StatusCode::OK, view(&inventory, find(request, &inventory, cloud, id)?)))
        }
        (&Method::DELETE, ["endpointService", id]) => {
            let id = find(request, &inventory, cloud, id)?.service.id.clone();
            request.shared.control.edit(move |draft| draft.delete_service(&id)).await?;
            Ok((StatusCode::ACCEPTED, json!({})))
        }
        (&Method::POST, ["endpointService", id, "endpoint"]) => {
            register(request, find(request, &inventory, cloud, id)?).await
        }
        (&Method::GET, ["endpointService", id, "endpoint", name]) => {
            let service = &find(request, &inventory, cloud, id)?.service;
            let key = CloudEndpointKey(service.id.clone(), (*name).to_owned());
            let own = inventory.cloud_endpoints.get(&key).ok_or_else(|| no_endpoint(name))?;
            Ok((StatusCode::OK, endpoint_view(&key, own)))
        }
        (&Method::DELETE, ["endpointService", id, "endpoint", name]) => {
            let id = find(request, &inventory, cloud, id)?.service.id.clone();
            let key = CloudEndpointKey(id, (*name).to_owned());
            request.shared.control.edit(move |draft| draft.unregister_cloud_endpoint(&key)).await?;
            Ok((StatusCode::ACCEPTED, json!({})))
        }
        _ => Err(AtlasError::no_resource(request.call)),
    }
}

fn is_own(request: &AtlasRequest<'_>, cloud: Cloud, record: &ServiceRecord) -> bool {
    record.project == request.project && record.service.region.cloud() == Some(cloud)
}

fn find<'a>(
    request: &AtlasRequest<'_>,
    inventory: &'a Inventory,
    cloud: Cloud,
    id: &str,
) -> Result<&'a ServiceRecord, AtlasError> {
    let parsed = id.parse().ok().filter(|_| is_id(id));
    let parsed = parsed.ok_or_else(|| AtlasError::path(request.call, "endpointServiceId", id))?;
    let own = inventory.cloud_services.get(&parsed).filter(|record| is_own(request, cloud, record));
    own.ok_or_else(|| no_service(id))
}

pub(super) fn view(inventory: &Inventory, record: &ServiceRecord) -> Value {
    let ServiceRecord { service, state, error, .. } = record;
    let (id, region) = (service.id.as_str(), &service.region);
    let made = !matches!(state, ServiceState::Initiating | ServiceState::Failed);
    let names: Vec<&str> = inventory.cloud_endpoints_of(&service.id).map(|(key, _)| key.1.as_str()).collect();
    let mut value = json!({
        "cloudProvider": region.provider(),
        "errorMessage": error,
        "id": id,
        "regionName": region.atlas(),
        "status": state.label(),
    });
    match region.cloud() {
        Some(Cloud::Azure) => {
            value["privateEndpoints"] = json!(names);
            value["privateLinkServiceName"] = json!(made.then(|| link_service(id)));
            value["privateLinkServiceResourceId"] = json!(made.then(|| {
                format!(
                    "/subscriptions/{}/resourceGroups/rg_{}/providers/Microsoft.Network/privateLinkServices/{}",
                    derived_uuid("subscription", id),
                    object_id("resource-group", id),
                    link_service(id)
                )
            }));
        }
        Some(Cloud::Gcp) => {
            value["endpointGroupNames"] = json!(names);
            value["portMappingEnabled"] = json!(true);
            value["serviceAttachmentNames"] = made.then(|| service.name().to_string()).into_iter().collect();
        }
        None => {}
    }
    value
}

fn link_service(id: &str) -> String {
    format!("pls_{id}")
}

fn endpoint_view(CloudEndpointKey(service, name): &CloudEndpointKey, own: &CloudEndpoint) -> Value {
    let status = own.state.label();
    let deleting = own.state == ServiceState::Deleting;
    match &own.gcp_project {
        None => json!({
            "cloudProvider": "AZURE",
            "deleteRequested": deleting,
            "errorMessage": own.error,
            "privateEndpointConnectionName": connection_name(service.as_str(), name, own.state),
            "privateEndpointIPAddress": own.ip,
            "privateEndpointResourceId": name,
            "status": status,
        }),
        Some(project) => json!({
            "cloudProvider": "GCP",
            "deleteRequested": deleting,
            "endpointGroupName": name,
            "endpoints": [{ "endpointName": name, "ipAddress": own.ip, "status": status }],
            "errorMessage": own.error,
            "gcpProjectId": project,
            "portMappingEnabled": true,
            "status": status,
        }),
    }
}

/// A UUID derived from `kind` and `id`.
fn derived_uuid(kind: &str, id: &str) -> String {
    let digits = object_id(kind, id);
    format!("{}-0000-4000-8000-{}", &digits[..8], &digits[12..24])
}

/// `NAME.UUID`; `None` while the endpoint is `INITIATING`.
fn connection_name(id: &str, name: &str, state: ServiceState) -> Option<String> {
    let uuid = derived_uuid("connection", &format!("{id}/{name}"));
    let name = name.rsplit('/').next().unwrap_or_default();
    (state != ServiceState::Initiating).then(|| format!("{name}.{uuid}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewAzureEndpoint {
    cloud_provider: Option<String>,
    id: Option<String>,
    #[serde(rename = "privateEndpointIPAddress")]
    private_endpoint_ip_address: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewGcpEndpoint {
    cloud_provider: Option<String>,
    endpoint_group_name: Option<String>,
    gcp_project_id: Option<String>,
    #[serde(default)]
    endpoints: Vec<ForwardingRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ForwardingRule {
    endpoint_name: Option<String>,
    ip_address: Option<String>,
}

fn ip(name: &str, text: Option<String>) -> Result<IpAddr, AtlasError> {
    let text = text.ok_or_else(|| missing(name))?;
    text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| invalid(name, &text))
}

async fn register(request: &AtlasRequest<'_>, record: &ServiceRecord) -> AtlasResult {
    let (id, region) = (record.service.id.clone(), &record.service.region);
    let (name, new) = if region.cloud() == Some(Cloud::Azure) {
        let body: NewAzureEndpoint = request.body()?;
        check_provider(body.cloud_provider.as_deref(), Cloud::Azure.label())?;
        let name = body.id.ok_or_else(|| missing("id"))?;
        let ip = ip("privateEndpointIPAddress", body.private_endpoint_ip_address)?;
        if name.parse::<VpceId>().ok().and_then(|id| id.cloud()) != Some(Cloud::Azure) {
            return Err(invalid("id", &name));
        }
        (name, CloudEndpoint::new(ip, None))
    } else {
        let body: NewGcpEndpoint = request.body()?;
        check_provider(body.cloud_provider.as_deref(), Cloud::Gcp.label())?;
        // Required although it has no effect with port mapping. Source: Atlas' API description.
        body.endpoint_group_name.filter(|name| !name.is_empty()).ok_or_else(|| missing("endpointGroupName"))?;
        let project = body.gcp_project_id.ok_or_else(|| missing("gcpProjectId"))?;
        let mut rules = body.endpoints.into_iter();
        let rule = rules.next().ok_or_else(|| missing("endpoints"))?;
        if rules.next().is_some() {
            let detail = "Invalid attribute endpoints specified: with port mapping there is exactly one endpoint.";
            return Err(AtlasError::new(400, "INVALID_ATTRIBUTE", detail).with(["endpoints"]));
        }
        let name = rule.endpoint_name.ok_or_else(|| missing("endpointName"))?;
        let new = CloudEndpoint::new(ip("ipAddress", rule.ip_address)?, Some(project));
        if new.id(region, &name).is_none() {
            return Err(invalid("endpointName", &name));
        }
        (name, new)
    };
    let key = CloudEndpointKey(id, name);
    let added = key.clone();
    request.shared.control.edit(move |draft| draft.register_cloud_endpoint(added, new)).await?;
    let inventory = request.shared.control.inventory();
    let own = inventory.cloud_endpoints.get(&key).ok_or_else(|| no_endpoint(&key.1))?;
    Ok((StatusCode::CREATED, endpoint_view(&key, own)))
}
