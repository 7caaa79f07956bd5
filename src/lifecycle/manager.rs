//! Notifies the service manager: ready, reloading, stopping, alive. The protocol is systemd's, `sd_notify(3)`; without
//! `NOTIFY_SOCKET` nothing is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// By how much each notification extends the stop time-out: three times [`STILL_STOPPING`].
const EXTENSION: Duration = Duration::from_secs(15);

/// Interval of the notifications that extend a stop.
pub const STILL_STOPPING: Duration = Duration::from_secs(5);

/// The service manager that started this process, if any. Clones share the state.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    enabled: bool,
    /// Whether readiness was reported; a reload before that must not report it.
    ready: Arc<AtomicBool>,
}

impl ServiceManager {
    /// The service manager of the environment.
    #[must_use]
    pub fn from_env() -> Self {
        let enabled = std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty());
        Self { enabled, ready: Arc::default() }
    }

    /// Reports readiness, which starts dependent units.
    pub fn ready(&self, status: &str) {
        self.ready.store(true, Ordering::Relaxed);
        self.notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// Reports the start of a reload. The time stamp lets the manager match it with its request.
    pub fn reloading(&self) {
        if self.ready.load(Ordering::Relaxed) {
            let mut state = vec![NotifyState::Reloading, NotifyState::Status("reading the config again")];
            state.extend(NotifyState::monotonic_usec_now());
            self.notify(&state);
        }
    }

    /// Reports the end of a reload, successful or not; `status` describes the config in force.
    pub fn reloaded(&self, status: &str) {
        if self.ready.load(Ordering::Relaxed) {
            self.ready(status);
        }
    }

    /// Reports that the process is stopping.
    pub fn stopping(&self) {
        self.ready.store(false, Ordering::Relaxed);
        self.notify(&[NotifyState::Stopping]);
        self.still_stopping("no new flow is accepted");
    }

    /// Extends the stop time-out.
    pub fn still_stopping(&self, status: &str) {
        let extension = NotifyState::ExtendTimeoutUsec(u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX));
        self.notify(&[extension, NotifyState::Status(status)]);
    }

    /// The interval for [`alive`](Self::alive); `None` without a watchdog.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        // Half the time, as sd_watchdog_enabled(3) advises.
        sd_notify::watchdog_enabled().filter(|time| self.enabled && !time.is_zero()).map(|time| time / 2)
    }

    /// Reports that the process is alive.
    pub fn alive(&self) {
        self.notify(&[NotifyState::Watchdog]);
    }

    fn notify(&self, state: &[NotifyState<'_>]) {
        if !self.enabled {
            return;
        }
        if let Err(error) = sd_notify::notify(state) {
            tracing::warn!(%error, "lifecycle: failed to notify the service manager");
        }
    }
}

/// Joins lines, as a status must be one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
