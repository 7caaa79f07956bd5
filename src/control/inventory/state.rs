//! States of objects, and times.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The current system time; not monotonic, so that waits continue over a restart.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        Self(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time `wait` after this one.
    #[must_use]
    pub fn plus(self, wait: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time until `send_after`; zero if that has passed.
    #[must_use]
    pub fn until(self, later: Self) -> std::time::Duration {
        std::time::Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// The state of an endpoint service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceState {
    /// Atlas creates the load balancer and the VPC's resources.
    Initiating,
    /// Ready for interface endpoints.
    Available,
    /// Available, while its supported regions are being changed. Atlas shows `INITIATING`.
    Updating,
    /// Creation failed.
    Failed,
    /// Being removed.
    Deleting,
}

impl ServiceState {
    /// Whether interface endpoints may connect to it.
    #[must_use]
    pub fn is_connectable(self) -> bool {
        matches!(self, Self::Available | Self::Updating)
    }

    /// Atlas' name of the state.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Initiating | Self::Updating => "INITIATING",
            Self::Available => "AVAILABLE",
            Self::Failed => "FAILED",
            Self::Deleting => "DELETING",
        }
    }
}
