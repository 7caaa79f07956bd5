//! Clusters: enough of them to exercise every rule of private endpoints.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::services::{invalid, missing};
use super::{Outcome, Refusal, Request};
use crate::api::text::{iso8601, object_id};
use crate::control::draft::atlas::NewCluster;
use crate::control::inventory::{ClusterRecord, ClusterState, Pair};
use crate::model::{ClusterName, Region, Tier};
use crate::plan::{ClusterStrings, PrivateStrings};

/// The tag that names where a cluster's nodes really listen.
const BACKENDS_TAG: &str = "plgw-backends";

/// Nodes of one cluster: Atlas' most, 50, in each of two regions.
const MOST_NODES: usize = 100;

pub(super) async fn answer(request: &Request<'_>, rest: &[&str]) -> Outcome {
    let name = |text: &str| text.parse::<ClusterName>().map_err(|_| no_cluster(text));
    match (&request.call.method, rest) {
        (&Method::GET, []) => {
            let inventory = request.shared.control.inventory();
            let own = inventory.clusters.iter().filter(|(key, _)| key.0 == request.project);
            Ok((StatusCode::OK, request.page(own.map(|(_, record)| view(request, record)).collect())))
        }
        (&Method::POST, []) => create(request).await,
        (&Method::GET, [text]) => describe(request, &name(text)?, StatusCode::OK),
        (&Method::PATCH, [text]) => change(request, name(text)?).await,
        (&Method::DELETE, [text]) => {
            let (project, name) = (request.project.clone(), name(text)?);
            request.shared.control.edit(move |draft| draft.delete_cluster(&project, &name)).await?;
            Ok((StatusCode::ACCEPTED, json!({})))
        }
        (_, [] | [_]) => Err(Refusal::method(request.call)),
        _ => Err(Refusal::no_resource(request.call)),
    }
}

fn no_cluster(name: &str) -> Refusal {
    Refusal::new(404, "CLUSTER_NOT_FOUND", format!("No cluster named {name} exists in the group.")).with([name])
}

fn describe(request: &Request<'_>, name: &ClusterName, status: StatusCode) -> Outcome {
    let inventory = request.shared.control.inventory();
    let record = inventory.clusters.get(&Pair(request.project.clone(), name.clone()));
    let record = record.ok_or_else(|| no_cluster(name.as_str()))?;
    Ok((status, view(request, record)))
}

fn view(request: &Request<'_>, record: &ClusterRecord) -> Value {
    let cluster = &record.cluster;
    let project = request.project.as_str();
    let id = object_id("cluster", &format!("{project}/{}", cluster.name));
    let snapshot = request.shared.control.snapshot();
    let own = |s: &&ClusterStrings| s.project == request.project && s.cluster == cluster.name;
    let regions = cluster.regions().into_iter().enumerate().map(|(n, region)| {
        let count = cluster.nodes.iter().filter(|node| node.zone.region() == region).count();
        let mut config = json!({
            "electableSpecs": { "diskSizeGB": 10.0, "ebsVolumeType": "STANDARD", "instanceSize": cluster.tier.name(), "nodeCount": count },
            "priority": 7usize.saturating_sub(n),
            "providerName": if matches!(cluster.tier, Tier::Shared(_)) { "TENANT" } else { "AWS" },
            "regionName": region.atlas(),
        });
        if matches!(cluster.tier, Tier::Shared(_)) {
            config["backingProviderName"] = json!("AWS");
        }
        config
    });
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
        "diskSizeGB": 10.0,
        "encryptionAtRestProvider": "NONE",
        "groupId": project,
        "id": id,
        "labels": [],
        "mongoDBMajorVersion": "8.0",
        "mongoDBVersion": "8.0.12",
        "name": cluster.name.as_str(),
        "paused": cluster.paused,
        "pitEnabled": false,
        "replicationSpecs": [{
            "id": object_id("replication-spec", &id),
            "numShards": 1,
            "regionConfigs": regions.collect::<Vec<_>>(),
            "zoneName": "Zone 1",
        }],
        "rootCertType": "ISRGROOTX1",
        "stateName": record.state.label(),
        "tags": [],
        "terminationProtectionEnabled": false,
        "versionReleaseSystem": "LTS",
    });
    if request.is_v1() {
        let first = cluster.regions().first().map(Region::atlas);
        value["providerSettings"] = json!({
            "instanceSizeName": cluster.tier.name(),
            "providerName": if matches!(cluster.tier, Tier::Shared(_)) { "TENANT" } else { "AWS" },
            "regionName": first,
        });
        value["numShards"] = json!(1);
        value["srvAddress"] = value["connectionStrings"]["standardSrv"].clone();
    }
    value
}

