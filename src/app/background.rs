//! Tasks that run beside the gateway until it stops.

use std::future::Future;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Runs tasks until a token is cancelled; the gateway waits for them at the end.
#[derive(Debug, Clone)]
pub(super) struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    pub(super) fn new(tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        Self { tasks: tasks.clone(), stop: stop.clone() }
    }

    /// Runs `work` until it is over or the token is cancelled.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(work));
    }

    /// Calls `show` with the present value, and again whenever it changes.
    pub(super) fn follow<T: Send + Sync + 'static>(
        &self,
        mut values: watch::Receiver<T>,
        mut show: impl FnMut(&T) + Send + 'static,
    ) {
        show(&values.borrow_and_update());
        self.spawn(async move {
            while values.changed().await.is_ok() {
                show(&values.borrow_and_update());
            }
        });
    }
}
