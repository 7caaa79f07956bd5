//! `plgw dns`: exports records for other DNS servers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::planned;
use super::table::print;
use super::{Failure, FailureKind};
use crate::dns::{ExportFormat, export};
use crate::model::VpcId;

/// Names and records
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: DnsCommand,
}

#[derive(Debug, Subcommand)]
enum DnsCommand {
    Export(ExportArgs),
}

/// Write the records as files for other DNS servers
///
/// Without `--vpc` these are the public names (Atlas' and AWS's `vpce` names are public, their answers private); with
/// it, what that VPC's resolver answers: its private hosted zones over the public names.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw dns export --config gateway.toml --format bind > lab.zone
  plgw dns export --config gateway.toml --format route53 --vpc vpc-0b3f1c9a7d2e84f56
  plgw dns export --config gateway.toml --format hosts | sudo tee -a /etc/hosts

Zones stand one after the other: zone files each under its own $ORIGIN, change
batches as JSON values in a row. /etc/hosts holds addresses alone, no SRV and no
TXT: with it, use standard strings (mongodb://…), not mongodb+srv.")]
struct ExportArgs {
    /// The config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The output format
    #[arg(long, value_enum)]
    format: Format,
    /// The view of this VPC's resolver
    #[arg(long, value_name = "ID")]
    vpc: Option<VpcId>,
    /// Take the assigned ports from this state file instead of the config's
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Zone files, as BIND, NSD, Knot and CoreDNS load them
    Bind,
    /// Change batches for `aws route53 change-resource-record-sets`
    Route53,
    /// Lines for /etc/hosts
    Hosts,
}

impl From<Format> for ExportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Bind => Self::Bind,
            Format::Route53 => Self::Route53,
            Format::Hosts => Self::Hosts,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let DnsCommand::Export(args) = &args.command;
    let planned = planned::load(&args.config, args.state.as_deref())?;
    let options = planned.config.settings.dns.unwrap_or_default();
    let text = export(&planned.snapshot.dns, args.vpc.as_ref(), args.format.into(), &options)?;
    if text.is_empty() {
        let seen = args.vpc.as_ref().map_or_else(|| "publicly".to_owned(), |vpc| format!("in `{vpc}`"));
        return Err(Failure::new(FailureKind::Failed, format!("there are no names to export: none is seen {seen}")));
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
