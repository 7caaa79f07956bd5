//! The command line of `plgw lab …`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use rustix::process::getppid;

use super::record::DEFAULT_NAME;
use super::{Host, LabError, Process, actions};

/// The lab VPC: the documentation's network on this machine, in network namespaces
#[derive(Debug, Clone, Subcommand)]
pub enum LabCommand {
    /// Builds the lab and starts the gateway in it.
    ///
    /// As root, or as any user where user namespaces are allowed. The lab stays until `plgw lab down`.
    Up {
        /// Which lab.
        #[command(flatten)]
        which: LabName,
        /// The gateway's config; absent: the documentation's example, with stand-ins.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// With a virtual network of Azure and a VPC network of Google Cloud, each with a private endpoint and a host.
        #[arg(long, conflicts_with = "config")]
        clouds: bool,
        /// Run stand-ins at the addresses of the config's nodes and apps, instead of reaching the real ones.
        #[arg(long, requires = "config")]
        stand_ins: bool,
        /// Answer for the vendors' host names, as `cloud.mongodb.com` and `ec2.us-east-1.amazonaws.com`, with the gateway's
        /// APIs, over TLS by the lab CA, which commands in the lab trust. In a config: `admin.names`.
        #[arg(long)]
        vendor_names: bool,
        /// Remove the lab again if the process that asked for it has ended meanwhile.
        #[arg(long, hide = true)]
        for_parent: bool,
    },
    /// Opens a shell on a host of the lab.
    Shell {
        /// Which lab.
        #[command(flatten)]
        which: LabName,
        /// The host to run on.
        #[arg(long, value_name = "HOST", default_value = "vpc")]
        at: Host,
    },
    /// Runs a command on a host of the lab and ends with its exit status.
    Run {
        /// Which lab.
        #[command(flatten)]
        which: LabName,
        /// The host to run it on.
        #[arg(long, value_name = "HOST", default_value = "vpc")]
        at: Host,
        /// Build a lab of this config for the command alone, and remove it afterwards.
        #[arg(long, value_name = "FILE", conflicts_with = "name")]
        config: Option<PathBuf>,
        /// In that lab, run stand-ins at the addresses of the config's nodes and apps.
        #[arg(long, requires = "config")]
        stand_ins: bool,
        /// In that lab, answer for the vendors' host names with the gateway's APIs, as `plgw lab up --vendor-names` does.
        #[arg(long, requires = "config")]
        vendor_names: bool,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Shows which labs are up, their hosts and their processes.
    Status {
        /// One lab; absent: all.
        #[arg(long)]
        name: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists every lab of this machine that this user can see.
    List {
        /// The output format
        #[arg(long, value_enum, default_value_t)]
        output: ListFormat,
    },
    /// Forwards a port of this machine's loopback to the lab's console, and prints its link.
    Console {
        /// Which lab.
        #[command(flatten)]
        which: LabName,
        /// The port on 127.0.0.1; 0: any that is free.
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Cuts a zone: packets to and from its endpoint addresses vanish, as in an outage.
    Cut(ZoneArgs),
    /// Ends the outage of a zone.
    Heal(ZoneArgs),
    /// Ends a lab and removes all of it.
    Down {
        /// Which lab.
        #[command(flatten)]
        which: LabName,
        /// Every lab of this user.
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// The lab's first process.
    #[command(hide = true)]
    Hold {
        /// The lab's directory.
        dir: PathBuf,
        /// The requested config, for messages.
        #[arg(long)]
        asked: String,
        /// The processes to start.
        #[arg(long)]
        process: Vec<Process>,
    },
    /// A process that the lab needs.
    #[command(hide = true)]
    Process {
        /// Which process.
        process: Process,
        /// The lab's directory.
        dir: PathBuf,
    },
    /// The console's way into the lab.
    #[command(hide = true)]
    Forward {
        /// The admin API's address in the lab.
        to: SocketAddr,
    },
}

/// Which lab.
#[derive(Debug, Clone, Args)]
pub struct LabName {
    /// The lab's name; several labs may be up at the same time.
    #[arg(long, default_value = DEFAULT_NAME)]
    pub name: String,
}

/// A zone of a lab.
#[derive(Debug, Clone, Args)]
pub struct ZoneArgs {
    #[command(flatten)]
    which: LabName,
    /// The zone, `us-east-1b`.
    zone: String,
}

/// How labs are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

impl LabCommand {
    /// Runs the command. To be called while the process is single-threaded, before any runtime starts, as only then can
    /// it change its namespaces.
    ///
    /// # Errors
    ///
    /// [`LabError`], with its source chain.
    pub fn run(self) -> Result<ExitCode, LabError> {
        match self {
            Self::Up { which, config, clouds, stand_ins, vendor_names, for_parent } => {
                let parent = getppid();
                actions::up(&which.name, config.as_deref(), clouds, stand_ins, vendor_names)?;
                if for_parent && getppid() != parent {
                    actions::down(&which.name)?;
                }
            }
            Self::Shell { which, at } => return actions::shell(&which.name, at),
            Self::Run { config: Some(config), stand_ins, vendor_names, at, command, .. } => {
                return actions::run_in_new(&config, stand_ins, vendor_names, at, &command);
            }
            Self::Run { which, at, command, .. } => return actions::run(&which.name, at, command),
            Self::Status { name, json } => return actions::status(name.as_deref(), json),
            Self::List { output } => actions::list(output == ListFormat::Json)?,
            Self::Console { which, port } => return actions::console(&which.name, port),
            Self::Forward { to } => super::admin::forward(to)?,
            Self::Cut(ZoneArgs { which, zone }) => actions::cut(&which.name, &zone, true)?,
            Self::Heal(ZoneArgs { which, zone }) => actions::cut(&which.name, &zone, false)?,
            Self::Down { all: true, .. } => actions::down_all()?,
            Self::Down { which, .. } => actions::down(&which.name)?,
            Self::Hold { dir, asked, process: processes } => {
                super::holder::hold(&super::holder::LabSpec { dir, asked, processes })?;
            }
            Self::Process { process, dir } => super::process::serve(process, &dir)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
