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
    /// Where the gateway reaches it.
    pub address: SocketAddr,
    /// What it is in its set.
    pub state: StandInState,
    /// A fault or a cut zone keeps it from the other members.
    pub isolated: bool,
}

/// What a member is in its set, as `replSetGetStatus` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StandInState {
    /// Takes writes.
    Primary,
    /// Copies.
    Secondary,
    /// It was stopped.
    Down,
}

/// An operator's command to the stand-ins. Each is answered with the resulting members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StandInCommand {
    /// Nothing but the members.
    List,
    /// Stops a member as a crash would: nothing is handed over, its connections end.
    Stop {
        /// Its cluster.
        cluster: String,
        /// The node's name.
        member: String,
    },
    /// Starts a member that was stopped.
    Start {
        /// Its cluster.
        cluster: String,
        /// The node's name.
        member: String,
    },
    /// The set's primary hands over to another member, and does not run for election for a minute (`replSetStepDown`).
    StepDown {
        /// The cluster.
        cluster: String,
    },
}

/// Why a [`StandInCommand`] was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StandInRefusal {
    /// There is no such set or member.
    #[error("no stand-in {wanted}; the members of stand-in replica sets are: {known}")]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// The set refused.
    #[error("{0}")]
    Refused(String),
    /// The process of the stand-ins does not answer.
    #[error("{0}")]
    Unavailable(String),
}
