//! What is wrong with what is wanted: where, what, and what to do instead.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::TargetKind;
use super::ports::PortError;
use crate::model::{
    AppEndpointKind, AppId, Cloud, ClusterName, DnsName, DnsRecordIpType, IpAddressType, IpFamily, Label, ProjectId,
    Region, SecurityGroupId, ServiceName, SubnetId, Tier, VpcId, VpceId, VpceServiceId, Zone,
};

/// Everything that keeps a plan from being made, in the order in which it was found. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanErrors(Vec<PlanError>);

impl PlanErrors {
    /// Each of them.
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

/// One mistake, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{location}: {rule}")]
pub struct PlanError {
    /// What it concerns.
    pub location: Location,
    /// Which rule is broken, and how.
    #[source]
    pub rule: RuleError,
}

/// What a mistake or a notice concerns.
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

/// A rule that is broken. The documented ones give the documentation's reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Two things have one id.
    #[error("{what} `{id}` is there twice; give one of them another")]
    Duplicate {
        /// What sort of thing.
        what: &'static str,
        /// What they share.
        id: String,
    },
    /// Something refers to a name that does not exist.
    #[error("there is no {what} `{id}`")]
    Unknown {
        /// What sort of thing.
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
    /// A target limit that Atlas does not grant.
    #[error(
        "a limit of {limit} addressable targets cannot be set; MongoDB Support raises the limit once, to at most \
         {most}"
    )]
    LimitTooHigh {
        /// The limit that was asked for.
        limit: usize,
        /// What it can be raised to.
        most: usize,
    },
    /// More nodes of Google's than projects with several regions may have.
    #[error(
        "{0} addressable targets over several Google Cloud regions are more than the limit of {GOOGLE_REGIONS_LIMIT}; use \
         additional projects"
    )]
    GoogleRegions(usize),
    /// A network of one cloud is configured in a region of another.
    #[error("{region} is a region of {}, and the network is {}'s", .region.provider(), .network.map_or("AWS", Cloud::label))]
    NetworkInOtherCloud {
        /// The region that is named.
        region: Region,
        /// Whose network it is.
        network: Option<Cloud>,
    },
    /// An endpoint outside AWS without its one address.
    #[error("a private endpoint of {} has one address, and this one has {addresses}", cloud.product())]
    OneAddress {
        /// Where it is.
        cloud: Cloud,
        /// How many it has.
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
    /// Regional mode cannot be switched off any more.
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
    /// The first endpoint of a region, with a paused cluster there.
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
    /// More endpoints behind one load balancer than there are numbers.
    #[error("cannot number the endpoint: every N of `pl-N` from 0 to 65535 is taken")]
    IndexesExhausted,
    /// A target has no port, or asks for one that it cannot have.
    #[error(transparent)]
    Port(#[from] PortError),

    /// A cluster without a process.
    #[error("the cluster has no nodes; give it one at least")]
    NoNodes,
    /// Two clusters whose names differ in case alone.
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
    /// A name that no resolver can carry.
    #[error("the host name `{0}` cannot be made: a label has 1 to 63 letters, digits, `-` and `_`, a name 253 in all")]
    HostName(String),
    /// Two things would have one host name.
    #[error("the host name `{0}` is made twice; rename one of the clusters or nodes")]
    HostNameTaken(DnsName),
    /// A name of the gateway's own APIs that is something else's.
    #[error("`{0}` is already the name of a cluster's host, an endpoint or an app; leave it out")]
    OwnNameTaken(DnsName),
    /// Two processes at one address.
    #[error("`{target}` is at {address}, and so is `{other}`; two targets cannot be at one address")]
    TargetAddressTaken {
        /// The process.
        target: String,
        /// Where it is.
        address: SocketAddr,
        /// The one that is there already.
        other: String,
    },
    /// A process where the gateway itself listens.
    #[error("`{target}` is at {address}, where the gateway itself listens; flows would go round")]
    TargetIsGateway {
        /// The process.
        target: String,
        /// Where it is.
        address: SocketAddr,
    },
    /// A host name that leads to the clients' side.
    #[error(
        "`{target}` is at {address}, which is in a consumer's network; host names may lead to servers only. Change what \
         the name leads to, or write the server's `address`"
    )]
    NameLeadsToClients {
        /// The process with its host name.
        target: String,
        /// Where the name leads.
        address: SocketAddr,
    },
    /// A source of PROXY headers among the targets.
    #[error(
        "`proxy_protocol_sources` holds `{network}`, which overlaps `{other}` of the service's side; a target could then pass \
         for a client of the VPC. Name the load balancer's own addresses alone"
    )]
    ProxySourceOnServiceSide {
        /// The source's network.
        network: IpNet,
        /// What it overlaps.
        other: IpNet,
    },
    /// The gateway's own address in a service's networks.
    #[error(
        "its networks hold {0}, where the gateway itself answers, and clients on the service's side are refused; put the \
         targets, or the gateway's own address, elsewhere"
    )]
    GatewayOnServiceSide(SocketAddr),
    /// An address that cannot be dialled or bound.
    #[error("`{what}` is at {address}; write an address and a port of which neither is zero")]
    NoAddress {
        /// What is there.
        what: String,
        /// Where.
        address: SocketAddr,
    },
    /// A public address that is taken.
    #[error("the public address {address} of `{what}` is taken by {by}")]
    PublicAddressTaken {
        /// Whose it would be.
        what: String,
        /// The address.
        address: SocketAddr,
        /// Whose it is.
        by: String,
    },

    /// Networks that must be apart.
    #[error("{own_kind} {own} overlaps {other_kind} {other}; {why}")]
    NetworksOverlap {
        /// What the network is.
        own_kind: String,
        /// The network.
        own: IpNet,
        /// What the other one is.
        other_kind: String,
        /// The other network.
        other: IpNet,
        /// Why that cannot be.
        why: &'static str,
    },
    /// A network whose addresses mean another host on every link.
    #[error(
        "{kind} {net} is link-local or multicast, whose addresses identify no host; use one of 2000::/3 or fc00::/7"
    )]
    NetworkOfOneLink {
        /// Whose network it is.
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
    /// A security group that names one that isn't there.
    #[error("security group {group} names {missing}, which the VPC does not have")]
    UnknownGroupInRule {
        /// The group with the rule.
        group: SecurityGroupId,
        /// The one that it names.
        missing: SecurityGroupId,
    },

    /// A service name that leads nowhere.
    #[error("the VPC endpoint service `{0}` does not exist")]
    NoSuchService(ServiceName),
    /// An endpoint in another region than its service, which does not support that.
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
    /// An address for a service of another region in a zone that has no way there.
    #[error(
        "subnet {subnet} is in {zone} ({}), which has no cross-region access; choose a subnet in another zone", .zone.id()
    )]
    NoCrossRegionAccess {
        /// The zone.
        zone: Zone,
        /// The subnet.
        subnet: SubnetId,
    },
    /// An endpoint of a type that its service does not support.
    #[error(
        "IP address type {} is not supported by the endpoint service {service}, which supports {}; choose that, or let the \
         service's owner add `supported_ip_address_types`", .wanted.label(), families(*.supported)
    )]
    UnsupportedIpAddressType {
        /// The endpoint's type.
        wanted: IpAddressType,
        /// The service.
        service: ServiceName,
        /// What it supports.
        supported: IpAddressType,
    },
    /// Records that endpoints of this type cannot have.
    #[error(
        "DNS record IP type {} does not fit IP address type {}, with which it is {}", .records.label(), .wanted.label(),
        DnsRecordIpType::ALL.iter().filter(|own| own.fits(*.wanted)).map(|own| own.label()).collect::<Vec<_>>().join(", ")
    )]
    DnsRecordIpType {
        /// The records.
        records: DnsRecordIpType,
        /// The endpoint's type.
        wanted: IpAddressType,
    },
    /// A subnet that cannot hold an interface of an endpoint of this type.
    #[error(
        "IP address type {} needs subnets with {}, and subnet {subnet} has {}", .wanted.label(),
        subnet_needs(*.wanted), subnet_needs(*.has)
    )]
    SubnetIpAddressType {
        /// The subnet.
        subnet: SubnetId,
        /// The endpoint's type.
        wanted: IpAddressType,
        /// What the subnet has networks of.
        has: IpAddressType,
    },
    /// An interface without, or with too many, addresses of a family.
    #[error(
        "an endpoint of IP address type {} has {} {} address in each subnet, and this one has {count} in subnet {subnet}",
        .wanted.label(), if .wanted.has(*.family) { "one" } else { "no" }, .family.name()
    )]
    AddressesOfFamily {
        /// The subnet.
        subnet: SubnetId,
        /// The family.
        family: IpFamily,
        /// How many it has there.
        count: usize,
        /// The endpoint's type.
        wanted: IpAddressType,
    },
    /// A service of IPv6 whose VPC has no such network.
    #[error("it supports IPv6 and none of its networks is IPv6; add its VPC's to `cidrs`, as `2001:db8:1::/56`")]
    NoIpv6Network,
    /// A service's own region among its remote ones.
    #[error("supported remote regions are other regions than the endpoint service's own, {}; leave it out", .0.atlas())]
    RemoteRegionIsOwn(Region),
    /// Cross-region access to a load balancer whose idle time-out was changed.
    #[error(
        "cross-region access is not supported for a load balancer with an idle time-out of its own, here {} s; leave it at \
         AWS's 350 s, or take the supported remote regions away", .0.as_secs()
    )]
    CustomIdleTimeout(std::time::Duration),
    /// The DNS part of an endpoint's names.
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
    /// An address in a zone that its subnet is not in.
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
    /// An address that its subnet does not hold.
    #[error("address {ip} is outside subnet {subnet} ({cidr})")]
    AddressOutsideSubnet {
        /// The address.
        ip: IpAddr,
        /// The subnet.
        subnet: SubnetId,
        /// Its network.
        cidr: IpNet,
    },
    /// An address that another endpoint has.
    #[error("address {ip} is in use by endpoint {by}")]
    AddressInUse {
        /// The address.
        ip: IpAddr,
        /// Who has it.
        by: VpceId,
    },

    /// A private endpoint for an app that cannot have one.
    #[error(
        "private endpoints are only available for apps deployed locally to a region in AWS, and this one is deployed \
         globally"
    )]
    AppNotLocal,
    /// Wire protocol connections and private endpoints on one app.
    #[error("wire protocol connections and private endpoints exclude each other; switch one of them off")]
    WireProtocol,
    /// A backend that is an address of this gateway's.
    #[error(
        "backend `{backend}` is an address of this gateway, so that requests would come back to it; write the address of the \
         server that is to answer them"
    )]
    BackendIsGateway {
        /// The backend.
        backend: String,
    },
    /// An app's endpoint that leads to something else.
    #[error("{kind} endpoint {endpoint} leads to `{service}`, which is {actual}")]
    NotThatAppService {
        /// What it should serve.
        kind: AppEndpointKindName,
        /// The endpoint.
        endpoint: VpceId,
        /// Where it leads.
        service: ServiceName,
        /// What that is.
        actual: String,
    },
    /// Two endpoints with one private DNS name in one VPC.
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

    /// Two zones of one name in one VPC.
    #[error("ConflictingDomainExists: another zone of this name is associated with {0}")]
    ConflictingDomain(VpcId),
    /// A record that isn't the zone's.
    #[error("record `{0}` is outside the zone")]
    RecordOutsideZone(DnsName),
    /// A CNAME where none may be.
    #[error("record `{0}` cannot be a CNAME: it is the zone's own name, or has other records; use an alias")]
    CnameNotAlone(DnsName),
    /// A record with no value.
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

