//! Errors of a plan: where, what, and what to do instead.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::TargetKind;
use super::ports::PortError;
use crate::model::{
    AppEndpointKind, AppId, Cloud, ClusterName, DnsName, DnsRecordIpType, IpAddressType, IpFamily, Label, ProjectId,
    Region, SecurityGroupId, ServiceName, SubnetId, Tier, VpcId, VpceId, VpceServiceId, Zone,
};

/// All errors of a plan, in the order in which they were found. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanErrors(Vec<PlanError>);

impl PlanErrors {
    /// The errors.
    #[must_use]
    pub fn as_slice(&self) -> &[PlanError] {
        &self.0
    }
}

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "cannot plan what is wanted: {count} problem{}", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for PlanErrors {}

/// An error with its location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{location}: {rule}")]
pub struct PlanError {
    /// The object in question.
    pub location: Location,
    /// The broken rule.
    #[source]
    pub rule: RuleError,
}

/// The object of an error or a notice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// A VPC.
    Vpc(VpcId),
    /// An interface endpoint.
    Endpoint(VpceId),
    /// A project.
    Project(ProjectId),
    /// A cluster of a project.
    Cluster(ProjectId, ClusterName),
    /// An endpoint service of a project or of App Services.
    Service(VpceServiceId),
    /// An app.
    App(AppId),
    /// A private hosted zone of a consumer.
    PrivateZone(DnsName),
    /// A host name of the gateway's own APIs.
    OwnName(DnsName),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vpc(id) => write!(f, "VPC {id}"),
            Self::Endpoint(id) => write!(f, "endpoint {id}"),
            Self::Project(id) => write!(f, "project {id}"),
            Self::Cluster(project, name) => write!(f, "project {project}, cluster {name}"),
            Self::Service(id) => write!(f, "endpoint service {id}"),
            Self::App(id) => write!(f, "app {id}"),
            Self::PrivateZone(name) => write!(f, "private hosted zone {name}"),
            Self::OwnName(name) => write!(f, "admin.names, {name}"),
        }
    }
}

