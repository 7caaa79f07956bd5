//! The receiving half of a watch, common to all implementations.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Commit;

/// Why a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// The watch was read too slowly, and commits are missing from here on: read the range again, then watch again.
    #[error("the watch fell behind; read the range again and watch after its revision")]
    Lagged,
    /// The store was closed; there are no further commits.
    #[error("the state store was closed")]
    Closed,
}

/// Commits under a prefix, each once, in order, without gaps, until a [`WatchEnd`].
#[derive(Debug)]
pub struct Watch {
    backlog: VecDeque<Commit>,
    receiver: mpsc::Receiver<Commit>,
    lagged: Arc<AtomicBool>,
}

impl Watch {
    /// The next commit. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`WatchEnd`] after the last commit without a gap.
    pub async fn next(&mut self) -> Result<Commit, WatchEnd> {
        if let Some(commit) = self.backlog.pop_front() {
            return Ok(commit);
        }
        match self.receiver.recv().await {
            Some(commit) => Ok(commit),
            None if self.lagged.load(Ordering::Acquire) => Err(WatchEnd::Lagged),
            None => Err(WatchEnd::Closed),
        }
    }
}

/// The sending half of a [`Watch`].
#[derive(Debug)]
pub(super) struct WatchSender {
    sender: mpsc::Sender<Commit>,
    lagged: Arc<AtomicBool>,
}

impl WatchSender {
    /// Sends a commit without waiting; `false` when the watch has ended and the sender should be dropped.
    pub(super) fn send(&self, commit: Commit) -> bool {
        match self.sender.try_send(commit) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                self.lagged.store(true, Ordering::Release);
                false
            }
        }
    }

    /// Ends the watch with [`WatchEnd::Lagged`] after the queued commits.
    #[cfg(feature = "etcd")]
    pub(super) fn lag(self) {
        self.lagged.store(true, Ordering::Release);
    }

    /// Whether the watch was dropped.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// A watch that begins with `backlog` and then holds at most `capacity` unread commits.
pub(super) fn channel(backlog: VecDeque<Commit>, capacity: usize) -> (WatchSender, Watch) {
    let (sender, receiver) = mpsc::channel(capacity);
    let lagged = Arc::new(AtomicBool::new(false));
    (WatchSender { sender, lagged: Arc::clone(&lagged) }, Watch { backlog, receiver, lagged })
}
