//! HTTP/2 streams: each is a task, which is dropped when its client does not read the response for too long.
//!
//! hyper polls a response's body and then waits for the stream's window, so only the task that it passes to the
//! executor can be ended from outside. Dropping that task resets the stream.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

tokio::task_local! {
    static STREAM: Rc<StreamProgress>;
}

/// Whether a stream waits for its client to read.
#[derive(Debug, Default)]
pub(crate) struct StreamProgress {
    /// When the last part of the response was passed to hyper; `None` once it was taken.
    waiting_since: Cell<Option<Instant>>,
}

impl StreamProgress {
    /// The progress of the current task's stream; `None` on HTTP/1.1.
    pub(crate) fn current() -> Option<Rc<Self>> {
        STREAM.try_with(Rc::clone).ok()
    }

    /// A part of the response was passed to hyper.
    pub(crate) fn mark_sent(&self) {
        self.waiting_since.set(Some(Instant::now()));
    }

    /// hyper has sent all parts.
    pub(crate) fn take(&self) {
        self.waiting_since.set(None);
    }
}

/// Runs streams on the current worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamExecutor {
    /// How long a client may read nothing of a stream.
    pub(crate) limit: Duration,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        let progress = Rc::<StreamProgress>::default();
        tokio::task::spawn_local(STREAM.scope(Rc::clone(&progress), limited(stream, progress, self.limit)));
    }
}

async fn limited(stream: impl Future<Output = ()>, progress: Rc<StreamProgress>, limit: Duration) {
    let mut stream = pin!(stream);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = progress.waiting_since.get() else { return Poll::Pending };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(since + limit)));
        if timer.deadline() != since + limit {
            timer.as_mut().reset(since + limit);
        }
        timer.as_mut().poll(cx)
    })
    .await;
}
