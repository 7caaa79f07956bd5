//! What a gateway is to serve, and what it does.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ClaimId, Lease};

/// Where this gateway is to listen, and what is served at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::control) struct Serving {
    /// The claims that it has, with their leases; `None`: it serves all addresses.
    pub(in crate::control) here: Option<BTreeMap<ClaimId, Lease>>,
    /// What others serve; `None`: everything.
    pub(in crate::control) elsewhere: Option<BTreeSet<ClaimId>>,
}

impl Serving {
    /// The claims that are served by any gateway; `None`: everything is.
    pub(in crate::control) fn anywhere(&self) -> Option<BTreeSet<ClaimId>> {
        let here = self.here.iter().flat_map(BTreeMap::keys);
        self.elsewhere.as_ref().map(|others| others.iter().chain(here).cloned().collect())
    }
}

/// Where it listens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::control) struct Served {
    pub(super) claims: BTreeSet<ClaimId>,
    /// The claims that it has and whose addresses it cannot bind.
    pub(super) unbound: BTreeSet<ClaimId>,
    /// Why it does not listen everywhere where it is to.
    pub(super) problem: Option<String>,
}
