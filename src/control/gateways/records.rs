//! The records that gateways with a shared state write about themselves, below one prefix.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::control::inventory::Timestamp;
use crate::control::store::{Entry, Revision, StateKey};
use crate::model::{ClaimId, GatewayId};

/// The prefix of all records.
pub(super) const PREFIX: &str = "gateways/";
/// Prefix of registrations, by gateway.
const REGISTRATIONS: &str = "gateways/lives/";
/// Prefix of claims' holders, by claim.
const CLAIMS: &str = "gateways/claims/";

/// The registration of a gateway. It is written periodically: while it changes, the gateway lives.
///
/// Unknown fields are ignored, as a later version may write more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GatewayRegistration {
    /// Distinguishes the process from others with the gateway's id.
    pub(super) process: u64,
    /// The host, on which no two processes can bind one address. Empty: unknown.
    pub(super) host: String,
    /// Grows with each renewal.
    pub(super) renewal: u64,
    /// The program's version.
    pub(super) version: String,
    /// The claims that it is configured for; `None`: it serves all addresses, without claims.
    pub(super) claims: Option<BTreeSet<ClaimId>>,
    /// The claims that it serves.
    pub(super) serving: BTreeSet<ClaimId>,
    /// The URL of its admin API.
    pub(super) admin: Option<String>,
    /// When the process started.
    pub(super) started: Timestamp,
}

/// The holder of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) gateway: GatewayId,
    pub(super) process: u64,
    /// Whether the holder stops serving when its lease ends. It does as soon as another gateway waits for the claim;
    /// alone it continues to serve when the store does not answer.
    pub(super) fenced: bool,
}

/// An entry of the store below [`PREFIX`].
pub(super) enum GatewayRecord {
    Registration(GatewayId, GatewayRegistration),
    Claim(ClaimId, Claim),
}

impl GatewayRecord {
    /// Parses an entry; `None`: a later version wrote it.
    pub(super) fn read(entry: &Entry) -> Option<(Self, Revision)> {
        let key = entry.key.as_str();
        let record = if let Some(id) = key.strip_prefix(REGISTRATIONS) {
            Self::Registration(id.parse().ok()?, serde_json::from_slice(&entry.value).ok()?)
        } else {
            Self::Claim(key.strip_prefix(CLAIMS)?.parse().ok()?, serde_json::from_slice(&entry.value).ok()?)
        };
        Some((record, entry.revision))
    }
}

pub(super) fn registration_key(id: &GatewayId) -> StateKey {
    StateKey::own(&format!("{REGISTRATIONS}{id}"))
}

pub(super) fn claim_key(claim: &ClaimId) -> StateKey {
    StateKey::own(&format!("{CLAIMS}{claim}"))
}
