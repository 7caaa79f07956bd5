//! Targets: ids and health.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::text_type;
use super::{ClusterName, ConnectError};

text_type!(
    /// An addressable target: a cluster's name, `/`, and the name of the process: `Cluster0/shard-00-00`, or `Sharded0/lb`.
    /// Unique on one load balancer; the key of the port ledger.
    TargetId, "a target id (CLUSTER/MEMBER, as `Cluster0/shard-00-00`)",
    |text| {
        text.split_once('/').is_some_and(|(cluster, member)| cluster.parse::<ClusterName>().is_ok() && !member.is_empty())
    }
);

impl TargetId {
    /// The target `member` of `cluster`.
    #[must_use]
    pub fn new(cluster: &ClusterName, member: &str) -> Self {
        Self(Arc::from(format!("{cluster}/{member}")))
    }

    /// The target of a sharded cluster with optimized strings: all of its `mongos` behind one port.
    #[must_use]
    pub fn optimized(cluster: &ClusterName) -> Self {
        Self::new(cluster, "lb")
    }
}

/// A target's health state, as on NLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// Registered, first check not complete.
    Initial,
    /// Passing its checks.
    Healthy,
    /// Failing its checks.
    Unhealthy,
    /// Failing its checks for less than the draining interval: keeps its flows, gets no new ones.
    #[serde(rename = "unhealthy.draining")]
    UnhealthyDraining,
    /// Deregistered: keeps its flows, gets no new ones.
    Draining,
    /// No listener forwards to it.
    Unused,
}

impl TargetState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Initial, Self::Healthy, Self::Unhealthy, Self::UnhealthyDraining, Self::Draining, Self::Unused];

    /// The name in logs, metrics and tests.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::UnhealthyDraining => "unhealthy.draining",
            Self::Draining => "draining",
            Self::Unused => "unused",
        }
    }
}

/// The health of a member: its state by the checks, and the result of connections to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Its state.
    pub state: TargetState,
    /// Why the latest connection to its traffic port failed; `None` when it succeeded.
    pub reach: Option<ConnectError>,
}

impl From<TargetState> for Health {
    fn from(state: TargetState) -> Self {
        Self { state, reach: None }
    }
}
