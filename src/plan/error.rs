//! Errors of a plan: where, what, and what to do instead.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::TargetKind;
use crate::model::{
    AppId, Cloud, ClusterName, DnsName, IpAddressType, IpFamily, ProjectId, Region, SecurityGroupId, ServiceName,
    SubnetId, Tier, VpcId, VpceId, VpceServiceId, Zone,
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
    /// An invalid DNS name.
    #[error("the host name `{0}` cannot be made: a label has 1 to 63 letters, digits, `-` and `_`, a name 253 in all")]
    HostName(String),
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
    /// A service's own region in the list of its remote regions.
    #[error("supported remote regions are other regions than the endpoint service's own, {}; leave it out", .0.atlas())]
    RemoteRegionIsOwn(Region),
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
    /// Another rule; no API has a separate error code for it.
    #[error("{0}")]
    Other(String),
}

impl From<String> for RuleError {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
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
