//! Additional keys of a state store that gateways share, which give their changes one order.
//!
//! Every change compares and rewrites one key, [`HEAD`]. Of two concurrent changes one is refused and repeated on the
//! other's result, so no address, port or index is assigned twice, whichever keys the changes write. The same
//! transaction writes the gateway's own key below [`LAST`], from which it learns whether a change with an unknown
//! outcome happened.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::config_base::CONFIG;
use super::holder::{self, HOLDERS, Holder};
use super::inventory::Timestamp;
use super::saved_error::SavedError;
use super::store::{Entry, ExpectedRevision, Revision, StateKey, StateStore, StoreError, Txn, json};
use crate::model::GatewayId;

/// Written by every change; also the prefix to watch for changes.
pub(super) const HEAD: &str = "head";
/// Prefix of each gateway's latest change.
const LAST: &str = "last/";
/// Prefix of each gateway that may have ports open, even if it is not seen; a [`KnownGateway`].
pub(super) const KNOWN: &str = "known/";

/// The format in which this version writes the shared state. A version with a format that this one would misread has a
/// greater number, and uses that format once every known gateway can read it.
pub(super) const FORMAT: u32 = 1;

/// Additional operations of each change; three of them are for a forgotten gateway.
pub(super) const OPERATIONS: usize = 8;

/// How often a change with an unknown outcome is sent.
const MAX_SENDS: usize = 3;

/// The latest change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The number of changes so far.
    pub(super) seq: u64,
    /// The gateway that made it.
    pub(super) by: GatewayId,
    /// The time, by that gateway's clock.
    at: Timestamp,
    /// The format of the state from this change on: the lowest of all known gateways.
    #[serde(default = "first_format")]
    format: u32,
}

/// A gateway that may have ports open.
#[derive(Debug, Serialize, Deserialize)]
struct KnownGateway {
    /// The latest format that it reads.
    #[serde(default = "first_format")]
    format: u32,
}

/// The format of a record without one.
fn first_format() -> u32 {
    1
}

/// Whether this process holds the gateway's id.
#[derive(Debug, Clone, PartialEq, Eq)]
enum IdHold {
    Held,
    /// Not yet: the next change takes it, expecting this revision of the key.
    Free(ExpectedRevision),
}

/// This gateway's view of the shared keys.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) id: GatewayId,
    /// This process.
    holder: Holder,
    claim: IdHold,
    /// The config of all gateways that the next change writes; empty: none is published yet.
    config: Bytes,
    /// The config that is in the store.
    config_in_force: Bytes,
    /// The latest change that this gateway has applied, with its revision.
    head: Option<(Head, Revision)>,
    /// All gateways that may have listeners open, with the latest format that each reads.
    known: BTreeMap<GatewayId, u32>,
    /// A gateway that the next change removes from `known`.
    pub(super) forgotten: Option<GatewayId>,
    /// The number of changes that this process has tried.
    tried: u64,
    /// The latest of them that happened.
    committed: Option<u64>,
    /// The change by which this process took the gateway's id.
    joined: Revision,
}

/// The state of these keys after a change has happened.
pub(super) struct PendingChange {
    head: Head,
    number: u64,
    last: String,
}

impl Shared {
    /// Prepares to serve as the gateway `id`; takes effect with the first change.
    ///
    /// # Errors
    ///
    /// [`SavedError::Taken`] while another process serves as it.
    pub(super) async fn join(store: &dyn StateStore, id: GatewayId, holder: Holder) -> Result<Self, SavedError> {
        let claim = IdHold::Free(holder::wait_until_free(store, &id, &holder).await?);
        Ok(Self {
            id,
            holder,
            claim,
            config: Bytes::new(),
            config_in_force: Bytes::new(),
            head: None,
            known: BTreeMap::new(),
            forgotten: None,
            tried: 0,
            committed: None,
            joined: Revision::default(),
        })
    }

    /// Whether a change is due although the state is saved: to join, or to publish a config.
    pub(super) fn is_due(&self) -> bool {
        self.claim != IdHold::Held
            || !self.is_known()
            || self.forgotten.is_some()
            || self.config_in_force != self.config
    }

    /// Whether the store lists this gateway with this version's format.
    fn is_known(&self) -> bool {
        self.known.get(&self.id) == Some(&FORMAT)
    }

    /// Whether `gateway` may have listeners open.
    pub(super) fn has_gateway(&self, gateway: &GatewayId) -> bool {
        self.known.contains_key(gateway)
    }

    /// Whether no other gateway may have listeners open.
    pub(super) fn is_alone(&self) -> bool {
        self.known.keys().all(|known| *known == self.id)
    }

    /// All gateways that may have listeners open, including this one.
    pub(super) fn gateways(&self) -> BTreeSet<GatewayId> {
        self.known.keys().chain([&self.id]).cloned().collect()
    }

    /// The config of all gateways that the next change writes; empty: none is published yet.
    pub(super) fn config(&self) -> &Bytes {
        &self.config
    }

