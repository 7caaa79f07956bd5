//! Private endpoint services on Azure (Private Link) and Google Cloud (Private Service Connect): Atlas' rows and their
//! lives. No network of those clouds is simulated, so nothing listens for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::state::{ServiceState, Timestamp};
use crate::model::ProjectId;

/// A cloud provider other than AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Cloud {
    /// Azure Private Link.
    Azure,
    /// Google Cloud's Private Service Connect.
    Gcp,
}

impl Cloud {
    /// Atlas' word for it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Azure => "AZURE",
            Self::Gcp => "GCP",
        }
    }
}

/// An endpoint service elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElsewhereService {
    /// Whose it is.
    pub project: ProjectId,
    /// Where.
    pub cloud: Cloud,
    /// The region, in Atlas' spelling.
    pub region: String,
    /// Google: one service attachment for all nodes, told apart by port.
    pub port_mapping: bool,
    /// Where it is in its life.
    pub state: ServiceState,
    /// When that began.
    pub since: Timestamp,
    /// Its private endpoints, by Azure's resource id or by the name of Google's endpoint group.
    pub endpoints: BTreeMap<String, ElsewhereEndpoint>,
}

/// A private endpoint elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElsewhereEndpoint {
    /// Azure: its address in the VNet.
    pub ip: Option<String>,
    /// Google: the project it lies in.
    pub gcp_project: Option<String>,
    /// Google: forwarding rules and their addresses.
    pub rules: Vec<(String, String)>,
    /// Where it is in its life.
    pub state: ServiceState,
    /// When that began.
    pub since: Timestamp,
}
