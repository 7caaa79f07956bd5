//! Clusters, with enough features to exercise every rule of private endpoints.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::cluster_request::{ClusterBody, NUM_SHARDS, PRIORITIES, REGION_FIELDS, SPECS, ZONE_NAME, unsupported};
use super::errors::no_cluster;
use super::process_args;
use super::services::{invalid, missing};
use super::{AtlasError, AtlasRequest, AtlasResult};
use crate::api::text::{iso8601, object_id};
use crate::control::draft::atlas::NewCluster;
use crate::control::draft::profiles::ClusterChange;
use crate::control::inventory::{ClusterProfile, ClusterRecord, ClusterState, Inventory, Pair};
use crate::model::{Cluster, ClusterName, Region, Tier};
use crate::plan::{ClusterStrings, PrivateStrings};

/// Default number of nodes of a region.
const DEFAULT_NODES: usize = 3;
/// Default tier of a new cluster.
const DEFAULT_TIER: Tier = Tier::Dedicated(10);

/// Maximum number of nodes of one cluster: Atlas' limit of 50 in each of two regions.
const MAX_NODES: usize = 100;

pub(super) async fn answer(request: &AtlasRequest<'_>, rest: &[&str]) -> AtlasResult {
    let name = |text: &str| text.parse::<ClusterName>().map_err(|_| no_cluster(text));
    match (&request.call.method, rest) {
        (&Method::GET, []) => {
            let inventory = request.shared.control.inventory();
            let own = inventory.clusters.iter().filter(|(key, _)| key.0 == request.project);
            Ok((StatusCode::OK, request.page(own.map(|(_, record)| view(request, &inventory, record)).collect())))
        }
        (&Method::POST, []) => create(request).await,
        (&Method::GET, [text]) => describe(request, &name(text)?, StatusCode::OK),
        (&Method::PATCH, [text]) => change(request, name(text)?).await,
        (&Method::DELETE, [text]) => {
            let (project, name) = (request.project.clone(), name(text)?);
            request.shared.control.edit(move |draft| draft.delete_cluster(&project, &name)).await?;
            Ok((StatusCode::ACCEPTED, json!({})))
        }
        (&Method::GET, [text, "processArgs"]) => process_args::describe(request, &name(text)?),
        (&Method::PATCH, [text, "processArgs"]) => process_args::change(request, name(text)?).await,
        (_, [] | [_] | [_, "processArgs"]) => Err(AtlasError::method(request.call)),
        _ => Err(AtlasError::no_resource(request.call)),
    }
}

fn describe(request: &AtlasRequest<'_>, name: &ClusterName, status: StatusCode) -> AtlasResult {
    let inventory = request.shared.control.inventory();
    let record = inventory.clusters.get(&Pair(request.project.clone(), name.clone()));
    let record = record.ok_or_else(|| no_cluster(name.as_str()))?;
    Ok((status, view(request, &inventory, record)))
}

