//! Creates, holds and enters namespaces.
//!
//! A lab is one PID namespace, so the end of its first process ends everything. No namespace is bound to a path, so one
//! that no process holds is gone. An unprivileged user's lab is in a separate user namespace.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};

use super::error::IoContext;
use super::{LabError, permit};

/// A namespace that is held open.
pub(super) type Namespace = File;

/// Stays in the current namespaces, but makes this process' next child the first process of a new PID namespace, and if
/// necessary of a new user namespace. Returns whether there is a user namespace.
///
/// # Errors
///
/// [`LabError::Forbidden`] with the setting that forbids it; [`LabError::Threads`] when this process has threads.
pub(super) fn prepare() -> Result<bool, LabError> {
    one_thread()?;
    let root = rustix::process::geteuid().is_root();
    // This process stays in the machine's network: the lab's first process starts there, to start the process that
    // connects to real backends.
    if root && unshare(CloneFlags::CLONE_NEWPID).is_ok() {
        return Ok(false);
    }
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let own = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID;
    unshare(own).map_err(|errno| forbidden(true, errno.into()))?;
    // The lab's user becomes its root. A single id can be mapped without privileges, and groups only after setgroups is
    // denied.
    let map = |what: &'static str, text: String| {
        fs::write(Path::new("/proc/self").join(what), text).map_err(|error| forbidden(true, error))
    };
    map("setgroups", "deny".to_owned())?;
    map("uid_map", format!("0 {user} 1"))?;
    map("gid_map", format!("0 {group} 1"))?;
    Ok(true)
}

fn forbidden(user: bool, error: std::io::Error) -> LabError {
    LabError::Forbidden { reason: permit::why_forbidden(Path::new("/proc"), user, &error) }
}

/// Checks that this process is single-threaded, as required for changing its namespaces.
pub(super) fn one_thread() -> Result<(), LabError> {
    let threads = fs::read_dir("/proc/self/task").context("count this process' threads")?.count();
    if threads == 1 { Ok(()) } else { Err(LabError::Threads(threads)) }
}

/// A namespace of this process: `net`, `mnt`, `user`, `pid`.
pub(super) fn current(kind: &'static str) -> Result<Namespace, LabError> {
    open(&Path::new("/proc/self/ns").join(kind))
}

/// The namespace behind `path`.
pub(super) fn open(path: &Path) -> Result<Namespace, LabError> {
    File::open(path).map_err(|source| LabError::File { what: "open the namespace", path: path.to_owned(), source })
}

/// Moves this thread into a new network namespace and returns it.
///
/// # Errors
///
/// [`LabError::Forbidden`] with the setting that forbids it.
pub(super) fn new_network() -> Result<Namespace, LabError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| forbidden(false, errno.into()))?;
    current("net")
}

/// Moves this process into a new mount namespace, a copy of the current one, and returns it.
pub(super) fn new_mounts() -> Result<Namespace, LabError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| forbidden(false, errno.into()))?;
    current("mnt")
}

/// Moves this thread into a network namespace.
pub(super) fn enter_network(namespace: impl AsFd) -> Result<(), LabError> {
    setns(namespace, CloneFlags::CLONE_NEWNET).context("enter a network namespace")
}

/// Moves this process into a mount namespace.
pub(super) fn enter_mounts(namespace: impl AsFd) -> Result<(), LabError> {
    setns(namespace, CloneFlags::CLONE_NEWNS).context("enter a mount namespace")
}

/// Moves this process into a user namespace, in which it has all privileges.
pub(super) fn enter_user(namespace: impl AsFd) -> Result<(), LabError> {
    setns(namespace, CloneFlags::CLONE_NEWUSER).context("enter the lab's user namespace")
}

/// Places the next children of this process in a PID namespace.
pub(super) fn enter_pids(namespace: impl AsFd) -> Result<(), LabError> {
    setns(namespace, CloneFlags::CLONE_NEWPID).context("enter the lab's PID namespace")
}
