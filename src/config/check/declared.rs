//! Declarations of the file, for checks across tables.
//!
//! A table with a mistake is still declared under its id, so that references to it are not reported as mistakes too.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::networks::NetworkMap;

use crate::config::raw::{ConfigLocation, Located, Problems, Section};
use crate::config::value::network;
use crate::model::{
    Label, ListenerPort, PortRange, ProjectId, SecurityGroupId, ServiceName, SubnetId, VpcId, VpceId, VpceServiceId,
    Zone,
};

/// Everything declared so far.
#[derive(Debug, Default)]
pub(super) struct Declared {
    taken: HashMap<(&'static str, String), String>,
    /// Files, with the keys that contain them.
    files: HashMap<PathBuf, String>,
    pub(super) vpcs: BTreeMap<VpcId, DeclaredVpc>,
    pub(super) subnets: BTreeMap<SubnetId, DeclaredSubnet>,
    pub(super) projects: BTreeSet<ProjectId>,
    /// Endpoint services, with the ports of their load balancers, or of the apps for App Services' services.
    pub(super) services: BTreeMap<ServiceName, Option<PortRange>>,
    pub(super) endpoints: BTreeSet<VpceId>,
    /// Private endpoints of services by Atlas' id, with the key of each.
    pub(super) cloud_endpoints: HashMap<(VpceServiceId, String), String>,
    vpcs_read: usize,
    /// The byte offset of each id, and of each `project/cluster`.
    pub(super) positions: HashMap<String, usize>,
    labels: HashMap<Label, String>,
    networks: Vec<(NetworkSide, Located<IpNet>)>,
    held: Vec<GatewayAddress>,
    targets: Vec<Located<SocketAddr>>,
}

/// The properties of a VPC for other tables.
#[derive(Debug, Default)]
pub(super) struct DeclaredVpc {
    /// Its security groups, with the name if it is valid.
    pub(super) groups: BTreeMap<SecurityGroupId, Option<String>>,
}

/// The properties of a subnet for other tables. `None`, or no network: invalid, so references are not checked.
#[derive(Debug)]
pub(super) struct DeclaredSubnet {
    pub(super) vpc: Option<VpcId>,
    pub(super) zone: Option<Zone>,
    pub(super) cidrs: Vec<IpNet>,
}

/// The owner of networks. The number is the VPC's position in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NetworkSide {
    /// A VPC's own.
    Vpc(usize),
    /// Connected to a VPC: peered or on premises.
    Joined(usize),
    /// An endpoint service's.
    Service,
}

/// The networks of all owners so far, each with its position, for finding an address with two meanings quickly.
///
/// A network that is peered with one VPC may be another VPC's own network, and two VPCs may be connected to one data
/// centre. The networks of endpoint services are all refused in the same way, so they may overlap.
#[derive(Debug, Default)]
struct NetworkSides {
    service: NetworkMap<usize>,
    vpcs: NetworkMap<usize>,
    joined: NetworkMap<usize>,
    /// By VPC, the networks connected to it.
    joined_to: HashMap<usize, NetworkMap<usize>>,
    /// By VPC, its own networks and those connected to it.
    of_vpc: HashMap<usize, NetworkMap<usize>>,
}

impl NetworkSides {
    /// The position of the first network that gives an address of `network` a second meaning.
    fn overlap(&self, side: NetworkSide, network: IpNet) -> Option<usize> {
        let others = match side {
            NetworkSide::Service => [Some(&self.vpcs), Some(&self.joined), None],
            NetworkSide::Vpc(vpc) => [Some(&self.service), Some(&self.vpcs), self.joined_to.get(&vpc)],
            NetworkSide::Joined(vpc) => [Some(&self.service), self.of_vpc.get(&vpc), None],
        };
        others.into_iter().flatten().filter_map(|other| other.overlapping(network)).min().copied()
    }

