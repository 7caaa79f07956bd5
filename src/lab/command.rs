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
    Up(Up),
    /// Opens a shell on a host of the lab.
    Shell(Shell),
    /// Runs a command on a host of the lab and ends with its exit status.
    Run(Run),
    /// Shows which labs are up, their hosts and their processes.
    Status(Status),
    /// Lists every lab of this machine that this user can see.
    List(List),
    /// Forwards a port of this machine's loopback to the lab's console, and prints its link.
    Console(Console),
    /// Cuts a zone: packets to and from its endpoint addresses vanish, as in an outage.
    Cut(Cut),
    /// Ends the outage of a zone.
    Heal(Cut),
    /// Ends a lab and removes all of it.
    Down(Down),
    /// The lab's first process.
    #[command(hide = true)]
    Hold(Hold),
    /// A process that the lab needs.
    #[command(hide = true)]
    Process(ProcessOf),
    /// The console's way into the lab.
    #[command(hide = true)]
    Forward(Forward),
}

/// Which lab.
#[derive(Debug, Clone, Args)]
pub struct LabName {
    /// The lab's name; several labs may be up at the same time.
    #[arg(long, default_value = DEFAULT_NAME)]
    pub name: String,
}

/// `plgw lab up`.
#[derive(Debug, Clone, Args)]
pub struct Up {
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
    /// Answer for the vendors' host names, as `cloud.mongodb.com` and `ec2.us-east-1.amazonaws.com`, with the gateway's APIs,
    /// over TLS by the lab CA, which commands in the lab trust. In a config: `admin.names`.
    #[arg(long)]
    vendor_names: bool,
    /// Remove the lab again if the process that asked for it has ended meanwhile.
    #[arg(long, hide = true)]
    for_parent: bool,
}

/// `plgw lab shell`.
#[derive(Debug, Clone, Args)]
pub struct Shell {
    #[command(flatten)]
    which: LabName,
    /// The host to run on.
    #[arg(long, value_name = "HOST", default_value = "vpc")]
    at: Host,
}

/// `plgw lab run`.
#[derive(Debug, Clone, Args)]
pub struct Run {
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
}

/// `plgw lab status`.
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// One lab; absent: all.
    #[arg(long)]
    name: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// `plgw lab list`.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    output: ListFormat,
}

/// How labs are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ListFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// `plgw lab console`.
#[derive(Debug, Clone, Args)]
pub struct Console {
    #[command(flatten)]
    which: LabName,
    /// The port on 127.0.0.1; 0: any that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// `plgw lab forward`.
#[derive(Debug, Clone, Args)]
pub struct Forward {
    /// The admin API's address in the lab.
    to: SocketAddr,
}

/// `plgw lab cut`, `plgw lab heal`.
#[derive(Debug, Clone, Args)]
pub struct Cut {
    #[command(flatten)]
    which: LabName,
    /// The zone, `us-east-1b`.
    zone: String,
}

/// `plgw lab down`.
#[derive(Debug, Clone, Args)]
pub struct Down {
    #[command(flatten)]
    which: LabName,
    /// Every lab of this user.
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

/// Arguments of the first process.
#[derive(Debug, Clone, Args)]
pub struct Hold {
    /// The lab's directory.
    dir: PathBuf,
    /// The requested config, for messages.
    #[arg(long)]
    asked: String,
    /// The processes to start.
    #[arg(long)]
    process: Vec<Process>,
}

/// Arguments of a process.
#[derive(Debug, Clone, Args)]
pub struct ProcessOf {
    /// Which process.
    process: Process,
    /// The lab's directory.
    dir: PathBuf,
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
            Self::Up(up) => {
                let (name, parent) = (&up.which.name, getppid());
                actions::up(name, up.config.as_deref(), up.clouds, up.stand_ins, up.vendor_names)?;
                if up.for_parent && getppid() != parent {
                    actions::down(name)?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::Shell(shell) => actions::shell(&shell.which.name, shell.at),
            Self::Run(Run { config: Some(config), stand_ins, vendor_names, at, command, .. }) => {
                actions::run_in_new(&config, stand_ins, vendor_names, at, &command)
            }
            Self::Run(run) => actions::run(&run.which.name, run.at, run.command),
            Self::Status(status) => actions::status(status.name.as_deref(), status.json),
            Self::List(list) => actions::list(list.output == ListFormat::Json).map(|()| ExitCode::SUCCESS),
            Self::Console(console) => actions::console(&console.which.name, console.port),
            Self::Forward(forward) => super::admin::forward(forward.to).map(|()| ExitCode::SUCCESS),
            Self::Cut(zone) => actions::cut(&zone.which.name, &zone.zone, true).map(|()| ExitCode::SUCCESS),
            Self::Heal(zone) => actions::cut(&zone.which.name, &zone.zone, false).map(|()| ExitCode::SUCCESS),
            Self::Down(down) if down.all => actions::down_all().map(|()| ExitCode::SUCCESS),
            Self::Down(down) => actions::down(&down.which.name).map(|()| ExitCode::SUCCESS),
            Self::Hold(hold) => {
                let order = super::holder::LabSpec { dir: hold.dir, asked: hold.asked, processes: hold.process };
                super::holder::hold(&order).map(|()| ExitCode::SUCCESS)
            }
            Self::Process(process) => super::process::serve(process.process, &process.dir).map(|()| ExitCode::SUCCESS),
        }
    }
}
