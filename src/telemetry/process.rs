//! What the process itself uses, under the names that Prometheus' own clients have for it.

use metrics::Unit;

use super::registry::{Metric, Registry};

const OPEN_FDS: Metric = Metric::new("process_open_fds", "Descriptors that are open; two for every flow");
const MAX_FDS: Metric = Metric::new("process_max_fds", "Descriptors that may be open (RLIMIT_NOFILE)");
const RESIDENT: Metric =
    Metric::new("process_resident_memory_bytes", "Memory that is in use, in bytes").in_unit(Unit::Bytes);
const CPU: Metric = Metric::new("process_cpu_seconds_total", "Processor time used, user and system, in whole seconds")
    .in_unit(Unit::Seconds);
const THREADS: Metric = Metric::new("process_threads", "Threads of the process");

/// Publishes them right before each scrape. Reading them takes a few system calls, none of which waits.
pub(super) fn publish(registry: &Registry) {
    let [open, most, resident, threads] =
        [&OPEN_FDS, &MAX_FDS, &RESIDENT, &THREADS].map(|metric| registry.gauge(metric, &[]));
    let cpu = registry.counter(&CPU, &[]);
    registry.on_render(Box::new(move || {
        // What /proc does not say, as where it is not mounted, keeps its last value.
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // The directory itself is open while it is read.
            open.set(float(entries.count().saturating_sub(1) as u64));
        }
        let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        most.set(limits.current.map_or(f64::INFINITY, float));
        if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
            if let Some(kib) = field(&status, "VmRSS:") {
                resident.set(float(kib * 1024));
            }
            if let Some(count) = field(&status, "Threads:") {
                threads.set(float(count));
            }
        }
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        cpu.absolute(u64::try_from(used.tv_sec).unwrap_or(0));
    }));
}

/// The number behind `name` in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and these stay far below 2^52")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_says_what_it_uses() {
        let registry = Registry::new();
        let page = registry.render();
        let value = |name: &str| -> f64 {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} is not in {page}")).parse().expect("a number")
        };
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Name:\tplgw\nVmRSS:\t   5120 kB\nThreads:\t7\n";
        assert_eq!(
            (field(status, "VmRSS:"), field(status, "Threads:"), field(status, "Nothing:")),
            (Some(5120), Some(7), None)
        );
    }
}
