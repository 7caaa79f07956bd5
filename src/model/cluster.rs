//! Clusters: what the targets behind an endpoint service are made of.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{CidrSet, ClusterName, Label, Region, Zone};

/// A replica set or a sharded cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name in the project.
    pub name: ClusterName,
    /// The label in its host names.
    pub label: Label,
    /// Dash or dot form of its host names.
    pub naming: Naming,
    /// What it is made of.
    pub kind: ClusterKind,
    /// Its size class.
    pub tier: Tier,
    /// A paused cluster keeps its ports; nothing listens on them.
    pub paused: bool,
    /// The `mongod`s of a replica set, or the `mongos` of a sharded cluster.
    pub nodes: Vec<Node>,
    /// BI Connectors; each takes a port of its own.
    pub bi_connectors: Vec<BiConnector>,
}

impl Cluster {
    /// The regions that it has nodes in, each once, in order.
    #[must_use]
    pub fn regions(&self) -> Vec<Region> {
        let mut regions: Vec<Region> = self.nodes.iter().map(|node| node.zone.region()).collect();
        regions.sort();
        regions.dedup();
        regions
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
        /// Optimized connection strings: one target in all, spread over the `mongos`; else each `mongos` is a target.
        optimized: bool,
    },
}

/// How a cluster's host names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// The older form: `cluster0-pl-0-k45tj.mongodb.net`.
    Dash,
    /// The newer form: `cluster0-pl-0.k45tj.mongodb.net`.
    Dot,
}

/// A cluster's size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// `M0`, `M2` and `M5`: no private endpoints.
    Shared(u16),
    /// `M10` and up.
    Dedicated(u16),
}

impl Tier {
    /// Atlas' name for it: `M10`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Shared(size) | Self::Dedicated(size) => format!("M{size}"),
        }
    }
}

/// One `mongod` or `mongos`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name in the cluster, part of its target id: stays when its address changes.
    pub name: String,
    /// The zone it lies in.
    pub zone: Zone,
    /// Where it really listens.
    pub address: SocketAddr,
    /// A public address of its own, where clients on the IP access list reach it by the standard string.
    pub public_address: Option<SocketAddr>,
}

/// A BI Connector of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BiConnector {
    /// Its name in the cluster.
    pub name: String,
    /// The zone it lies in.
    pub zone: Zone,
    /// Where it really listens.
    pub address: SocketAddr,
}

/// The IP access list of a project: who may use the public path. Empty: nobody.
pub type AccessList = CidrSet;