/// More addressable targets than the limit, and what takes up the slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{count} addressable targets in {region} are more than the limit of {limit} per region and project; they are: {}. {}",
    by_cluster(.slots),
    advice(.region, *.limit)
)]
pub struct TargetLimit {
    /// The region.
    pub region: Region,
    /// How many there may be.
    pub limit: usize,
    /// How many there are.
    pub count: usize,
    /// How many each cluster takes, by kind.
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

/// Targets of a project over several of Google's regions. Source: Atlas, *Private Service Connect*, limitations.
pub(super) const GOOGLE_REGIONS_LIMIT: usize = 40;

/// An [`AppEndpointKind`] as people write it.
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

/// What the rules have found so far: mistakes, which keep the plan from being made, and notices, which don't.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<PlanError>,
    notices: Vec<String>,
}

impl Findings {
    /// Adds a mistake.
    pub(super) fn refuse(&mut self, location: Location, rule: impl Into<RuleError>) {
        self.errors.push(PlanError { location, rule: rule.into() });
    }

    /// Adds a notice.
    pub(super) fn note(&mut self, location: &Location, text: impl fmt::Display) {
        self.notices.push(format!("{location}: {text}"));
    }

    /// Adds a mistake and yields nothing, or yields the value.
    pub(super) fn take<T>(&mut self, location: impl FnOnce() -> Location, result: Result<T, RuleError>) -> Option<T> {
        result.map_err(|rule| self.refuse(location(), rule)).ok()
    }

    /// Whether there are no mistakes so far.
    ///
    /// # Errors
    ///
    /// The mistakes.
    pub(super) fn checked(&mut self) -> Result<(), PlanErrors> {
        if self.errors.is_empty() { Ok(()) } else { Err(PlanErrors(std::mem::take(&mut self.errors))) }
    }

    /// The notices.
    pub(super) fn into_notices(self) -> Vec<String> {
        self.notices
    }
}
