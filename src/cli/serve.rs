//! `plgw serve`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, FailureKind, PortChoice, planned, runtime};
use crate::app::{Gateway, GatewayOptions, StartError};
use crate::config;
use crate::control::ChangeError;
use crate::lifecycle::{ServiceManager, Signals};
use crate::telemetry::LogHandle;

/// Run the gateway that a config file describes
///
/// Logs to standard error. SIGTERM or SIGINT stops it: no new flows, then those that are open may end within
/// `shutdown_grace`; a second one ends it at once. SIGHUP reads the config again; so does a change of the file, unless
/// `watch_file` is off. A config that is wrong changes nothing and is said at `/readyz`. A service manager that asks for it
/// (`NOTIFY_SOCKET`, `WATCHDOG_USEC`) is notified when it is ready, reloads and drains, and that it is alive.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw serve --config gateway.toml
  RUST_LOG=info,dns=debug LOG_FORMAT=json plgw serve --config gateway.toml")]
pub(super) struct Args {
    /// The config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The ports of DNS, metrics and the admin API: the config's, or free ones, which the log shows
    #[arg(long, value_enum, default_value_t)]
    ports: PortChoice,
}

pub(super) fn run(args: Args, logs: LogHandle) -> Result<ExitCode, Failure> {
    let config = config::load(&args.config)?;
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let options = GatewayOptions {
            source: Some(args.config.clone()),
            free_ports: args.ports == PortChoice::Auto,
            logs: Some(logs),
            manager: ServiceManager::from_env(),
            ..GatewayOptions::default()
        };
        let (path, positions) = (args.config, config.positions.clone());
        let gateway = Gateway::start(config, options).await.map_err(|error| match error {
            StartError::Change(ChangeError::Plan(errors)) => planned::in_file(&path, &positions, &errors),
            other => other.into(),
        })?;
        drop(positions);
        let failed = gateway.until_stopped(&mut signals).await;
        let carried = tokio::select! {
            carried = gateway.stop() => carried,
            () = signals.stop_now() => return Err(Failure::new(FailureKind::Failed, "told to stop twice: flows were cut")),
        };
        tracing::info!(
            flows = carried.flows,
            refused = carried.refused,
            bytes.to_target = carried.bytes_to_target,
            bytes.to_client = carried.bytes_to_client,
            "stopped"
        );
        match failed {
            None => Ok(ExitCode::SUCCESS),
            Some(what) => Err(Failure::new(FailureKind::Unavailable, what)),
        }
    })
}
