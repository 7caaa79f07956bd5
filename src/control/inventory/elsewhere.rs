//! Private endpoint services on Azure (Private Link) and Google Cloud (Private Service Connect): Atlas' rows, their lives, and
//! what the plan takes of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::state::{ServiceState, Timestamp};
use crate::model::{Cloud, EndpointService, EndpointState, InterfaceEndpoint, ProjectId, Vpc, VpcId, VpceId};

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
    /// Its private endpoints, by Azure's resource id or by the name of Google's forwarding rule.
    pub endpoints: BTreeMap<String, ElsewhereEndpoint>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// What listens; `None` where a version saved it that only had the row.
    #[serde(default)]
    pub service: Option<EndpointService>,
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
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
}

impl ElsewhereEndpoint {
    /// The endpoint of the config, with the name that Atlas has for it.
    fn of_config(endpoint: &InterfaceEndpoint) -> (String, Self) {
        let ip = endpoint.addresses.first().map(|address| address.ip.to_string());
        let mut own = Self {
            ip: None,
            gcp_project: None,
            rules: Vec::new(),
            state: ServiceState::Available,
            since: Timestamp::default(),
            error: None,
        };
        if endpoint.id.cloud() == Some(Cloud::Gcp) {
            own.gcp_project = endpoint.id.as_str().split('/').nth(1).map(str::to_owned);
            own.rules.extend(ip.map(|ip| (endpoint.id.atlas().to_owned(), ip)));
        } else {
            own.ip = ip;
        }
        (endpoint.id.atlas().to_owned(), own)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.ip.as_ref().or_else(|| self.rules.first().map(|(_, ip)| ip))?.parse().ok()
    }

    /// Its id in its cloud; `None` where its names cannot make one.
    #[must_use]
    pub fn id(&self, service: &EndpointService, name: &str) -> Option<VpceId> {
        match &self.gcp_project {
            None => name.parse().ok(),
            Some(project) => {
                format!("projects/{project}/regions/{}/forwardingRules/{name}", service.region).parse().ok()
            }
        }
    }
}

impl ElsewhereService {
    /// A project's endpoint service outside AWS as the config names it.
    pub(super) fn of_config(project: &ProjectId, cloud: Cloud, service: &EndpointService) -> Self {
        Self {
            project: project.clone(),
            cloud,
            region: service.region.atlas(),
            port_mapping: cloud == Cloud::Gcp,
            state: ServiceState::Available,
            since: Timestamp::default(),
            endpoints: BTreeMap::new(),
            error: None,
            service: Some(service.clone()),
        }
    }

    /// Adds a private endpoint that the config names.
    pub(super) fn add_of_config(&mut self, endpoint: &InterfaceEndpoint) {
        let (name, own) = ElsewhereEndpoint::of_config(endpoint);
        self.endpoints.insert(name, own);
    }

    /// What listens while the service stands.
    pub(super) fn planned_service(&self) -> Option<&EndpointService> {
        self.service.as_ref().filter(|_| self.state == ServiceState::Available)
    }

    /// The private endpoints that lie in one of these networks.
    pub(super) fn planned_endpoints(&self, networks: &BTreeMap<VpcId, Vpc>) -> Vec<InterfaceEndpoint> {
        let own = self.planned_service().into_iter().flat_map(|_| &self.endpoints);
        own.filter_map(|(name, own)| self.planned(networks, name, own)).collect()
    }

    fn planned(
        &self,
        networks: &BTreeMap<VpcId, Vpc>,
        name: &str,
        own: &ElsewhereEndpoint,
    ) -> Option<InterfaceEndpoint> {
        let state = match own.state {
            ServiceState::Initiating => EndpointState::Pending,
            ServiceState::Available | ServiceState::Updating => EndpointState::Available,
            ServiceState::Failed | ServiceState::Deleting => return None,
        };
        let service = self.service.as_ref()?;
        let (ip, id) = (own.address()?, own.id(service, name)?);
        let mut here = networks.values().filter(|network| network.region == service.region);
        here.find_map(|network| InterfaceEndpoint::in_cloud(id.clone(), network, service.name(), ip, state))
    }

    /// Why a private endpoint cannot be connected; `None`: it can.
    ///
    /// Its address lies in no network of its cloud and region. Where there is no network of that cloud at all, there is
    /// nothing to compare with, and the row alone goes on. Source: Atlas, *Troubleshoot Private Endpoint Connection Issues*.
    pub(in super::super) fn why_not_found(&self, networks: &BTreeMap<VpcId, Vpc>, name: &str) -> Option<String> {
        let own = self.endpoints.get(name)?;
        let simulated = networks.keys().any(|network| network.cloud() == Some(self.cloud));
        if !simulated || self.planned(networks, name, own).is_some() {
            return None;
        }
        let ip = own.address().map(|ip| ip.to_string()).unwrap_or_default();
        Some(match self.cloud {
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
