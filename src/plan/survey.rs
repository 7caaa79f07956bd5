//! The desired state, looked up by id once and then by everyone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::targets::{Addressable, addressable};
use crate::model::{
    AppService, CidrSet, Desired, EndpointService, EndpointState, InterfaceEndpoint, Project, Region, VpceServiceId,
};

/// The desired state by id.
pub(super) struct Survey<'a> {
    /// What was surveyed.
    pub(super) desired: &'a Desired,
    /// Every endpoint service; of two with one id, the first.
    pub(super) providers: BTreeMap<&'a VpceServiceId, Provider<'a>>,
    /// The interface endpoints that lead to each, by id. Removed ones are left out.
    pub(super) endpoints: BTreeMap<&'a VpceServiceId, Vec<&'a InterfaceEndpoint>>,
    /// The addressable targets of each project's services, in target order.
    pub(super) targets: BTreeMap<&'a VpceServiceId, Vec<Addressable<'a>>>,
}

/// Whose endpoint service it is.
#[derive(Clone, Copy)]
pub(super) enum Provider<'a> {
    /// An Atlas project's: a load balancer with a port per target.
    Project(&'a Project, &'a EndpointService),
    /// App Services'.
    App(&'a AppService),
}

impl<'a> Provider<'a> {
    pub(super) fn region(self) -> &'a Region {
        match self {
            Self::Project(_, service) => &service.region,
            Self::App(service) => &service.region,
        }
    }

    pub(super) fn cidrs(self) -> &'a CidrSet {
        match self {
            Self::Project(_, service) => &service.cidrs,
            Self::App(service) => &service.cidrs,
        }
    }
}

impl<'a> Survey<'a> {
    pub(super) fn of(desired: &'a Desired) -> Self {
        let mut providers = BTreeMap::new();
        let mut targets = BTreeMap::new();
        for project in &desired.projects {
            let mut by_region = addressable(project);
            for service in &project.services {
                if providers.contains_key(&service.id) {
                    continue;
                }
                providers.insert(&service.id, Provider::Project(project, service));
                targets.insert(&service.id, by_region.remove(&service.region).unwrap_or_default());
            }
        }
        for service in &desired.app_services {
            providers.entry(&service.id).or_insert(Provider::App(service));
        }
        let mut endpoints: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for endpoint in desired.endpoints.values().filter(|endpoint| endpoint.state != EndpointState::Deleted) {
            endpoints.entry(endpoint.service.service()).or_default().push(endpoint);
        }
        Self { desired, providers, endpoints, targets }
    }

    /// The interface endpoints that lead to `service`, by id.
    pub(super) fn endpoints_of(&self, service: &VpceServiceId) -> &[&'a InterfaceEndpoint] {
        self.endpoints.get(service).map_or(&[], Vec::as_slice)
    }

    /// A project's services that the survey knows: without those whose id something else has.
    pub(super) fn services_of(&self, project: &'a Project) -> impl Iterator<Item = &'a EndpointService> {
        project.services.iter().filter(|service| {
            matches!(self.providers.get(&service.id), Some(Provider::Project(_, known)) if std::ptr::eq(*known, *service))
        })
    }

    /// A project's service in a region.
    pub(super) fn service_in(&self, project: &'a Project, region: &Region) -> Option<&'a EndpointService> {
        self.services_of(project).find(|service| service.region == *region)
    }

    /// The addresses of an endpoint that DNS answers: those outside the zones shifted away from. With all of them
    /// shifted every one is answered, as Route 53 does when nothing is healthy.
    pub(super) fn answered(&self, endpoint: &InterfaceEndpoint) -> BTreeSet<IpAddr> {
        let all = endpoint.addresses.iter();
        let shifted = &self.desired.shifted_zones;
        let service = endpoint.service.service();
        let left: BTreeSet<IpAddr> = if shifted.is_empty() {
            BTreeSet::new()
        } else {
            all.clone().filter(|a| !shifted.contains(&(service.clone(), a.zone.clone()))).map(|a| a.ip).collect()
        };
        if left.is_empty() { all.map(|address| address.ip).collect() } else { left }
    }
}

/// Where an endpoint really is in its life: without an address it cannot be connected.
pub(super) fn state_of(endpoint: &InterfaceEndpoint) -> EndpointState {
    match endpoint.state {
        EndpointState::PendingAcceptance | EndpointState::Pending | EndpointState::Available
            if endpoint.addresses.is_empty() =>
        {
            EndpointState::Failed
        }
        state => state,
    }
}

/// Whether an endpoint stands as a private endpoint of its service: connected or about to be.
pub(super) fn counts(endpoint: &InterfaceEndpoint) -> bool {
    let lives = [EndpointState::PendingAcceptance, EndpointState::Pending, EndpointState::Available];
    endpoint.registered && lives.contains(&state_of(endpoint))
}

/// Whether flows are admitted through it.
pub(super) fn is_available(endpoint: &InterfaceEndpoint) -> bool {
    state_of(endpoint) == EndpointState::Available
}
