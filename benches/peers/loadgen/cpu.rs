//! CPU time of other processes, to the nanosecond: `/proc/PID/task/TID/schedstat` is the clock behind utime + stime,
//! without their rounding to 10 ms.

use std::fs;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::report::Report;

/// Clocks at the start of a window.
pub(crate) struct Window<'a> {
    started: Instant,
    cpu: u64,
    ends: u64,
    machine: u64,
    args: &'a Args,
}

impl<'a> Window<'a> {
    pub(crate) fn open(args: &'a Args) -> Self {
        let (cpu, ends) = (spent(args.relays.iter().flatten()), spent(&args.ends));
        Self { cpu, ends, machine: machine_busy(), started: Instant::now(), args }
    }

    /// Writes the CPU time of the window into a report.
    pub(crate) fn close(self, report: &mut Report) -> Duration {
        let time = self.started.elapsed();
        report.put("seconds", time.as_secs_f64());
        report.put("cpu_seconds", spent(self.args.relays.iter().flatten()).saturating_sub(self.cpu) as f64 / 1e9);
        report.put("ends_seconds", spent(&self.args.ends).saturating_sub(self.ends) as f64 / 1e9);
        report.put("machine_seconds", machine_busy().saturating_sub(self.machine) as f64 / 100.0);
        time
    }
}

/// Nanoseconds that the threads of `pids` have run.
pub(crate) fn spent<'a>(pids: impl IntoIterator<Item = &'a u32>) -> u64 {
    let threads = pids.into_iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok()).flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next().and_then(|run| run.parse::<u64>().ok()))
        .sum()
}

/// Hundredths of a second that the machine's cores were busy, or stolen.
fn machine_busy() -> u64 {
    let Ok(text) = fs::read_to_string("/proc/stat") else { return 0 };
    let mut fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let busy: [usize; 6] = [0, 1, 2, 5, 6, 7];
    let all: Vec<u64> = fields.by_ref().map_while(|field| field.parse().ok()).collect();
    busy.iter().filter_map(|at| all.get(*at)).sum()
}
