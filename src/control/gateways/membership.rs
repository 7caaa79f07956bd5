//! Which claims this gateway has, and which gateways live: pure, by a clock of the caller's.
//!
//! A gateway lives while its registration changes. Everyone measures that by its own monotonic clock, from the moment at
//! which it saw the latest change, as Kubernetes' leader election does: no two clocks are compared. The holder of a fenced
//! claim stops to serve [`LEASE`] after it *sent* its latest renewal; another gateway takes the claim at the earliest
//! [`TAKEOVER`] after it *saw* that renewal, which is later, in a transaction that fails when there was another one since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::records::{Claim, Record, Registration, claim_key, registration_key};
use crate::control::store::{Entry, ExpectedRevision, Revision, StateKey, Txn, json};
use crate::model::{ClaimId, GatewayId};

/// Between two renewals.
pub(super) const RENEWAL: Duration = Duration::from_secs(1);
/// How long a gateway counts as living after a renewal.
pub(super) const LEASE: Duration = Duration::from_secs(6);
/// After how long another gateway may take its claims: time enough for its listeners to be closed, and for clocks that do not
/// run at quite the same speed.
pub(super) const TAKEOVER: Duration = Duration::from_secs(8);
/// After how long without contact to the store nothing that was seen before counts: others could have been without it too.
const CONTACT: Duration = Duration::from_secs(4);

/// A gateway that another one sees.
#[derive(Debug, Clone)]
struct Peer {
    registration: Registration,
    revision: Revision,
    /// When its latest renewal was seen.
    seen: Duration,
}

/// A renewal that was made and not yet answered.
#[derive(Debug, Clone)]
pub(super) struct Renewal {
    pub(super) txn: Txn,
    claims: BTreeMap<ClaimId, Claim>,
}

/// What this gateway knows of itself and the others.
#[derive(Debug)]
pub(super) struct Membership {
    id: GatewayId,
    own: Registration,
    /// The revision of this process' registration, once it is there.
    registered: Option<Revision>,
    /// The others; also an earlier process with this gateway's id.
    peers: BTreeMap<GatewayId, Peer>,
    claims: BTreeMap<ClaimId, (Claim, Revision)>,
    /// Claims that this process has said to be fenced, or may have.
    fenced: BTreeSet<ClaimId>,
    /// Claims whose addresses could not be bound here and that another gateway wants, with the moment. This one has no lease of them
    /// any more; its renewals delete them, and the others have [`LEASE`] to take them.
    given_up: BTreeMap<ClaimId, Duration>,
    /// When the latest renewal that the store took was sent.
    renewed: Option<Duration>,
    /// When the store last answered a read.
    contact: Option<Duration>,
}

/// A gateway, for views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen<'a> {
    pub(super) id: &'a GatewayId,
    pub(super) registration: &'a Registration,
    pub(super) lives: bool,
    /// How long ago its latest renewal was seen.
    pub(super) heard: Duration,
}

