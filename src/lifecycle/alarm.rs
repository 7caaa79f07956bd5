//! Panics of what the process can't be without.
//!
//! A thread that panics ends by itself, and a task's panic stays in its task: without a word the process would go on with
//! a part of it gone.

use tokio::sync::mpsc;

/// Where losses are told; whoever listens takes the process down.
pub type Losses = mpsc::UnboundedSender<String>;

/// Held by a thread or a task for as long as it lives; tells when it ends by a panic.
#[derive(Debug)]
pub struct Alarm {
    what: String,
    losses: Losses,
}

impl Alarm {
    /// An alarm for `what`: `the flow thread 0`.
    #[must_use]
    pub fn new(what: impl Into<String>, losses: &Losses) -> Self {
        Self { what: what.into(), losses: losses.clone() }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { what, losses } = self;
            // Nobody listens any more only when the process stops anyway.
            let _ = losses.send(format!("{what} panicked"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_and_an_end_is_not() {
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
