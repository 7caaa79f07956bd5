//! The provider's side: projects, endpoint services, App Services apps.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cluster::AccessList;
use super::{
    AppId, CidrSet, Cluster, IpAddressType, PortRange, ProjectId, Region, ServiceName, TargetPort, VpceId,
    VpceServiceId,
};

/// Default limit of addressable targets per region and project. Source: Atlas, "Set Up a Private Endpoint",
/// limitations.
pub const DEFAULT_TARGET_LIMIT: usize = 50;

/// Maximum number of remote regions of one request. Source: Atlas Administration API, `supportedRemoteRegions`.
pub const MAXIMUM_REMOTE_REGIONS: usize = 35;

/// The value to which the limit can be raised once. Source: as for [`DEFAULT_TARGET_LIMIT`].
pub const MAXIMUM_TARGET_LIMIT: usize = 100;

/// An Atlas project (a *group* in its API).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// Whether regionalized private endpoints are enabled: any number per region, each connected to its own region's
    /// `mongos`.
    pub regionalized: bool,
    /// The IP access list of the public path.
    pub access_list: AccessList,
    /// Its clusters.
    pub clusters: Vec<Cluster>,
    /// Its endpoint services, at most one per region.
    pub services: Vec<EndpointService>,
}

/// Atlas' endpoint service in one region: a load balancer with a port for every addressable target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointService {
    /// Its id.
    pub id: VpceServiceId,
    /// Its region.
    pub region: Region,
    /// Other regions whose VPCs may have new endpoints to it: AWS's `SupportedRegions`, Atlas' `supportedRemoteRegions`.
    #[serde(default)]
    pub remote_regions: Vec<Region>,
    /// The supported address families: AWS's `SupportedIpAddressTypes`.
    #[serde(default)]
    pub ip_address_types: IpAddressType,
    /// The networks of its VPC. They may never open a connection towards a consumer.
    pub cidrs: CidrSet,
    /// Source addresses of connections to targets, in turn; empty: the kernel's choice.
    pub source_addresses: Vec<IpAddr>,
    /// The ports for targets.
    pub ports: PortRange,
    /// Maximum number of addressable targets.
    pub target_limit: usize,
    /// The attributes of its listeners and target groups.
    pub attributes: Attributes,
}

impl EndpointService {
    /// Its full name: `com.amazonaws.vpce.us-east-1.vpce-svc-…`.
    #[must_use]
    pub fn name(&self) -> ServiceName {
        ServiceName::new(self.region.clone(), self.id.clone())
    }

    /// Whether VPCs in `region` may have new endpoints to it.
    #[must_use]
    pub fn supports(&self, region: &Region) -> bool {
        self.region == *region || self.remote_regions.contains(region)
    }
}