    /// Sets the config that the next change publishes; returns the previous one.
    pub(super) fn set_config(&mut self, config: Bytes) -> Bytes {
        std::mem::replace(&mut self.config, config)
    }

    /// Turns `txn` into the change that follows the latest known one.
    pub(super) fn mark(&mut self, txn: Txn) -> (Txn, PendingChange) {
        self.tried += 1;
        let format = self.known.values().copied().min().unwrap_or(FORMAT).min(FORMAT);
        let mark = PendingChange {
            head: Head { seq: self.seq() + 1, by: self.id.clone(), at: Timestamp::now(), format },
            number: self.tried,
            last: format!("{}.{}", self.holder.process(), self.tried),
        };
        let mut txn = txn
            .compare(StateKey::own(HEAD), self.expected_head())
            .put(StateKey::own(HEAD), json(&mark.head))
            .put(self.last_key(), mark.last.clone());
        if let IdHold::Free(expected) = self.claim {
            let key = holder::key(&self.id);
            txn = txn.compare(key.clone(), expected).put(key, json(&self.holder));
        }
        if !self.is_known() {
            txn = txn.put(StateKey::own(&format!("{KNOWN}{}", self.id)), json(&KnownGateway { format: FORMAT }));
        }
        if self.config_in_force != self.config {
            txn = txn.put(StateKey::own(CONFIG), self.config.clone());
        }
        for prefix in [KNOWN, LAST, HOLDERS] {
            txn.deletes.extend(self.forgotten.iter().map(|gateway| StateKey::own(&format!("{prefix}{gateway}"))));
        }
        (txn, mark)
    }

    /// Sends the change `txn` of `mark` until its outcome is known. It happens at most once: every attempt expects the
    /// same head and replaces it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when another change came first, [`StoreError::OutcomeUnknown`] when the outcome can't
    /// be determined; after any other error it did not happen.
    pub(super) async fn send(
        &self,
        store: &dyn StateStore,
        txn: &Txn,
        mark: &PendingChange,
    ) -> Result<Revision, StoreError> {
        let mut unknown = None;
        for _ in 0..MAX_SENDS {
            match store.commit(txn.clone()).await {
                Ok(revision) => return Ok(revision),
                Err(error @ StoreError::OutcomeUnknown { .. }) => unknown = Some(error),
                Err(error) if unknown.is_none() => return Err(error),
                // The next read shows the outcome of the previous attempt.
                Err(_) => {}
            }
            let Ok(view) = store.range("").await else { break };
            let at = |key: StateKey| view.entries.iter().find(move |entry| entry.key == key);
            if let Some(entry) = at(self.last_key()).filter(|entry| entry.value == mark.last) {
                return Ok(entry.revision);
            }
            let found = at(StateKey::own(HEAD)).map(|entry| entry.revision);
            if found != self.head.as_ref().map(|(_, at)| *at) {
                return Err(StoreError::Conflict { key: StateKey::own(HEAD), expected: self.expected_head(), found });
            }
        }
        Err(unknown.expect("whatever else ends the loop returns"))
    }

    /// Records that the change of `mark` happened with `revision`.
    pub(super) fn committed(&mut self, mark: PendingChange, revision: Revision) {
        self.head = Some((mark.head, revision));
        if self.claim != IdHold::Held {
            self.joined = revision;
        }
        self.known.insert(self.id.clone(), FORMAT);
        if let Some(gateway) = self.forgotten.take() {
            self.known.remove(&gateway);
        }
        self.claim = IdHold::Held;
        self.config_in_force.clone_from(&self.config);
        self.committed = Some(mark.number);
    }

