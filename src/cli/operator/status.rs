//! `plgw status`: the gateway's problems and state.

use std::process::ExitCode;

use serde_json::Value;

use super::super::table::{Table, Terminal, print, wrapped};
use super::super::{Failure, FailureKind};
use super::everywhere::GatewayAnswer;
use super::{AdminOptions, cell, list, wait};

/// Show the problems and the state of a running gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw status --output json | jq -r '.problems[].message'
  plgw status --check || echo 'something is wrong'
  plgw status --ready || echo 'not ready'
  plgw status --all")]
pub(in super::super) struct Args {
    /// Print only problems, and exit with 1 if there are any: unhealthy targets, zones out of DNS, faults that are on, limits
    /// that are near, settings that wait for a restart
    #[arg(long, conflicts_with = "ready")]
    check: bool,
    /// Print only why it is not ready, and exit with 1 if it is not: for health checks
    #[arg(long)]
    ready: bool,
    /// Call every gateway that shares the state, each at its admin address, and exit with 1 when one does not answer
    #[arg(long, conflicts_with_all = ["check", "ready"])]
    all: bool,
    #[command(flatten)]
    ask: AdminOptions,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.all {
        return all(&args.ask);
    }
    if !args.check && !args.ready {
        return args.ask.show("GET", "/v1/status", String::new(), table);
    }
    let status: Value = wait(args.ask.client()?.call("GET", "/v1/status", String::new()))?;
    if args.ready {
        return ready(&status["readiness"]);
    }
    if status["ok"] == true {
        return Ok(ExitCode::SUCCESS);
    }
    print(&problems(&status, Terminal::of_stdout()))?;
    Ok(FailureKind::Failed.into())
}

fn all(ask: &AdminOptions) -> Result<ExitCode, Failure> {
    let answers = ask.call_all("/v1/status")?;
    let gateways: Vec<Value> = answers.iter().map(|of| of.json("status")).collect();
    ask.print_answer(
        &serde_json::json!({ "gateways": gateways }),
        &answers.iter().map(of_gateway).collect::<String>(),
    )?;
    let is_complete = answers.iter().all(|of| of.answer.is_ok());
    Ok(if is_complete { ExitCode::SUCCESS } else { FailureKind::Failed.into() })
}

fn of_gateway(GatewayAnswer { id, answer }: &GatewayAnswer) -> String {
    match answer {
        Ok(status) if id.is_empty() => table(status, Terminal::of_stdout()),
        Ok(status) => format!("gateway {id}\n{}\n", table(status, Terminal::of_stdout())),
        Err(error) => {
            format!("gateway {id}\n  {}\n\n", Terminal::of_stdout().red(&format!("does not answer: {error}")))
        }
    }
}

fn ready(readiness: &Value) -> Result<ExitCode, Failure> {
    if readiness["ready"] == true {
        return Ok(ExitCode::SUCCESS);
    }
    let lacking = list(readiness, "conditions").iter().filter(|condition| condition["ready"] != true);
    let why: Vec<String> =
        lacking.map(|condition| format!("{}: {}", cell(&condition["name"]), cell(&condition["detail"]))).collect();
    Err(Failure::new(FailureKind::Failed, format!("the gateway is not ready ({})", why.join("; "))))
}

/// Line width of sentences if standard output is not a terminal.
const WIDTH: usize = 80;

/// Indentation of sentences.
const INDENT: usize = 12;

/// One line for each problem, wrapped at the terminal's width.
fn problems(status: &Value, terminal: Terminal) -> String {
    let mut text = String::new();
    for problem in list(status, "problems") {
        let severity = cell(&problem["severity"]);
        let painted = if severity == "info" { terminal.dim(&severity) } else { terminal.red(&severity) };
        let lead = format!("  {painted}{}", " ".repeat(INDENT.saturating_sub(severity.len() + 2)));
        let terminal = Terminal { width: terminal.width.or(Some(WIDTH)), ..terminal };
        text.push_str(&wrapped(&lead, &cell(&problem["message"]), INDENT, terminal));
    }
    text
}

pub(super) fn table(status: &Value, terminal: Terminal) -> String {
    let ready = status["readiness"]["ready"] == true;
    let mut text = if list(status, "problems").is_empty() {
        format!("  {}\n", terminal.green("nothing is wrong"))
    } else {
        problems(status, terminal)
    };
    text.push_str(&format!(
        "  plgw {}, {}, generation {}\n  {} listeners, {} targets, {} endpoints\n  {} flows open, {} carried, {} refused\n",
        cell(&status["version"]),
        if ready { terminal.green("ready") } else { terminal.red("not ready") },
        status["generation"],
        status["listeners"],
        status["targets"],
        status["endpoints"],
        status["open_flows"],
        status["carried"]["flows"],
        status["carried"]["refused"],
    ));
    let mut conditions = Table::new(["CONDITION", "READY", "DETAIL"]);
    for condition in list(&status["readiness"], "conditions") {
        conditions.row([cell(&condition["name"]), cell(&condition["ready"]), cell(&condition["detail"])]);
    }
    text.push_str(&conditions.render(terminal));
    for notice in list(status, "notices") {
        text.push_str(&wrapped("  notice: ", &cell(notice), 4, terminal));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn problems_fit_into_80_columns_and_no_word_is_cut() {
        let message = "3 of 50 targets have no healthy member: Cluster0/shard-00-00, Cluster0/shard-00-01 and 1 more";
        let status = json!({ "problems": [
            { "severity": "critical", "message": message },
            { "severity": "info", "message": "flows drain on ports that were given up: 1024" },
        ] });
        let expected = "  critical  3 of 50 targets have no healthy member: Cluster0/shard-00-00,\n            \
                        Cluster0/shard-00-01 and 1 more\n  \
                        info      flows drain on ports that were given up: 1024\n";
        assert_eq!(problems(&status, Terminal::default()), expected);
        assert!(expected.lines().all(|line| line.len() <= 80));
        let coloured = problems(&status, Terminal { width: Some(80), colours: true, ..Terminal::default() });
        assert!(coloured.starts_with("  \x1b[31mcritical\x1b[0m  3 of 50"), "{coloured:?}");
    }
}
