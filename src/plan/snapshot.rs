//! The result of the plan: an immutable snapshot that the data plane, DNS and the views read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::apps::AppsView;
use crate::model::{
    AccessList, CidrSet, ClaimId, ClusterName, ConnectError, DnsFailure, DnsName, EndpointAddress, EndpointState,
    Fault, Lease, ListenerPort, Minimum, Origin, PortRange, ProjectId, Region, ServiceName, TargetId, TargetState,
    VpcId, VpceId, VpceServiceId, Zone,
};

/// The number of the snapshot, incremented with every change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Generation(pub u64);

/// Everything that the data plane, DNS and the views need.
///
/// Immutable: a change is a new snapshot with the next [`Generation`]. Every listener address appears once, and every
/// member of an endpoint's listener is in `targets`; `compile` is the only constructor and ensures both.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Its number.
    pub generation: Generation,
    /// Listeners by address.
    pub listeners: BTreeMap<SocketAddr, Arc<Listener>>,
    /// Addressable targets, in order of load balancer and port.
    pub targets: Vec<TargetView>,
    /// Removed targets whose ports still drain: they are in no connection string, and do not count.
    pub leaving: Vec<TargetView>,
    /// The zones with endpoints of projects' load balancers, in order of load balancer and zone.
    pub zones: Vec<ZoneView>,
    /// Faults that have begun or will begin, by name.
    pub faults: Vec<Arc<Fault>>,
    /// Interface endpoints, available or not.
    pub endpoints: BTreeMap<VpceId, Arc<EndpointAccess>>,
    /// Connection strings by project and cluster.
    pub strings: Vec<ClusterStrings>,
    /// The DNS views.
    pub dns: Arc<DnsView>,
    /// App Services' apps and their listeners.
    pub apps: Arc<AppsView>,
    /// The networks of every endpoint service: connections from them are refused on every address of the gateway.
    pub service_side: Arc<CidrSet>,
    /// Notices: what is allowed but probably not intended.
    pub notices: Vec<String>,
    /// If several gateways share the state: the claims that this one serves; `None`: it serves all addresses.
    pub served_here: Option<BTreeSet<ClaimId>>,
}

impl Snapshot {
    /// Whether this gateway serves a claim.
    #[must_use]
    pub fn serves(&self, claim: &str) -> bool {
        self.served_here.as_ref().is_none_or(|claims| claims.contains(claim))
    }
}

/// A listening socket, its access rules, and the targets of its flows. Compared by value: a difference causes a
/// retarget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address.
    pub address: SocketAddr,
    /// The access rules.
    pub access: ListenerAccess,
    /// The targets of its flows.
    pub group: Arc<TargetGroup>,
    /// The zone of its address.
    pub zone: Zone,
    /// How a SYN is answered.
    pub answer: ListenerMode,
    /// Whether its zone is in outage: flows through its address are frozen.
    pub outage: bool,
    /// Faults that may affect its flows.
    pub faults: Vec<Arc<Fault>>,
    /// The lease under which this gateway may accept connections here.
    pub lease: Lease,
}

impl Listener {
    /// The claim that its address belongs to.
    #[must_use]
    pub fn claim(&self) -> &str {
        match self.access {
            ListenerAccess::Endpoint(_) => self.zone.as_str(),
            ListenerAccess::Public { .. } => ClaimId::PUBLIC,
        }
    }
}

/// How a SYN to a listener is answered; on a real load balancer the target answers it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerMode {
    /// With a connection.
    #[default]
    Accept,
    /// With RST: the target of the flow refuses it.
    Refuse,
    /// Not at all: the target of the flow is silent.
    Ignore,
}

/// The access rules of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerAccess {
    /// The private path: through an interface endpoint.
    Endpoint(Arc<EndpointAccess>),
    /// The public path: the standard string's address, for clients on the IP access list.
    Public {
        /// The IP access list.
        access_list: Arc<AccessList>,
    },
}

impl ListenerAccess {
    /// The endpoint's id for logs and labels; `public` on the public path.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Endpoint(endpoint) => endpoint.id.as_str(),
            Self::Public { .. } => "public",
        }
    }
}

/// An interface endpoint with its resolved access rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EndpointAccess {
    /// Its id.
    pub id: VpceId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its service.
    pub service: ServiceName,
    /// Its state.
    pub state: EndpointState,
    /// Its addresses by zone.
    pub addresses: Vec<EndpointAddress>,
    /// Its regional DNS name.
    pub regional_name: Option<DnsName>,
    /// The networks of its VPC.
    pub vpc_cidrs: CidrSet,
    /// The networks of peered VPCs.
    pub peered: CidrSet,
    /// The networks connected by Direct Connect or VPN.
    pub on_premises: CidrSet,
    /// The ingress rules of its security groups, and the egress rules of the clients' groups.
    pub rules: SecurityRules,
}

