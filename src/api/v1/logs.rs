//! `/v1/logs`: log levels, which can be changed at run time.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Operation, OperationRequest};
use super::{ApiState, V1Error, bad};
use crate::model::{LOG_MODULES, LOG_RECORDS, LogLevels};
use crate::telemetry::LogHandle;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, "/v1/logs", "getLogs", "The log's levels", show),
        Operation::with_body(
            Method::PUT,
            "/v1/logs",
            "setLogs",
            "Merges levels into those in force, or with `reset` into those of the start",
            change,
        )
        .refusals(&[400]),
    ]
}

/// The log's settings.
#[derive(Serialize, JsonSchema)]
struct LogsView {
    /// The current levels: `info,data=debug`.
    levels: String,
    /// The levels at the start.
    started_with: String,
    /// `text` or `json`.
    #[schemars(extend("enum" = ["text", "json"]))]
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

/// Directives that are merged with the current levels, or with those of the start.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogsRequest {
    levels: String,
    #[serde(default)]
    reset: bool,
}

async fn show(request: OperationRequest) -> Result<LogsView, V1Error> {
    Ok(LogsView::of(log_of(&request.shared)?))
}

async fn change(request: OperationRequest, LogsRequest { levels, reset }: LogsRequest) -> Result<LogsView, V1Error> {
    let levels: LogLevels = levels.parse().map_err(bad)?;
    let logs = log_of(&request.shared)?;
    let gone = |error| V1Error::new(StatusCode::SERVICE_UNAVAILABLE, "no_log", crate::control::chain(&error));
    let changed = if reset {
        logs.set_levels(&logs.started_with().clone().merged_with(&levels))
    } else {
        logs.merge_levels(&levels)
    };
    changed.map_err(gone)?;
    Ok(LogsView::of(logs))
}

fn log_of(shared: &ApiState) -> Result<&LogHandle, V1Error> {
    let none = "the log of this process is not the gateway's own, so its levels can't be changed here";
    shared.logs.as_ref().ok_or_else(|| V1Error::new(StatusCode::SERVICE_UNAVAILABLE, "no_log", none))
}
