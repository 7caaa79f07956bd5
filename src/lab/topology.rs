//! Computes the lab's network from the config. Pure.
//!
//! Every host has its own link. The consumer's hosts are connected to the router of the VPC, the peering and the Direct
//! Connect; the router, the internet's hosts and the service's VPC are connected to the gateway. The gateway forwards
//! no packets, so the service's side and the consumer's are connected only by the gateway's sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Host, LabError};
use crate::model::{CidrSet, Cloud, Desired, IpFamily, Subnet, Vpc, Zone};

/// The port of every resolver in the lab.
pub(super) const DNS_PORT: u16 = 53;

/// The offset of hosts in their network: the first address that is tried for them.
const HOST: u32 = 10;

/// The network of the listed internet host if the access list is empty. For documentation: RFC 5737.
const INTERNET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24);

/// Networks for the host that is on no list; the first one that is not listed is used. For documentation: RFC 5737.
const ELSEWHERE: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24),
];

/// Networks of the two internet hosts, if the lab has IPv6. For documentation: RFC 9637.
const INTERNET_IPV6: [Ipv6Net; 2] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0x3fff, 1, 0, 0, 0, 0, 0, 0), 64),
    Ipv6Net::new_assert(Ipv6Addr::new(0x3fff, 2, 0, 0, 0, 0, 0, 0), 64),
];

/// The lab's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topology {
    /// The hosts, including the service's.
    pub(super) hosts: Vec<HostNet>,
    /// The addresses of the VPC's endpoints, by zone.
    pub(super) zones: BTreeMap<Zone, Vec<IpAddr>>,
    /// Nodes' addresses, by zone.
    pub(super) nodes: BTreeMap<Zone, BTreeSet<Ipv4Addr>>,
    /// The gateway's addresses on its link to the router: endpoints and resolvers.
    pub(super) vpc_side: Vec<Ipv4Addr>,
    /// The gateway's addresses on its links to Azure and Google Cloud: the endpoints there.
    pub(super) clouds: BTreeMap<Host, Vec<Ipv4Addr>>,
    /// The gateway's addresses on its links to the internet: public addresses of nodes and apps.
    pub(super) public_side: Vec<Ipv4Addr>,
    /// The consumer's networks, behind the router.
    pub(super) consumer: Vec<Ipv4Net>,
    /// The service's networks, and single addresses of nodes outside of them.
    pub(super) service: Vec<Ipv4Net>,
    /// The source addresses of the gateway's connections to nodes.
    pub(super) sources: Vec<Ipv4Addr>,
    /// The addresses of resolvers: base + 2 of every network except the service's.
    pub(super) resolvers: Vec<Ipv4Addr>,
    /// The lab's IPv6; `None`: the VPC has none.
    pub(super) ipv6: Option<Ipv6>,
}

/// The IPv6 part of a dual-stack lab. Resolvers, nodes and the admin API are IPv4 there too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ipv6 {
    /// The hosts' own addresses; the service's is in its network.
    pub(super) hosts: BTreeMap<Host, Ipv6Addr>,
    /// The addresses of the VPC's endpoints, on the gateway's link to the router.
    pub(super) endpoints: Vec<Ipv6Addr>,
    /// The consumer's networks, behind the router.
    pub(super) consumer: Vec<Ipv6Net>,
}

/// A host and its link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostNet {
    /// Where it is.
    pub(super) kind: Host,
    /// Its network.
    pub(super) net: Ipv4Net,
    /// Its addresses, its own first.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// The other end of the link.
    pub(super) next_hop: Ipv4Addr,
    /// Its resolver; `None` on the service's side, which may not use one.
    pub(super) resolver: Option<Ipv4Addr>,
}

impl HostNet {
    /// Its own address.
    pub(super) fn address(&self) -> Ipv4Addr {
        *self.addresses.first().expect("every constructor gives a host an address")
    }

    /// The host at the other end of its link.
    pub(super) fn hub(&self) -> Host {
        match self.kind {
            Host::Vpc | Host::VpcB | Host::Peer | Host::Onprem => Host::Router,
            Host::Azure
            | Host::Google
            | Host::Internet
            | Host::InternetB
            | Host::Service
            | Host::Gateway
            | Host::Router => Host::Gateway,
        }
    }
}

