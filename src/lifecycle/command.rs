//! Runs a command as a child process: signals are forwarded to it, and its exit code becomes this process's.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// A shell's exit codes for a command that is not found, and for one that cannot be executed: POSIX, *Exit Status for
/// Commands*.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

/// Added to the signal's number if a signal ended the command, as shells do.
const SIGNALLED: i32 = 128;

/// Runs a command to its end. SIGTERM and SIGHUP are forwarded to it; Ctrl-C need not be, as the terminal sends it to
/// both.
///
/// # Errors
///
/// When the signal handlers cannot be installed or the command cannot be started.
///
/// # Panics
///
/// Outside a runtime.
pub async fn run_command(command: &mut Command) -> io::Result<ExitStatus> {
    let mut children = signal(SignalKind::child())?;
    let (mut interrupt, mut quit) = (signal(SignalKind::interrupt())?, signal(SignalKind::quit())?);
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut running = KillOnDrop(command.spawn()?);
    loop {
        if let Some(status) = running.0.try_wait()? {
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
            // It has not been waited for yet, so its process id is still valid.
            let _ = kill_process(pid_of(&running.0), signal);
        }
    }
}

/// A child process that is killed on drop.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // No effect if it has exited and was waited for.
        let _ = self.0.kill();
    }
}

/// The exit code of a command as a shell reports it: its own, 128 + N if signal N ended it, 126 or 127 if it could not
/// be started.
#[must_use]
pub fn exit_code(ended: &io::Result<ExitStatus>) -> ExitCode {
    let code = match ended {
        Ok(status) => status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(NOT_FOUND.into()),
        Err(_) => Some(NOT_RUNNABLE.into()),
    };
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn pid_of(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child's number is positive and fits")
}
