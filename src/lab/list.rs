//! Lists every lab of this machine: those with a readable directory, and those with a visible first process.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::LabError;
use super::record::{self, InitProcess, LabRecord};
use super::status::{LabState, printable};
use crate::files;

/// A lab, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct LabEntry {
    name: String,
    /// The id of the user who built it.
    user: u32,
    #[serde(flatten)]
    state: ListedState,
    /// When it was started, in RFC 3339 format.
    since: Option<String>,
    /// Its first process; `None` if it is gone.
    pid: Option<i32>,
    directory: PathBuf,
}

/// Its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ListedState {
    state: &'static str,
    /// Why it has died.
    problem: Option<String>,
}

impl From<LabState> for ListedState {
    fn from(state: LabState) -> Self {
        let (state, problem) = match state {
            LabState::Up => ("up", None),
            LabState::Building => ("building", None),
            LabState::Unseen => ("unseen", None),
            LabState::Died(why) => ("died", Some(why)),
        };
        Self { state, problem }
    }
}

/// A lab's first process, found by its command line, as another user's directory can't be read.
struct InitOfUser {
    pid: i32,
    user: u32,
    since: Option<u64>,
}

/// The labs of this machine.
pub(super) struct LabList(Vec<LabEntry>);

/// Finds labs.
pub(super) fn labs() -> Result<LabList, LabError> {
    let mut processes = processes();
    let mut entries = Vec::new();
    let own = record::base()?;
    for base in bases(own.clone()) {
        let names = match record::names_in(&base) {
            Ok(names) => names,
            Err(source) if base == own => return Err(LabError::File { what: "read", path: base, source }),
            // Another user's lab.
            Err(_) => continue,
        };
        for name in names {
            let dir = base.join(&name);
            let process = processes.remove(&dir);
            entries.extend(entry(dir, process));
        }
    }
    entries.extend(processes.into_iter().filter_map(|(dir, process)| entry(dir, Some(process))));
    entries.sort_by(|a, b| (a.user, &a.name, &a.directory).cmp(&(b.user, &b.name, &b.directory)));
    Ok(LabList(entries))
}

/// Directories of labs: this user's, and the default ones of others.
fn bases(own: PathBuf) -> Vec<PathBuf> {
    let below = |dir: &Path| fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let temporary = std::env::temp_dir();
    let of_users = below(Path::new("/run/user")).map(|dir| dir.join("plgw-lab"));
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("plgw-lab-"));
    let mut bases = vec![own, PathBuf::from("/run/plgw-lab")];
    bases.extend(of_users);
    // Links are not followed, as their owner controls the target.
    bases.extend(below(&temporary).filter(named).filter(|dir| fs::symlink_metadata(dir).is_ok_and(|dir| dir.is_dir())));
    bases.sort();
    bases.dedup();
    bases
}

/// The first processes of labs, by their lab's directory.
fn processes() -> BTreeMap<PathBuf, InitOfUser> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<&str> = line.split('\0').collect();
        let ["lab", "hold", dir] = words.get(1..4)? else { return None };
        let user = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        let started = record::started(pid)?;
        Some((PathBuf::from(dir), InitOfUser { pid, user, since: record::since(started) }))
    })
    .collect()
}

/// The lab in `dir`; `None` if there is neither a readable directory nor a process.
fn entry(dir: PathBuf, process: Option<InitOfUser>) -> Option<LabEntry> {
    let name = dir.file_name()?.to_string_lossy().into_owned();
    let owner = fs::symlink_metadata(&dir).ok().map(|found| found.uid());
    let is_own = owner == Some(rustix::process::geteuid().as_raw()) && files::check_dir(&dir).is_ok();
    let first = if is_own { InitProcess::read(&dir) } else { None };
    let state = match &process {
        Some(_) if !is_own => LabState::Up,
        None if !is_own => LabState::Died("none of its processes can be seen".to_owned()),
        _ => LabState::of(first.as_ref(), LabRecord::read(&dir).as_ref(), &dir),
    };
    let since = process.as_ref().and_then(|process| process.since).or_else(|| first.as_ref()?.since());
    let is_gone = matches!(state, LabState::Died(_)) && process.is_none();
    let since = since
        .filter(|_| !is_gone)
        .and_then(|since| OffsetDateTime::from_unix_timestamp(i64::try_from(since).ok()?).ok()?.format(&Rfc3339).ok());
    let pid = process.as_ref().map(|process| process.pid).or_else(|| Some(first.as_ref()?.pid).filter(|_| !is_gone));
    let user = owner.or_else(|| Some(process.as_ref()?.user))?;
    Some(LabEntry { name, user, state: state.into(), since, pid, directory: dir })
}

impl LabList {
    /// As a table or, with `as_json`, as JSON.
    pub(super) fn text(&self, as_json: bool) -> Result<String, LabError> {
        if as_json {
            let text = serde_json::to_string_pretty(&self.0);
            let text = text
                .map_err(|error| LabError::System { what: "show the labs as JSON".to_owned(), source: error.into() });
            return Ok(text? + "\n");
        }
        if self.0.is_empty() {
            return Ok("no lab is up; `plgw lab up` builds one\n".to_owned());
        }
        let mut out = format!("  {:<12} {:>5} {:<8} {:<20} DIRECTORY\n", "NAME", "USER", "STATE", "SINCE");
        for entry in &self.0 {
            let since = entry.since.as_deref().unwrap_or_default();
            let (name, user, state) = (&entry.name, entry.user, entry.state.state);
            let line = writeln!(out, "  {name:<12} {user:>5} {state:<8} {since:<20} {}", entry.directory.display());
            line.expect("a string takes all");
        }
        Ok(printable(&out))
    }
}
