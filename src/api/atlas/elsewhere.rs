//! Private endpoint services on Azure and Google Cloud: Atlas' rows for them, with the names that each cloud has.

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::{no_endpoint, no_service};
use super::services::{invalid, is_id, missing};
use super::{Outcome, Refusal, Request};
use crate::api::text::object_id;
use crate::control::inventory::{Cloud, ElsewhereEndpoint, ElsewhereService, Inventory, ServiceState, Timestamp};

/// Service attachments that Atlas makes in a region. Source: Atlas, *Private Service Connect*.
const ATTACHMENTS: usize = 50;

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
    let fits = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if region.is_empty() || region.len() > 64 || !fits(region) {
        let detail = format!("No region {region} exists for provider {word}.");
        return Err(Refusal::new(400, "INVALID_REGION", detail).with([region, word]));
    }
    let cloud = cloud(word);
    let port_mapping = port_mapping && cloud == Cloud::Gcp;
    let (project, wanted) = (request.project.clone(), region.to_uppercase().replace('-', "_"));
    let edit =
        move |draft: &mut crate::control::draft::Draft| draft.create_elsewhere(&project, cloud, wanted, port_mapping);
    let id = request.shared.control.edit(edit).await?;
    let inventory = request.shared.control.inventory();
    let service = inventory.elsewhere.get(&id).ok_or_else(|| no_service(&id))?;
    let asked = ElsewhereService { state: ServiceState::Initiating, ..service.clone() };
    Ok((StatusCode::CREATED, view(&id, &asked)))
}

fn view(id: &str, service: &ElsewhereService) -> Value {
    let made = service.state != ServiceState::Initiating;
    let names: Vec<&str> = service.endpoints.keys().map(String::as_str).collect();
    let mut value = json!({
        "cloudProvider": service.cloud.label(),
        "errorMessage": null,
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
            let count = if service.port_mapping { 1 } else { ATTACHMENTS };
            let all: Vec<String> = (0..count).map(|n| attachment(id, service, n)).collect();
            value["serviceAttachmentNames"] = if made { json!(all) } else { json!([]) };
        }
    }
    value
}

fn link_service(id: &str) -> String {
    format!("pls_{id}")
}

fn attachment(id: &str, service: &ElsewhereService, n: usize) -> String {
    let region = service.region.to_lowercase().replace('_', "-");
    let project = &object_id("gcp-project", id)[..9];
    format!("projects/p-{project}/regions/{region}/serviceAttachments/sa-{region}-{id}-{n}")
}

fn endpoint_view(id: &str, service: &ElsewhereService, name: &str) -> Option<Value> {
    let own = service.endpoints.get(name)?;
    let status = own.state.label();
    let deleting = own.state == ServiceState::Deleting;
    Some(match service.cloud {
        Cloud::Azure => json!({
            "cloudProvider": "AZURE",
            "deleteRequested": deleting,
            "errorMessage": null,
            "privateEndpointConnectionName": format!("{}.{}", link_service(id), object_id("connection", name)),
            "privateEndpointIPAddress": own.ip,
            "privateEndpointResourceId": name,
            "status": status,
        }),
        Cloud::Gcp => {
            let rules = own.rules.iter().enumerate().map(|(n, (rule, ip))| {
                json!({
                    "endpointName": rule,
                    "ipAddress": ip,
                    "serviceAttachmentName": attachment(id, service, n),
                    "status": status,
                })
            });
            json!({
                "cloudProvider": "GCP",
                "deleteRequested": deleting,
                "endpointGroupName": name,
                "endpoints": rules.collect::<Vec<_>>(),
                "errorMessage": null,
                "gcpProjectId": own.gcp_project,
                "status": status,
            })
        }
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewEndpoint {
    id: Option<String>,
    #[serde(rename = "privateEndpointIPAddress")]
    private_endpoint_ip_address: Option<String>,
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
    let body: NewEndpoint = request.body()?;
    let mut new = ElsewhereEndpoint {
        ip: None,
        gcp_project: None,
        rules: Vec::new(),
        state: ServiceState::Initiating,
        since: Timestamp::default(),
    };
    let name = match cloud {
        Cloud::Azure => {
            let name = body.id.ok_or_else(|| missing("id"))?;
            if !name.to_ascii_lowercase().contains("/providers/microsoft.network/privateendpoints/") {
                return Err(invalid("id", &name));
            }
            new.ip = Some(ip("privateEndpointIPAddress", body.private_endpoint_ip_address)?);
            name
        }
        Cloud::Gcp => {
            let name = body.endpoint_group_name.filter(|name| !name.is_empty());
            new.gcp_project = Some(body.gcp_project_id.ok_or_else(|| missing("gcpProjectId"))?);
            for rule in body.endpoints.into_iter().take(ATTACHMENTS) {
                let name = rule.endpoint_name.ok_or_else(|| missing("endpointName"))?;
                new.rules.push((name, ip("ipAddress", rule.ip_address)?));
            }
            if new.rules.is_empty() {
                return Err(missing("endpoints"));
            }
            name.ok_or_else(|| missing("endpointGroupName"))?
        }
    };
    let (service, endpoint) = (id.to_owned(), name.clone());
    request.shared.control.edit(move |draft| draft.register_elsewhere(&service, endpoint, new)).await?;
    let inventory = request.shared.control.inventory();
    let service = find(request, &inventory, cloud, id)?;
    Ok((StatusCode::CREATED, endpoint_view(id, service, &name).ok_or_else(|| no_endpoint(&name))?))
}
