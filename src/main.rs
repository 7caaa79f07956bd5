//! `plgw`: initializes logging, runs the command, and sets the exit code.

use std::io::Write;
use std::process::ExitCode;

use plgw::cli::{Cli, Failure};

/// Flows allocate rarely, but from several threads; control, DNS and the APIs allocate a lot. Built without huge pages
/// (`no_thp`): each one touched counted as 2 MiB, which turned a gateway's 8 MiB into 20.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Prints help, or the command line's error (exit code 2), by itself.
    let cli = Cli::of_process();
    run(cli).unwrap_or_else(|failure| {
        // If standard error is closed, only the exit code remains.
        let _ = writeln!(std::io::stderr(), "plgw: {failure}");
        failure.kind.into()
    })
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let settings = cli.log_settings()?;
    // A separate thread writes the lines, so that a blocked reader of standard error does not block flows. The lab's
    // commands change namespaces, which only a single-threaded process can.
    let logs = if cli.is_daemon() { settings.start_queued()? } else { settings.start()? };
    let outcome = cli.run(logs.clone());
    logs.flush();
    outcome
}
