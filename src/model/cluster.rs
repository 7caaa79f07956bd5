//! Clusters: the processes behind an endpoint service.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{CidrSet, ClusterName, DnsName, Label, NodeAddress, ProjectId, Region, VpceId, Zone};

/// A replica set or a sharded cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name in the project.
    pub name: ClusterName,
    /// The label in its host names.
    pub label: Label,
    /// Dash or dot form of its host names.
    pub naming: Naming,
    /// Its type.
    pub kind: ClusterKind,
    /// Its tier.
    pub tier: Tier,
    /// Maximum number of connections of each node.
    #[serde(default)]
    pub connection_limit: ConnectionLimit,
    /// A paused cluster keeps its ports; nothing listens on them.
    pub paused: bool,
    /// The `mongod`s of a replica set, or the `mongos` of a sharded cluster.
    pub nodes: Vec<Node>,
    /// BI Connectors; each takes a port.
    pub bi_connectors: Vec<BiConnector>,
}

impl Cluster {
    /// The regions of its nodes, each once, in order.
    #[must_use]
    pub fn regions(&self) -> Vec<Region> {
        let mut regions: Vec<Region> = self.nodes.iter().map(|node| node.zone.region()).collect();
        regions.sort();
        regions.dedup();
        regions
    }

    /// Maximum number of connections of each node; `None`: no limit.
    #[must_use]
    pub fn connections_per_node(&self) -> Option<usize> {
        match self.connection_limit {
            ConnectionLimit::None => None,
            ConnectionLimit::Tier => Some(self.tier.connections()),
            ConnectionLimit::Most(most) => Some(most),
        }
    }

    /// The addresses of its processes: nodes, then BI Connectors.
    pub fn addresses(&self) -> impl Iterator<Item = &NodeAddress> {
        let connectors = self.bi_connectors.iter().map(|connector| &connector.address);
        self.nodes.iter().map(|node| &node.address).chain(connectors)
    }

    /// The host names of its processes.
    pub fn host_names(&self) -> impl Iterator<Item = &DnsName> {
        self.addresses().filter_map(NodeAddress::host)
    }

    /// Whether it is sharded.
    #[must_use]
    pub fn is_sharded(&self) -> bool {
        matches!(self.kind, ClusterKind::Sharded { .. })
    }
}

/// Replica set or sharded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ClusterKind {
    /// A replica set: each `mongod` is a target.
    ReplicaSet {
        /// The set's name, `Cluster0-shard-0-shard-0`.
        set_name: String,
    },
    /// A sharded cluster.
    Sharded {
        /// Optimized connection strings: a single target, balanced over the `mongos`; otherwise each `mongos` is a
        /// target.
        optimized: bool,
    },
}

/// The format of a cluster's host names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// The older form: `cluster0-pl-0-k45tj.mongodb.net`.
    Dash,
    /// The newer form: `cluster0-pl-0.k45tj.mongodb.net`.
    Dot,
}

/// A cluster's tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// `M0`, `M2` and `M5`: no private endpoints.
    Shared(u16),
    /// `M10` and up.
    Dedicated(u16),
}

/// Maximum number of connections of a cluster's nodes. In Atlas each `mongod` and `mongos` has its tier's limit as
/// `net.maxIncomingConnections`, and closes further connections after accepting them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionLimit {
    /// No limit besides that of the process itself.
    #[default]
    None,
    /// The tier's.
    Tier,
    /// This number.
    Most(usize),
}

impl Tier {
    /// Atlas' name: `M10`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Shared(size) | Self::Dedicated(size) => format!("M{size}"),
        }
    }

    /// Connections for each node. Source: MongoDB's page *Atlas Service Limits*, connection limits and cluster tier, AWS.
    #[must_use]
    pub fn connections(self) -> usize {
        match self {
            Self::Shared(_) => 500,
            Self::Dedicated(..20) => 1_500,
            Self::Dedicated(20..40) => 3_000,
            Self::Dedicated(40..50) => 6_000,
            Self::Dedicated(50..60) => 16_000,
            Self::Dedicated(60..80) => 32_000,
            Self::Dedicated(80..200) => 96_000,
            Self::Dedicated(200..) => 128_000,
        }
    }
}

/// One `mongod` or `mongos`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name in the cluster, part of its target id; independent of its address.
    pub name: String,
    /// Its zone.
    pub zone: Zone,
    /// Its address.
    pub address: NodeAddress,
    /// Its public address, in the standard string for clients on the IP access list.
    pub public_address: Option<SocketAddr>,
}

/// A BI Connector of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BiConnector {
    /// Its name in the cluster.
    pub name: String,
    /// Its zone.
    pub zone: Zone,
    /// Its address.
    pub address: NodeAddress,
}

/// Private endpoint connection strings of a cluster that were created by name and use only chosen endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedStrings {
    /// The cluster's project.
    pub project: ProjectId,
    /// The cluster.
    pub cluster: ClusterName,
    /// The part of their host names that is unique in the project.
    pub slug: String,
    /// The endpoints, at most one per region.
    pub endpoints: Vec<VpceId>,
}

/// The IP access list of a project, for the public path. An empty list admits no client.
pub type AccessList = CidrSet;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiers_connections_are_those_of_the_limits_page() {
        let of = |size| Tier::Dedicated(size).connections();
        let sizes = [10, 20, 30, 40, 50, 60, 80, 140, 200, 300];
        let limits = [1_500, 3_000, 3_000, 6_000, 16_000, 32_000, 96_000, 96_000, 128_000, 128_000];
        assert_eq!(sizes.map(of), limits);
    }
}
