//! Process metrics, with the names of Prometheus' client libraries.
//!
//! Written by hand; `metrics-process` was tried, but its build time is a tenth of a release build.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

const START: &str = "process_start_time_seconds";
const OPEN_FDS: &str = "process_open_fds";
const MAX_FDS: &str = "process_max_fds";
const RESIDENT: &str = "process_resident_memory_bytes";
const VIRTUAL: &str = "process_virtual_memory_bytes";
const MAX_VIRTUAL: &str = "process_virtual_memory_max_bytes";
const CPU: &str = "process_cpu_seconds_total";
const THREADS: &str = "process_threads";

/// Describes the metrics to the current recorder.
pub(super) fn describe() {
    describe_gauge!(START, Unit::Seconds, "Start of the process, in seconds since 1970");
    describe_gauge!(OPEN_FDS, "Open file descriptors; two for every flow");
    describe_gauge!(MAX_FDS, "File descriptors that may be open (RLIMIT_NOFILE)");
    describe_gauge!(RESIDENT, Unit::Bytes, "Resident memory, in bytes");
    describe_gauge!(VIRTUAL, Unit::Bytes, "Virtual memory, in bytes");
    describe_gauge!(MAX_VIRTUAL, Unit::Bytes, "Virtual memory that may be used (RLIMIT_AS), in bytes; 0: no limit");
    describe_counter!(CPU, Unit::Seconds, "Processor time used, user and system, in whole seconds");
    describe_gauge!(THREADS, "Threads of the process");
}

/// Updates the metrics of the current recorder by a few non-blocking system calls. Without `/proc`, values that depend
/// on it are not updated.
pub(super) fn collect() {
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // Not counting the descriptor of the directory itself.
        gauge!(OPEN_FDS).set(float(entries.count().saturating_sub(1) as u64));
    }
    gauge!(MAX_FDS).set(getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, float));
    gauge!(MAX_VIRTUAL).set(getrlimit(Resource::As).current.map_or(0.0, float));
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        for (name, series, unit) in [("VmRSS:", RESIDENT, 1024), ("VmSize:", VIRTUAL, 1024), ("Threads:", THREADS, 1)] {
            if let Some(value) = field(&status, name) {
                gauge!(series).set(float(value * unit));
            }
        }
    }
    let seconds = |clock| u64::try_from(clock_gettime(clock).tv_sec).unwrap_or(0);
    counter!(CPU).absolute(seconds(ClockId::ProcessCPUTime));
    if let Some(since_boot) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(start_ticks)
        && let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH)
    {
        let age = seconds(ClockId::Boottime).saturating_sub(since_boot / rustix::param::clock_ticks_per_second());
        gauge!(START).set(float(now.as_secs().saturating_sub(age)));
    }
}

/// The number after `name` in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// When the process started, in clock ticks since boot: field 22 of `/proc/self/stat` (proc_pid_stat(5)). The second
/// field, the name, may contain spaces and parentheses.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and these stay far below 2^52")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Name:\tplgw\nVmRSS:\t   5120 kB\nThreads:\t7\n";
        let found = ["VmRSS:", "Threads:", "Nothing:"].map(|name| field(status, name));
        assert_eq!(found, [Some(5120), Some(7), None]);
    }

    #[test]
    fn the_start_time_is_found_after_any_name() {
        let stat = format!("7 (a ) b) S {} 4711 99", ["0"; 18].join(" "));
        assert_eq!((start_ticks(&stat), start_ticks("7 (a")), (Some(4711), None));
    }
}
