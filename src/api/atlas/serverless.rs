//! Serverless instances, and the private endpoint of each.

use std::net::SocketAddr;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::cluster_request::refuse_new;
use super::clusters::merge;
use super::errors::{no_endpoint, no_instance};
use super::services::{invalid, missing, region};
use super::{AtlasError, AtlasRequest, AtlasResult};
use crate::api::text::{iso8601, object_id};
use crate::control::inventory::{ClusterState, Inventory, Pair, Reservation, ServerlessEndpoint, ServerlessRecord};
use crate::model::{ClusterName, EndpointState, VpceId};
use crate::plan::ClusterStrings;

/// Maximum length of a comment. Source: the API's description.
const MAX_COMMENT_LENGTH: usize = 80;

pub(super) async fn instances(request: &AtlasRequest<'_>, rest: &[&str]) -> AtlasResult {
    match (&request.call.method, rest) {
        (&Method::GET, []) => {
            let inventory = request.shared.control.inventory();
            let own = inventory.serverless.iter().filter(|(key, _)| key.0 == request.project);
            Ok((StatusCode::OK, request.page(own.map(|(_, record)| view(request, record)).collect())))
        }
        (&Method::POST, []) => create(request).await,
        (&Method::GET, [text]) => {
            let inventory = request.shared.control.inventory();
            Ok((StatusCode::OK, view(request, find(request, &inventory, text)?)))
        }
        (&Method::PATCH, [text]) => {
            let inventory = request.shared.control.inventory();
            let shown = view(request, find(request, &inventory, text)?);
            refuse_new(&request.body()?, &shown)?;
            Ok((StatusCode::OK, shown))
        }
        (&Method::DELETE, [text]) => {
            let (project, name) = (request.project.clone(), name(text)?);
            request.shared.control.edit(move |draft| draft.delete_serverless(&project, &name)).await?;
            Ok((StatusCode::ACCEPTED, json!({})))
        }
        _ => Err(AtlasError::no_resource(request.call)),
    }
}

fn name(text: &str) -> Result<ClusterName, AtlasError> {
    text.parse().map_err(|_| no_instance(text))
}

fn find<'a>(
    request: &AtlasRequest<'_>,
    inventory: &'a Inventory,
    text: &str,
) -> Result<&'a ServerlessRecord, AtlasError> {
    let key = Pair(request.project.clone(), name(text)?);
    inventory.serverless.get(&key).ok_or_else(|| no_instance(text))
}