/// The lab of `desired`; `file` is for messages.
///
/// # Errors
///
/// [`LabError::Unsuited`] when the config does not describe a lab: several VPCs, nodes on IPv6, loopback networks.
/// [`LabError::AddressTwice`] when two objects would have one address.
pub(super) fn topology(desired: &Desired, file: &str) -> Result<Topology, LabError> {
    let unsuited = |reason: String| LabError::Unsuited { file: file.to_owned(), reason };
    let vpc = only_vpc(desired).map_err(unsuited)?;
    let used = used_addresses(desired).map_err(unsuited)?;
    let mut hosts = Vec::new();
    let mut resolvers = BTreeSet::new();

    let vpc_resolver = nth(first_v4(&vpc.cidrs, "the VPC").map_err(unsuited)?, 2).map_err(unsuited)?;
    resolvers.insert(vpc_resolver);
    // Hosts use their resolver over IPv4, so none is in an IPv6-only subnet.
    let subnets = subnets(desired, vpc).into_iter().filter(|subnet| subnet.cidr_of(IpFamily::Ipv4).is_some());
    let subnets: Vec<(Host, &Subnet)> = [Host::Vpc, Host::VpcB].into_iter().zip(subnets).collect();
    for (host, subnet) in subnets.iter().copied() {
        let net = v4(&subnet.cidr, "subnet").map_err(unsuited)?;
        hosts.push(host_net(host, net, vpc_resolver, &used).map_err(unsuited)?);
    }
    if hosts.is_empty() {
        return Err(unsuited(format!("the VPC `{}` has no subnet for a host; add one", vpc.id)));
    }
    for (host, nets) in [(Host::Peer, &vpc.peered), (Host::Onprem, &vpc.on_premises)] {
        if let Some(net) = nets.iter().find(|net| net.addr().is_ipv4()) {
            let net = v4(net, host.name()).map_err(unsuited)?;
            let resolver = nth(net, 2).map_err(unsuited)?;
            resolvers.insert(resolver);
            hosts.push(host_net(host, net, resolver, &used).map_err(unsuited)?);
        }
    }
    for (host, net) in [(Host::Internet, listed_net(desired)), (Host::InternetB, unlisted_net(desired))] {
        let resolver = nth(net, 2).map_err(unsuited)?;
        resolvers.insert(resolver);
        hosts.push(host_net(host, net, resolver, &used).map_err(unsuited)?);
    }

    let mut clouds = BTreeMap::new();
    for (host, network) in cloud_networks(desired).map_err(unsuited)? {
        let net = first_v4(&network.cidrs, "the network").map_err(unsuited)?;
        let resolver = nth(net, 2).map_err(unsuited)?;
        resolvers.insert(resolver);
        let subnet = network.subnets.values().next();
        let subnet = subnet.ok_or_else(|| unsuited(format!("`{}` has no subnet for a host; add one", network.id)))?;
        let net = v4(&subnet.cidr, "subnet").map_err(unsuited)?;
        hosts.push(host_net(host, net, resolver, &used).map_err(unsuited)?);
        let own = desired.endpoints.values().filter(|endpoint| endpoint.vpc == network.id);
        let own = own.flat_map(|endpoint| &endpoint.addresses).filter_map(|address| only_v4(address.ip));
        clouds.insert(host, own.collect());
    }

    let zones = zones(desired);
    let vpc_side: Vec<Ipv4Addr> = zones.values().flatten().copied().filter_map(only_v4).collect();
    let consumer: Vec<Ipv4Net> =
        [&vpc.cidrs, &vpc.peered, &vpc.on_premises].into_iter().flat_map(CidrSet::iter).filter_map(as_v4).collect();
    let (service_host, service, sources) = service(desired).map_err(unsuited)?;
    hosts.push(service_host);
    let mut ipv6 = ipv6(desired, vpc, &subnets).map_err(unsuited)?;
    if let Some(ipv6) = &mut ipv6 {
        ipv6.hosts.retain(|host, _| hosts.iter().any(|net| net.kind == *host));
    }

    let vpc_resolvers = resolvers.iter().copied().filter(|ip| consumer.iter().any(|net| net.contains(ip)));
    let topology = Topology {
        vpc_side: vpc_side.into_iter().chain(vpc_resolvers).collect(),
        public_side: public_addresses(desired).into_iter().collect(),
        hosts,
        clouds,
        zones,
        nodes: nodes(desired),
        consumer,
        service,
        sources,
        resolvers: resolvers.into_iter().collect(),
        ipv6,
    };
    topology.each_address_once()?;
    Ok(topology)
}

