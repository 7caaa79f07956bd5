//! Rules of security groups as EC2 keeps them: one protocol, one range of ports, one far side each.
//!
//! What of them concerns TCP becomes the plan's [`PortRule`]s; the others are kept and shown, and have no effect, as every
//! flow here is TCP. Source: Amazon EC2 API Reference, *SecurityGroupRule*.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::VpcRecord;
use crate::model::{CidrSet, Direction, PortRange, PortRule, SecurityGroupId, SecurityRuleId};

/// A protocol as EC2 writes it: `tcp`, `udp`, `icmp`, `icmpv6`, `-1` for all, or an IANA number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Protocol {
    /// Every protocol.
    All,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// ICMP for IPv6.
    Icmpv6,
    /// Another one, by its IANA number.
    Other(u8),
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("-1"),
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Icmpv6 => f.write_str("icmpv6"),
            Self::Other(number) => write!(f, "{number}"),
        }
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        protocol.to_string()
    }
}

impl TryFrom<String> for Protocol {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "-1" => Self::All,
            "tcp" | "6" => Self::Tcp,
            "udp" | "17" => Self::Udp,
            "icmp" | "1" => Self::Icmp,
            "icmpv6" | "58" => Self::Icmpv6,
            number => Self::Other(number.parse().map_err(|_| format!("`{text}` is not a protocol"))?),
        })
    }
}

/// The far side of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RulePeer {
    /// A network.
    Network(IpNet),
    /// Whoever carries this security group.
    Group(SecurityGroupId),
    /// A prefix list; none has entries here, so it stands for no address.
    PrefixList(String),
}

impl fmt::Display for RulePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(net) => net.fmt(f),
            Self::Group(group) => group.fmt(f),
            Self::PrefixList(id) => f.write_str(id),
        }
    }
}

/// What a rule says; two rules of one group and direction that say the same are duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTerms {
    /// The protocol.
    pub protocol: Protocol,
    /// TCP and UDP: the first and the last port; ICMP: type and code, -1 for any; `None`: all.
    pub ports: Option<(i32, i32)>,
    /// The far side.
    pub peer: RulePeer,
}

impl RuleTerms {
    /// The TCP ports that it concerns.
    fn tcp_ports(&self) -> Option<PortRange> {
        match (self.protocol, self.ports) {
            (Protocol::All, _) | (Protocol::Tcp, None) => PortRange::new(1, u16::MAX),
            (Protocol::Tcp, Some((first, last))) => {
                PortRange::new(u16::try_from(first).ok()?.max(1), u16::try_from(last).ok()?)
            }
            _ => None,
        }
    }
}

impl fmt::Display for RuleTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = self.ports.unwrap_or((-1, -1));
        let protocol =
            if self.protocol == Protocol::All { "ALL".to_owned() } else { self.protocol.to_string().to_uppercase() };
        write!(f, "peer: {}, {protocol}, from port: {from}, to port: {to}, ALLOW", self.peer)
    }
}

/// A rule of a security group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRecord {
    /// Its id.
    pub id: SecurityRuleId,
    /// Which way it looks.
    pub direction: Direction,
    /// What it says.
    pub terms: RuleTerms,
    /// What it is for.
    pub description: Option<String>,
}

impl VpcRecord {
    /// The rules of a group, in the order in which they were added.
    pub fn rules_of(&self, group: &SecurityGroupId) -> &[RuleRecord] {
        self.rules.get(group).map_or(&[], Vec::as_slice)
    }

    /// Takes over the rules that the groups of the config, or of a state that an earlier version saved, have: each network and
    /// each group becomes a rule of its own, with an id that follows from what it says.
    pub(super) fn adopt_rules(&mut self) {
        for (id, group) in &mut self.vpc.security_groups {
            let sides = [(Direction::Ingress, &mut group.ingress), (Direction::Egress, &mut group.egress)];
            for (direction, rules) in sides {
                let own = self.rules.entry(id.clone()).or_default();
                for rule in std::mem::take(rules) {
                    let (first, last) = (i32::from(rule.ports.first().get()), i32::from(rule.ports.last().get()));
                    // The config knows TCP alone: all of its ports are everything that there is.
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

    /// The VPC as the plan wants it: with what its groups' rules say of TCP, one rule for each range of ports.
    pub(super) fn planned_vpc(&self) -> crate::model::Vpc {
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

/// The id of a rule that the config names: it has none there, and keeps its own from start to start.
fn derived_rule_id(text: &str) -> SecurityRuleId {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    format!("sgr-0{}", hex::encode(&digest.as_ref()[..8])).parse().expect("17 hex digits make an id")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::inventory::Inventory;
    use crate::model::{CidrSet, SecurityGroup, Vpc};

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
        /// Taken apart and put together again, rules let in what they let in before.
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
    fn the_config_comes_back_from_the_inventory() {
        let desired = crate::config::quickstart().desired;
        assert_eq!(Inventory::from_config(&desired).desired().vpcs, desired.vpcs);
    }

    #[test]
    fn protocols_are_read_by_name_and_number_and_written_by_name() {
        for (text, written) in
            [("TCP", "tcp"), ("6", "tcp"), ("17", "udp"), ("1", "icmp"), ("58", "icmpv6"), ("50", "50")]
        {
            assert_eq!(text.parse::<Protocol>().expect(text).to_string(), written);
        }
        assert!("tcpx".parse::<Protocol>().is_err() && "256".parse::<Protocol>().is_err());
    }
}
