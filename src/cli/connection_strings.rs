//! `plgw connection-strings`: what goes into a driver.

use std::path::PathBuf;
use std::process::ExitCode;

use super::plan::view::StringsView;
use super::table::{Look, print};
use super::{Failure, Kind, Output, json, planned};
use crate::model::ClusterName;

/// Print the connection strings of a config's clusters
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw connection-strings --config gateway.toml
  plgw connection-strings --config gateway.toml --cluster Cluster0
  plgw connection-strings --config gateway.toml --output json | jq -r '.[0].private[0].srv_connection_string'")]
pub(super) struct Args {
    /// The config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only this cluster's
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// Take held ports from this state file instead of the config's
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let planned = planned::load(&args.config, args.state.as_deref())?;
    let all = &planned.snapshot.strings;
    let is_wanted = |name: &ClusterName| args.cluster.as_ref().is_none_or(|wanted| wanted == name);
    let views: Vec<StringsView> = all.iter().filter(|of| is_wanted(&of.cluster)).map(StringsView::from).collect();
    if let (Some(wanted), true) = (&args.cluster, views.is_empty()) {
        let known: Vec<&str> = all.iter().map(|of| of.cluster.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let file = args.config.display();
        return Err(Failure::new(Kind::Failed, format!("{file} has no cluster `{wanted}`; there is {known}")));
    }
    match args.output {
        Output::Json => print(&json(&views)?)?,
        Output::Table => print(&as_text(&views, Look::of_stdout()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Every string on a line of its own, whole.
pub(super) fn as_text(views: &[StringsView], look: Look) -> String {
    let mut text = String::new();
    for view in views {
        text.push_str(&format!("  {}\n", look.bold(&view.cluster)));
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
            text.push_str(&format!("    private: {}\n", look.dim(reason)));
        }
        text.push_str("    standard\n");
        for string in [&view.standard_srv, &view.standard] {
            text.push_str(&format!("      {string}\n"));
        }
    }
    text
}
