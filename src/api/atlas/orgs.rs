//! Organizations, which here are only ids that projects share, and the clusters of all projects.

use std::collections::BTreeSet;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{AtlasError, AtlasResult, page, project};
use crate::api::ApiState;
use crate::api::call::Call;
use crate::api::text::object_id;
use crate::control::inventory::{Inventory, Pair};
use crate::model::{ClusterName, ProjectId};

/// The default organization.
pub(super) fn own() -> String {
    object_id("org", "plgw")
}

fn org_of(inventory: &Inventory, project: &ProjectId) -> String {
    let profile = inventory.project_profiles.get(project);
    profile.and_then(|profile| profile.org.clone()).unwrap_or_else(own)
}

fn view(id: &str) -> Value {
    json!({ "id": id, "isDeleted": false, "links": [], "name": if id == own() { "plgw" } else { id } })
}

pub(super) fn answer(shared: &ApiState, call: &Call, path: &[&str]) -> AtlasResult {
    let inventory = shared.control.inventory();
    let mut all: BTreeSet<String> = inventory.projects.keys().map(|id| org_of(&inventory, id)).collect();
    all.insert(own());
    let known = |id: &str| {
        let missing =
            || AtlasError::new(404, "ORG_NOT_FOUND", format!("No organization with ID {id} exists.")).with([id]);
        all.contains(id).then_some(()).ok_or_else(missing)
    };
    // Lists filter by a prefix of the name. Source: the API's description.
    let is_named = |view: &Value| {
        let name = view["name"].as_str().unwrap_or_default();
        call.query("name").is_none_or(|wanted| name.to_lowercase().starts_with(&wanted.to_lowercase()))
    };
    let body = match path {
        ["orgs"] => page(call, all.iter().map(|id| view(id)).filter(is_named).collect()),
        ["orgs", id] => {
            known(id)?;
            view(id)
        }
        ["orgs", id, "groups"] => {
            known(id)?;
            let own = inventory.projects.keys().filter(|project| org_of(&inventory, project) == *id);
            page(call, own.map(|project| project::view(&inventory, project)).filter(is_named).collect())
        }
        ["clusters"] => page(call, inventory.projects.keys().map(|project| clusters(&inventory, project)).collect()),
        _ => return Err(AtlasError::no_resource(call)),
    };
    Ok((StatusCode::OK, body))
}

/// A project's clusters in the format of the list over all projects.
fn clusters(inventory: &Inventory, project: &ProjectId) -> Value {
    let own = inventory.clusters.iter().filter(|(key, _)| key.0 == *project);
    let cluster =
        |(Pair(_, name), record): (&Pair<ProjectId, ClusterName>, &crate::control::inventory::ClusterRecord)| {
            json!({
                "alertCount": 0,
                "authEnabled": true,
                "availability": "available",
                "backupEnabled": false,
                "clusterId": object_id("cluster", &format!("{project}/{name}")),
                "dataSizeBytes": 0,
                "name": name.as_str(),
                "nodeCount": record.cluster.nodes.len(),
                "sslEnabled": true,
                "type": if record.cluster.is_sharded() { "SHARDED_CLUSTER" } else { "REPLICA_SET" },
                "versions": ["8.0.12"],
            })
        };
    json!({
        "clusters": own.map(cluster).collect::<Vec<_>>(),
        "groupId": project.as_str(),
        "groupName": inventory.projects.get(project).map(|record| record.name.as_str()),
        "orgId": org_of(inventory, project),
        "orgName": view(&org_of(inventory, project))["name"],
        "planType": "Atlas",
        "tags": [],
    })
}
