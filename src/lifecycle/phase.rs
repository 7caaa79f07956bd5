//! The phases of the process, as they are logged.

/// A phase of the process: each comes once, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Binding, compiling, opening.
    Starting,
    /// Everything that starts has started.
    Running,
    /// No new flow is taken; those that are open may end.
    Draining,
    /// The last flows are cut; DNS, admin and metrics stop.
    Stopping,
}

impl Phase {
    /// Logs that the process enters it.
    pub fn enter(self) {
        let phase = match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        };
        tracing::info!(phase, "lifecycle: phase");
    }
}
