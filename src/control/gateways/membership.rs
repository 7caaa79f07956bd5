//! Which claims this gateway holds, and which gateways live. Pure; the caller passes the time.
//!
//! A gateway lives while its registration changes. Each gateway measures this by its own monotonic clock, from the
//! moment at which it saw the latest change, as Kubernetes' leader election does: no two clocks are compared. The
//! holder of a fenced claim stops serving [`LEASE`] after it *sent* its latest renewal. Another gateway takes the claim
//! [`TAKEOVER`] after it *saw* that renewal, which is later, in a transaction that fails if there was another renewal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::records::{Claim, GatewayRecord, GatewayRegistration, claim_key, registration_key};
use crate::control::store::{Entry, ExpectedRevision, Revision, StateKey, Txn, json};
use crate::model::{ClaimId, GatewayId};

/// Interval of renewals.
pub(super) const RENEWAL: Duration = Duration::from_secs(1);
/// How long a gateway counts as living after a renewal.
pub(super) const LEASE: Duration = Duration::from_secs(6);
/// Time after which another gateway may take its claims. Longer than the lease, so that its listeners can close, and to
/// allow for clocks that run at different speeds.
pub(super) const TAKEOVER: Duration = Duration::from_secs(8);
/// Without contact to the store for this long, earlier observations are discarded, as the other gateways may have been
/// cut off too.
const CONTACT: Duration = Duration::from_secs(4);

/// Another gateway, as last seen.
#[derive(Debug, Clone)]
struct Peer {
    registration: GatewayRegistration,
    revision: Revision,
    /// When its latest renewal was seen.
    seen: Duration,
}

/// A renewal without a response yet.
#[derive(Debug, Clone)]
pub(super) struct Renewal {
    pub(super) txn: Txn,
    claims: BTreeMap<ClaimId, Claim>,
}

/// This gateway's view of itself and the others.
#[derive(Debug)]
pub(super) struct Membership {
    id: GatewayId,
    own: GatewayRegistration,
    /// The revision of this process' registration, if it has one.
    registered: Option<Revision>,
    /// The other gateways, and an earlier process with this gateway's id.
    peers: BTreeMap<GatewayId, Peer>,
    claims: BTreeMap<ClaimId, (Claim, Revision)>,
    /// Claims that this process has, or may have, marked as fenced.
    fenced: BTreeSet<ClaimId>,
    /// Claims whose addresses could not be bound here and that another gateway wants, with the time. This gateway no
    /// longer has a lease of them; its renewals delete them, and the others have [`LEASE`] to take them.
    given_up: BTreeMap<ClaimId, Duration>,
    /// When the latest successful renewal was sent.
    renewed: Option<Duration>,
    /// When the store last answered a read.
    contact: Option<Duration>,
}

/// A gateway, for views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RegisteredGateway<'a> {
    pub(super) id: &'a GatewayId,
    pub(super) registration: &'a GatewayRegistration,
    pub(super) lives: bool,
    /// Time since its latest renewal was seen.
    pub(super) heard: Duration,
}

impl Membership {
    pub(super) fn new(id: GatewayId, own: GatewayRegistration) -> Self {
        Self {
            id,
            own,
            registered: None,
            peers: BTreeMap::new(),
            claims: BTreeMap::new(),
            fenced: BTreeSet::new(),
            given_up: BTreeMap::new(),
            renewed: None,
            contact: None,
        }
    }

    /// Updates the view with all entries of the store, read before `now`.
    pub(super) fn read(&mut self, entries: &[Entry], now: Duration) {
        let is_long_ago = |moment: Duration| now.saturating_sub(moment) > CONTACT;
        // A store that answers reads but refuses this gateway's renewals refuses those of all gateways.
        let was_away = self.contact.is_none_or(is_long_ago) || self.renewed.is_some_and(is_long_ago);
        let before = std::mem::take(&mut self.peers);
        (self.registered, self.claims) = (None, BTreeMap::new());
        for (record, revision) in entries.iter().filter_map(GatewayRecord::read) {
            match record {
                GatewayRecord::Registration(id, registration) if self.is_own(&id, registration.process) => {
                    self.registered = Some(revision);
                }
                GatewayRecord::Registration(id, registration) => {
                    let known = before.get(&id).filter(|known| known.revision == revision && !was_away);
                    let seen = known.map_or(now, |known| known.seen);
                    self.peers.insert(id, Peer { registration, revision, seen });
                }
                GatewayRecord::Claim(id, claim) => {
                    self.claims.insert(id, (claim, revision));
                }
            }
        }
        self.contact = Some(now);
    }

