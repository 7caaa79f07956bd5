//! Attributes of projects and clusters that Atlas' API stores and the plan does not need. They are separate from the
//! records of projects and clusters, so that changing them does not replace the config's record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::{Tags, Timestamp};
use crate::model::{ClusterName, VpceId};

/// The setting by which a project opts in to connection strings that are created by name; off by default.
pub const NAMED_STRINGS_SETTING: &str = "privateEndpointConnectionStringsEnabled";

/// The written attributes of a project, named as in Atlas' API. Missing: the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProjectProfile {
    /// The organization that it was created in.
    pub org: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Whether it was created with the default alert settings.
    pub default_alerts: Option<bool>,
    /// Changed settings.
    pub settings: BTreeMap<String, bool>,
    /// Whether Atlas sets the threshold of slow operations.
    pub managed_slow_ms: Option<bool>,
}

/// The written attributes of a cluster, named as in Atlas' API. Missing: the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterProfile {
    /// Fields of the cluster.
    pub fields: BTreeMap<String, Value>,
    /// Its advanced configuration, `processArgs`.
    pub process_args: BTreeMap<String, Value>,
}

/// A database user of Atlas' API. Its password is not stored: the databases behind the gateway have their own users.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseUser {
    /// Its fields, by their names in Atlas' API.
    pub fields: BTreeMap<String, Value>,
    /// When it expires.
    pub delete_after: Option<Timestamp>,
}

/// The state of connection strings that were created by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StringsStatus {
    /// Being published.
    Pending,
    /// Published.
    Available,
    /// Publishing failed.
    Failed,
}

impl StringsStatus {
    /// Atlas' name of the state.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Available => "AVAILABLE",
            Self::Failed => "FAILED",
        }
    }
}

/// Connection strings that use chosen endpoints only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedStringsRecord {
    /// The cluster.
    pub cluster: ClusterName,
    /// Their name; it is not part of host names.
    pub name: String,
    /// The part of their host names that is unique in the project.
    pub slug: String,
    /// The endpoints that were chosen last.
    pub endpoints: Vec<VpceId>,
    /// Whether they are load-balanced.
    pub optimized: bool,
    /// The endpoints of the published strings: during a change, those from before it.
    pub published: Option<Vec<VpceId>>,
    /// Their state.
    pub status: StringsStatus,
    /// When they were created.
    pub created: Timestamp,
    /// When they were changed, or entered their state.
    pub updated: Timestamp,
    /// Why they failed.
    pub error: Option<String>,
}
