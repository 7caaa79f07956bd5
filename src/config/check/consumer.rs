//! The consumer's VPCs with their subnets and security groups.

use std::collections::HashSet;

use ipnet::IpNet;

use super::clouds::aws_id;
use super::declared::{Declared, DeclaredSubnet, DeclaredVpc, NetworkSide, required_networks};
use super::networks::NetworkMap;
use super::{cidr_set, values};
use crate::config::raw::{Located, Section};
use crate::config::value::{aws_region, boolean, ipv6_network, network, non_empty_text, parsed, zone};
use crate::model::{
    CidrSet, PortRange, PortRule, Region, SecurityGroup, SecurityGroupId, Subnet, SubnetId, Vpc, VpcId,
};

/// One `[[vpc]]`.
pub(super) fn vpc(section: &Section<'_>, declared: &mut Declared) -> Option<Vpc> {
    let problems = section.problems;
    let index = declared.next_vpc();
    let id = section.required("id", aws_id::<VpcId>(VpcId::cloud));
    let region = section.required("region", aws_region);
    let before = problems.count();
    let cidrs = required_networks(section, "cidrs", "a VPC has one network at least");
    let cidrs_readable = problems.count() == before;
    let peered = section.list("peered", network).unwrap_or_default();
    let on_premises = section.list("on_premises", network).unwrap_or_default();
    if let Some(id) = &id {
        declared.unique(problems, "VPC id", &id.value, &id.location);
        declared.vpcs.entry(id.value.clone()).or_default();
    }
    declared.networks(NetworkSide::Vpc(index), &cidrs);
    declared.networks(NetworkSide::Joined(index), &peered);
    declared.networks(NetworkSide::Joined(index), &on_premises);

    let mut within = NetworkMap::default();
    cidrs.iter().for_each(|cidr| within.insert(cidr.value, ()));
    let mut place = SubnetContext {
        subnets: NetworkMap::default(),
        vpc: id.as_ref().map(|id| &id.value),
        region: region.as_ref().map(|region| &region.value),
        cidrs: cidrs_readable.then(|| (within, &cidrs[..cidrs.len().min(MAX_SHOWN)])),
    };
    let subnets = section.tables("subnet", |found| subnet(found, &mut place, declared));
    let groups = security_groups(section, place.vpc, declared);
    Some(Vpc {
        cidrs: cidr_set(&cidrs),
        peered: cidr_set(&peered),
        on_premises: cidr_set(&on_premises),
        // AWS's defaults for a VPC that is not the account's default one.
        enable_dns_support: section.or("enable_dns_support", true, boolean),
        enable_dns_hostnames: section.or("enable_dns_hostnames", false, boolean),
        subnets: subnets.into_iter().flatten().map(|subnet| (subnet.id.clone(), subnet)).collect(),
        security_groups: groups.into_iter().map(|group| (group.id.clone(), group)).collect(),
        id: id?.value,
        region: region?.value,
    })
}

/// The context for checking a subnet; `None` if the VPC's own value was invalid.
struct SubnetContext<'a> {
    vpc: Option<&'a VpcId>,
    region: Option<&'a Region>,
    /// All of the VPC's networks, and those to name in a message.
    cidrs: Option<(NetworkMap<()>, &'a [Located<IpNet>])>,
    /// The earlier subnets.
    subnets: NetworkMap<IpNet>,
}

/// Maximum number of networks in a message.
const MAX_SHOWN: usize = 8;

