//! The private endpoints of Online Archives and federated database instances: `privateNetworkSettings/endpointIds`.

use std::net::SocketAddr;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::no_endpoint;
use super::services::{invalid, missing, region};
use super::{AtlasError, AtlasRequest, AtlasResult};
use crate::control::inventory::{ArchiveEndpoint, Inventory, Pair};
use crate::model::{EndpointState, VpceId};

pub(super) async fn answer(request: &AtlasRequest<'_>, rest: &[&str]) -> AtlasResult {
    match (&request.call.method, rest) {
        (&Method::GET, []) => Ok((StatusCode::OK, list(request))),
        (&Method::POST, []) => add(request).await,
        (&Method::GET, [text]) => {
            let inventory = request.shared.control.inventory();
            let id: VpceId = text.parse().map_err(|_| no_endpoint(text))?;
            let record = inventory.archives.get(&Pair(request.project.clone(), id.clone()));
            Ok((StatusCode::OK, view(&inventory, &id, record.ok_or_else(|| no_endpoint(text))?)))
        }
        (&Method::DELETE, [text]) => {
            let id: VpceId = text.parse().map_err(|_| no_endpoint(text))?;
            let project = request.project.clone();
            request.shared.control.edit(move |draft| draft.remove_archive_endpoint(&project, &id)).await?;
            Ok((StatusCode::NO_CONTENT, json!({})))
        }
        _ => Err(AtlasError::no_resource(request.call)),
    }
}

fn list(request: &AtlasRequest<'_>) -> Value {
    let inventory = request.shared.control.inventory();
    let own = inventory.archives.iter().filter(|(key, _)| key.0 == request.project);
    request.page(own.map(|(key, record)| view(&inventory, &key.1, record)).collect())
}

fn view(inventory: &Inventory, id: &VpceId, record: &ArchiveEndpoint) -> Value {
    let (status, error) = status(inventory, id, record);
    let mut value = json!({
        "comment": record.comment,
        "endpointId": id.as_str(),
        "errorMessage": error,
        "provider": "AWS",
        "status": status,
        "type": "DATA_LAKE",
    });
    if let Some((region, name)) = &record.customer {
        value["region"] = json!(region.atlas());
        value["customerEndpointDNSName"] = json!(name);
    }
    value
}

fn status(inventory: &Inventory, id: &VpceId, record: &ArchiveEndpoint) -> (&'static str, Option<String>) {
    if record.deleting {
        return ("DELETING", None);
    }
    if record.error.is_some() {
        return ("FAILED", record.error.clone());
    }
    let known = inventory.endpoints.get(id);
    match known.map(|known| known.endpoint.state) {
        Some(EndpointState::Available) => ("OK", None),
        Some(EndpointState::Failed | EndpointState::Rejected | EndpointState::Expired) => {
            ("FAILED", known.and_then(|known| known.error.clone()))
        }
        _ => ("PENDING", None),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewArchiveEntry {
    endpoint_id: Option<String>,
    provider: Option<String>,
    r#type: Option<String>,
    comment: Option<String>,
    region: Option<String>,
    #[serde(rename = "customerEndpointDNSName")]
    customer_endpoint_dns_name: Option<String>,
    /// An extension: the addresses of the region's archives.
    #[serde(default)]
    lab_backends: Vec<SocketAddr>,
}

async fn add(request: &AtlasRequest<'_>) -> AtlasResult {
    let body: NewArchiveEntry = request.body()?;
    let text = body.endpoint_id.ok_or_else(|| missing("endpointId"))?;
    let id = VpceId::of_aws(&text).map_err(|_| invalid("endpointId", &text))?;
    if let Some(other) = body.provider.as_deref().filter(|provider| *provider != "AWS") {
        return Err(invalid("provider", other));
    }
    if let Some(other) = body.r#type.as_deref().filter(|kind| *kind != "DATA_LAKE") {
        return Err(invalid("type", other));
    }
    let customer = match (body.region, body.customer_endpoint_dns_name) {
        (None, None) => None,
        (Some(text), Some(name)) => Some((region(&text)?, name)),
        (Some(_), None) => return Err(missing("customerEndpointDNSName")),
        (None, Some(_)) => return Err(missing("region")),
    };
    let (project, comment, backends) = (request.project.clone(), body.comment, body.lab_backends);
    request
        .shared
        .control
        .edit(move |draft| draft.add_archive_endpoint(&project, &id, comment, customer, backends))
        .await?;
    Ok((StatusCode::OK, list(request)))
}
