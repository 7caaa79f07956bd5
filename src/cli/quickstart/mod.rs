//! `plgw quickstart`: runs and checks everything on loopback, and prints commands to try.

mod page;
mod progress;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use self::progress::Progress;
use super::table::{Terminal, print};
use super::{Failure, FailureKind, PortChoice, planned, runtime};
use crate::lifecycle::{Signals, exit_code, run_command};
use crate::quickstart::{Check, NetworkShift, Options, Quickstart, QuickstartError, StartStep, uri_environment};
use crate::telemetry::LogHandle;

/// Run everything on loopback, with stand-in servers
///
/// Needs no root; its CA and its saved ports go to ./plgw-lab. Starts in-memory stand-ins for a replica set, a sharded
/// cluster and an App Services backend, starts the gateway in front of them, checks all of it as a client would, and
/// prints what to try.
/// Runs until Ctrl-C, then prints what it carried.
///
/// Every address is in 127.0.0.0/8, one network for each place that a client can be in: the VPC is 127.0.0.0/16 (clients
/// that bind no address are in it), the service's side 127.1.0.0/16, on premises 127.2.0.0/16, a peered VPC
/// 127.3.0.0/16, and the internet 127.9.0.0/16.
///
/// A command behind `--` is run once every check has passed; it finds PLGW_ADMIN (the admin API's URL), PLGW_DNS (the
/// resolver's address), PLGW_CA (the file of the CA's certificate), and the private connection strings in its environment:
/// PLGW_URI the first cluster's, PLGW_URI_CLUSTER0 that of Cluster0. When it ends the quickstart stops, with its exit code.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw quickstart
  plgw quickstart --once                  only check, and exit
  plgw quickstart -- pytest tests/        run a command, and exit with its exit code
  plgw quickstart --config my.toml        your topology, as `plgw init` prints one
  plgw quickstart --clouds                with Azure Private Link and Google Private Service Connect
  plgw quickstart --shift 10              a second one beside the first
  plgw quickstart --ports auto            beside any number of others
  plgw quickstart --dns 127.0.0.1:5353    when only the DNS port is taken

Certificates (ca.pem for clients) and saved ports are in ./plgw-lab.")]
pub(super) struct Args {
    /// Exit after the self-check: 0 when every check passed, 1 when one failed
    #[arg(long)]
    once: bool,
    /// Run this config's inventory instead, with stand-ins at the addresses of its nodes and apps
    #[arg(long, value_name = "FILE", conflicts_with = "shift")]
    config: Option<PathBuf>,
    /// The ports of DNS, metrics and the admin API; `auto` takes free ones, and free loopback networks
    #[arg(long, value_enum, default_value_t, conflicts_with_all = ["shift", "dns", "metrics", "admin"])]
    ports: PortChoice,
    /// Move every address: 127.0.x.x becomes 127.N.x.x, 127.1.x.x becomes 127.(N+1).x.x, …
    #[arg(long, value_name = "N", default_value = "0", value_parser = shift)]
    shift: NetworkShift,
    /// The address of DNS [default: 127.0.0.1:5335]
    #[arg(long, value_name = "ADDRESS:PORT")]
    dns: Option<SocketAddr>,
    /// The address of /metrics, /healthz and /readyz [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// The address of the admin API and the console [default: 127.0.0.1:8474]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// The directory of certificates and state [default: ./plgw-lab, or ./plgw-lab-N with --shift N]
    #[arg(long, value_name = "DIR")]
    lab_dir: Option<PathBuf>,
    /// Keep no state file: every start assigns new ports
    #[arg(long)]
    state_in_memory: bool,
    /// With a network of Azure (127.4.0.0/16) and one of Google Cloud (127.5.0.0/16), each with a private endpoint to a cluster
    #[arg(long, conflicts_with = "config")]
    clouds: bool,
    /// Run this command while it runs
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "once")]
    command: Vec<OsString>,
}

fn shift(text: &str) -> Result<NetworkShift, String> {
    let number = text.parse::<u8>().ok();
    number.and_then(NetworkShift::new).ok_or_else(|| format!("expected a number from 0 to {}", NetworkShift::GREATEST))
}

impl From<QuickstartError> for Failure {
    fn from(error: QuickstartError) -> Self {
        match error {
            QuickstartError::Taken(taken) => Self::new(FailureKind::Unavailable, taken.to_string()),
            QuickstartError::Claimed(_) => Self::new(FailureKind::Unavailable, error.to_string()),
            QuickstartError::StandIn(error) => error.into(),
            QuickstartError::Tls(error) => error.into(),
            QuickstartError::State(error) => error.into(),
            QuickstartError::Saved(error) => error.into(),
            QuickstartError::Plan(errors) => errors.into(),
            QuickstartError::NoStrings(_) | QuickstartError::HostName(..) => {
                Self::new(FailureKind::Config, error.to_string())
            }
            QuickstartError::Gateway(error) => error.into(),
        }
    }
}

