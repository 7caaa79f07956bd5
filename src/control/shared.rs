//! What gateways that share a state store write beside the state itself, so that their changes have one order.
//!
//! Every change compares and rewrites one key, [`HEAD`]. So of two changes at once one is refused and made again on what
//! the other left: no address, port or index is given twice, whichever keys the two write. The same transaction writes a
//! text of the gateway's own below [`LAST`], by which it finds out whether a change happened whose outcome it was not told.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::inventory::Timestamp;
use super::store::{Entry, ExpectedRevision, Revision, StateKey, Txn};
use crate::model::GatewayId;

/// In every change; also the prefix to watch for all of them.
pub(super) const HEAD: &str = "head";
/// By gateway: its latest change.
const LAST: &str = "last/";
/// By gateway: it may serve, although nothing is heard of it.
pub(super) const KNOWN: &str = "known/";
/// What the gateways' configs have in common, as a digest.
const CONFIG: &str = "config/digest";

/// The operations that a change has beside its own.
pub(super) const OPERATIONS: usize = 6;

/// The latest change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// How many changes there were.
    pub(super) seq: u64,
    /// Who made it.
    pub(super) by: GatewayId,
    /// When, by that gateway's clock.
    at: Timestamp,
}

/// What this gateway knows of the others.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) id: GatewayId,
    /// The digest of this gateway's config.
    pub(super) config: String,
    /// The digest that is in the store.
    config_in_force: Option<String>,
    /// The change that this gateway's state is, with its revision.
    pub(super) head: Option<(Head, Revision)>,
    /// All that may have listeners open.
    pub(super) known: BTreeSet<GatewayId>,
    /// A gateway that the next change takes out of `known`.
    pub(super) forgotten: Option<GatewayId>,
    /// Tells this process' changes from those of an earlier one.
    process: u64,
    changes: u64,
}

/// What a change leaves of these keys once it has happened.
pub(super) struct Mark {
    head: Head,
    last: String,
}

impl Shared {
    pub(super) fn new(id: GatewayId, config: String) -> Self {
        let process = Timestamp::now().0;
        Self {
            id,
            config,
            config_in_force: None,
            head: None,
            known: BTreeSet::new(),
            forgotten: None,
            process,
            changes: 0,
        }
    }

    /// Whether a change is due although the state itself is as it is saved: it joins, or its config is another now.
    pub(super) fn is_due(&self) -> bool {
        !self.known.contains(&self.id)
            || self.forgotten.is_some()
            || self.config_in_force.as_ref() != Some(&self.config)
    }

    /// Whether the store's config is this gateway's, or the one with the digest `before`; true where there is none yet.
    pub(super) fn has_config_in_force(&self, before: Option<&str>) -> bool {
        self.config_in_force.as_ref().is_none_or(|config| *config == self.config || before == Some(config))
    }

    /// Makes `txn` a change: the next one after the one that is known.
    pub(super) fn mark(&mut self, txn: Txn) -> (Txn, Mark) {
        self.changes += 1;
        let seq = self.head.as_ref().map_or(0, |(head, _)| head.seq) + 1;
        let mark = Mark {
            head: Head { seq, by: self.id.clone(), at: Timestamp::now() },
            last: format!("{}-{}", self.process, self.changes),
        };
        let expected = self.head.as_ref().map_or(ExpectedRevision::Absent, |(_, at)| ExpectedRevision::At(*at));
        let head = serde_json::to_vec(&mark.head).expect("text keys and no failing serializers");
        let mut txn = txn
            .compare(key(HEAD), expected)
            .put(key(HEAD), head)
            .put(key(&format!("{LAST}{}", self.id)), mark.last.clone());
        if !self.known.contains(&self.id) {
            txn = txn.put(key(&format!("{KNOWN}{}", self.id)), "{}");
        }
        if self.config_in_force.as_ref() != Some(&self.config) {
            txn = txn.put(key(CONFIG), self.config.clone());
        }
        for prefix in [KNOWN, LAST] {
            txn.deletes.extend(self.forgotten.iter().map(|gateway| key(&format!("{prefix}{gateway}"))));
        }
        (txn, mark)
    }

    /// The change of `mark` happened, with `revision`.
    pub(super) fn happened(&mut self, mark: Mark, revision: Revision) {
        self.head = Some((mark.head, revision));
        self.known.insert(self.id.clone());
        if let Some(gateway) = self.forgotten.take() {
            self.known.remove(&gateway);
        }
        self.config_in_force = Some(self.config.clone());
    }

    /// With which revision the change of `mark` happened, as `entries`, read after it, tell; `None`: it did not.
    pub(super) fn find(&self, mark: &Mark, entries: &[Entry]) -> Option<Revision> {
        let name = format!("{LAST}{}", self.id);
        entries.iter().find(|entry| entry.key.as_str() == name && entry.value == mark.last).map(|entry| entry.revision)
    }

    /// The same gateway, with what `entries` say of the others.
    ///
    /// # Errors
    ///
    /// The key and the mistake of an entry that this version does not write.
    pub(super) fn read(&self, entries: &[Entry]) -> Result<Self, (String, serde_json::Error)> {
        let mut shared = Self { config_in_force: None, head: None, known: BTreeSet::new(), ..self.clone() };
        for Entry { key, value, revision } in entries {
            let wrong = |error| (key.as_str().to_owned(), error);
            if key.as_str() == HEAD {
                shared.head = Some((serde_json::from_slice(value).map_err(wrong)?, *revision));
            } else if key.as_str() == CONFIG {
                shared.config_in_force = Some(String::from_utf8_lossy(value).into_owned());
            } else if let Some(id) = key.as_str().strip_prefix(KNOWN) {
                let id = id.parse().map_err(|error| wrong(serde::de::Error::custom(error)))?;
                shared.known.insert(id);
            }
        }
        Ok(shared)
    }

    /// The number of the change that is known.
    pub(super) fn seq(&self) -> u64 {
        self.head.as_ref().map_or(0, |(head, _)| head.seq)
    }
}

fn key(text: &str) -> StateKey {
    text.parse().expect("constants and ids make keys")
}
