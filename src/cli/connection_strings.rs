//! `plgw connection-strings`: prints connection strings for drivers.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};

use super::operator::{AdminOptions, cell, list, wait};
use super::table::Terminal;
use super::{Failure, FailureKind, planned};
use crate::model::ClusterName;

/// Print the connection strings of a running gateway's clusters, or of a config's
///
/// Without `--config` they are the running gateway's, with resources that the APIs made and ports that were moved.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw connection-strings
  plgw connection-strings --cluster Cluster0
  plgw connection-strings --config gateway.toml
  plgw connection-strings --output json | jq -r '.[0].private[0].srv_connection_string'")]
pub(super) struct Args {
    /// The config file; no gateway is asked, whatever PLGW_ADMIN says
    #[arg(long, value_name = "FILE", conflicts_with = "lab")]
    config: Option<PathBuf>,
    /// Only this cluster's
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// Take the assigned ports from this state file instead of the config's
    #[arg(long, value_name = "FILE", requires = "config")]
    state: Option<PathBuf>,
    #[command(flatten)]
    ask: AdminOptions,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (all, place) = match &args.config {
        Some(config) => {
            let planned = planned::load(config, args.state.as_deref())?;
            (shown(&planned.snapshot.strings), config.display().to_string())
        }
        None => {
            let answer = wait(args.ask.client()?.get("/v1/connection-strings"))?;
            (shown(list(&answer, "connection_strings")), "the gateway".to_owned())
        }
    };
    let known: Vec<String> = all.iter().map(|strings| cell(&strings["cluster"])).collect();
    let is_wanted = |strings: &Value| args.cluster.as_ref().is_none_or(|wanted| strings["cluster"] == wanted.as_str());
    let wanted: Vec<Value> = all.into_iter().filter(is_wanted).collect();
    if let (Some(name), true) = (&args.cluster, wanted.is_empty()) {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::new(FailureKind::Failed, format!("{place} has no cluster `{name}`; there is {known}")));
    }
    args.ask.print_answer(&json!(wanted), &as_text(&wanted, Terminal::of_stdout()))
}

/// The connection strings in the format for scripts: that of `/v1`, except that endpoints are objects, not pairs, and
/// without `slug`.
pub(super) fn shown(all: &[impl Serialize]) -> Vec<Value> {
    let mut all: Vec<Value> = all.iter().map(|strings| json!(strings)).collect();
    for private in all.iter_mut().filter_map(|strings| strings["private"].as_array_mut()).flatten() {
        private.as_object_mut().map(|private| private.remove("slug"));
        for endpoint in private["endpoints"].as_array_mut().into_iter().flatten() {
            *endpoint = json!({ "endpoint_id": endpoint[0], "region": endpoint[1] });
        }
    }
    all
}

/// Every string in full on its own line.
pub(super) fn as_text(all: &[Value], terminal: Terminal) -> String {
    let mut text = String::new();
    for strings in all {
        text.push_str(&format!("  {}\n", terminal.bold(&cell(&strings["cluster"]))));
        let private = list(strings, "private");
        for (index, of) in private.iter().enumerate() {
            let through: Vec<_> = list(of, "endpoints").iter().map(|endpoint| cell(&endpoint["endpoint_id"])).collect();
            let number = if private.len() > 1 { format!(" {}", index + 1) } else { String::new() };
            text.push_str(&format!("    private{number}, through {}\n", through.join(" and ")));
            let names = ["srv_connection_string", "srv_shard_optimized_connection_string", "connection_string"];
            let mut lines: Vec<&str> = names.iter().filter_map(|name| of[name].as_str()).collect();
            // With optimized strings both may be the same.
            lines.dedup();
            lines.iter().for_each(|string| text.push_str(&format!("      {string}\n")));
        }
        if let Some(reason) = strings["unavailable"].as_str() {
            text.push_str(&format!("    private: {}\n", terminal.dim(reason)));
        }
        if strings["is_public"] != true {
            text.push_str(&format!("    standard: {}\n", terminal.dim("no node has a public address")));
            continue;
        }
        text.push_str("    standard\n");
        for string in [&strings["standard_srv"], &strings["standard"]] {
            text.push_str(&format!("      {}\n", cell(string)));
        }
    }
    text
}
