//! `/v1/logs`: what is logged, and other levels while the gateway runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Outcome, Refusal, Shared, bad, ok};
use crate::api::call::Call;
use crate::model::{LOG_MODULES, LOG_RECORDS, LogLevels};
use crate::telemetry::LogHandle;

/// What is logged.
#[derive(Debug, Serialize)]
struct LogsView {
    /// The levels in force: `info,data=debug`.
    levels: String,
    /// Those of the start.
    started_with: String,
    /// `text` or `json`.
    format: &'static str,
    /// The level of each module and kind of record.
    modules: BTreeMap<&'static str, String>,
    /// Lines that were dropped because standard error was not read in time.
    dropped: u64,
}

impl LogsView {
    fn of(logs: &LogHandle) -> Self {
        let levels = logs.levels();
        let names = LOG_MODULES.into_iter().chain(LOG_RECORDS);
        Self {
            modules: names.map(|name| (name, levels.of(name).to_string())).collect(),
            levels: levels.to_string(),
            started_with: logs.started_with().to_string(),
            format: logs.format().label(),
            dropped: logs.dropped(),
        }
    }
}

/// Directives that are merged into those in force, or into those of the start.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    levels: String,
    #[serde(default)]
    reset: bool,
}

pub(super) fn show(shared: &Arc<Shared>) -> Outcome {
    Ok(ok(&LogsView::of(log_of(shared)?)))
}

pub(super) fn change(shared: &Arc<Shared>, call: &Call) -> Outcome {
    let Change { levels, reset } = call.json().map_err(bad)?;
    let levels: LogLevels = levels.parse().map_err(bad)?;
    let logs = log_of(shared)?;
    let gone = |error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no_log", crate::control::chain(&error));
    let changed = if reset {
        logs.set_levels(&logs.started_with().clone().merged_with(&levels))
    } else {
        logs.merge_levels(&levels)
    };
    changed.map_err(gone)?;
    Ok(ok(&LogsView::of(logs)))
}

fn log_of(shared: &Shared) -> Result<&LogHandle, Refusal> {
    let none = "the log of this process is not the gateway's own, so its levels can't be changed here";
    shared.logs.as_ref().ok_or_else(|| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no_log", none))
}
