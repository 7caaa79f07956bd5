//! `plgw status`: how the gateway is.

use std::process::ExitCode;

use serde_json::Value;

use super::super::table::{Look, Table};
use super::super::{Failure, Kind};
use super::{Ask, cell, list, wait};

/// Show how a running gateway is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw status --output json | jq .readiness
  plgw status --check || echo 'not ready'")]
pub(in super::super) struct Args {
    /// Print nothing but why it is not ready, and exit with 1 then: for health checks
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    ask: Ask,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.check {
        return check(&args.ask);
    }
    args.ask.show("GET", "/v1/status", String::new(), table)?;
    Ok(ExitCode::SUCCESS)
}

fn check(ask: &Ask) -> Result<ExitCode, Failure> {
    let status: Value = wait(ask.client()?.call("GET", "/v1/status", String::new()))?;
    let readiness = &status["readiness"];
    if readiness["ready"] == true {
        return Ok(ExitCode::SUCCESS);
    }
    let lacking = list(readiness, "conditions").iter().filter(|condition| condition["ready"] != true);
    let why: Vec<String> =
        lacking.map(|condition| format!("{}: {}", cell(&condition["name"]), cell(&condition["detail"]))).collect();
    Err(Failure::new(Kind::Failed, format!("the gateway is not ready ({})", why.join("; "))))
}

fn table(status: &Value) -> String {
    let look = Look::of_stdout();
    let ready = status["readiness"]["ready"] == true;
    let mut text = format!(
        "  plgw {}, {}, generation {}\n  {} listeners, {} targets, {} endpoints; {} flows open, {} carried, {} refused\n",
        cell(&status["version"]),
        if ready { look.green("ready") } else { look.red("not ready") },
        status["generation"],
        status["listeners"],
        status["targets"],
        status["endpoints"],
        status["open_flows"],
        status["carried"]["flows"],
        status["carried"]["refused"],
    );
    let mut conditions = Table::new(["CONDITION", "READY", "DETAIL"]);
    for condition in list(&status["readiness"], "conditions") {
        conditions.row([cell(&condition["name"]), cell(&condition["ready"]), cell(&condition["detail"])]);
    }
    text.push_str(&conditions.render(look));
    if let Some(faults @ 1..) = status["faults"].as_u64() {
        let plural = if faults == 1 { " is" } else { "s are" };
        text.push_str(&format!(
            "  {faults} fault{plural} set; `plgw fault list` shows {}\n",
            if faults == 1 { "it" } else { "them" }
        ));
    }
    if let Some(problem) = status["reload_problem"].as_str() {
        text.push_str(&format!("  the last reload was refused: {}\n", look.red(problem)));
    }
    for notice in list(status, "notices") {
        text.push_str(&format!("  notice: {}\n", cell(notice)));
    }
    text
}
