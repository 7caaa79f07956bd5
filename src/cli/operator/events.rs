//! `plgw events`: recent and new events.

use std::process::ExitCode;

use serde_json::Value;

use super::super::table::{Terminal, print, wrapped};
use super::super::{Failure, Output};
use super::{AdminOptions, cell, list, wait};

/// How long one request of `--follow` waits for an event.
const WAIT: &str = "20s";

/// List recent events: health, port moves, faults, zones, reloads, refused connections
///
/// The gateway keeps the last 1,000 events, and as many refused connections, in memory. With `--follow --output json` each
/// event is an object on one line.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw events
  plgw events --last 5
  plgw events --follow --output json | jq -r 'select(.kind == \"health\").message'")]
pub(in super::super) struct Args {
    /// The number of events to list
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    last: u16,
    /// Print further events as they happen, until Ctrl-C
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    ask: AdminOptions,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut path = format!("/v1/events?limit={}", args.last.min(1_000));
    if !args.follow {
        return args.ask.show("GET", &path, String::new(), table);
    }
    let client = args.ask.client()?;
    loop {
        let page: Value = wait(client.call("GET", &path, String::new()))?;
        match args.ask.output {
            Output::Json => {
                let lines = list(&page, "events").iter().map(|event| format!("{event}\n"));
                print(&lines.collect::<String>())?;
            }
            Output::Table => print(&table(&page, Terminal::of_stdout()))?,
        }
        path = format!("/v1/events?since={}&wait={WAIT}", page["next"]);
    }
}

pub(super) fn table(page: &Value, terminal: Terminal) -> String {
    let missed = if page["missed"] == true { "  … some events are kept no more\n" } else { "" };
    let lines = list(page, "events").iter().map(|event| line(event, terminal));
    missed.to_owned() + &lines.collect::<String>()
}

fn line(event: &Value, terminal: Terminal) -> String {
    let (kind, severity, message) = (cell(&event["kind"]), cell(&event["severity"]), cell(&event["message"]));
    let message = if severity == "info" { message } else { terminal.red(&message) };
    let lead = format!("  {}  {kind:<12}  ", terminal.dim(&cell(&event["at"])));
    wrapped(&lead, &message, 4, terminal)
}
