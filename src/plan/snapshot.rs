//! What the plan comes to: one immutable picture that the data plane, DNS and the views read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::apps::AppsView;
use crate::model::{
    AccessList, CidrSet, ClaimId, ClusterName, ConnectError, DnsFailure, DnsName, EndpointState, EniId, Fault, Lease,
    ListenerPort, Minimum, Origin, PortRange, ProjectId, Region, ServiceName, SubnetId, TargetId, TargetState, VpcId,
    VpceId, VpceServiceId, Zone,
};

/// The number of the snapshot, incremented with every change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Generation(pub u64);

/// Everything the data plane, DNS and the views need, frozen at one moment.
///
/// Immutable: a change is a new snapshot with the next [`Generation`]. Every listener address appears once, and every
/// member that an endpoint's listener names is in `targets`; `compile` is the only constructor and ensures both.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Which snapshot.
    pub generation: Generation,
    /// Listeners by the address that they are bound to.
    pub listeners: BTreeMap<SocketAddr, Arc<Listener>>,
    /// Addressable targets, in order of load balancer and port.
    pub targets: Vec<TargetView>,
    /// Removed targets whose ports still drain: no connection string names them, and they have no slots.
    pub leaving: Vec<TargetView>,
    /// The zones that endpoints of projects' load balancers are in, in order of load balancer and zone.
    pub zones: Vec<ZoneView>,
    /// Faults that have begun or are to begin, by name.
    pub faults: Vec<Arc<Fault>>,
    /// Interface endpoints, available or not.
    pub endpoints: BTreeMap<VpceId, Arc<EndpointGate>>,
    /// Connection strings by project and cluster.
    pub strings: Vec<ClusterStrings>,
    /// The DNS views.
    pub dns: Arc<DnsView>,
    /// App Services' apps, and the addresses of their front.
    pub apps: Arc<AppsView>,
    /// The networks of every endpoint service: connections from there are refused on every address of the gateway.
    pub service_side: Arc<CidrSet>,
    /// Notices: what is allowed but probably not intended.
    pub notices: Vec<String>,
    /// Where several gateways share the state: the claims whose addresses this one listens at; `None`: it listens at all.
    pub served_here: Option<BTreeSet<ClaimId>>,
}

impl Snapshot {
    /// Whether this gateway listens at the addresses of a claim.
    #[must_use]
    pub fn serves(&self, claim: &str) -> bool {
        self.served_here.as_ref().is_none_or(|claims| claims.contains(claim))
    }
}

/// A socket to accept on, who may use it, and where its flows go. Compared by value: unequal means retarget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it is bound.
    pub address: SocketAddr,
    /// Who may use it.
    pub gate: Gate,
    /// Where its flows go.
    pub group: Arc<TargetGroup>,
    /// The zone of the address it is bound to.
    pub zone: Zone,
    /// What a client's SYN meets.
    pub answer: ListenerMode,
    /// The zone is lost: what flows through its address stands still.
    pub outage: bool,
    /// Faults that may affect its flows.
    pub faults: Vec<Arc<Fault>>,
    /// Until when this gateway may take connections here.
    pub lease: Lease,
}

impl Listener {
    /// The claim that its address belongs to.
    #[must_use]
    pub fn claim(&self) -> &str {
        match self.gate {
            Gate::Endpoint(_) => self.zone.as_str(),
            Gate::Public { .. } => ClaimId::PUBLIC,
        }
    }
}

/// What a client's SYN meets at a listener: on the real load balancer it is the target that answers it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerMode {
    /// A connection.
    #[default]
    Accept,
    /// RST: whatever target would take the flow refuses it.
    Refuse,
    /// Nothing: whatever target would take the flow is silent.
    Ignore,
}

/// Who may use a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// The private path: through an interface endpoint.
    Endpoint(Arc<EndpointGate>),
    /// The public path: the standard string's address, for clients on the IP access list.
    Public {
        /// Who may.
        access_list: Arc<AccessList>,
    },
}

impl Gate {
    /// The endpoint's id for logs and labels; `public` on the public path.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Endpoint(endpoint) => endpoint.id.as_str(),
            Self::Public { .. } => "public",
        }
    }
}

