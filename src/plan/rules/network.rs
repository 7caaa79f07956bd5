//! Rules of the consumer's side: overlapping networks, subnets, security groups, endpoints' addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::super::error::{Findings, Location, RuleError};
use super::super::port_allocations::PortAllocations;
use super::super::survey::{ServiceOwner, Survey, state_of};
use crate::model::{
    Cloud, DnsRecordIpType, EndpointState, InterfaceEndpoint, IpFamily, SubnetId, Vpc, VpcId, VpceId, VpceServiceId,
    Zone,
};

pub(super) fn check(survey: &Survey<'_>, held: &PortAllocations, findings: &mut Findings) {
    check_networks(survey, findings);
    for (id, vpc) in &survey.desired.vpcs {
        if id.cloud() != vpc.region.cloud() {
            let (region, own) = (&vpc.region, id.cloud().map_or("AWS", Cloud::label));
            let rule = format!("{region} is a region of {}, and the network is {own}'s", region.provider());
            findings.refuse(Location::Vpc(id.clone()), rule);
        }
        check_subnets(id, vpc, findings);
        check_groups(id, vpc, findings);
    }
    let mut in_use: BTreeMap<IpAddr, &VpceId> = BTreeMap::new();
    for (id, endpoint) in &survey.desired.endpoints {
        if endpoint.state != EndpointState::Deleted {
            check_endpoint(survey, id, endpoint, &mut in_use, findings);
            check_region(survey, held, endpoint, findings);
        }
    }
}

