//! Private endpoint services on Azure and Google Cloud: Atlas' rows for them, with the names that each cloud has.

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::{no_endpoint, no_service};
use super::services::{check_provider, invalid, is_id, missing, region_of};
use super::{Outcome, Refusal, Request};
use crate::api::text::object_id;
use crate::control::inventory::{ElsewhereEndpoint, ElsewhereService, Inventory, ServiceState, Timestamp};
use crate::model::{Cloud, VpceId};

/// The scheme before port mapping, with a service attachment and an address for every node. Source: Atlas, *Set Up a Private
/// Endpoint*; MongoDB, *Port Mapping for Google Private Service Connect on MongoDB Atlas* (19 February 2026).
const NOT_PORT_MAPPED: &str = "Private Service Connect without port mapping, which takes 50 addresses in a region, is deprecated \
     since 19 February 2026 and is switched off on 30 April 2027; this gateway does not make it. Set portMappingEnabled to true.";

fn cloud(word: &str) -> Cloud {
    if word == "AZURE" { Cloud::Azure } else { Cloud::Gcp }
}

pub(super) async fn answer(request: &Request<'_>, word: &str, rest: &[&str]) -> Outcome {
    let cloud = cloud(word);
    let inventory = request.shared.control.inventory();
    match (&request.call.method, rest) {
        (&Method::GET, ["endpointService"]) => {
            let own = inventory.elsewhere.iter().filter(|(_, s)| s.project == request.project && s.cloud == cloud);
            Ok((StatusCode::OK, own.map(|(id, service)| view(id, service)).collect()))
        }
        (&Method::GET, ["endpointService", id]) => {
            Ok((StatusCode::OK, view(id, find(request, &inventory, cloud, id)?)))
        }
        (&Method::DELETE, ["endpointService", id]) => {
            find(request, &inventory, cloud, id)?;
            let id = (*id).to_owned();
            request.shared.control.edit(move |draft| draft.delete_elsewhere(&id)).await?;
            Ok((StatusCode::ACCEPTED, json!({})))
        }
        (&Method::POST, ["endpointService", id, "endpoint"]) => {
            find(request, &inventory, cloud, id)?;
            register(request, cloud, id).await
        }
        (&Method::GET, ["endpointService", id, "endpoint", name]) => {
            let service = find(request, &inventory, cloud, id)?;
            Ok((StatusCode::OK, endpoint_view(id, service, name).ok_or_else(|| no_endpoint(name))?))
        }
        (&Method::DELETE, ["endpointService", id, "endpoint", name]) => {
            find(request, &inventory, cloud, id)?;
            let (id, name) = ((*id).to_owned(), (*name).to_owned());
            request.shared.control.edit(move |draft| draft.unregister_elsewhere(&id, &name)).await?;
            Ok((StatusCode::ACCEPTED, json!({})))
        }
        _ => Err(Refusal::no_resource(request.call)),
    }
}

fn find<'a>(
    request: &Request<'_>,
    inventory: &'a Inventory,
    cloud: Cloud,
    id: &str,
) -> Result<&'a ElsewhereService, Refusal> {
    if !is_id(id) {
        return Err(Refusal::path(request.call, "endpointServiceId", id));
    }
    let own = inventory.elsewhere.get(id).filter(|s| s.project == request.project && s.cloud == cloud);
    own.ok_or_else(|| no_service(id))
}

/// Makes a service; `AWS` is made elsewhere.
pub(super) async fn create(request: &Request<'_>, word: &str, region: &str, port_mapping: bool) -> Outcome {
    let cloud = cloud(word);
    let region = region_of(Some(cloud), region)?;
    if cloud == Cloud::Gcp && !port_mapping {
        return Err(Refusal::new(400, "INVALID_ATTRIBUTE", NOT_PORT_MAPPED).with(["portMappingEnabled"]));
    }
    let project = request.project.clone();
    let edit = move |draft: &mut crate::control::draft::Draft| draft.create_elsewhere(&project, cloud, region);
    let id = request.shared.control.edit(edit).await?;
    let inventory = request.shared.control.inventory();
    let service = inventory.elsewhere.get(&id).ok_or_else(|| no_service(&id))?;
    let asked = ElsewhereService { state: ServiceState::Initiating, ..service.clone() };
    Ok((StatusCode::CREATED, view(&id, &asked)))
}

fn view(id: &str, service: &ElsewhereService) -> Value {
    let made = !matches!(service.state, ServiceState::Initiating | ServiceState::Failed);
    let names: Vec<&str> = service.endpoints.keys().map(String::as_str).collect();
    let mut value = json!({
        "cloudProvider": service.cloud.label(),
        "errorMessage": service.error,
        "id": id,
        "regionName": service.region,
        "status": service.state.label(),
    });
    match service.cloud {
        Cloud::Azure => {
            value["privateEndpoints"] = json!(names);
            value["privateLinkServiceName"] = json!(made.then(|| link_service(id)));
            value["privateLinkServiceResourceId"] = json!(made.then(|| {
                let subscription = object_id("subscription", id);
                format!(
                    "/subscriptions/{}-0000-4000-8000-{}/resourceGroups/rg_{}/providers/Microsoft.Network/\
                     privateLinkServices/{}",
                    &subscription[..8],
                    &subscription[12..24],
                    object_id("resource-group", id),
                    link_service(id)
                )
            }));
        }
        Cloud::Gcp => {
            value["endpointGroupNames"] = json!(names);
            value["portMappingEnabled"] = json!(service.port_mapping);
            let attachment = service.service.as_ref().filter(|_| made).map(|own| own.name().to_string());
            value["serviceAttachmentNames"] = attachment.into_iter().collect();
        }
    }
    value
}

