//! VPCs with the attributes that EC2 shows, and the part that the plan needs.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::security_rules::{Protocol, RulePeer, RuleRecord, RuleTerms};
use super::state::Tags;
use crate::model::{
    CidrSet, Direction, IpFamily, PortRange, PortRule, SecurityGroupId, SecurityRuleId, Subnet, SubnetId, Vpc,
    derived_digits,
};

/// A VPC with its EC2 attributes, and those of its subnets and groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcRecord {
    /// The VPC.
    pub vpc: Vpc,
    /// Tags by resource id: the VPC's own, its subnets', its groups'.
    pub tags: BTreeMap<String, Tags>,
    /// Descriptions of its groups.
    pub descriptions: BTreeMap<SecurityGroupId, String>,
    /// The rules of its groups; the groups in `vpc` have none, see `planned_vpc`.
    #[serde(default)]
    pub rules: BTreeMap<SecurityGroupId, Vec<RuleRecord>>,
    /// Changed attributes of its subnets.
    #[serde(default)]
    pub subnet_attributes: BTreeMap<SubnetId, SubnetAttributes>,
    /// `enableNetworkAddressUsageMetrics`; without effect.
    #[serde(default)]
    pub usage_metrics: bool,
}

/// Attributes of a subnet that concern instances. There are no instances, so they have no effect. Source: Amazon EC2
/// API Reference, *ModifySubnetAttribute*.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetAttributes {
    /// Instances get a public IPv4 address.
    pub map_public_ip_on_launch: bool,
    /// The DNS resolver synthesizes IPv6 addresses for names with IPv4 addresses only.
    pub enable_dns64: bool,
    /// Host names of instances contain their id (`resource-name`), not their address (`ip-name`).
    pub resource_names: bool,
    /// DNS answers such names with A records.
    pub resource_name_a_record: bool,
    /// DNS answers such names with AAAA records.
    pub resource_name_aaaa_record: bool,
    /// Instances get an IPv6 address.
    #[serde(default)]
    pub assign_ipv6_address_on_creation: bool,
}

/// The association id of a VPC's or a subnet's IPv6 network. Derived from their ids, so it is not saved.
fn association_id(kind: &str, of: &impl std::fmt::Display, net: Ipv6Net) -> String {
    format!("{kind}-cidr-assoc-0{}", &derived_digits(&format!("{of}/{net}"))[..16])
}

/// A subnet's IPv6 network with its association id; `None`: it has none.
#[must_use]
pub fn ipv6_association_of(subnet: &Subnet) -> Option<(String, Ipv6Net)> {
    match subnet.cidr_of(IpFamily::Ipv6)? {
        IpNet::V6(net) => Some((association_id("subnet", &subnet.id, net), net)),
        IpNet::V4(_) => None,
    }
}

impl VpcRecord {
    /// A VPC with the rules of its groups, and default attributes.
    #[must_use]
    pub fn new(vpc: Vpc) -> Self {
        let mut record = Self {
            vpc,
            tags: BTreeMap::new(),
            descriptions: BTreeMap::new(),
            rules: BTreeMap::new(),
            subnet_attributes: BTreeMap::new(),
            usage_metrics: false,
        };
        record.adopt_rules();
        record
    }

    /// The VPC's IPv6 networks, with their association ids.
    #[must_use]
    pub fn ipv6_associations(&self) -> Vec<(String, Ipv6Net)> {
        let of_net = |net: &IpNet| match net {
            IpNet::V6(net) => Some((association_id("vpc", &self.vpc.id, *net), *net)),
            IpNet::V4(_) => None,
        };
        self.vpc.cidrs.iter().filter_map(of_net).collect()
    }

    /// Whether the VPC, or a subnet, a group, a rule or an association of an IPv6 network in it, has this id.
    pub(in super::super) fn has_resource(&self, id: &str) -> bool {
        let vpc = &self.vpc;
        vpc.id.as_str() == id
            || vpc.subnets.keys().any(|subnet| subnet.as_str() == id)
            || vpc.security_groups.keys().any(|group| group.as_str() == id)
            || self.rules.values().flatten().any(|rule| rule.id.as_str() == id)
            || self.ipv6_associations().iter().any(|(own, _)| own == id)
            || vpc.subnets.values().filter_map(ipv6_association_of).any(|(own, _)| own == id)
    }
}

impl VpcRecord {
    /// The rules of a group, in the order of their addition.
    pub fn rules_of(&self, group: &SecurityGroupId) -> &[RuleRecord] {
        self.rules.get(group).map_or(&[], Vec::as_slice)
    }

