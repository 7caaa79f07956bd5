//! Rules of security groups in EC2's form: each with one protocol, one range of ports and one peer.
//!
//! Rules for TCP become the plan's [`crate::model::PortRule`]s. The others are stored and shown without effect, as
//! every flow here is TCP. Source: Amazon EC2 API Reference, *SecurityGroupRule*.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::{Direction, PortRange, SecurityGroupId, SecurityRuleId, text_serde};

/// A protocol as EC2 writes it: `tcp`, `udp`, `icmp`, `icmpv6`, `-1` for all, or an IANA number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

text_serde!(Protocol);

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

/// The peer of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RulePeer {
    /// A network.
    Network(IpNet),
    /// The interfaces and instances with this security group.
    Group(SecurityGroupId),
    /// A prefix list; it has no entries here, so it matches no address.
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

/// The content of a rule; two rules of one group and direction with equal content are duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTerms {
    /// The protocol.
    pub protocol: Protocol,
    /// TCP and UDP: the first and the last port; ICMP: type and code, -1 for any; `None`: all.
    pub ports: Option<(i32, i32)>,
    /// The peer.
    pub peer: RulePeer,
}

impl RuleTerms {
    /// The TCP ports that it applies to.
    pub(super) fn tcp_ports(&self) -> Option<PortRange> {
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
    /// Its direction.
    pub direction: Direction,
    /// Its content.
    pub terms: RuleTerms,
    /// Its description.
    pub description: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

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
