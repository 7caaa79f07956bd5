//! `plgw target move`: what a cluster change does on Atlas.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::{Failure, Kind};
use super::{Ask, cell};
use crate::model::{ListenerPort, TargetId};

/// Change a target of a running gateway
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Move(Move),
}

/// Give a target another port, as a cluster change does: the new one is open and in DNS before the old one drains
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw target move Cluster0/shard-00-00
  plgw target move Cluster0/shard-00-00 --port 2000")]
struct Move {
    /// The target, as `plgw targets` shows it
    #[arg(value_name = "CLUSTER/MEMBER")]
    target: String,
    /// The new port; without it, the lowest that is free
    #[arg(long)]
    port: Option<u16>,
    /// The endpoint service, where the target stands on several
    #[arg(long, value_name = "VPCE-SVC")]
    service: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let Command::Move(args) = &args.command;
    let target: TargetId = args.target.parse().map_err(|error: String| Failure::new(Kind::Failed, error))?;
    let mut body = json!({});
    if let Some(port) = args.port {
        let port = ListenerPort::try_from(port).map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
        body["port"] = json!(port);
    }
    if let Some(service) = &args.service {
        body["service"] = json!(service);
    }
    let table =
        |moved: &Value| format!("  {} moved from port {} to {}\n", cell(&moved["target"]), moved["from"], moved["to"]);
    args.ask.show("POST", &format!("/v1/targets/{target}/move"), body.to_string(), table)?;
    Ok(ExitCode::SUCCESS)
}
