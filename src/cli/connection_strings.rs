//! `plgw connection-strings`: prints connection strings for drivers.

use std::path::PathBuf;
use std::process::ExitCode;

use super::operator::{AdminOptions, list, wait};
use super::plan::view::StringsView;
use super::table::{Terminal, print};
use super::{Failure, FailureKind, Output, json, planned};
use crate::model::ClusterName;

/// Print the connection strings of a running gateway's clusters, or of a config's
///
/// Without `--config` the running gateway is asked, which knows what the APIs made and which ports were moved.
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
    let (all, place): (Vec<StringsView>, String) = match &args.config {
        Some(config) => {
            let planned = planned::load(config, args.state.as_deref())?;
            (planned.snapshot.strings.iter().map(StringsView::from).collect(), config.display().to_string())
        }
        None => {
            let answer = wait(args.ask.client()?.get("/v1/connection-strings"))?;
            (list(&answer, "connection_strings").iter().map(StringsView::from).collect(), "the gateway".to_owned())
        }
    };
    let known: Vec<String> = all.iter().map(|view| view.cluster.clone()).collect();
    let is_wanted = |name: &str| args.cluster.as_ref().is_none_or(|wanted| wanted.as_str() == name);
    let views: Vec<StringsView> = all.into_iter().filter(|view| is_wanted(&view.cluster)).collect();
    if let (Some(wanted), true) = (&args.cluster, views.is_empty()) {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::new(FailureKind::Failed, format!("{place} has no cluster `{wanted}`; there is {known}")));
    }
    match args.ask.output {
        Output::Json => print(&json(&views)?)?,
        Output::Table => print(&as_text(&views, Terminal::of_stdout()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Every string in full on its own line.
pub(super) fn as_text(views: &[StringsView], terminal: Terminal) -> String {
    let mut text = String::new();
    for view in views {
        text.push_str(&format!("  {}\n", terminal.bold(&view.cluster)));
        for (index, private) in view.private.iter().enumerate() {
            let through: Vec<&str> = private.endpoints.iter().map(|of| of.endpoint_id.as_str()).collect();
            let number = if view.private.len() > 1 { format!(" {}", index + 1) } else { String::new() };
            text.push_str(&format!("    private{number}, through {}\n", through.join(" and ")));
            let optimized = &private.srv_shard_optimized_connection_string;
            if optimized.as_ref().is_none_or(|optimized| *optimized != private.srv_connection_string) {
                text.push_str(&format!("      {}\n", private.srv_connection_string));
            }
            for string in optimized.iter().chain([&private.connection_string]) {
                text.push_str(&format!("      {string}\n"));
            }
        }
        if let Some(reason) = &view.unavailable {
            text.push_str(&format!("    private: {}\n", terminal.dim(reason)));
        }
        if !view.is_public {
            text.push_str(&format!("    standard: {}\n", terminal.dim("no node has a public address")));
            continue;
        }
        text.push_str("    standard\n");
        for string in [&view.standard_srv, &view.standard] {
            text.push_str(&format!("      {string}\n"));
        }
    }
    text
}