    fn add(&mut self, side: NetworkSide, network: IpNet, position: usize) {
        match side {
            NetworkSide::Service => self.service.insert(network, position),
            NetworkSide::Vpc(vpc) => {
                self.vpcs.insert(network, position);
                self.of_vpc.entry(vpc).or_default().insert(network, position);
            }
            NetworkSide::Joined(vpc) => {
                self.joined.insert(network, position);
                self.joined_to.entry(vpc).or_default().insert(network, position);
                self.of_vpc.entry(vpc).or_default().insert(network, position);
            }
        }
    }
}

/// A listening address of the gateway.
#[derive(Debug)]
struct GatewayAddress {
    ip: IpAddr,
    /// `None`: every port of the address.
    port: Option<u16>,
    /// For an endpoint's address: the ports of its targets.
    ports: Option<PortRange>,
    /// The gateway's metrics page or API, which refuses clients on the service's side.
    is_page: bool,
    /// Apps of one region share a host name, and so an address.
    shared_by_apps: bool,
    location: ConfigLocation,
}

impl GatewayAddress {
    /// Whether it is a wildcard address, at a port that a target is likely to have at `endpoint`, as ports are
    /// allocated from the lowest on. A conflict after many moves is reported then.
    fn may_take_port_of(&self, endpoint: &Self) -> bool {
        let port = self.port.and_then(|port| ListenerPort::try_from(port).ok());
        let (Some(port), Some(ports)) = (port, endpoint.ports) else { return false };
        let likely = u32::from(ports.first().get()) + FIRST_PORTS > u32::from(port.get());
        self.ip.is_unspecified() && ports.contains(port) && likely
    }

    fn shown(&self) -> String {
        self.port.map_or_else(|| self.ip.to_string(), |port| SocketAddr::new(self.ip, port).to_string())
    }
}

/// The listening addresses so far, by the kind of conflict: each has the first of its kind.
#[derive(Debug, Default)]
struct GatewayAddresses<'d> {
    by_ip: HashMap<IpAddr, &'d GatewayAddress>,
    whole_ips: HashMap<IpAddr, &'d GatewayAddress>,
    exactly: HashMap<(IpAddr, u16), &'d GatewayAddress>,
    on_every_ip: HashMap<u16, &'d GatewayAddress>,
    by_port: HashMap<u16, &'d GatewayAddress>,
}

impl<'d> GatewayAddresses<'d> {
    fn add(&mut self, held: &'d GatewayAddress) {
        self.by_ip.entry(held.ip).or_insert(held);
        match held.port {
            None => {
                self.whole_ips.entry(held.ip).or_insert(held);
            }
            // Port 0 never conflicts.
            Some(0) => {}
            Some(port) => {
                self.exactly.entry((held.ip, port)).or_insert(held);
                self.by_port.entry(port).or_insert(held);
                if held.ip.is_unspecified() {
                    self.on_every_ip.entry(port).or_insert(held);
                }
            }
        }
    }

    /// An address that can't be bound together with `held`.
    fn clash(&self, held: &GatewayAddress) -> Option<&'d GatewayAddress> {
        let Some(port) = held.port else { return self.by_ip.get(&held.ip).copied() };
        let unspecified = if held.ip.is_unspecified() { self.by_port.get(&port) } else { self.on_every_ip.get(&port) };
        self.whole_ips
            .get(&held.ip)
            .or_else(|| self.exactly.get(&(held.ip, port)))
            .or(unspecified.filter(|_| port != 0))
            .copied()
    }

    /// The listening address that includes `address`, which is a target's.
    fn at(&self, address: SocketAddr) -> Option<&'d GatewayAddress> {
        self.whole_ips.get(&address.ip()).or_else(|| self.exactly.get(&(address.ip(), address.port()))).copied()
    }
}

/// Ports of a range that a region at its limit of targets uses, including moves.
const FIRST_PORTS: u32 = 512;

impl Declared {
    /// Whether `value` is the first of its `kind`; otherwise reports the first one.
    pub(super) fn unique(
        &mut self,
        problems: &Problems<'_>,
        kind: &'static str,
        value: &impl Display,
        location: &ConfigLocation,
    ) {
        self.positions.entry(value.to_string()).or_insert(location.offset);
        let previous = self.taken.insert((kind, value.to_string()), location.path.clone());
        if let Some(holder) = previous {
            problems.report(location, format!("{kind} `{value}` is given twice; `{holder}` has it"));
            self.taken.insert((kind, value.to_string()), holder);
        }
    }