/// A broken rule. Documented rules give the reason of Atlas' or AWS's documentation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Two objects have the same id.
    #[error("{what} `{id}` is there twice; give one of them another")]
    Duplicate {
        /// The kind of object.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// A reference to an unknown object.
    #[error("there is no {what} `{id}`")]
    Unknown {
        /// The kind of object.
        what: &'static str,
        /// The name.
        id: String,
    },

    /// A second endpoint service in a region.
    #[error(
        "a private endpoint service already exists for {} region {}; a project has one per region",
        .0.provider(), .0.atlas()
    )]
    ServiceExistsForRegion(Region),
    /// A target limit above Atlas' maximum.
    #[error(
        "a limit of {limit} addressable targets cannot be set; MongoDB Support raises the limit once, to at most \
         {most}"
    )]
    LimitTooHigh {
        /// The requested limit.
        limit: usize,
        /// The maximum.
        most: usize,
    },
    /// More nodes on Google Cloud than a project with several regions may have.
    #[error(
        "{0} addressable targets over several Google Cloud regions are more than the limit of {GOOGLE_REGIONS_LIMIT}; use \
         additional projects"
    )]
    GoogleRegions(usize),
    /// A network of one cloud is configured in a region of another.
    #[error("{region} is a region of {}, and the network is {}'s", .region.provider(), .network.map_or("AWS", Cloud::label))]
    NetworkInOtherCloud {
        /// The region.
        region: Region,
        /// The cloud of the network.
        network: Option<Cloud>,
    },
    /// An endpoint outside AWS does not have exactly one address.
    #[error("a private endpoint of {} has one address, and this one has {addresses}", cloud.product())]
    OneAddress {
        /// Its cloud.
        cloud: Cloud,
        /// The number of its addresses.
        addresses: usize,
    },
    /// More addressable targets than the limit.
    #[error(transparent)]
    TargetLimit(#[from] TargetLimit),
    /// Private endpoints for a shared tier.
    #[error(
        "private endpoints are not available for M0, M2 and M5 clusters, and this is an {}; upgrade it to M10 or more, \
         or remove the project's private endpoints", .0.name()
    )]
    SharedTier(Tier),
    /// A replica set in regional mode.
    #[error(
        "regionalized private endpoints are on, and then a project can have sharded clusters only; this is a replica set"
    )]
    RegionalModeWithReplicaSet,
    /// Regional mode can't be disabled any more.
    #[error(
        "regionalized private endpoints cannot be switched off with more than one private endpoint in one region and \
         others elsewhere ({}); remove endpoints first", by_region(.0)
    )]
    RegionalModeInUse(Vec<(Region, usize)>),
    /// Several endpoints in one region and endpoints in others.
    #[error(
        "a project can have either more than one private endpoint in a single region, or no more than one per region; \
         it has {}. Remove endpoints, or switch regionalized private endpoints on", by_region(.0)
    )]
    EndpointSpread(Vec<(Region, usize)>),
    /// The first endpoint of a region, where a cluster is paused.
    #[error(
        "this is the first private endpoint in {region}, and {} with nodes there {} paused; resume {} first",
        listed(.paused), if .paused.len() == 1 { "is" } else { "are" }, if .paused.len() == 1 { "it" } else { "them" }
    )]
    PausedCluster {
        /// The region.
        region: Region,
        /// The clusters to resume.
        paused: Vec<ClusterName>,
    },
    /// More endpoints of one load balancer than there are indexes.
    #[error("cannot number the endpoint: every N of `pl-N` from 0 to 65535 is taken")]
    IndexesExhausted,
    /// A target has no port, or the requested port is not available.
    #[error(transparent)]
    Port(#[from] PortError),

    /// A cluster without a process.
    #[error("the cluster has no nodes; give it one at least")]
    NoNodes,
    /// Two clusters whose names differ only in case.
    #[error("clusters `{first}` and `{second}` would have the same host names; rename one of them")]
    ClusterNamesClash {
        /// A cluster.
        first: ClusterName,
        /// Another one.
        second: ClusterName,
    },
    /// A label of another project.
    #[error("the label `{label}` belongs to project {project}; labels make the projects' host names unique")]
    LabelTaken {
        /// The label.
        label: Label,
        /// The project that has it.
        project: ProjectId,
    },
    /// An invalid DNS name.
    #[error("the host name `{0}` cannot be made: a label has 1 to 63 letters, digits, `-` and `_`, a name 253 in all")]
    HostName(String),
    /// Two objects have the same host name.
    #[error("the host name `{0}` is made twice; rename one of the clusters or nodes")]
    HostNameTaken(DnsName),
    /// A name of the gateway's own APIs that is used otherwise.
    #[error("`{0}` is already the name of a cluster's host, an endpoint or an app; leave it out")]
    OwnNameTaken(DnsName),
    /// Two processes have the same address.
    #[error("`{target}` is at {address}, and so is `{other}`; two targets cannot be at one address")]
    TargetAddressTaken {
        /// The process.
        target: String,
        /// The address.
        address: SocketAddr,
        /// The other process.
        other: String,
    },
    /// A process at an address of the gateway.
    #[error("`{target}` is at {address}, where the gateway itself listens; flows would go round")]
    TargetIsGateway {
        /// The process.
        target: String,
        /// The address.
        address: SocketAddr,
    },
    /// A host name that resolves to an address on the clients' side.
    #[error(
        "`{target}` is at {address}, which is in a consumer's network; host names may lead to servers only. Change what \
         the name leads to, or write the server's `address`"
    )]
    NameLeadsToClients {
        /// The process with its host name.
        target: String,
        /// The address.
        address: SocketAddr,
    },
    /// A source of PROXY headers in the service's networks.
    #[error(
        "`proxy_protocol_sources` holds `{network}`, which overlaps `{other}` of the service's side; a target could then pass \
         for a client of the VPC. Name the load balancer's own addresses alone"
    )]
    ProxySourceOnServiceSide {
        /// The source's network.
        network: IpNet,
        /// The overlapping network.
        other: IpNet,
    },
    /// An address of the gateway in a service's networks.
    #[error(
        "its networks hold {0}, where the gateway itself answers, and clients on the service's side are refused; put the \
         targets, or the gateway's own address, elsewhere"
    )]
    GatewayOnServiceSide(SocketAddr),
    /// An address that can't be used for connecting or binding.
    #[error("`{what}` is at {address}; write an address and a port of which neither is zero")]
    NoAddress {
        /// Its purpose.
        what: String,
        /// The address.
        address: SocketAddr,
    },
    /// A public address that is already in use.
    #[error("the public address {address} of `{what}` is taken by {by}")]
    PublicAddressTaken {
        /// The new user.
        what: String,
        /// The address.
        address: SocketAddr,
        /// The existing user.
        by: String,
    },

    /// Overlapping networks.
    #[error("{own_kind} {own} overlaps {other_kind} {other}; {why}")]
    NetworksOverlap {
        /// The kind of network.
        own_kind: String,
        /// The network.
        own: IpNet,
        /// The kind of the other network.
        other_kind: String,
        /// The other network.
        other: IpNet,
        /// Why they must not overlap.
        why: &'static str,
    },
    /// A network whose addresses are not unique beyond a link.
    #[error(
        "{kind} {net} is link-local or multicast, whose addresses identify no host; use one of 2000::/3 or fc00::/7"
    )]
    NetworkOfOneLink {
        /// The kind of network.
        kind: String,
        /// The network.
        net: IpNet,
    },
    /// A subnet outside its VPC.
    #[error("subnet {subnet} has {cidr}, which is in none of the VPC's networks ({networks})")]
    SubnetOutsideVpc {
        /// The subnet.
        subnet: SubnetId,
        /// Its network.
        cidr: IpNet,
        /// The VPC's.
        networks: String,
    },
    /// A subnet in a zone of another region.
    #[error("subnet {subnet} is in zone {zone}, but the VPC is in {region}")]
    SubnetOutsideRegion {
        /// The subnet.
        subnet: SubnetId,
        /// Its zone.
        zone: Zone,
        /// The VPC's region.
        region: Region,
    },
    /// A rule refers to an unknown security group.
    #[error("security group {group} names {missing}, which the VPC does not have")]
    UnknownGroupInRule {
        /// The group of the rule.
        group: SecurityGroupId,
        /// The unknown group.
        missing: SecurityGroupId,
    },

    /// An unknown endpoint service.
    #[error("the VPC endpoint service `{0}` does not exist")]
    NoSuchService(ServiceName),
    /// An endpoint in another region than its service, which does not support that region.
    #[error(
        "the endpoint is in {vpc}, and {service} takes no endpoints from there; let the service's owner add {vpc} to its \
         supported remote regions, or use a service in {vpc}"
    )]
    UnsupportedRegion {
        /// The VPC's region.
        vpc: Region,
        /// The service.
        service: ServiceName,
    },
    /// An address for a service of another region in a zone without cross-region access.
    #[error(
        "subnet {subnet} is in {zone} ({}), which has no cross-region access; choose a subnet in another zone", .zone.id()
    )]
    NoCrossRegionAccess {
        /// The zone.
        zone: Zone,
        /// The subnet.
        subnet: SubnetId,
    },
    /// An endpoint's IP address type is not supported by its service.
    #[error(
        "IP address type {} is not supported by the endpoint service {service}, which supports {}; choose that, or let the \
         service's owner add `supported_ip_address_types`", .wanted.label(), families(*.supported)
    )]
    UnsupportedIpAddressType {
        /// The endpoint's type.
        wanted: IpAddressType,
        /// The service.
        service: ServiceName,
        /// The service's type.
        supported: IpAddressType,
    },
    /// A DNS record IP type that does not match the endpoint's type.
    #[error(
        "DNS record IP type {} does not fit IP address type {}, with which it is {}", .records.label(), .wanted.label(),
        DnsRecordIpType::ALL.iter().filter(|own| own.fits(*.wanted)).map(|own| own.label()).collect::<Vec<_>>().join(", ")
    )]
    DnsRecordIpType {
        /// The DNS record IP type.
        records: DnsRecordIpType,
        /// The endpoint's type.
        wanted: IpAddressType,
    },
    /// A subnet without networks for this type of endpoint.
    #[error(
        "IP address type {} needs subnets with {}, and subnet {subnet} has {}", .wanted.label(),
        subnet_needs(*.wanted), subnet_needs(*.has)
    )]
    SubnetIpAddressType {
        /// The subnet.
        subnet: SubnetId,
        /// The endpoint's type.
        wanted: IpAddressType,
        /// The subnet's type.
        has: IpAddressType,
    },
    /// An interface with no address, or too many addresses, of a family.
    #[error(
        "an endpoint of IP address type {} has {} {} address in each subnet, and this one has {count} in subnet {subnet}",
        .wanted.label(), if .wanted.has(*.family) { "one" } else { "no" }, .family.name()
    )]
    AddressesOfFamily {
        /// The subnet.
        subnet: SubnetId,
        /// The family.
        family: IpFamily,
        /// The number of addresses.
        count: usize,
        /// The endpoint's type.
        wanted: IpAddressType,
    },
    /// An IPv6 service whose VPC has no IPv6 network.
    #[error("it supports IPv6 and none of its networks is IPv6; add its VPC's to `cidrs`, as `2001:db8:1::/56`")]
    NoIpv6Network,
    /// A service's own region in the list of its remote regions.
    #[error("supported remote regions are other regions than the endpoint service's own, {}; leave it out", .0.atlas())]
    RemoteRegionIsOwn(Region),
    /// Cross-region access to a load balancer with a custom idle time-out.
    #[error(
        "cross-region access is not supported for a load balancer with an idle time-out of its own, here {} s; leave it at \
         AWS's 350 s, or take the supported remote regions away", .0.as_secs()
    )]
    CustomIdleTimeout(std::time::Duration),
    /// An invalid suffix of an endpoint's DNS names.
    #[error("`{0}` is not valid in the endpoint's DNS names; write eight lower-case letters and digits, as `ypwbxwll`")]
    DnsSuffix(String),
    /// Two subnets of one zone.
    #[error("DuplicateSubnetsInSameZone: subnets {first} and {second} are both in {zone}; choose one subnet per zone")]
    DuplicateSubnetsInSameZone {
        /// A subnet.
        first: SubnetId,
        /// Another one.
        second: SubnetId,
        /// Their zone.
        zone: Zone,
    },
    /// An address with another zone than its subnet.
    #[error("address {ip} is said to be in {zone}, but subnet {subnet} is in {actual}")]
    ZoneMismatch {
        /// The address.
        ip: IpAddr,
        /// The subnet.
        subnet: SubnetId,
        /// The zone given.
        zone: Zone,
        /// The subnet's zone.
        actual: Zone,
    },
    /// An address outside its subnet.
    #[error("address {ip} is outside subnet {subnet} ({cidr})")]
    AddressOutsideSubnet {
        /// The address.
        ip: IpAddr,
        /// The subnet.
        subnet: SubnetId,
        /// Its network.
        cidr: IpNet,
    },
    /// An address of another endpoint.
    #[error("address {ip} is in use by endpoint {by}")]
    AddressInUse {
        /// The address.
        ip: IpAddr,
        /// The other endpoint.
        by: VpceId,
    },

    /// A private endpoint for an app that can't have one.
    #[error(
        "private endpoints are only available for apps deployed locally to a region in AWS, and this one is deployed \
         globally"
    )]
    AppNotLocal,
    /// Wire protocol connections and private endpoints on one app.
    #[error("wire protocol connections and private endpoints exclude each other; switch one of them off")]
    WireProtocol,
    /// A backend at an address of this gateway.
    #[error(
        "backend `{backend}` is an address of this gateway, so that requests would come back to it; write the address of the \
         server that is to answer them"
    )]
    BackendIsGateway {
        /// The backend.
        backend: String,
    },
    /// An app's endpoint that is connected to another service.
    #[error("{kind} endpoint {endpoint} leads to `{service}`, which is {actual}")]
    NotThatAppService {
        /// The required kind.
        kind: AppEndpointKindName,
        /// The endpoint.
        endpoint: VpceId,
        /// Its service.
        service: ServiceName,
        /// The kind of that service.
        actual: String,
    },
    /// Two endpoints with the same private DNS name in one VPC.
    #[error(
        "endpoints {first} and {second} would both answer for `{name}` in {vpc}; a VPC can have one endpoint per \
         private DNS name"
    )]
    PrivateDnsConflict {
        /// An endpoint.
        first: VpceId,
        /// Another one.
        second: VpceId,
        /// The name.
        name: DnsName,
        /// The VPC.
        vpc: VpcId,
    },

    /// Two zones of the same name in one VPC.
    #[error("ConflictingDomainExists: another zone of this name is associated with {0}")]
    ConflictingDomain(VpcId),
    /// A record outside its zone.
    #[error("record `{0}` is outside the zone")]
    RecordOutsideZone(DnsName),
    /// A CNAME with other records at the same name.
    #[error("record `{0}` cannot be a CNAME: it is the zone's own name, or has other records; use an alias")]
    CnameNotAlone(DnsName),
    /// A record without a value.
    #[error("record `{0}` has no address; give it one at least")]
    EmptyRecord(DnsName),
}

