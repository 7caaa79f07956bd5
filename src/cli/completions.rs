//! `plgw completions`: shell completions.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::table::print;
use super::{Cli, Failure};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plgw completions bash > ~/.local/share/bash-completion/completions/plgw
  plgw completions zsh > ~/.zfunc/_plgw
  plgw completions fish > ~/.config/fish/completions/plgw.fish")]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    generate(args.shell, &mut Cli::command(), "plgw", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}
