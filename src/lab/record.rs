//! A lab's directory: its first process, its hosts, its processes.
//!
//! Only the directory outlives a lab's processes. It is created before them and removed after them, under one lock, so
//! the next `up` or `down` finds whatever is left, regardless of what was killed when.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{collections::BTreeMap, env};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Host, LabError};
use crate::config::AdminTls;
use crate::files;

/// The default name of a lab.
pub const DEFAULT_NAME: &str = "default";

/// The environment variable for another directory of all labs.
pub const DIR_VARIABLE: &str = "PLGW_LAB_DIR";

/// Locked for as long as the lab's first process lives: a lock is visible even if the process is not.
const LOCK: &str = "lock";
/// The lock of the process that a lab is for.
const RUNNER: &str = "runner";

/// Time limit for the first process to end after its directory was removed.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The lab's first process, written by `up`, which alone knows its pid.
const FIRST: &str = "first.json";

/// The lab's parts, written by the first process.
const LAB: &str = "lab.json";

/// Maximum number of attempts to lock the directory of all labs while others remove it.
const MAX_ATTEMPTS: u32 = 100;

/// The directory of all labs, locked: no other process creates or removes a lab.
#[derive(Debug)]
pub(super) struct LabsDirectory {
    dir: PathBuf,
    /// Locked while it is open.
    _lock: File,
}

/// A lab's first process. The start time distinguishes it from a later process with the same pid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InitProcess {
    /// Its pid on the host.
    pub(super) pid: i32,
    /// When it started, in ticks since boot.
    pub(super) started: u64,
    /// The boot id.
    pub(super) boot: String,
    /// Whether the lab is in a user namespace.
    pub(super) user_namespace: bool,
}

/// The parts of a lab.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LabRecord {
    /// The requested config.
    pub(super) config: String,
    /// The hosts.
    pub(super) hosts: BTreeMap<Host, HostRecord>,
    /// Endpoint addresses by zone.
    pub(super) zones: BTreeMap<String, Vec<IpAddr>>,
    /// Nodes' addresses by zone.
    pub(super) nodes: BTreeMap<String, Vec<IpAddr>>,
    /// Processes that the lab needs, by name.
    pub(super) processes: BTreeMap<String, ProcessRecord>,
    /// Its CA certificate.
    pub(super) ca: PathBuf,
    /// Its gateway's admin API; `None` if the config disables it.
    pub(super) admin: Option<SocketAddr>,
    /// Whether it uses TLS.
    pub(super) admin_tls: AdminTls,
    /// Its private connection strings, by environment variable.
    pub(super) strings: BTreeMap<String, String>,
}

/// A host, with its namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostRecord {
    /// The first process' descriptor of its network namespace.
    pub(super) network: i32,
    /// The first process' descriptor of its mount namespace.
    pub(super) mounts: i32,
    /// Its own address, if it has one.
    pub(super) address: Option<Ipv4Addr>,
    /// Its resolver.
    pub(super) resolver: Option<Ipv4Addr>,
    /// Its own IPv6 address, if it has one.
    #[serde(default)]
    pub(super) ipv6: Option<Ipv6Addr>,
}

/// An essential process of the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessRecord {
    /// Its pid inside the lab.
    pub(super) pid: i32,
    /// How it ended, if it has.
    pub(super) ended: Option<String>,
}

impl LabsDirectory {
    /// Locks the directory of all labs, creating it if necessary.
    pub(super) fn lock() -> Result<Self, LabError> {
        let dir = base()?;
        // The last lab's `down` may remove it until it is locked, so this is retried; with a limit, as the directory
        // may be where none can be created.
        let mut tries = 1..=MAX_ATTEMPTS;
        loop {
            match (Self::lock_dir(&dir), tries.next()) {
                (Ok(Some(lock)), _) => return Ok(Self { dir, _lock: lock }),
                (Err(error), last) if error.kind() != io::ErrorKind::NotFound || last.is_none() => {
                    return Err(file("use", &dir)(error));
                }
                _ => {}
            }
        }
    }

