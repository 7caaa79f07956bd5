//! `plgw dns`: exports records for other DNS servers.

use std::path::PathBuf;
use std::process::ExitCode;

use super::planned;
use super::table::print;
use super::{Failure, FailureKind};
use crate::dns::{ExportFormat, export};
use crate::model::VpcId;

/// Names and records
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write the records as files for other DNS servers
    ///
    /// Without `--vpc` these are the public names (Atlas' and AWS's `vpce` names are public, their answers private); with
    /// it, what that VPC's resolver answers: its private hosted zones over the public names.
    #[command(after_help = "\
Examples:
  plgw dns export --config gateway.toml --format bind > lab.zone
  plgw dns export --config gateway.toml --format route53 --vpc vpc-0b3f1c9a7d2e84f56
  plgw dns export --config gateway.toml --format hosts | sudo tee -a /etc/hosts

Zones stand one after the other: zone files each under its own $ORIGIN, change
batches as JSON values in a row. /etc/hosts holds addresses alone, no SRV and no
TXT: with it, use standard strings (mongodb://…), not mongodb+srv.")]
    Export {
        /// The config file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The output format
        #[arg(long, value_enum)]
        format: ExportFormat,
        /// The view of this VPC's resolver
        #[arg(long, value_name = "ID")]
        vpc: Option<VpcId>,
        /// Take the assigned ports from this state file instead of the config's
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
    },
}

pub(super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    let Command::Export { config, format, vpc, state } = command;
    let planned = planned::load(config, state.as_deref())?;
    let options = planned.config.settings.dns.unwrap_or_default();
    let text = export(&planned.snapshot.dns, vpc.as_ref(), *format, &options)?;
    if text.is_empty() {
        let seen = vpc.as_ref().map_or_else(|| "publicly".to_owned(), |vpc| format!("in `{vpc}`"));
        return Err(Failure::new(FailureKind::Failed, format!("there are no names to export: none is seen {seen}")));
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
