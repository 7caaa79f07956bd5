//! `plgw zone`: zones and zonal shifts.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::Failure;
use super::super::table::{Table, Terminal};
use super::{AdminOptions, cell, list};
use crate::model::{HumanDuration, VpceServiceId, Zone};

/// Shift away from a zone, or back
#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum Command {
    /// List the zones with their addresses, and which of them DNS answers
    #[command(after_help = "Example:\n  plgw zone list")]
    List(AdminOptions),
    /// Shift away from a zone: its addresses leave DNS, its targets get no new flows
    #[command(after_help = "\
Examples:
  plgw zone shift us-east-1a
  plgw zone shift us-east-1a --for 30m")]
    Shift {
        /// The zone
        zone: Zone,
        /// The duration; by default until `plgw zone unshift`
        #[arg(long = "for", value_name = "DURATION")]
        lasts: Option<HumanDuration>,
        /// Only on this load balancer
        #[arg(long, value_name = "VPCE-SVC")]
        service: Option<VpceServiceId>,
        #[command(flatten)]
        ask: AdminOptions,
    },
    /// End a zonal shift
    #[command(after_help = "Example:\n  plgw zone unshift us-east-1a")]
    Unshift {
        /// The zone
        zone: Zone,
        /// Only on this load balancer
        #[arg(long, value_name = "VPCE-SVC")]
        service: Option<VpceServiceId>,
        #[command(flatten)]
        ask: AdminOptions,
    },
}

pub(in super::super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List(ask) => ask.show("GET", "/v1/zones", String::new(), table),
        Command::Shift { zone, lasts, service, ask } => {
            let body = json!({ "service": service, "for": lasts });
            ask.show("POST", &format!("/v1/zones/{zone}/shift"), body.to_string(), table)
        }
        Command::Unshift { zone, service, ask } => {
            let query = service.as_ref().map(|service| format!("?service={service}")).unwrap_or_default();
            ask.show("DELETE", &format!("/v1/zones/{zone}/shift{query}"), String::new(), table)
        }
    }
}

pub(super) fn table(answer: &Value, terminal: Terminal) -> String {
    let mut table = Table::new(["ZONE", "SERVICE", "HEALTH", "DNS", "SHIFT", "ADDRESSES"]);
    for zone in list(answer, "zones") {
        let health = match (zone["healthy"] == true, zone["lost"] == true) {
            (true, _) => terminal.green("healthy"),
            (false, true) => terminal.red("lost"),
            (false, false) => terminal.red("unhealthy"),
        };
        let dns = match (zone["in_dns"] == true, zone["fail_open"].as_str()) {
            (true, None) => terminal.green("in"),
            (true, Some(reason)) => terminal.red(&format!("in, {reason}")),
            (false, _) => terminal.red("out"),
        };
        let shift = match (&zone["shift"], zone["shift"]["expires"].as_str()) {
            (Value::Null, _) => String::new(),
            (_, Some(end)) => format!("until {end}"),
            (shift, None) => format!("since {}", cell(&shift["since"])),
        };
        let addresses: Vec<_> = list(zone, "addresses").iter().map(|address| cell(&address["ip"])).collect();
        table.row([cell(&zone["zone"]), cell(&zone["service"]), health, dns, shift, addresses.join(" ")]);
    }
    if table.is_empty() { "  no endpoint has an address in any zone\n".to_owned() } else { table.render(terminal) }
}
