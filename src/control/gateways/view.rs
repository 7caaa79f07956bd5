//! The gateways that share a state, for those who look.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::control::inventory::Timestamp;
use crate::model::{ClaimId, GatewayId};

/// The gateways that share the state, as one of them sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewaysView {
    /// The gateways in order of id.
    pub gateways: Vec<GatewayView>,
    /// The holder of each requested claim, in order of claim.
    pub claims: Vec<ClaimView>,
    /// Why this gateway is not heard of by the others, or does not listen where it is to.
    pub problem: Option<String>,
}

/// What a gateway does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GatewayState {
    /// It lives and serves addresses.
    Serving,
    /// It lives and waits for claims that others have.
    Standby,
    /// It is not heard of. Ports that it may have open are not given away until it comes back or is forgotten.
    Gone,
}

impl GatewayState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Serving, Self::Standby, Self::Gone];

    /// The one lower-case name in API and metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Standby => "standby",
            Self::Gone => "gone",
        }
    }
}

/// One of the gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayView {
    /// Its id.
    pub id: GatewayId,
    /// Whether it is the one that was asked.
    pub is_this: bool,
    /// What it does.
    pub state: GatewayState,
    /// Its configured claims; `None`: it serves all addresses.
    pub claims: Option<BTreeSet<ClaimId>>,
    /// The claims at whose addresses it listens.
    pub serving: BTreeSet<ClaimId>,
    /// Its version; `None`: it left, and only its ports are remembered.
    pub version: Option<String>,
    /// Where its admin API is.
    pub admin: Option<String>,
    /// When it started.
    pub started: Option<Timestamp>,
    /// How long ago it was heard of.
    pub heard: Option<Duration>,
}

/// Who has a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimView {
    /// The claim.
    pub claim: ClaimId,
    /// The gateway that has it; `None`: none.
    pub holder: Option<GatewayId>,
    /// Whether the holder stops to serve it when its lease is over, so that another one may take it.
    pub fenced: bool,
    /// Living gateways that are configured for it and do not have it.
    pub standbys: Vec<GatewayId>,
}
