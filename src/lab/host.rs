//! The hosts of the lab.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A network namespace of the lab. All but the last two are hosts for users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Host {
    /// A host in the VPC, in the first subnet.
    Vpc,
    /// A host in the VPC, in the second subnet: another zone.
    VpcB,
    /// A host in a VPC that is peered with it.
    Peer,
    /// A host in a data centre that is connected by Direct Connect.
    Onprem,
    /// A host in the virtual network of Azure.
    Azure,
    /// A host in the VPC network of Google Cloud.
    Google,
    /// A host on the internet whose address is on the IP access list.
    Internet,
    /// A host on the internet whose address is on no list.
    InternetB,
    /// The service's own VPC, behind the load balancer, where the nodes are.
    Service,
    /// The gateway: it holds the endpoints' addresses and forwards no packet.
    Gateway,
    /// The VPC's router, with the peering and the Direct Connect on it.
    Router,
}

impl Host {
    /// Its name on the command line. Short enough to name an interface too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vpc => "vpc",
            Self::VpcB => "vpc-b",
            Self::Peer => "peer",
            Self::Onprem => "onprem",
            Self::Azure => "azure",
            Self::Google => "google",
            Self::Internet => "internet",
            Self::InternetB => "internet-b",
            Self::Service => "service",
            Self::Gateway => "gateway",
            Self::Router => "router",
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_the_record_and_the_interface_call_a_place_the_same() {
        for host in Host::value_variants() {
            let value = host.to_possible_value().expect("no host is skipped");
            assert_eq!(value.get_name(), host.name());
            assert_eq!(serde_json::to_value(host).expect("a name"), host.name());
            assert!(host.name().len() < 16, "an interface's name has at most 15 bytes");
        }
    }
}
