//! Runs commands at a host of the lab.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs, io};

use super::error::IoContext;
use super::record::{InitProcess, LabRecord};
use super::{Host, LabError, admin, namespaces};
use crate::lifecycle::{exit_code, run_command};

/// The namespaces of a host.
pub(super) struct HostNamespaces {
    network: namespaces::Namespace,
    mounts: namespaces::Namespace,
    user: Option<namespaces::Namespace>,
    pids: namespaces::Namespace,
}

impl HostNamespaces {
    /// Opens the namespaces of `host`.
    pub(super) fn open(first: &InitProcess, lab: &LabRecord, host: Host) -> Result<Self, LabError> {
        let held = lab.hosts.get(&host).ok_or(LabError::NoHost { host, reason: why_missing(host) })?;
        let descriptor = |number: i32| namespaces::open(&first.proc(format!("fd/{number}")));
        Ok(Self {
            network: descriptor(held.network)?,
            mounts: descriptor(held.mounts)?,
            // A process of the lab is already in it, and can't enter it again.
            user: if first.user_namespace && !first.contains_this_process() {
                Some(namespaces::open(&first.proc("ns/user"))?)
            } else {
                None
            },
            pids: namespaces::open(&first.proc("ns/pid"))?,
        })
    }

    /// Moves this process into the namespaces. Its children belong to the lab, and end with it.
    pub(super) fn enter(&self) -> Result<(), LabError> {
        namespaces::one_thread()?;
        let here = env::current_dir();
        // The user namespace first: it gives the privilege to enter the others.
        if let Some(user) = &self.user {
            namespaces::enter_user(user)?;
        }
        namespaces::enter_pids(&self.pids)?;
        namespaces::enter_mounts(&self.mounts)?;
        namespaces::enter_network(&self.network)?;
        // Entering a mount namespace changes the working directory to its root.
        if let Ok(here) = here {
            let _ = env::set_current_dir(here);
        }
        Ok(())
    }

    /// The network namespace.
    pub(super) fn network(&self) -> &namespaces::Namespace {
        &self.network
    }

    /// The network namespace, without the others.
    pub(super) fn into_network(self) -> namespaces::Namespace {
        self.network
    }

    /// Moves this process into the network namespace, and into the user namespace that owns it.
    pub(super) fn enter_network(&self) -> Result<(), LabError> {
        namespaces::one_thread()?;
        if let Some(user) = &self.user {
            namespaces::enter_user(user)?;
        }
        namespaces::enter_network(&self.network)
    }
}

fn why_missing(host: Host) -> &'static str {
    match host {
        Host::VpcB => "its VPC has one subnet; add a second `[[vpc.subnet]]`",
        Host::Peer => "nothing is peered with its VPC; add a network to the VPC's `peered`",
        Host::Onprem => "nothing is joined to its VPC; add a network to the VPC's `on_premises`",
        Host::Azure => {
            "its config has no network of Azure; build it with `plgw lab up --clouds`, or add a `[[network]]`"
        }
        Host::Google => {
            "its config has no network of Google Cloud; build it with `plgw lab up --clouds`, or add a `[[network]]`"
        }
        Host::Vpc | Host::Internet | Host::InternetB | Host::Service | Host::Gateway | Host::Router => {
            "it was built without"
        }
    }
}

/// A command to run at a host.
#[derive(Debug)]
pub(super) struct Job {
    /// The program and its arguments.
    pub(super) command: Vec<OsString>,
    /// Additional environment variables; those for another gateway's admin API are removed.
    pub(super) environment: BTreeMap<String, OsString>,
    /// Its standard input; `None`: this process's.
    pub(super) input: Option<OwnedFd>,
}

/// Runs a command and returns its exit status, as a shell would.
pub(super) fn run(entry: &HostNamespaces, job: Job) -> Result<ExitCode, LabError> {
    let (program, arguments) = job.command.split_first().expect("clap asks for at least one word");
    entry.enter()?;
    let mut command = Command::new(program);
    command.args(arguments);
    for name in admin::VARIABLES {
        command.env_remove(name);
    }
    command.envs(job.environment);
    if let Some(input) = job.input {
        command.stdin(input);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let ended = runtime.block_on(run_command(&mut command));
    let code = exit_code(&ended);
    if let Err(source) = ended {
        let command = program.to_string_lossy().into_owned();
        eprintln!("plgw: {}", crate::control::chain(&LabError::Command { command, source }));
    }
    Ok(code)
}

/// The command of a shell at a host: the user's shell, with the host in the prompt if it is bash.
pub(super) fn shell(dir: &Path, host: Host) -> Result<Vec<OsString>, LabError> {
    let shell = env::var_os("SHELL").filter(|shell| Path::new(shell).is_file()).unwrap_or_else(|| "/bin/sh".into());
    let mut command = vec![shell.clone()];
    if Path::new(&shell).file_name().is_some_and(|name| name == "bash") && io::stdin().is_terminal() {
        let path = dir.join(format!("bashrc.{host}"));
        let text = format!("[ -r ~/.bashrc ] && . ~/.bashrc\nPS1='[{host}] '\"$PS1\"\n");
        fs::write(&path, text).map_err(|source| LabError::File { what: "write", path: path.clone(), source })?;
        command.extend(["--rcfile".into(), path.into_os_string(), "-i".into()]);
    }
    Ok(command)
}
