//! `plgw target …`: port moves, as by a cluster change on Atlas, and registration.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::{Failure, FailureKind};
use super::{AdminOptions, cell, list, segment};
use crate::model::{ListenerPort, TargetId};

/// Change a target of a running gateway
#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum Command {
    /// Give a target another port, as a cluster change does: the new one is open and in DNS before the old one drains
    #[command(after_help = "\
Examples:
  plgw target move Cluster0/shard-00-00
  plgw target move Cluster0/shard-00-00 --port 2000")]
    Move {
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
    },
    /// Take a target out of its group: no new flows, open ones drain
    #[command(after_help = "\
Examples:
  plgw target deregister Cluster0/shard-00-00
  plgw target deregister Sharded0/lb --member mongos-01")]
    Deregister(TargetArgs),
    /// Put a target back that was deregistered
    #[command(after_help = "Example:\n  plgw target register Cluster0/shard-00-00")]
    Register(TargetArgs),
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct TargetArgs {
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

pub(in super::super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Move { target, port, service, ask } => {
            let target = target.parse::<TargetId>();
            let target = target.map_err(|error| Failure::new(FailureKind::Failed, error.to_string()))?;
            let mut body = json!({});
            if let Some(port) = *port {
                let port = ListenerPort::try_from(port)
                    .map_err(|error| Failure::new(FailureKind::Failed, error.to_string()))?;
                body["port"] = json!(port);
            }
            if let Some(service) = service {
                body["service"] = json!(service);
            }
            let table = |moved: &Value, _| {
                format!("  {} moved from port {} to {}\n", cell(&moved["target"]), moved["from"], moved["to"])
            };
            ask.show("POST", &path(&target, "move"), body.to_string(), table)
        }
        Command::Deregister(which) => register(which, "deregister"),
        Command::Register(which) => register(which, "register"),
    }
}

fn register(which: &TargetArgs, word: &str) -> Result<ExitCode, Failure> {
    let body = json!({ "member": which.member, "service": which.service });
    let table = |done: &Value, _| {
        let members: Vec<_> = list(done, "members").iter().map(cell).collect();
        format!("  {word}ed {} of {}\n", members.join(" "), cell(&done["target"]))
    };
    which.ask.show("POST", &path(&which.target, word), body.to_string(), table)
}

/// The path of a target's command.
fn path(target: &TargetId, word: &str) -> String {
    let (cluster, member) = target.as_str().split_once('/').expect("a target id has two parts: it parses so");
    format!("/v1/targets/{}/{}/{word}", segment(cluster), segment(member))
}
