//! `plgw flows`: open flows; list, follow, end.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::super::table::{Look, Table, print};
use super::super::{Failure, Output};
use super::{Ask, cell, list, segment, wait};

/// Puts the cursor into the upper left corner; erases from the cursor to the end of the line, and of the screen (ECMA-48: CUP,
/// EL, ED). Nothing is cleared before it is written again, so nothing flickers.
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K";
const END_OF_SCREEN: &str = "\x1b[J";

/// How often `--follow` looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// List, follow or end the open flows of a running gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw flows
  plgw flows --target Cluster0/shard-00-00 --follow
  plgw flows --kill 7f3a")]
pub(in super::super) struct Args {
    #[command(flatten)]
    ask: Ask,
    /// Only flows through this endpoint
    #[arg(long, value_name = "VPCE")]
    endpoint: Option<String>,
    /// Only flows to this target
    #[arg(long, value_name = "CLUSTER/MEMBER")]
    target: Option<String>,
    /// Look again every second, until Ctrl-C: in place on a terminal, one JSON object a line with `--output json`
    #[arg(long, conflicts_with = "kill")]
    follow: bool,
    /// End this flow at once
    #[arg(long, value_name = "ID")]
    kill: Option<String>,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let Some(id) = &args.kill {
        let () = wait(args.ask.client()?.call("DELETE", &format!("/v1/flows/{}", segment(id)), String::new()))?;
        args.ask.say(&serde_json::json!({ "ended": id }), &format!("  flow {id} is ended\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in [("endpoint", &args.endpoint), ("target", &args.target)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let path = format!("/v1/flows?{}", query.finish());
    if !args.follow {
        args.ask.show("GET", &path, String::new(), table)?;
        return Ok(ExitCode::SUCCESS);
    }
    // A terminal's screen is drawn again; elsewhere each look follows the last, as JSON in a line of its own.
    loop {
        let answer: Value = wait(args.ask.client()?.call("GET", &path, String::new()))?;
        match args.ask.output {
            Output::Json => print(&format!("{answer}\n"))?,
            Output::Table => {
                let look = Look::of_stdout();
                let text = table(&answer, look);
                print(&look.height.map_or(text.clone(), |height| in_place(&text, height)))?;
            }
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// `text` over what stands on a screen of `height` lines; what finds no room is counted in the last one.
fn in_place(text: &str, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The cursor stands on a line of its own below the text.
    let room = height.saturating_sub(1).max(1);
    let (shown, more) = if lines.len() <= room { (lines.len(), 0) } else { (room - 1, lines.len() - (room - 1)) };
    let mut screen = HOME.to_owned();
    for line in &lines[..shown] {
        screen.push_str(&format!("{line}{END_OF_LINE}\n"));
    }
    if more > 0 {
        screen.push_str(&format!("  … {more} more lines; --target and --endpoint choose{END_OF_LINE}\n"));
    }
    screen + END_OF_SCREEN
}

pub(super) fn table(answer: &Value, look: Look) -> String {
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
    if table.is_empty() { "  there are no open flows\n".to_owned() } else { table.render(look) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_written_over_and_no_line_scrolls_out_of_it() {
        let erased = |line: &str| format!("{line}\x1b[K\n");
        let two = format!("\x1b[H{}{}\x1b[J", erased("a"), erased("b"));
        assert_eq!(in_place("a\nb\n", 3), two);
        let more = "  … 3 more lines; --target and --endpoint choose";
        assert_eq!(in_place("a\nb\nc\nd\n", 3), format!("\x1b[H{}{}\x1b[J", erased("a"), erased(more)));
    }
}
