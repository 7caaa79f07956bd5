//! What gateways that share a state write about themselves, below one prefix.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::control::inventory::Timestamp;
use crate::control::store::{Entry, Revision, StateKey};
use crate::model::{ClaimId, GatewayId};

/// Everything of this module.
pub(super) const PREFIX: &str = "gateways/";
/// By gateway: that it lives.
const LIVES: &str = "gateways/lives/";
/// By claim: who has it.
const CLAIMS: &str = "gateways/claims/";

/// A gateway, as it says of itself. Written again and again: while it changes, the gateway lives.
///
/// Fields that are not known are left alone, as a later version may write more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registration {
    /// Tells the process from others with the gateway's id.
    pub(super) process: u64,
    /// Where it runs: no two processes there can listen at one address. Empty: it does not know.
    pub(super) host: String,
    /// Grows with each renewal.
    pub(super) renewal: u64,
    /// The program's version.
    pub(super) version: String,
    /// The claims that it serves when it can have them; `None`: it serves all addresses, without claims.
    pub(super) claims: Option<BTreeSet<ClaimId>>,
    /// The claims at whose addresses it listens.
    pub(super) serving: BTreeSet<ClaimId>,
    /// Where its admin API is.
    pub(super) admin: Option<String>,
    /// When the process started.
    pub(super) started: Timestamp,
}

/// Who has a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) gateway: GatewayId,
    pub(super) process: u64,
    /// Whether the holder stops to serve when its lease is over. It does from the moment on that another gateway waits for the
    /// claim; alone it serves on when the store does not answer.
    pub(super) fenced: bool,
}

/// An entry of the store, as far as this module is concerned.
pub(super) enum Record {
    Registration(GatewayId, Registration),
    Claim(ClaimId, Claim),
}

impl Record {
    /// What an entry says; `None`: a later version wrote it.
    pub(super) fn read(entry: &Entry) -> Option<(Self, Revision)> {
        let key = entry.key.as_str();
        let record = if let Some(id) = key.strip_prefix(LIVES) {
            Self::Registration(id.parse().ok()?, serde_json::from_slice(&entry.value).ok()?)
        } else {
            Self::Claim(key.strip_prefix(CLAIMS)?.parse().ok()?, serde_json::from_slice(&entry.value).ok()?)
        };
        Some((record, entry.revision))
    }
}

pub(super) fn registration_key(id: &GatewayId) -> StateKey {
    StateKey::own(&format!("{LIVES}{id}"))
}

pub(super) fn claim_key(claim: &ClaimId) -> StateKey {
    StateKey::own(&format!("{CLAIMS}{claim}"))
}
