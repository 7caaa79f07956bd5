//! Clusters, their nodes and BI Connectors.

use std::collections::{BTreeMap, HashSet};
use toml::de::DeValue;

use super::declared::Declared;
use crate::config::raw::{Located, Section};
use crate::config::value::{
    boolean, node_address, node_host, non_empty_text, one_of, parsed, socket, text, whole, zone,
};
use crate::model::{
    BiConnector, Cluster, ClusterKind, ClusterName, ConnectionLimit, Label, Naming, Node, NodeAddress, Region, Tier,
};

/// Tiers that Atlas offers on AWS.
const TIERS: [(&str, Tier); 15] = [
    ("M0", Tier::Shared(0)),
    ("M2", Tier::Shared(2)),
    ("M5", Tier::Shared(5)),
    ("M10", Tier::Dedicated(10)),
    ("M20", Tier::Dedicated(20)),
    ("M30", Tier::Dedicated(30)),
    ("M40", Tier::Dedicated(40)),
    ("M50", Tier::Dedicated(50)),
    ("M60", Tier::Dedicated(60)),
    ("M80", Tier::Dedicated(80)),
    ("M100", Tier::Dedicated(100)),
    ("M140", Tier::Dedicated(140)),
    ("M200", Tier::Dedicated(200)),
    ("M300", Tier::Dedicated(300)),
    ("M700", Tier::Dedicated(700)),
];

/// The name in the target id of an optimized cluster, for all its `mongos` ([`TargetId::optimized`]).
///
/// [`TargetId::optimized`]: crate::model::TargetId::optimized
const OPTIMIZED_MEMBER: &str = "lb";

/// The number of addressable targets of a project by region: the total, and each cluster's.
#[derive(Debug, Default)]
pub(super) struct TargetCounts(BTreeMap<Region, (usize, BTreeMap<ClusterName, usize>)>);

/// Maximum number of clusters in a message.
const MAX_SHOWN: usize = 16;

impl TargetCounts {
    fn add(&mut self, region: Region, cluster: &ClusterName) {
        let (all, shares) = self.0.entry(region).or_default();
        *all += 1;
        *shares.entry(cluster.clone()).or_default() += 1;
    }

    /// The targets in `region`.
    pub(super) fn in_region(&self, region: &Region) -> usize {
        self.0.get(region).map_or(0, |(all, _)| *all)
    }

    /// The number of each cluster's targets in `region`: `Cluster0: 3, Sharded0: 1`.
    pub(super) fn shares(&self, region: &Region) -> String {
        let shares = self.0.get(region).into_iter().flat_map(|(_, shares)| shares).take(MAX_SHOWN);
        shares.map(|(cluster, targets)| format!("{cluster}: {targets}")).collect::<Vec<_>>().join(", ")
    }
}

/// One `[[project.cluster]]`; `owner` is its project's path, `names` are the host names of the earlier clusters.
pub(super) fn cluster(
    section: &Section<'_>,
    owner: &str,
    names: &mut HashSet<String>,
    load: &mut TargetCounts,
    declared: &mut Declared,
) -> Option<Cluster> {
    let name = section.required("name", parsed::<ClusterName>);
    let label = section.required("label", parsed::<Label>);
    let naming = section.or("naming", Naming::Dot, one_of(&[("dot", Naming::Dot), ("dash", Naming::Dash)]));
    let tier = section.or("tier", Tier::Dedicated(10), one_of(&TIERS));
    let connection_limit = section.or("connection_limit", ConnectionLimit::None, connections);
    let paused = section.or("paused", false, boolean);
    let kind = kind(section, label.as_ref());
    if let Some(name) = &name {
        let host = name.value.host_label();
        if !names.insert(host.clone()) {
            let message = format!("`{}` is another cluster's name, as host names go (`{host}`)", name.value);
            section.problems.report(&name.location, message);
        }
    }
    if let Some(label) = &label {
        declared.label(section.problems, label, owner);
    }

    let mut members =
        ClusterProcesses { taken: HashSet::new(), optimized: kind == Some(ClusterKind::Sharded { optimized: true }) };
    let before = section.problems.count();
    let nodes = section.tables("node", |found| node(found, &mut members, declared));
    if nodes.is_empty() && section.problems.count() == before {
        section.report("node", "missing; a cluster has one node at least");
    }
    let in_cloud = nodes.iter().flatten().find_map(|node| node.zone.region().cloud());
    if let (true, Some(cloud)) = (members.optimized, in_cloud) {
        let message = format!(
            "optimized strings are for nodes behind AWS PrivateLink alone, and this cluster has nodes on {}; leave it out",
            cloud.label()
        );
        section.report("optimized", message);
    }
    let bi_connectors = section.tables("bi_connector", |found| bi_connector(found, &mut members, declared));
    let cluster = Cluster {
        name: name?.value,
        label: label?.value,
        naming,
        kind: kind?,
        tier,
        connection_limit,
        paused,
        nodes: nodes.into_iter().flatten().collect(),
        bi_connectors: bi_connectors.into_iter().flatten().collect(),
    };
    count_targets(&cluster, load);
    Some(cluster)
}

