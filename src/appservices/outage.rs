//! A zone outage at one listener of a worker: suspends its connections and WebSockets until the outage ends.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::sync::Notify;

/// Whether a listener's zone is in outage. Shared by the tasks of one worker.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    is_on: Cell<bool>,
    over: Notify,
}

impl Outage {
    /// Sets it; returns whether that changed it.
    pub(crate) fn set(&self, is_on: bool) -> bool {
        let was_on = self.is_on.replace(is_on);
        if was_on && !is_on {
            self.over.notify_waiters();
        }
        was_on != is_on
    }

    /// Runs `work` to completion. It is not polled during an outage, so nothing is read or written. Its time limits
    /// continue to run, and are checked after the outage.
    pub(crate) async fn suspend<F: Future + Unpin>(&self, mut work: F) -> F::Output {
        loop {
            let output = poll_fn(|cx| match self.is_on.get() {
                true => Poll::Ready(None),
                false => Pin::new(&mut work).poll(cx).map(Some),
            });
            match output.await {
                Some(output) => return output,
                None => self.over.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::sync::oneshot;
    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    #[tokio::test]
    async fn work_is_not_polled_while_the_zone_is_lost_and_continues_afterwards() {
        let work = async {
            let outage = Rc::new(Outage::default());
            let (send, receive) = oneshot::channel();
            let suspended = Rc::clone(&outage);
            let task = spawn_local(async move { suspended.suspend(receive).await });
            yield_now().await;
            outage.set(true);
            send.send("late").expect("it waits");
            for _ in 0..10 {
                yield_now().await;
            }
            assert!(!task.is_finished());
            outage.set(false);
            assert_eq!(task.await.expect("it ends"), Ok("late"));
        };
        LocalSet::new().run_until(work).await;
    }
}
