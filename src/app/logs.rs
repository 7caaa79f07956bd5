//! The process' log, set as the config says.

use crate::config::LoggingSettings;
use crate::telemetry::{LineLimit, LogHandle};

/// At the start: what `RUST_LOG` says comes first.
pub(super) fn start(logs: &LogHandle, settings: &LoggingSettings) {
    logs.set_limit(limit(settings));
    if let (Some(levels), false) = (&settings.levels, logs.is_chosen()) {
        set(logs, levels);
    }
}

/// At a reload from `before` to `now`: what was changed takes effect, whoever set it last.
pub(super) fn change(logs: &LogHandle, before: &LoggingSettings, now: &LoggingSettings) {
    logs.set_limit(limit(now));
    if before.levels != now.levels {
        set(logs, now.levels.as_ref().unwrap_or(logs.started_with()));
    }
}

fn set(logs: &LogHandle, levels: &crate::model::LogLevels) {
    if let Err(error) = logs.set_levels(levels) {
        tracing::error!(%error, "the log's levels stay as they were");
    }
}

fn limit(settings: &LoggingSettings) -> LineLimit {
    LineLimit { lines: settings.repeats, interval: settings.interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The config room knows nothing of the log: its default is a copy.
    #[test]
    fn the_configs_default_is_the_logs_own() {
        assert_eq!(limit(&LoggingSettings::default()), LineLimit::default());
    }
}
