//! What the file declares, and where: for the checks that look across tables.
//!
//! A table with a mistake is still declared under its id, so that one mistake is not reported again by everything that
//! refers to the table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::raw::{At, Problems, Section, Spot};
use crate::config::value::network;
use crate::model::{
    Label, ListenerPort, PortRange, ProjectId, SecurityGroupId, ServiceName, SubnetId, VpcId, VpceId, Zone,
};

/// Everything declared so far.
#[derive(Debug, Default)]
pub(super) struct Declared {
    taken: HashMap<(&'static str, String), String>,
    pub(super) vpcs: BTreeMap<VpcId, DeclaredVpc>,
    pub(super) subnets: BTreeMap<SubnetId, DeclaredSubnet>,
    pub(super) projects: BTreeSet<ProjectId>,
    /// Endpoint services, with the ports that their load balancers may have; App Services' have those of the apps.
    pub(super) services: BTreeMap<ServiceName, Option<PortRange>>,
    pub(super) endpoints: BTreeSet<VpceId>,
    vpcs_read: usize,
    labels: HashMap<Label, String>,
    networks: Vec<(Side, At<IpNet>)>,
    held: Vec<Held>,
    targets: Vec<At<SocketAddr>>,
}

/// What others ask of a VPC.
#[derive(Debug, Default)]
pub(super) struct DeclaredVpc {
    /// Its security groups; the name where it was readable.
    pub(super) groups: Vec<(SecurityGroupId, Option<String>)>,
}

/// What others ask of a subnet. `None`: not readable, so nothing is said about it.
#[derive(Debug)]
pub(super) struct DeclaredSubnet {
    pub(super) vpc: Option<VpcId>,
    pub(super) zone: Option<Zone>,
    pub(super) cidr: Option<IpNet>,
}

/// Whose networks they are. The number is the VPC's place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A VPC's own.
    Vpc(usize),
    /// Joined to a VPC: peered or on premises.
    Joined(usize),
    /// An endpoint service's.
    Service,
}

impl Side {
    /// Whether an address of both sides would have two meanings.
    ///
    /// What one VPC peers with may be another VPC's own network, and two VPCs may be joined to one data centre. Endpoint
    /// services are refused alike, so theirs may be one.
    fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Service, Self::Service) => false,
            (Self::Service, _) | (_, Self::Service) | (Self::Vpc(_), Self::Vpc(_)) => true,
            (Self::Joined(a), Self::Joined(b) | Self::Vpc(b)) | (Self::Vpc(a), Self::Joined(b)) => a == b,
        }
    }
}

/// An address that the gateway binds.
#[derive(Debug)]
struct Held {
    ip: IpAddr,
    /// `None`: every port of the address.
    port: Option<u16>,
    /// Of an endpoint's address: the ports that targets may have there.
    ports: Option<PortRange>,
    /// The gateway's own page or API, which answers nobody on the service's side.
    is_page: bool,
    /// Apps of one region answer under one host name, so at one address.
    shared_by_apps: bool,
    spot: Spot,
}

impl Held {
    fn clashes_with(&self, other: &Self) -> bool {
        let same_ip = self.ip == other.ip;
        match (self.port, other.port) {
            _ if self.shared_by_apps && other.shared_by_apps => false,
            // Port 0 is a different one each time.
            (Some(0), Some(_)) | (Some(_), Some(0)) => false,
            (Some(a), Some(b)) => a == b && (same_ip || self.ip.is_unspecified() || other.ip.is_unspecified()),
            (None, _) | (_, None) => same_ip,
        }
    }

    /// Whether it is every address of the machine, at a port that a target is likely to have at `endpoint`: they are given
    /// from the lowest on. One that a target gets to after many moves is refused then, by name.
    fn takes_port_of(&self, endpoint: &Self) -> bool {
        let port = self.port.and_then(|port| ListenerPort::try_from(port).ok());
        let (Some(port), Some(ports)) = (port, endpoint.ports) else { return false };
        let likely = u32::from(ports.first().get()) + FIRST_PORTS > u32::from(port.get());
        self.ip.is_unspecified() && ports.contains(port) && likely
    }

    fn shown(&self) -> String {
        self.port.map_or_else(|| self.ip.to_string(), |port| SocketAddr::new(self.ip, port).to_string())
    }
}

/// Ports of a range that a region with as many targets as it may have gets to, moves included.
const FIRST_PORTS: u32 = 512;

impl Declared {
    /// Whether `value` is the first of its `kind`; if not, reports who has it.
    pub(super) fn unique(&mut self, problems: &Problems<'_>, kind: &'static str, value: &impl Display, spot: &Spot) {
        let previous = self.taken.insert((kind, value.to_string()), spot.path.clone());
        if let Some(holder) = previous {
            problems.report(spot, format!("{kind} `{value}` is given twice; `{holder}` has it"));
            self.taken.insert((kind, value.to_string()), holder);
        }
    }

    /// The place in the file of the VPC that is read next.
    pub(super) fn next_vpc(&mut self) -> usize {
        self.vpcs_read += 1;
        self.vpcs_read - 1
    }

    /// Reports a VPC that does not exist.
    pub(super) fn expect_vpc(&self, problems: &Problems<'_>, vpc: &At<VpcId>) {
        if !self.vpcs.contains_key(&vpc.value) {
            problems.report(&vpc.spot, format!("no `[[vpc]]` has the id `{}`", vpc.value));
        }
    }

    /// Reports a project that does not exist.
    pub(super) fn expect_project(&self, problems: &Problems<'_>, project: &At<ProjectId>) {
        if !self.projects.contains(&project.value) {
            problems.report(&project.spot, format!("no `[[project]]` has the id `{}`", project.value));
        }
    }