    /// `None`: the directory was replaced in the meantime.
    fn lock_dir(dir: &Path) -> io::Result<Option<File>> {
        files::trusted_dir(dir, files::PRIVATE_DIR)?;
        let lock = File::open(dir)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        let (locked, now) = (lock.metadata()?, fs::metadata(dir)?);
        Ok(((locked.dev(), locked.ino()) == (now.dev(), now.ino())).then_some(lock))
    }

    /// The directory of the lab `name`, whether it exists or not.
    pub(super) fn dir_of(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Creates the directory of the lab `name`, and locks it for its first process.
    pub(super) fn make(&self, name: &str) -> Result<(PathBuf, File), LabError> {
        let dir = self.dir_of(name);
        files::trusted_dir(&dir, files::PRIVATE_DIR).map_err(file("use", &dir))?;
        let lock = files::append(&dir.join(LOCK), files::PRIVATE).map_err(file("make a lock in", &dir))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| file("lock", &dir)(e.into()))?;
        Ok((dir, lock))
    }

    /// Removes the directory of the lab `name`, and waits until none of its processes is left: a first process whose
    /// `up` was killed before it was recorded ends once its directory is gone.
    pub(super) fn remove(&self, name: &str) -> Result<(), LabError> {
        let dir = self.dir_of(name);
        let lock = File::open(dir.join(LOCK)).ok();
        let began = Instant::now();
        loop {
            let ended = lock.as_ref().is_none_or(|lock| !is_locked(lock));
            let removed = match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
            match removed {
                Ok(()) if ended => return Ok(()),
                _ if !ended && began.elapsed() < END_TIMEOUT => std::thread::sleep(Duration::from_millis(20)),
                Ok(()) => return Err(LabError::Unseen { name: name.to_owned() }),
                Err(error) => return Err(file("remove", &dir)(error)),
            }
        }
    }

    /// Removes the directory of all labs if it is empty.
    pub(super) fn remove_if_empty(&self) {
        // Not empty: another lab exists. Any other error appears at the next `up`.
        let _ = fs::remove_dir(&self.dir);
    }
}

impl InitProcess {
    /// The running process `pid`.
    pub(super) fn of(pid: i32, user_namespace: bool) -> Result<Self, LabError> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let started = started(pid).ok_or_else(|| file("read", &path)(io::ErrorKind::NotFound.into()))?;
        Ok(Self { pid, started, boot: boot(), user_namespace })
    }

    /// The record in `dir`; `None` if it can't be read: then `up` died before it wrote one, and the first process,
    /// which has no parent to report to, ends by itself.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&files::read_trusted(&dir.join(FIRST)).ok()?).ok()
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), LabError> {
        write_atomic(dir, FIRST, self)
    }

    /// Whether it is running, and whether it can be reached from here.
    pub(super) fn state_from_here(&self, dir: &Path) -> InitState {
        let is_locked = File::open(dir.join(LOCK)).is_ok_and(|lock| is_locked(&lock));
        match self.visible_pid() {
            _ if !is_locked => InitState::Ended,
            _ if self.contains_this_process() => InitState::ContainsThisProcess,
            Some(_) if proc_is_own() => InitState::Runs,
            _ => InitState::Unseen,
        }
    }

    /// Whether this process belongs to its lab.
    pub(super) fn contains_this_process(&self) -> bool {
        self.visible_pid() == Some(1)
    }

    /// Its pid under this process's /proc: inside the lab, where it is the first of its PID namespace, that is 1.
    fn visible_pid(&self) -> Option<i32> {
        [self.pid, 1].into_iter().find(|pid| started(*pid) == Some(self.started) && self.boot == boot())
    }

    /// Kills it, and with it every process of the lab, and waits for their end.
    pub(super) fn kill(&self) -> Result<(), LabError> {
        let what = || format!("end the lab's first process, {}", self.pid);
        let system = |error: rustix::io::Errno| LabError::System { what: what(), source: error.into() };
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            other => other.map_err(system)?,
        };
        // Checked again with the pidfd open: from here on the pid can't be reused.
        if self.visible_pid() != Some(self.pid) || !proc_is_own() {
            return Ok(());
        }
        match pidfd_send_signal(&handle, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(system(error)),
        }
        // The first process of a PID namespace ends after all others in it.
        let mut wait = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
        loop {
            match rustix::event::poll(&mut wait, None) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(system(error)),
            }
        }
    }

    /// A path in its directory under /proc.
    pub(super) fn proc(&self, rest: impl AsRef<Path>) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.visible_pid().unwrap_or(self.pid))).join(rest)
    }

    /// Its start time in seconds since 1970.
    pub(super) fn since(&self) -> Option<u64> {
        since(self.started)
    }
}

