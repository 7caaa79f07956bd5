//! Projects: regional mode, limits, the IP access list.

use hyper::{Method, StatusCode};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::cluster_request::{refuse_new, unsupported};
use super::services::{invalid, missing};
use super::{AtlasError, AtlasRequest, AtlasResult, orgs, page};
use crate::api::ApiState;
use crate::api::call::Call;
use crate::control::draft::{Draft, EditError};
use crate::control::inventory::{Inventory, ProjectProfile, Tags};
use crate::model::{CidrSet, DEFAULT_TARGET_LIMIT, ProjectId};
use crate::plan::Snapshot;

/// The limit that a project can raise, according to Atlas' documentation.
const NODES_LIMIT: &str = "atlas.project.deployment.nodesPerPrivateLinkRegion";

/// The maximum that the API accepts; support can raise it further. Source: the limits page.
const API_MAXIMUM: usize = 90;

pub(super) fn view(inventory: &Inventory, id: &ProjectId) -> Value {
    let record = inventory.projects.get(id);
    let profile = inventory.project_profiles.get(id).cloned().unwrap_or_default();
    json!({
        "clusterCount": inventory.clusters.keys().filter(|key| key.0 == *id).count(),
        "created": "1970-01-01T00:00:00Z",
        "id": id.as_str(),
        "links": [],
        "name": record.map(|record| record.name.as_str()),
        "orgId": profile.org.unwrap_or_else(orgs::own),
        "tags": tags_view(&profile.tags),
        "withDefaultAlertsSettings": profile.default_alerts.unwrap_or(true),
    })
}

pub(super) fn list(shared: &ApiState, call: &Call) -> (StatusCode, Value) {
    let inventory = shared.control.inventory();
    (StatusCode::OK, page(call, inventory.projects.keys().map(|id| view(&inventory, id)).collect()))
}

