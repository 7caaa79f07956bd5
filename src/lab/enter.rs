//! Running commands at a place of the lab.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::{env, fs, io};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use super::error::Doing;
use super::record::{First, Lab};
use super::{LabError, Place, admin, namespaces};

/// What shells answer when a command is not there, and when it is but cannot be run: POSIX, *Exit Status for Commands*.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

/// Shells add the signal's number to this when one ended a command.
const SIGNALLED: i32 = 128;

/// The network and mount namespaces of a place, to be entered.
pub(super) struct Entry {
    network: namespaces::Namespace,
    mounts: namespaces::Namespace,
    user: Option<namespaces::Namespace>,
    pids: namespaces::Namespace,
}

impl Entry {
    /// Opens the namespaces of `place`.
    pub(super) fn open(first: &First, lab: &Lab, place: Place) -> Result<Self, LabError> {
        let held = lab.places.get(&place).ok_or(LabError::NoPlace { place, reason: why_missing(place) })?;
        let descriptor = |number: i32| namespaces::open(&first.proc(format!("fd/{number}")));
        Ok(Self {
            network: descriptor(held.network)?,
            mounts: descriptor(held.mounts)?,
            // A process of the lab is in it already, and may not enter it again.
            user: if first.user_namespace && !first.is_around_this() {
                Some(namespaces::open(&first.proc("ns/user"))?)
            } else {
                None
            },
            pids: namespaces::open(&first.proc("ns/pid"))?,
        })
    }

    /// Moves this process in. Its children are the lab's, and end with it.
    pub(super) fn enter(&self) -> Result<(), LabError> {
        namespaces::one_thread()?;
        let here = env::current_dir();
        // The user namespace first: it gives the right to enter the others.
        if let Some(user) = &self.user {
            namespaces::enter_user(user)?;
        }
        namespaces::enter_pids(&self.pids)?;
        namespaces::enter_mounts(&self.mounts)?;
        namespaces::enter_network(&self.network)?;
        // A mount namespace is entered at its root.
        if let Ok(here) = here {
            let _ = env::set_current_dir(here);
        }
        Ok(())
    }

    /// The network namespace.
    pub(super) fn network(&self) -> &namespaces::Namespace {
        &self.network
    }

    /// The network namespace alone.
    pub(super) fn into_network(self) -> namespaces::Namespace {
        self.network
    }

    /// Moves this process into the network alone, and into the user namespace that owns it.
    pub(super) fn enter_network(&self) -> Result<(), LabError> {
        namespaces::one_thread()?;
        if let Some(user) = &self.user {
            namespaces::enter_user(user)?;
        }
        namespaces::enter_network(&self.network)
    }
}

fn why_missing(place: Place) -> &'static str {
    match place {
        Place::VpcB => "its VPC has one subnet; add a second `[[vpc.subnet]]`",
        Place::Peer => "nothing is peered with its VPC; add a network to the VPC's `peered`",
        Place::Onprem => "nothing is joined to its VPC; add a network to the VPC's `on_premises`",
        Place::Vpc | Place::Internet | Place::InternetB | Place::Service | Place::Gateway | Place::Router => {
            "it was built without"
        }
    }
}

/// A command to run at a place.
#[derive(Debug)]
pub(super) struct Job {
    /// The program and its arguments.
    pub(super) command: Vec<OsString>,
    /// What it has in its environment besides this process's, without another gateway's admin API.
    pub(super) environment: BTreeMap<&'static str, OsString>,
    /// Its standard input; `None`: this process's.
    pub(super) input: Option<OwnedFd>,
}

/// Runs a command and answers its exit status, as a shell would.
pub(super) fn run(entry: &Entry, job: Job) -> Result<ExitCode, LabError> {
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
    let shown = program.to_string_lossy().into_owned();
    match command.spawn() {
        Ok(child) => wait_for(child, &shown),
        Err(source) => {
            let status = if source.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
            eprintln!("plgw: {}", crate::control::chain(&LabError::Command { command: shown, source }));
            Ok(ExitCode::from(status))
        }
    }
}

/// The shell to stand on a host with: the user's, with the place in its prompt where it is bash.
pub(super) fn shell(dir: &Path, place: Place) -> Result<Vec<OsString>, LabError> {
    let shell = env::var_os("SHELL").filter(|shell| Path::new(shell).is_file()).unwrap_or_else(|| "/bin/sh".into());
    let mut command = vec![shell.clone()];
    if Path::new(&shell).file_name().is_some_and(|name| name == "bash") && io::stdin().is_terminal() {
        let path = dir.join(format!("bashrc.{place}"));
        let text = format!("[ -r ~/.bashrc ] && . ~/.bashrc\nPS1='[{place}] '\"$PS1\"\n");
        fs::write(&path, text).map_err(|source| LabError::File { what: "write", path: path.clone(), source })?;
        command.extend(["--rcfile".into(), path.into_os_string(), "-i".into()]);
    }
    Ok(command)
}

/// Waits for a child, passing on what this process is asked to do. Ctrl-C goes to the child by itself: the terminal
/// sends it to both.
fn wait_for(mut child: Child, command: &str) -> Result<ExitCode, LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start a runtime")?;
    let ended = runtime.block_on(async {
        let listen = |kind| signal(kind).doing("listen for signals");
        let mut children = listen(SignalKind::child())?;
        let (mut interrupt, mut quit) = (listen(SignalKind::interrupt())?, listen(SignalKind::quit())?);
        let (mut terminate, mut hangup) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
        loop {
            // Looked at first: it may have ended before anybody listened.
            if let Some(status) = child.try_wait().doing(format!("wait for `{command}`"))? {
                return Ok(status);
            }
            let passed_on = tokio::select! {
                _ = children.recv() => None,
                _ = interrupt.recv() => None,
                _ = quit.recv() => None,
                _ = terminate.recv() => Some(Signal::TERM),
                _ = hangup.recv() => Some(Signal::HUP),
            };
            if let Some(signal) = passed_on {
                // Not waited for yet, so its number is still its own.
                let _ = kill_process(pid_of(&child), signal);
            }
        }
    });
    ended.map(exit_code)
}

fn pid_of(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child's number is positive and fits")
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