    /// Records a file that the gateway reads, or writes other than as a log.
    pub(super) fn record_input_file(&mut self, path: &Path, location: &ConfigLocation) {
        self.files.entry(absolute(path)).or_insert_with(|| location.path.clone());
    }

    /// Records a log file; reports one that is used otherwise, as it would be overwritten or rotated.
    pub(super) fn record_log_file(&mut self, problems: &Problems<'_>, path: &Path, location: &ConfigLocation) {
        match self.files.entry(absolute(path)) {
            Entry::Occupied(other) => {
                let (path, holder) = (path.display(), other.get());
                problems.report(location, format!("`{path}` is the file of `{holder}`; a log has one of its own"));
            }
            Entry::Vacant(free) => {
                free.insert(location.path.clone());
            }
        }
    }

    /// The position in the file of the next VPC.
    pub(super) fn next_vpc(&mut self) -> usize {
        self.vpcs_read += 1;
        self.vpcs_read - 1
    }

    /// Reports an unknown VPC.
    pub(super) fn expect_vpc(&self, problems: &Problems<'_>, vpc: &Located<VpcId>) {
        if !self.vpcs.contains_key(&vpc.value) {
            problems.report(&vpc.location, format!("no `[[vpc]]` has the id `{}`", vpc.value));
        }
    }

    /// Reports an unknown project.
    pub(super) fn expect_project(&self, problems: &Problems<'_>, project: &Located<ProjectId>) {
        if !self.projects.contains(&project.value) {
            problems.report(&project.location, format!("no `[[project]]` has the id `{}`", project.value));
        }
    }

    /// Reports an unknown interface endpoint.
    pub(super) fn expect_endpoint(&self, problems: &Problems<'_>, endpoint: &Located<VpceId>) {
        if !self.endpoints.contains(&endpoint.value) {
            problems.report(&endpoint.location, format!("no `[[interface_endpoint]]` has the id `{}`", endpoint.value));
        }
    }

    /// Reports a label of another project, as its host names would be those of two load balancers. `owner` is the path
    /// of the project that uses it here.
    pub(super) fn label(&mut self, problems: &Problems<'_>, label: &Located<Label>, owner: &str) {
        let holder = self.labels.entry(label.value.clone()).or_insert_with(|| owner.to_owned());
        if holder != owner {
            problems.report(
                &label.location,
                format!("`{}` is the label of `{holder}`; each project has its own", label.value),
            );
        }
    }

    /// Records networks of one owner.
    pub(super) fn networks(&mut self, side: NetworkSide, networks: &[Located<IpNet>]) {
        self.networks.extend(networks.iter().map(|network| (side, network.clone())));
    }

    /// Records a listening address of the gateway.
    pub(super) fn bind(&mut self, address: &Located<SocketAddr>) {
        self.hold(address.value.ip(), Some(address.value.port()), &address.location);
    }

    /// Records the listening address of the gateway's own page or API.
    pub(super) fn bind_page(&mut self, address: &Located<SocketAddr>) {
        self.hold(address.value.ip(), Some(address.value.port()), &address.location).is_page = true;
    }

    /// Records an app's public address.
    pub(super) fn bind_app(&mut self, address: &Located<SocketAddr>) {
        self.hold(address.value.ip(), Some(address.value.port()), &address.location).shared_by_apps = true;
    }

    /// Records an endpoint's address: its ports are the targets'.
    pub(super) fn bind_endpoint(&mut self, ip: &Located<IpAddr>, service: Option<&ServiceName>) {
        let ports = service.and_then(|service| self.services.get(service).copied().flatten());
        self.hold(ip.value, None, &ip.location).ports = ports;
    }