pub(super) fn run(args: &Args, logs: LogHandle) -> Result<ExitCode, Failure> {
    let config = args.config.as_deref().map(|path| planned::load(path, None)).transpose()?;
    let options = Options {
        config: config.map(|planned| planned.config),
        shift: args.shift,
        dns: args.dns,
        metrics: args.metrics,
        admin: args.admin,
        lab_dir: args.lab_dir.clone(),
        free_ports: args.ports == PortChoice::Auto,
        state_in_memory: args.state_in_memory,
        clouds: args.clouds,
        logs: Some(logs),
        timing: None,
    };
    runtime()?.block_on(Box::pin(start_and_wait(&options, args)))
}

async fn start_and_wait(options: &Options, args: &Args) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    // Ctrl-C during the start ends it at once.
    tokio::select! {
        exit = run_until_stopped(options, args) => exit,
        () = signals.stop_now() => Err(Failure::new(FailureKind::Failed, "stopped while starting or stopping")),
    }
}

async fn run_until_stopped(options: &Options, args: &Args) -> Result<ExitCode, Failure> {
    let terminal = Terminal::of_stdout();
    let progress = Progress::new(Terminal::of_stderr());
    let mut signals = Signals::listen()?;
    let quickstart = Box::pin(start(options, &progress)).await?;
    progress.show(StartStep::Check);
    let checks = quickstart.check().await?;
    progress.clear();
    let by_check = quickstart.carried();
    if let Some((program, arguments)) = args.command.split_first() {
        let ended = match verdict(&checks) {
            Ok(_) => run_command_with(&quickstart, program, arguments).await,
            failed => failed,
        };
        quickstart.stop().await;
        return ended;
    }
    print(&page::started(&quickstart, &checks, terminal, terminal.width.is_some() && !args.once))?;
    if args.once {
        let carried = quickstart.stop().await;
        print(&page::carried(&carried, &by_check, terminal))?;
        return verdict(&checks);
    }
    print(&page::suggestions(&quickstart, terminal))?;
    let ended = quickstart.gateway().until_stopped(&mut signals).await;
    let carried = quickstart.stop().await;
    print(&page::carried(&carried, &by_check, terminal))?;
    match ended {
        None => Ok(ExitCode::SUCCESS),
        Some(what) => Err(Failure::new(FailureKind::Unavailable, what)),
    }
}

/// Starts the quickstart. With `--ports auto`, the scenario uses the first free networks.
async fn start(options: &Options, progress: &Progress) -> Result<Quickstart, QuickstartError> {
    let mut options = options.clone();
    loop {
        let started = Quickstart::start(&options, |step| progress.show(step)).await;
        let next = options.shift.next().filter(|_| options.free_ports && options.config.is_none());
        match (started, next) {
            (Err(error), Some(next)) if error.is_taken() => options.shift = next,
            (outcome, _) => return outcome,
        }
    }
}

/// Runs a command with the quickstart's variables in its environment.
async fn run_command_with(
    quickstart: &Quickstart,
    program: &OsString,
    arguments: &[OsString],
) -> Result<ExitCode, Failure> {
    let mut command = Command::new(program);
    command.args(arguments).env("PLGW_CA", std::path::absolute(quickstart.ca_path())?);
    if let Some(address) = quickstart.gateway().admin_address() {
        command.env("PLGW_ADMIN", format!("http://{address}"));
    }
    if let Some(address) = quickstart.gateway().dns_addresses().first() {
        command.env("PLGW_DNS", address.to_string());
    }
    command.envs(uri_environment(&quickstart.gateway().snapshot()));
    let ended = tokio::select! {
        ended = run_command(&mut command) => ended,
        what = quickstart.gateway().failed() => return Err(Failure::new(FailureKind::Unavailable, what)),
    };
    if let Err(error) = &ended {
        eprintln!("plgw: cannot run `{}`: {error}", program.display());
    }
    Ok(exit_code(&ended))
}

/// Success when every check passed; otherwise a failure with the names of the others.
fn verdict(checks: &[Check]) -> Result<ExitCode, Failure> {
    let failed: Vec<String> =
        checks.iter().filter_map(|check| Some(format!("{}: {}", check.name, check.outcome.as_ref().err()?))).collect();
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let text = format!("{} of {} checks failed\n  {}", failed.len(), checks.len(), failed.join("\n  "));
    Err(Failure::new(FailureKind::Failed, text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failed_check_is_named_with_its_reason_and_exits_1() {
        let check = |name, outcome: Result<&str, &str>| Check {
            name,
            outcome: outcome.map(str::to_owned).map_err(str::to_owned),
            took: Duration::ZERO,
        };
        assert!(verdict(&[check("hello", Ok("fine"))]).is_ok());
        let failure = verdict(&[check("hello", Ok("fine")), check("readyz", Err("503"))]).expect_err("one failed");
        assert_eq!((failure.kind.code(), failure.to_string().as_str()), (1, "1 of 2 checks failed\n  readyz: 503"));
    }
}