/// Security groups resolved into networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SecurityRules {
    /// The endpoint's groups: a client passes when one of these rules contains it and the port.
    pub ingress: Vec<ResolvedRule>,
    /// The clients' groups: a client with groups passes when one of their rules contains the endpoint's address and
    /// port.
    pub clients: Vec<ClientGroup>,
}

/// Ports and networks of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ResolvedRule {
    /// The allowed ports.
    pub ports: PortRange,
    /// The allowed peers.
    pub cidrs: CidrSet,
}

/// A security group of clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClientGroup {
    /// Its members.
    pub members: CidrSet,
    /// Its egress rules.
    pub egress: Vec<ResolvedRule>,
}

/// The targets of a listener's flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    /// The load balancer.
    pub service: VpceServiceId,
    /// The addressable target.
    pub target: TargetId,
    /// Its members: one process, or all `mongos` of an optimized sharded cluster. In order of name.
    pub members: Vec<Member>,
    /// Start every flow with a PROXY protocol v2 header.
    pub proxy_protocol: bool,
    /// Idle time-out of a flow.
    pub idle_timeout: Duration,
    /// Connect time-out of a member.
    pub connect_timeout: Duration,
    /// How long flows may last after the group or the listener is removed.
    pub deregistration_delay: Duration,
    /// Whether that delay cuts the flows of a deregistered target.
    pub terminate_on_deregistration: bool,
    /// Whether the flows of a member that becomes unhealthy are reset, unless the group fails open.
    pub terminate_on_unhealthy: bool,
    /// Minimum number of healthy members; below it the group fails open.
    pub routing_minimum: Minimum,
    /// Bandwidth of one endpoint address in each direction, in bytes per second.
    pub bandwidth_cap: Option<u64>,
    /// Load balancers whose PROXY header is accepted.
    pub proxy_sources: CidrSet,
    /// Maximum number of flows of one member.
    pub flows_per_target: usize,
    /// Maximum number of connections of one member, by its cluster's limit; `None`: no limit.
    pub connections_per_member: Option<usize>,
    /// Use members of all zones, not only the listener's.
    pub cross_zone: bool,
    /// Source addresses of connections to members, in turn; empty: the kernel's choice.
    pub source_addresses: Vec<IpAddr>,
}

/// One process behind a target group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Member {
    /// Its name in the cluster.
    pub name: String,
    /// Its zone.
    pub zone: Zone,
    /// Its address.
    pub address: SocketAddr,
    /// The host name that resolved to it; null if the config has the address.
    pub host: Option<DnsName>,
    /// Its health.
    pub state: TargetState,
    /// Why the latest connection to it failed; null when it succeeded.
    pub reach: Option<ConnectError>,
    /// An operator shifted traffic away from its zone: it gets no new flow.
    pub shifted: bool,
    /// A fault makes it unreachable; `reach` has the error.
    pub faulted: bool,
}

/// A process whose host name is not resolved, so it is not a member yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnresolvedMember {
    /// Its name in the cluster.
    pub name: String,
    /// Its zone.
    pub zone: Zone,
    /// Its host name and port.
    pub address: String,
}

/// An addressable target as `/v1` and the CLI show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TargetView {
    /// The project.
    pub project: ProjectId,
    /// The load balancer.
    pub service: VpceServiceId,
    /// The region.
    pub region: Region,
    /// Its id.
    pub id: TargetId,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its kind: `mongod`, `mongos`, `mongos (optimized)`, `bi-connector`.
    pub kind: TargetKind,
    /// Its port on the load balancer.
    pub port: ListenerPort,
    /// The processes behind it.
    pub members: Vec<Member>,
    /// The processes whose host names are not resolved.
    pub unresolved: Vec<UnresolvedMember>,
    /// The best state of its members.
    pub state: TargetState,
    /// Whether its cluster is paused: the port is kept, nothing listens.
    pub paused: bool,
}

/// A zone of a load balancer as `/v1` and the CLI show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ZoneView {
    /// The load balancer.
    pub service: VpceServiceId,
    /// The zone.
    pub zone: Zone,
    /// Whether every group has enough healthy targets for it (NLB: ZonalHealthStatus).
    pub healthy: bool,
    /// Whether an operator shifted traffic away from it.
    pub shifted: bool,
    /// Whether its addresses were found not to answer clients.
    pub silent: bool,
    /// Whether none of the gateways that share the state serves its addresses.
    pub unserved: bool,
    /// Whether its addresses do not answer: they are silent, unserved, or in a `zone-outage`.
    pub lost: bool,
    /// Groups with too few healthy targets for it.
    pub unhealthy_targets: Vec<TargetId>,
    /// The endpoints' addresses in it, in order of endpoint.
    pub addresses: Vec<ZoneAddress>,
}

