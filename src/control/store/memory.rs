//! A store that lasts as long as the process: for tests and the quickstart.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use super::document::Document;
use super::{RangeView, Revision, StateStore, StoreError, Txn};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    document: Mutex<Document>,
    changed: watch::Sender<()>,
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
        Self { document: Mutex::new(document), ..Self::default() }
    }

    /// A store whose revisions have gaps.
    #[cfg(test)]
    pub(crate) fn with_gaps() -> Self {
        Self { skipped: 6, ..Self::default() }
    }

    fn document(&self) -> MutexGuard<'_, Document> {
        // A commit replaces the whole document, so it is valid even after a panic.
        self.document.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryStore {
    fn range<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<RangeView, StoreError>> {
        Box::pin(async move { Ok(self.document().range(prefix)) })
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            let mut document = self.document();
            if let Some(after) = document.after(txn, self.skipped)? {
                *document = after;
                self.changed.send_replace(());
            }
            Ok(document.revision)
        })
    }

    /// Has items for changes of all keys.
    fn changes<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<BoxStream<'static, ()>, StoreError>> {
        let changed = self.changed.subscribe();
        let changes = stream::unfold(changed, async |mut changed| Some((changed.changed().await.ok()?, changed)));
        Box::pin(async { Ok(changes.boxed()) })
    }
}
