//! Links, addresses, routes and rules: configures the topology in the kernel, over netlink.
//!
//! One-way connectivity is enforced here, below any socket of the gateway:
//!
//! - the gateway forwards nothing (`ip_forward` is 0), so no packet crosses from the service's side to the consumer's;
//! - it follows the strong host model: packets from a link are looked up in that link's own table, which has the addresses
//!   that belong on it and silently drops the rest, so no endpoint's address, resolver or public address can be reached
//!   from the service's side, whatever the next hop;
//! - sources are checked against the route back to them (`rp_filter` is 1), so a forged source of a consumer is dropped.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::{fs, io};

use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::route::{RouteHeader, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleMessage};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::error::IoContext;
use super::namespaces::{self, Namespace};
use super::topology::{HostNet, Topology};
use super::{Host, LabError, admin};

/// A host's end of its link.
pub(super) const HOST_END: &str = "eth0";

/// The gateway's interface on the link to the router.
pub(super) const VPC_SIDE: &str = "vpc";

/// The two ends of that link. Link-local, so that they are in no network of a config: RFC 3927.
const ROUTER_END: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);
const GATEWAY_END: Ipv4Addr = admin::ADDRESS;

/// Number of the first rule and table of the gateway's links.
pub(super) const FIRST_TABLE: u32 = 100;

/// After the rules of all links: used for packets that the gateway itself sends.
const LOCAL_PRIORITY: u32 = 1000;

/// The kernel's own table of local addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u8 = 255;

/// Before all other rules: drops packets of a cut zone.
const CUT_PRIORITY: u32 = 10;

/// The kernel's error for a rule that already exists.
const EXISTS: i32 = -rustix::io::Errno::EXIST.raw_os_error();

/// The kernel's error for the removal of a rule that does not exist.
const MISSING: i32 = -rustix::io::Errno::NOENT.raw_os_error();

/// Every address: 0.0.0.0/0.
const ANYWHERE: (Ipv4Addr, u8) = (Ipv4Addr::UNSPECIFIED, 0);

/// Connects the namespaces of `topology`. Leaves the calling thread in one of them.
pub(super) async fn wire(topology: &Topology, networks: &BTreeMap<Host, Namespace>) -> Result<(), LabError> {
    let mut kernels = BTreeMap::new();
    for (host, namespace) in networks {
        let kernel = NetworkConfig::of(*host, namespace)?;
        kernel.settings(topology.ipv6.is_some())?;
        let lo = kernel.index("lo").await?;
        kernel.up(lo).await?;
        kernels.insert(*host, kernel);
    }
    let kernel = |host: Host| kernels.get(&host).expect("every host has a namespace");
    let (gateway, router) = (kernel(Host::Gateway), kernel(Host::Router));

    gateway.cable(VPC_SIDE, networks.get(&Host::Router).expect("every host has a namespace"), "gateway").await?;
    join_gateway_and_router(gateway, router, topology).await?;
    for host in &topology.hosts {
        let hub = kernel(host.hub());
        let namespace = networks.get(&host.kind).expect("every host has a namespace");
        hub.cable(host.kind.name(), namespace, HOST_END).await?;
        wire_host(kernel(host.kind), host).await?;
        wire_hub(hub, host, topology).await?;
    }
    // Packets to unassigned addresses are dropped, as in a VPC.
    router.blackhole(RouteHeader::RT_TABLE_MAIN.into()).await?;
    kernel(Host::Service).local_addresses_last(AddressFamily::Inet).await?;
    strong_host(gateway, topology).await
}

