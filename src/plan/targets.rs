//! Addressable targets: the processes that take a port.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::TargetKind;
use crate::model::{Cluster, ClusterKind, DnsName, NodeAddress, Project, Region, TargetId, Tier, Zone};

/// An addressable target of a project in a region.
pub(super) struct Addressable<'a> {
    /// Its id.
    pub(super) id: TargetId,
    /// Its cluster.
    pub(super) cluster: &'a Cluster,
    /// Its kind.
    pub(super) kind: TargetKind,
    /// The processes behind it, in order of name.
    pub(super) processes: Vec<TargetProcess<'a>>,
}

/// A `mongod`, a `mongos` or a BI Connector.
pub(super) struct TargetProcess<'a> {
    /// Its name in the cluster.
    pub(super) name: &'a str,
    /// Its zone.
    pub(super) zone: &'a Zone,
    /// Its configured address.
    pub(super) given: &'a NodeAddress,
    /// Its resolved address; `None`: its host name is not resolved.
    pub(super) address: Option<SocketAddr>,
}

impl<'a> TargetProcess<'a> {
    pub(super) fn new(
        name: &'a str,
        zone: &'a Zone,
        given: &'a NodeAddress,
        resolved: &BTreeMap<DnsName, IpAddr>,
    ) -> Self {
        Self { name, zone, given, address: given.at(resolved) }
    }
}

/// The addressable targets of a project by region, in target order.
///
/// Each `mongod` of a replica set, each `mongos` of a sharded cluster without optimized strings, a single one for a
/// sharded cluster with them, and each BI Connector. Shard members don't count, and shared tiers have no private
/// endpoints (Atlas, "Set Up a Private Endpoint", limitations). A paused cluster keeps its targets.
pub(super) fn addressable<'a>(
    project: &'a Project,
    resolved: &BTreeMap<DnsName, IpAddr>,
) -> BTreeMap<Region, Vec<Addressable<'a>>> {
    let mut targets: BTreeMap<Region, Vec<Addressable<'_>>> = BTreeMap::new();
    for cluster in project.clusters.iter().filter(|cluster| matches!(cluster.tier, Tier::Dedicated(_))) {
        let optimized = is_optimized(project, cluster);
        let single = if cluster.is_sharded() { TargetKind::Mongos } else { TargetKind::Mongod };
        let mut balanced: BTreeMap<Region, Vec<TargetProcess<'_>>> = BTreeMap::new();
        for node in &cluster.nodes {
            let process = TargetProcess::new(&node.name, &node.zone, &node.address, resolved);
            if optimized {
                balanced.entry(node.zone.region()).or_default().push(process);
            } else {
                let id = TargetId::new(&cluster.name, &node.name);
                let target = Addressable { id, cluster, kind: single, processes: vec![process] };
                targets.entry(node.zone.region()).or_default().push(target);
            }
        }
        for (region, mut processes) in balanced {
            processes.sort_by_key(|process| process.name);
            let id = TargetId::optimized(&cluster.name);
            let target = Addressable { id, cluster, kind: TargetKind::Optimized, processes };
            targets.entry(region).or_default().push(target);
        }
        for connector in &cluster.bi_connectors {
            let process = TargetProcess::new(&connector.name, &connector.zone, &connector.address, resolved);
            let id = TargetId::new(&cluster.name, &connector.name);
            let target = Addressable { id, cluster, kind: TargetKind::BiConnector, processes: vec![process] };
            targets.entry(connector.zone.region()).or_default().push(target);
        }
    }
    for targets in targets.values_mut() {
        targets.sort_by(|a, b| a.id.cmp(&b.id));
    }
    targets
}

/// Whether the cluster has optimized strings: they require a single region, or regionalized private endpoints. A
/// sharded cluster that grows into a second region without these loses them (Atlas, "Improve Connection Performance for
/// Sharded Clusters Behind a Private Endpoint"). According to that page they are available for AWS PrivateLink only.
pub(super) fn is_optimized(project: &Project, cluster: &Cluster) -> bool {
    let ClusterKind::Sharded { optimized: true } = cluster.kind else { return false };
    let regions = cluster.regions();
    regions.iter().all(|region| region.cloud().is_none()) && (project.regionalized || regions.len() <= 1)
}
