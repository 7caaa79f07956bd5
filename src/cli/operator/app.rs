//! `plgw app restrict|open`: access to an App Services app.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::Failure;
use super::{AdminOptions, cell};

/// Restrict an App Services app to its VPC, or open it
#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum Command {
    /// Answer requests from outside the VPC with 404 again
    #[command(after_help = "Example:\n  plgw app restrict myapp-abcde")]
    Restrict(AppArgs),
    /// Let requests from outside the VPC in, subject to the app's IP access list
    #[command(after_help = "Example:\n  plgw app open myapp-abcde")]
    Open(AppArgs),
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct AppArgs {
    /// The client app id
    app: String,
    #[command(flatten)]
    ask: AdminOptions,
}

pub(in super::super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    let (AppArgs { app, ask }, allow) = match command {
        Command::Restrict(of) => (of, false),
        Command::Open(of) => (of, true),
    };
    let table = |view: &Value, _| {
        let how = if view["restricted"] == true { "restricted to its private endpoints" } else { "open" };
        format!("  {} is {how}\n", cell(&view["id"]))
    };
    let body = json!({ "allow_non_vpc_client_requests": allow }).to_string();
    ask.show("PATCH", &format!("/v1/apps/{}", super::segment(app)), body, table)
}
