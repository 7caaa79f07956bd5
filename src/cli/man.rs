//! `plgw man`: manual pages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::table::print;
use super::{Cli, Failure, FailureKind};

/// Print a manual page
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw man | man -l -                       read the page of plgw itself
  plgw man dns export | man -l -            read the page of one command
  plgw man --dir ~/.local/share/man/man1    write every page to a directory")]
pub(super) struct Args {
    /// The command; none: `plgw` itself
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write every page to this directory, which must exist
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.dir {
        Some(dir) => write_all(dir)?,
        None => print_one(&args.command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_all(dir: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Cli::command(), dir).map_err(|error| {
        Failure::new(FailureKind::Unavailable, format!("cannot write manual pages to {}: {error}", dir.display()))
    })
}

fn print_one(path: &[String]) -> Result<(), Failure> {
    // After `build`, every command has its full name: `plgw-dns-export`.
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    for name in path {
        command = command.find_subcommand(name).ok_or_else(|| {
            let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Failure::new(
                FailureKind::Failed,
                format!("{} has no command `{name}`; there is {known}", command.get_name()),
            )
        })?;
    }
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    print(&String::from_utf8_lossy(&page))?;
    Ok(())
}
