//! A store with scripted failures.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::{MemoryStore, RangeView, Revision, StateStore, StoreError, Txn};

/// How a commit fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InjectedFailure {
    /// With [`StoreError::Unavailable`].
    Refused,
    /// With [`StoreError::OutcomeUnknown`]: it did not happen.
    Lost,
    /// With [`StoreError::OutcomeUnknown`]: it happened.
    Unanswered,
    /// With [`StoreError::OutcomeUnknown`]: it happens just before the next commit, from when on reads fail.
    Late,
}

/// A store in memory, with gaps between its revisions.
#[derive(Debug)]
pub(crate) struct FailingStore {
    inner: MemoryStore,
    failures: Mutex<VecDeque<InjectedFailure>>,
    late: Mutex<Option<Txn>>,
    /// Whether reads fail.
    pub(crate) is_silent: AtomicBool,
}

impl FailingStore {
    pub(crate) fn new() -> Self {
        Self {
            inner: MemoryStore::with_gaps(),
            failures: Mutex::default(),
            late: Mutex::default(),
            is_silent: AtomicBool::new(false),
        }
    }

    /// Makes the next commit without a scripted failure fail.
    pub(crate) fn fail(&self, failure: InjectedFailure) {
        self.failures.lock().unwrap().push_back(failure);
    }
}

impl StateStore for FailingStore {
    fn range<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<RangeView, StoreError>> {
        if self.is_silent.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::Unavailable { source: "no answer".into() }) });
        }
        self.inner.range(prefix)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>> {
        let failure = self.failures.lock().unwrap().pop_front();
        let late = self.late.lock().unwrap().take();
        Box::pin(async move {
            if let Some(late) = late {
                self.inner.commit(late).await?;
                self.is_silent.store(true, Ordering::Relaxed);
            }
            match failure {
                None => self.inner.commit(txn).await,
                Some(InjectedFailure::Refused) => Err(StoreError::Unavailable { source: "no space".into() }),
                Some(InjectedFailure::Lost) => Err(StoreError::OutcomeUnknown { source: "no answer".into() }),
                Some(InjectedFailure::Late) => {
                    *self.late.lock().unwrap() = Some(txn);
                    Err(StoreError::OutcomeUnknown { source: "no answer".into() })
                }
                Some(InjectedFailure::Unanswered) => {
                    self.inner.commit(txn).await?;
                    Err(StoreError::OutcomeUnknown { source: "no answer".into() })
                }
            }
        })
    }

    fn changes<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<BoxStream<'static, ()>, StoreError>> {
        self.inner.changes(prefix)
    }
}