/// An interface endpoint as admission sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EndpointGate {
    /// Its id.
    pub id: VpceId,
    /// The VPC it is in.
    pub vpc: VpcId,
    /// The service it leads to.
    pub service: ServiceName,
    /// Where it is in its life.
    pub state: EndpointState,
    /// Its addresses by zone.
    pub addresses: Vec<GateAddress>,
    /// Its regional DNS name.
    pub regional_name: Option<DnsName>,
    /// The endpoint's VPC.
    pub vpc_cidrs: CidrSet,
    /// VPCs peered with it.
    pub peered: CidrSet,
    /// Networks joined to it by Direct Connect or VPN.
    pub on_premises: CidrSet,
    /// The ingress rules of its security groups, and the egress rules of the clients' groups.
    pub rules: SecurityRules,
}

/// One address of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GateAddress {
    /// The network interface.
    pub eni: EniId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its zone.
    pub zone: Zone,
    /// The address.
    pub ip: IpAddr,
}

/// Security groups resolved into networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SecurityRules {
    /// The endpoint's groups: a client passes when one of these holds it and the port.
    pub ingress: Vec<ResolvedRule>,
    /// The clients' groups: a client that carries groups passes when one of these holds the endpoint's address and port.
    pub clients: Vec<ClientGroup>,
}

/// Ports and networks of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ResolvedRule {
    /// The ports it lets through.
    pub ports: PortRange,
    /// The far side.
    pub cidrs: CidrSet,
}

/// A security group that clients carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClientGroup {
    /// Who carries it.
    pub members: CidrSet,
    /// Its egress rules.
    pub egress: Vec<ResolvedRule>,
}

/// Where a listener's flows may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    /// The load balancer.
    pub service: VpceServiceId,
    /// The addressable target.
    pub target: TargetId,
    /// Its members: one process, or all `mongos` of an optimized sharded cluster. In order of name.
    pub members: Vec<Member>,
    /// Put a PROXY protocol v2 header in front of every flow.
    pub proxy_protocol: bool,
    /// Longest silence both ways.
    pub idle_timeout: Duration,
    /// How long a member may take to answer a new flow.
    pub connect_timeout: Duration,
    /// How long flows may last once the group or the listener goes.
    pub deregistration_delay: Duration,
    /// Whether that delay cuts the flows of a deregistered target.
    pub terminate_on_deregistration: bool,
    /// Whether the flows of a member that becomes unhealthy are reset, unless the group fails open.
    pub terminate_on_unhealthy: bool,
    /// With fewer healthy members the group fails open.
    pub routing_minimum: Minimum,
    /// Bytes a second that one endpoint address may carry each way.
    pub bandwidth_cap: Option<u64>,
    /// Load balancers whose PROXY header is taken.
    pub proxy_sources: CidrSet,
    /// Flows that one member may hold at once.
    pub flows_per_target: usize,
    /// Connections that one member takes, by its cluster's limit; `None`: as many as it will.
    pub connections_per_member: Option<usize>,
    /// Use members of other zones than the listener's too.
    pub cross_zone: bool,
    /// Addresses to dial from, in turn; empty: the kernel's choice.
    pub source_addresses: Vec<IpAddr>,
}

/// One process behind a target group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Member {
    /// Its name in the cluster.
    pub name: String,
    /// Its zone.
    pub zone: Zone,
    /// Where it listens.
    pub address: SocketAddr,
    /// The host name that led there; nothing where the config has the address.
    pub host: Option<DnsName>,
    /// Its health.
    pub state: TargetState,
    /// Why the latest connection to it failed; `None` when it came about.
    pub reach: Option<ConnectError>,
    /// An operator shifted away from its zone: it gets no new flow.
    pub shifted: bool,
    /// A fault makes it unreachable; `reach` says how.
    pub faulted: bool,
}

/// A process whose host name is not resolved: it is no member until it is.
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
    /// What it is: `mongod`, `mongos`, `mongos (optimized)`, `bi-connector`.
    pub kind: TargetKind,
    /// Its port on the load balancer.
    pub port: ListenerPort,
    /// The processes behind it.
    pub members: Vec<Member>,
    /// Those whose host names are not resolved.
    pub unresolved: Vec<UnresolvedMember>,
    /// Its state: `healthy` when a member is, and so on down.
    pub state: TargetState,
    /// Its cluster is paused: the port is kept, nothing listens.
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
    /// Whether an operator shifted away from it.
    pub shifted: bool,
    /// Its addresses were found not to answer clients.
    pub silent: bool,
    /// No gateway of those that share the state serves its addresses.
    pub unserved: bool,
    /// Its addresses do not answer: they are silent, unserved, or in a `zone-outage`.
    pub lost: bool,
    /// Groups that have too few healthy targets for it.
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
    /// Whether DNS answers it.
    pub in_dns: bool,
    /// Why DNS answers it; nothing where it does not.
    pub dns_answer: Option<DnsAnswer>,
}