    fn is_own(&self, id: &GatewayId, process: u64) -> bool {
        *id == self.id && process == self.own.process
    }

    /// The next renewal, with the possible changes of claims. `serving`: the claims that this gateway serves;
    /// `unbound`: the claims that it holds but whose addresses it can't bind. `None`: another process has this
    /// gateway's id and may live. Before it is sent, the listeners must obey [`Membership::leases`], which may end
    /// earlier than before.
    pub(super) fn renewal(
        &mut self,
        serving: &BTreeSet<ClaimId>,
        unbound: &BTreeSet<ClaimId>,
        now: Duration,
    ) -> Option<Renewal> {
        let earlier = self.peers.get(&self.id).map(|peer| (peer.revision, self.may_replace(peer, now)));
        let expected = match (self.registered, earlier) {
            (Some(revision), _) => at(revision),
            (None, Some((_, false))) => return None,
            (None, Some((revision, true))) => at(revision),
            (None, None) => ExpectedRevision::Absent,
        };
        self.own.renewal += 1;
        self.own.serving.clone_from(serving);
        let key = registration_key(&self.id);
        let mut txn = Txn::new().compare(key.clone(), expected).put(key, json(&self.own));
        let mut claims = BTreeMap::new();
        for id in self.own.claims.clone().unwrap_or_default() {
            let fenced = self.is_wanted_by_another(&id, now);
            let held = self.claims.get(&id);
            if let Some((_, revision)) = held.filter(|(claim, _)| self.is_own(&claim.gateway, claim.process)) {
                if self.given_up.contains_key(&id) || fenced && unbound.contains(&id) {
                    txn = txn.compare(claim_key(&id), at(*revision)).delete(claim_key(&id));
                    self.given_up.insert(id, now);
                    continue;
                }
            } else if let Some(since) = self.given_up.get(&id) {
                if fenced && held.is_none() && now.saturating_sub(*since) < LEASE {
                    continue;
                }
                self.given_up.remove(&id);
            }
            let claim = Claim { gateway: self.id.clone(), process: self.own.process, fenced };
            let Some(compares) = self.compares_for(&id, &claim, now) else {
                // A renewal that arrives after another gateway took the claim has no effect.
                if let Some((_, revision)) = self.claims.get(&id).filter(|(held, _)| *held == claim) {
                    txn.compares.push((claim_key(&id), at(*revision)));
                }
                continue;
            };
            txn.compares.extend(compares);
            txn.puts.push((claim_key(&id), json(&claim).into()));
            if fenced {
                // From here on it may be in the store, whatever the response.
                self.fenced.insert(id.clone());
            }
            claims.insert(id, claim);
        }
        for (id, (claim, revision)) in &self.claims {
            let wanted = self.own.claims.as_ref().is_some_and(|wanted| wanted.contains(id));
            if claim.gateway == self.id && !wanted {
                txn = txn.compare(claim_key(id), at(*revision)).delete(claim_key(id));
            }
        }
        Some(Renewal { txn, claims })
    }

    /// Whether the other process with this gateway's id is gone. An earlier one on the same host is, as both could not
    /// listen.
    fn may_replace(&self, other: &Peer, now: Duration) -> bool {
        let is_same_host = !self.own.host.is_empty() && other.registration.host == self.own.host;
        let is_restart = self.renewed.is_none() && is_same_host;
        is_restart || now.saturating_sub(other.seen) >= TAKEOVER
    }

    /// The conditions for writing `claim`; `None`: it must not be written.
    fn compares_for(&self, id: &ClaimId, claim: &Claim, now: Duration) -> Option<Vec<(StateKey, ExpectedRevision)>> {
        let Some((held, revision)) = self.claims.get(id) else {
            return Some(vec![(claim_key(id), ExpectedRevision::Absent)]);
        };
        let mut compares = vec![(claim_key(id), at(*revision))];
        let may_be_fenced = self.fenced.contains(id) && !claim.fenced;
        if held == claim && !may_be_fenced {
            return None;
        }
        if held.gateway == self.id {
            return Some(compares);
        }
        let key = registration_key(&held.gateway);
        match self.peers.get(&held.gateway) {
            // It left, or was forgotten.
            None => compares.push((key, ExpectedRevision::Absent)),
            Some(holder) => {
                let is_over = now.saturating_sub(holder.seen) >= TAKEOVER && held.fenced;
                // A restarted holder no longer has the claims of its earlier process.
                if !is_over && holder.registration.process == held.process {
                    return None;
                }
                compares.push((key, at(holder.revision)));
            }
        }
        Some(compares)
    }

