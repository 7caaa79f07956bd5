//! `plgw`: starts the logs, calls the command, chooses the exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use plgw::cli::{Cli, Failure};
use rustix::thread::disable_transparent_huge_pages;

/// Flows allocate seldom, but from several threads; control, DNS and the APIs allocate a lot.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, and each that it touches counts as 2 MiB: 20 MiB for a gateway that needs 7.
    // Before the first allocation; a kernel without the call leaves it as it was.
    let _ = disable_transparent_huge_pages(true);
    // Prints help, or what is wrong with the command line (exit code 2), by itself.
    let cli = Cli::parse();
    if !cli.is_daemon() {
        // Other commands may start other people's programs, which would inherit it.
        let _ = disable_transparent_huge_pages(false);
    }
    run(cli).unwrap_or_else(|failure| {
        // Where standard error is closed, the exit code has to do.
        let _ = writeln!(std::io::stderr(), "plgw: {failure}");
        failure.kind.into()
    })
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let logs = cli.log_settings()?.start()?;
    let outcome = cli.run(logs.clone());
    logs.flush();
    outcome
}