/// Attributes of a load balancer's listeners and target groups, with AWS's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Idle time-out of a flow (`tcp.idle_timeout.seconds`, 60–6000 s, 350 s).
    pub idle_timeout: Duration,
    /// How long a deregistered target is `draining` (`deregistration_delay.timeout_seconds`, 0–3600 s, 300 s).
    pub deregistration_delay: Duration,
    /// Cut flows when the delay ends (`deregistration_delay.connection_termination.enabled`, off).
    pub terminate_on_deregistration: bool,
    /// Connect time-out of a target (30 s: *Network Load Balancers*, set-up of the return path).
    pub connect_timeout: Duration,
    /// Start every flow with a PROXY protocol v2 header (always for optimized strings).
    pub proxy_protocol: bool,
    /// Use targets of all zones (`load_balancing.cross_zone.enabled`).
    ///
    /// Off by default on AWS, on here: Atlas' load balancers must have it on, as every port has one `mongod` in one
    /// zone, and is reached at the addresses of all zones.
    pub cross_zone: bool,
    /// Reset the flows of a target that becomes unhealthy, unless its group fails open
    /// (`target_health_state.unhealthy.connection_termination.enabled`, on).
    pub terminate_on_unhealthy: bool,
    /// If that is off: how long such a target is `unhealthy.draining`
    /// (`target_health_state.unhealthy.draining_interval_seconds`, 0–360000 s, 0).
    pub unhealthy_draining_interval: Duration,
    /// Minimum number of healthy targets in a zone, below which a group fails open
    /// (`target_group_health.unhealthy_state_routing.minimum_healthy_targets`, count 1, percentage off).
    pub routing_minimum: Minimum,
    /// Minimum number of healthy targets of every group in a zone, below which its addresses are removed from DNS
    /// (`target_group_health.dns_failover.minimum_healthy_targets`, count 1, percentage off).
    pub dns_minimum: Minimum,
    /// Bandwidth of one endpoint address in each direction, in bytes per second; `None`: no cap. AWS's is 10 Gbit/s and
    /// grows to 100.
    pub bandwidth_cap: Option<u64>,
    /// Load balancers in front of the gateway, whose PROXY protocol header is accepted and names the client.
    pub proxy_sources: CidrSet,
    /// Maximum number of flows of one target (55,000: NLB's source ports per target).
    pub flows_per_target: usize,
    /// The health check of targets.
    pub health_check: HealthCheck,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(350),
            deregistration_delay: Duration::from_secs(300),
            terminate_on_deregistration: false,
            connect_timeout: Duration::from_secs(30),
            proxy_protocol: false,
            cross_zone: true,
            terminate_on_unhealthy: true,
            unhealthy_draining_interval: Duration::ZERO,
            routing_minimum: Minimum::default(),
            dns_minimum: Minimum::default(),
            bandwidth_cap: None,
            proxy_sources: CidrSet::default(),
            flows_per_target: 55_000,
            health_check: HealthCheck::default(),
        }
    }
}

/// Minimum number of healthy targets of a group: a number, a percentage, or both, either of which has an effect when it
/// is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minimum {
    /// The number; 0 is AWS's `off`.
    pub count: usize,
    /// The percentage (1–100); `None` is AWS's `off`.
    pub percentage: Option<u8>,
}

impl Minimum {
    /// Whether `healthy` of `total` targets are too few.
    #[must_use]
    pub fn is_missed(self, healthy: usize, total: usize) -> bool {
        let share = |least: u8| total == 0 || healthy * 100 < total * usize::from(least);
        healthy < self.count || self.percentage.is_some_and(share)
    }

    /// Whether there is no minimum.
    #[must_use]
    pub fn is_off(self) -> bool {
        self.count == 0 && self.percentage.is_none()
    }
}

impl Default for Minimum {
    fn default() -> Self {
        Self { count: 1, percentage: None }
    }
}

impl Serialize for Minimum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.count, self.percentage).serialize(serializer)
    }
}

/// Earlier versions saved only a count.
impl<'de> Deserialize<'de> for Minimum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum SavedMinimum {
            Both(usize, Option<u8>),
            Count(usize),
        }
        let (count, percentage) = match SavedMinimum::deserialize(deserializer)? {
            SavedMinimum::Both(count, percentage) => (count, percentage),
            SavedMinimum::Count(count) => (count, None),
        };
        Ok(Self { count, percentage })
    }
}

/// A health check, with NLB's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The protocol.
    pub protocol: HealthProtocol,
    /// The port; `None`: the traffic port.
    pub port: Option<TargetPort>,
    /// The path of HTTP requests.
    pub path: String,
    /// The HTTP status codes that pass.
    pub matcher: StatusRange,
    /// Time between two probes (5–300 s, 30 s).
    pub interval: Duration,
    /// Time limit of a probe (2–120 s, 10 s).
    pub timeout: Duration,
    /// Consecutive passes that make a target healthy again (2–10, 5); a new target needs one.
    pub healthy_threshold: u8,
    /// Consecutive failures that make a target unhealthy (2–10, 2).
    pub unhealthy_threshold: u8,
}