/// A cluster's strings as Atlas has them, with the maps that older clients read.
fn strings(strings: &ClusterStrings, is_sharded: bool) -> Value {
    let mut value = json!({ "standard": strings.standard, "standardSrv": strings.standard_srv });
    let legacy = |string: fn(&PrivateStrings) -> &String| {
        let pairs = strings.private.iter().flat_map(|entry| {
            entry.endpoints.iter().map(move |(id, _)| (id.to_string(), Value::String(string(entry).clone())))
        });
        Value::Object(pairs.collect())
    };
    // Recorded: a replica set without private endpoints has none of these keys, a sharded cluster two empty ones.
    if strings.private.is_empty() && is_sharded {
        value["awsPrivateLinkSrv"] = json!({});
        value["privateEndpoint"] = json!([]);
    }
    if !strings.private.is_empty() {
        value["awsPrivateLink"] = legacy(|entry| &entry.connection_string);
        value["awsPrivateLinkSrv"] = legacy(|entry| {
            entry.srv_shard_optimized_connection_string.as_ref().unwrap_or(&entry.srv_connection_string)
        });
        value["privateEndpoint"] = strings.private.iter().map(private).collect();
    }
    value
}

fn private(entry: &PrivateStrings) -> Value {
    let endpoint = |(id, region): &(crate::model::VpceId, Region)| json!({ "endpointId": id.as_str(), "providerName": "AWS", "region": region.atlas() });
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterBody {
    name: Option<String>,
    cluster_type: Option<String>,
    #[serde(default)]
    replication_specs: Vec<ReplicationSpec>,
    #[serde(default)]
    tags: Vec<Tag>,
    /// The gateway's own: where the nodes really listen.
    lab_backends: Option<Vec<SocketAddr>>,
    paused: Option<bool>,
    /// The first version's.
    provider_settings: Option<ProviderSettings>,
    /// The first version's.
    replication_factor: Option<usize>,
}

/// The first version's: one size for all nodes, and a region where no others are named.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProviderSettings {
    provider_name: Option<String>,
    instance_size_name: Option<String>,
    region_name: Option<String>,
}

