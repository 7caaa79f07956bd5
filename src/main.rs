//! `plgw`: starts the logs, calls the command, chooses the exit code.

use std::io::Write;
use std::process::ExitCode;

use plgw::cli::{Cli, Failure};

/// Flows allocate seldom, but from several threads; control, DNS and the APIs allocate a lot. It is built without huge
/// pages (`no_thp`): each that it touched counted as 2 MiB, and made 20 MiB of a gateway's 8.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Prints help, or what is wrong with the command line (exit code 2), by itself.
    let cli = Cli::of_process();
    run(cli).unwrap_or_else(|failure| {
        // Where standard error is closed, the exit code has to do.
        let _ = writeln!(std::io::stderr(), "plgw: {failure}");
        failure.kind.into()
    })
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let settings = cli.log_settings()?;
    // A thread for the lines, so that who stops reading them stops no flow; the lab's commands change namespaces, which
    // only a process of one thread can.
    let logs = if cli.is_daemon() { settings.start_queued()? } else { settings.start()? };
    let outcome = cli.run(logs.clone());
    logs.flush();
    outcome
}