    /// The same gateway, updated from `entries`.
    ///
    /// # Errors
    ///
    /// [`SavedError::Unusable`] for a state in a later format, and when changes are gone that this gateway has seen;
    /// [`SavedError::Taken`] when another process serves as this gateway, [`SavedError::Value`] for what this version does not
    /// write.
    pub(super) fn read(&self, entries: &[Entry]) -> Result<Self, SavedError> {
        let claim = IdHold::Free(ExpectedRevision::Absent);
        let mut shared = Self { claim, head: None, known: BTreeMap::new(), committed: None, ..self.clone() };
        shared.config_in_force = Bytes::new();
        if let Some(entry) = entries.iter().find(|entry| entry.key.as_str() == HEAD) {
            let head: Head = SavedError::read(entry)?;
            if head.format > FORMAT {
                let Head { by, format, .. } = head;
                return Err(SavedError::Unusable(format!(
                    "gateway `{by}` wrote the shared state in format {format}, and this version of the program reads formats up \
                     to {FORMAT}; upgrade this gateway; until then it makes no changes, and its current state stays in \
                     force"
                )));
            }
            shared.head = Some((head, entry.revision));
        }
        for entry @ Entry { key, value, revision } in entries {
            let key = key.as_str();
            let wrong = |source| SavedError::Value { key: key.to_owned(), source };
            if key == CONFIG {
                shared.config_in_force = value.clone();
            } else if let Some(text) = key.strip_prefix(KNOWN) {
                let id = text.parse().map_err(|error| wrong(serde::de::Error::custom(error)))?;
                shared.known.insert(id, SavedError::read::<KnownGateway>(entry)?.format);
            } else if let Some(text) = key.strip_prefix(LAST) {
                if text == self.id.as_str() {
                    shared.committed = self.number_of(value);
                }
            } else if key.strip_prefix(HOLDERS) == Some(self.id.as_str()) {
                let holder: Holder = SavedError::read(entry)?;
                let stale = IdHold::Free(ExpectedRevision::At(*revision));
                shared.claim = if holder.process() == self.holder.process() {
                    IdHold::Held
                } else if self.claim == stale {
                    stale
                } else {
                    return Err(holder.taken(&self.id));
                };
            }
        }
        let revision = |of: &Self| of.head.as_ref().map(|(_, at)| *at);
        // When another gateway forgot this one, it also deleted this one's latest change.
        let was_forgotten = self.has_gateway(&self.id) && !shared.has_gateway(&self.id);
        let is_missing = shared.committed < self.committed && !was_forgotten;
        if shared.seq() < self.seq() || revision(&shared) < revision(self) || is_missing {
            let (found, seen) = (shared.seq(), self.seq());
            return Err(SavedError::Unusable(format!(
                "the state store lacks changes that this gateway has seen (its latest is change {found}, this gateway has \
                 change {seen}): it was restored from an older copy, or its keys were deleted; the current state stays in \
                 force, and a restart of the gateway loads the state from the store"
            )));
        }
        if !shared.config_in_force.is_empty() {
            shared.config.clone_from(&shared.config_in_force);
        }
        Ok(shared)
    }

    /// The number of this process' change with the text `last`; `None`: another process made it.
    fn number_of(&self, last: &[u8]) -> Option<u64> {
        std::str::from_utf8(last).ok()?.strip_prefix(self.holder.process())?.strip_prefix('.')?.parse().ok()
    }

    fn last_key(&self) -> StateKey {
        StateKey::own(&format!("{LAST}{}", self.id))
    }

    fn expected_head(&self) -> ExpectedRevision {
        self.head.as_ref().map_or(ExpectedRevision::Absent, |(_, at)| ExpectedRevision::At(*at))
    }

    /// Whether `head` is the latest known change. A restored store may reuse a revision, so the value is compared too.
    pub(super) fn is_at(&self, head: Option<&Entry>) -> bool {
        match (head, &self.head) {
            (None, None) => true,
            (Some(entry), Some((head, at))) => {
                entry.revision == *at && serde_json::from_slice::<Head>(&entry.value).is_ok_and(|found| found == *head)
            }
            _ => false,
        }
    }

    /// The number of the latest known change; 0: none.
    pub(super) fn seq(&self) -> u64 {
        self.head.as_ref().map_or(0, |(head, _)| head.seq)
    }

    /// The gateway that made it.
    pub(super) fn latest_by(&self) -> Option<&GatewayId> {
        self.head.as_ref().map(|(head, _)| &head.by)
    }

    /// This process, and the change by which it took the gateway's id.
    pub(super) fn holder(&self) -> (Holder, Revision) {
        (self.holder.clone(), self.joined)
    }
}

/// This gateway's access to the shared state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedStatus {
    /// This gateway; `None`: the state is not shared.
    pub gateway: Option<GatewayId>,
    /// The number of the latest change that is applied here.
    pub applied: u64,
    /// Since when the store does not answer, and why.
    pub unreachable: Option<(Timestamp, String)>,
    /// Why the latest change is not applied here.
    pub behind: Option<String>,
    /// Why listeners of another gateway's change are not open here.
    pub unbound: Vec<String>,
    /// Whether the config file differs from the config of all gateways.
    pub file_differs: bool,
}

impl SharedStatus {
    /// Whether changes or clients are refused.
    #[must_use]
    pub fn is_severe(&self) -> bool {
        self.unreachable.is_some() || self.behind.is_some() || !self.unbound.is_empty()
    }

    /// The problems in sentences without a full stop, most important first; `at` formats a time.
    #[must_use]
    pub fn problems(&self, at: impl Fn(Timestamp) -> String) -> Vec<String> {
        let unreachable = self.unreachable.as_ref().map(|(since, reason)| {
            let since = at(*since);
            format!(
                "the state store has not answered since {since}; the current state stays in force, and changes are refused \
                 until it answers: {reason}"
            )
        });
        let behind = self.behind.as_ref().map(|reason| {
            format!(
                "a change of another gateway could not be applied here, and changes are refused until it is: {reason}"
            )
        });
        let unbound =
            self.unbound.iter().map(|reason| format!("a listener could not be opened here, retrying: {reason}"));
        let file = "the config file of this gateway differs from the shared config in force; \
                    to apply the file to all gateways run `plgw reload`, or else restart this gateway with the shared config's file";
        unreachable.into_iter().chain(behind).chain(unbound).chain(self.file_differs.then(|| file.to_owned())).collect()
    }
}