fn subnet(section: &Section<'_>, place: &mut SubnetContext<'_>, declared: &mut Declared) -> Option<Subnet> {
    let problems = section.problems;
    let id = section.required("id", parsed::<SubnetId>);
    let zone = section.required("zone", zone);
    let ipv6 = section.get("ipv6_cidr", ipv6_network);
    let is_needed = !section.is_present("ipv6_cidr");
    let cidr = if is_needed { section.required("cidr", network) } else { section.get("cidr", network) };
    if let (Some(cidr), Some(ipv6)) = (&cidr, &ipv6)
        && cidr.value.addr().is_ipv6()
    {
        problems.report(&ipv6.location, format!("`cidr`, `{}`, is IPv6 already; leave one of them out", cidr.value));
    }
    if let (Some(zone), Some(region)) = (&zone, place.region)
        && zone.value.region() != *region
    {
        problems.report(&zone.location, format!("`{}` is not in the VPC's region `{region}`", zone.value));
    }
    let cidrs: Vec<Located<IpNet>> =
        cidr.clone().into_iter().chain(ipv6.as_ref().map(|ipv6| ipv6.map(|net| IpNet::V6(*net)))).collect();
    for cidr in &cidrs {
        if let Some((own, shown)) = &place.cidrs
            && own.enclosing(cidr.value).is_none()
        {
            let message = format!("`{}` is outside the VPC's networks ({})", cidr.value, cidr_set(shown));
            problems.report(&cidr.location, message);
        }
        if let Some(other) = place.subnets.overlapping(cidr.value) {
            problems
                .report(&cidr.location, format!("`{}` overlaps `{other}` of another subnet of the VPC", cidr.value));
        }
        place.subnets.insert(cidr.value, cidr.value);
    }
    if let Some(id) = &id {
        declared.unique(problems, "subnet id", &id.value, &id.location);
        let facts = DeclaredSubnet {
            vpc: place.vpc.cloned(),
            zone: zone.as_ref().map(|zone| zone.value.clone()),
            cidrs: cidrs.iter().map(|cidr| cidr.value).collect(),
        };
        declared.subnets.entry(id.value.clone()).or_insert(facts);
    }
    Some(Subnet {
        id: id?.value,
        zone: zone?.value,
        cidr: cidrs.first()?.value,
        ipv6_cidr: cidr.and(ipv6).map(|ipv6| ipv6.value),
    })
}

/// The security groups of one VPC. Rules may refer to later groups, so references are checked at the end.
fn security_groups(section: &Section<'_>, vpc: Option<&VpcId>, declared: &mut Declared) -> Vec<SecurityGroup> {
    let mut own = DeclaredVpc::default();
    let mut names = HashSet::new();
    let mut named: Vec<Located<SecurityGroupId>> = Vec::new();
    let groups = section.tables("security_group", |group| {
        let id = group.required("id", parsed::<SecurityGroupId>);
        let name = group.required("name", non_empty_text);
        let members = group.list("members", network).unwrap_or_default();
        let ingress = group.tables("ingress", |found| rule(found, &mut named));
        let egress = group.optional_tables("egress", |found| rule(found, &mut named));
        if let Some(id) = &id {
            declared.unique(group.problems, "security group id", &id.value, &id.location);
            own.groups.entry(id.value.clone()).or_insert_with(|| name.as_ref().map(|name| name.value.clone()));
        }
        if let Some(name) = &name
            && !names.insert(name.value.clone())
        {
            group.problems.report(&name.location, format!("`{}` is the name of another group of this VPC", name.value));
        }
        Some(SecurityGroup {
            members: cidr_set(&members),
            ingress: ingress.into_iter().flatten().collect(),
            egress: egress.map_or_else(allow_everything, |rules| rules.into_iter().flatten().collect()),
            id: id?.value,
            name: name?.value,
        })
    });
    for group in named {
        if !own.groups.contains_key(&group.value) {
            let message = format!("no `[[vpc.security_group]]` of this VPC has the id `{}`", group.value);
            section.problems.report(&group.location, message);
        }
    }
    if let Some(declared) = vpc.and_then(|vpc| declared.vpcs.get_mut(vpc)) {
        declared.groups.extend(own.groups);
    }
    groups.into_iter().flatten().collect()
}

fn rule(section: &Section<'_>, named: &mut Vec<Located<SecurityGroupId>>) -> Option<PortRule> {
    let before = section.problems.count();
    let ports = section.required("ports", parsed::<PortRange>);
    let cidrs = section.list("cidrs", network).unwrap_or_default();
    let groups = section.list("groups", parsed::<SecurityGroupId>).unwrap_or_default();
    if cidrs.is_empty() && groups.is_empty() && section.problems.count() == before {
        section.problems.report(&section.location, "the rule names no peer; give it `cidrs` or `groups`");
    }
    named.extend(groups.iter().cloned());
    Some(PortRule { ports: ports?.value, cidrs: cidr_set(&cidrs), groups: values(groups) })
}

/// The egress rules of a new security group: all traffic. Source: AWS, *Security group rules*.
fn allow_everything() -> Vec<PortRule> {
    let ports = PortRange::new(1, 65_535).expect("1 to 65535 is a range");
    vec![PortRule { ports, cidrs: CidrSet::everywhere(), groups: Vec::new() }]
}
