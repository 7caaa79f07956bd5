//! `plgw standin`: the members of the stand-in replica sets.

use std::process::ExitCode;

use serde_json::Value;

use super::super::Failure;
use super::super::table::{Table, Terminal};
use super::{AdminOptions, cell, list, segment};
use crate::model::{ClusterName, TargetId};

/// Stop, start and step down members of the stand-in replica sets of a quickstart or a lab
#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum Command {
    /// List the members with their states
    #[command(after_help = "Example:\n  plgw standin list")]
    List(AdminOptions),
    /// Stop a member as a crash would: connections end, nothing is handed over, the others elect after 10 to 11.5 s
    #[command(after_help = "Example:\n  plgw standin stop Cluster0/shard-00-00")]
    Stop(MemberArgs),
    /// Start a member that was stopped: it comes back as a secondary
    #[command(after_help = "Example:\n  plgw standin start Cluster0/shard-00-00")]
    Start(MemberArgs),
    /// Let a set's primary hand over to another member, as replSetStepDown does: within a second, connections stay
    #[command(after_help = "Example:\n  plgw standin step-down Cluster0")]
    StepDown {
        /// The set's cluster
        cluster: ClusterName,
        #[command(flatten)]
        ask: AdminOptions,
    },
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct MemberArgs {
    /// The member, as `plgw standin list` shows it
    #[arg(value_name = "CLUSTER/MEMBER")]
    member: TargetId,
    #[command(flatten)]
    ask: AdminOptions,
}

pub(in super::super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List(ask) => ask.show("GET", "/v1/standins", String::new(), table),
        Command::Stop(which) => which.send("stop"),
        Command::Start(which) => which.send("start"),
        Command::StepDown { cluster, ask } => {
            let path = format!("/v1/standins/{}/step-down", segment(cluster.as_str()));
            ask.show("POST", &path, String::new(), table)
        }
    }
}

impl MemberArgs {
    fn send(&self, word: &str) -> Result<ExitCode, Failure> {
        let (cluster, member) = self.member.as_str().split_once('/').expect("a target id has two parts: it parses so");
        let path = format!("/v1/standins/{}/{}/{word}", segment(cluster), segment(member));
        self.ask.show("POST", &path, String::new(), table)
    }
}

pub(super) fn table(answer: &Value, terminal: Terminal) -> String {
    let mut table = Table::new(["MEMBER", "STATE", "ZONE", "ADDRESS", ""]);
    for member in list(answer, "members") {
        let state = cell(&member["state"]);
        let state = if state == "DOWN" { terminal.red(&state) } else { state };
        let isolated =
            if member["isolated"] == true { terminal.red("isolated from the other members") } else { String::new() };
        let name = format!("{}/{}", cell(&member["cluster"]), cell(&member["member"]));
        table.row([name, state, cell(&member["zone"]), cell(&member["address"]), isolated]);
    }
    if table.is_empty() { "  no cluster is a stand-in replica set\n".to_owned() } else { table.render(terminal) }
}
