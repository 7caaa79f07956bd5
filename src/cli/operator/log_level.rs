//! `plgw log-level`: the log levels of a running gateway.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::Failure;
use super::super::table::{Table, Terminal};
use super::{AdminOptions, cell};
use crate::model::LogLevels;

/// Show or change what a running gateway logs
///
/// Without LEVELS it shows the level of each module. LEVELS are merged into those in force: `data=debug,dns=warn` changes
/// these two modules alone, and a level without a name, as `warn`, is the default of every module that is not named. They
/// hold until the next change, reload of other `logs.levels`, or start.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw log-level
  plgw log-level data=debug,dns=warn
  plgw log-level off,access=info
  plgw log-level --reset")]
pub(in super::super) struct Args {
    /// The levels to merge: off, error, warn, info, debug, trace
    #[arg(value_name = "LEVELS")]
    levels: Option<LogLevels>,
    /// Restore the levels of the start, and merge LEVELS into those
    #[arg(long)]
    reset: bool,
    #[command(flatten)]
    ask: AdminOptions,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.levels.is_none() && !args.reset {
        return args.ask.show("GET", "/v1/logs", String::new(), table);
    }
    let levels = args.levels.as_ref().map(ToString::to_string).unwrap_or_default();
    let change = json!({ "levels": levels, "reset": args.reset });
    args.ask.show("PUT", "/v1/logs", change.to_string(), table)
}

pub(super) fn table(answer: &Value, terminal: Terminal) -> String {
    let mut modules = Table::new(["MODULE", "LEVEL"]);
    for (module, level) in answer["modules"].as_object().into_iter().flatten() {
        modules.row([module.clone(), cell(level)]);
    }
    format!(
        "  {}, as {}; {} lines dropped\n{}",
        cell(&answer["levels"]),
        cell(&answer["format"]),
        answer["dropped"],
        modules.render(terminal),
    )
}
