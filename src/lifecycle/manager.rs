//! What the service manager is told: ready, reloading, stopping, still alive. The protocol is systemd's, `sd_notify(3)`;
//! without `NOTIFY_SOCKET` nothing is told to anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// How long a stop may take until it says again that it goes on: [`STILL_STOPPING`] three times over.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often a stop says that it goes on.
pub const STILL_STOPPING: Duration = Duration::from_secs(5);

/// The service manager that started this process, if one did. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    listens: bool,
    /// It knows that the gateway is ready; what comes earlier must not look like it.
    ready: Arc<AtomicBool>,
}

impl ServiceManager {
    /// The one that the environment names.
    #[must_use]
    pub fn from_env() -> Self {
        let listens = std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty());
        Self { listens, ready: Arc::default() }
    }

    /// Everything runs; units that wait for this one start.
    pub fn ready(&self, status: &str) {
        self.ready.store(true, Ordering::Relaxed);
        self.tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// A reload begins. The time lets the manager tell it from one that it has not asked for yet.
    pub fn reloading(&self) {
        if self.ready.load(Ordering::Relaxed) {
            let mut state = vec![NotifyState::Reloading, NotifyState::Status("reading the config again")];
            state.extend(NotifyState::monotonic_usec_now());
            self.tell(&state);
        }
    }

    /// The reload has ended, whichever way: what is in force is said by `status`.
    pub fn reloaded(&self, status: &str) {
        if self.ready.load(Ordering::Relaxed) {
            self.ready(status);
        }
    }

    /// No new flow is taken from now on.
    pub fn stopping(&self) {
        self.ready.store(false, Ordering::Relaxed);
        self.tell(&[NotifyState::Stopping]);
        self.still_stopping("no new flow is taken");
    }

    /// The stop goes on: it is to be given time until it says so again.
    pub fn still_stopping(&self, status: &str) {
        let patience = NotifyState::ExtendTimeoutUsec(u32::try_from(PATIENCE.as_micros()).unwrap_or(u32::MAX));
        self.tell(&[patience, NotifyState::Status(status)]);
    }

    /// How often the process has to say that it is alive; `None` where nobody asks.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        // Half the time, as sd_watchdog_enabled(3) advises.
        sd_notify::watchdog_enabled().filter(|time| self.listens && !time.is_zero()).map(|time| time / 2)
    }

    /// It is alive.
    pub fn alive(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        if !self.listens {
            return;
        }
        if let Err(error) = sd_notify::notify(state) {
            tracing::warn!(%error, "lifecycle: the service manager can't be told");
        }
    }
}

/// A status is one line of the message.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
