//! Flows: ids, refusals, ends.

use std::fmt;
use std::io;

use schemars::JsonSchema;
use serde::Serialize;

use super::text::text_schema;

/// A flow's number, unique in this process; shown as hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

text_schema!(FlowId);

impl Serialize for FlowId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A side of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The client's connection.
    Client,
    /// The target's connection.
    Target,
}

/// Why a connection was refused. The names are the same in logs, metrics and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The endpoint is not available.
    EndpointState,
    /// The client is on the service's side: connectivity is one-way.
    OneWay,
    /// The client's network is not connected to the endpoint's VPC.
    Origin,
    /// No security group rule allows it, of the endpoint or of the client.
    SecurityGroup,
    /// The client is not on the IP access list (public path only).
    AccessList,
    /// The target has reached its limit of flows.
    FlowLimit,
    /// The node has reached its cluster's limit of connections.
    ConnectionLimit,
    /// The source has reached its limit of flows, a share of the process' descriptors.
    SourceLimit,
    /// The lease of the address' zone has ended: another gateway may serve it.
    ClaimLost,
    /// No target is registered behind the listener.
    NoTarget,
    /// A load balancer that must send a PROXY protocol header sent none.
    ProxyHeader,
    /// An injected fault: the connection is reset.
    FaultReset,
    /// An injected fault: nothing is answered.
    FaultDropped,
}

/// The behaviour observed by a refused client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalMode {
    /// No answer: the client times out.
    Dropped,
    /// RST.
    Reset,
    /// The connection is closed, as by a `mongod` beyond its limit: FIN, or RST if the client has sent data.
    Closed,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::EndpointState,
        Self::OneWay,
        Self::Origin,
        Self::SecurityGroup,
        Self::AccessList,
        Self::FlowLimit,
        Self::ConnectionLimit,
        Self::SourceLimit,
        Self::ClaimLost,
        Self::NoTarget,
        Self::ProxyHeader,
        Self::FaultReset,
        Self::FaultDropped,
    ];

    /// The name in logs, metrics and tests.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::EndpointState => "endpoint_state",
            Self::OneWay => "one_way",
            Self::Origin => "origin",
            Self::SecurityGroup => "security_group",
            Self::AccessList => "access_list",
            Self::FlowLimit => "flow_limit",
            Self::ConnectionLimit => "connection_limit",
            Self::SourceLimit => "source_limit",
            Self::ClaimLost => "claim_lost",
            Self::NoTarget => "no_target",
            Self::ProxyHeader => "proxy_header",
            Self::FaultReset => "fault_reset",
            Self::FaultDropped => "fault_dropped",
        }
    }

    /// How AWS refuses: an unconnected network, a closed security group and a full load balancer drop packets.
    #[must_use]
    pub fn mode(self) -> RefusalMode {
        match self {
            Self::EndpointState
            | Self::OneWay
            | Self::Origin
            | Self::SecurityGroup
            | Self::AccessList
            | Self::FlowLimit
            | Self::FaultDropped => RefusalMode::Dropped,
            Self::ConnectionLimit => RefusalMode::Closed,
            Self::SourceLimit | Self::ClaimLost | Self::NoTarget | Self::ProxyHeader | Self::FaultReset => {
                RefusalMode::Reset
            }
        }
    }
}

/// Why the gateway ended flows, or stopped a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainReason {
    /// The target was deregistered.
    Deregistered,
    /// The target is unhealthy (`target_health_state.unhealthy.connection_termination.enabled`).
    Unhealthy,
    /// The target was moved to another port; this was the old one.
    Moved,
    /// The endpoint was removed or rejected, or its addresses changed.
    EndpointRemoved,
    /// Another gateway that shares the state may serve the address: its claim was released, or the lease has ended.
    ClaimLost,
    /// An injected fault.
    Fault,
    /// An operator ended the flow.
    Killed,
    /// The process is stopping.
    Shutdown,
}

impl DrainReason {
    /// The name in logs, metrics and tests.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Deregistered => "deregistered",
            Self::Unhealthy => "unhealthy",
            Self::Moved => "moved",
            Self::EndpointRemoved => "endpoint_removed",
            Self::ClaimLost => "claim_lost",
            Self::Fault => "fault",
            Self::Killed => "killed",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Why a connection to a target failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectError {
    /// The target answered the SYN with RST.
    Refused,
    /// The target did not answer in time.
    TimedOut,
    /// The kernel has no route to it.
    NoRoute,
    /// No source port is free for it (NLB's port allocation error).
    PortAllocation,
    /// The process has no descriptor left.
    NoDescriptors,
    /// Anything else.
    Other,
}

impl ConnectError {
    /// The name in logs, metrics and tests.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::NoRoute => "no_route",
            Self::PortAllocation => "port_allocation",
            Self::NoDescriptors => "no_descriptors",
            Self::Other => "other",
        }
    }
}

impl From<&io::Error> for ConnectError {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::NoRoute,
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Self::PortAllocation,
            _ => match rustix::io::Errno::from_io_error(error) {
                Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => Self::NoDescriptors,
                _ => Self::Other,
            },
        }
    }
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowEnd {
    /// Both sides closed, in either order.
    Completed,
    /// No byte moved in either direction for the listener's idle timeout.
    Idle,
    /// The gateway ended it.
    Drained(DrainReason),
    /// No target accepted the connection; nothing was relayed.
    Unreachable(ConnectError),
    /// One side's socket failed; `Reset` when it sent RST.
    Failed {
        /// The side that failed.
        side: Side,
        /// Whether it was an RST from that side.
        reset: bool,
    },
}

impl FlowEnd {
    /// Every label.
    pub const LABELS: [&'static str; 8] = [
        "completed",
        "idle",
        "drained",
        "unreachable",
        "client_reset",
        "target_reset",
        "client_failed",
        "target_failed",
    ];

    /// The name in logs, metrics and tests.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Idle => "idle",
            Self::Drained(_) => "drained",
            Self::Unreachable(_) => "unreachable",
            Self::Failed { side: Side::Client, reset: true } => "client_reset",
            Self::Failed { side: Side::Target, reset: true } => "target_reset",
            Self::Failed { side: Side::Client, reset: false } => "client_failed",
            Self::Failed { side: Side::Target, reset: false } => "target_failed",
        }
    }

    /// The reason besides the label, if there is one.
    #[must_use]
    pub fn detail(self) -> Option<&'static str> {
        match self {
            Self::Drained(reason) => Some(reason.label()),
            Self::Unreachable(error) => Some(error.label()),
            Self::Completed | Self::Idle | Self::Failed { .. } => None,
        }
    }
}
