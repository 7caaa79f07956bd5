//! The command line, with one file for each command.
//!
//! A command prints its result to standard output and returns an exit code. An error is a [`Failure`], which `main`
//! prints as one `plgw: …` line. Logs go to standard error and are quiet in every command except `serve`.

mod check;
mod completions;
mod connection_strings;
mod dns;
mod failure;
mod init;
mod man;
mod operator;
mod plan;
mod planned;
mod quickstart;
mod serve;
mod table;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use self::failure::{Failure, FailureKind};
use crate::telemetry::{LogHandle, LogSettings};

/// The version, with the commit if it is known.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("PLGW_COMMIT"));

/// The log levels of every command but the daemon unless `RUST_LOG` is set: the user reads its output, which already
/// has the plan's notices that control would log as warnings.
const QUIET_LEVELS: &str = "warn,plgw::control::owner=error";

const LONG_ABOUT: &str = "\
Takes the place of AWS PrivateLink and its network load balancer between a consumer's VPC and MongoDB Atlas or Atlas \
App Services, in a lab: the same names, ports, records and failures, on addresses of your own.

Start with `plgw quickstart`: it runs everything on loopback, without root, and prints what to try.";

const EXAMPLES: &str = "\
Examples:
  plgw quickstart                     everything on loopback, with stand-in servers
  plgw quickstart --once              the same, until its checks end
  plgw init > gateway.toml            a config to start from
  plgw check gateway.toml             every mistake at once
  plgw plan --config gateway.toml     what it would run
  plgw serve --config gateway.toml    the daemon

Environment:
  RUST_LOG     what is logged to standard error: `info`, `warn,dns=debug`
  LOG_FORMAT   `text` or `json`
  NO_COLOR     no colours

Exit codes:
  0   everything went well
  1   a check or an operation failed
  2   the command line can't be read
  65  the saved state can't be read
  69  an address or a file is taken or can't be had
  71  the system refuses something
  78  the config is wrong";

/// The command line of `plgw`.
#[derive(Debug, Parser)]
#[command(
    name = "plgw",
    version = VERSION,
    about = "MongoDB Atlas and App Services behind AWS PrivateLink, in a lab",
    long_about = LONG_ABOUT,
    after_help = EXAMPLES,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true,
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(quickstart::Args),
    #[command(subcommand)]
    Lab(crate::lab::LabCommand),
    Serve(serve::Args),
    Init(init::Args),
    Check(check::Args),
    Plan(plan::Args),
    ConnectionStrings(connection_strings::Args),
    #[command(subcommand)]
    Dns(dns::Command),
    Status(operator::status::Args),
    Events(operator::events::Args),
    Targets(operator::targets::Args),
    #[command(subcommand)]
    Target(operator::target::Command),
    Endpoints(operator::endpoints::Args),
    Flows(operator::flows::Args),
    #[command(subcommand)]
    Fault(operator::fault::Command),
    #[command(subcommand)]
    Zone(operator::zone::Command),
    #[command(subcommand)]
    Gateways(operator::gateways::Command),
    #[command(subcommand)]
    Standin(operator::standin::Command),
    Limits(operator::limits::Args),
    #[command(subcommand)]
    App(operator::app::Command),
    LogLevel(operator::log_level::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// The output format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs: one JSON value with stable keys.
    Json,
}

/// The ports of the gateway's own services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum PortChoice {
    /// As configured.
    #[default]
    Config,
    /// Any free ports.
    Auto,
}

impl Cli {
    /// Parses the command line. Prints help, or an error (exit code 2), and exits the process.
    #[must_use]
    pub fn of_process() -> Self {
        let parsed = Self::command().try_get_matches().and_then(|matches| {
            refuse_unused_admin(&matches)?;
            Self::from_arg_matches(&matches)
        });
        parsed.unwrap_or_else(|error| name_variable(error, std::env::args().skip(1)).exit())
    }