impl Topology {
    /// The host of this kind.
    pub(super) fn host(&self, host: Host) -> Option<&HostNet> {
        self.hosts.iter().find(|net| net.kind == host)
    }

    /// The addresses of the gateway's resolver.
    pub(super) fn dns_listen(&self) -> Vec<SocketAddr> {
        self.resolvers.iter().map(|ip| SocketAddr::from((*ip, DNS_PORT))).collect()
    }

    fn each_address_once(&self) -> Result<(), LabError> {
        let mut seen = BTreeSet::new();
        let on_hosts = self.hosts.iter().flat_map(|host| host.addresses.iter().chain([&host.next_hop]));
        let on_internet = self.resolvers.iter().filter(|ip| !self.vpc_side.contains(ip));
        let in_clouds = self.clouds.values().flatten();
        let on_gateway =
            self.vpc_side.iter().chain(in_clouds).chain(&self.public_side).chain(&self.sources).chain(on_internet);
        for ip in on_hosts.chain(on_gateway) {
            if !seen.insert(*ip) {
                return Err(LabError::AddressTwice(*ip));
            }
        }
        Ok(())
    }
}

/// The lab's only VPC.
fn only_vpc(desired: &Desired) -> Result<&Vpc, String> {
    let mut vpcs = desired.vpcs.values().filter(|vpc| vpc.id.cloud().is_none());
    match (vpcs.next(), vpcs.next()) {
        (Some(vpc), None) => Ok(vpc),
        (None, _) => Err("it has no `[[vpc]]`; `config/scenarios/lab.toml` is one that has all".to_owned()),
        (Some(_), Some(_)) => Err(format!(
            "it has {} VPCs and the lab builds one; leave one in, and put others under `peered`",
            vpcs.count() + 2
        )),
    }
}

/// The networks of Azure and Google Cloud, at most one of each.
fn cloud_networks(desired: &Desired) -> Result<Vec<(Host, &Vpc)>, String> {
    let mut networks: Vec<(Host, &Vpc)> = Vec::new();
    for network in desired.vpcs.values() {
        let host = match network.id.cloud() {
            None => continue,
            Some(Cloud::Azure) => Host::Azure,
            Some(Cloud::Gcp) => Host::Google,
        };
        if networks.iter().any(|(known, _)| *known == host) {
            return Err(format!("it has two networks for the host `{host}` and the lab builds one; leave one in"));
        }
        networks.push((host, network));
    }
    Ok(networks)
}

/// The VPC's subnets: first those with endpoint addresses, in the order of their endpoints, then the others.
fn subnets<'v>(desired: &Desired, vpc: &'v Vpc) -> Vec<&'v Subnet> {
    let mut ids: Vec<_> = Vec::new();
    let with_endpoints = desired.endpoints.values().flat_map(|endpoint| endpoint.addresses.iter().map(|a| &a.subnet));
    for id in with_endpoints.chain(vpc.subnets.keys()) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids.into_iter().filter_map(|id| vpc.subnets.get(id)).collect()
}

