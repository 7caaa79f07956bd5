//! An index of the desired state.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::snapshot::DnsAnswer;
use super::targets::{Addressable, TargetProcess, addressable};
use crate::model::{
    AppService, CidrSet, ConnectError, Desired, EndpointService, EndpointState, Fault, FaultKind, Health,
    InterfaceEndpoint, IpAddressType, Project, Region, TargetId, TargetState, Vpc, VpcId, VpceId, VpceServiceId, Zone,
};

/// The desired state, indexed by id.
pub(super) struct Survey<'a> {
    /// The indexed state.
    pub(super) desired: &'a Desired,
    /// Every endpoint service; of two with the same id, the first.
    pub(super) providers: BTreeMap<&'a VpceServiceId, ServiceOwner<'a>>,
    /// The interface endpoints of each service, by id, without removed ones.
    pub(super) endpoints: BTreeMap<&'a VpceServiceId, Vec<&'a InterfaceEndpoint>>,
    /// The addressable targets of each project's services, in target order.
    pub(super) targets: BTreeMap<&'a VpceServiceId, Vec<Addressable<'a>>>,
    /// A cache by load balancer and zone, as every address needs a result that depends on all targets.
    unhealthy_cache: RefCell<UnhealthyByZone>,
}

/// The targets without enough healthy members for a zone's node.
type UnhealthyByZone = BTreeMap<(VpceServiceId, Zone), Rc<[TargetId]>>;

/// Whether a zone's addresses are included.
type ZoneFilter<'a> = &'a dyn Fn(&Zone) -> bool;

/// The owner of an endpoint service.
#[derive(Clone, Copy)]
pub(super) enum ServiceOwner<'a> {
    /// An Atlas project: a load balancer with a port per target.
    Project(&'a Project, &'a EndpointService),
    /// App Services.
    App(&'a AppService),
}