fn link_service(id: &str) -> String {
    format!("pls_{id}")
}

fn endpoint_view(id: &str, service: &ElsewhereService, name: &str) -> Option<Value> {
    let own = service.endpoints.get(name)?;
    let status = own.state.label();
    let deleting = own.state == ServiceState::Deleting;
    Some(match service.cloud {
        Cloud::Azure => json!({
            "cloudProvider": "AZURE",
            "deleteRequested": deleting,
            "errorMessage": own.error,
            "privateEndpointConnectionName": connection_name(id, name, own.state),
            "privateEndpointIPAddress": own.ip,
            "privateEndpointResourceId": name,
            "status": status,
        }),
        Cloud::Gcp => {
            let rules = own.rules.iter().map(|(rule, ip)| {
                json!({
                    "endpointName": rule,
                    "ipAddress": ip,
                    "status": status,
                })
            });
            json!({
                "cloudProvider": "GCP",
                "deleteRequested": deleting,
                "endpointGroupName": name,
                "endpoints": rules.collect::<Vec<_>>(),
                "errorMessage": own.error,
                "gcpProjectId": own.gcp_project,
                "portMappingEnabled": service.port_mapping,
                "status": status,
            })
        }
    })
}

/// `NAME.UUID`; `None` while the endpoint is `INITIATING`.
fn connection_name(id: &str, name: &str, state: ServiceState) -> Option<String> {
    let digits = object_id("connection", &format!("{id}/{name}"));
    let name = name.rsplit('/').next().unwrap_or_default();
    let uuid = format!("{}-0000-4000-8000-{}", &digits[..8], &digits[12..24]);
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

fn ip(name: &str, text: Option<String>) -> Result<String, Refusal> {
    let text = text.ok_or_else(|| missing(name))?;
    text.parse::<std::net::Ipv4Addr>().map(|ip| ip.to_string()).map_err(|_| invalid(name, &text))
}

async fn register(request: &Request<'_>, cloud: Cloud, id: &str) -> Outcome {
    let mut new = ElsewhereEndpoint {
        ip: None,
        gcp_project: None,
        rules: Vec::new(),
        state: ServiceState::Initiating,
        since: Timestamp::default(),
        error: None,
    };
    let name = match cloud {
        Cloud::Azure => {
            let body: NewAzureEndpoint = request.body()?;
            check_provider(body.cloud_provider.as_deref(), cloud.label())?;
            let name = body.id.ok_or_else(|| missing("id"))?;
            if name.parse::<VpceId>().ok().and_then(|id| id.cloud()) != Some(Cloud::Azure) {
                return Err(invalid("id", &name));
            }
            new.ip = Some(ip("privateEndpointIPAddress", body.private_endpoint_ip_address)?);
            name
        }
        Cloud::Gcp => {
            let body: NewGcpEndpoint = request.body()?;
            check_provider(body.cloud_provider.as_deref(), cloud.label())?;
            // Required though it means nothing with port mapping. Source: Atlas' API description.
            body.endpoint_group_name.filter(|name| !name.is_empty()).ok_or_else(|| missing("endpointGroupName"))?;
            let project = body.gcp_project_id.ok_or_else(|| missing("gcpProjectId"))?;
            let mut rules = body.endpoints.into_iter();
            let rule = rules.next().ok_or_else(|| missing("endpoints"))?;
            if rules.next().is_some() {
                let detail = "Invalid attribute endpoints specified: with port mapping there is exactly one endpoint.";
                return Err(Refusal::new(400, "INVALID_ATTRIBUTE", detail).with(["endpoints"]));
            }
            let name = rule.endpoint_name.ok_or_else(|| missing("endpointName"))?;
            let id = format!("projects/{project}/regions/r/forwardingRules/{name}");
            if id.parse::<VpceId>().is_err() {
                return Err(invalid("endpointName", &name));
            }
            new.gcp_project = Some(project);
            new.rules.push((name.clone(), ip("ipAddress", rule.ip_address)?));
            name
        }
    };
    let (service, endpoint) = (id.to_owned(), name.clone());
    request.shared.control.edit(move |draft| draft.register_elsewhere(&service, endpoint, new)).await?;
    let inventory = request.shared.control.inventory();
    let service = find(request, &inventory, cloud, id)?;
    Ok((StatusCode::CREATED, endpoint_view(id, service, &name).ok_or_else(|| no_endpoint(&name))?))
}