fn view(request: &AtlasRequest<'_>, inventory: &Inventory, record: &ClusterRecord) -> Value {
    let cluster = &record.cluster;
    let project = request.project.as_str();
    let id = object_id("cluster", &format!("{project}/{}", cluster.name));
    let snapshot = request.shared.control.snapshot();
    let own = |s: &&ClusterStrings| s.project == request.project && s.cluster == cluster.name;
    let key = Pair(request.project.clone(), cluster.name.clone());
    let kept = inventory.cluster_profiles.get(&key).map(|profile| &profile.fields);
    let kept = |name: &str, default: Value| kept.and_then(|fields| fields.get(name)).cloned().unwrap_or(default);
    let disk = kept("diskSizeGB", json!(10.0));
    let priorities = kept(PRIORITIES, Value::Null);
    let mut regions: Vec<Value> = cluster
        .regions()
        .into_iter()
        .enumerate()
        .map(|(n, region)| {
            let count = cluster.nodes.iter().filter(|node| node.zone.region() == region).count();
            let mut specs = json!({ "diskSizeGB": disk, "instanceSize": cluster.tier.name(), "nodeCount": count });
            if region.cloud().is_none() {
                specs["ebsVolumeType"] = json!("STANDARD");
            }
            merge(&mut specs, kept(SPECS, Value::Null));
            let name = region.atlas();
            let default = json!(7usize.saturating_sub(n));
            let mut config = json!({
                "electableSpecs": specs,
                "priority": priorities.get(&name).cloned().unwrap_or(default),
                "providerName": provider(cluster, &region),
                "regionName": name,
            });
            merge(&mut config, kept(REGION_FIELDS, Value::Null));
            if matches!(cluster.tier, Tier::Shared(_)) {
                config["backingProviderName"] = json!(region.provider());
            }
            config
        })
        .collect();
    // Atlas' order is by descending priority.
    regions.sort_by_key(|config| std::cmp::Reverse(config["priority"].as_u64()));
    let major = kept("mongoDBMajorVersion", json!("8.0")).as_str().unwrap_or_default().to_owned();
    let updating = record.state == ClusterState::Idle && inventory.updates.contains_key(&key);
    let state = if updating { ClusterState::Updating } else { record.state };
    let mut value = json!({
        "backupEnabled": false,
        "biConnector": { "enabled": !cluster.bi_connectors.is_empty(), "readPreference": "secondary" },
        "clusterType": if cluster.is_sharded() { "SHARDED" } else { "REPLICASET" },
        "connectionStrings": snapshot
            .strings
            .iter()
            .find(own)
            .map_or_else(|| json!({}), |found| strings(found, cluster.is_sharded())),
        "createDate": iso8601(record.created.unwrap_or_default(), false),
        "diskSizeGB": disk,
        "encryptionAtRestProvider": "NONE",
        "groupId": project,
        "id": id,
        "labels": kept("labels", json!([])),
        "mongoDBMajorVersion": major,
        "mongoDBVersion": format!("{major}.12"),
        "name": cluster.name.as_str(),
        "paused": cluster.paused,
        "pitEnabled": false,
        "replicationSpecs": [{
            "id": object_id("replication-spec", &id),
            "numShards": kept(NUM_SHARDS, json!(1)),
            "regionConfigs": regions,
            "zoneId": object_id("zone", &id),
            "zoneName": kept(ZONE_NAME, json!("Zone 1")),
        }],
        "redactClientLogData": kept("redactClientLogData", json!(false)),
        "rootCertType": "ISRGROOTX1",
        "stateName": state.label(),
        "tags": kept("tags", json!([])),
        "terminationProtectionEnabled": kept("terminationProtectionEnabled", json!(false)),
        "versionReleaseSystem": kept("versionReleaseSystem", json!("LTS")),
    });
    let scaling = kept("autoScaling", if request.is_v1() { json!({ "diskGBEnabled": false }) } else { Value::Null });
    if !scaling.is_null() {
        value["autoScaling"] = scaling;
    }
    if request.is_v1() {
        let first = cluster.regions().first().map(Region::atlas);
        value["providerSettings"] = json!({
            "instanceSizeName": cluster.tier.name(),
            "providerName": cluster.regions().first().map_or("AWS", |region| provider(cluster, region)),
            "regionName": first,
        });
        value["providerBackupEnabled"] = json!(false);
        value["replicationFactor"] = json!(cluster.nodes.len());
        value["numShards"] = json!(1);
        value["srvAddress"] = value["connectionStrings"]["standardSrv"].clone();
    }
    value
}

fn provider(cluster: &Cluster, region: &Region) -> &'static str {
    if matches!(cluster.tier, Tier::Shared(_)) { "TENANT" } else { region.provider() }
}

/// Adds the fields of `more`, if it is an object.
pub(super) fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (value, more) {
        fields.extend(more);
    }
}

/// A cluster's connection strings in Atlas' format, with the maps that older clients use.
fn strings(strings: &ClusterStrings, is_sharded: bool) -> Value {
    let mut value = json!({ "standard": strings.standard, "standardSrv": strings.standard_srv });
    // Strings that were created by name are separate resources.
    let private: Vec<&PrivateStrings> = strings.private.iter().filter(|entry| entry.slug.is_none()).collect();
    let legacy = |string: fn(&PrivateStrings) -> &String| {
        let pairs = private.iter().flat_map(|entry| {
            let aws = entry.endpoints.iter().filter(|(id, _)| id.cloud().is_none());
            aws.map(move |(id, _)| (id.to_string(), Value::String(string(entry).clone())))
        });
        Value::Object(pairs.collect())
    };
    // Recorded: a replica set without private endpoints has none of these keys, a sharded cluster two empty ones.
    if private.is_empty() && is_sharded {
        value["awsPrivateLinkSrv"] = json!({});
        value["privateEndpoint"] = json!([]);
    }
    if !private.is_empty() {
        value["privateEndpoint"] = private.iter().map(|entry| endpoint_strings(entry)).collect();
    }
    let aws = |entry: &&PrivateStrings| entry.endpoints.iter().any(|(id, _)| id.cloud().is_none());
    if private.iter().any(aws) {
        value["awsPrivateLink"] = legacy(|entry| &entry.connection_string);
        value["awsPrivateLinkSrv"] = legacy(|entry| {
            entry.srv_shard_optimized_connection_string.as_ref().unwrap_or(&entry.srv_connection_string)
        });
    }
    value
}

