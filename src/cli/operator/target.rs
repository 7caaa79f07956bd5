//! `plgw target …`: port moves, as by a cluster change on Atlas, and registration.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::{Failure, FailureKind};
use super::{AdminOptions, cell, list, segment};
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
    Deregister(Deregister),
    Register(Register),
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
    /// The new port; by default the lowest free one
    #[arg(long)]
    port: Option<u16>,
    /// The endpoint service, if the target is on several
    #[arg(long, value_name = "VPCE-SVC")]
    service: Option<String>,
    #[command(flatten)]
    ask: AdminOptions,
}

/// Take a target out of its group: no new flows, open ones drain
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw target deregister Cluster0/shard-00-00
  plgw target deregister Sharded0/lb --member mongos-01")]
struct Deregister {
    #[command(flatten)]
    which: TargetArgs,
}

/// Put a target back that was deregistered
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plgw target register Cluster0/shard-00-00")]
struct Register {
    #[command(flatten)]
    which: TargetArgs,
}

#[derive(Debug, clap::Args)]
struct TargetArgs {
    /// The target, as `plgw targets` shows it
    #[arg(value_name = "CLUSTER/MEMBER")]
    target: TargetId,
    /// One process behind it; by default all of them
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// The endpoint service, if the target is on several
    #[arg(long, value_name = "VPCE-SVC")]
    service: Option<String>,
    #[command(flatten)]
    ask: AdminOptions,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Move(args) => move_it(args),
        Command::Deregister(Deregister { which }) => register(which, "deregister"),
        Command::Register(Register { which }) => register(which, "register"),
    }
}

fn register(which: &TargetArgs, word: &str) -> Result<ExitCode, Failure> {
    let body = json!({ "member": which.member, "service": which.service });
    let table = |done: &Value, _| {
        let members: Vec<_> = list(done, "members").iter().map(cell).collect();
        format!("  {word}ed {} of {}\n", members.join(" "), cell(&done["target"]))
    };
    which.ask.show("POST", &path(&which.target, word), body.to_string(), table)?;
    Ok(ExitCode::SUCCESS)
}

/// The path of a target's command.
fn path(target: &TargetId, word: &str) -> String {
    let (cluster, member) = target.as_str().split_once('/').expect("a target id has two parts: it parses so");
    format!("/v1/targets/{}/{}/{word}", segment(cluster), segment(member))
}

fn move_it(args: &Move) -> Result<ExitCode, Failure> {
    let target =
        args.target.parse::<TargetId>().map_err(|error| Failure::new(FailureKind::Failed, error.to_string()))?;
    let mut body = json!({});
    if let Some(port) = args.port {
        let port =
            ListenerPort::try_from(port).map_err(|error| Failure::new(FailureKind::Failed, error.to_string()))?;
        body["port"] = json!(port);
    }
    if let Some(service) = &args.service {
        body["service"] = json!(service);
    }
    let table = |moved: &Value, _| {
        format!("  {} moved from port {} to {}\n", cell(&moved["target"]), moved["from"], moved["to"])
    };
    args.ask.show("POST", &path(&target, "move"), body.to_string(), table)?;
    Ok(ExitCode::SUCCESS)
}