/// Drops packets to and from these addresses at `host`, as in an outage of their zone, or stops doing so.
pub(super) async fn cut(host: Host, network: &Namespace, addresses: &[IpAddr], dead: bool) -> Result<(), LabError> {
    let kernel = NetworkConfig::of(host, network)?;
    for ip in addresses {
        for towards in [true, false] {
            let rule = kernel.handle.rule().add().priority(CUT_PRIORITY).action(RuleAction::Blackhole);
            let message = match (*ip, towards) {
                (IpAddr::V4(ip), true) => rule.v4().destination_prefix(ip, 32).message_mut().clone(),
                (IpAddr::V4(ip), false) => rule.v4().source_prefix(ip, 32).message_mut().clone(),
                (IpAddr::V6(ip), true) => rule.v6().destination_prefix(ip, 128).message_mut().clone(),
                (IpAddr::V6(ip), false) => rule.v6().source_prefix(ip, 128).message_mut().clone(),
            };
            let done = if dead {
                let mut rule = kernel.handle.rule().add();
                rule.message_mut().clone_from(&message);
                rule.execute().await
            } else {
                kernel.handle.rule().del(message).execute().await
            };
            match done {
                Err(error) if is_errno(&error, if dead { EXISTS } else { MISSING }) => {}
                other => kernel.done(format!("cut off or heal {ip}"), other)?,
            }
        }
    }
    Ok(())
}

async fn join_gateway_and_router(
    gateway: &NetworkConfig,
    router: &NetworkConfig,
    topology: &Topology,
) -> Result<(), LabError> {
    let ours = gateway.index(VPC_SIDE).await?;
    gateway.address(ours, GATEWAY_END, 32).await?;
    for ip in &topology.vpc_side {
        gateway.address(ours, *ip, 32).await?;
    }
    gateway.up(ours).await?;
    gateway.route(Ipv4Net::from(ROUTER_END), ours, None, None).await?;
    for net in &topology.consumer {
        gateway.route(*net, ours, Some(ROUTER_END), None).await?;
    }

    let theirs = router.index("gateway").await?;
    router.address(theirs, ROUTER_END, 32).await?;
    router.up(theirs).await?;
    for ip in topology.vpc_side.iter().chain([&GATEWAY_END]) {
        router.route(Ipv4Net::from(*ip), theirs, None, None).await?;
    }
    Ok(())
}

/// A host's own end: its addresses, and a route through the next hop for everything, including its own subnet, as in a
/// VPC.
async fn wire_host(kernel: &NetworkConfig, host: &HostNet) -> Result<(), LabError> {
    let index = kernel.index(HOST_END).await?;
    for ip in &host.addresses {
        kernel.address(index, *ip, if host.net.contains(ip) { host.net.prefix_len() } else { 32 }).await?;
    }
    kernel.up(index).await?;
    kernel.route(Ipv4Net::from(host.next_hop), index, None, Some(host.address())).await?;
    let everywhere = Ipv4Net::new_assert(ANYWHERE.0, ANYWHERE.1);
    kernel.route(everywhere, index, Some(host.next_hop), Some(host.address())).await
}

/// The other end of a host's link.
async fn wire_hub(hub: &NetworkConfig, host: &HostNet, topology: &Topology) -> Result<(), LabError> {
    let index = hub.index(host.kind.name()).await?;
    hub.address(index, host.next_hop, 32).await?;
    for ip in gateway_addresses(host.kind, topology) {
        hub.address(index, ip, 32).await?;
    }
    hub.up(index).await?;
    if host.kind == Host::Service {
        for net in &topology.service {
            hub.route(*net, index, None, topology.sources.first().copied().or(Some(host.next_hop))).await?;
        }
        return Ok(());
    }
    for ip in &host.addresses {
        hub.route(Ipv4Net::from(*ip), index, None, None).await?;
    }
    Ok(())
}

/// The gateway's addresses on the link of `host`, besides its next hop.
fn gateway_addresses(host: Host, topology: &Topology) -> Vec<Ipv4Addr> {
    let resolver = topology.host(host).and_then(|host| host.resolver);
    match host {
        Host::Internet => topology.public_side.iter().copied().chain(resolver).collect(),
        Host::Azure | Host::Google => {
            topology.clouds.get(&host).into_iter().flatten().copied().chain(resolver).collect()
        }
        Host::InternetB => resolver.into_iter().collect(),
        Host::Service => topology.sources.clone(),
        Host::Vpc | Host::VpcB | Host::Peer | Host::Onprem | Host::Gateway | Host::Router => Vec::new(),
    }
}

