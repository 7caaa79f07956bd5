//! The key space itself, in memory: what both adapters read from, and what decides whether a commit may be.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::watch::{self, WatchSender};
use super::{
    Change, Commit, Entry, ExpectedRevision, MAXIMUM_COMMIT_BYTES, RangeView, Revision, StateKey, StoreError, Txn,
    Watch,
};

/// Commits that are remembered for a watch that begins in the past.
const HISTORY_COMMITS: usize = 1024;

/// Bytes of keys and values that are remembered for the same purpose.
const HISTORY_BYTES: usize = 4 * 1024 * 1024;

/// Commits that a watcher may leave unread before it has lagged.
const WATCH_CAPACITY: usize = 1024;

/// Keys, values, revisions, the latest commits and the watchers.
///
/// A change comes in two steps, so that an adapter can make it durable in between: [`Core::prepare`] decides and
/// changes nothing, [`Core::apply`] does it and tells the watchers. Whoever calls them lets no other change between.
#[derive(Debug, Default)]
pub(super) struct Core {
    entries: BTreeMap<StateKey, Stored>,
    revision: Revision,
    history: VecDeque<Commit>,
    history_bytes: usize,
    /// The latest commit that `history` no longer has.
    forgotten: Revision,
    watchers: Vec<Watcher>,
}

#[derive(Debug, Clone)]
struct Stored {
    value: Bytes,
    revision: Revision,
}

#[derive(Debug)]
struct Watcher {
    prefix: String,
    after: Revision,
    sender: WatchSender,
}

impl Core {
    /// A key space with these entries at this revision, and no memory of how it came about.
    pub(super) fn restore(entries: Vec<Entry>, revision: Revision) -> Self {
        let entries = entries.into_iter().map(|e| (e.key, Stored { value: e.value, revision: e.revision })).collect();
        Self { entries, revision, forgotten: revision, ..Self::default() }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn get(&self, key: &StateKey) -> Option<Entry> {
        self.entries.get_key_value(key).map(entry)
    }

    pub(super) fn range(&self, prefix: &str) -> RangeView {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let entries = self.entries.range::<str, _>(from).take_while(|(key, _)| key.as_str().starts_with(prefix));
        RangeView { entries: entries.map(entry).collect(), revision: self.revision }
    }

    /// The commit that `txn` comes to; `None` when it changes nothing.
    pub(super) fn prepare(&self, txn: Txn) -> Result<Option<Commit>, StoreError> {
        let bytes = txn.puts.iter().map(|(key, value)| key.as_str().len() + value.len()).sum::<usize>()
            + txn.deletes.iter().map(|key| key.as_str().len()).sum::<usize>();
        if bytes > MAXIMUM_COMMIT_BYTES {
            return Err(StoreError::TooLarge { bytes });
        }
        let mut changed = HashSet::new();
        if let Some(key) = txn.puts.iter().map(|(key, _)| key).chain(&txn.deletes).find(|key| !changed.insert(*key)) {
            return Err(StoreError::DuplicateKey { key: key.clone() });
        }
        for (key, expected) in &txn.compares {
            let found = self.entries.get(key).map(|stored| stored.revision);
            let holds = match *expected {
                ExpectedRevision::Absent => found.is_none(),
                ExpectedRevision::At(revision) => found == Some(revision),
            };
            if !holds {
                return Err(StoreError::Conflict { key: key.clone(), expected: *expected, found });
            }
        }
        let puts = txn.puts.into_iter().map(|(key, value)| Change::Put { key, value });
        let deletes =
            txn.deletes.into_iter().filter(|key| self.entries.contains_key(key)).map(|key| Change::Delete { key });
        let changes: Vec<Change> = puts.chain(deletes).collect();
        Ok((!changes.is_empty()).then(|| Commit { revision: Revision(self.revision.0 + 1), changes }))
    }

    /// Does what [`Core::prepare`] returned, and tells the watchers.
    pub(super) fn apply(&mut self, commit: Commit) {
        debug_assert_eq!(commit.revision.0, self.revision.0 + 1, "commits follow one another");
        self.revision = commit.revision;
        for change in &commit.changes {
            match change {
                Change::Put { key, value } => {
                    // A value may be a slice of something larger (a request's body, the file); keep its bytes alone.
                    let value = Bytes::copy_from_slice(value);
                    self.entries.insert(key.clone(), Stored { value, revision: commit.revision });
                }
                Change::Delete { key } => {
                    self.entries.remove(key);
                }
            }
        }
        self.watchers.retain(|watcher| match filter(&commit, &watcher.prefix, watcher.after) {
            Some(commit) => watcher.sender.send(commit),
            None => !watcher.sender.is_closed(),
        });
        self.history_bytes += size(&commit);
        self.history.push_back(commit);
        while self.history.len() > HISTORY_COMMITS || self.history_bytes > HISTORY_BYTES {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= size(&oldest);
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

    /// Every entry, in order of key.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&StateKey, &Bytes, Revision)> {
        self.entries.iter().map(|(key, stored)| (key, &stored.value, stored.revision))
    }
}

fn entry((key, stored): (&StateKey, &Stored)) -> Entry {
    Entry { key: key.clone(), value: stored.value.clone(), revision: stored.revision }
}

/// What of `commit` a watcher is told.
fn filter(commit: &Commit, prefix: &str, after: Revision) -> Option<Commit> {
    if commit.revision <= after {
        return None;
    }
    let changes: Vec<Change> =
        commit.changes.iter().filter(|change| change.key().as_str().starts_with(prefix)).cloned().collect();
    (!changes.is_empty()).then_some(Commit { revision: commit.revision, changes })
}

fn size(commit: &Commit) -> usize {
    commit
        .changes
        .iter()
        .map(|change| match change {
            Change::Put { key, value } => key.as_str().len() + value.len(),
            Change::Delete { key } => key.as_str().len(),
        })
        .sum()
}
