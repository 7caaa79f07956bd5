//! The claims that a gateway should serve, and those it serves.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ClaimId, Lease};

/// The claims that this gateway should serve, and those that others serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::control) struct Serving {
    /// The claims that it holds, with their leases; `None`: it serves all addresses.
    pub(in crate::control) here: Option<BTreeMap<ClaimId, Lease>>,
    /// The claims that others serve; `None`: all.
    pub(in crate::control) elsewhere: Option<BTreeSet<ClaimId>>,
}

impl Serving {
    /// The claims that any gateway serves; `None`: all.
    pub(in crate::control) fn served_claims(&self) -> Option<BTreeSet<ClaimId>> {
        let here = self.here.iter().flat_map(BTreeMap::keys);
        self.elsewhere.as_ref().map(|others| others.iter().chain(here).cloned().collect())
    }
}

/// The claims that it serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::control) struct Served {
    pub(super) claims: BTreeSet<ClaimId>,
    /// The claims that it holds but whose addresses it can't bind.
    pub(super) unbound: BTreeSet<ClaimId>,
    /// Why it does not serve everything that it should.
    pub(super) problem: Option<String>,
}
