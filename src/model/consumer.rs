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

/// A consumer's VPC with what is joined to it.
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
    /// Networks joined by Direct Connect or VPN.
    pub on_premises: CidrSet,
    /// The VPC's resolver answers at all (AWS: true unless changed).
    pub enable_dns_support: bool,
    /// Together with support: private hosted zones work (AWS: false outside the default VPC).
    pub enable_dns_hostnames: bool,
    /// Its subnets by id.
    pub subnets: BTreeMap<SubnetId, Subnet>,
    /// Its security groups by id.
    pub security_groups: BTreeMap<SecurityGroupId, SecurityGroup>,
}

impl Vpc {
    /// Whether private hosted zones resolve here: both DNS attributes on (Route 53's considerations).
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
    /// Its network, inside one of the VPC's: IPv4, or IPv6 where it has that alone.
    pub cidr: IpNet,
    /// Its IPv6 network beside the IPv4 one.
    #[serde(default)]
    pub ipv6_cidr: Option<Ipv6Net>,
}

impl Subnet {
    /// Its networks.
    pub fn cidrs(&self) -> impl Iterator<Item = IpNet> {
        std::iter::once(self.cidr).chain(self.ipv6_cidr.map(IpNet::from))
    }

    /// Its network of one family.
    #[must_use]
    pub fn cidr_of(&self, family: IpFamily) -> Option<IpNet> {
        self.cidrs().find(|net| IpFamily::of(net.addr()) == family)
    }

    /// The families that it has networks of.
    #[must_use]
    pub fn ip_address_type(&self) -> IpAddressType {
        if self.ipv6_cidr.is_some() { IpAddressType::Dualstack } else { IpAddressType::of(self.cidr.addr()) }
    }

    /// Whether it can hold the interface of an endpoint of this type. Source: AWS PrivateLink, *Create an interface
    /// endpoint*, IP address type.
    #[must_use]
    pub fn takes(&self, endpoint: IpAddressType) -> bool {
        match endpoint {
            IpAddressType::Ipv4 => self.ip_address_type().has(IpFamily::Ipv4),
            IpAddressType::Ipv6 | IpAddressType::Dualstack => self.ip_address_type() == endpoint,
        }
    }
}

/// A security group: what may come in and what may go out. Nothing matches: dropped.
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
    /// Addresses of instances that carry this group, for their outbound rules and for rules that name the group.
    pub members: CidrSet,
}

/// Which way a rule looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Into the interface that carries the group.
    Ingress,
    /// Out of the interface that carries the group.
    Egress,
}

/// One rule of a security group: TCP to these ports from or to these networks or members of these groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRule {
    /// The ports that it lets through.
    pub ports: PortRange,
    /// The far side by network.
    pub cidrs: CidrSet,
    /// The far side by security group: the members of these.
    pub groups: Vec<SecurityGroupId>,
}

/// Where an interface endpoint is in its life, as EC2 says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EndpointState {
    /// Waiting for the service's owner to accept it.
    PendingAcceptance,
    /// Being connected.
    Pending,
    /// Connected: the one state in which flows are admitted.
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
    /// EC2's word for it on the wire.
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

/// What the client's VPC holds: one interface (ENI) per subnet, leading to one endpoint service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceEndpoint {
    /// Its id.
    pub id: VpceId,
    /// Its VPC.
    pub vpc: VpcId,
    /// The service it leads to.
    pub service: ServiceName,
    /// Eight letters and digits in its DNS names: `ypwbxwll`.
    pub dns_suffix: String,
    /// The families that each of its interfaces has an address of.
    #[serde(default)]
    pub ip_address_type: IpAddressType,
    /// The records that its names have.
    #[serde(default)]
    pub dns_record_ip_type: DnsRecordIpType,
    /// The addresses of its interfaces, one interface per subnet.
    pub addresses: Vec<EndpointAddress>,
    /// The groups on its interfaces. All of their rules together decide; none at all admits nothing.
    pub security_groups: Vec<SecurityGroupId>,
    /// Where it is in its life.
    pub state: EndpointState,
    /// The service's owner knows of it (Atlas: it was added to the project's private endpoints). Until then it counts
    /// for none of the owner's rules.
    pub registered: bool,
}

impl InterfaceEndpoint {
    /// Its interfaces, each by the first of its addresses.
    pub fn interfaces(&self) -> impl Iterator<Item = &EndpointAddress> {
        let is_first = |n: usize, own: &EndpointAddress| !self.addresses[..n].iter().any(|other| other.eni == own.eni);
        self.addresses.iter().enumerate().filter(move |(n, own)| is_first(*n, own)).map(|(_, own)| own)
    }

    /// The address that an interface has of one family.
    #[must_use]
    pub fn address_of(&self, interface: &EniId, family: IpFamily) -> Option<IpAddr> {
        let mut own = self.addresses.iter().filter(|address| address.eni == *interface).map(|address| address.ip);
        own.find(|ip| IpFamily::of(*ip) == family)
    }
}

/// One address of an interface endpoint; the two of an interface of a dual-stack one differ in the address alone.
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

/// A private hosted zone that the consumer made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateZone {
    /// The zone's name: names at and below it are answered from here alone.
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
        /// What it leads to.
        ips: Vec<IpAddr>,
    },
    /// Another name for a name.
    Cname {
        /// The owner.
        name: DnsName,
        /// Its value.
        target: DnsName,
    },
    /// An alias to an interface endpoint: answered as its addresses.
    Alias {
        /// The owner.
        name: DnsName,
        /// The endpoint whose addresses are answered.
        endpoint: VpceId,
    },
}