impl Membership {
    pub(super) fn new(id: GatewayId, own: Registration) -> Self {
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

    /// Takes in all entries of the store, which were read before `now`.
    pub(super) fn read(&mut self, entries: &[Entry], now: Duration) {
        let is_long_ago = |moment: Duration| now.saturating_sub(moment) > CONTACT;
        // A store that answers reads and refuses this gateway's renewals refuses those of all.
        let was_away = self.contact.is_none_or(is_long_ago) || self.renewed.is_some_and(is_long_ago);
        let before = std::mem::take(&mut self.peers);
        (self.registered, self.claims) = (None, BTreeMap::new());
        for (record, revision) in entries.iter().filter_map(Record::read) {
            match record {
                Record::Registration(id, registration) if self.is_own(&id, registration.process) => {
                    self.registered = Some(revision);
                }
                Record::Registration(id, registration) => {
                    let known = before.get(&id).filter(|known| known.revision == revision && !was_away);
                    let seen = known.map_or(now, |known| known.seen);
                    self.peers.insert(id, Peer { registration, revision, seen });
                }
                Record::Claim(id, claim) => {
                    self.claims.insert(id, (claim, revision));
                }
            }
        }
        self.contact = Some(now);
    }

    fn is_own(&self, id: &GatewayId, process: u64) -> bool {
        *id == self.id && process == self.own.process
    }

    /// The next renewal, with the changes of claims that are possible; `serving`: where this gateway listens; `unbound`: the claims
    /// that it has and whose addresses it cannot bind. `None`: another process has this gateway's id, and may live. Before it is
    /// sent, what listens has to go by [`Membership::leases`], which may end earlier than before.
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
            let Some(compares) = self.way_to(&id, &claim, now) else {
                // A renewal that arrives after another gateway took the claim renews nothing.
                if let Some((_, revision)) = self.claims.get(&id).filter(|(held, _)| *held == claim) {
                    txn.compares.push((claim_key(&id), at(*revision)));
                }
                continue;
            };
            txn.compares.extend(compares);
            txn.puts.push((claim_key(&id), json(&claim).into()));
            if fenced {
                // From here on: it may be in the store, whatever is heard of it.
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

    /// Whether the other process with this gateway's id is gone. One of the same host that was there before is, as both could not
    /// listen.
    fn may_replace(&self, other: &Peer, now: Duration) -> bool {
        let is_same_host = !self.own.host.is_empty() && other.registration.host == self.own.host;
        let is_restart = self.renewed.is_none() && is_same_host;
        is_restart || now.saturating_sub(other.seen) >= TAKEOVER
    }

    /// What must hold for `claim` to be written; `None`: it is not to be.
    fn way_to(&self, id: &ClaimId, claim: &Claim, now: Duration) -> Option<Vec<(StateKey, ExpectedRevision)>> {
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
                // One that was started again no longer has what the earlier process had.
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

    /// The store took `renewal`, sent at `sent`, with `revision`.
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

    /// The claims that this gateway has, each with the moment from which on it may serve it no more; `None`: there is none.
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

    /// The claims that a living gateway other than this one listens for; `None`: one of them listens at all addresses.
    pub(super) fn served_by_others(&self, now: Duration) -> Option<BTreeSet<ClaimId>> {
        let living = || self.peers.values().filter(|peer| lives(peer, now)).map(|peer| &peer.registration);
        let all = living().all(|registration| registration.claims.is_some());
        all.then(|| living().flat_map(|registration| &registration.serving).cloned().collect())
    }

    /// Every gateway that is registered, this one too; `judged`: when the others were last to be judged by what was read.
    pub(super) fn gateways(&self, now: Duration, judged: Duration) -> Vec<Seen<'_>> {
        let own = Seen {
            id: &self.id,
            registration: &self.own,
            lives: self.renewed.is_some_and(|renewed| now.saturating_sub(renewed) < LEASE),
            heard: now.saturating_sub(self.renewed.unwrap_or_default()),
        };
        let others = self.peers.iter().filter(|(id, _)| **id != self.id).map(|(id, peer)| Seen {
            id,
            registration: &peer.registration,
            lives: lives(peer, judged),
            heard: now.saturating_sub(peer.seen),
        });
        let mut all: Vec<_> = std::iter::once(own).chain(others).collect();
        all.sort_by_key(|seen| seen.id);
        all
    }

    /// Who has each claim, and whether it stops to serve it when its lease is over.
    pub(super) fn holders(&self) -> impl Iterator<Item = (&ClaimId, &GatewayId, bool)> {
        self.claims.iter().map(|(id, (claim, _))| (id, &claim.gateway, claim.fenced))
    }

    /// What gives up everything that this gateway has, once it listens no more.
    pub(super) fn leaving(&self) -> Option<Txn> {
        let key = registration_key(&self.id);
        let txn = Txn::new().compare(key.clone(), at(self.registered?)).delete(key);
        let own = self.claims.iter().filter(|(_, (claim, _))| self.is_own(&claim.gateway, claim.process));
        Some(own.fold(txn, |txn, (id, (_, revision))| txn.compare(claim_key(id), at(*revision)).delete(claim_key(id))))
    }

    /// What takes the registration of a gateway away that is gone, so that others take its claims; `None`: it has none.
    ///
    /// # Errors
    ///
    /// How long ago it was heard of, when it may live.
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