    /// Takes the rules from the groups of a config, or of a state that an earlier version saved: each network and each
    /// group becomes a separate rule, with an id derived from its content.
    pub(super) fn adopt_rules(&mut self) {
        for (id, group) in &mut self.vpc.security_groups {
            let sides = [(Direction::Ingress, &mut group.ingress), (Direction::Egress, &mut group.egress)];
            for (direction, rules) in sides {
                let own = self.rules.entry(id.clone()).or_default();
                for rule in std::mem::take(rules) {
                    let (first, last) = (i32::from(rule.ports.first().get()), i32::from(rule.ports.last().get()));
                    // The config has TCP only: all its ports mean all traffic.
                    let (protocol, ports) = match (first, last) {
                        (1, 65_535) => (Protocol::All, None),
                        ports => (Protocol::Tcp, Some(ports)),
                    };
                    let nets = rule.cidrs.iter().copied().map(RulePeer::Network);
                    for peer in nets.chain(rule.groups.into_iter().map(RulePeer::Group)) {
                        let terms = RuleTerms { protocol, ports, peer };
                        if !own.iter().any(|known| known.direction == direction && known.terms == terms) {
                            let id = derived_rule_id(&format!("{id}/{direction:?}/{terms}"));
                            own.push(RuleRecord { id, direction, terms, description: None });
                        }
                    }
                }
            }
        }
    }

    /// The VPC for the plan: with its groups' rules for TCP, one for each range of ports.
    pub(super) fn planned_vpc(&self) -> Vpc {
        let mut vpc = self.vpc.clone();
        for (id, group) in &mut vpc.security_groups {
            for (direction, rules) in [(Direction::Ingress, &mut group.ingress), (Direction::Egress, &mut group.egress)]
            {
                *rules = port_rules(self.rules_of(id).iter().filter(|rule| rule.direction == direction));
            }
        }
        vpc
    }
}

fn port_rules<'a>(records: impl Iterator<Item = &'a RuleRecord>) -> Vec<PortRule> {
    let mut merged: Vec<(PortRange, Vec<IpNet>, Vec<SecurityGroupId>)> = Vec::new();
    for terms in records.map(|record| &record.terms) {
        let Some(ports) = terms.tcp_ports() else { continue };
        let at = merged.iter().position(|(known, ..)| *known == ports).unwrap_or_else(|| {
            merged.push((ports, Vec::new(), Vec::new()));
            merged.len() - 1
        });
        match &terms.peer {
            RulePeer::Network(net) => merged[at].1.push(*net),
            RulePeer::Group(group) => merged[at].2.push(group.clone()),
            RulePeer::PrefixList(_) => {}
        }
    }
    let rule = |(ports, nets, groups): (_, Vec<IpNet>, _)| PortRule {
        ports,
        cidrs: nets.into_iter().collect::<CidrSet>(),
        groups,
    };
    merged.into_iter().map(rule).collect()
}

/// The id of a rule of the config, derived from its content, so that it does not change between starts.
fn derived_rule_id(text: &str) -> SecurityRuleId {
    format!("sgr-0{}", &derived_digits(text)[..16]).parse().expect("17 hex digits make an id")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::SecurityGroup;

    fn net() -> impl Strategy<Value = IpNet> {
        (any::<u32>(), 8u8..=32)
            .prop_map(|(bits, length)| IpNet::V4(ipnet::Ipv4Net::new(bits.into(), length).expect("at most 32").trunc()))
    }

    fn port_rule() -> impl Strategy<Value = PortRule> {
        let ports =
            (1u16..=u16::MAX, 1u16..=u16::MAX).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).expect("in order"));
        (ports, prop::collection::vec(net(), 1..4)).prop_map(|(ports, nets)| PortRule {
            ports,
            cidrs: nets.into_iter().collect(),
            groups: Vec::new(),
        })
    }

    fn lets(rules: &[PortRule], port: u16, address: std::net::IpAddr) -> bool {
        let port = port.try_into().expect("not 0");
        rules.iter().any(|rule| rule.ports.contains(port) && rule.cidrs.contains(address))
    }

    proptest! {
        /// Rules that are split and merged again admit the same connections.
        #[test]
        fn rules_keep_their_meaning(
            rules in prop::collection::vec(port_rule(), 0..6),
            port in 1u16..=u16::MAX,
            bits in any::<u32>(),
        ) {
            let mut vpc = a_vpc();
            let group = vpc.security_groups.values_mut().next().expect("a group");
            group.ingress.clone_from(&rules);
            let mut record = VpcRecord::new(vpc);
            record.adopt_rules();
            let planned = record.planned_vpc();
            let after = &planned.security_groups.values().next().expect("a group").ingress;
            let net = rules.first().and_then(|rule| rule.cidrs.iter().next().copied());
            for address in [std::net::IpAddr::V4(bits.into())].into_iter().chain(net.map(|net| net.network())) {
                prop_assert_eq!(lets(&rules, port, address), lets(after, port, address));
            }
        }
    }

    fn a_vpc() -> Vpc {
        let desired = crate::config::quickstart().desired;
        let mut vpc = desired.vpcs.into_values().next().expect("one VPC");
        vpc.security_groups.retain(|_, group| {
            *group =
                SecurityGroup { ingress: Vec::new(), egress: Vec::new(), members: CidrSet::default(), ..group.clone() };
            true
        });
        vpc
    }

    #[test]
    fn the_configs_rules_come_back() {
        for vpc in crate::config::quickstart().desired.vpcs.into_values() {
            assert_eq!(VpcRecord::new(vpc.clone()).planned_vpc(), vpc);
        }
    }
}
