//! Common parts of the implementations: validation of transactions, the latest commits, and the watchers.

use std::collections::{HashSet, VecDeque};

use super::document::Document;
use super::watch::{self, WatchSender};
use super::{
    Change, Commit, ExpectedRevision, MAXIMUM_COMMIT_BYTES, MAXIMUM_COMMIT_OPERATIONS, Revision, StateKey, StoreError,
    Txn, Watch,
};

/// Number of commits kept for watches that start in the past.
pub(super) const HISTORY_COMMITS: usize = 256;

/// Number of unread commits after which a watcher has lagged.
pub(super) const WATCH_CAPACITY: usize = 256;

/// The document, the latest commits and the watchers.
///
/// A change has two steps, so that an implementation can make it durable in between: [`Core::prepare`] decides and
/// changes nothing, [`Core::publish`] makes the new document the current one. No other change may happen in between.
#[derive(Debug, Default)]
pub(super) struct Core {
    document: Document,
    history: VecDeque<Commit>,
    /// The latest commit that is no longer in `history`.
    forgotten: Revision,
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    prefix: String,
    after: Revision,
    sender: WatchSender,
}

impl Core {
    pub(super) fn new(document: Document) -> Self {
        Self { forgotten: document.revision, document, ..Self::default() }
    }

    pub(super) fn document(&self) -> &Document {
        &self.document
    }

    /// The commit for `txn`, `skipped` revisions after the next one; `None` when it changes nothing.
    pub(super) fn prepare(&self, txn: Txn, skipped: u64) -> Result<Option<Commit>, StoreError> {
        check(&txn)?;
        let entries = &self.document.entries;
        for (key, expected) in txn.compares {
            let found = entries.get(&key).map(|(_, revision)| *revision);
            let holds = match expected {
                ExpectedRevision::Absent => found.is_none(),
                ExpectedRevision::At(revision) => found == Some(revision),
            };
            if !holds {
                return Err(StoreError::Conflict { key, expected, found });
            }
        }
        let puts = txn.puts.into_iter().map(|(key, value)| Change::Put { key, value });
        let is_there = |key: &StateKey| entries.contains_key(key);
        let deletes = txn.deletes.into_iter().filter(is_there).map(|key| Change::Delete { key });
        let changes: Vec<Change> = puts.chain(deletes).collect();
        let revision = Revision(self.document.revision.0 + 1 + skipped);
        Ok((!changes.is_empty()).then_some(Commit { revision, changes }))
    }

    /// Makes `document`, the result of `commit`, the current one, and sends the commit to the watchers.
    pub(super) fn publish(&mut self, document: Document, commit: Commit) {
        self.document = document;
        self.watchers.retain(|watcher| match filter(&commit, &watcher.prefix, watcher.after) {
            Some(commit) => watcher.sender.send(commit),
            None => !watcher.sender.is_closed(),
        });
        self.history.push_back(commit);
        if self.history.len() > HISTORY_COMMITS
            && let Some(oldest) = self.history.pop_front()
        {
            self.forgotten = oldest.revision;
        }
    }

    pub(super) fn watch(&mut self, prefix: &str, after: Revision) -> Result<Watch, StoreError> {
        if after < self.forgotten {
            return Err(StoreError::Compacted { after, forgotten: self.forgotten });
        }
        let backlog = self.history.iter().filter_map(|commit| filter(commit, prefix, after)).collect();
        let (sender, watch) = watch::channel(backlog, WATCH_CAPACITY);
        self.watchers.push(Watcher { prefix: prefix.to_owned(), after, sender });
        Ok(watch)
    }
}

/// Refuses a transaction that exceeds the limits or is invalid.
pub(super) fn check(txn: &Txn) -> Result<(), StoreError> {
    let bytes = txn.puts.iter().map(|(key, value)| key.as_str().len() + value.len()).sum::<usize>()
        + txn.deletes.iter().map(|key| key.as_str().len()).sum::<usize>();
    if bytes > MAXIMUM_COMMIT_BYTES {
        return Err(StoreError::TooLarge { bytes });
    }
    let operations = txn.compares.len().max(txn.puts.len() + txn.deletes.len());
    if operations > MAXIMUM_COMMIT_OPERATIONS {
        return Err(StoreError::TooManyOperations { operations });
    }
    let mut changed = HashSet::new();
    match txn.puts.iter().map(|(key, _)| key).chain(&txn.deletes).find(|key| !changed.insert(*key)) {
        Some(key) => Err(StoreError::DuplicateKey { key: key.clone() }),
        None => Ok(()),
    }
}

/// The part of `commit` that a watch of `prefix` after `after` receives.
fn filter(commit: &Commit, prefix: &str, after: Revision) -> Option<Commit> {
    if commit.revision <= after {
        return None;
    }
    let changes: Vec<Change> =
        commit.changes.iter().filter(|change| change.key().as_str().starts_with(prefix)).cloned().collect();
    (!changes.is_empty()).then_some(Commit { revision: commit.revision, changes })
}
