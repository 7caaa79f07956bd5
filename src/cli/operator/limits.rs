//! `plgw limits`: limits and their use.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::super::Failure;
use super::super::table::{Table, Terminal};
use super::{AdminOptions, cell, list};
use crate::model::VpceServiceId;

/// Show or set a running gateway's limits
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw limits
  plgw limits --flows-per-target 1000
  plgw limits --service vpce-svc-02863655456245e5c --bandwidth-bytes-per-second 125000000
  plgw limits --bandwidth-bytes-per-second none")]
pub(in super::super) struct Args {
    /// Set on this load balancer only
    #[arg(long, value_name = "VPCE-SVC")]
    service: Option<VpceServiceId>,
    /// The most addressable targets in a region
    #[arg(long, value_name = "NUMBER")]
    targets_per_region: Option<u64>,
    /// The most flows of one process
    #[arg(long, value_name = "NUMBER")]
    flows_per_target: Option<u64>,
    /// The most bytes per second of one endpoint address in each direction; `none`: no limit
    #[arg(long, value_name = "BYTES", value_parser = bandwidth)]
    bandwidth_bytes_per_second: Option<Value>,
    /// The flag of an earlier version
    #[arg(long, value_parser = former_bandwidth, hide = true, conflicts_with = "bandwidth_bytes_per_second")]
    bandwidth: Option<Value>,
    #[command(flatten)]
    ask: AdminOptions,
}

/// A number of bytes; null: no limit.
fn bandwidth(text: &str) -> Result<Value, String> {
    match text {
        "none" => Ok(Value::Null),
        _ => text.parse::<u64>().map(Value::from).map_err(|_| "write a number of bytes, or `none`".to_owned()),
    }
}

fn former_bandwidth(text: &str) -> Result<Value, String> {
    let read = bandwidth(text)?;
    eprintln!("plgw: `--bandwidth` is the flag of an earlier version; write `--bandwidth-bytes-per-second {text}`");
    Ok(read)
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut change = Map::new();
    for (name, value) in [
        ("targets_per_region", args.targets_per_region.map(Value::from)),
        ("flows_per_target", args.flows_per_target.map(Value::from)),
        ("bandwidth_bytes_per_second", args.bandwidth_bytes_per_second.clone().or_else(|| args.bandwidth.clone())),
    ] {
        change.extend(value.map(|value| (name.to_owned(), value)));
    }
    let (method, body) = if change.is_empty() {
        ("GET", String::new())
    } else {
        if let Some(service) = &args.service {
            change.insert("service".to_owned(), json!(service));
        }
        ("PUT", Value::Object(change).to_string())
    };
    let wanted = args.service.as_ref().map(|service| service.as_str().to_owned());
    args.ask.show(method, "/v1/limits", body, |answer, terminal| table(answer, wanted.as_deref(), terminal))
}

pub(super) fn table(answer: &Value, wanted: Option<&str>, terminal: Terminal) -> String {
    let mut table =
        Table::new(["SERVICE", "PROVIDER", "REGION", "TARGETS", "FLOWS PER TARGET", "BYTES PER SECOND", "PORTS"]);
    let used = |of: &Value| format!("{} of {}", of["used"], of["limit"]);
    let all = list(answer, "limits").iter();
    for limits in all.filter(|limits| wanted.is_none_or(|wanted| limits["service"] == wanted)) {
        let cap = &limits["bandwidth_bytes_per_second"];
        table.row([
            cell(&limits["service"]),
            cell(&limits["provider"]),
            cell(&limits["region"]),
            used(&limits["targets_per_region"]),
            used(&limits["flows_per_target"]),
            if cap.is_null() { "no cap".to_owned() } else { cell(cap) },
            format!("{} of {}", limits["ports"]["used"], cell(&limits["ports"]["range"])),
        ]);
    }
    if table.is_empty() { "  there are no endpoint services\n".to_owned() } else { table.render(terminal) }
}
