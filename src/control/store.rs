//! Saved state: an ordered key space with revisions, compare-and-swap and a stream of changes.
//!
//! The trait has the shape of etcd's API; one file ([`FileStore`]), memory ([`MemoryStore`]) and etcd itself
//! (`EtcdStore`, with the feature `etcd`) implement it. Every commit that changes something gets a later [`Revision`]
//! of the whole store, and is all or nothing. Once it is acknowledged it survives the process.

mod document;
#[cfg(feature = "etcd")]
mod etcd;
mod file;
mod key;
mod legacy;
mod memory;

#[cfg(test)]
mod conformance;
#[cfg(all(test, feature = "etcd"))]
pub(in crate::control) mod etcd_tests;
#[cfg(test)]
pub(crate) mod failing;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde::Serialize;

pub use document::{DecodeError, Document, decode};
#[cfg(feature = "etcd")]
pub use etcd::{EtcdOptions, EtcdStore};
pub use file::FileStore;
pub use key::StateKey;
pub use memory::MemoryStore;

/// Maximum size in bytes of the keys and values of one commit.
///
/// 1 MiB is below etcd's default `--max-request-bytes` of 1.5 MiB, so all implementations accept the same commits.
pub const MAXIMUM_COMMIT_BYTES: usize = 1024 * 1024;

/// Maximum number of compares of one commit, and of puts and deletes together: etcd's default `--max-txn-ops`, which
/// counts them in the same way.
pub const MAXIMUM_COMMIT_OPERATIONS: usize = 128;

/// A revision of the store. It grows with every commit that changes something, by more than one if others write too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The expected state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedRevision {
    /// The key doesn't exist.
    Absent,
    /// The key was last written by this revision.
    At(Revision),
}

impl fmt::Display for ExpectedRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::At(revision) => write!(f, "at revision {revision}"),
        }
    }
}

/// A key with its value and the revision of its last write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: StateKey,
    /// The value.
    pub value: Bytes,
    /// The revision of its last write, for [`ExpectedRevision::At`].
    pub revision: Revision,
}

/// The entries of a prefix at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeView {
    /// The entries, in order of key.
    pub entries: Vec<Entry>,
    /// The store's revision at that moment.
    pub revision: Revision,
}

/// A change of the store, all or nothing: if all `compares` hold, `puts` and `deletes` take effect together.
///
/// A key may be written or deleted only once in a transaction, as in etcd. Without puts and deletes, the compares are
/// still checked and the store's revision stays the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// The expected revisions of keys.
    pub compares: Vec<(StateKey, ExpectedRevision)>,
    /// Keys and their new values.
    pub puts: Vec<(StateKey, Bytes)>,
    /// Keys to remove; one that doesn't exist is no error.
    pub deletes: Vec<StateKey>,
}

impl Txn {
    /// An empty transaction.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a compare: `key` must have the revision `expected`.
    #[must_use]
    pub fn compare(mut self, key: StateKey, expected: ExpectedRevision) -> Self {
        self.compares.push((key, expected));
        self
    }

    /// Adds a put.
    #[must_use]
    pub fn put(mut self, key: StateKey, value: impl Into<Bytes>) -> Self {
        self.puts.push((key, value.into()));
        self
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(mut self, key: StateKey) -> Self {
        self.deletes.push(key);
        self
    }

    /// Refuses a transaction that no adapter takes.
    fn check(&self) -> Result<(), StoreError> {
        let bytes = self.puts.iter().map(|(key, value)| key.as_str().len() + value.len()).sum::<usize>()
            + self.deletes.iter().map(|key| key.as_str().len()).sum::<usize>();
        if bytes > MAXIMUM_COMMIT_BYTES {
            return Err(StoreError::BadTransaction(format!(
                "the transaction has {bytes} bytes of keys and values; split it, {MAXIMUM_COMMIT_BYTES} is the most"
            )));
        }
        let operations = self.compares.len().max(self.puts.len() + self.deletes.len());
        if operations > MAXIMUM_COMMIT_OPERATIONS {
            return Err(StoreError::BadTransaction(format!(
                "the transaction has {operations} operations; split it, {MAXIMUM_COMMIT_OPERATIONS} is the most"
            )));
        }
        let mut changed = HashSet::new();
        match self.puts.iter().map(|(key, _)| key).chain(&self.deletes).find(|key| !changed.insert(*key)) {
            Some(key) => {
                Err(StoreError::BadTransaction(format!("`{key}` is changed twice in one transaction; change it once")))
            }
            None => Ok(()),
        }
    }
}

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A compare did not hold: another writer was first. Read again, decide again, commit again.
    #[error("`{key}` was expected {expected} and is {}", found.map_or("absent".to_owned(), |found| format!("at revision {found}")))]
    Conflict {
        /// The first key whose compare failed.
        key: StateKey,
        /// The expected revision.
        expected: ExpectedRevision,
        /// The revision of its last write; `None` when it doesn't exist.
        found: Option<Revision>,
    },
    /// A transaction is too large, or names a key twice among its puts and deletes.
    #[error("{0}")]
    BadTransaction(String),
    /// The store can't be written or reached. Nothing was changed; a retry may succeed.
    #[error("the state store is unavailable and nothing was changed; try again once the cause is mended")]
    Unavailable {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Whether the commit took effect is unknown. The next successful [`StateStore::range`] shows it.
    #[error("it is not known whether the change was saved; read the state before trying again")]
    OutcomeUnknown {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a store can't be opened. In none of these cases is it written to.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the state file `{}` is in use by another process; stop that one, or name another file", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged, or a newer version wrote it.
    #[error(
        "cannot use the state file `{}`: {reason}; nothing was written to it; put back a copy (`{}` is the state before \
         the last change, if it is there), or move the file away to start with an empty state (targets may then get other \
         ports)",
        path.display(),
        file::with_suffix(path, ".bak").display()
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// The decoding error.
        reason: DecodeError,
    },
    /// A file system error.
    #[error("cannot {action} the state file `{}`", path.display())]
    Io {
        /// The operation: `open`, `create`, `convert`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No member of etcd answers, or etcd refuses this client.
    #[error("cannot read the state in etcd")]
    Etcd {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The config requires etcd, but the program was built without it.
    #[error(
        "cannot keep the state in etcd: this program was built without the feature `etcd`; build it with `cargo build \
         --features etcd`, or set `state.store` to `file`"
    )]
    NoEtcd,
}

/// An ordered key space with revisions, compare-and-swap and a stream of changes.
///
/// Reads return acknowledged commits only, and settle unknown outcomes. A `commit` whose future is dropped may still
/// take effect.
pub trait StateStore: Send + Sync + fmt::Debug {
    /// All entries whose keys begin with `prefix` (as text: `ports/` does not match `portsmouth/…`; the empty prefix
    /// matches everything), and the store's revision at that time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn range<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<RangeView, StoreError>>;

    /// Makes a change durable and returns its revision.
    ///
    /// # Errors
    ///
    /// [`StoreError::OutcomeUnknown`] when it may have taken effect; after any other error nothing is changed.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// A stream with an item after each change of another process that shares the store to keys that begin with `prefix`,
    /// from now on. An item is a hint to read: it can stand for several changes, for none, or for one of this process or
    /// of other keys. When the stream ends, changes may have been missed: call this again, then read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn changes<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<BoxStream<'static, ()>, StoreError>>;
}

/// Encodes a record for the store.
pub(super) fn json(record: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have text keys and no failing serializers")
}