/// Why DNS answers the addresses of an endpoint that it answers. All but the first are fail-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DnsAnswer {
    /// Their zones are healthy.
    HealthyZones,
    /// No zone is healthy: those that are not lost and not shifted away from are answered.
    NoHealthyZone,
    /// All other zones are lost: those that were shifted away from are answered.
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

    /// The ways to fail open.
    pub const FAIL_OPEN: [Self; 3] = [Self::NoHealthyZone, Self::ShiftedZonesAlone, Self::EveryZoneLost];

    /// The lower-case name in metrics.
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
    /// Why DNS answers addresses of this zone though that is no healthy answer; `None`: it does not, or they are healthy.
    #[must_use]
    pub fn fail_open(&self) -> Option<DnsAnswer> {
        self.addresses.iter().filter_map(|address| address.dns_answer).find(|answer| answer.is_fail_open())
    }

    /// Why the zone's addresses are not answered, as the end of a sentence; `None`: no reason is known.
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

/// What an addressable target is.
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
    /// `mongodb://…` on the public path: the nodes that have a public address.
    pub standard: String,
    /// Whether a node has a public address. Without one the standard strings are those that Atlas' API has for the cluster, and
    /// their names do not exist.
    pub is_public: bool,
    /// One entry per group of endpoints that are reached together. Empty with the reason in `unavailable`.
    pub private: Vec<PrivateStrings>,
    /// Why there are no private strings.
    pub unavailable: Option<String>,
}

/// Private endpoint-aware connection strings, as Atlas' API has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PrivateStrings {
    /// Of strings that were made by name, `privateEndpointConnectionStrings`: the unique part of their host names.
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
    /// The endpoints that they lead through.
    pub endpoints: Vec<(VpceId, Region)>,
}

/// The DNS views: public records, and for each VPC the private hosted zones in front of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsView {
    /// Public zones: Atlas', AWS's `vpce` and App Services' names. By apex.
    pub public: BTreeMap<DnsName, DnsZone>,
    /// VPCs, in the order in which a source is looked up.
    pub vpcs: Vec<VpcDns>,
    /// Sources that are never answered: the service's side.
    pub refused: CidrSet,
    /// Failures that were asked for.
    pub faults: Vec<DnsFault>,
}

/// A failure of the resolver that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsFault {
    /// How, how often, with which seed.
    pub fault: Arc<Fault>,
    /// What it does.
    pub answer: DnsFailure,
    /// For whom; `None`: for everybody.
    pub clients: Option<CidrSet>,
}

/// One VPC's resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpcDns {
    /// The VPC.
    pub vpc: VpcId,
    /// Who asks it: the VPC's own networks.
    pub clients: CidrSet,
    /// `enableDnsSupport`: off, nothing is answered.
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
    /// SRV: port and target; priority and weight are 0, as Atlas has them.
    pub srv: Vec<(ListenerPort, DnsName)>,
    /// TXT: one string.
    pub txt: Option<String>,
}

impl TargetGroup {
    /// Whether `member` is one of those that a node in `zone` may use at all.
    ///
    /// What comes through an endpoint in another region arrives at a zone of AWS's choice, so all are meant there.
    /// A draining member gets no new flow, and none in a zone that was shifted away from (*Zonal shift*).
    #[must_use]
    pub fn is_registered(&self, member: &Member, zone: &Zone) -> bool {
        !matches!(member.state, TargetState::Draining | TargetState::Unused)
            && !member.shifted
            && (self.cross_zone || member.zone == *zone || !member.zone.is_in_region_of(zone))
    }

    /// Whether a node in `zone` spreads flows over all members, as too few are healthy (*Target groups*, unhealthy
    /// state routing).
    #[must_use]
    pub fn fails_open(&self, zone: &Zone) -> bool {
        let registered = || self.members.iter().filter(|member| self.is_registered(member, zone));
        let healthy = registered().filter(|member| member.state == TargetState::Healthy).count();
        // The routing minimum has no `off`: with no healthy target, all are used.
        healthy == 0 || self.routing_minimum.is_missed(healthy, registered().count())
    }

    /// What a SYN at an address in `zone` would meet, were it passed on to a target.
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
            // One slow probe is no silence: the checks must have failed as often as their threshold says.
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

impl EndpointGate {
    /// Where a connection from `source` to this endpoint comes from. `service_side` goes before everything.
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
