//! A store that lasts as long as the process: for tests and the quickstart.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;

use super::core::Core;
use super::{Entry, RangeView, Revision, StateKey, StateStore, StoreError, Txn, Watch};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    core: Mutex<Core>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that starts with what `core` holds.
    pub(super) fn holding(core: Core) -> Self {
        Self { core: Mutex::new(core) }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // Nothing in `Core` panics between two states, so what a panicking thread leaves behind is whole.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryStore {
    fn get<'a>(&'a self, key: &'a StateKey) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        Box::pin(async move { Ok(self.core().get(key)) })
    }

    fn range<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<RangeView, StoreError>> {
        Box::pin(async move { Ok(self.core().range(prefix)) })
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            let mut core = self.core();
            if let Some(commit) = core.prepare(txn)? {
                core.apply(commit);
            }
            Ok(core.revision())
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Watch, StoreError>> {
        Box::pin(async move { self.core().watch(prefix, after) })
    }
}