/// Restricts the gateway on each link to the addresses that belong there.
async fn strong_host(gateway: &NetworkConfig, topology: &Topology) -> Result<(), LabError> {
    let mut cables = vec![(VPC_SIDE, topology.vpc_side.iter().copied().chain([GATEWAY_END]).collect::<Vec<_>>())];
    for host in topology.hosts.iter().filter(|host| host.hub() == Host::Gateway) {
        let mut own = gateway_addresses(host.kind, topology);
        if host.kind == Host::InternetB {
            own.extend(&topology.public_side);
        }
        if host.kind != Host::Service {
            own.push(GATEWAY_END);
        }
        own.push(host.next_hop);
        cables.push((host.kind.name(), own));
    }
    for (table, (cable, own)) in (FIRST_TABLE..).zip(cables) {
        let index = gateway.index(cable).await?;
        for ip in own {
            gateway.local(ip, index, table).await?;
        }
        gateway.blackhole(table).await?;
        let rule = gateway.handle.rule().add().v4().input_interface(cable).table_id(table).priority(table);
        gateway.done(format!("look up in a table of its own what comes in by {cable}"), {
            rule.action(RuleAction::ToTable).execute().await
        })?;
    }
    // The kernel's own first rule would accept every local address on every link.
    gateway.local_addresses_last(AddressFamily::Inet).await
}

/// One namespace's network configuration.
pub(super) struct NetworkConfig {
    host: Host,
    pub(super) handle: Handle,
}

impl NetworkConfig {
    /// Enters the namespace of `host` and opens a netlink socket in it, which stays valid when the thread leaves.
    pub(super) fn of(host: Host, namespace: &Namespace) -> Result<Self, LabError> {
        namespaces::enter_network(namespace)?;
        let (connection, handle, _) = rtnetlink::new_connection().context(format!("speak netlink in `{host}`"))?;
        tokio::spawn(connection);
        Ok(Self { host, handle })
    }

