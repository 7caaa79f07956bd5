//! `plgw gateways`: the gateways that share a state.

use std::process::ExitCode;

use serde_json::Value;

use super::super::Failure;
use super::super::table::{Table, Terminal, wrapped};
use super::{AdminOptions, cell, list, segment};
use crate::model::GatewayId;

/// List the gateways that share a state, or forget one
#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum Command {
    /// List the gateways that share the state in etcd, and who serves which zone
    #[command(after_help = "\
Examples:
  plgw gateways list
  plgw gateways list --output json | jq '.gateways[] | select(.state == \"gone\").id'")]
    List(AdminOptions),
    /// Give up a gateway that is gone for good: its zones and the ports that wait for it are free
    ///
    /// A gateway that stops in order leaves its zones by itself. One that is cut off may still serve its zone and its ports:
    /// make sure that it does not run any more.
    #[command(after_help = "Example:\n  plgw gateways forget gateway-b")]
    Forget {
        /// The gateway's id
        gateway: GatewayId,
        #[command(flatten)]
        ask: AdminOptions,
    },
}

pub(in super::super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List(ask) => ask.show("GET", "/v1/gateways", String::new(), table),
        Command::Forget { gateway, ask } => {
            let path = format!("/v1/gateways/{}", segment(gateway.as_str()));
            ask.show("DELETE", &path, String::new(), forgotten)
        }
    }
}

fn forgotten(answer: &Value, _: Terminal) -> String {
    format!("  gateway {} is forgotten; {} reserved ports are released\n", cell(&answer["gateway"]), answer["ports"])
}

pub(super) fn table(answer: &Value, terminal: Terminal) -> String {
    if answer["shared"] != true {
        return "  the state is this gateway's alone: `state.store` is not `etcd`\n".to_owned();
    }
    let names = |of: &Value, name: &str| list(of, name).iter().map(cell).collect::<Vec<_>>().join(" ");
    let mut gateways = Table::new(["GATEWAY", "STATE", "SERVES", "WANTS", "HEARD", "ADMIN"]);
    for gateway in list(answer, "gateways") {
        let state = match cell(&gateway["state"]).as_str() {
            "serving" => terminal.green("serving"),
            "gone" => terminal.red("gone"),
            other => other.to_owned(),
        };
        let serves_all = gateway["zones"].is_null();
        let this = if gateway["is_this"] == true { " (this one)" } else { "" };
        gateways.row([
            format!("{}{this}", cell(&gateway["id"])),
            state,
            if serves_all { "all".to_owned() } else { names(gateway, "serving") },
            if serves_all { "all".to_owned() } else { names(gateway, "zones") },
            gateway["heard_seconds_ago"].as_u64().map_or_else(String::new, |seconds| format!("{seconds}s ago")),
            cell(&gateway["admin"]),
        ]);
    }
    let mut text = gateways.render(terminal);
    let mut claims = Table::new(["ZONE", "GATEWAY", "STANDBY", "WITHOUT THE STATE"]);
    for claim in list(answer, "claims") {
        let gateway = if claim["gateway"].is_null() { terminal.red("none") } else { cell(&claim["gateway"]) };
        let without = if claim["fenced"] == true { "stops, a standby takes it" } else { "goes on" };
        claims.row([cell(&claim["zone"]), gateway, names(claim, "standbys"), without.to_owned()]);
    }
    if !claims.is_empty() {
        text.push('\n');
        text.push_str(&claims.render(terminal));
    }
    if let Some(problem) = answer["problem"].as_str() {
        text.push('\n');
        text.push_str(&wrapped("  ", &terminal.red(problem), 2, terminal));
    }
    text
}