pub(super) fn by_name(shared: &ApiState, name: &str) -> AtlasResult {
    let inventory = shared.control.inventory();
    let found = inventory.projects.iter().find(|(_, record)| record.name == name);
    let missing =
        || AtlasError::new(404, "GROUP_NAME_NOT_FOUND", format!("No group with name {name} exists.")).with([name]);
    Ok((StatusCode::OK, view(&inventory, found.ok_or_else(missing)?.0)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProjectBody {
    name: Option<String>,
    org_id: Option<String>,
    tags: Option<Vec<Tag>>,
    with_default_alerts_settings: Option<bool>,
    region_usage_restrictions: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Fields of a response, which clients send back with a request.
const READ_ONLY: [&str; 4] = ["id", "links", "clusterCount", "created"];

#[derive(Deserialize)]
struct Tag {
    key: String,
    value: String,
}

fn tags_view(tags: &Tags) -> Value {
    tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

/// Maximum length of a project name in characters.
const MAX_NAME_LENGTH: usize = 64;

impl ProjectBody {
    fn of(call: &Call) -> Result<Self, AtlasError> {
        let body: Self = super::body(call)?;
        if let Some(name) = &body.name
            && (name.trim().is_empty() || name.chars().count() > MAX_NAME_LENGTH)
        {
            return Err(invalid("name", name));
        }
        if let Some(name) = body.others.keys().find(|name| !READ_ONLY.contains(&name.as_str())) {
            return Err(unsupported(name, "a project has no such attribute; leave it out"));
        }
        // Every other restriction is for the government cloud.
        match body.region_usage_restrictions.as_deref() {
            None | Some("" | "NONE") => Ok(body),
            Some(other) => Err(invalid("regionUsageRestrictions", other)),
        }
    }

    fn tags(&mut self) -> Option<Tags> {
        Some(self.tags.take()?.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }
}

pub(super) async fn create(shared: &ApiState, call: &Call) -> AtlasResult {
    let mut body = ProjectBody::of(call)?;
    let profile = ProjectProfile {
        tags: body.tags().unwrap_or_default(),
        org: body.org_id,
        default_alerts: body.with_default_alerts_settings,
        ..ProjectProfile::default()
    };
    let name = body.name.ok_or_else(|| missing("name"))?;
    let id = shared.control.edit(move |draft| draft.create_project(name, profile)).await?;
    Ok((StatusCode::CREATED, view(&shared.control.inventory(), &id)))
}

pub(super) async fn change(request: &AtlasRequest<'_>) -> AtlasResult {
    let mut body = ProjectBody::of(request.call)?;
    refuse_new(&body.others, &view(&request.shared.control.inventory(), &request.project))?;
    let fixed = [
        ("orgId", body.org_id.is_some()),
        ("withDefaultAlertsSettings", body.with_default_alerts_settings.is_some()),
        ("regionUsageRestrictions", body.region_usage_restrictions.is_some()),
    ];
    if let Some((name, _)) = fixed.into_iter().find(|(_, is_set)| *is_set) {
        return Err(unsupported(name, "a change of a project is of its name and its tags"));
    }
    let (project, tags) = (request.project.clone(), body.tags());
    request.shared.control.edit(move |draft| draft.change_project(&project, body.name, tags)).await?;
    Ok(describe(request))
}

pub(super) async fn delete(request: &AtlasRequest<'_>) -> AtlasResult {
    let project = request.project.clone();
    request.shared.control.edit(move |draft| draft.delete_project(&project)).await?;
    Ok((StatusCode::ACCEPTED, json!({})))
}

pub(super) fn describe(request: &AtlasRequest<'_>) -> (StatusCode, Value) {
    (StatusCode::OK, view(&request.shared.control.inventory(), &request.project))
}

#[derive(Deserialize)]
struct RegionalMode {
    enabled: Option<bool>,
}

pub(super) async fn regional_mode(request: &AtlasRequest<'_>) -> AtlasResult {
    match request.call.method {
        Method::GET => {
            let inventory = request.shared.control.inventory();
            let on = inventory.projects.get(&request.project).is_some_and(|record| record.regionalized);
            Ok((StatusCode::OK, json!({ "enabled": on })))
        }
        Method::PATCH => {
            // The first version's client sends the bare flag.
            let on = match serde_json::from_slice(&request.call.body) {
                Ok(flag) => flag,
                Err(_) => request.body::<RegionalMode>()?.enabled.ok_or_else(|| missing("enabled"))?,
            };
            let project = request.project.clone();
            request.shared.control.edit(move |draft| draft.set_regionalized(&project, on)).await?;
            Ok((StatusCode::ACCEPTED, json!({ "enabled": on })))
        }
        _ => Err(AtlasError::method(request.call)),
    }
}

fn limit(request: &AtlasRequest<'_>) -> Value {
    let inventory = request.shared.control.inventory();
    let snapshot = request.shared.control.snapshot();
    let record = inventory.projects.get(&request.project);
    json!({
        "currentUsage": usage(&inventory, &snapshot, &request.project),
        "defaultLimit": DEFAULT_TARGET_LIMIT,
        "maximumLimit": API_MAXIMUM,
        "name": NODES_LIMIT,
        "value": record.and_then(|record| record.target_limit).unwrap_or(DEFAULT_TARGET_LIMIT),
    })
}

/// The highest number of addressable targets that the project has in a region.
fn usage(inventory: &Inventory, snapshot: &Snapshot, project: &ProjectId) -> usize {
    let own = inventory.services.values().filter(|record| record.project == *project);
    let counts = own.map(|record| snapshot.targets.iter().filter(|target| target.service == record.service.id).count());
    counts.max().unwrap_or(0)
}

#[derive(Deserialize)]
struct LimitChange {
    value: Option<usize>,
    /// Other fields of the response, which clients send back.
    #[serde(flatten)]
    others: Map<String, Value>,
}

pub(super) async fn limits(request: &AtlasRequest<'_>, rest: &[&str]) -> AtlasResult {
    let project = request.project.clone();
    match (&request.call.method, rest) {
        (&Method::GET, []) => Ok((StatusCode::OK, json!([limit(request)]))),
        (&Method::GET, [NODES_LIMIT]) => Ok((StatusCode::OK, limit(request))),
        (&Method::PATCH, [NODES_LIMIT]) => {
            let body: LimitChange = request.body()?;
            let value = body.value.ok_or_else(|| missing("value"))?;
            refuse_new(&body.others, &limit(request))?;
            if value > API_MAXIMUM {
                let detail = format!("The limit can be at most {API_MAXIMUM}; MongoDB Support raises it to 100.");
                return Err(AtlasError::new(400, "LIMIT_VALUE_ABOVE_MAXIMUM", detail).with([value.to_string()]));
            }
            let set = move |draft: &mut Draft| draft.project_mut(&project).map(|own| own.target_limit = Some(value));
            request.shared.control.edit(set).await?;
            Ok((StatusCode::OK, limit(request)))
        }
        (&Method::DELETE, [NODES_LIMIT]) => {
            let unset = move |draft: &mut Draft| draft.project_mut(&project).map(|own| own.target_limit = None);
            request.shared.control.edit(unset).await?;
            Ok((StatusCode::OK, json!({})))
        }
        (_, [] | [NODES_LIMIT]) => Err(AtlasError::method(request.call)),
        (_, [other]) => {
            Err(AtlasError::new(404, "INVALID_LIMIT_NAME", format!("No limit named {other} exists.")).with([*other]))
        }
        _ => Err(AtlasError::no_resource(request.call)),
    }
}

fn entries(request: &AtlasRequest<'_>) -> Vec<Value> {
    let inventory = request.shared.control.inventory();
    let Some(record) = inventory.projects.get(&request.project) else { return Vec::new() };
    let entry = |net: &IpNet| {
        let comment = record.comments.get(&net.to_string()).cloned().unwrap_or_default();
        let mut entry = json!({
            "cidrBlock": net.to_string(),
            "comment": comment,
            "groupId": request.project.as_str(),
            "links": [],
        });
        if net.prefix_len() == net.max_prefix_len() {
            entry["ipAddress"] = json!(net.addr().to_string());
        }
        entry
    };
    record.access_list.iter().map(entry).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewAccessEntry {
    cidr_block: Option<String>,
    ip_address: Option<String>,
    comment: Option<String>,
    aws_security_group: Option<String>,
    delete_after_date: Option<String>,
    group_id: Option<String>,
}

impl NewAccessEntry {
    /// The admitted network, which a response gives in two forms for a single address.
    fn net(&self, project: &ProjectId) -> Result<IpNet, AtlasError> {
        if self.aws_security_group.is_some() {
            return Err(unsupported("awsSecurityGroup", "there is no VPC peering, name a CIDR block"));
        }
        if self.delete_after_date.is_some() {
            return Err(unsupported("deleteAfterDate", "an entry stays until it is deleted, leave it out"));
        }
        if let Some(other) = self.group_id.as_deref().filter(|id| *id != project.as_str()) {
            return Err(invalid("groupId", other));
        }
        let nets = [&self.cidr_block, &self.ip_address].map(|text| text.as_deref().map(net).transpose());
        match nets {
            [Err(refusal), _] | [_, Err(refusal)] => Err(refusal),
            [Ok(Some(block)), Ok(Some(address))] if block != address => {
                Err(invalid("ipAddress", &format!("{address}, beside the cidrBlock {block}; write one of the two")))
            }
            [Ok(block), Ok(address)] => block.or(address).ok_or_else(|| missing("cidrBlock")),
        }
    }
}

fn net(text: &str) -> Result<IpNet, AtlasError> {
    CidrSet::parse_one(text).map_err(|_| {
        AtlasError::new(
            400,
            "INVALID_IP_ADDRESS_OR_CIDR_NOTATION",
            format!("The address {text} must be in valid IP address or CIDR notation."),
        )
        .with([text])
    })
}

pub(super) async fn access_list(request: &AtlasRequest<'_>, rest: &[&str]) -> AtlasResult {
    let project = request.project.clone();
    match (&request.call.method, rest) {
        (&Method::GET, []) => Ok((StatusCode::OK, request.page(entries(request)))),
        (&Method::POST, []) => {
            let body: Vec<NewAccessEntry> = request.body()?;
            let mut wanted = Vec::new();
            for entry in body {
                wanted.push((entry.net(&project)?, entry.comment.unwrap_or_default()));
            }
            if wanted.is_empty() {
                return Err(invalid("accessList", "[]"));
            }
            request.shared.control.edit(move |draft| draft.allow(&project, &wanted)).await?;
            Ok((StatusCode::CREATED, request.page(entries(request))))
        }
        (&Method::GET, [text, "status"]) => {
            let wanted = net(text)?.to_string();
            let found = entries(request).into_iter().any(|entry| entry["cidrBlock"] == wanted.as_str());
            if found { Ok((StatusCode::OK, json!({ "STATUS": "ACTIVE" }))) } else { Err(no_entry(text)) }
        }
        (&Method::GET, [text]) => {
            let wanted = net(text)?.to_string();
            let found = entries(request).into_iter().find(|entry| entry["cidrBlock"] == wanted.as_str());
            found.map(|entry| (StatusCode::OK, entry)).ok_or_else(|| no_entry(text))
        }
        (&Method::DELETE, [text]) => {
            let gone = net(text)?;
            match request.shared.control.edit(move |draft| draft.disallow(&project, gone)).await {
                Ok(()) => Ok((StatusCode::NO_CONTENT, json!({}))),
                Err(crate::control::ChangeError::Edit(EditError::Missing { .. })) => Err(no_entry(text)),
                Err(error) => Err(error.into()),
            }
        }
        _ => Err(AtlasError::method(request.call)),
    }
}

fn no_entry(text: &str) -> AtlasError {
    let detail = format!("IP Address {text} not on Atlas access list for group.");
    AtlasError::new(404, "ATLAS_NETWORK_PERMISSION_ENTRY_NOT_FOUND", detail).with([text])
}
