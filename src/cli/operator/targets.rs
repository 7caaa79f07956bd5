//! `plgw targets`: addressable targets, their ports and their health.

use std::process::ExitCode;

use serde_json::Value;

use super::super::Failure;
use super::super::table::{Table, Terminal};
use super::{AdminOptions, cell, list};

/// List the addressable targets of a running gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plgw targets --output json | jq '.targets[].port'")]
pub(in super::super) struct Args {
    #[command(flatten)]
    ask: AdminOptions,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    args.ask.show("GET", "/v1/targets", String::new(), table)
}

pub(super) fn table(answer: &Value, terminal: Terminal) -> String {
    let mut table = Table::new(["TARGET", "PORT", "KIND", "STATE", "REGION", "MEMBERS"]);
    for target in list(answer, "targets") {
        let unresolved = list(target, "unresolved").iter();
        let unresolved = unresolved.map(|member| format!("{} (not resolved)", cell(&member["address"])));
        let members = list(target, "members").iter().map(|member| cell(&member["address"]));
        let mut members = members.chain(unresolved);
        let state = cell(&target["state"]);
        let state = if state == "healthy" { terminal.green(&state) } else { state };
        table.row([
            cell(&target["id"]),
            cell(&target["port"]),
            cell(&target["kind"]),
            state,
            cell(&target["region"]),
            members.next().unwrap_or_default(),
        ]);
        // Further members follow below the first.
        members.for_each(|member| table.row(["", "", "", "", "", &member]));
    }
    if table.is_empty() { "  there are no targets\n".to_owned() } else { table.render(terminal) }
}