impl<'a> ServiceOwner<'a> {
    pub(super) fn region(self) -> &'a Region {
        match self {
            Self::Project(_, service) => &service.region,
            Self::App(service) => &service.region,
        }
    }

    /// Whether VPCs in `region` may have new endpoints to it. App Services documents no other region than the service's
    /// own.
    pub(super) fn supports(self, region: &Region) -> bool {
        match self {
            Self::Project(_, service) => service.supports(region),
            Self::App(service) => service.region == *region,
        }
    }

    /// The address families that it supports. App Services documents IPv4 only.
    pub(super) fn ip_address_types(self) -> IpAddressType {
        match self {
            Self::Project(_, service) => service.ip_address_types,
            Self::App(_) => IpAddressType::Ipv4,
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
    /// Whether connections from a target's address outside every service's networks are refused as the service's side.
    ///
    /// Not if a consumer's network contains it, if the gateway itself listens there, or if the machine's own clients
    /// use it: an operator must not be locked out.
    pub(super) fn is_service_side_alone(&self, ip: IpAddr) -> bool {
        let is_own = self.desired.own_addresses.iter().any(|own| own.ip() == ip)
            || [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&ip);
        !is_own && !self.is_consumer_side(ip)
    }

    /// Whether a consumer's network, or a network connected to it, contains the address.
    pub(super) fn is_consumer_side(&self, ip: IpAddr) -> bool {
        let of_consumer = |vpc: &Vpc| [&vpc.cidrs, &vpc.peered, &vpc.on_premises].iter().any(|set| set.contains(ip));
        self.desired.vpcs.values().any(of_consumer)
    }

    /// Whether a VPC has an interface endpoint that hasn't been removed.
    pub(super) fn has_endpoints(&self, vpc: &VpcId) -> bool {
        self.desired.endpoints.values().any(|own| own.vpc == *vpc && own.state != EndpointState::Deleted)
    }

    /// The gateway's own listening address that includes `address`.
    pub(super) fn own_address_at(&self, address: SocketAddr) -> Option<SocketAddr> {
        let answers = |own: &&SocketAddr| {
            let everywhere = own.ip().is_unspecified() && address.ip().is_loopback();
            own.port() == address.port() && (own.ip() == address.ip() || everywhere)
        };
        self.desired.own_addresses.iter().find(answers).copied()
    }

    pub(super) fn of(desired: &'a Desired) -> Self {
        let mut providers = BTreeMap::new();
        let mut targets = BTreeMap::new();
        for project in &desired.projects {
            let mut by_region = addressable(project, &desired.resolved);
            for service in &project.services {
                if providers.contains_key(&service.id) {
                    continue;
                }
                providers.insert(&service.id, ServiceOwner::Project(project, service));
                targets.insert(&service.id, by_region.remove(&service.region).unwrap_or_default());
            }
        }
        for service in &desired.app_services {
            providers.entry(&service.id).or_insert(ServiceOwner::App(service));
        }
        let mut endpoints: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for endpoint in desired.endpoints.values().filter(|endpoint| endpoint.state != EndpointState::Deleted) {
            endpoints.entry(endpoint.service.service()).or_default().push(endpoint);
        }
        Self { desired, providers, endpoints, targets, unhealthy_cache: RefCell::default() }
    }

    /// The interface endpoints of `service`, by id.
    pub(super) fn endpoints_of(&self, service: &VpceServiceId) -> &[&'a InterfaceEndpoint] {
        self.endpoints.get(service).map_or(&[], Vec::as_slice)
    }

    /// A project's services in the index: without those whose id was already used.
    pub(super) fn services_of(&self, project: &'a Project) -> impl Iterator<Item = &'a EndpointService> {
        project.services.iter().filter(|service| {
            matches!(self.providers.get(&service.id), Some(ServiceOwner::Project(_, known)) if std::ptr::eq(*known, *service))
        })
    }

    /// A project's service in a region.
    pub(super) fn service_in(&self, project: &'a Project, region: &Region) -> Option<&'a EndpointService> {
        self.services_of(project).find(|service| service.region == *region)
    }

    /// The health of a process.
    pub(super) fn health(&self, service: &VpceServiceId, target: &TargetId, member: &str) -> Health {
        let health = &self.desired.health;
        let known = if health.is_empty() {
            None
        } else {
            health.get(&(service.clone(), target.clone(), member.to_owned())).copied()
        };
        known.unwrap_or(TargetState::Initial.into())
    }

    /// The faults that have begun.
    pub(super) fn faults(&self) -> impl Iterator<Item = &'a Arc<Fault>> {
        self.desired.faults.values().filter(|fault| fault.is_active())
    }

    /// The error that a fault causes for connections to a process.
    pub(super) fn unreachable(
        &self,
        service: &VpceServiceId,
        target: &TargetId,
        member: &str,
        zone: &Zone,
    ) -> Option<ConnectError> {
        self.faults().find_map(|fault| {
            let scope = &fault.scope;
            let here = scope.service.as_ref().is_none_or(|of| of == service)
                && scope.zone.as_ref().is_none_or(|of| of == zone);
            let this = scope.target.as_ref().is_none_or(|of| of == target)
                && scope.member.as_ref().is_none_or(|of| of == member);
            match fault.kind {
                FaultKind::ZoneOutage {} if here && scope.zone.is_some() => Some(ConnectError::TimedOut),
                FaultKind::TargetDown { silent: true } if here && this => Some(ConnectError::TimedOut),
                FaultKind::TargetDown { silent: false } if here && this => Some(ConnectError::Refused),
                _ => None,
            }
        })
    }

    /// Whether an operator shifted traffic away from `zone`.
    pub(super) fn is_shifted(&self, service: &VpceServiceId, zone: &Zone) -> bool {
        let shifted = &self.desired.shifted_zones;
        !shifted.is_empty() && shifted.contains(&(service.clone(), zone.clone()))
    }

    /// Whether every target group has enough healthy members for a node in `zone`: those of the zone, or all of them
    /// with cross-zone and for endpoints of other regions. One group without enough removes the zone's addresses from
    /// DNS for all (*Target groups*, DNS failover).
    ///
    /// Members that no probe has reached yet count as healthy, so that at the start nothing is removed without
    /// evidence.
    pub(super) fn is_zone_healthy(&self, service: &VpceServiceId, zone: &Zone, endpoint: Option<&VpceId>) -> bool {
        !self.is_zone_lost(service, zone, endpoint) && self.unhealthy_targets(service, zone).is_empty()
    }

    /// Whether the zone's addresses do not answer: in a `zone-outage`, found silent, or served by no gateway.
    /// `endpoint` is as for [`is_in_outage`](Self::is_in_outage).
    pub(super) fn is_zone_lost(&self, service: &VpceServiceId, zone: &Zone, endpoint: Option<&VpceId>) -> bool {
        self.desired.silent_zones.contains(zone)
            || self.is_zone_unserved(zone)
            || self.is_in_outage(service, zone, endpoint)
    }

    /// Whether a `zone-outage` fault is active for the endpoint's addresses in the zone; `None`: for any endpoint's.
    pub(super) fn is_in_outage(&self, service: &VpceServiceId, zone: &Zone, endpoint: Option<&VpceId>) -> bool {
        self.faults().any(|fault| {
            fault.loses_zone(service, zone)
                && fault.scope.endpoint.as_ref().is_none_or(|of| endpoint.is_none_or(|endpoint| of == endpoint))
        })
    }

    /// Whether none of the gateways that share the state serves the zone's addresses.
    pub(super) fn is_zone_unserved(&self, zone: &Zone) -> bool {
        self.desired.served_anywhere.as_ref().is_some_and(|served| !served.contains(zone.as_str()))
    }

    /// The groups with too few healthy members for a node in `zone`.
    pub(super) fn unhealthy_targets(&self, service: &VpceServiceId, zone: &Zone) -> Rc<[TargetId]> {
        let key = (service.clone(), zone.clone());
        let known = self.unhealthy_cache.borrow().get(&key).cloned();
        known.unwrap_or_else(|| {
            let unhealthy_cache: Rc<[TargetId]> = self.unhealthy_in(service, zone).cloned().collect();
            self.unhealthy_cache.borrow_mut().insert(key, Rc::clone(&unhealthy_cache));
            unhealthy_cache
        })
    }

    fn unhealthy_in(&self, service: &VpceServiceId, zone: &Zone) -> impl Iterator<Item = &TargetId> {
        let of = match self.providers.get(service) {
            Some(ServiceOwner::Project(_, of)) if !of.attributes.dns_minimum.is_off() => Some(*of),
            _ => None,
        };
        let groups = self.targets.get(service).into_iter().flatten().filter(|target| !target.cluster.paused);
        let unhealthy_cache = move |target: &&Addressable<'a>| {
            of.is_some_and(|of| {
                let attributes = &of.attributes;
                let is_in = |process: &&TargetProcess<'a>| {
                    let key = || (service.clone(), target.id.clone(), process.name.to_owned());
                    let deregistered = &self.desired.deregistered;
                    (attributes.cross_zone || process.zone == zone || !process.zone.is_in_region_of(zone))
                        && (deregistered.is_empty() || !deregistered.contains(&key()))
                };
                let registered = || target.processes.iter().filter(is_in);
                let well = registered().filter(|process| {
                    let state = self.health(service, &target.id, process.name).state;
                    process.address.is_some() && matches!(state, TargetState::Healthy | TargetState::Initial)
                });
                attributes.dns_minimum.is_missed(well.count(), registered().count())
            })
        };
        groups.filter(unhealthy_cache).map(|target| &target.id)
    }

    /// The addresses of an endpoint at its regional name in DNS, and why those.
    ///
    /// Its `DnsRecordIpType` determines the address families. If no zone is healthy, DNS fails open, as Route 53 does.
    /// The addresses of a lost zone do not answer, so they are the last resort: AWS derives both from the same health
    /// checks, and with cross-zone load balancing a lost target alone makes every zone unhealthy.
    pub(super) fn answered(&self, endpoint: &InterfaceEndpoint) -> (BTreeSet<IpAddr>, DnsAnswer) {
        let service = endpoint.service.service();
        let shifted = |zone: &Zone| self.is_shifted(service, zone);
        let healthy = |zone: &Zone| self.is_zone_healthy(service, zone, Some(&endpoint.id));
        let lost = |zone: &Zone| self.is_zone_lost(service, zone, Some(&endpoint.id));
        let among = |keep: ZoneFilter<'_>| -> BTreeSet<IpAddr> {
            let kept = endpoint.addresses.iter().filter(|address| keep(&address.zone)).map(|address| address.ip);
            kept.filter(|ip| endpoint.dns_record_ip_type.answers(*ip)).collect()
        };
        let tries: [(ZoneFilter<'_>, DnsAnswer); 4] = [
            (&|zone| !shifted(zone) && healthy(zone), DnsAnswer::HealthyZones),
            (&|zone| !shifted(zone) && !lost(zone), DnsAnswer::NoHealthyZone),
            (&|zone| !lost(zone), DnsAnswer::ShiftedZonesAlone),
            (&|zone| !shifted(zone), DnsAnswer::EveryZoneLost),
        ];
        let found = tries.into_iter().map(|(keep, why)| (among(keep), why)).find(|(kept, _)| !kept.is_empty());
        found.unwrap_or_else(|| (among(&|_| true), DnsAnswer::EveryZoneLost))
    }
}

/// The effective state of an endpoint: without an address it can't be connected.
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

/// Whether an endpoint counts as a private endpoint of its service: connected or being connected.
pub(super) fn counts(endpoint: &InterfaceEndpoint) -> bool {
    let lives = [EndpointState::PendingAcceptance, EndpointState::Pending, EndpointState::Available];
    endpoint.registered && lives.contains(&state_of(endpoint))
}

/// Whether it admits flows.
pub(super) fn is_available(endpoint: &InterfaceEndpoint) -> bool {
    state_of(endpoint) == EndpointState::Available
}