    fn hold(&mut self, ip: IpAddr, port: Option<u16>, location: &ConfigLocation) -> &mut GatewayAddress {
        let held =
            GatewayAddress { ip, port, ports: None, is_page: false, shared_by_apps: false, location: location.clone() };
        self.held.push(held);
        self.held.last_mut().expect("it was just pushed")
    }

    /// Records an address to which the gateway connects.
    pub(super) fn dial(&mut self, address: &Located<SocketAddr>) {
        self.targets.push(address.clone());
    }

    /// Reports conflicts of networks, listening addresses and targets; each is reported at the later of the two.
    pub(super) fn report_clashes(&self, problems: &Problems<'_>) {
        let mut sides = NetworkSides::default();
        for (position, (side, network)) in self.networks.iter().enumerate() {
            if let Some(other) = sides.overlap(*side, network.value) {
                let other = &self.networks[other].1;
                let (own, other, place) = (network.value, other.value, &other.location.path);
                problems.report(
                    &network.location,
                    format!("`{own}` overlaps `{other}` of `{place}`; an address must have one meaning"),
                );
            }
            sides.add(*side, network.value, position);
        }
        // Apps may share an address among themselves.
        let (mut bound, mut of_apps) = (GatewayAddresses::default(), GatewayAddresses::default());
        for held in &self.held {
            let of_app = || if held.shared_by_apps { None } else { of_apps.clash(held) };
            if let Some(other) = bound.clash(held).or_else(of_app) {
                let (address, holder) = (held.shown(), &other.location.path);
                problems.report(
                    &held.location,
                    format!("`{address}` is held by `{holder}`; give one of them another address"),
                );
            }
            if held.shared_by_apps { of_apps.add(held) } else { bound.add(held) }
        }
        // The first endpoint of each range of ports.
        let mut ranges = HashSet::new();
        let endpoints: Vec<&GatewayAddress> =
            self.held.iter().filter(|held| held.ports.is_some_and(|ports| ranges.insert(ports))).collect();
        for held in &self.held {
            if let Some(endpoint) = endpoints.iter().find(|endpoint| held.may_take_port_of(endpoint)) {
                let (address, ip, holder) = (held.shown(), endpoint.ip, &endpoint.location.path);
                problems.report(
                    &held.location,
                    format!(
                        "`{address}` takes the port of `{ip}` too, where it is likely to be a target's (`{holder}`); write one \
                         address, or leave the port out of the endpoint service's `ports`"
                    ),
                );
            }
            let of_service = |(side, network): &&(NetworkSide, Located<IpNet>)| {
                *side == NetworkSide::Service && network.value.contains(&held.ip)
            };
            if held.is_page
                && let Some((_, network)) = self.networks.iter().find(of_service)
            {
                let (address, network, place) = (held.shown(), network.value, &network.location.path);
                problems.report(
                    &held.location,
                    format!(
                        "`{address}` is in `{network}` of `{place}`, and clients on the service's side are refused; \
                         write an address outside"
                    ),
                );
            }
        }
        let mut dialled: HashMap<SocketAddr, &ConfigLocation> = HashMap::new();
        for target in &self.targets {
            let address = target.value;
            if let Some(held) = bound.at(address).or_else(|| of_apps.at(address)) {
                let holder = &held.location.path;
                problems.report(
                    &target.location,
                    format!(
                        "`{address}` leads back into the gateway, which binds it for `{holder}`; name a server's own"
                    ),
                );
            }
            if let Some(first) = dialled.get(&address) {
                let first = &first.path;
                problems.report(
                    &target.location,
                    format!("`{address}` is the address of `{first}` already; each target has its own"),
                );
            } else {
                dialled.insert(address, &target.location);
            }
        }
    }
}

/// `path` as an absolute path, so that different notations are equal.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The networks of the required key `key`, at least one; `why` is their purpose.
pub(super) fn required_networks(section: &Section<'_>, key: &'static str, why: &str) -> Vec<Located<IpNet>> {
    if section.is_empty_array(key) {
        section.report(key, format!("empty; {why}"));
    }
    section.required_list(key, network)
}
