//! In which state what is in the inventory is, and since when.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Now, by the system's clock: what is waited for goes on after a restart.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        Self(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This moment and `wait` more.
    #[must_use]
    pub fn plus(self, wait: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time from this moment to a later one; none to an earlier one.
    #[must_use]
    pub fn until(self, later: Self) -> std::time::Duration {
        std::time::Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// Where an endpoint service is in its life, as Atlas says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceState {
    /// Atlas makes the load balancer and the VPC's resources.
    Initiating,
    /// Ready for interface endpoints.
    Available,
    /// It is available, and its supported regions are being changed. Atlas shows `INITIATING`.
    Updating,
    /// It could not be made.
    Failed,
    /// Being removed.
    Deleting,
}

impl ServiceState {
    /// Whether interface endpoints may lead to it.
    #[must_use]
    pub fn stands(self) -> bool {
        matches!(self, Self::Available | Self::Updating)
    }

    /// Atlas' word for it.
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