/// The protocol of health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthProtocol {
    /// A TCP connection succeeds.
    Tcp,
    /// The response to `GET` has a matching status code.
    Http,
    /// The same over TLS 1.2; the certificate is not verified.
    Https,
}

impl HealthProtocol {
    /// NLB's default time limit.
    #[must_use]
    pub fn default_timeout(self) -> Duration {
        Duration::from_secs(if self == Self::Http { 6 } else { 10 })
    }
}

/// A range of HTTP status codes, inclusive: `200-399`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    /// Whether `status` is one of them.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl Default for StatusRange {
    fn default() -> Self {
        Self { first: 200, last: 399 }
    }
}

impl std::str::FromStr for StatusRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let codes = first.parse().ok().zip(last.parse().ok());
        match codes {
            Some((first, last)) if 200 <= first && first <= last && last <= 599 => Ok(Self { first, last }),
            _ => Err(format!("`{text}` is no range of HTTP status codes (200 to 599, as `200-399`)")),
        }
    }
}

impl HealthCheck {
    /// Whether a check's result also applies to connections to the traffic port.
    #[must_use]
    pub fn covers_traffic_port(&self) -> bool {
        self.protocol == HealthProtocol::Tcp && self.port.is_none()
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            protocol: HealthProtocol::Tcp,
            port: None,
            path: "/".to_owned(),
            matcher: StatusRange::default(),
            interval: Duration::from_secs(30),
            timeout: HealthProtocol::Tcp.default_timeout(),
            healthy_threshold: 5,
            unhealthy_threshold: 2,
        }
    }
}

/// An App Services app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its client app id, `myapp-abcde`.
    pub id: AppId,
    /// The project it belongs to.
    pub project: ProjectId,
    /// Local to one region, or global.
    pub deployment: DeploymentModel,
    /// The region it is deployed to.
    pub region: Region,
    /// Whether requests from outside the VPC are allowed (subject to the access list). Off as soon as an endpoint
    /// exists.
    pub allow_non_vpc_requests: bool,
    /// The IP access list of the public path; empty: all clients (App Services' default entry is 0.0.0.0/0).
    pub access_list: CidrSet,
    /// Whether connections over the MongoDB wire protocol are enabled, which excludes private endpoints.
    pub wire_protocol: bool,
    /// The public address.
    pub public_address: SocketAddr,
    /// Its private endpoints.
    pub endpoints: Vec<AppEndpoint>,
    /// The backend: `http://127.1.0.31:9080`.
    pub backend: String,
}

/// Local to one region, or global.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeploymentModel {
    /// Deployed to one AWS region; the only model with private endpoints.
    Local,
    /// Deployed everywhere.
    Global,
}

/// The kind of an App Services private endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppEndpointKind {
    /// Client HTTP requests.
    General,
    /// Device Sync WebSockets. Requires a General endpoint too.
    Sync,
}

impl AppEndpointKind {
    /// The display name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::General => "General",
            Self::Sync => "Sync",
        }
    }
}

/// A private endpoint of an app: an interface endpoint with a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppEndpoint {
    /// The interface endpoint in the consumer's VPC.
    pub endpoint: VpceId,
    /// Its kind.
    pub kind: AppEndpointKind,
    /// A comment.
    pub comment: String,
}

/// An endpoint service of App Services, for one kind of endpoint in one region. It belongs to no project.
///
/// One per region and kind: AWS refuses two endpoints with the same private DNS name in one VPC, so the General and the
/// Sync service differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppService {
    /// Its id.
    pub id: VpceServiceId,
    /// Its region.
    pub region: Region,
    /// The kind of its endpoints.
    pub kind: AppEndpointKind,
    /// The networks of its VPC. They may never open a connection towards a consumer.
    pub cidrs: CidrSet,
}

impl AppService {
    /// Its full name: `com.amazonaws.vpce.us-east-1.vpce-svc-…`.
    #[must_use]
    pub fn name(&self) -> ServiceName {
        ServiceName::new(self.region.clone(), self.id.clone())
    }
}
