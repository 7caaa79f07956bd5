//! The members of stand-in replica sets, and the commands to them.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Zone;

/// A member of a stand-in replica set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandInMember {
    /// Its cluster.
    pub cluster: String,
    /// Its node's name in the config.
    pub member: String,
    /// Its node's zone.
    pub zone: Zone,
    /// Its address for the gateway.
    pub address: SocketAddr,
    /// Its state in the set.
    pub state: StandInState,
    /// Whether a fault or a cut zone isolates it from the other members.
    pub isolated: bool,
}

/// The state of a member, as in `replSetGetStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StandInState {
    /// Accepts writes.
    Primary,
    /// Replicates.
    Secondary,
    /// It was stopped.
    Down,
}

/// An operator's command to the stand-ins. Each is answered with the resulting members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StandInCommand {
    /// Only list the members.
    List,
    /// Stop a member as a crash would: without a hand-over, its connections end.
    Stop {
        /// Its cluster.
        cluster: String,
        /// The node's name.
        member: String,
    },
    /// Start a stopped member.
    Start {
        /// Its cluster.
        cluster: String,
        /// The node's name.
        member: String,
    },
    /// Make the set's primary hand over to another member; it is not a candidate for a minute (`replSetStepDown`).
    StepDown {
        /// The cluster.
        cluster: String,
    },
}

/// Why a [`StandInCommand`] was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StandInRefusal {
    /// There is no such set or member.
    #[error("no stand-in {wanted}; the members of stand-in replica sets are: {known}")]
    Unknown {
        /// The requested set or member.
        wanted: String,
        /// The existing ones.
        known: String,
    },
    /// The set refused.
    #[error("{0}")]
    Refused(String),
    /// The process of the stand-ins does not answer.
    #[error("{0}")]
    Unavailable(String),
}
