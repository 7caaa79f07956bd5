//! What is asked for of a cluster, in the words of each version of the API. Every field is obeyed, kept and shown, or refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Refusal;
use super::services::{invalid, missing, region_of};
use crate::model::{Cloud, Region, Tier};

/// The tag that names where a cluster's nodes really listen.
const BACKENDS_TAG: &str = "plgw-backends";

/// Under these names the fields inside `replicationSpecs` are kept.
pub(super) const ZONE_NAME: &str = "replicationSpecs.zoneName";
pub(super) const NUM_SHARDS: &str = "replicationSpecs.numShards";
pub(super) const PRIORITIES: &str = "replicationSpecs.regionConfigs.priority";
pub(super) const REGION_FIELDS: &str = "replicationSpecs.regionConfigs";
pub(super) const SPECS: &str = "replicationSpecs.regionConfigs.electableSpecs";

/// What a cluster's field may hold, of those that are kept and shown and have no other effect here.
#[derive(Clone, Copy)]
enum Shape {
    Bool,
    Number,
    Text,
    Object,
    /// Objects of `key` and `value`, both texts.
    Pairs,
}

const KEPT: [(&str, Shape); 9] = [
    ("autoScaling", Shape::Object),
    ("diskSizeGB", Shape::Number),
    ("labels", Shape::Pairs),
    ("mongoDBMajorVersion", Shape::Text),
    ("redactClientLogData", Shape::Bool),
    ("tags", Shape::Pairs),
    ("terminationProtectionEnabled", Shape::Bool),
    ("versionReleaseSystem", Shape::Text),
    ("rootCertType", Shape::Text),
];

