//! `plgw plan`: prints the plan of a config.

mod horizons;
mod page;
pub(super) mod view;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::planned::PlannedConfig;
use super::table::{Terminal, print};
use super::{Failure, Output, json, planned};

pub(super) use self::page::records;

/// Print what a config would run
///
/// Listeners, targets with their ports, DNS records and connection strings. Nothing is started or bound. Ports are those
/// that a gateway would give: a target keeps the one that the state file holds for it, whether a gateway runs on that file
/// or not; the file is only read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw plan --config gateway.toml
  plgw plan --config gateway.toml --state /var/lib/plgw/state.json
  plgw plan --config gateway.toml --horizons > horizons.js
  plgw plan --config gateway.toml --output json | jq '.targets[] | [.target, .port]'")]
pub(super) struct Args {
    /// The config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Take the assigned ports from this state file instead of the config's
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Print instead a mongosh script that sets the split horizons of real replica sets
    #[arg(long)]
    horizons: bool,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let planned = planned::load(&args.config, args.state.as_deref())?;
    if args.horizons {
        let views = horizons::views(&planned);
        print(&match args.output {
            Output::Json => json(&views)?,
            Output::Table => horizons::script(&views),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    match args.output {
        Output::Json => print(&json(&view::view(&args.config, &planned))?)?,
        Output::Table => print(&page(&args.config, &planned, Terminal::of_stdout()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The plan for people.
pub(super) fn page(config: &Path, planned: &PlannedConfig, terminal: Terminal) -> String {
    page::render(&view::view(config, planned), &view::records(&planned.snapshot), &planned.state, terminal)
}
