//! `plgw app restrict|open`: access to an App Services app.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::Failure;
use super::{AdminOptions, cell};

/// Restrict an App Services app to its VPC, or open it
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Restrict(Restrict),
    Open(Open),
}

/// Answer requests from outside the VPC with 404 again
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plgw app restrict myapp-abcde")]
struct Restrict {
    /// The client app id
    app: String,
    #[command(flatten)]
    ask: AdminOptions,
}

/// Let requests from outside the VPC in, subject to the app's IP access list
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plgw app open myapp-abcde")]
struct Open {
    /// The client app id
    app: String,
    #[command(flatten)]
    ask: AdminOptions,
}

pub(in super::super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (app, ask, allow) = match &args.command {
        Command::Restrict(args) => (&args.app, &args.ask, false),
        Command::Open(args) => (&args.app, &args.ask, true),
    };
    let table = |view: &Value, _| {
        let how = if view["restricted"] == true { "restricted to its private endpoints" } else { "open" };
        format!("  {} is {how}\n", cell(&view["id"]))
    };
    let body = json!({ "allow_non_vpc_client_requests": allow }).to_string();
    ask.show("PATCH", &format!("/v1/apps/{}", super::segment(app)), body, table)?;
    Ok(ExitCode::SUCCESS)
}
