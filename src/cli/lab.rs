//! `plgw lab …`: the module `lab` does it all, with one thread until it has changed its namespaces.

use std::process::ExitCode;

use super::Failure;
use crate::lab::LabCommand;

/// Runs the command, while this process has one thread.
pub(super) fn run(command: LabCommand) -> Result<ExitCode, Failure> {
    Ok(command.run()?)
}
