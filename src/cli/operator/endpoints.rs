//! `plgw endpoints`: interface endpoints with their states.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::super::table::{Table, Terminal};
use super::super::{Failure, FailureKind};
use super::{AdminOptions, cell, list, wait};
use crate::api::client::ClientError;
use crate::model::{HumanDuration, ParseTextError};

/// The polling interval of `--wait`.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// List the interface endpoints of a running gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw endpoints
  plgw endpoints --wait vpce-024f5b57108c8d3ed --timeout 30s")]
pub(in super::super) struct Args {
    #[command(flatten)]
    ask: AdminOptions,
    /// Wait until this endpoint is available
    #[arg(long, value_name = "VPCE")]
    wait: Option<String>,
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = timeout)]
    timeout: HumanDuration,
}

/// Parses a duration; a plain number of seconds, as in earlier versions, is accepted with a notice.
fn timeout(text: &str) -> Result<HumanDuration, ParseTextError> {
    let Ok(seconds) = text.parse() else { return text.parse() };
    let duration = HumanDuration(Duration::from_secs(seconds));
    eprintln!("plgw: `--timeout {text}` is in the form of an earlier version; write `--timeout {duration}`");
    Ok(duration)
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let Some(id) = &args.wait {
        let client = args.ask.client()?;
        let waited = wait(async {
            let terminal = async {
                let mut last = String::new();
                loop {
                    let answer: Value = client.get("/v1/endpoints").await?;
                    let found = list(&answer, "endpoints").iter().find(|endpoint| endpoint["id"] == id.as_str());
                    let state = found.map_or_else(|| "unknown".to_owned(), |endpoint| cell(&endpoint["state"]));
                    if state != last {
                        eprintln!("plgw: {id} is {state}");
                        last.clone_from(&state);
                    }
                    if matches!(state.as_str(), "available" | "failed" | "rejected" | "expired") {
                        return Ok::<_, ClientError>(state);
                    }
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            };
            Ok(tokio::time::timeout(args.timeout.0, terminal).await)
        })?;
        match waited {
            Ok(Ok(state)) if state == "available" => {}
            Ok(Ok(state)) => {
                return Err(Failure::new(FailureKind::Failed, format!("{id} will not be available: it is {state}")));
            }
            Ok(Err(error)) => return Err(Failure::new(FailureKind::Unavailable, crate::control::chain(&error))),
            Err(_) => {
                let message = format!("{id} is not available after {}", args.timeout);
                return Err(Failure::new(FailureKind::Failed, message));
            }
        }
    }
    args.ask.show("GET", "/v1/endpoints", String::new(), table)
}

pub(super) fn table(answer: &Value, terminal: Terminal) -> String {
    let mut table = Table::new(["ENDPOINT", "STATE", "VPC", "SERVICE", "ADDRESSES"]);
    for endpoint in list(answer, "endpoints") {
        let addresses =
            list(endpoint, "addresses").iter().map(|at| format!("{} ({})", cell(&at["ip"]), cell(&at["zone"])));
        let state = cell(&endpoint["state"]);
        let state = if state == "available" { terminal.green(&state) } else { state };
        table.row([
            cell(&endpoint["id"]),
            state,
            cell(&endpoint["vpc"]),
            cell(&endpoint["service"]),
            addresses.collect::<Vec<_>>().join(" "),
        ]);
    }
    if table.is_empty() { "  there are no interface endpoints\n".to_owned() } else { table.render(terminal) }
}
