//! What the log leaves out, as metrics.

use super::logs::LogHandle;
use super::registry::{Metric, Registry};

const DROPPED: Metric =
    Metric::new("plgw_log_lines_dropped_total", "Log lines left out because nobody read standard error in time");
const SUPPRESSED: Metric =
    Metric::new("plgw_log_lines_suppressed_total", "Log lines left out because they repeated too often");

/// Counts in `registry` what `logs` leaves out.
pub(crate) fn count_lines(registry: &Registry, logs: LogHandle) {
    let dropped = registry.counter(&DROPPED, &[]);
    // Weak: the registry has the hook.
    let recorder = registry.downgrade();
    registry.on_render(Box::new(move || {
        dropped.absolute(logs.dropped());
        if let Some(registry) = recorder.upgrade() {
            for (room, lines) in logs.suppressed() {
                registry.counter(&SUPPRESSED, &[("room", room)]).absolute(lines);
            }
        }
    }));
}