/// The lab's IPv6, if its VPC has an IPv6 network; `subnets` are those with a host.
fn ipv6(desired: &Desired, vpc: &Vpc, subnets: &[(Host, &Subnet)]) -> Result<Option<Ipv6>, String> {
    if !vpc.cidrs.iter().any(|net| net.addr().is_ipv6()) {
        return Ok(None);
    }
    let first = |nets: &CidrSet| nets.iter().find_map(as_v6);
    let services = desired.projects.iter().flat_map(|project| &project.services);
    let mut nets: Vec<(Host, Option<Ipv6Net>)> = vec![
        (Host::Peer, first(&vpc.peered)),
        (Host::Onprem, first(&vpc.on_premises)),
        (Host::Service, services.map(|service| &service.cidrs).find_map(first)),
    ];
    nets.extend(subnets.iter().map(|(host, subnet)| (*host, subnet.cidr_of(IpFamily::Ipv6).as_ref().and_then(as_v6))));
    nets.extend([Host::Internet, Host::InternetB].into_iter().zip(INTERNET_IPV6.map(Some)));

    let in_vpc = desired.endpoints.values().filter(|endpoint| endpoint.id.cloud().is_none());
    let endpoints = in_vpc.flat_map(|endpoint| &endpoint.addresses).filter_map(|address| only_v6(address.ip));
    let endpoints: Vec<Ipv6Addr> = endpoints.collect();
    let address = |(host, net): (Host, Option<Ipv6Net>)| {
        let net = net?;
        let from = net.network().to_bits();
        let candidates = (u128::from(HOST)..1 << 16).filter_map(|n| Some(Ipv6Addr::from_bits(from.checked_add(n)?)));
        let found = candidates.take_while(|ip| net.contains(ip)).find(|ip| !endpoints.contains(ip));
        Some(found.map(|ip| (host, ip)).ok_or_else(|| format!("`{net}` is too small for the host `{host}`; use a /64")))
    };
    let hosts = nets.into_iter().filter_map(address).collect::<Result<_, String>>()?;
    let consumer = [&vpc.cidrs, &vpc.peered, &vpc.on_premises].into_iter().flat_map(CidrSet::iter).filter_map(as_v6);
    let consumer = consumer.collect();
    Ok(Some(Ipv6 { hosts, endpoints, consumer }))
}

/// Every address that the config uses, which no host may have.
fn used_addresses(desired: &Desired) -> Result<BTreeSet<Ipv4Addr>, String> {
    let addresses = desired.endpoints.values().flat_map(|e| e.addresses.iter().map(|a| (e.id.cloud(), a.ip)));
    // AWS's IPv6 addresses are handled in `ipv6`.
    let endpoints = addresses.filter(|(cloud, ip)| cloud.is_some() || ip.is_ipv4()).map(|(_, ip)| ip);
    let public = public_addresses(desired).into_iter().map(IpAddr::V4);
    endpoints.chain(public).map(|ip| v4_address(ip, "an endpoint's address")).collect()
}

fn zones(desired: &Desired) -> BTreeMap<Zone, Vec<IpAddr>> {
    let mut zones: BTreeMap<Zone, Vec<IpAddr>> = BTreeMap::new();
    let in_vpc = desired.endpoints.values().filter(|endpoint| endpoint.id.cloud().is_none());
    for address in in_vpc.flat_map(|endpoint| &endpoint.addresses) {
        zones.entry(address.zone.clone()).or_default().push(address.ip);
    }
    zones
}

/// The nodes' addresses for the gateway, by zone. `backends` checks that all are IPv4.
fn nodes(desired: &Desired) -> BTreeMap<Zone, BTreeSet<Ipv4Addr>> {
    let mut nodes: BTreeMap<Zone, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for node in desired.projects.iter().flat_map(|project| &project.clusters).flat_map(|cluster| &cluster.nodes) {
        if let Some(SocketAddr::V4(address)) = node.address.fixed() {
            nodes.entry(node.zone.clone()).or_default().insert(*address.ip());
        }
    }
    nodes
}

/// The nodes' and apps' addresses on the internet.
fn public_addresses(desired: &Desired) -> BTreeSet<Ipv4Addr> {
    let nodes = desired.projects.iter().flat_map(|project| &project.clusters).flat_map(|cluster| &cluster.nodes);
    let of_nodes = nodes.filter_map(|node| node.public_address);
    let of_apps = desired.apps.iter().map(|app| app.public_address);
    of_nodes.chain(of_apps).filter_map(|address| only_v4(address.ip())).collect()
}

/// The network of a host on the access list: the first one that is not private.
fn listed_net(desired: &Desired) -> Ipv4Net {
    let lists = desired.projects.iter().flat_map(|project| project.access_list.iter());
    let listed = lists.filter_map(as_v4).find(|net| net.prefix_len() > 0 && !net.addr().is_private());
    listed.unwrap_or(INTERNET)
}

/// The network of a host on no access list.
fn unlisted_net(desired: &Desired) -> Ipv4Net {
    let listed = listed_net(desired);
    let holds = |net: &Ipv4Net| {
        let mut lists = desired.projects.iter().flat_map(|project| project.access_list.iter());
        lists.any(|list| as_v4(list).is_some_and(|list| list.prefix_len() > 0 && list.contains(net)))
    };
    let public = public_addresses(desired);
    let free =
        ELSEWHERE.into_iter().find(|net| *net != listed && !holds(net) && !public.iter().any(|ip| net.contains(ip)));
    free.unwrap_or(Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 24))
}