/// An endpoint's address in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ZoneAddress {
    /// The endpoint.
    pub endpoint: VpceId,
    /// The address.
    pub ip: IpAddr,
    /// Whether it is in DNS.
    pub in_dns: bool,
    /// Why it is in DNS; null if it is not.
    pub dns_answer: Option<DnsAnswer>,
}

/// Why addresses of an endpoint are in DNS. All reasons but the first are fail-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DnsAnswer {
    /// Their zones are healthy.
    HealthyZones,
    /// No zone is healthy: those that are neither lost nor shifted away from are in DNS.
    NoHealthyZone,
    /// All other zones are lost: those that were shifted away from are in DNS.
    ShiftedZonesAlone,
    /// Every zone is lost.
    EveryZoneLost,
}

impl DnsAnswer {
    /// Whether DNS fails open.
    #[must_use]
    pub fn is_fail_open(self) -> bool {
        self != Self::HealthyZones
    }

    /// The fail-open reasons.
    pub const FAIL_OPEN: [Self; 3] = [Self::NoHealthyZone, Self::ShiftedZonesAlone, Self::EveryZoneLost];

    /// The name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::HealthyZones => "healthy_zones",
            Self::NoHealthyZone => "no_healthy_zone",
            Self::ShiftedZonesAlone => "shifted_zones_alone",
            Self::EveryZoneLost => "every_zone_lost",
        }
    }

    /// The reason in words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::HealthyZones => "healthy",
            Self::NoHealthyZone => "fail-open: no zone is healthy",
            Self::ShiftedZonesAlone => "fail-open: every zone that is not shifted away from is lost",
            Self::EveryZoneLost => "fail-open: every zone is lost",
        }
    }
}

impl ZoneView {
    /// Why addresses of this zone are in DNS although it is not healthy; `None`: they are not in DNS, or the zone is
    /// healthy.
    #[must_use]
    pub fn fail_open(&self) -> Option<DnsAnswer> {
        self.addresses.iter().filter_map(|address| address.dns_answer).find(|answer| answer.is_fail_open())
    }

    /// Why the zone's addresses are not in DNS, as the end of a sentence; `None`: no reason is known.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        if self.shifted {
            Some(": traffic is shifted away".to_owned())
        } else if self.unserved {
            Some(": no gateway serves them".to_owned())
        } else if self.lost {
            Some(": they do not answer clients".to_owned())
        } else if let [first, rest @ ..] = self.unhealthy_targets.as_slice() {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            Some(format!(": too few healthy targets of {first}{more}"))
        } else {
            None
        }
    }
}

/// The kind of an addressable target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// A member of a replica set.
    Mongod,
    /// One `mongos` of a sharded cluster without optimized strings.
    Mongos,
    /// All `mongos` of a sharded cluster with optimized strings.
    Optimized,
    /// A BI Connector.
    BiConnector,
}

/// A cluster's connection strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClusterStrings {
    /// The project.
    pub project: ProjectId,
    /// The cluster.
    pub cluster: ClusterName,
    /// `mongodb+srv://…` on the public path.
    pub standard_srv: String,
    /// `mongodb://…` on the public path: the nodes with a public address.
    pub standard: String,
    /// Whether a node has a public address. Otherwise the standard strings are those in Atlas' API, but their names do
    /// not exist.
    pub is_public: bool,
    /// One entry for each group of endpoints that are used together. If there is none, `unavailable` has the reason.
    pub private: Vec<PrivateStrings>,
    /// Why there are no private strings.
    pub unavailable: Option<String>,
}

/// Private endpoint-aware connection strings, as in Atlas' API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PrivateStrings {
    /// For strings that were created by name, `privateEndpointConnectionStrings`: the unique part of their host names.
    pub slug: Option<String>,
    /// `MONGOD` or `MONGOS`.
    #[schemars(extend("enum" = ["MONGOD", "MONGOS"]))]
    pub r#type: &'static str,
    /// `mongodb://…`.
    pub connection_string: String,
    /// `mongodb+srv://…`.
    pub srv_connection_string: String,
    /// `mongodb+srv://…-lb…`, for a sharded cluster with optimized strings.
    pub srv_shard_optimized_connection_string: Option<String>,
    /// The endpoints that they use.
    pub endpoints: Vec<(VpceId, Region)>,
}