fn families(kind: IpAddressType) -> String {
    kind.families().map(IpFamily::label).collect::<Vec<_>>().join(" and ")
}

fn subnet_needs(kind: IpAddressType) -> &'static str {
    match kind {
        IpAddressType::Ipv4 => "an IPv4 network",
        IpAddressType::Ipv6 => "an IPv6 network alone",
        IpAddressType::Dualstack => "an IPv4 and an IPv6 network",
    }
}

/// Too many addressable targets, with the number of each cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{count} addressable targets in {region} are more than the limit of {limit} per region and project; they are: {}. {}",
    by_cluster(.slots),
    advice(.region, *.limit)
)]
pub struct TargetLimit {
    /// The region.
    pub region: Region,
    /// The limit.
    pub limit: usize,
    /// The number of targets.
    pub count: usize,
    /// The number of each cluster's targets, by kind.
    pub slots: Vec<(ClusterName, TargetKind, usize)>,
}

fn advice(region: &Region, limit: usize) -> String {
    let most = Cloud::maximum_target_limit(region.cloud());
    if limit < most {
        format!(
            "Ask MongoDB Support for the one-time increase to at most {most} (`target_limit`), or use additional projects or \
             regions"
        )
    } else {
        "Use additional projects or regions".to_owned()
    }
}

