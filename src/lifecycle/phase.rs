//! Where the process is in its life.

use serde::Serialize;
use tokio::sync::watch;

/// Where the process is in its life; it only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
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
    /// Every phase, in order.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Running, Self::Draining, Self::Stopping];

    /// The one lower-case name in log, view and test.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

/// The phase of one gateway. Clones share it.
#[derive(Debug, Clone)]
pub struct Phases {
    phase: watch::Sender<Phase>,
}

impl Phases {
    /// In [`Phase::Starting`], and logged.
    #[must_use]
    pub fn new() -> Self {
        log(Phase::Starting);
        Self { phase: watch::Sender::new(Phase::Starting) }
    }

    /// Goes on to `phase` and logs it; `false`, and nothing, when it is there or further already.
    pub fn advance(&self, phase: Phase) -> bool {
        self.phase.send_if_modified(|current| {
            let further = phase > *current;
            if further {
                *current = phase;
                log(phase);
            }
            further
        })
    }

    /// The phase now.
    #[must_use]
    pub fn current(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until `phase` is reached, or a later one.
    pub async fn reached(&self, phase: Phase) {
        // The sender is `self`, so the wait ends in one way only.
        let _ = self.phase.subscribe().wait_for(|current| *current >= phase).await;
    }
}

impl Default for Phases {
    fn default() -> Self {
        Self::new()
    }
}

fn log(phase: Phase) {
    tracing::info!(phase = phase.label(), "lifecycle: phase");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_go_forward_once_each() {
        let phases = Phases::new();
        assert_eq!(phases.current(), Phase::Starting);
        assert!(phases.advance(Phase::Running));
        assert!(!phases.advance(Phase::Running));
        assert!(phases.clone().advance(Phase::Stopping), "a phase may be left out");
        assert!(!phases.advance(Phase::Draining), "there is no way back");
        phases.reached(Phase::Draining).await;
        assert_eq!(phases.current().label(), "stopping");
    }
}
