//! Private endpoints on Azure (Private Link) and Google Cloud (Private Service Connect), as Atlas' API has them. Their endpoint
//! services are [`ServiceRecord`](super::ServiceRecord)s, apart from those of AWS, so that EC2's API sees none.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Inventory;
use super::state::{ServiceState, Timestamp};
use crate::model::{Cloud, EndpointState, InterfaceEndpoint, Region, VpceId, VpceServiceId};

/// A private endpoint's service, and what Atlas calls the endpoint: Azure's resource id, or the name of Google's forwarding rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloudEndpointKey(pub VpceServiceId, pub String);

/// Saved without the first slash of a resource id: no segment of a key of the state store is empty.
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
    /// Where it is in its life.
    pub state: ServiceState,
    /// When that began.
    pub since: Timestamp,
    /// Why it failed.
    pub error: Option<String>,
}

impl CloudEndpoint {
    /// One that is to be connected.
    #[must_use]
    pub fn new(ip: IpAddr, gcp_project: Option<String>) -> Self {
        Self { ip, gcp_project, state: ServiceState::Initiating, since: Timestamp::default(), error: None }
    }

    /// The endpoint of the config, by its key.
    pub(super) fn of_config(endpoint: &InterfaceEndpoint) -> Option<(CloudEndpointKey, Self)> {
        let key = CloudEndpointKey(endpoint.service.service().clone(), endpoint.id.atlas().to_owned());
        let project = endpoint.id.as_str().split('/').nth(1).filter(|_| endpoint.id.cloud() == Some(Cloud::Gcp));
        let own = Self::new(endpoint.addresses.first()?.ip, project.map(str::to_owned));
        Some((key, Self { state: ServiceState::Available, ..own }))
    }

    /// Its id in its cloud; `None` where its names cannot make one.
    #[must_use]
    pub fn id(&self, region: &Region, name: &str) -> Option<VpceId> {
        match &self.gcp_project {
            None => name.parse().ok(),
            Some(project) => format!("projects/{project}/regions/{region}/forwardingRules/{name}").parse().ok(),
        }
    }
}

impl Inventory {
    /// The private endpoints of a service on Azure or Google Cloud.
    pub fn cloud_endpoints_of(
        &self,
        service: &VpceServiceId,
    ) -> impl Iterator<Item = (&CloudEndpointKey, &CloudEndpoint)> {
        self.cloud_endpoints.iter().filter(move |(key, _)| key.0 == *service)
    }

    /// A private endpoint where it lies: in the subnet that has its address, of a network in its service's region. `None`: there
    /// is no such subnet.
    #[must_use]
    pub fn in_network(&self, key: &CloudEndpointKey) -> Option<InterfaceEndpoint> {
        let (own, service) = (self.cloud_endpoints.get(key)?, &self.cloud_services.get(&key.0)?.service);
        let id = own.id(&service.region, &key.1)?;
        let is_connected = own.state == ServiceState::Available;
        let state = if is_connected { EndpointState::Available } else { EndpointState::Pending };
        let mut here = self.fixed.networks.values().filter(|network| network.region == service.region);
        here.find_map(|network| InterfaceEndpoint::in_cloud(id.clone(), network, service.name(), own.ip, state))
    }

    /// The private endpoints that lie in a network, and whose services stand.
    pub(super) fn planned_cloud_endpoints(&self) -> impl Iterator<Item = InterfaceEndpoint> {
        let stands = |key: &CloudEndpointKey| self.cloud_services.get(&key.0).is_some_and(|own| own.state.stands());
        let own = self.cloud_endpoints.iter().filter(move |(key, own)| {
            matches!(own.state, ServiceState::Initiating | ServiceState::Available) && stands(key)
        });
        own.filter_map(|(key, _)| self.in_network(key))
    }

    /// Why a private endpoint cannot be connected; `None`: it can.
    ///
    /// Its address lies in no network of its cloud and region. Where there is no network of that cloud at all, there is
    /// nothing to compare with, and Atlas' record alone goes on. Source: Atlas, *Troubleshoot Private Endpoint Connection
    /// Issues*.
    pub(in super::super) fn why_not_found(&self, key: &CloudEndpointKey) -> Option<String> {
        let (name, ip) = (&key.1, self.cloud_endpoints.get(key)?.ip);
        let cloud = self.cloud_services.get(&key.0)?.service.region.cloud()?;
        let has_networks = self.fixed.networks.keys().any(|network| network.cloud() == Some(cloud));
        if !has_networks || self.in_network(key).is_some() {
            return None;
        }
        Some(match cloud {
            Cloud::Azure => format!(
                "The private endpoint {name} with the IP address {ip} was not found in Azure. Check its resource id and \
                 its IP address."
            ),
            Cloud::Gcp => format!(
                "The endpoint {name} with the IP address {ip} was not found in Google Cloud. Check its name and the \
                 project id."
            ),
        })
    }
}

#[cfg(test)]
#[path = "clouds_tests.rs"]
mod tests;
