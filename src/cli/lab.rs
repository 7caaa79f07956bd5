//! `plgw lab …`: a wrapper of the module `lab`, which needs a single-threaded process until it has changed its
//! namespaces.

use std::process::ExitCode;

use super::Failure;
use crate::lab::LabCommand;

/// Runs the command; to be called while this process is single-threaded.
pub(super) fn run(command: LabCommand) -> Result<ExitCode, Failure> {
    Ok(command.run()?)
}