/// Maximum number of targets of a project over several regions of Google Cloud. Source: Atlas, *Private Service
/// Connect*, limitations.
pub(super) const GOOGLE_REGIONS_LIMIT: usize = 40;

/// An [`AppEndpointKind`], capitalized for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppEndpointKindName(pub AppEndpointKind);

impl fmt::Display for AppEndpointKindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            AppEndpointKind::General => "General",
            AppEndpointKind::Sync => "Sync",
        })
    }
}

fn by_cluster(slots: &[(ClusterName, TargetKind, usize)]) -> String {
    let words = slots.iter().map(|(cluster, kind, count)| {
        let kind = match (kind, count) {
            (TargetKind::Mongod, _) => "mongod",
            (TargetKind::Mongos, _) => "mongos",
            (TargetKind::Optimized, _) => "for its optimized string",
            (TargetKind::BiConnector, 1) => "BI Connector",
            (TargetKind::BiConnector, _) => "BI Connectors",
        };
        format!("{cluster} {count} {kind}")
    });
    words.collect::<Vec<_>>().join(", ")
}

fn by_region(regions: &[(Region, usize)]) -> String {
    regions.iter().map(|(region, count)| format!("{count} in {region}")).collect::<Vec<_>>().join(", ")
}

fn listed(clusters: &[ClusterName]) -> String {
    clusters.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(", ")
}

/// The errors, which prevent the plan, and the notices found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<PlanError>,
    notices: Vec<String>,
}

impl Findings {
    /// Adds an error.
    pub(super) fn refuse(&mut self, location: Location, rule: impl Into<RuleError>) {
        self.errors.push(PlanError { location, rule: rule.into() });
    }

    /// Adds a notice.
    pub(super) fn note(&mut self, location: &Location, text: impl fmt::Display) {
        self.notices.push(format!("{location}: {text}"));
    }

    /// Returns the value, or adds the error.
    pub(super) fn take<T>(&mut self, location: impl FnOnce() -> Location, result: Result<T, RuleError>) -> Option<T> {
        result.map_err(|rule| self.refuse(location(), rule)).ok()
    }

    /// Checks that there are no errors so far.
    ///
    /// # Errors
    ///
    /// The errors.
    pub(super) fn checked(&mut self) -> Result<(), PlanErrors> {
        if self.errors.is_empty() { Ok(()) } else { Err(PlanErrors(std::mem::take(&mut self.errors))) }
    }

    /// The notices.
    pub(super) fn into_notices(self) -> Vec<String> {
        self.notices
    }
}
