//! The gateways that share a state, for views.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::control::inventory::Timestamp;
use crate::model::{ClaimId, GatewayId};

/// The gateways that share the state, as one of them sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewaysView {
    /// The gateways in order of id.
    pub gateways: Vec<GatewayView>,
    /// The holder of each configured claim, in order of claim.
    pub claims: Vec<ClaimView>,
    /// Why the others don't see this gateway, or why it does not serve everything that it should.
    pub problem: Option<String>,
}

/// The state of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GatewayState {
    /// It lives and serves addresses.
    Serving,
    /// It lives and waits for claims that others hold.
    Standby,
    /// It is not seen. Ports that it may have open are not reassigned until it comes back or is forgotten.
    Gone,
}

impl GatewayState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Serving, Self::Standby, Self::Gone];

    /// The name in the API and in metrics.
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
    /// Whether it is the gateway that answers.
    pub is_this: bool,
    /// Its state.
    pub state: GatewayState,
    /// Its configured claims; `None`: it serves all addresses.
    pub claims: Option<BTreeSet<ClaimId>>,
    /// The claims that it serves.
    pub serving: BTreeSet<ClaimId>,
    /// Its version; `None`: it left, and only its ports are remembered.
    pub version: Option<String>,
    /// The URL of its admin API.
    pub admin: Option<String>,
    /// When it started.
    pub started: Option<Timestamp>,
    /// Time since it was last seen, in seconds.
    pub heard: Option<Duration>,
}

/// The holder of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimView {
    /// The claim.
    pub claim: ClaimId,
    /// The gateway that holds it; `None`: none.
    pub holder: Option<GatewayId>,
    /// Whether the holder stops serving when its lease ends, so that another gateway can take it.
    pub fenced: bool,
    /// Living gateways that are configured for it and do not hold it.
    pub standbys: Vec<GatewayId>,
}