    /// Overrides settings that a new namespace inherits from the machine.
    ///
    /// The files under /proc/sys/net are those of the current thread's namespace, so the thread must be in this one.
    fn settings(&self, has_ipv6: bool) -> Result<(), LabError> {
        let forward = if self.host == Host::Router { "1" } else { "0" };
        for (name, value) in [
            ("ipv4/ip_forward", forward),
            ("ipv4/conf/all/rp_filter", "1"),
            ("ipv4/conf/default/rp_filter", "1"),
            ("ipv4/conf/all/accept_source_route", "0"),
            ("ipv4/conf/default/accept_source_route", "0"),
            ("ipv4/conf/all/accept_redirects", "0"),
            ("ipv4/conf/default/accept_redirects", "0"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
            ("ipv4/conf/all/route_localnet", "0"),
            ("ipv4/conf/default/route_localnet", "0"),
            // Without IPv6 in the VPC, it is disabled, so that it is no unchecked second path.
            ("ipv6/conf/all/disable_ipv6", if has_ipv6 { "0" } else { "1" }),
            ("ipv6/conf/default/disable_ipv6", if has_ipv6 { "0" } else { "1" }),
            ("ipv6/conf/all/forwarding", forward),
            // Only the lab sets addresses and routes, not router advertisements.
            ("ipv6/conf/default/addr_gen_mode", "1"),
            ("ipv6/conf/all/accept_ra", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            ("ipv6/conf/all/accept_redirects", "0"),
            ("ipv6/conf/default/accept_redirects", "0"),
            ("ipv6/conf/all/accept_source_route", "-1"),
            ("ipv6/conf/default/accept_source_route", "-1"),
        ] {
            let path = PathBuf::from("/proc/sys/net").join(name);
            match fs::write(&path, value) {
                // A kernel without IPv6.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(LabError::File { what: "write", path, source }),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    pub(super) fn done<T>(&self, what: impl Into<String>, result: Result<T, rtnetlink::Error>) -> Result<T, LabError> {
        result.map_err(|source| LabError::Netlink { what: what.into(), host: self.host, source })
    }

    /// Creates a link with one end here, called `name`, and the other in `namespace`.
    async fn cable(&self, name: &str, namespace: &Namespace, far_name: &str) -> Result<(), LabError> {
        let what = || format!("lay the cable {name}");
        self.done(what(), self.handle.link().add(LinkVeth::new(name, far_name).build()).execute().await)?;
        let far = self.index(far_name).await?;
        let moved = LinkUnspec::new_with_index(far).setns_by_fd(namespace.as_raw_fd()).build();
        self.done(what(), self.handle.link().change(moved).execute().await)
    }

    pub(super) async fn index(&self, name: &str) -> Result<u32, LabError> {
        let mut links = self.handle.link().get().match_name(name).execute();
        let found = links.try_next().await;
        let link = self.done(format!("find the interface {name}"), found)?;
        link.map(|link| link.header.index)
            .ok_or_else(|| LabError::NoInterface { name: name.to_owned(), host: self.host })
    }

    async fn up(&self, index: u32) -> Result<(), LabError> {
        let up = LinkUnspec::new_with_index(index).up().build();
        self.done(format!("bring up interface {index}"), self.handle.link().change(up).execute().await)
    }

    /// Moves the kernel's first rule, for all local addresses, behind those of [`strong_host`], [`cut`] and
    /// `ipv6_links`.
    pub(super) async fn local_addresses_last(&self, family: AddressFamily) -> Result<(), LabError> {
        let last = self.handle.rule().add().table_id(LOCAL_TABLE.into()).priority(LOCAL_PRIORITY);
        let mut last = last.action(RuleAction::ToTable);
        last.message_mut().header.family = family;
        self.done(format!("move the rule for local {family:?} addresses behind the others"), last.execute().await)?;
        let mut first = RuleMessage::default();
        first.header.family = family;
        first.header.table = LOCAL_TABLE;
        first.header.action = RuleAction::ToTable;
        self.done(format!("remove the kernel's first {family:?} rule"), self.handle.rule().del(first).execute().await)
    }

    /// Adds an address without the route to its network that the kernel would add, as all routes are explicit.
    async fn address(&self, index: u32, ip: Ipv4Addr, prefix: u8) -> Result<(), LabError> {
        let mut request = self.handle.address().add(index, ip.into(), prefix);
        let message = request.message_mut();
        message.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
        self.done(format!("give the address {ip}/{prefix}"), request.execute().await)
    }

    async fn route(
        &self,
        net: Ipv4Net,
        index: u32,
        next_hop: Option<Ipv4Addr>,
        source: Option<Ipv4Addr>,
    ) -> Result<(), LabError> {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .output_interface(index)
            .scope(if next_hop.is_some() { RouteScope::Universe } else { RouteScope::Link });
        if let Some(ip) = next_hop {
            route = route.gateway(ip);
        }
        if let Some(ip) = source {
            route = route.pref_source(ip);
        }
        self.done(format!("route {net}"), self.handle.route().add(route.build()).execute().await)
    }

    /// Adds an address that is local to this namespace in look-ups of `table`.
    async fn local(&self, ip: Ipv4Addr, index: u32, table: u32) -> Result<(), LabError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(ip, 32)
            .output_interface(index)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .table_id(table);
        self.done(format!("answer to {ip}"), self.handle.route().add(route.build()).execute().await)
    }

    /// Silently drops packets for which `table` has no other route.
    async fn blackhole(&self, table: u32) -> Result<(), LabError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(ANYWHERE.0, ANYWHERE.1)
            .kind(RouteType::BlackHole)
            .table_id(table);
        self.done("drop the rest", self.handle.route().add(route.build()).execute().await)
    }
}

fn is_errno(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == errno)
}
