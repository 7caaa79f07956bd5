//! `/v1/logs`: what is logged, and other levels while the gateway runs.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Operation, Request};
use super::{Refusal, Shared, bad};
use crate::config::HumanDuration;
use crate::model::{LOG_RECORDS, LOG_ROOMS, LogLevels};
use crate::telemetry::LogHandle;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, "/v1/logs", "getLogs", "The log's levels", show),
        Operation::with_body(Method::PUT, "/v1/logs", "setLogs", "Sets other levels until the process ends", change)
            .refusals(&[400]),
    ]
}

/// What is logged.
#[derive(Serialize, JsonSchema)]
struct LogsView {
    /// The levels in force: `info,data=debug`.
    levels: String,
    /// Those of the start.
    started_with: String,
    /// `text` or `json`.
    #[schemars(extend("enum" = ["text", "json"]))]
    format: &'static str,
    /// The level of each room and kind of record.
    rooms: BTreeMap<&'static str, &'static str>,
    limit: LimitView,
    /// Lines that were left out because they repeated, by room.
    suppressed: BTreeMap<&'static str, u64>,
    /// Lines that were left out because nobody read them.
    dropped: u64,
}

/// How often a line may repeat.
#[derive(Serialize, JsonSchema)]
struct LimitView {
    lines: u32,
    interval: String,
}

impl LogsView {
    fn of(logs: &LogHandle) -> Self {
        let (levels, limit) = (logs.levels(), logs.limit());
        let rooms = LOG_ROOMS.iter().chain(&LOG_RECORDS).map(|room| (*room, levels.of(room).label())).collect();
        Self {
            levels: levels.to_string(),
            started_with: logs.started_with().to_string(),
            format: logs.format().label(),
            rooms,
            limit: LimitView { lines: limit.lines, interval: HumanDuration(limit.interval).to_string() },
            suppressed: logs.suppressed(),
            dropped: logs.dropped(),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogsRequest {
    levels: String,
}

async fn show(request: Request) -> Result<LogsView, Refusal> {
    Ok(LogsView::of(log_of(&request.shared)?))
}

async fn change(request: Request, LogsRequest { levels }: LogsRequest) -> Result<LogsView, Refusal> {
    let levels: LogLevels = levels.parse().map_err(bad)?;
    let logs = log_of(&request.shared)?;
    let gone = |error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no_log", crate::control::chain(&error));
    logs.set_levels(&levels).map_err(gone)?;
    Ok(LogsView::of(logs))
}

fn log_of(shared: &Shared) -> Result<&LogHandle, Refusal> {
    let none = "the log of this process is not the gateway's own, so its levels can't be changed here";
    shared.logs.as_ref().ok_or_else(|| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no_log", none))
}