    fn is_wanted_by_another(&self, id: &ClaimId, now: Duration) -> bool {
        let wants = |peer: &Peer| peer.registration.claims.as_ref().is_some_and(|claims| claims.contains(id));
        self.peers.iter().any(|(name, peer)| *name != self.id && lives(peer, now) && wants(peer))
    }

    /// Records that `renewal`, sent at `sent`, succeeded with `revision`.
    pub(super) fn renewed(&mut self, renewal: Renewal, sent: Duration, revision: Revision) {
        self.registered = Some(revision);
        self.peers.remove(&self.id);
        self.renewed = Some(sent);
        for (id, claim) in renewal.claims {
            if !claim.fenced {
                self.fenced.remove(&id);
            }
            self.claims.insert(id, (claim, revision));
        }
    }

    /// The claims of this gateway, each with the time at which it must stop serving; `None`: no limit.
    pub(super) fn leases(&self) -> BTreeMap<ClaimId, Option<Duration>> {
        let Some(renewed) = self.renewed else { return BTreeMap::new() };
        let own = self.claims.iter().filter(|(_, (claim, _))| self.is_own(&claim.gateway, claim.process));
        own.filter(|(id, _)| !self.given_up.contains_key(*id))
            .map(|(id, (claim, _))| {
                let is_fenced = claim.fenced || self.fenced.contains(id);
                (id.clone(), is_fenced.then_some(renewed + LEASE))
            })
            .collect()
    }

    /// The claims that other living gateways serve; `None`: one of them serves all addresses.
    pub(super) fn served_by_others(&self, now: Duration) -> Option<BTreeSet<ClaimId>> {
        let living = || self.peers.values().filter(|peer| lives(peer, now)).map(|peer| &peer.registration);
        let all = living().all(|registration| registration.claims.is_some());
        all.then(|| living().flat_map(|registration| &registration.serving).cloned().collect())
    }

    /// Every registered gateway, including this one. `judged`: when the others were last judged by what was read.
    pub(super) fn gateways(&self, now: Duration, judged: Duration) -> Vec<RegisteredGateway<'_>> {
        let own = RegisteredGateway {
            id: &self.id,
            registration: &self.own,
            lives: self.renewed.is_some_and(|renewed| now.saturating_sub(renewed) < LEASE),
            heard: now.saturating_sub(self.renewed.unwrap_or_default()),
        };
        let others = self.peers.iter().filter(|(id, _)| **id != self.id).map(|(id, peer)| RegisteredGateway {
            id,
            registration: &peer.registration,
            lives: lives(peer, judged),
            heard: now.saturating_sub(peer.seen),
        });
        let mut all: Vec<_> = std::iter::once(own).chain(others).collect();
        all.sort_by_key(|seen| seen.id);
        all
    }

    /// The holder of each claim, and whether it stops serving when its lease ends.
    pub(super) fn holders(&self) -> impl Iterator<Item = (&ClaimId, &GatewayId, bool)> {
        self.claims.iter().map(|(id, (claim, _))| (id, &claim.gateway, claim.fenced))
    }

    /// The transaction that releases everything this gateway holds, once no listener is open.
    pub(super) fn leaving(&self) -> Option<Txn> {
        let key = registration_key(&self.id);
        let txn = Txn::new().compare(key.clone(), at(self.registered?)).delete(key);
        let own = self.claims.iter().filter(|(_, (claim, _))| self.is_own(&claim.gateway, claim.process));
        Some(own.fold(txn, |txn, (id, (_, revision))| txn.compare(claim_key(id), at(*revision)).delete(claim_key(id))))
    }

    /// The transaction that removes the registration of a gateway that is gone, so that others can take its claims;
    /// `None`: it has none.
    ///
    /// # Errors
    ///
    /// The time since it was last seen, if it may live.
    pub(super) fn forgetting(&self, gateway: &GatewayId, now: Duration) -> Result<Option<Txn>, Duration> {
        if *gateway == self.id {
            return Err(Duration::ZERO);
        }
        let Some(peer) = self.peers.get(gateway) else { return Ok(None) };
        if lives(peer, now) {
            return Err(now.saturating_sub(peer.seen));
        }
        let key = registration_key(gateway);
        Ok(Some(Txn::new().compare(key.clone(), at(peer.revision)).delete(key)))
    }
}

fn lives(peer: &Peer, now: Duration) -> bool {
    now.saturating_sub(peer.seen) < LEASE
}

fn at(revision: Revision) -> ExpectedRevision {
    ExpectedRevision::At(revision)
}
