//! `plgw flows`: lists, follows and ends open flows.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::super::table::{Table, Terminal, print};
use super::super::{Failure, FailureKind, Output};
use super::everywhere::GatewayAnswer;
use super::{AdminOptions, cell, list, segment, wait};

/// Moves the cursor to the upper left corner; erases from the cursor to the end of the line, or of the screen (ECMA-48:
/// CUP, EL, ED). Text is overwritten rather than cleared first, which avoids flicker.
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K";
const END_OF_SCREEN: &str = "\x1b[J";

/// The polling interval of `--follow`.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// List, follow or end the open flows of a running gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw flows
  plgw flows --target Cluster0/shard-00-00 --follow
  plgw flows --kill 7f3a
  plgw flows --all --output json | jq -r '.flows[].id'")]
pub(in super::super) struct Args {
    #[command(flatten)]
    ask: AdminOptions,
    /// Only flows through this endpoint
    #[arg(long, value_name = "VPCE")]
    endpoint: Option<String>,
    /// Only flows to this target
    #[arg(long, value_name = "CLUSTER/MEMBER")]
    target: Option<String>,
    /// Call every gateway that shares the state, each at its admin address; a flow is then `GATEWAY:ID`. Exit with 1 when one
    /// does not answer
    #[arg(long, conflicts_with_all = ["kill", "follow"])]
    all: bool,
    /// Refresh every second, until Ctrl-C: in place on a terminal, one JSON object per line with `--output json`
    #[arg(long, conflicts_with = "kill")]
    follow: bool,
    /// End this flow at once
    #[arg(long, value_name = "ID")]
    kill: Option<String>,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let Some(id) = &args.kill {
        let () = wait(args.ask.client()?.call("DELETE", &format!("/v1/flows/{}", segment(id)), String::new()))?;
        return args.ask.print_answer(&serde_json::json!({ "ended": id }), &format!("  flow {id} is ended\n"));
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in [("endpoint", &args.endpoint), ("target", &args.target)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let path = format!("/v1/flows?{}", query.finish());
    if args.all {
        return all(&args.ask, &path);
    }
    if !args.follow {
        return args.ask.show("GET", &path, String::new(), table);
    }
    // A terminal's screen is redrawn; otherwise each result is appended as one line of JSON.
    loop {
        let answer: Value = wait(args.ask.client()?.call("GET", &path, String::new()))?;
        match args.ask.output {
            Output::Json => print(&format!("{answer}\n"))?,
            Output::Table => {
                let terminal = Terminal::of_stdout();
                let text = table(&answer, terminal);
                print(&terminal.height.map_or(text.clone(), |height| in_place(&text, height)))?;
            }
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn all(ask: &AdminOptions, path: &str) -> Result<ExitCode, Failure> {
    let merged = merged(&ask.call_all(path)?);
    let unanswered = list(&merged, "unanswered");
    let lines: String = unanswered
        .iter()
        .map(|of| format!("  gateway {} does not answer: {}\n", cell(&of["gateway"]), cell(&of["error"])))
        .collect();
    ask.print_answer(&merged, &format!("{}{lines}", table(&merged, Terminal::of_stdout())))?;
    Ok(if unanswered.is_empty() { ExitCode::SUCCESS } else { FailureKind::Failed.into() })
}

/// The flows of all gateways in one list, and the gateways that did not answer.
fn merged(answers: &[GatewayAnswer]) -> Value {
    let (mut flows, mut unanswered) = (Vec::new(), Vec::new());
    for of in answers {
        let Ok(answer) = &of.answer else {
            unanswered.push(of.json("flows"));
            continue;
        };
        for flow in list(answer, "flows") {
            let mut flow = flow.clone();
            if !of.id.is_empty() {
                flow["id"] = format!("{}:{}", of.id, cell(&flow["id"])).into();
                flow["gateway"] = of.id.clone().into();
            }
            flows.push(flow);
        }
    }
    serde_json::json!({ "flows": flows, "unanswered": unanswered })
}

/// `text` as a full screen of `height` lines; the last line counts what does not fit.
fn in_place(text: &str, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The cursor is on the line after the text.
    let fits = height.saturating_sub(1).max(1);
    let (shown, more) = if lines.len() <= fits { (lines.len(), 0) } else { (fits - 1, lines.len() - (fits - 1)) };
    let mut screen = HOME.to_owned();
    for line in &lines[..shown] {
        screen.push_str(&format!("{line}{END_OF_LINE}\n"));
    }
    if more > 0 {
        screen.push_str(&format!("  … {more} more lines; --target and --endpoint choose{END_OF_LINE}\n"));
    }
    screen + END_OF_SCREEN
}

pub(super) fn table(answer: &Value, terminal: Terminal) -> String {
    let mut table =
        Table::new(["FLOW", "CLIENT", "ORIGIN", "TARGET", "AGE", "TO TARGET", "TO CLIENT", "ENDPOINT", "FAULTS"]);
    for flow in list(answer, "flows") {
        table.row([
            cell(&flow["id"]),
            cell(&flow["client"]),
            cell(&flow["origin"]),
            cell(&flow["target"]),
            format!("{:.0}s", flow["age_seconds"].as_f64().unwrap_or_default()),
            cell(&flow["bytes_to_target"]),
            cell(&flow["bytes_to_client"]),
            cell(&flow["endpoint"]),
            list(flow, "faults").iter().map(cell).collect::<Vec<_>>().join(" "),
        ]);
    }
    if table.is_empty() { "  there are no open flows\n".to_owned() } else { table.render(terminal) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_screen_is_written_over_and_no_line_scrolls_out_of_it() {
        let erased = |line: &str| format!("{line}\x1b[K\n");
        let two = format!("\x1b[H{}{}\x1b[J", erased("a"), erased("b"));
        assert_eq!(in_place("a\nb\n", 3), two);
        let more = "  … 3 more lines; --target and --endpoint choose";
        assert_eq!(in_place("a\nb\nc\nd\n", 3), format!("\x1b[H{}{}\x1b[J", erased("a"), erased(more)));
    }

    #[test]
    fn flows_of_all_gateways_have_distinct_ids_and_a_silent_gateway_is_named() {
        let of = |id: &str, answer| GatewayAnswer { id: id.to_owned(), answer };
        let flows = |id: &str| Ok(json!({ "flows": [{ "id": id }] }));
        let answers = [of("a", flows("7f")), of("b", flows("7f")), of("c", Err("no route to host".to_owned()))];
        let merged = merged(&answers);
        let expected = json!({
            "flows": [{ "id": "a:7f", "gateway": "a" }, { "id": "b:7f", "gateway": "b" }],
            "unanswered": [{ "gateway": "c", "error": "no route to host" }],
        });
        assert_eq!(merged, expected);
        let alone = super::merged(&[of("", flows("7f"))]);
        assert_eq!(alone, json!({ "flows": [{ "id": "7f" }], "unanswered": [] }));
    }
}