/// The state of a lab's first process, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InitState {
    /// Running and reachable.
    Runs,
    /// Running, and this process belongs to its lab.
    ContainsThisProcess,
    /// Running, but in a PID namespace that is not visible from here, or hidden by /proc.
    Unseen,
    /// It has ended, and the lab's other processes with it.
    Ended,
}

impl LabRecord {
    /// The URL of its gateway's admin API.
    pub(super) fn admin_url(&self) -> Option<String> {
        self.admin.map(|address| format!("{}://{address}", self.admin_tls.scheme()))
    }

    /// The parts of the lab in `dir`; `None` before it is ready.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&files::read_trusted(&dir.join(LAB)).ok()?).ok()
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), LabError> {
        write_atomic(dir, LAB, self)
    }

    /// The first essential process that has ended, and how.
    pub(super) fn dead_process(&self) -> Option<(&str, &str)> {
        self.processes.iter().find_map(|(name, process)| Some((name.as_str(), process.ended.as_deref()?)))
    }
}

/// Whether the lab's lock, which is the first process' standard input, still has its name. A lab whose directory was
/// removed or recreated can't be ended any more.
pub(super) fn is_recorded(dir: &Path) -> bool {
    rustix::fs::fstat(rustix::stdio::stdin()).is_ok_and(|lock| lock.st_nlink > 0) && dir.join(FIRST).exists()
}

/// Records in `dir` that its lab is for this process alone, until what is returned is dropped: see [`is_abandoned`].
pub(super) fn run_by_this_process(dir: &Path) -> Result<File, LabError> {
    // Locked before it has its name, so that it is never found unlocked while this process runs.
    let new = dir.join(format!("{RUNNER}.new"));
    let lock = files::append(&new, files::PRIVATE).map_err(file("make a lock in", dir))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|error| file("lock", &new)(error.into()))?;
    fs::rename(&new, dir.join(RUNNER)).map_err(file("rename", &new))?;
    Ok(lock)
}

/// Whether the lab in `dir` was for one process, `plgw lab run --config`, which has ended without taking it down.
pub(super) fn is_abandoned(dir: &Path) -> bool {
    File::open(dir.join(RUNNER)).is_ok_and(|lock| !is_locked(&lock))
}

fn is_locked(lock: &File) -> bool {
    let tried = rustix::fs::flock(lock, FlockOperation::NonBlockingLockShared);
    let _ = rustix::fs::flock(lock, FlockOperation::Unlock);
    tried == Err(rustix::io::Errno::WOULDBLOCK)
}

/// Names of labs that have a directory, in order.
pub(super) fn names() -> Result<Vec<String>, LabError> {
    let base = base()?;
    names_in(&base).map_err(file("read", &base))
}

/// Names of labs that have a directory in `base`, in order.
pub(super) fn names_in(base: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(base) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| is_name(name)).collect();
    names.sort();
    Ok(names)
}

