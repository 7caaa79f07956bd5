//! A metric of dropped log lines.

use metrics::{counter, describe_counter, with_local_recorder};

use super::logs::LogHandle;
use super::registry::Registry;

const DROPPED: &str = "plgw_log_lines_dropped_total";

/// Counts the lines that `logs` drops in `registry`.
pub(crate) fn count_lines(registry: &Registry, logs: LogHandle) {
    let dropped = with_local_recorder(registry.recorder(), || {
        describe_counter!(DROPPED, "Log lines dropped because standard error was not read in time.");
        counter!(DROPPED)
    });
    registry.on_render(Box::new(move || dropped.absolute(logs.dropped())));
}
