//! Private endpoints on Azure (Private Link) and Google Cloud (Private Service Connect) in Atlas' API. Their endpoint
//! services are [`ServiceRecord`](super::ServiceRecord)s, separate from those of AWS, so that EC2's API does not list
//! them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::state::{ServiceState, Timestamp};
use crate::model::{Cloud, InterfaceEndpoint, Region, VpceId, VpceServiceId};

/// A private endpoint's service, and Atlas' id of the endpoint: Azure's resource id, or the name of Google's forwarding
/// rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloudEndpointKey(pub VpceServiceId, pub String);

/// Saved without the leading slash of a resource id, as no segment of a key may be empty.
impl fmt::Display for CloudEndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1.trim_start_matches('/'))
    }
}

impl FromStr for CloudEndpointKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an endpoint service and a private endpoint");
        let (service, name) = text.split_once('/').ok_or_else(wrong)?;
        let name = if name.contains('/') { format!("/{name}") } else { name.to_owned() };
        Ok(Self(service.parse().map_err(|_| wrong())?, name))
    }
}

/// A private endpoint of Azure or Google Cloud that was added to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudEndpoint {
    /// Its address in the consumer's network.
    pub ip: IpAddr,
    /// The project of Google's forwarding rule; `None`: Azure.
    pub gcp_project: Option<String>,
    /// Its state.
    pub state: ServiceState,
    /// When it entered its state.
    pub since: Timestamp,
    /// Why it failed.
    pub error: Option<String>,
}

impl CloudEndpoint {
    /// A new endpoint, to be connected.
    #[must_use]
    pub fn new(ip: IpAddr, gcp_project: Option<String>) -> Self {
        Self { ip, gcp_project, state: ServiceState::Initiating, since: Timestamp::default(), error: None }
    }

    /// An endpoint of the config, by its key.
    pub(super) fn of_config(endpoint: &InterfaceEndpoint) -> Option<(CloudEndpointKey, Self)> {
        let key = CloudEndpointKey(endpoint.service.service().clone(), endpoint.id.atlas().to_owned());
        let project = endpoint.id.as_str().split('/').nth(1).filter(|_| endpoint.id.cloud() == Some(Cloud::Gcp));
        let own = Self::new(endpoint.addresses.first()?.ip, project.map(str::to_owned));
        Some((key, Self { state: ServiceState::Available, ..own }))
    }

    /// Its id in its cloud; `None` if its name does not give one.
    #[must_use]
    pub fn id(&self, region: &Region, name: &str) -> Option<VpceId> {
        match &self.gcp_project {
            None => name.parse().ok(),
            Some(project) => format!("projects/{project}/regions/{region}/forwardingRules/{name}").parse().ok(),
        }
    }
}

#[cfg(test)]
#[path = "clouds_tests.rs"]
mod tests;
