//! The requested properties of a cluster, in the fields of each version of the API. Every field is applied, stored and
//! shown, or refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, json};

use super::services::{self, invalid, missing, region_of};
use super::{AtlasError, AtlasRequest};
use crate::model::{Cloud, Region, Tier};

/// The tag with the addresses of a cluster's nodes.
const BACKENDS_TAG: &str = "plgw-backends";

/// The names under which fields inside `replicationSpecs` are stored.
pub(super) const ZONE_NAME: &str = "replicationSpecs.zoneName";
pub(super) const NUM_SHARDS: &str = "replicationSpecs.numShards";
pub(super) const PRIORITIES: &str = "replicationSpecs.regionConfigs.priority";
pub(super) const REGION_FIELDS: &str = "replicationSpecs.regionConfigs";
pub(super) const SPECS: &str = "replicationSpecs.regionConfigs.electableSpecs";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterBody {
    pub(super) name: Option<String>,
    cluster_type: Option<String>,
    #[serde(default)]
    replication_specs: Vec<ReplicationSpec>,
    /// An extension: the addresses of the nodes.
    pub(super) lab_backends: Option<Vec<SocketAddr>>,
    pub(super) paused: Option<bool>,
    /// First version only.
    provider_settings: Option<ProviderSettings>,
    /// First version only.
    replication_factor: Option<usize>,
    /// First version only.
    auto_scaling: Option<OldAutoScaling>,
    #[serde(rename = "diskSizeGB")]
    disk_size_gb: Option<Number>,
    labels: Option<Vec<KeyValue>>,
    #[serde(rename = "mongoDBMajorVersion")]
    mongo_db_major_version: Option<String>,
    redact_client_log_data: Option<bool>,
    tags: Option<Vec<KeyValue>>,
    termination_protection_enabled: Option<bool>,
    version_release_system: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct KeyValue {
    key: String,
    value: String,
}

/// First version only: one size for all nodes, and the default region.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProviderSettings {
    provider_name: Option<String>,
    instance_size_name: Option<String>,
    region_name: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// First version only: the nodes of a region.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldRegion {
    electable_nodes: Option<usize>,
    priority: Option<u8>,
    read_only_nodes: Option<usize>,
    analytics_nodes: Option<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldAutoScaling {
    #[serde(rename = "diskGBEnabled", skip_serializing_if = "Option::is_none")]
    disk_gb_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_indexing_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compute: Option<ComputeScaling>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AutoScaling {
    #[serde(skip_serializing_if = "Option::is_none")]
    compute: Option<ComputeScaling>,
    #[serde(rename = "diskGB", skip_serializing_if = "Option::is_none")]
    disk_gb: Option<Switch>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ComputeScaling {
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale_down_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictive_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_instance_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_instance_size: Option<String>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Switch {
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReplicationSpec {
    #[serde(default)]
    region_configs: Vec<RegionConfig>,
    /// First version only.
    #[serde(default)]
    regions_config: BTreeMap<String, OldRegion>,
    zone_name: Option<String>,
    num_shards: Option<NonZeroUsize>,
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
    auto_scaling: Option<AutoScaling>,
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
    disk_size_gb: Option<Number>,
    #[serde(rename = "diskIOPS")]
    disk_iops: Option<u32>,
    ebs_volume_type: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Specs {
    fn check(&self) -> Result<(), AtlasError> {
        check_fixed_fields(&self.others)?;
        check_choice("ebsVolumeType", self.ebs_volume_type.as_deref(), &["STANDARD", "PROVISIONED"])
    }

    /// Whether its size and disk equal those of `own`.
    fn equals(&self, own: &Self) -> bool {
        fn same<T: PartialEq>(said: &Option<T>, own: &Option<T>) -> bool {
            said.is_none() || said == own
        }
        same(&self.instance_size, &own.instance_size)
            && same(&self.disk_size_gb, &own.disk_size_gb)
            && same(&self.disk_iops, &own.disk_iops)
            && same(&self.ebs_volume_type, &own.ebs_volume_type)
    }
}

impl ReplicationSpec {
    fn check(&self) -> Result<(), AtlasError> {
        let none = |name: &str, count: Option<usize>| match count {
            Some(count) if count > 0 => Err(unsupported(name, "a cluster has electable nodes alone")),
            _ => Ok(()),
        };
        check_fixed_fields(&self.others)?;
        if !self.region_configs.is_empty() && !self.regions_config.is_empty() {
            return Err(unsupported("regionsConfig", "regionConfigs names the regions; leave it out"));
        }
        for nodes in self.regions_config.values() {
            none("readOnlyNodes", nodes.read_only_nodes)?;
            none("analyticsNodes", nodes.analytics_nodes)?;
        }
        for config in &self.region_configs {
            check_fixed_fields(&config.others)?;
            let own = config.electable_specs.clone().unwrap_or_default();
            own.check()?;
            let others = [("readOnlySpecs", &config.read_only_specs), ("analyticsSpecs", &config.analytics_specs)];
            for (name, specs) in others.into_iter().filter_map(|(name, specs)| Some((name, specs.as_ref()?))) {
                specs.check()?;
                none(name, specs.node_count)?;
                if !specs.equals(&own) {
                    return Err(unsupported(
                        name,
                        "a cluster has electable nodes alone, whose size and disk it may repeat",
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The value of a field that must be equal in all regions that have it.
fn common<T: PartialEq>(
    configs: &[RegionConfig],
    name: &str,
    said: impl Fn(&RegionConfig) -> Option<T>,
) -> Result<Option<T>, AtlasError> {
    let mut all = configs.iter().filter_map(said);
    let first = all.next();
    if all.any(|other| Some(&other) != first.as_ref()) {
        return Err(unsupported(name, "all regions of a cluster have the same"));
    }
    Ok(first)
}

fn check_choice(name: &str, value: Option<&str>, choices: &[&str]) -> Result<(), AtlasError> {
    match value {
        Some(other) if !choices.contains(&other) => Err(invalid(name, other)),
        _ => Ok(()),
    }
}

/// A JSON value to store as it was sent.
fn as_sent(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("texts, numbers and flags under text keys")
}

/// The requested nodes.
pub(super) struct Nodes {
    /// `None`: the body has no size.
    pub(super) tier: Option<Tier>,
    /// The regions, with the number of nodes if the body has it.
    pub(super) regions: Vec<(Region, Option<usize>)>,
}

/// The cloud of a `providerName`; `None`: AWS, which the lab's shared clusters (`TENANT`) use too.
fn cloud_of(provider: Option<&str>) -> Result<Option<Cloud>, AtlasError> {
    match provider {
        None | Some("TENANT") => Ok(None),
        Some(other) => services::provider("providerName", other),
    }
}

/// The error for a field that can't be changed here.
pub(super) fn unsupported(name: &str, instead: &str) -> AtlasError {
    AtlasError::new(400, "UNSUPPORTED_CHANGE", format!("The attribute {name} cannot be set here: {instead}."))
        .with([name])
}

fn tier(text: &str) -> Result<Tier, AtlasError> {
    if text.starts_with('R') || text.ends_with("_NVME") {
        return Err(unsupported("instanceSize", "the lab has the sizes M10, M20 and so on, of no other class"));
    }
    match text.strip_prefix('M').and_then(|size| size.parse().ok()) {
        Some(size @ (0 | 2 | 5)) => Ok(Tier::Shared(size)),
        Some(size @ 10..=1000) => Ok(Tier::Dedicated(size)),
        _ => Err(invalid("instanceSize", text)),
    }
}

impl ProviderSettings {
    /// If `replicationSpecs` has the regions, these settings may only add the size.
    fn check(&self, nodes: &mut Nodes) -> Result<(), AtlasError> {
        let instead = "replicationSpecs has another value; leave it out";
        let cloud = cloud_of(self.provider_name.as_deref())?;
        if self.provider_name.is_some() && nodes.regions.iter().any(|(region, _)| region.cloud() != cloud) {
            return Err(unsupported("providerSettings.providerName", instead));
        }
        if let Some(name) = &self.region_name {
            let own = region_of(cloud, name)?;
            if !nodes.regions.iter().any(|(region, _)| *region == own) {
                return Err(unsupported("providerSettings.regionName", instead));
            }
        }
        let size = self.instance_size_name.as_deref().map(tier).transpose()?;
        if size.is_some() && nodes.tier.is_some() && size != nodes.tier {
            return Err(unsupported("providerSettings.instanceSizeName", instead));
        }
        nodes.tier = nodes.tier.or(size);
        Ok(())
    }
}

impl ClusterBody {
    /// Whether a sharded cluster is requested, if the body has the type.
    pub(super) fn is_sharded(&self) -> Result<Option<bool>, AtlasError> {
        match self.cluster_type.as_deref() {
            None => Ok(None),
            Some("REPLICASET") => Ok(Some(false)),
            Some("SHARDED") => Ok(Some(true)),
            Some("GEOSHARDED") => Err(unsupported("clusterType", "the lab has no zones of shards; write SHARDED")),
            Some(other) => Err(invalid("clusterType", other)),
        }
    }

    /// Parses a body, and refuses settings below its top level that the lab does not support.
    pub(super) fn of(request: &AtlasRequest<'_>) -> Result<Self, AtlasError> {
        let body: Self = request.body()?;
        if body.replication_specs.len() > 1 {
            return Err(unsupported(
                "replicationSpecs",
                "the lab's shards are alike; write one element for all of them",
            ));
        }
        body.replication_specs.iter().try_for_each(ReplicationSpec::check)?;
        check_fixed_fields(body.provider_settings.as_ref().map_or(&Map::new(), |settings| &settings.others))?;
        Ok(body)
    }

    /// The regions, from the fields of either version; `None`: the body has none.
    fn configs(&self) -> Option<Vec<RegionConfig>> {
        let spec = self.replication_specs.first();
        if let Some(spec) = spec.filter(|spec| !spec.region_configs.is_empty()) {
            return Some(spec.region_configs.clone());
        }
        let settings = self.provider_settings.as_ref();
        let config = |region: Option<String>, count: Option<usize>, priority: Option<u8>| RegionConfig {
            region_name: region,
            provider_name: settings.and_then(|settings| settings.provider_name.clone()),
            electable_specs: Some(Specs {
                instance_size: settings.and_then(|settings| settings.instance_size_name.clone()),
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
        if named.is_empty() {
            return settings.map(|settings| vec![config(settings.region_name.clone(), self.replication_factor, None)]);
        }
        Some(named)
    }

    /// The nodes; `None`: the body has none.
    pub(super) fn nodes(&self) -> Result<Option<Nodes>, AtlasError> {
        let Some(configs) = self.configs() else { return Ok(None) };
        let mut regions: Vec<(Region, Option<usize>)> = Vec::new();
        for config in &configs {
            let cloud = cloud_of(config.provider_name.as_deref())?;
            let own = region_of(cloud, config.region_name.as_deref().ok_or_else(|| missing("regionName"))?)?;
            if regions.iter().any(|(known, _)| *known == own) {
                return Err(invalid("regionName", &format!("{} twice", own.atlas())));
            }
            regions.push((own, config.electable_specs.as_ref().and_then(|specs| specs.node_count)));
        }
        let size = common(&configs, "instanceSize", |config| config.electable_specs.as_ref()?.instance_size.clone())?;
        let mut nodes = Nodes { tier: size.as_deref().map(tier).transpose()?, regions };
        if let Some(settings) = &self.provider_settings {
            settings.check(&mut nodes)?;
        }
        Ok(Some(nodes))
    }

    /// Checks that the first version's number of nodes equals `nodes`.
    pub(super) fn check_factor(&self, nodes: usize) -> Result<(), AtlasError> {
        match self.replication_factor {
            Some(other) if other != nodes => Err(unsupported(
                "replicationFactor",
                &format!("the cluster's regions have {nodes} nodes; leave it out"),
            )),
            _ => Ok(()),
        }
    }

    /// The addresses of the nodes.
    pub(super) fn backends(&self) -> Result<Vec<SocketAddr>, AtlasError> {
        if let Some(backends) = &self.lab_backends {
            return Ok(backends.clone());
        }
        let tagged = self.tags.iter().flatten().find(|tag| tag.key == BACKENDS_TAG);
        let text = tagged.map_or("", |tag| &tag.value);
        let texts = text.split([' ', ',']).filter(|text| !text.is_empty());
        texts.map(|text| text.parse().map_err(|_| invalid(BACKENDS_TAG, text))).collect()
    }

    /// The fields to store, for a new cluster or for an existing one that is `shown` so.
    ///
    /// # Errors
    ///
    /// The name of a field that is neither stored nor equal to the current value.
    pub(super) fn kept(&self, shown: Option<&Value>) -> Result<Vec<(String, Value)>, AtlasError> {
        refuse_new(&self.others, shown.unwrap_or(&new_cluster()))?;
        check_choice("versionReleaseSystem", self.version_release_system.as_deref(), &["LTS", "CONTINUOUS"])?;
        let is_version =
            |text: &&str| text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        if let Some(other) = self.mongo_db_major_version.as_deref().filter(|text| !is_version(text)) {
            return Err(invalid("mongoDBMajorVersion", other));
        }
        let configs = self.configs().unwrap_or_default();
        let specs = |config: &RegionConfig| config.electable_specs.clone();
        let disk = common(&configs, "diskSizeGB", |config| specs(config)?.disk_size_gb)?;
        let disk = match (disk, self.disk_size_gb.clone()) {
            (Some(one), Some(other)) if one.as_f64() != other.as_f64() => {
                return Err(unsupported("diskSizeGB", "electableSpecs has another value; write one of the two"));
            }
            (one, other) => one.or(other),
        };
        if let Some(size) = disk.as_ref().filter(|size| size.as_f64().is_none_or(|size| size <= 0.0)) {
            return Err(invalid("diskSizeGB", &size.to_string()));
        }
        let spec = self.replication_specs.first();
        let scaling = common(&configs, "autoScaling", |config| config.auto_scaling.clone())?;
        let mut of_disk = Map::new();
        let iops = common(&configs, "diskIOPS", |config| specs(config)?.disk_iops)?;
        let kind = common(&configs, "ebsVolumeType", |config| specs(config)?.ebs_volume_type)?;
        of_disk.extend(iops.map(|iops| ("diskIOPS".to_owned(), json!(iops))));
        of_disk.extend(kind.map(|kind| ("ebsVolumeType".to_owned(), json!(kind))));
        let priority = |config: &RegionConfig| {
            let cloud = config.provider_name.as_deref().and_then(Cloud::of_label);
            let region = Region::of(cloud, config.region_name.as_deref()?).ok()?;
            Some((region.atlas(), json!(config.priority?)))
        };
        let priorities: Map<String, Value> = configs.iter().filter_map(priority).collect();
        let asked = [
            ("autoScaling", self.auto_scaling.as_ref().map(as_sent)),
            ("diskSizeGB", disk.map(Value::from)),
            ("labels", self.labels.as_ref().map(as_sent)),
            ("mongoDBMajorVersion", self.mongo_db_major_version.as_ref().map(as_sent)),
            ("redactClientLogData", self.redact_client_log_data.map(Value::from)),
            ("tags", self.tags.as_ref().map(as_sent)),
            ("terminationProtectionEnabled", self.termination_protection_enabled.map(Value::from)),
            ("versionReleaseSystem", self.version_release_system.as_ref().map(as_sent)),
            (ZONE_NAME, spec.and_then(|spec| spec.zone_name.as_ref()).map(as_sent)),
            (NUM_SHARDS, spec.and_then(|spec| spec.num_shards).map(|count| json!(count))),
            (PRIORITIES, (!priorities.is_empty()).then(|| priorities.into())),
            (REGION_FIELDS, scaling.map(|scaling| json!({ "autoScaling": scaling }))),
            (SPECS, (!of_disk.is_empty()).then(|| of_disk.into())),
        ];
        Ok(asked.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

/// Checks fields inside `replicationSpecs` and `providerSettings` that can't be changed: those that Atlas assigns, and
/// those with a single possible value.
fn check_fixed_fields(fields: &Map<String, Value>) -> Result<(), AtlasError> {
    const GIVEN: [&str; 5] =
        ["id", "zoneId", "effectiveElectableSpecs", "effectiveReadOnlySpecs", "effectiveAnalyticsSpecs"];
    let only = json!({ "backingProviderName": "AWS", "encryptEBSVolume": true, "volumeType": "STANDARD" });
    let new = |(name, value): (&String, &Value)| difference(&only[name], value, name);
    match fields.iter().filter(|(name, _)| !GIVEN.contains(&name.as_str())).find_map(new) {
        Some(path) => Err(unsupported(&path, "the lab's clusters do not have it; leave it out")),
        None => Ok(()),
    }
}

/// The fixed fields of a new cluster.
fn new_cluster() -> Value {
    json!({
        "backupEnabled": false,
        "biConnector": { "enabled": false },
        "encryptionAtRestProvider": "NONE",
        "numShards": 1,
        "pitEnabled": false,
        "providerBackupEnabled": false,
        "rootCertType": "ISRGROOTX1",
    })
}

/// Fields that can't be set may be sent with their current values.
pub(super) fn refuse_new(fields: &Map<String, Value>, shown: &Value) -> Result<(), AtlasError> {
    match fields.iter().find_map(|(name, value)| difference(&shown[name], value, name)) {
        Some(path) => Err(unsupported(&path, "leave it out, or send the current value")),
        None => Ok(()),
    }
}

/// The path of the first field of `asked` that differs from `shown`: an object may have fewer fields, and numbers may
/// have another notation.
fn difference(shown: &Value, asked: &Value, at: &str) -> Option<String> {
    let is_same = match (shown, asked) {
        (Value::Object(shown), Value::Object(asked)) => {
            let of = |name| shown.get(name).unwrap_or(&Value::Null);
            return asked.iter().find_map(|(name, value)| difference(of(name), value, &format!("{at}.{name}")));
        }
        (Value::Number(shown), Value::Number(asked)) => shown.as_f64() == asked.as_f64(),
        _ => asked.is_null() || shown == asked,
    };
    (!is_same).then(|| at.to_owned())
}
