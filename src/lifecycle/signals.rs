//! What the process is told from outside: stop, stop at once, reload.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalEvent {
    /// The first SIGTERM or SIGINT: drain, then end.
    Stop,
    /// The second one: end the process at once.
    StopNow,
    /// SIGHUP: read the config again.
    Reload,
}

/// The signals of this process, from the moment at which they are listened for.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    stopping: bool,
}

impl Signals {
    /// Listens from now on; the signals' default, ending the process, is off for good.
    ///
    /// # Errors
    ///
    /// When the handlers can't be installed.
    ///
    /// # Panics
    ///
    /// Outside a runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            stopping: false,
        })
    }

    /// The next signal. Cancelling the future loses none.
    pub async fn next(&mut self) -> SignalEvent {
        let name = tokio::select! {
            biased;
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            Some(()) = self.hangup.recv() => {
                tracing::info!(signal = "SIGHUP", "lifecycle: reload was asked for");
                return SignalEvent::Reload;
            }
            // The handlers are gone with the runtime: nothing will come any more.
            else => return std::future::pending().await,
        };
        if std::mem::replace(&mut self.stopping, true) {
            tracing::warn!(signal = name, "lifecycle: asked to stop again, ending at once");
            SignalEvent::StopNow
        } else {
            tracing::info!(signal = name, "lifecycle: stop was asked for; once more ends at once");
            SignalEvent::Stop
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    /// One test, because signals are the whole process's.
    #[tokio::test]
    async fn hangup_reloads_the_first_stop_drains_and_the_second_ends() {
        let mut signals = Signals::listen().unwrap();
        let raise = |signal| kill_process(getpid(), signal).unwrap();
        raise(Signal::HUP);
        assert_eq!(signals.next().await, SignalEvent::Reload);
        raise(Signal::TERM);
        assert_eq!(signals.next().await, SignalEvent::Stop);
        raise(Signal::HUP);
        assert_eq!(signals.next().await, SignalEvent::Reload);
        raise(Signal::INT);
        assert_eq!(signals.next().await, SignalEvent::StopNow);
    }
}
