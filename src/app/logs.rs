//! Applies the config's log levels.

use crate::config::LoggingSettings;
use crate::telemetry::LogHandle;

/// At the start: `RUST_LOG` takes precedence.
pub(super) fn start(logs: &LogHandle, settings: &LoggingSettings) {
    if let (Some(levels), false) = (&settings.levels, logs.is_chosen()) {
        set(logs, levels);
    }
}

/// At a reload from `before` to `now`: changed levels are applied, regardless of what set them last.
pub(super) fn change(logs: &LogHandle, before: &LoggingSettings, now: &LoggingSettings) {
    if before.levels != now.levels {
        set(logs, now.levels.as_ref().unwrap_or(logs.started_with()));
    }
}

fn set(logs: &LogHandle, levels: &crate::model::LogLevels) {
    if let Err(error) = logs.set_levels(levels) {
        tracing::error!(%error, "failed to change the log levels");
    }
}
