//! What Atlas' API stores of projects and clusters and the plan does not need. It is separate from their records, so that a change
//! of it leaves what the config says of a project or a cluster in force.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::{Tags, Timestamp};
use crate::model::{ClusterName, VpceId};

/// The setting by which a project opts in to connection strings that are made by name; off by default.
pub const NAMED_STRINGS_SETTING: &str = "privateEndpointConnectionStringsEnabled";

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

/// A database user as Atlas' API shows it. Its password is not kept: the databases behind the gateway have their own users.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseUser {
    /// Its fields, by their names in Atlas' API.
    pub fields: BTreeMap<String, Value>,
    /// When it expires.
    pub delete_after: Option<Timestamp>,
}

/// Where connection strings that were made by name are in their life, as Atlas says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StringsStatus {
    /// Being published.
    Pending,
    /// Published.
    Available,
    /// They could not be published.
    Failed,
}

impl StringsStatus {
    /// Atlas' word for it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Available => "AVAILABLE",
            Self::Failed => "FAILED",
        }
    }
}

/// Connection strings that lead through chosen endpoints alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedStringsRecord {
    /// The cluster.
    pub cluster: ClusterName,
    /// Their name, which is in no host name.
    pub name: String,
    /// The part of their host names that is unique in the project.
    pub slug: String,
    /// The endpoints that were chosen last.
    pub endpoints: Vec<VpceId>,
    /// Whether the load balancer spreads the connections.
    pub optimized: bool,
    /// The endpoints that the strings in force lead through: after a change, those from before until it is through.
    pub published: Option<Vec<VpceId>>,
    /// Where they are in their life.
    pub status: StringsStatus,
    /// When they were made.
    pub created: Timestamp,
    /// When they were changed, or their state was entered.
    pub updated: Timestamp,
    /// Why they failed.
    pub error: Option<String>,
}