    /// Reports an interface endpoint that does not exist.
    pub(super) fn expect_endpoint(&self, problems: &Problems<'_>, endpoint: &At<VpceId>) {
        if !self.endpoints.contains(&endpoint.value) {
            problems.report(&endpoint.spot, format!("no `[[interface_endpoint]]` has the id `{}`", endpoint.value));
        }
    }

    /// Reports a label that another project has: its host names would lead to two load balancers. `owner` is the path of
    /// the project that uses it here.
    pub(super) fn label(&mut self, problems: &Problems<'_>, label: &At<Label>, owner: &str) {
        let holder = self.labels.entry(label.value.clone()).or_insert_with(|| owner.to_owned());
        if holder != owner {
            problems
                .report(&label.spot, format!("`{}` is the label of `{holder}`; each project has its own", label.value));
        }
    }

    /// Notes networks of one side.
    pub(super) fn networks(&mut self, side: Side, networks: &[At<IpNet>]) {
        self.networks.extend(networks.iter().map(|network| (side, network.clone())));
    }

    /// Notes an address and a port that the gateway binds.
    pub(super) fn bind(&mut self, address: &At<SocketAddr>) {
        self.hold(address.value.ip(), Some(address.value.port()), &address.spot);
    }

    /// Notes where the gateway's own page or API answers.
    pub(super) fn bind_page(&mut self, address: &At<SocketAddr>) {
        self.hold(address.value.ip(), Some(address.value.port()), &address.spot).is_page = true;
    }

    /// Notes an app's public address.
    pub(super) fn bind_app(&mut self, address: &At<SocketAddr>) {
        self.hold(address.value.ip(), Some(address.value.port()), &address.spot).shared_by_apps = true;
    }

    /// Notes an endpoint's address: its ports are the targets'.
    pub(super) fn bind_endpoint(&mut self, ip: &At<IpAddr>, service: Option<&ServiceName>) {
        let ports = service.and_then(|service| self.services.get(service).copied().flatten());
        self.hold(ip.value, None, &ip.spot).ports = ports;
    }

    fn hold(&mut self, ip: IpAddr, port: Option<u16>, spot: &Spot) -> &mut Held {
        let held = Held { ip, port, ports: None, is_page: false, shared_by_apps: false, spot: spot.clone() };
        self.held.push(held);
        self.held.last_mut().expect("it was just pushed")
    }

    /// Notes an address that the gateway dials.
    pub(super) fn dial(&mut self, address: &At<SocketAddr>) {
        self.targets.push(address.clone());
    }

    /// Reports networks, bound addresses and targets that get in each other's way; the later of two bears the report.
    pub(super) fn report_clashes(&self, problems: &Problems<'_>) {
        for (i, (side, network)) in self.networks.iter().enumerate() {
            let overlaps = |(other_side, other): &&(Side, At<IpNet>)| {
                side.excludes(*other_side)
                    && (network.value.contains(&other.value) || other.value.contains(&network.value))
            };
            if let Some((_, other)) = self.networks[..i].iter().find(overlaps) {
                let (own, other, place) = (network.value, other.value, &other.spot.path);
                problems.report(
                    &network.spot,
                    format!("`{own}` overlaps `{other}` of `{place}`; an address must have one meaning"),
                );
            }
        }
        for (i, held) in self.held.iter().enumerate() {
            if let Some(other) = self.held[..i].iter().find(|other| held.clashes_with(other)) {
                let (address, holder) = (held.shown(), &other.spot.path);
                problems
                    .report(&held.spot, format!("`{address}` is held by `{holder}`; give one of them another address"));
            }
        }
        for held in &self.held {
            if let Some(endpoint) = self.held.iter().find(|endpoint| held.takes_port_of(endpoint)) {
                let (address, ip, holder) = (held.shown(), endpoint.ip, &endpoint.spot.path);
                problems.report(
                    &held.spot,
                    format!(
                        "`{address}` takes the port of `{ip}` too, where it is likely to be a target's (`{holder}`); write one \
                         address, or leave the port out of the endpoint service's `ports`"
                    ),
                );
            }
            let of_service = |(side, network): &&(Side, At<IpNet>)| {
                held.is_page && *side == Side::Service && network.value.contains(&held.ip)
            };
            if let Some((_, network)) = self.networks.iter().find(of_service) {
                let (address, network, place) = (held.shown(), network.value, &network.spot.path);
                problems.report(
                    &held.spot,
                    format!(
                        "`{address}` lies in `{network}` of `{place}`, and nobody on the service's side is answered; \
                         write an address outside"
                    ),
                );
            }
        }
        let mut dialled: HashMap<SocketAddr, &Spot> = HashMap::new();
        for target in &self.targets {
            let address = target.value;
            let loops = |held: &&Held| held.ip == address.ip() && held.port.is_none_or(|port| port == address.port());
            if let Some(held) = self.held.iter().find(loops) {
                let holder = &held.spot.path;
                problems.report(
                    &target.spot,
                    format!(
                        "`{address}` leads back into the gateway, which binds it for `{holder}`; name a server's own"
                    ),
                );
            }
            if let Some(first) = dialled.get(&address) {
                let first = &first.path;
                problems.report(
                    &target.spot,
                    format!("`{address}` is the address of `{first}` already; each target has its own"),
                );
            } else {
                dialled.insert(address, &target.spot);
            }
        }
    }
}

/// The networks of `key`, which must be there and hold one at least; `why` says what they are for.
pub(super) fn need_networks(section: &Section<'_>, key: &'static str, why: &str) -> Vec<At<IpNet>> {
    if section.is_empty_array(key) {
        section.report(key, format!("empty; {why}"));
    }
    section.need_list(key, network)
}
