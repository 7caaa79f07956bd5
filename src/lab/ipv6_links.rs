//! IPv6 in the lab, in addition to `links`: addresses, routes and rules of a VPC with IPv6.
//!
//! One-way connectivity is enforced as for IPv4, although the kernel has no `rp_filter` for IPv6:
//!
//! - the gateway forwards nothing;
//! - packets to an endpoint's address by another link than the router's are dropped before the kernel's look-up of local
//!   addresses;
//! - the router forwards from a host's link only packets from that host's own address, so no host can use another's.
//!
//! Neighbours have link-local addresses, one at each end of a link. No host accepts router advertisements or redirects
//! (`links` sets that), so no host can become another's next hop.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::route::{RouteHeader, RouteType};
use rtnetlink::packet_route::rule::RuleAction;

use super::links::{FIRST_TABLE, HOST_END, NetworkConfig, VPC_SIDE};
use super::namespaces::Namespace;
use super::topology::{Ipv6, Topology};
use super::{Host, LabError};

/// The two ends of a link: the hub's, which is the next hop of the other, and the leaf's. Between router and gateway
/// the router is the hub.
const HUB: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const LEAF: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// Every address: `::/0`.
const EVERYWHERE: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0);

/// Adds IPv6 to the namespaces that `links` has connected. Leaves the calling thread in one of them.
pub(super) async fn wire(
    ipv6: &Ipv6,
    topology: &Topology,
    networks: &BTreeMap<Host, Namespace>,
) -> Result<(), LabError> {
    let kernel = |host: Host| NetworkConfig::of(host, networks.get(&host).expect("every host has a namespace"));
    let (gateway, router) = (kernel(Host::Gateway)?, kernel(Host::Router)?);

    let (ours, theirs) = (gateway.index(VPC_SIDE).await?, router.index("gateway").await?);
    link_local(&gateway, ours, LEAF).await?;
    link_local(&router, theirs, HUB).await?;
    for ip in &ipv6.endpoints {
        address(&gateway, ours, *ip).await?;
        route(&router, Ipv6Net::from(*ip), theirs, LEAF).await?;
    }
    for net in &ipv6.consumer {
        route(&gateway, *net, ours, HUB).await?;
    }
    // Packets to unassigned addresses are dropped, as in a VPC.
    let nowhere = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(EVERYWHERE.addr(), EVERYWHERE.prefix_len())
        .kind(RouteType::BlackHole)
        .table_id(RouteHeader::RT_TABLE_MAIN.into());
    router.done("drop the rest", router.handle.route().add(nowhere.build()).execute().await)?;

    let mut priority = FIRST_TABLE;
    for host in &topology.hosts {
        let hub = if host.hub() == Host::Gateway { &gateway } else { &router };
        let cable = host.kind.name();
        let own = ipv6.hosts.get(&host.kind).copied();
        if let Some(ip) = own {
            let (near, leaf) = (hub.index(cable).await?, kernel(host.kind)?);
            let far = leaf.index(HOST_END).await?;
            link_local(hub, near, HUB).await?;
            link_local(&leaf, far, LEAF).await?;
            address(&leaf, far, ip).await?;
            route(&leaf, EVERYWHERE, far, HUB).await?;
            route(hub, Ipv6Net::from(ip), near, LEAF).await?;
        }
        let rule = || hub.handle.rule().add().v6().input_interface(cable);
        if host.hub() == Host::Gateway {
            for ip in &ipv6.endpoints {
                let rule = rule().destination_prefix(*ip, 128).action(RuleAction::Blackhole).priority(priority);
                hub.done(format!("keep {ip} from {cable}"), rule.execute().await)?;
            }
        } else {
            if let Some(ip) = own {
                let main = rule().source_prefix(ip, 128).action(RuleAction::ToTable);
                let main = main.table_id(RouteHeader::RT_TABLE_MAIN.into()).priority(priority);
                hub.done(format!("forward what {ip} sends"), main.execute().await)?;
            }
            let rest = rule().action(RuleAction::Blackhole).priority(priority + 1);
            hub.done(format!("drop what else {cable} sends"), rest.execute().await)?;
        }
        priority += 2;
    }
    gateway.local_addresses_last(AddressFamily::Inet6).await
}

/// Adds a link's end. The kernel adds the route to the other end.
async fn link_local(kernel: &NetworkConfig, index: u32, ip: Ipv6Addr) -> Result<(), LabError> {
    add(kernel, index, ip, 64, AddressFlags::Nodad).await
}

/// Adds an address without the route to its network, as all routes are explicit.
async fn address(kernel: &NetworkConfig, index: u32, ip: Ipv6Addr) -> Result<(), LabError> {
    add(kernel, index, ip, 128, AddressFlags::Nodad | AddressFlags::Noprefixroute).await
}

/// Without duplicate address detection (`Nodad`), so that an address can be bound at once: both ends of the link are
/// known.
async fn add(
    kernel: &NetworkConfig,
    index: u32,
    ip: Ipv6Addr,
    prefix: u8,
    flags: AddressFlags,
) -> Result<(), LabError> {
    let mut request = kernel.handle.address().add(index, ip.into(), prefix);
    request.message_mut().attributes.push(AddressAttribute::Flags(flags));
    kernel.done(format!("give the address {ip}/{prefix}"), request.execute().await)
}

async fn route(kernel: &NetworkConfig, net: Ipv6Net, index: u32, next_hop: Ipv6Addr) -> Result<(), LabError> {
    let route = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(net.network(), net.prefix_len())
        .output_interface(index)
        .gateway(next_hop);
    kernel.done(format!("route {net}"), kernel.handle.route().add(route.build()).execute().await)
}
