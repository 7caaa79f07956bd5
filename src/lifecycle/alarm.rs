//! Reports panics of essential threads and tasks.
//!
//! A panic ends only its own thread or task. Without a report the process would continue without an essential part.

use tokio::sync::mpsc;

/// Receives the losses of essential parts; the receiver stops the process.
pub type Losses = mpsc::UnboundedSender<String>;

/// Held by a thread or a task for its lifetime; reports a loss if it panics.
#[derive(Debug)]
pub struct Alarm {
    what: String,
    losses: Losses,
}

impl Alarm {
    /// An alarm for `what`, for example `flow thread 0`.
    #[must_use]
    pub fn new(what: impl Into<String>, losses: &Losses) -> Self {
        Self { what: what.into(), losses: losses.clone() }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { what, losses } = self;
            // Fails only if the process is stopping anyway.
            let _ = losses.send(format!("{what} panicked"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_reported_and_an_end_is_not() {
        let (losses, mut lost) = mpsc::unbounded_channel();
        let alarm = Alarm::new("the quiet task", &losses);
        tokio::spawn(async move { drop(alarm) }).await.expect("no panic");
        let alarm = Alarm::new("the loud task", &losses);
        let loud = tokio::spawn(async move {
            let _alarm = alarm;
            panic!("as asked");
        });
        assert!(loud.await.is_err());
        assert_eq!(lost.recv().await.as_deref(), Some("the loud task panicked"));
        drop(losses);
        assert_eq!(lost.recv().await, None);
    }
}