/// The owner of a network.
#[derive(Clone, Copy)]
enum NetworkOwner<'a> {
    Vpc(&'a VpcId),
    Peered(&'a VpcId),
    OnPremises(&'a VpcId),
    Service(&'a VpceServiceId),
}

impl NetworkOwner<'_> {
    fn words(self) -> String {
        match self {
            Self::Vpc(id) => format!("network of {id}"),
            Self::Peered(id) => format!("network peered with {id}"),
            Self::OnPremises(id) => format!("on-premises network of {id}"),
            Self::Service(id) => format!("network of endpoint service {id}"),
        }
    }

    fn location(self) -> Location {
        match self {
            Self::Vpc(id) | Self::Peered(id) | Self::OnPremises(id) => Location::Vpc(id.clone()),
            Self::Service(id) => Location::Service(id.clone()),
        }
    }
}

/// Why two owners' networks must not overlap; `None` if they may.
fn overlap_reason(a: NetworkOwner<'_>, b: NetworkOwner<'_>) -> Option<&'static str> {
    match (a, b) {
        (NetworkOwner::Service(_), NetworkOwner::Service(_)) => None,
        (NetworkOwner::Service(_), _) | (_, NetworkOwner::Service(_)) => {
            Some("connectivity is one-way, so sources in a service's network are refused everywhere")
        }
        (NetworkOwner::Vpc(a), NetworkOwner::Vpc(b)) if a != b => {
            Some("the gateway distinguishes VPCs by their clients' addresses")
        }
        (NetworkOwner::Vpc(a), NetworkOwner::Peered(b)) | (NetworkOwner::Peered(b), NetworkOwner::Vpc(a)) if a == b => {
            Some("VPCs with overlapping networks cannot be peered")
        }
        _ => None,
    }
}

/// Link-local and multicast addresses (RFC 4291): they mean another host on every link, so they identify none.
const OF_ONE_LINK: [Ipv6Net; 2] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

fn check_networks(survey: &Survey<'_>, findings: &mut Findings) {
    let mut nets: Vec<(IpNet, NetworkOwner<'_>)> = Vec::new();
    for (id, vpc) in &survey.desired.vpcs {
        nets.extend(vpc.cidrs.iter().map(|net| (*net, NetworkOwner::Vpc(id))));
        nets.extend(vpc.peered.iter().map(|net| (*net, NetworkOwner::Peered(id))));
        nets.extend(vpc.on_premises.iter().map(|net| (*net, NetworkOwner::OnPremises(id))));
    }
    for (id, provider) in &survey.providers {
        nets.extend(provider.cidrs().iter().map(|net| (*net, NetworkOwner::Service(id))));
    }
    let is_of_one_link =
        |net: &IpNet| OF_ONE_LINK.iter().map(|own| IpNet::V6(*own)).any(|own| own.contains(net) || net.contains(&own));
    for (net, owner) in nets.iter().filter(|(net, _)| is_of_one_link(net)) {
        let rule = format!(
            "{} {net} is link-local or multicast, whose addresses identify no host; use one of 2000::/3 or fc00::/7",
            owner.words()
        );
        findings.refuse(owner.location(), rule);
    }
    for ((outer, outers), (inner, inners)) in overlaps(nets) {
        // As in AWS, VPCs may overlap, but here not if both have endpoints, as clients of both could reach all of them.
        if let (NetworkOwner::Vpc(a), NetworkOwner::Vpc(b)) = (outers, inners)
            && !(survey.has_endpoints(a) && survey.has_endpoints(b))
        {
            continue;
        }
        let Some(why) = overlap_reason(outers, inners) else { continue };
        // The consumer's network is named first, as it is the one that the user can change.
        let ((own, owns), (other, others)) = if matches!(inners, NetworkOwner::Service(_)) {
            ((outer, outers), (inner, inners))
        } else {
            ((inner, inners), (outer, outers))
        };
        let (own_kind, other_kind) = (owns.words(), others.words());
        findings.refuse(owns.location(), RuleError::NetworksOverlap { own_kind, own, other_kind, other, why });
    }
}

/// Every pair of overlapping networks, the outer one first.
///
/// Networks are nested or disjoint, so a walk in order of address, with the enclosing ones on a stack, finds all pairs
/// without comparing each with each.
fn overlaps<T: Copy>(mut nets: Vec<(IpNet, T)>) -> Vec<((IpNet, T), (IpNet, T))> {
    nets.sort_by_key(|(net, _)| (net.network(), net.prefix_len()));
    let mut enclosing: Vec<(IpNet, T)> = Vec::new();
    let mut pairs = Vec::new();
    for inner in nets {
        while enclosing.pop_if(|(outer, _)| !outer.contains(&inner.0)).is_some() {}
        pairs.extend(enclosing.iter().map(|outer| (*outer, inner)));
        enclosing.push(inner);
    }
    pairs
}

fn check_subnets(id: &VpcId, vpc: &Vpc, findings: &mut Findings) {
    let at = || Location::Vpc(id.clone());
    for (subnet, details) in &vpc.subnets {
        for cidr in details.cidrs().filter(|cidr| !vpc.cidrs.covers(cidr)) {
            let networks = vpc.cidrs.to_string();
            findings.refuse(at(), RuleError::SubnetOutsideVpc { subnet: subnet.clone(), cidr, networks });
        }
        if details.zone.region() != vpc.region {
            let (zone, region) = (details.zone.clone(), vpc.region.clone());
            findings.refuse(at(), RuleError::SubnetOutsideRegion { subnet: subnet.clone(), zone, region });
        }
    }
    let networks = vpc.subnets.iter().flat_map(|(id, subnet)| subnet.cidrs().map(move |cidr| (cidr, id)));
    for ((outer, other), (inner, own)) in overlaps(networks.collect()) {
        let words = |id: &SubnetId| format!("subnet {id}");
        findings.refuse(
            at(),
            RuleError::NetworksOverlap {
                own_kind: words(own),
                own: inner,
                other_kind: words(other),
                other: outer,
                why: "subnets of a VPC are apart",
            },
        );
    }
}

fn check_groups(id: &VpcId, vpc: &Vpc, findings: &mut Findings) {
    for (group, details) in &vpc.security_groups {
        for missing in details.ingress.iter().chain(&details.egress).flat_map(|rule| &rule.groups) {
            if !vpc.security_groups.contains_key(missing) {
                let rule = RuleError::UnknownGroupInRule { group: group.clone(), missing: missing.clone() };
                findings.refuse(Location::Vpc(id.clone()), rule);
            }
        }
    }
}

fn check_endpoint<'a>(
    survey: &Survey<'_>,
    id: &'a VpceId,
    endpoint: &InterfaceEndpoint,
    in_use: &mut BTreeMap<IpAddr, &'a VpceId>,
    findings: &mut Findings,
) {
    let location = Location::Endpoint(id.clone());
    let provider = survey.providers.get(endpoint.service.service());
    match provider {
        Some(provider) if provider.region() == endpoint.service.region() => {}
        _ => findings.refuse(location.clone(), RuleError::NoSuchService(endpoint.service.clone())),
    }
    let suffix = endpoint.dns_suffix.as_bytes();
    let fits = suffix.len() == 8 && suffix.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if id.cloud().is_none() && !fits {
        let rule = format!(
            "`{}` is not valid in the endpoint's DNS names; write eight lower-case letters and digits, as `ypwbxwll`",
            endpoint.dns_suffix
        );
        findings.refuse(location.clone(), rule);
    }
    for address in &endpoint.addresses {
        if let Some(by) = in_use.insert(address.ip, id) {
            findings.refuse(location.clone(), RuleError::AddressInUse { ip: address.ip, by: by.clone() });
        }
    }
    let cloud = id.cloud();
    if let Some(cloud) = cloud.filter(|_| endpoint.addresses.len() != 1) {
        let (product, count) = (cloud.product(), endpoint.addresses.len());
        let rule = format!("a private endpoint of {product} has one address, and this one has {count}");
        findings.refuse(location.clone(), rule);
    }
    if cloud.is_none() && endpoint.addresses.is_empty() && state_of(endpoint) == EndpointState::Failed {
        findings.note(
            &location,
            format_args!(
                "No dns entries found for endpoint {id}, your endpoint must be provisioned in at least one subnet. \
                 Click \"Edit\" to fix the problem."
            ),
        );
    }
    if cloud.is_none() && endpoint.security_groups.is_empty() {
        findings.note(&location, "it has no security group, so it admits no connection");
    }

    let Some(vpc) = survey.desired.vpcs.get(&endpoint.vpc) else {
        findings.refuse(location, RuleError::Unknown { what: "VPC", id: endpoint.vpc.to_string() });
        return;
    };
    check_addresses(&location, vpc, endpoint, findings);
    if cloud.is_none() {
        check_ip_types(&location, provider.copied(), vpc, endpoint, findings);
    }
    for group in &endpoint.security_groups {
        if !vpc.security_groups.contains_key(group) {
            let rule = RuleError::Unknown { what: "security group", id: group.to_string() };
            findings.refuse(location.clone(), rule);
        }
    }
}

/// Checks an endpoint whose VPC is in another region than its service. The service's owner decides which regions are
/// supported; an accepted endpoint stays when its region is removed from the list. Source: AWS PrivateLink, *Configure
/// an endpoint service*.
fn check_region(survey: &Survey<'_>, held: &PortAllocations, endpoint: &InterfaceEndpoint, findings: &mut Findings) {
    let provider = survey.providers.get(endpoint.service.service());
    let Some((provider, vpc)) = provider.zip(survey.desired.vpcs.get(&endpoint.vpc)) else { return };
    if *provider.region() == vpc.region {
        return;
    }
    let at = || Location::Endpoint(endpoint.id.clone());
    let is_held = held.indexes.contains_key(&endpoint.id);
    if endpoint.registered && !is_held && !provider.supports(&vpc.region) {
        let (vpc, service) = (vpc.region.clone(), endpoint.service.clone());
        findings.refuse(at(), RuleError::UnsupportedRegion { vpc, service });
    }
    for address in endpoint.addresses.iter().filter(|address| !address.zone.has_cross_region_access()) {
        let (zone, subnet) = (&address.zone, &address.subnet);
        let rule = format!(
            "subnet {subnet} is in {zone} ({}), which has no cross-region access; choose a subnet in another zone",
            zone.id()
        );
        findings.refuse(at(), rule);
    }
}

fn check_addresses(location: &Location, vpc: &Vpc, endpoint: &InterfaceEndpoint, findings: &mut Findings) {
    let mut zones: BTreeMap<(&Zone, IpFamily), &SubnetId> = BTreeMap::new();
    for address in &endpoint.addresses {
        let Some(subnet) = vpc.subnets.get(&address.subnet) else {
            let rule = RuleError::Unknown { what: "subnet", id: address.subnet.to_string() };
            findings.refuse(location.clone(), rule);
            continue;
        };
        if subnet.zone != address.zone {
            let (ip, zone, id, actual) = (address.ip, &address.zone, &address.subnet, &subnet.zone);
            let rule = format!("address {ip} is said to be in {zone}, but subnet {id} is in {actual}");
            findings.refuse(location.clone(), rule);
        }
        let (family, zone) = (IpFamily::of(address.ip), &subnet.zone);
        let others = IpFamily::ALL.into_iter().filter_map(|family| zones.get(&(zone, family)));
        let other = others.copied().find(|other| **other != address.subnet);
        if let Some(first) = zones.insert((zone, family), &address.subnet).or(other) {
            let (first, second, zone) = (first.clone(), address.subnet.clone(), subnet.zone.clone());
            findings.refuse(location.clone(), RuleError::DuplicateSubnetsInSameZone { first, second, zone });
        }
        if !subnet.cidrs().any(|cidr| cidr.contains(&address.ip)) {
            let cidr = subnet.cidr_of(family).unwrap_or(subnet.cidr);
            let (ip, subnet_id) = (address.ip, address.subnet.clone());
            findings.refuse(location.clone(), RuleError::AddressOutsideSubnet { ip, subnet: subnet_id, cidr });
        }
    }
}

/// The requirements of an endpoint's `IpAddressType` on its service, subnets, addresses and records. Source: AWS
/// PrivateLink, *Create an interface endpoint* and *Create a service powered by AWS PrivateLink*.
fn check_ip_types(
    location: &Location,
    provider: Option<ServiceOwner<'_>>,
    vpc: &Vpc,
    endpoint: &InterfaceEndpoint,
    findings: &mut Findings,
) {
    let (wanted, records) = (endpoint.ip_address_type, endpoint.dns_record_ip_type);
    if let Some(supported) = provider.map(ServiceOwner::ip_address_types).filter(|own| !own.includes(wanted)) {
        let service = endpoint.service.clone();
        findings.refuse(location.clone(), RuleError::UnsupportedIpAddressType { wanted, service, supported });
    }
    if !records.fits(wanted) {
        let fitting = DnsRecordIpType::ALL.iter().filter(|own| own.fits(wanted)).map(|own| own.label());
        let rule = format!(
            "DNS record IP type {} does not fit IP address type {}, with which it is {}",
            records.label(),
            wanted.label(),
            fitting.collect::<Vec<_>>().join(", ")
        );
        findings.refuse(location.clone(), rule);
    }
    for interface in endpoint.interfaces() {
        let Some(subnet) = vpc.subnets.get(&interface.subnet) else { continue };
        let id = &interface.subnet;
        if !subnet.supports_endpoint(wanted) {
            let has = subnet.ip_address_type();
            findings.refuse(location.clone(), RuleError::SubnetIpAddressType { subnet: id.clone(), wanted, has });
            continue;
        }
        for family in IpFamily::ALL {
            let own = endpoint.addresses.iter().filter(|address| address.eni == interface.eni);
            let count = own.filter(|address| IpFamily::of(address.ip) == family).count();
            if count != usize::from(wanted.has(family)) {
                let rule = format!(
                    "an endpoint of IP address type {} has {} {} address in each subnet, and this one has {count} in subnet \
                     {id}",
                    wanted.label(),
                    if wanted.has(family) { "one" } else { "no" },
                    family.name()
                );
                findings.refuse(location.clone(), rule);
            }
        }
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
