//! `plgw check`: every mistake of config files at once.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::planned::{self, PlannedConfig};
use super::table::{Terminal, print, wrapped};
use super::{Failure, FailureKind, Output, json};

/// Report every mistake of config files at once
///
/// Reads each file as `serve` would, plans it on top of what its state file holds, and says what is wrong: where, what,
/// and what to write instead. Nothing is started, bound or written.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw check gateway.toml
  plgw check config/scenarios/*.toml
  plgw init | plgw check -
  plgw check gateway.toml --output json | jq '.[].problems'

Exit codes: 0 when every file is right, 78 when one is not.")]
pub(super) struct Args {
    /// The files to check; `-`: standard input
    #[arg(required_unless_present = "config", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same, as `plan` and `serve` take it
    #[arg(long, num_args = 1.., value_name = "FILE")]
    config: Vec<PathBuf>,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// A checked file: an element of the list that `--output json` prints.
#[derive(Debug, Serialize)]
struct Checked {
    /// The file, as named on the command line.
    file: String,
    /// Whether a gateway would start with it.
    ok: bool,
    /// The mistakes.
    problems: Vec<String>,
    /// Notices: what is allowed but probably not intended.
    notices: Vec<String>,
    /// The size of the config; `null` when it is invalid.
    summary: Option<Summary>,
}

/// The size of a config.
#[derive(Debug, Serialize)]
struct Summary {
    vpcs: usize,
    endpoints: usize,
    clusters: usize,
    targets: usize,
    listeners: usize,
    apps: usize,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let terminal = Terminal::of_stdout();
    let mut checked = Vec::new();
    let mut failures: Vec<Failure> = Vec::new();
    for path in args.files.iter().chain(&args.config) {
        let file = path.display().to_string();
        checked.push(match planned::load(path, None) {
            Ok(planned) => right(file, &planned),
            Err(failure) => {
                let problems = problems(&failure);
                failures.push(failure);
                Checked { file, ok: false, problems, notices: Vec::new(), summary: None }
            }
        });
    }
    match args.output {
        Output::Json => print(&json(&checked)?)?,
        Output::Table => print(&checked.iter().map(|checked| line(checked, terminal)).collect::<String>())?,
    }
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    // An unreadable state file is not a mistake of the config.
    let kinds = || failures.iter().map(|failure| failure.kind);
    let kind =
        kinds().find(|kind| *kind == FailureKind::Config).or_else(|| kinds().next()).unwrap_or(FailureKind::Config);
    if args.output == Output::Json {
        return Ok(kind.into());
    }
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(Failure::new(kind, texts.join("\n")))
}

fn right(file: String, planned: &PlannedConfig) -> Checked {
    let (desired, snapshot) = (&planned.config.desired, &planned.snapshot);
    let summary = Summary {
        vpcs: desired.vpcs.len(),
        endpoints: desired.endpoints.len(),
        clusters: desired.projects.iter().map(|project| project.clusters.len()).sum(),
        targets: snapshot.targets.len(),
        listeners: snapshot.listeners.len(),
        apps: desired.apps.len(),
    };
    let notices = planned.config.notices.iter().chain(&snapshot.notices).cloned().collect();
    Checked { file, ok: true, problems: Vec::new(), notices, summary: Some(summary) }
}

/// The mistakes of a failure: its lines except the first, or the only one.
fn problems(failure: &Failure) -> Vec<String> {
    let text = failure.to_string();
    let rest: Vec<String> = text.lines().skip(1).map(|line| line.trim().to_owned()).collect();
    if rest.is_empty() { vec![text] } else { rest }
}

/// The line for a valid file; invalid ones are in the failure.
fn line(checked: &Checked, terminal: Terminal) -> String {
    let Some(summary) = &checked.summary else { return String::new() };
    let counts = [
        (summary.vpcs, "VPC"),
        (summary.endpoints, "endpoint"),
        (summary.clusters, "cluster"),
        (summary.targets, "target"),
        (summary.listeners, "listener"),
        (summary.apps, "app"),
    ];
    let counts: Vec<String> = counts.iter().map(|(count, what)| counted(*count, what)).collect();
    let mut text = format!("{}: {}: {}\n", checked.file, terminal.green("ok"), counts.join(", "));
    for notice in &checked.notices {
        text.push_str(&wrapped("  notice: ", notice, 4, terminal));
    }
    text
}

/// `3 targets`, `1 target`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