/// The first version's nodes of a region.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldRegion {
    electable_nodes: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReplicationSpec {
    #[serde(default)]
    region_configs: Vec<RegionConfig>,
    /// The first version's.
    #[serde(default)]
    regions_config: BTreeMap<String, OldRegion>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RegionConfig {
    region_name: Option<String>,
    provider_name: Option<String>,
    electable_specs: Option<Specs>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Specs {
    instance_size: Option<String>,
    node_count: Option<usize>,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    value: String,
}

fn tier(text: &str) -> Result<Tier, Refusal> {
    let size = text
        .strip_prefix('M')
        .or_else(|| text.strip_prefix('R'))
        .and_then(|rest| rest.trim_end_matches("_NVME").parse().ok());
    match size {
        Some(size @ (0 | 2 | 5)) => Ok(Tier::Shared(size)),
        Some(size @ 10..=1000) => Ok(Tier::Dedicated(size)),
        _ => Err(invalid("instanceSize", text)),
    }
}

/// Where the nodes are to be, in the words of either version.
fn configs(body: &ClusterBody) -> Result<Vec<RegionConfig>, Refusal> {
    let spec = body.replication_specs.first();
    if let Some(spec) = spec.filter(|spec| !spec.region_configs.is_empty()) {
        return Ok(spec.region_configs.clone());
    }
    let settings = body.provider_settings.as_ref().ok_or_else(|| missing("replicationSpecs"))?;
    let config = |region: Option<String>, count: Option<usize>| RegionConfig {
        region_name: region,
        provider_name: settings.provider_name.clone(),
        electable_specs: Some(Specs { instance_size: settings.instance_size_name.clone(), node_count: count }),
    };
    let named: Vec<RegionConfig> = spec
        .into_iter()
        .flat_map(|spec| &spec.regions_config)
        .map(|(region, nodes)| config(Some(region.clone()), nodes.electable_nodes))
        .collect();
    let only = || vec![config(settings.region_name.clone(), body.replication_factor)];
    Ok(if named.is_empty() { only() } else { named })
}

async fn create(request: &Request<'_>) -> Outcome {
    let body: ClusterBody = request.body()?;
    let text = body.name.clone().ok_or_else(|| missing("name"))?;
    let name: ClusterName = text.parse().map_err(|_| invalid("name", &text))?;
    let sharded = match body.cluster_type.as_deref() {
        None | Some("REPLICASET") => false,
        Some("SHARDED" | "GEOSHARDED") => true,
        Some(other) => return Err(invalid("clusterType", other)),
    };
    let configs = configs(&body)?;
    let mut size = None;
    let mut regions: Vec<(Region, usize)> = Vec::new();
    for config in &configs {
        if let Some(provider @ ("AZURE" | "GCP")) = config.provider_name.as_deref() {
            return Err(invalid("providerName", provider));
        }
        let wanted = config.region_name.as_deref().ok_or_else(|| missing("regionName"))?;
        let region: Region = wanted.parse().map_err(|_| {
            let detail = format!("No region {wanted} exists for provider AWS.");
            Refusal::new(400, "INVALID_REGION", detail).with([wanted, "AWS"])
        })?;
        let specs = config.electable_specs.as_ref();
        let own = tier(specs.and_then(|specs| specs.instance_size.as_deref()).unwrap_or("M10"))?;
        size.get_or_insert(own);
        let count = specs.and_then(|specs| specs.node_count).unwrap_or(3);
        regions.push((region, count));
    }
    let total: usize = regions.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
    if !(1..=MOST_NODES).contains(&total) {
        return Err(invalid("nodeCount", &total.to_string()));
    }
    let tagged = body.tags.iter().find(|tag| tag.key == BACKENDS_TAG);
    let backends = match (body.lab_backends, tagged) {
        (Some(backends), _) => backends,
        (None, Some(tag)) => {
            let texts = tag.value.split([' ', ',']).filter(|text| !text.is_empty());
            texts.map(|text| text.parse().map_err(|_| invalid(BACKENDS_TAG, text))).collect::<Result<_, _>>()?
        }
        (None, None) => Vec::new(),
    };
    let tier = size.ok_or_else(|| missing("regionConfigs"))?;
    let new = NewCluster { name: name.clone(), sharded, tier, regions, backends };
    let project = request.project.clone();
    request.shared.control.edit(move |draft| draft.create_cluster(&project, new)).await?;
    let (status, mut view) = describe(request, &name, StatusCode::CREATED)?;
    // Its life may have gone on already; what was asked for is what is answered.
    view["stateName"] = json!(ClusterState::Creating.label());
    Ok((status, view))
}

async fn change(request: &Request<'_>, name: ClusterName) -> Outcome {
    let body: ClusterBody = request.body()?;
    let Some(paused) = body.paused else {
        return Err(Refusal::new(400, "UNSUPPORTED_CHANGE", "Here a cluster can only be paused and resumed."));
    };
    let (project, which) = (request.project.clone(), name.clone());
    request.shared.control.edit(move |draft| draft.pause(&project, &which, paused)).await?;
    describe(request, &name, StatusCode::OK)
}
