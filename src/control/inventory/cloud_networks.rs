//! The networks of private endpoints on Azure and Google Cloud: which of the config's networks contains their address.

use super::Inventory;
use super::clouds::{CloudEndpoint, CloudEndpointKey};
use super::state::ServiceState;
use crate::model::{Cloud, EndpointState, InterfaceEndpoint, VpceServiceId};

impl Inventory {
    /// The private endpoints of a service on Azure or Google Cloud.
    pub fn cloud_endpoints_of(
        &self,
        service: &VpceServiceId,
    ) -> impl Iterator<Item = (&CloudEndpointKey, &CloudEndpoint)> {
        self.cloud_endpoints.iter().filter(move |(key, _)| key.0 == *service)
    }

    /// A private endpoint with its subnet: the one that contains its address, in a network of its service's region.
    /// `None` if there is none.
    #[must_use]
    pub fn in_network(&self, key: &CloudEndpointKey) -> Option<InterfaceEndpoint> {
        let (own, service) = (self.cloud_endpoints.get(key)?, &self.cloud_services.get(&key.0)?.service);
        let id = own.id(&service.region, &key.1)?;
        let is_connected = own.state == ServiceState::Available;
        let state = if is_connected { EndpointState::Available } else { EndpointState::Pending };
        let mut here = self.fixed.networks.values().filter(|network| network.region == service.region);
        here.find_map(|network| InterfaceEndpoint::in_cloud(id.clone(), network, service.name(), own.ip, state))
    }

    /// The private endpoints in a network whose services are available.
    pub(super) fn planned_cloud_endpoints(&self) -> impl Iterator<Item = InterfaceEndpoint> {
        let stands =
            |key: &CloudEndpointKey| self.cloud_services.get(&key.0).is_some_and(|own| own.state.is_connectable());
        let own = self.cloud_endpoints.iter().filter(move |(key, own)| {
            matches!(own.state, ServiceState::Initiating | ServiceState::Available) && stands(key)
        });
        own.filter_map(|(key, _)| self.in_network(key))
    }

    /// Why a private endpoint can't be connected; `None`: it can.
    ///
    /// Its address is in no network of its cloud and region. If the config has no network of that cloud, this is not
    /// checked. Source: Atlas, *Troubleshoot Private Endpoint Connection Issues*.
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
