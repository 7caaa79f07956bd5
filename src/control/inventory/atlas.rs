//! What Atlas' API keeps of projects and clusters and the plan does not need. It stands beside their records, so that a change
//! of it leaves what the config says of a project or a cluster in force.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::{Tags, Timestamp};

/// What a project was written to be, each as its fields are named in Atlas' API. Absent: the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProjectProfile {
    /// The organization that it was made in.
    pub org: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Whether it was made with the default alert settings.
    pub default_alerts: Option<bool>,
    /// Those of its settings that were changed.
    pub settings: BTreeMap<String, bool>,
    /// Whether Atlas sets the threshold of slow operations.
    pub managed_slow_ms: Option<bool>,
}

/// What a cluster was written to be, by the names of the fields in Atlas' API. Absent: the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterProfile {
    /// Fields of the cluster.
    pub fields: BTreeMap<String, Value>,
    /// Its advanced configuration, `processArgs`.
    pub process_args: BTreeMap<String, Value>,
}

/// A database user as Atlas' API shows it. Its password is not kept: the databases behind the gateway have users of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseUser {
    /// Its fields, by their names in Atlas' API.
    pub fields: BTreeMap<String, Value>,
    /// When it goes by itself.
    pub delete_after: Option<Timestamp>,
}