    /// Whether the command runs a gateway in this process.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        matches!(self.command, Command::Quickstart(_) | Command::Serve(_))
    }

    /// The log settings of the command.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the environment has an unknown log format.
    pub fn log_settings(&self) -> Result<LogSettings, Failure> {
        let mut settings = LogSettings::from_env()?;
        let is_set = std::env::var_os("RUST_LOG").is_some_and(|levels| !levels.is_empty());
        if !is_set && !matches!(self.command, Command::Serve(_)) {
            settings.levels = QUIET_LEVELS.to_owned();
        }
        Ok(settings)
    }

    /// Runs the command to its end.
    ///
    /// # Errors
    ///
    /// [`Failure`], with the exit code.
    pub fn run(self, logs: LogHandle) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Quickstart(args) => quickstart::run(&args, logs),
            // It enters namespaces while the process has one thread.
            Command::Lab(command) => Ok(command.run()?),
            Command::Serve(args) => serve::run(args, logs),
            Command::Init(args) => init::run(args),
            Command::Check(args) => check::run(&args),
            Command::Plan(args) => plan::run(&args),
            Command::ConnectionStrings(args) => connection_strings::run(&args),
            Command::Dns(command) => dns::run(&command),
            Command::Status(args) => operator::status::run(&args),
            Command::Events(args) => operator::events::run(&args),
            Command::Targets(args) => operator::targets::run(&args),
            Command::Target(command) => operator::target::run(&command),
            Command::Endpoints(args) => operator::endpoints::run(&args),
            Command::Flows(args) => operator::flows::run(&args),
            Command::Fault(command) => operator::fault::run(command),
            Command::Zone(command) => operator::zone::run(&command),
            Command::Gateways(command) => operator::gateways::run(&command),
            Command::Standin(command) => operator::standin::run(&command),
            Command::Limits(args) => operator::limits::run(&args),
            Command::App(command) => operator::app::run(&command),
            Command::LogLevel(args) => operator::log_level::run(&args),
            Command::Completions(args) => completions::run(&args),
            Command::Man(args) => man::run(&args),
        }
    }
}

/// Refuses `--admin` beside `--config`, where no gateway is asked. By hand, as clap's `conflicts_with` would also refuse the
/// environment's `PLGW_ADMIN`, which is for other commands.
fn refuse_unused_admin(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some(("connection-strings", own)) = matches.subcommand() else { return Ok(()) };
    if own.contains_id("config") && own.value_source("admin") == Some(ValueSource::CommandLine) {
        let reason =
            "the argument '--admin <ADDRESS:PORT>' cannot be used with '--config <FILE>': no gateway is asked\n";
        return Err(Cli::command().error(ErrorKind::ArgumentConflict, reason));
    }
    Ok(())
}

/// Adds the environment variable's name to an error about a value that is not in `arguments`.
fn name_variable(mut error: clap::Error, mut arguments: impl Iterator<Item = String>) -> clap::Error {
    fn variable(command: &clap::Command, shown: &str) -> Option<(String, String)> {
        let own = command.get_arguments().find(|argument| argument.to_string() == shown).and_then(|argument| {
            let (flag, variable) = (argument.get_long()?, argument.get_env()?);
            Some((format!("--{flag}"), variable.to_string_lossy().into_owned()))
        });
        own.or_else(|| command.get_subcommands().find_map(|command| variable(command, shown)))
    }
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return error };
    let mut command = Cli::command();
    command.build();
    if let Some((flag, variable)) = variable(&command, shown)
        && !arguments.any(|argument| argument.split('=').next() == Some(flag.as_str()))
    {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

/// The runtime of control, DNS, APIs and everything else except flows.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("plgw-control").enable_all().build();
    runtime.map_err(|error| Failure::new(FailureKind::System, format!("cannot start the runtime: {error}")))
}

/// Formats `value` as indented JSON with a final newline.
fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Failure::new(FailureKind::System, format!("cannot write JSON: {error}")))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Issue 20: each command calls the gateway that `--admin` or PLGW_ADMIN names, or none.
    #[test]
    fn every_command_that_calls_a_gateway_takes_its_address() {
        fn leaves(command: &clap::Command, path: &str, found: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            if command.get_arguments().any(|argument| argument.get_env().is_some_and(|name| name == "PLGW_ADMIN")) {
                return;
            }
            if !command.has_subcommands() {
                found.push(path.replacen(" plgw ", "", 1));
            }
            command.get_subcommands().for_each(|command| leaves(command, &path, found));
        }
        let mut without = Vec::new();
        leaves(&Cli::command(), "", &mut without);
        without.retain(|command| !command.starts_with("lab "));
        // `quickstart --admin` is where its own listens.
        let expected = ["quickstart", "serve", "init", "check", "plan", "dns export", "completions", "man"];
        assert_eq!(without, expected);
    }

    #[test]
    fn every_command_has_a_line_about_it_and_examples() {
        for command in Cli::command().get_subcommands().filter(|command| !command.has_subcommands()) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Example"), "{name}: {after}");
        }
    }
}