/// The service's VPC: the host with the nodes' addresses, its networks, and the gateway's source addresses.
fn service(desired: &Desired) -> Result<(HostNet, Vec<Ipv4Net>, Vec<Ipv4Addr>), String> {
    let services = desired.projects.iter().flat_map(|project| &project.services);
    let cidrs = services.clone().map(|service| &service.cidrs);
    let cidrs = cidrs.chain(desired.app_services.iter().map(|service| &service.cidrs));
    let mut nets: Vec<Ipv4Net> = Vec::new();
    for net in cidrs.flat_map(CidrSet::iter).filter(|net| net.addr().is_ipv4()) {
        let net = v4(net, "the service's network")?;
        if !nets.contains(&net) {
            nets.push(net);
        }
    }
    let net = *nets.first().ok_or("it has no endpoint service; add a `[[project.endpoint_service]]`")?;
    let addresses = backends(desired)?;
    if addresses.is_empty() {
        return Err("its endpoint services have no targets; add a `[[project.cluster]]`".to_owned());
    }
    for ip in &addresses {
        if !nets.iter().any(|net| net.contains(ip)) {
            nets.push(Ipv4Net::from(*ip));
        }
    }
    let sources: BTreeSet<IpAddr> = services.flat_map(|service| service.source_addresses.iter().copied()).collect();
    let sources = sources.into_iter().map(|ip| v4_address(ip, "a source address")).collect::<Result<_, _>>()?;
    let host = HostNet { kind: Host::Service, net, addresses, next_hop: nth(net, 1)?, resolver: None };
    Ok((host, nets, sources))
}

/// Addresses of all backends.
pub(super) fn backends(desired: &Desired) -> Result<Vec<Ipv4Addr>, String> {
    let mut addresses = BTreeSet::new();
    for cluster in desired.projects.iter().flat_map(|project| &project.clusters) {
        for address in cluster.addresses() {
            let named =
                || format!("{} has a server at the host name {address}; a lab needs its `address`", cluster.name);
            let address = address.fixed().ok_or_else(named)?;
            addresses.insert(v4_address(address.ip(), "a node's address")?);
        }
    }
    for app in &desired.apps {
        if let Some(address) = backend_address(&app.backend) {
            addresses.insert(v4_address(address.ip(), "an app's backend")?);
        }
    }
    Ok(addresses.into_iter().collect())
}

/// The address in `http://10.1.0.31:9080/…`; `None` if it has a name.
pub(super) fn backend_address(url: &str) -> Option<SocketAddr> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    authority.parse().ok().or_else(|| Some(SocketAddr::from((authority.parse::<Ipv4Addr>().ok()?, 80))))
}

/// A host in `net`, at the first free address from base + 10.
fn host_net(host: Host, net: Ipv4Net, resolver: Ipv4Addr, used: &BTreeSet<Ipv4Addr>) -> Result<HostNet, String> {
    let next_hop = nth(net, 1)?;
    let mut candidates = (HOST..).map_while(|n| nth(net, n).ok());
    let address = candidates.find(|ip| !used.contains(ip) && *ip != resolver && *ip != net.broadcast());
    let address = address.ok_or_else(|| {
        format!("`{net}` is too small for the host `{host}`: it is at base + {HOST} or behind; use a /24")
    })?;
    Ok(HostNet { kind: host, net, addresses: vec![address], next_hop, resolver: Some(resolver) })
}

fn nth(net: Ipv4Net, n: u32) -> Result<Ipv4Addr, String> {
    let ip = Ipv4Addr::from(u32::from(net.network()).saturating_add(n));
    if net.contains(&ip) {
        Ok(ip)
    } else {
        Err(format!("`{net}` is too small for the lab, which uses base + {n}; use a /24"))
    }
}

fn first_v4(nets: &CidrSet, what: &str) -> Result<Ipv4Net, String> {
    v4(nets.iter().find(|net| net.addr().is_ipv4()).ok_or_else(|| format!("{what} has no IPv4 network"))?, what)
}

