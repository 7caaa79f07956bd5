//! Signals to the process: stop, stop at once, reload.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The action requested by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalEvent {
    /// The first SIGTERM or SIGINT: drain, then end.
    Stop,
    /// The second one: end the process at once.
    StopNow,
    /// SIGHUP: read the config again.
    Reload,
}

/// The signal handlers of this process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    stopping: bool,
}

impl Signals {
    /// Installs the handlers, which replace the default action of ending the process.
    ///
    /// # Errors
    ///
    /// When the handlers cannot be installed.
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

    /// Waits for the next signal. Cancel safe.
    pub async fn next(&mut self) -> SignalEvent {
        let name = tokio::select! {
            biased;
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            Some(()) = self.hangup.recv() => {
                tracing::info!(signal = "SIGHUP", "lifecycle: reload requested");
                return SignalEvent::Reload;
            }
            // The runtime is shutting down: no more signals arrive.
            else => return std::future::pending().await,
        };
        if std::mem::replace(&mut self.stopping, true) {
            tracing::warn!(signal = name, "lifecycle: stop requested again, ending at once");
            SignalEvent::StopNow
        } else {
            tracing::info!(signal = name, "lifecycle: stop requested; a second signal ends the process at once");
            SignalEvent::Stop
        }
    }

    /// Waits until a stop was requested twice.
    pub async fn stop_now(&mut self) {
        while self.next().await != SignalEvent::StopNow {}
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    /// A single test, as signals are process-wide.
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