fn view(request: &AtlasRequest<'_>, record: &ServerlessRecord) -> Value {
    let snapshot = request.shared.control.snapshot();
    let own = |s: &&ClusterStrings| s.project == record.home;
    let strings = snapshot.strings.iter().find(own).map_or_else(
        || json!({}),
        |strings| {
            let mut value = json!({ "standardSrv": strings.standard_srv });
            if !strings.private.is_empty() {
                value["privateEndpoint"] = strings
                    .private
                    .iter()
                    .map(|entry| {
                        let endpoints = entry.endpoints.iter().map(|(id, region)| {
                            json!({ "endpointId": id.as_str(), "providerName": "AWS", "region": region.atlas() })
                        });
                        json!({
                            "endpoints": endpoints.collect::<Vec<_>>(),
                            "srvConnectionString": entry
                                .srv_shard_optimized_connection_string
                                .as_ref()
                                .unwrap_or(&entry.srv_connection_string),
                            "type": "MONGOS",
                        })
                    })
                    .collect();
            }
            value
        },
    );
    let mut value = json!({
        "connectionStrings": strings,
        "createDate": iso8601(record.created, false),
        "groupId": request.project.as_str(),
        "id": object_id("serverless", record.home.as_str()),
        "links": [],
        "mongoDBVersion": "8.0.12",
        "name": record.cluster.name.as_str(),
        "providerSettings": {
            "backingProviderName": "AWS",
            "providerName": "SERVERLESS",
            "regionName": record.region.atlas(),
        },
        "stateName": record.state.label(),
    });
    merge(&mut value, fixed());
    value
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewInstance {
    name: Option<String>,
    provider_settings: Option<ServerlessSettings>,
    /// An extension: the addresses of its `mongos`.
    #[serde(default)]
    lab_backends: Vec<SocketAddr>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServerlessSettings {
    backing_provider_name: Option<String>,
    provider_name: Option<String>,
    region_name: Option<String>,
}

/// The fixed fields of an instance.
fn fixed() -> Value {
    json!({
        "serverlessBackupOptions": { "serverlessContinuousBackupEnabled": false },
        "tags": [],
        "terminationProtectionEnabled": false,
    })
}

async fn create(request: &AtlasRequest<'_>) -> AtlasResult {
    let body: NewInstance = request.body()?;
    refuse_new(&body.others, &fixed())?;
    let text = body.name.ok_or_else(|| missing("name"))?;
    let name: ClusterName = text.parse().map_err(|_| invalid("name", &text))?;
    let settings = body.provider_settings.ok_or_else(|| missing("providerSettings"))?;
    if let Some(other) = settings.provider_name.filter(|name| name != "SERVERLESS") {
        return Err(invalid("providerName", &other));
    }
    match settings.backing_provider_name.as_deref() {
        Some("AWS") => {}
        Some(other) => return Err(invalid("backingProviderName", other)),
        None => return Err(missing("backingProviderName")),
    }
    let wanted = region(&settings.region_name.ok_or_else(|| missing("regionName"))?)?;
    let (project, new, backends) = (request.project.clone(), name.clone(), body.lab_backends);
    request.shared.control.edit(move |draft| draft.create_serverless(&project, new, wanted, backends)).await?;
    let inventory = request.shared.control.inventory();
    let record = find(request, &inventory, name.as_str())?;
    // Its state may have changed already; the response shows it as requested.
    let created = ServerlessRecord { state: ClusterState::Creating, ..record.clone() };
    Ok((StatusCode::CREATED, view(request, &created)))
}

/// `privateEndpoint/serverless/instance/{name}/endpoint`.
pub(super) async fn endpoints(request: &AtlasRequest<'_>, instance: &str, rest: &[&str]) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    let record = find(request, &inventory, instance)?;
    let own = |id: &str| record.endpoint.as_ref().filter(|own| own.id == id).ok_or_else(|| no_endpoint(id));
    let (project, name) = (request.project.clone(), record.cluster.name.clone());
    match (&request.call.method, rest) {
        (&Method::GET, []) => {
            Ok((StatusCode::OK, record.endpoint.iter().map(|own| endpoint_view(&inventory, own)).collect()))
        }
        (&Method::POST, []) => {
            let body: NewServerlessEndpoint = request.body()?;
            let comment = comment(body.comment)?.unwrap_or_default();
            request.shared.control.edit(move |draft| draft.reserve(&project, &name, comment)).await?;
            let inventory = request.shared.control.inventory();
            let own = find(request, &inventory, instance)?.endpoint.as_ref().ok_or_else(|| no_endpoint(instance))?;
            let asked = ServerlessEndpoint { state: Reservation::ReservationRequested, ..own.clone() };
            Ok((StatusCode::CREATED, endpoint_view(&inventory, &asked)))
        }
        (&Method::GET, [id]) => Ok((StatusCode::OK, endpoint_view(&inventory, own(id)?))),
        (&Method::PATCH, [id]) => {
            let which = own(id)?.id.clone();
            let body: ServerlessEndpointChange = request.body()?;
            match body.provider_name.as_deref() {
                None | Some("AWS") => {}
                Some(other) => return Err(invalid("providerName", other)),
            }
            let comment = comment(body.comment)?;
            let text = body.cloud_provider_endpoint_id;
            let endpoint: Option<VpceId> = text
                .map(|text| VpceId::of_aws(&text).map_err(|_| invalid("cloudProviderEndpointId", &text)))
                .transpose()?;
            request.shared.control.edit(move |draft| draft.claim(&project, &name, &which, comment, endpoint)).await?;
            let inventory = request.shared.control.inventory();
            let own = find(request, &inventory, instance)?.endpoint.as_ref();
            Ok((StatusCode::OK, endpoint_view(&inventory, own.ok_or_else(|| no_endpoint(id))?)))
        }
        (&Method::DELETE, [id]) => {
            let which = own(id)?.id.clone();
            request.shared.control.edit(move |draft| draft.release(&project, &name, &which)).await?;
            Ok((StatusCode::NO_CONTENT, json!({})))
        }
        _ => Err(AtlasError::no_resource(request.call)),
    }
}

#[derive(Deserialize)]
struct NewServerlessEndpoint {
    comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServerlessEndpointChange {
    comment: Option<String>,
    provider_name: Option<String>,
    cloud_provider_endpoint_id: Option<String>,
}

fn comment(text: Option<String>) -> Result<Option<String>, AtlasError> {
    match text {
        Some(text) if text.chars().count() > MAX_COMMENT_LENGTH => Err(invalid("comment", &text)),
        text => Ok(text),
    }
}

fn endpoint_view(inventory: &Inventory, own: &ServerlessEndpoint) -> Value {
    let (status, error) = status(inventory, own);
    let made = own.state != Reservation::ReservationRequested;
    json!({
        "_id": own.id,
        "cloudProviderEndpointId": own.claimed.as_ref().map(VpceId::as_str),
        "comment": own.comment,
        "endpointServiceName": made.then(|| own.service.name().to_string()),
        "errorMessage": error,
        "providerName": "AWS",
        "status": status,
    })
}

fn status(inventory: &Inventory, own: &ServerlessEndpoint) -> (&'static str, Option<String>) {
    match (own.state, &own.claimed) {
        (Reservation::ReservationRequested, _) => return ("RESERVATION_REQUESTED", None),
        (Reservation::Deleting, _) => return ("DELETING", None),
        _ if own.error.is_some() => return ("FAILED", own.error.clone()),
        (Reservation::Reserved, None) => return ("RESERVED", None),
        (Reservation::Reserved, Some(_)) => {}
    }
    let known = own.claimed.as_ref().and_then(|id| inventory.endpoints.get(id));
    match known.map(|record| record.endpoint.state) {
        Some(EndpointState::Available) => ("AVAILABLE", None),
        Some(EndpointState::Failed | EndpointState::Rejected | EndpointState::Expired) => {
            ("FAILED", known.and_then(|record| record.error.clone()))
        }
        _ => ("INITIATING", None),
    }
}
