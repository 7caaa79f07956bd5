//! A store that lasts as long as the process: for tests and the quickstart.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;

use super::core::Core;
use super::document::Document;
use super::{RangeView, Revision, StateStore, StoreError, Txn, Watch};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    core: Mutex<Core>,
    /// Number of revisions skipped before each commit, as in a store with other writers.
    skipped: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that starts with `document`.
    pub(super) fn holding(document: Document) -> Self {
        Self { core: Mutex::new(Core::new(document)), skipped: 0 }
    }

    /// A store whose revisions have gaps.
    #[cfg(test)]
    pub(crate) fn with_gaps() -> Self {
        Self { skipped: 6, ..Self::default() }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // Nothing in `Core` panics between two states, so the state is consistent after a panic.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryStore {
    fn range<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<RangeView, StoreError>> {
        Box::pin(async move { Ok(self.core().document().range(prefix)) })
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            let mut core = self.core();
            if let Some(commit) = core.prepare(txn, self.skipped)? {
                let mut document = core.document().clone();
                document.apply(&commit);
                core.publish(document, commit);
            }
            Ok(core.document().revision)
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Watch, StoreError>> {
        Box::pin(async move { self.core().watch(prefix, after) })
    }
}
