//! `privateEndpointConnectionStrings` of a cluster: connection strings that use only chosen private endpoints. A
//! preview of 2026. Source: the `preview` version of the API's description.

use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::errors::no_cluster;
use super::services::{invalid, missing};
use super::{AtlasError, AtlasRequest, AtlasResult, PREVIEW, asked_version};
use crate::api::text::{iso8601, random_hex};
use crate::control::ChangeError;
use crate::control::draft::named_strings::NewStrings;
use crate::control::draft::{EditError, ResourceKind};
use crate::control::inventory::{Inventory, NamedStringsRecord, Pair, StringsStatus};
use crate::model::{ClusterName, VpceId};
use crate::plan::{PrivateStrings, Snapshot};

/// Maximum length of a name.
const MAX_NAME_LENGTH: usize = 64;

pub(super) async fn answer(request: &AtlasRequest<'_>, name: &str, rest: &[&str]) -> AtlasResult {
    let cluster: ClusterName = name.parse().map_err(|_| no_cluster(name))?;
    if request.is_v1() {
        return Err(AtlasError::no_resource(request.call));
    }
    check_version(request)?;
    let inventory = request.shared.control.inventory();
    if !inventory.clusters.contains_key(&Pair(request.project.clone(), cluster.clone())) {
        return Err(no_cluster(cluster.as_str()));
    }
    match (&request.call.method, rest) {
        (&Method::GET, []) => {
            let snapshot = request.shared.control.snapshot();
            let own = inventory
                .named_strings
                .iter()
                .filter(|(key, record)| key.0 == request.project && record.cluster == cluster);
            let views = own.map(|(key, record)| view(&key.1, record, &snapshot));
            Ok((StatusCode::OK, request.page(views.collect())))
        }
        (&Method::POST, []) => create(request, cluster).await,
        (&Method::GET, [id]) => describe(request, &inventory, &cluster, id),
        (&Method::PATCH, [id]) => change(request, cluster, id).await,
        (&Method::DELETE, [id]) => {
            let (project, id) = (request.project.clone(), (*id).to_owned());
            request.shared.control.edit(move |draft| draft.delete_strings(&project, &cluster, &id)).await?;
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        (_, [] | [_]) => Err(AtlasError::method(request.call)),
        _ => Err(AtlasError::no_resource(request.call)),
    }
}

/// The resource exists only in the version `preview`; for other versions it is not found.
fn check_version(request: &AtlasRequest<'_>) -> Result<(), AtlasError> {
    if asked_version(request.call) == Some(PREVIEW) {
        return Ok(());
    }
    let detail = "Invalid accept header or version date: accept application/vnd.atlas.preview+json.";
    Err(AtlasError::new(406, "INVALID_VERSION_DATE", detail))
}

fn describe(request: &AtlasRequest<'_>, inventory: &Inventory, cluster: &ClusterName, id: &str) -> AtlasResult {
    let record = inventory.named_strings.get(&Pair(request.project.clone(), id.to_owned()));
    let missing = || ChangeError::from(EditError::Missing { what: ResourceKind::ConnectionString, id: id.to_owned() });
    let record = record.filter(|record| record.cluster == *cluster).ok_or_else(missing)?;
    Ok((StatusCode::OK, view(id, record, &request.shared.control.snapshot())))
}

/// A record in Atlas' format. Published strings whose endpoints have all been removed are `FAILED`. The snapshot must
/// not be older than the record.
fn view(id: &str, record: &NamedStringsRecord, snapshot: &Snapshot) -> Value {
    let is_own = |strings: &&PrivateStrings| strings.slug.as_ref() == Some(&record.slug);
    let strings = snapshot.strings.iter().flat_map(|of| &of.private).find(is_own);
    let lost = record.status == StringsStatus::Available && strings.is_none();
    let status = if lost { StringsStatus::Failed } else { record.status };
    let mut value = json!({
        "connectionStringId": id,
        "createdAt": iso8601(record.created, false),
        "managementType": "SELF_MANAGED",
        "name": record.name,
        "optimizedModeEnabled": record.optimized,
        "privateEndpointIds": record.endpoints.iter().map(VpceId::as_str).collect::<Vec<_>>(),
        "selectiveMongosEnabled": false,
        "slug": record.slug,
        "status": status.label(),
        "updatedAt": iso8601(record.updated, false),
    });
    if let Some(strings) = strings {
        value["connectionString"] = json!(strings.connection_string);
        value["srvConnectionString"] = json!(strings.srv_connection_string);
    }
    if let Some(error) = &record.error {
        value["errorMessage"] = json!(error);
    } else if lost {
        value["errorMessage"] =
            json!("None of the private endpoints is available any longer; choose others in privateEndpointIds.");
    }
    value
}

async fn create(request: &AtlasRequest<'_>, cluster: ClusterName) -> AtlasResult {
    let mut body: Map<String, Value> = request.body()?;
    let name = name(&mut body)?.ok_or_else(|| missing("name"))?;
    let endpoints = endpoints(&mut body)?.ok_or_else(|| missing("privateEndpointIds"))?;
    let optimized = flag(&mut body, "optimizedModeEnabled")?;
    if flag(&mut body, "selectiveMongosEnabled")? {
        let detail = "selectiveMongosEnabled can't be true here: which mongos Atlas chooses is not published.";
        return Err(AtlasError::new(400, "INVALID_ATTRIBUTE", detail).with(["selectiveMongosEnabled"]));
    }
    refuse_remaining(&body)?;
    let (project, id, of) = (request.project.clone(), random_hex(12), cluster.clone());
    let (made, new) = (id.clone(), NewStrings { name, endpoints, optimized });
    request.shared.control.edit(move |draft| draft.create_strings(&project, &of, made, new)).await?;
    let (_, view) = describe(request, &request.shared.control.inventory(), &cluster, &id)?;
    Ok((StatusCode::CREATED, view))
}

async fn change(request: &AtlasRequest<'_>, cluster: ClusterName, id: &str) -> AtlasResult {
    let mut body: Map<String, Value> = request.body()?;
    let (name, endpoints) = (name(&mut body)?, endpoints(&mut body)?);
    refuse_remaining(&body)?;
    let (project, changed, of) = (request.project.clone(), id.to_owned(), cluster.clone());
    let change =
        move |draft: &mut crate::control::draft::Draft| draft.change_strings(&project, &of, &changed, name, endpoints);
    request.shared.control.edit(change).await?;
    describe(request, &request.shared.control.inventory(), &cluster, id)
}

fn name(body: &mut Map<String, Value>) -> Result<Option<String>, AtlasError> {
    let wrong = |value: &Value| invalid("name", &format!("{value}: 1 to {MAX_NAME_LENGTH} characters"));
    let Some(value) = body.remove("name") else { return Ok(None) };
    let text = value.as_str().filter(|text| (1..=MAX_NAME_LENGTH).contains(&text.chars().count()));
    text.map(|text| Some(text.to_owned())).ok_or_else(|| wrong(&value))
}

fn endpoints(body: &mut Map<String, Value>) -> Result<Option<Vec<VpceId>>, AtlasError> {
    let Some(value) = body.remove("privateEndpointIds") else { return Ok(None) };
    let ids = value.as_array().ok_or_else(|| invalid("privateEndpointIds", &value.to_string()))?;
    let id = |id: &Value| {
        let parsed = id.as_str().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| invalid("privateEndpointIds", &format!("{id} is no id of an AWS interface endpoint")))
    };
    ids.iter().map(id).collect::<Result<_, _>>().map(Some)
}

fn flag(body: &mut Map<String, Value>, name: &str) -> Result<bool, AtlasError> {
    match body.remove(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(other) => Err(invalid(name, &other.to_string())),
    }
}

/// Refuses the remaining fields of a body, which can't be set.
fn refuse_remaining(body: &Map<String, Value>) -> Result<(), AtlasError> {
    let names: Vec<&String> = body.keys().collect();
    if names.is_empty() {
        return Ok(());
    }
    let listed = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    Err(AtlasError::new(400, "INVALID_ATTRIBUTE", format!("These attributes can't be set: {listed}.")).with(names))
}
