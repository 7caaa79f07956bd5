//! The logged phases of the process.

/// A phase of the process. Each is entered once, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Binding, compiling, opening.
    Starting,
    /// Everything has started.
    Running,
    /// No new flow is accepted; open flows may finish.
    Draining,
    /// Remaining flows are reset; DNS, admin and metrics stop.
    Stopping,
}

impl Phase {
    /// Logs that the process enters the phase.
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