fn v4(net: &IpNet, what: &str) -> Result<Ipv4Net, String> {
    let v4 = as_v4(net).ok_or_else(|| format!("{what} `{net}` is IPv6 and the lab builds IPv4 alone"))?;
    if v4.addr().is_loopback() {
        return Err(format!(
            "{what} `{net}` is loopback, which no cable carries; give it a network such as `10.0.0.0/16` (`config/scenarios/lab.toml` is an example), or run `plgw quickstart`"
        ));
    }
    Ok(v4)
}

fn v4_address(ip: IpAddr, what: &str) -> Result<Ipv4Addr, String> {
    only_v4(ip).ok_or_else(|| format!("{what} `{ip}` is IPv6 and the lab builds IPv4 alone"))
}

fn as_v4(net: &IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    }
}

fn as_v6(net: &IpNet) -> Option<Ipv6Net> {
    match net {
        IpNet::V6(net) => Some(*net),
        IpNet::V4(_) => None,
    }
}

fn only_v6(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    }
}

fn only_v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::DEFAULT_CONFIG;

    fn documented() -> Topology {
        let config = crate::config::parse(DEFAULT_CONFIG, "lab.toml").expect("the embedded file is good");
        topology(&config.desired, "lab.toml").expect("it makes a lab")
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_endpoint_has_the_documented_addresses_and_the_resolver_is_the_vpcs_base_plus_two() {
        let lab = documented();
        for address in ["10.0.30.194", "10.0.20.54", "10.0.0.2"] {
            assert!(lab.vpc_side.contains(&ip(address)), "{address}");
        }
        let vpc = lab.host(Host::Vpc).expect("a host");
        assert_eq!((vpc.address(), vpc.resolver), (ip("10.0.30.10"), Some(ip("10.0.0.2"))));
        let vpc_b = lab.host(Host::VpcB).expect("a host");
        assert_eq!((vpc_b.address(), vpc_b.resolver), (ip("10.0.20.10"), Some(ip("10.0.0.2"))));
    }

    #[test]
    fn the_services_host_holds_every_node_and_has_no_resolver() {
        let lab = documented();
        let service = lab.host(Host::Service).expect("a host");
        for node in ["10.1.0.11", "10.1.0.12", "10.1.0.13", "10.1.0.21", "10.1.0.22", "10.1.0.31"] {
            assert!(service.addresses.contains(&ip(node)), "{node}");
        }
        assert_eq!(service.resolver, None);
    }

    #[test]
    fn one_internet_host_is_on_the_access_list_and_the_other_is_not() {
        let config = crate::config::parse(DEFAULT_CONFIG, "lab.toml").expect("the embedded file is good");
        let lab = documented();
        let on_list = |host| {
            let address = lab.host(host).expect("a host").address();
            config.desired.projects[0].access_list.contains(address.into())
        };
        assert!(on_list(Host::Internet));
        assert!(!on_list(Host::InternetB));
    }

    #[test]
    fn a_loopback_config_is_refused_with_a_network_to_use_instead() {
        let error = topology(&crate::config::quickstart().desired, "quickstart.toml").expect_err("loopback");
        let text = error.to_string();
        assert!(text.contains("127.0.0.0/16") && text.contains("10.0.0.0/16"), "{text}");
    }

    #[test]
    fn two_vpcs_are_refused() {
        let text = include_str!("../../config/scenarios/two-regions.toml");
        let config = crate::config::parse(text, "two-regions.toml").expect("a good file");
        let error = topology(&config.desired, "two-regions.toml").expect_err("two VPCs");
        assert!(error.to_string().contains("2 VPCs"), "{error}");
    }

    #[test]
    fn a_host_steps_aside_for_an_endpoint_at_its_address() {
        let text = DEFAULT_CONFIG.replace("\"10.0.30.194\"", "\"10.0.30.10\"");
        let config = crate::config::parse(&text, "lab.toml").expect("a good file");
        let lab = topology(&config.desired, "lab.toml").expect("a lab");
        assert_eq!(lab.host(Host::Vpc).expect("a host").address(), ip("10.0.30.11"));
    }

    #[test]
    fn an_apps_backend_address_follows_from_its_url() {
        assert_eq!(backend_address("http://10.1.0.31:9080/x"), Some("10.1.0.31:9080".parse().expect("an address")));
        assert_eq!(backend_address("http://10.1.0.31"), Some("10.1.0.31:80".parse().expect("an address")));
        assert_eq!(backend_address("http://app.example"), None);
    }
}
