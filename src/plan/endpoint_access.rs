//! Access rules of interface endpoints: resolves security groups to networks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::snapshot::{ClientGroup, EndpointAccess, ResolvedRule, SecurityRules};
use super::survey::{Survey, state_of};
use crate::model::{
    CidrSet, DnsName, EndpointAddress, EndpointState, InterfaceEndpoint, PortRange, PortRule, SecurityGroupId, Vpc,
    VpcId, VpceId,
};

/// The access rules of every endpoint that hasn't been removed.
pub(super) fn endpoint_access(survey: &Survey<'_>) -> BTreeMap<VpceId, Arc<EndpointAccess>> {
    let group_members = group_members(survey);
    let mut clients: BTreeMap<&VpcId, Vec<ClientGroup>> = BTreeMap::new();
    let mut endpoint_access = BTreeMap::new();
    for (id, endpoint) in &survey.desired.endpoints {
        let Some(vpc) = survey.desired.vpcs.get(&endpoint.vpc) else { continue };
        if endpoint.state == EndpointState::Deleted {
            continue;
        }
        let clients = clients.entry(&endpoint.vpc).or_insert_with(|| client_groups(&endpoint.vpc, vpc, &group_members));
        let access = EndpointAccess {
            id: id.clone(),
            vpc: endpoint.vpc.clone(),
            service: endpoint.service.clone(),
            state: state_of(endpoint),
            addresses: addresses(endpoint),
            regional_name: regional_name(endpoint),
            vpc_cidrs: vpc.cidrs.clone(),
            peered: vpc.peered.clone(),
            on_premises: vpc.on_premises.clone(),
            rules: SecurityRules { ingress: ingress(endpoint, vpc, &group_members), clients: clients.clone() },
        };
        endpoint_access.insert(id.clone(), Arc::new(access));
    }
    endpoint_access
}

/// `vpce-ID-SUFFIX.vpce-svc-ID.REGION.vpce.amazonaws.com`; endpoints in Azure and Google Cloud have only Atlas' names.
fn regional_name(endpoint: &InterfaceEndpoint) -> Option<DnsName> {
    if endpoint.id.cloud().is_some() {
        return None;
    }
    let (service, region) = (endpoint.service.service(), endpoint.service.region());
    format!("{}-{}.{service}.{region}.vpce.amazonaws.com", endpoint.id, endpoint.dns_suffix).parse().ok()
}

fn addresses(endpoint: &InterfaceEndpoint) -> Vec<EndpointAddress> {
    let mut addresses = endpoint.addresses.clone();
    addresses.sort_by(|a, b| a.zone.cmp(&b.zone));
    addresses
}

/// The members of each security group: instances, and interfaces of endpoints.
type GroupMembers<'a> = BTreeMap<(&'a VpcId, &'a SecurityGroupId), CidrSet>;

fn group_members<'a>(survey: &Survey<'a>) -> GroupMembers<'a> {
    let mut interfaces: BTreeMap<(&VpcId, &SecurityGroupId), Vec<_>> = BTreeMap::new();
    for endpoint in survey.desired.endpoints.values() {
        for group in &endpoint.security_groups {
            let nets = endpoint.addresses.iter().map(|address| ipnet::IpNet::from(address.ip));
            interfaces.entry((&endpoint.vpc, group)).or_default().extend(nets);
        }
    }
    let mut group_members = GroupMembers::new();
    for (id, vpc) in &survey.desired.vpcs {
        for (group, details) in &vpc.security_groups {
            let own = interfaces.remove(&(id, group)).unwrap_or_default();
            group_members.insert((id, group), details.members.iter().copied().chain(own).collect());
        }
    }
    group_members
}

/// An endpoint in Azure or Google Cloud has no security groups, so every client with a permitted origin is admitted. Source: Azure,
/// *What is a private endpoint?*, network security; Google, *About accessing published services*: egress rules alone.
fn ingress(endpoint: &InterfaceEndpoint, vpc: &Vpc, group_members: &GroupMembers<'_>) -> Vec<ResolvedRule> {
    if endpoint.id.cloud().is_some() {
        return vec![ResolvedRule { ports: PortRange::atlas(), cidrs: CidrSet::everywhere() }];
    }
    let groups = endpoint.security_groups.iter().filter_map(|group| vpc.security_groups.get(group));
    groups.flat_map(|group| &group.ingress).map(|rule| resolve(&endpoint.vpc, rule, group_members)).collect()
}

/// Every security group with members, with its egress rules.
fn client_groups(id: &VpcId, vpc: &Vpc, group_members: &GroupMembers<'_>) -> Vec<ClientGroup> {
    let carried = vpc.security_groups.values().filter(|group| !group.members.is_empty());
    let groups = carried.map(|group| ClientGroup {
        members: group.members.clone(),
        egress: group.egress.iter().map(|rule| resolve(id, rule, group_members)).collect(),
    });
    groups.collect()
}

fn resolve(vpc: &VpcId, rule: &PortRule, group_members: &GroupMembers<'_>) -> ResolvedRule {
    let named = rule.groups.iter().filter_map(|group| group_members.get(&(vpc, group))).flat_map(CidrSet::iter);
    ResolvedRule { ports: rule.ports, cidrs: rule.cidrs.iter().chain(named).copied().collect() }
}
