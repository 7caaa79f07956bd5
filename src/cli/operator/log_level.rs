//! `plgw log-level`: what a running gateway logs.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::table::{Look, Table};
use super::super::{Failure, Kind};
use super::{Ask, cell, wait};
use crate::model::LogLevels;

/// Show or change what a running gateway logs
///
/// Without LEVELS it shows the level of each room. LEVELS hold until the next change, reload of other `logs.levels`, or
/// start: `info`, or a level for each room, as `data=debug,dns=warn`. What is not named has the level for everything, which
/// is `info` unless it is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw log-level
  plgw log-level data=debug,dns=warn
  plgw log-level off,access=info
  plgw log-level --reset")]
pub(in super::super) struct Args {
    /// The levels from now on: off, error, warn, info, debug, trace
    #[arg(value_name = "LEVELS")]
    levels: Option<LogLevels>,
    /// Back to the levels of the start
    #[arg(long, conflicts_with = "levels")]
    reset: bool,
    #[command(flatten)]
    ask: Ask,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let levels =
        if args.reset { Some(of_the_start(&args.ask)?) } else { args.levels.as_ref().map(ToString::to_string) };
    match levels {
        Some(levels) => args.ask.show("PUT", "/v1/logs", json!({ "levels": levels }).to_string(), table)?,
        None => args.ask.show("GET", "/v1/logs", String::new(), table)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn of_the_start(ask: &Ask) -> Result<String, Failure> {
    let answer: Value = wait(ask.client().call("GET", "/v1/logs", String::new()))?;
    let levels = answer["started_with"].as_str().map(str::to_owned);
    levels.ok_or_else(|| Failure::new(Kind::Unavailable, "the gateway does not say which levels it started with"))
}

fn table(answer: &Value) -> String {
    let look = Look::of_stdout();
    let mut rooms = Table::new(["ROOM", "LEVEL", "LINES SUPPRESSED"]);
    for (room, level) in answer["rooms"].as_object().into_iter().flatten() {
        rooms.row([room.clone(), cell(level), cell(&answer["suppressed"][room])]);
    }
    format!(
        "  {}, as {}; at most {} lines of one kind in {}; {} lines dropped\n{}",
        cell(&answer["levels"]),
        cell(&answer["format"]),
        cell(&answer["limit"]["lines"]),
        cell(&answer["limit"]["interval"]),
        answer["dropped"],
        rooms.render(look),
    )
}
