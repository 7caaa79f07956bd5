//! The consumer's side: VPCs, subnets, security groups, interface endpoints, private hosted zones.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CidrSet, DnsName, DnsRecordIpType, EniId, IpAddressType, IpFamily, PortRange, Region, SecurityGroupId, ServiceName,
    SubnetId, VpcId, VpceId, Zone,
};

/// A consumer's VPC with its connected networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    /// Its id.
    pub id: VpcId,
    /// Its region.
    pub region: Region,
    /// Its own networks.
    pub cidrs: CidrSet,
    /// Networks of VPCs peered with it.
    pub peered: CidrSet,
    /// Networks connected by Direct Connect or VPN.
    pub on_premises: CidrSet,
    /// Whether the VPC's resolver answers (AWS default: true).
    pub enable_dns_support: bool,
    /// Whether private hosted zones work, together with DNS support (AWS default outside the default VPC: false).
    pub enable_dns_hostnames: bool,
    /// Its subnets by id.
    pub subnets: BTreeMap<SubnetId, Subnet>,
    /// Its security groups by id.
    pub security_groups: BTreeMap<SecurityGroupId, SecurityGroup>,
}

impl Vpc {
    /// Whether private hosted zones resolve here: both DNS attributes are on (Route 53's considerations).
    #[must_use]
    pub fn private_zones_work(&self) -> bool {
        self.enable_dns_support && self.enable_dns_hostnames
    }
}

/// A subnet: one zone, one network, or one of each family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Its zone.
    pub zone: Zone,
    /// Its network, within one of the VPC's: IPv4, or IPv6 for an IPv6-only subnet.
    pub cidr: IpNet,
    /// Its IPv6 network besides the IPv4 one.
    #[serde(default)]
    pub ipv6_cidr: Option<Ipv6Net>,
}

impl Subnet {
    /// Its networks.
    pub fn cidrs(&self) -> impl Iterator<Item = IpNet> {
        std::iter::once(self.cidr).chain(self.ipv6_cidr.map(IpNet::from))
    }

    /// Its network of an address family.
    #[must_use]
    pub fn cidr_of(&self, family: IpFamily) -> Option<IpNet> {
        self.cidrs().find(|net| IpFamily::of(net.addr()) == family)
    }

    /// The address families of its networks.
    #[must_use]
    pub fn ip_address_type(&self) -> IpAddressType {
        if self.ipv6_cidr.is_some() { IpAddressType::Dualstack } else { IpAddressType::of(self.cidr.addr()) }
    }

    /// Whether it can contain the interface of an endpoint of this type. Source: AWS PrivateLink, *Create an interface
    /// endpoint*, IP address type.
    #[must_use]
    pub fn supports_endpoint(&self, endpoint: IpAddressType) -> bool {
        match endpoint {
            IpAddressType::Ipv4 => self.ip_address_type().has(IpFamily::Ipv4),
            IpAddressType::Ipv6 | IpAddressType::Dualstack => self.ip_address_type() == endpoint,
        }
    }
}

/// A security group. Traffic that matches no rule is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Its id.
    pub id: SecurityGroupId,
    /// Its name.
    pub name: String,
    /// Inbound rules.
    pub ingress: Vec<PortRule>,
    /// Outbound rules.
    pub egress: Vec<PortRule>,
    /// Addresses of instances in this group, for their outbound rules and for rules that refer to the group.
    pub members: CidrSet,
}

/// The direction of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Into an interface with the group.
    Ingress,
    /// Out of an interface with the group.
    Egress,
}

/// A rule of a security group: TCP on these ports from or to these networks or members of these groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRule {
    /// The allowed ports.
    pub ports: PortRange,
    /// Allowed peers by network.
    pub cidrs: CidrSet,
    /// Allowed peers by security group: its members.
    pub groups: Vec<SecurityGroupId>,
}

/// The state of an interface endpoint, as in EC2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EndpointState {
    /// Waiting for the service's owner to accept it.
    PendingAcceptance,
    /// Being connected.
    Pending,
    /// Connected: the only state in which flows are admitted.
    Available,
    /// Being removed.
    Deleting,
    /// Removed.
    Deleted,
    /// Refused by the service's owner.
    Rejected,
    /// Could not be connected.
    Failed,
    /// It was not accepted in time.
    Expired,
}

impl EndpointState {
    /// EC2's name on the wire.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::PendingAcceptance => "pendingAcceptance",
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }
}

/// An interface endpoint: one network interface (ENI) per subnet of the client's VPC, connected to an endpoint service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceEndpoint {
    /// Its id.
    pub id: VpceId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its service.
    pub service: ServiceName,
    /// Eight letters and digits in its DNS names: `ypwbxwll`.
    pub dns_suffix: String,
    /// The address families of its interfaces.
    #[serde(default)]
    pub ip_address_type: IpAddressType,
    /// The DNS records of its names.
    #[serde(default)]
    pub dns_record_ip_type: DnsRecordIpType,
    /// The addresses of its interfaces, one interface per subnet.
    pub addresses: Vec<EndpointAddress>,
    /// The security groups of its interfaces. Their rules are combined; without groups nothing is admitted.
    pub security_groups: Vec<SecurityGroupId>,
    /// Its state.
    pub state: EndpointState,
    /// Whether the service's owner has added it (Atlas: it is in the project's private endpoints). Until then the
    /// owner's rules ignore it.
    pub registered: bool,
}

impl InterfaceEndpoint {
    /// Its interfaces, each represented by the first of its addresses.
    pub fn interfaces(&self) -> impl Iterator<Item = &EndpointAddress> {
        let is_first = |n: usize, own: &EndpointAddress| !self.addresses[..n].iter().any(|other| other.eni == own.eni);
        self.addresses.iter().enumerate().filter(move |(n, own)| is_first(*n, own)).map(|(_, own)| own)
    }

    /// The address of an interface in one address family.
    #[must_use]
    pub fn address_of(&self, interface: &EniId, family: IpFamily) -> Option<IpAddr> {
        let mut own = self.addresses.iter().filter(|address| address.eni == *interface).map(|address| address.ip);
        own.find(|ip| IpFamily::of(*ip) == family)
    }
}

/// An address of an interface endpoint; the two addresses of a dual-stack interface differ only in `ip`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointAddress {
    /// The network interface's id.
    pub eni: EniId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// The zone of that subnet.
    pub zone: Zone,
    /// The private address.
    pub ip: IpAddr,
}

/// A private hosted zone of the consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateZone {
    /// The zone's name: names at and below it are answered only from this zone.
    pub name: DnsName,
    /// The VPCs that it is associated with.
    pub vpcs: Vec<VpcId>,
    /// Its records.
    pub records: Vec<ZoneRecord>,
}

/// One record of a private hosted zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ZoneRecord {
    /// Addresses at a name (`*` as its first label for a wildcard).
    Address {
        /// The owner.
        name: DnsName,
        /// The addresses.
        ips: Vec<IpAddr>,
    },
    /// Another name for a name.
    Cname {
        /// The owner.
        name: DnsName,
        /// Its value.
        target: DnsName,
    },
    /// An alias of an interface endpoint: resolves to its addresses.
    Alias {
        /// The owner.
        name: DnsName,
        /// The endpoint.
        endpoint: VpceId,
    },
}