impl Shape {
    fn fits(self, value: &Value) -> bool {
        let is_pair = |item: &Value| item["key"].is_string() && item["value"].is_string();
        match self {
            Self::Bool => value.is_boolean(),
            Self::Number => value.is_number(),
            Self::Text => value.is_string(),
            Self::Object => value.is_object(),
            Self::Pairs => value.as_array().is_some_and(|items| items.iter().all(is_pair)),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterBody {
    pub(super) name: Option<String>,
    cluster_type: Option<String>,
    #[serde(default)]
    replication_specs: Vec<ReplicationSpec>,
    /// The gateway's own: where the nodes really listen.
    lab_backends: Option<Vec<SocketAddr>>,
    pub(super) paused: Option<bool>,
    /// The first version's.
    provider_settings: Option<ProviderSettings>,
    /// The first version's.
    replication_factor: Option<usize>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The first version's: one size for all nodes, and a region where no others are named.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProviderSettings {
    provider_name: Option<String>,
    instance_size_name: Option<String>,
    region_name: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The first version's nodes of a region.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldRegion {
    electable_nodes: Option<usize>,
    priority: Option<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReplicationSpec {
    #[serde(default)]
    region_configs: Vec<RegionConfig>,
    /// The first version's.
    #[serde(default)]
    regions_config: BTreeMap<String, OldRegion>,
    zone_name: Option<String>,
    num_shards: Option<usize>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RegionConfig {
    region_name: Option<String>,
    provider_name: Option<String>,
    electable_specs: Option<Specs>,
    priority: Option<u8>,
    auto_scaling: Option<Value>,
    read_only_specs: Option<Specs>,
    analytics_specs: Option<Specs>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Specs {
    instance_size: Option<String>,
    node_count: Option<usize>,
    #[serde(rename = "diskSizeGB")]
    disk_size_gb: Option<f64>,
    #[serde(rename = "diskIOPS")]
    disk_iops: Option<u32>,
    ebs_volume_type: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The nodes that are asked for.
pub(super) struct Nodes {
    /// `None`: the body names no size.
    pub(super) tier: Option<Tier>,
    /// With how many nodes each, where the body says so.
    pub(super) regions: Vec<(Region, Option<usize>)>,
}

/// The cloud of a `providerName`; `None`: AWS, whose the lab's shared clusters (`TENANT`) are too.
fn cloud_of(provider: Option<&str>) -> Result<Option<Cloud>, Refusal> {
    match provider {
        None | Some("AWS" | "TENANT") => Ok(None),
        Some(other) => Cloud::of_label(other).map(Some).ok_or_else(|| invalid("providerName", other)),
    }
}

/// A field that can't be changed here.
pub(super) fn unsupported(name: &str, instead: &str) -> Refusal {
    Refusal::new(400, "UNSUPPORTED_CHANGE", format!("The attribute {name} cannot be set here: {instead}.")).with([name])
}

fn tier(text: &str) -> Result<Tier, Refusal> {
    if text.starts_with('R') || text.ends_with("_NVME") {
        return Err(unsupported("instanceSize", "the lab has the sizes M10, M20 and so on, of no other class"));
    }
    match text.strip_prefix('M').and_then(|size| size.parse().ok()) {
        Some(size @ (0 | 2 | 5)) => Ok(Tier::Shared(size)),
        Some(size @ 10..=1000) => Ok(Tier::Dedicated(size)),
        _ => Err(invalid("instanceSize", text)),
    }
}

impl ClusterBody {
    /// Sharded or not, where the body says so.
    pub(super) fn is_sharded(&self) -> Result<Option<bool>, Refusal> {
        match self.cluster_type.as_deref() {
            None => Ok(None),
            Some("REPLICASET") => Ok(Some(false)),
            Some("SHARDED") => Ok(Some(true)),
            Some("GEOSHARDED") => Err(unsupported("clusterType", "the lab has no zones of shards; write SHARDED")),
            Some(other) => Err(invalid("clusterType", other)),
        }
    }

    /// The regions, in the words of either version; `None`: the body names none.
    fn configs(&self) -> Option<Vec<RegionConfig>> {
        let spec = self.replication_specs.first();
        if let Some(spec) = spec.filter(|spec| !spec.region_configs.is_empty()) {
            return Some(spec.region_configs.clone());
        }
        let settings = self.provider_settings.as_ref()?;
        let config = |region: Option<String>, count: Option<usize>, priority: Option<u8>| RegionConfig {
            region_name: region,
            provider_name: settings.provider_name.clone(),
            electable_specs: Some(Specs {
                instance_size: settings.instance_size_name.clone(),
                node_count: count,
                ..Specs::default()
            }),
            priority,
            ..RegionConfig::default()
        };
        let named: Vec<RegionConfig> = spec
            .into_iter()
            .flat_map(|spec| &spec.regions_config)
            .map(|(region, nodes)| config(Some(region.clone()), nodes.electable_nodes, nodes.priority))
            .collect();
        let only = || vec![config(settings.region_name.clone(), self.replication_factor, None)];
        Some(if named.is_empty() { only() } else { named })
    }

    /// The nodes; `None`: the body names none.
    pub(super) fn nodes(&self) -> Result<Option<Nodes>, Refusal> {
        let Some(configs) = self.configs() else { return Ok(None) };
        if self.replication_specs.len() > 1 {
            return Err(unsupported(
                "replicationSpecs",
                "the lab's shards are alike; write one element for all of them",
            ));
        }
        for spec in &self.replication_specs {
            check_others(&spec.others)?;
        }
        check_others(self.provider_settings.as_ref().map_or(&Map::new(), |settings| &settings.others))?;
        let mut size = None;
        let mut regions = Vec::new();
        for config in &configs {
            for (name, specs) in
                [("readOnlySpecs", &config.read_only_specs), ("analyticsSpecs", &config.analytics_specs)]
            {
                if specs.as_ref().and_then(|specs| specs.node_count).is_some_and(|count| count > 0) {
                    return Err(unsupported(name, "a cluster has electable nodes alone"));
                }
            }
            check_others(&config.others)?;
            check_others(config.electable_specs.as_ref().map_or(&Map::new(), |specs| &specs.others))?;
            let cloud = cloud_of(config.provider_name.as_deref())?;
            let own = region_of(cloud, config.region_name.as_deref().ok_or_else(|| missing("regionName"))?)?;
            let specs = config.electable_specs.as_ref();
            let wanted = specs.and_then(|specs| specs.instance_size.as_deref()).map(tier).transpose()?;
            if size.is_some() && wanted.is_some() && size != wanted {
                return Err(unsupported("instanceSize", "all nodes of a cluster have one size"));
            }
            size = size.or(wanted);
            regions.push((own, specs.and_then(|specs| specs.node_count)));
        }
        if regions.is_empty() {
            return Err(missing("regionConfigs"));
        }
        Ok(Some(Nodes { tier: size, regions }))
    }

    /// Where the nodes really listen.
    pub(super) fn backends(&self) -> Result<Vec<SocketAddr>, Refusal> {
        if let Some(backends) = &self.lab_backends {
            return Ok(backends.clone());
        }
        let tags = self.others.get("tags").and_then(Value::as_array);
        let tagged = tags.into_iter().flatten().find(|tag| tag["key"] == BACKENDS_TAG);
        let text = tagged.and_then(|tag| tag["value"].as_str()).unwrap_or_default();
        let texts = text.split([' ', ',']).filter(|text| !text.is_empty());
        texts.map(|text| text.parse().map_err(|_| invalid(BACKENDS_TAG, text))).collect()
    }

    /// What is to be kept, of a body that is for a new cluster or for one that is `shown` so.
    ///
    /// # Errors
    ///
    /// The name of a field that is neither kept nor says what is so already.
    pub(super) fn kept(&self, shown: Option<&Value>) -> Result<Vec<(String, Value)>, Refusal> {
        let mut kept = Vec::new();
        for (name, value) in self.others.iter().filter(|(_, value)| !value.is_null()) {
            let shape = KEPT.iter().find(|(known, _)| known == name).map(|(_, shape)| *shape);
            match shape {
                Some(shape) if shape.fits(value) => kept.push((name.clone(), value.clone())),
                Some(_) => return Err(invalid(name, &value.to_string())),
                None if agrees(shown.map_or(&new_cluster()[name], |shown| &shown[name]), value) => {}
                None => return Err(unsupported(name, "the lab's clusters do not have it; leave it out")),
            }
        }
        let configs = self.configs().unwrap_or_default();
        if let Some(spec) = self.replication_specs.first() {
            kept.extend(spec.zone_name.as_ref().map(|name| (ZONE_NAME.to_owned(), json!(name))));
            kept.extend(spec.num_shards.map(|count| (NUM_SHARDS.to_owned(), json!(count))));
        }
        let priorities: Map<String, Value> = configs
            .iter()
            .filter_map(|config| {
                let cloud = config.provider_name.as_deref().and_then(Cloud::of_label);
                let region = Region::of(cloud, config.region_name.as_deref()?).ok()?;
                Some((region.atlas(), json!(config.priority?)))
            })
            .collect();
        if !priorities.is_empty() {
            kept.push((PRIORITIES.to_owned(), priorities.into()));
        }
        let Some(first) = configs.first() else { return Ok(kept) };
        if let Some(scaling) = &first.auto_scaling {
            kept.push((REGION_FIELDS.to_owned(), json!({ "autoScaling": scaling })));
        }
        let specs = first.electable_specs.clone().unwrap_or_default();
        if let Some(size) = specs.disk_size_gb {
            kept.push(("diskSizeGB".to_owned(), json!(size)));
        }
        let mut of_disk = Map::new();
        of_disk.extend(specs.disk_iops.map(|iops| ("diskIOPS".to_owned(), json!(iops))));
        of_disk.extend(specs.ebs_volume_type.map(|kind| ("ebsVolumeType".to_owned(), json!(kind))));
        if !of_disk.is_empty() {
            kept.push((SPECS.to_owned(), of_disk.into()));
        }
        Ok(kept)
    }
}

/// Fields inside `replicationSpecs` and `providerSettings` that say nothing new: what Atlas gives out itself, and what can have
/// one value alone.
fn check_others(fields: &Map<String, Value>) -> Result<(), Refusal> {
    const GIVEN: [&str; 5] =
        ["id", "zoneId", "effectiveElectableSpecs", "effectiveReadOnlySpecs", "effectiveAnalyticsSpecs"];
    let only = json!({ "backingProviderName": "AWS", "encryptEBSVolume": true, "volumeType": "STANDARD" });
    let is_new = |(name, value): &(&String, &Value)| !GIVEN.contains(&name.as_str()) && !agrees(&only[*name], value);
    match fields.iter().find(is_new) {
        Some((name, _)) => Err(unsupported(name, "the lab's clusters do not have it; leave it out")),
        None => Ok(()),
    }
}

/// What a new cluster has of the fields that can't be chosen.
fn new_cluster() -> Value {
    json!({
        "backupEnabled": false,
        "biConnector": { "enabled": false },
        "encryptionAtRestProvider": "NONE",
        "numShards": 1,
        "pitEnabled": false,
        "providerBackupEnabled": false,
    })
}

/// Whether a value says nothing but what is shown: an object may name fewer fields, and numbers may be written otherwise.
fn agrees(shown: &Value, asked: &Value) -> bool {
    match (shown, asked) {
        (_, Value::Null) => true,
        (Value::Object(shown), Value::Object(asked)) => {
            asked.iter().all(|(name, value)| shown.get(name).is_some_and(|shown| agrees(shown, value)))
        }
        (Value::Number(shown), Value::Number(asked)) => shown.as_f64() == asked.as_f64(),
        _ => shown == asked,
    }
}
