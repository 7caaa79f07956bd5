//! What can be said of a flow: its id, why it was refused, how it ended.

use std::fmt;
use std::io;

use schemars::JsonSchema;
use serde::Serialize;

use super::ids::text_schema;

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

/// Which side of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The client's connection.
    Client,
    /// The target's connection.
    Target,
}

/// Why a connection was not let through. One name each, the same in log, metric and test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The endpoint is not available.
    EndpointState,
    /// It came from the service's side: connectivity is one-way.
    OneWay,
    /// It came from a network that is not joined to the endpoint's VPC.
    Origin,
    /// No rule of a security group lets it in, or out of the client.
    SecurityGroup,
    /// Its source is not on the IP access list (public path only).
    AccessList,
    /// The target holds as many flows as it may.
    FlowLimit,
    /// The node takes no more connections, by its cluster's limit.
    ConnectionLimit,
    /// Its source holds as many flows as one may, of the descriptors that the process has.
    SourceLimit,
    /// The lease of its address' zone is over: another gateway may serve it.
    ClaimLost,
    /// No target is registered behind the listener.
    NoTarget,
    /// It came from a load balancer whose PROXY protocol header is taken, and had none.
    ProxyHeader,
    /// A fault that was asked for: the connection is reset.
    FaultReset,
    /// A fault that was asked for: nothing is answered.
    FaultDropped,
}

/// What a refused client sees on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalMode {
    /// No answer: the client times out.
    Dropped,
    /// RST.
    Reset,
    /// The connection is closed, as a `mongod` closes one past its limit: FIN, or RST where the client has sent something.
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

    /// The one lower-case name in log, metric and test.
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

    /// How AWS lets it look: a network that is not joined, a closed security group and a full load balancer drop.
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
    /// The target took another port; this was the old one.
    Moved,
    /// The endpoint was removed, rejected or changed its addresses.
    EndpointRemoved,
    /// Another gateway that shares the state may serve the address: its claim was given up, or the lease of it is over.
    ClaimLost,
    /// A fault that was asked for.
    Fault,
    /// An operator ended the flow.
    Killed,
    /// The process stops.
    Shutdown,
}

impl DrainReason {
    /// The one lower-case name in log, metric and test.
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

/// Why no connection to a target came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectError {
    /// The target answered the SYN with RST.
    Refused,
    /// The target did not answer in time.
    TimedOut,
    /// The kernel knows no way to it.
    NoRoute,
    /// No source port is free towards it (NLB's port allocation error).
    PortAllocation,
    /// The process has no descriptor left.
    NoDescriptors,
    /// Anything else.
    Other,
}

impl ConnectError {
    /// The one lower-case name in log, metric and test.
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
    /// No target accepted the connection, so nothing was relayed.
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

    /// The one lower-case name in log, metric and test.
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

    /// The reason behind the label, where there is one.
    #[must_use]
    pub fn detail(self) -> Option<&'static str> {
        match self {
            Self::Drained(reason) => Some(reason.label()),
            Self::Unreachable(error) => Some(error.label()),
            Self::Completed | Self::Idle | Self::Failed { .. } => None,
        }
    }
}
