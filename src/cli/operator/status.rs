//! `plgw status`: how the gateway is.

use std::process::ExitCode;

use serde_json::Value;

use super::super::Failure;
use super::super::table::{Look, Table};
use super::{Ask, cell, list};

/// Show how a running gateway is
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plgw status --output json | jq .readiness")]
pub(in super::super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    args.ask.show("GET", "/v1/status", String::new(), table)?;
    Ok(ExitCode::SUCCESS)
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