/// The directory of the lab `name`, whether it exists or not; if it or the directory of all labs exists, it must be
/// trusted.
pub(super) fn dir_of(name: &str) -> Result<PathBuf, LabError> {
    let base = base()?;
    let dir = base.join(name);
    check(&base)?;
    check(&dir)?;
    Ok(dir)
}

/// Checks that `dir` is trusted, if it exists.
pub(super) fn check(dir: &Path) -> Result<(), LabError> {
    match files::check_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("use", dir)(error)),
        _ => Ok(()),
    }
}

/// Whether `name` is a valid name of a lab.
pub(super) fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
}

/// The directory of all labs: this user's directory for runtime files.
pub(super) fn base() -> Result<PathBuf, LabError> {
    if let Some(dir) = env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
        return std::path::absolute(&dir).map_err(file("find", Path::new(&dir)));
    }
    let user = rustix::process::geteuid();
    if user.is_root() {
        return Ok(PathBuf::from("/run/plgw-lab"));
    }
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
    Ok(runtime.map_or_else(|| env::temp_dir().join(format!("plgw-lab-{}", user.as_raw())), |dir| dir.join("plgw-lab")))
}

/// Writes a file atomically.
fn write_atomic(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), LabError> {
    let path = dir.join(name);
    let text = serde_json::to_vec_pretty(value).map_err(|error| file("write", &path)(error.into()))?;
    files::replace(&path, files::PUBLIC, &text).map_err(file("write", &path))
}

/// The start time of the process `pid`, in ticks since boot; `None` if it does not exist or has ended.
pub(super) fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything. After it, the state is the third of all fields, and the start
    // time the 22nd.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Converts ticks since boot to seconds since 1970.
pub(super) fn since(started: u64) -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + started / rustix::param::clock_ticks_per_second())
}

/// Whether /proc shows the PID namespace of this process; otherwise its pids must not be signalled.
fn proc_is_own() -> bool {
    fs::read_link("/proc/self").is_ok_and(|me| me.as_os_str() == std::process::id().to_string().as_str())
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

fn file<'p>(what: &'static str, path: &'p Path) -> impl Fn(io::Error) -> LabError + 'p {
    move |source| LabError::File { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_no_other_start_is() {
        let me = InitProcess::of(i32::try_from(std::process::id()).expect("a pid"), false).expect("this process");
        assert_eq!(me.visible_pid(), Some(me.pid));
        assert_eq!(InitProcess { started: me.started + 1, ..me.clone() }.visible_pid(), None);
        assert_eq!(InitProcess { boot: "another".to_owned(), ..me }.visible_pid(), None);
    }

    #[test]
    fn a_process_that_cannot_be_seen_is_not_dead_while_its_lock_is_held() {
        let dir = tempfile::tempdir().expect("a directory");
        let elsewhere = InitProcess { pid: i32::MAX, started: 1, boot: boot(), user_namespace: false };
        assert_eq!(elsewhere.state_from_here(dir.path()), InitState::Ended);
        let labs = LabsDirectory { dir: dir.path().to_owned(), _lock: File::open(dir.path()).expect("a directory") };
        let (dir, lock) = labs.make("default").expect("a directory");
        assert_eq!(elsewhere.state_from_here(&dir), InitState::Unseen);
        let me = InitProcess::of(i32::try_from(std::process::id()).expect("a pid"), false).expect("this process");
        assert_eq!(me.state_from_here(&dir), InitState::Runs);
        drop(lock);
        assert_eq!(elsewhere.state_from_here(&dir), InitState::Ended);
        assert_eq!(me.state_from_here(&dir), InitState::Ended);
        labs.remove("default").expect("nothing holds it");
        assert!(!dir.exists());
    }

    #[test]
    fn a_torn_record_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(FIRST), b"{\"pid\": 1").expect("a file");
        assert_eq!(InitProcess::read(dir.path()), None);
    }

    #[test]
    fn names_with_a_path_in_them_are_none() {
        for name in ["", "..", "a/b", "-x", "a.b", &"x".repeat(33)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("two-zones-2"));
    }
}