/// The DNS views: public records, and for each VPC the private hosted zones in front of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsView {
    /// Public zones: Atlas', AWS's `vpce` and App Services' names. By apex.
    pub public: BTreeMap<DnsName, DnsZone>,
    /// VPCs, in the order in which a source is looked up.
    pub vpcs: Vec<VpcDns>,
    /// Sources that are always refused: the service's side.
    pub refused: CidrSet,
    /// Active DNS faults.
    pub faults: Vec<DnsFault>,
}

/// An active DNS fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsFault {
    /// Its share and seed.
    pub fault: Arc<Fault>,
    /// Its response.
    pub answer: DnsFailure,
    /// The affected clients; `None`: all.
    pub clients: Option<CidrSet>,
}

/// One VPC's resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpcDns {
    /// The VPC.
    pub vpc: VpcId,
    /// Its clients: the VPC's own networks.
    pub clients: CidrSet,
    /// `enableDnsSupport`; if off, it does not answer.
    pub enabled: bool,
    /// Private hosted zones by apex; empty unless both DNS attributes are on.
    pub private: BTreeMap<DnsName, DnsZone>,
}

/// A zone: every name at or below its apex that is not in a more specific zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsZone {
    /// Record sets by owner name (`*` as first label for a wildcard), without SOA and NS of the apex.
    pub records: BTreeMap<DnsName, RecordSets>,
}

/// The records at one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecordSets {
    /// A and AAAA.
    pub addresses: BTreeSet<IpAddr>,
    /// CNAME: excludes everything else.
    pub cname: Option<DnsName>,
    /// SRV: port and target; priority and weight are 0, as in Atlas' records.
    pub srv: Vec<(ListenerPort, DnsName)>,
    /// TXT: one string.
    pub txt: Option<String>,
}

impl TargetGroup {
    /// Whether a node in `zone` may use `member`.
    ///
    /// Connections through an endpoint in another region arrive at a zone of AWS's choice, so there all members may be
    /// used. A draining member gets no new flow, and none gets one in a zone that was shifted away from (*Zonal
    /// shift*).
    #[must_use]
    pub fn is_registered(&self, member: &Member, zone: &Zone) -> bool {
        !matches!(member.state, TargetState::Draining | TargetState::Unused)
            && !member.shifted
            && (self.cross_zone || member.zone == *zone || !member.zone.is_in_region_of(zone))
    }

    /// Whether a node in `zone` uses all members because too few are healthy (*Target groups*, unhealthy state
    /// routing).
    #[must_use]
    pub fn fails_open(&self, zone: &Zone) -> bool {
        let registered = || self.members.iter().filter(|member| self.is_registered(member, zone));
        let healthy = registered().filter(|member| member.state == TargetState::Healthy).count();
        // The routing minimum has no `off`: without a healthy target, all are used.
        healthy == 0 || self.routing_minimum.is_missed(healthy, registered().count())
    }

    /// The mode of a listener in `zone`: how a target would answer the SYN.
    #[must_use]
    pub fn answer(&self, zone: &Zone) -> ListenerMode {
        let open = self.fails_open(zone);
        let mut fitting = self
            .members
            .iter()
            .filter(|member| self.is_registered(member, zone) && (open || member.state == TargetState::Healthy))
            .peekable();
        if fitting.peek().is_none() {
            return ListenerMode::Accept;
        }
        let mut answers = fitting.map(|member| match (member.reach, member.state) {
            (Some(ConnectError::Refused), _) => ListenerMode::Refuse,
            // One slow probe does not make a target silent: the checks must have failed as often as their threshold.
            (Some(ConnectError::TimedOut | ConnectError::NoRoute), state)
                if member.faulted || state == TargetState::Unhealthy =>
            {
                ListenerMode::Ignore
            }
            _ => ListenerMode::Accept,
        });
        let first = answers.next().unwrap_or_default();
        if answers.all(|answer| answer == first) { first } else { ListenerMode::Accept }
    }
}

impl EndpointAccess {
    /// The origin of a connection from `source` to this endpoint. `service_side` takes precedence.
    #[must_use]
    pub fn origin(&self, source: IpAddr, service_side: &CidrSet) -> Origin {
        if service_side.contains(source) {
            Origin::Service
        } else if self.vpc_cidrs.contains(source) {
            Origin::Vpc
        } else if self.peered.contains(source) {
            Origin::Peered
        } else if self.on_premises.contains(source) {
            Origin::OnPremises
        } else {
            Origin::Public
        }
    }
}