/// `"none"`, `"tier"`, or a number.
fn connections(value: &DeValue<'_>) -> Result<ConnectionLimit, String> {
    if value.as_integer().is_some() {
        return whole(1..=1_000_000)(value).map(ConnectionLimit::Most);
    }
    let non_empty_text = one_of(&[("none", ConnectionLimit::None), ("tier", ConnectionLimit::Tier)]);
    non_empty_text(value).map_err(|problem| format!("{problem}, or a number"))
}

fn kind(section: &Section<'_>, label: Option<&Located<Label>>) -> Option<ClusterKind> {
    let sharded = section.required("type", one_of(&[("replica-set", false), ("sharded", true)]));
    let set_name = section.get("set_name", non_empty_text);
    let optimized = section.get("optimized", boolean);
    if sharded?.value {
        if section.is_present("set_name") {
            section.report("set_name", "a sharded cluster has no set name that clients see; leave it out");
        }
        Some(ClusterKind::Sharded { optimized: optimized.is_some_and(|optimized| optimized.value) })
    } else {
        if section.is_present("optimized") {
            section.report("optimized", "only sharded clusters have optimized strings; leave it out");
        }
        // The format of Atlas' names for the sets of newer clusters.
        let set_name = match set_name {
            Some(name) => name.value,
            None => format!("atlas-{}-shard-0", label?.value),
        };
        Some(ClusterKind::ReplicaSet { set_name })
    }
}

/// The addressable targets of one cluster.
struct ClusterProcesses {
    taken: HashSet<String>,
    optimized: bool,
}

impl ClusterProcesses {
    /// The name of the member in `section`: the configured one, or one derived from its address.
    fn name(
        &mut self,
        section: &Section<'_>,
        address: Option<&Located<NodeAddress>>,
        unnamed: fn(&NodeAddress) -> String,
    ) -> Option<String> {
        let given = section.get("name", member_name);
        let name = match given {
            Some(name) => name.value,
            None if section.is_present("name") => return None,
            None => unnamed(&address?.value),
        };
        if !self.taken.insert(name.clone()) {
            section.report("name", format!("`{name}` is the name of another node or BI Connector of the cluster"));
        } else if self.optimized && name == OPTIMIZED_MEMBER {
            section
                .report("name", format!("`{name}` names all `mongos` of an optimized cluster together; take another"));
        }
        Some(name)
    }
}

/// The default name of a node. It becomes part of host names, so `127.0.0.1:27017` is `127-0-0-1-27017`.
fn host_label(address: &NodeAddress) -> String {
    let text = address.to_string();
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

/// A name that is valid after the `/` of a target id.
fn member_name(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    if (1..=128).contains(&name.len()) && name.chars().all(fits) {
        Ok(name)
    } else {
        Err(format!("`{name}` is not a name (1 to 128 letters, digits, `-`, `_`, `.` and `:`)"))
    }
}

/// The address of a process: its `address`, or its `host` name.
fn process_address(section: &Section<'_>, declared: &mut Declared) -> Option<Located<NodeAddress>> {
    let (address, host) = (section.get("address", node_address), section.get("host", node_host));
    match (section.is_present("address"), section.is_present("host")) {
        (true, true) => section.report("host", "written beside `address`; leave one of them out"),
        (false, false) => section.report("address", "missing; write the server's `address`, or its `host` name"),
        _ => {}
    }
    let found = address.or(host)?;
    match found.value.fixed() {
        Some(address) => declared.dial(&Located { value: address, location: found.location.clone() }),
        None => declared.unique(section.problems, "host", &found.value, &found.location),
    }
    Some(found)
}

fn node(section: &Section<'_>, members: &mut ClusterProcesses, declared: &mut Declared) -> Option<Node> {
    let zone = section.required("zone", zone);
    let address = process_address(section, declared);
    let public_address = section.get("public_address", socket);
    let name = members.name(section, address.as_ref(), host_label);
    if let Some(public) = &public_address {
        declared.bind(public);
    }
    Some(Node {
        name: name?,
        zone: zone?.value,
        address: address?.value,
        public_address: public_address.map(|public| public.value),
    })
}

fn bi_connector(section: &Section<'_>, members: &mut ClusterProcesses, declared: &mut Declared) -> Option<BiConnector> {
    let zone = section.required("zone", zone);
    let address = process_address(section, declared);
    let name = members.name(section, address.as_ref(), ToString::to_string);
    Some(BiConnector { name: name?, zone: zone?.value, address: address?.value })
}

/// Counts each `mongod`, each `mongos` without optimized strings, one for all `mongos` with them, and each BI
/// Connector, by region. Source: Atlas, "Set Up a Private Endpoint", limitations.
fn count_targets(cluster: &Cluster, load: &mut TargetCounts) {
    if cluster.kind == (ClusterKind::Sharded { optimized: true }) {
        cluster.regions().into_iter().for_each(|region| load.add(region, &cluster.name));
    } else {
        cluster.nodes.iter().for_each(|node| load.add(node.zone.region(), &cluster.name));
    }
    cluster.bi_connectors.iter().for_each(|connector| load.add(connector.zone.region(), &cluster.name));
}