fn endpoint_strings(entry: &PrivateStrings) -> Value {
    let endpoint = |(id, region): &(crate::model::VpceId, Region)| json!({ "endpointId": id.atlas(), "providerName": region.provider(), "region": region.atlas() });
    let mut value = json!({
        "connectionString": entry.connection_string,
        "endpoints": entry.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "srvConnectionString": entry.srv_connection_string,
        "type": entry.r#type,
    });
    if let Some(optimized) = &entry.srv_shard_optimized_connection_string {
        value["srvShardOptimizedConnectionString"] = json!(optimized);
    }
    value
}

async fn create(request: &AtlasRequest<'_>) -> AtlasResult {
    let body = ClusterBody::of(request)?;
    let text = body.name.clone().ok_or_else(|| missing("name"))?;
    let name: ClusterName = text.parse().map_err(|_| invalid("name", &text))?;
    let wanted = body.nodes()?.ok_or_else(|| missing("replicationSpecs"))?;
    let regions: Vec<_> =
        wanted.regions.into_iter().map(|(region, count)| (region, count.unwrap_or(DEFAULT_NODES))).collect();
    let total: usize = regions.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
    if !(1..=MAX_NODES).contains(&total) {
        return Err(invalid("nodeCount", &total.to_string()));
    }
    body.check_factor(total)?;
    if body.paused == Some(true) {
        return Err(unsupported("paused", "make the cluster, and pause it once it is there"));
    }
    let profile = ClusterProfile { fields: body.kept(None)?.into_iter().collect(), ..ClusterProfile::default() };
    let new = NewCluster {
        name: name.clone(),
        sharded: body.is_sharded()?.unwrap_or(false),
        tier: wanted.tier.unwrap_or(DEFAULT_TIER),
        profile,
        regions,
        backends: body.backends()?,
    };
    let project = request.project.clone();
    request.shared.control.edit(move |draft| draft.create_cluster(&project, new)).await?;
    let (status, mut view) = describe(request, &name, StatusCode::CREATED)?;
    // Its state may have changed already; the response shows it as requested.
    view["stateName"] = json!(ClusterState::Creating.label());
    Ok((status, view))
}

/// Applies supported changes; a field with its current value is not a change.
async fn change(request: &AtlasRequest<'_>, name: ClusterName) -> AtlasResult {
    let body = ClusterBody::of(request)?;
    let (_, shown) = describe(request, &name, StatusCode::OK)?;
    if body.name.as_deref().is_some_and(|other| other != name.as_str()) {
        return Err(unsupported("name", "a cluster keeps its name"));
    }
    if body.is_sharded()?.is_some_and(|sharded| sharded != (shown["clusterType"] == "SHARDED")) {
        return Err(unsupported("clusterType", "delete the cluster and make it again"));
    }
    if body.lab_backends.is_some() {
        return Err(unsupported("labBackends", "a cluster's nodes stay; delete it and make it again"));
    }
    let fields = body.kept(Some(&shown))?;
    let inventory = request.shared.control.inventory();
    let record = inventory.clusters.get(&Pair(request.project.clone(), name.clone()));
    let cluster = &record.ok_or_else(|| no_cluster(name.as_str()))?.cluster;
    body.check_factor(cluster.nodes.len())?;
    let wanted = body.nodes()?;
    if let Some(wanted) = &wanted {
        let count = |region: &Region| cluster.nodes.iter().filter(|node| node.zone.region() == *region).count();
        let same = wanted.regions.iter().all(|(region, nodes)| nodes.is_none_or(|nodes| count(region) == nodes));
        if !same || wanted.regions.len() != cluster.regions().len() {
            let instead = "the nodes are real ones: delete the cluster and make it again, or change the config's";
            return Err(unsupported("replicationSpecs", instead));
        }
    }
    let change = ClusterChange {
        paused: body.paused,
        tier: wanted.and_then(|wanted| wanted.tier),
        fields,
        process_args: Vec::new(),
    };
    let (project, which) = (request.project.clone(), name.clone());
    request.shared.control.edit(move |draft| draft.change_cluster(&project, &which, change)).await?;
    describe(request, &name, StatusCode::OK)
}
