//! Nothing is left on the host, however a lab ended.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::support::{Labs, eventually, processes_with, text};
use crate::support::skip;

/// Namespaces that processes are in or hold open, as `net:[4026531833]`, of processes that this user may inspect.
fn namespaces() -> BTreeSet<String> {
    let links = |dir: String| std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let pids = links("/proc".to_owned()).filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let dirs = pids.flat_map(|pid| [format!("/proc/{pid}/ns"), format!("/proc/{pid}/fd")]);
    let targets = dirs
        .flat_map(links)
        .filter_map(|entry| std::fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok());
    targets.filter(|target| target.starts_with("net:[") || target.starts_with("mnt:[")).collect()
}

/// Namespaces of the processes of a lab, and those that they hold.
fn namespaces_of(labs: &Labs) -> BTreeSet<String> {
    let host: BTreeSet<String> = ["net", "mnt"]
        .into_iter()
        .filter_map(|kind| {
            std::fs::read_link(format!("/proc/self/ns/{kind}")).ok()?.into_os_string().into_string().ok()
        })
        .collect();
    let mut found = BTreeSet::new();
    for (pid, _) in processes_with(&labs.base()) {
        for dir in [format!("/proc/{pid}/ns"), format!("/proc/{pid}/fd")] {
            for entry in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
                let target = std::fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
                if target.starts_with("net:[") || target.starts_with("mnt:[") {
                    found.insert(target);
                }
            }
        }
    }
    &found - &host
}

fn interfaces() -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/self/net/dev").expect("/proc/net/dev");
    table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// Mounts at `dir` and below, and mounts of the namespaces `theirs`. Others of the machine, as Docker and `ip netns` have
/// them, are not the lab's.
fn mounts_of(dir: &Path, theirs: &BTreeSet<String>) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    // The fourth field of a namespace's mount is its name, `net:[4026531833]`. Source: proc_pid_mountinfo(5).
    let is_theirs = |line: &&str| {
        line.contains(dir.to_str().expect("UTF-8"))
            || line.contains(" - nsfs ") && line.split(' ').nth(3).is_some_and(|root| theirs.contains(root))
    };
    table.lines().filter(is_theirs).map(str::to_owned).collect()
}

fn nothing_is_left(labs: &Labs, theirs: &BTreeSet<String>) {
    eventually("every process of the lab is gone", || processes_with(&labs.base()).is_empty());
    assert!(!labs.base().exists(), "files are left in {}", labs.base().display());
    let left: Vec<String> = namespaces().intersection(theirs).cloned().collect();
    assert_eq!(left, Vec::<String>::new(), "namespaces are left");
    assert_eq!(mounts_of(&labs.base(), theirs), Vec::<String>::new(), "mounts are left");
}

#[test]
fn twenty_labs_in_a_row_leave_nothing() {
    let before = interfaces();
    let labs = Labs::alone();
    for round in 0..20 {
        let began = Instant::now();
        if labs.up(&[]).is_none() {
            return;
        }
        // Said, and not asserted: a busy machine is no defect.
        println!("round {round}: up took {:?}", began.elapsed());
        let theirs = namespaces_of(&labs);
        assert!(theirs.len() >= 18, "nine hosts with a network and mounts each are seen: {theirs:?}");
        labs.told(&["down"]);
        nothing_is_left(&labs, &theirs);
    }
    assert_eq!(interfaces(), before);
}

#[test]
fn a_lab_that_lost_any_process_is_listed_as_died_and_cleaned_up_by_the_next_up_or_down() {
    let labs = Labs::alone();
    // Its nodes are looked for on this machine's network, where none is.
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/scenarios/lab.toml");
    let with_backends = ["--config", config];
    for (process, options) in [
        (" lab hold ", &[][..]),
        (" lab process gateway ", &[]),
        (" lab process stand-ins ", &[]),
        (" lab process backends ", &with_backends),
    ] {
        for next in ["up", "down"] {
            if labs.up(options).is_none() {
                return;
            }
            let theirs = namespaces_of(&labs);
            let processes = processes_with(&labs.base());
            let (pid, _) = processes.iter().find(|(_, line)| line.contains(process)).expect("it runs");
            kill_process(Pid::from_raw(*pid).expect("a pid"), Signal::KILL).expect("it is ours");
            eventually("status says that the lab has died", || {
                let status = labs.run(&["status"]);
                !status.status.success() && text(&status.stdout).contains("has died")
            });
            let dir = labs.dir("default");
            let is_listed = |state: &str| {
                let list = labs.told(&["list"]);
                list.lines().any(|line| line.contains(state) && line.contains(dir.to_str().expect("UTF-8")))
            };
            assert!(is_listed(" died "), "{process}");
            if next == "up" {
                labs.up(&[]).expect("it came up before");
                labs.told(&["run", "--", "true"]);
                let now = processes_with(&labs.base());
                assert!(now.iter().all(|process| !processes.contains(process)), "the new lab is wholly new: {now:?}");
            }
            let theirs = &theirs | &namespaces_of(&labs);
            labs.told(&["down"]);
            nothing_is_left(&labs, &theirs);
            assert!(!is_listed(""), "{process}");
        }
    }
}

#[test]
fn an_interrupted_up_is_cleaned_up_by_the_next_down() {
    let labs = Labs::alone();
    if labs.up(&[]).is_none() {
        return;
    }
    labs.told(&["down"]);
    for delay in [5, 20, 40, 60, 80, 100, 130, 160, 200, 300] {
        let mut up = labs.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        // Not waited for in vain: whatever it has done by then, it is ended.
        std::thread::park_timeout(Duration::from_millis(delay));
        up.kill().expect("it is ours");
        up.wait().expect("it ends");
        let theirs = namespaces_of(&labs);
        labs.told(&["down"]);
        nothing_is_left(&labs, &theirs);
    }
}

#[test]
fn a_lab_whose_directory_was_removed_by_hand_ends_by_itself() {
    let labs = Labs::alone();
    if labs.up(&[]).is_none() {
        return;
    }
    let theirs = namespaces_of(&labs);
    std::fs::remove_dir_all(labs.base()).expect("it is there");
    nothing_is_left(&labs, &theirs);
}

#[test]
fn a_lab_whose_directory_was_removed_and_created_again_ends_too() {
    let labs = Labs::alone();
    if labs.up(&[]).is_none() {
        return;
    }
    let (old, theirs) = (processes_with(&labs.base()), namespaces_of(&labs));
    std::fs::remove_dir_all(labs.base()).expect("it is there");
    labs.up(&[]).expect("it came up before");
    eventually("the first lab ends, which no record leads to", || {
        processes_with(&labs.base()).iter().all(|process| !old.contains(process))
    });
    labs.told(&["run", "--", "true"]);
    let theirs = &theirs | &namespaces_of(&labs);
    labs.told(&["down"]);
    nothing_is_left(&labs, &theirs);
}

#[test]
fn a_failed_up_leaves_nothing() {
    let labs = Labs::alone();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lab.toml");
    // No host of the lab has this address.
    let text = format!("{}\n[metrics]\nlisten = \"203.0.113.250:9464\"\n", plgw::lab::DEFAULT_CONFIG);
    std::fs::write(&file, text).expect("a file");
    let failed = labs.run(&["up", "--stand-ins", "--config", file.to_str().expect("UTF-8")]);
    let said = super::support::text(&failed.stderr);
    if said.contains("cannot make network namespaces") {
        return skip(&said);
    }
    assert!(!failed.status.success() && said.contains("203.0.113.250:9464"), "{said}");
    nothing_is_left(&labs, &BTreeSet::new());
}

#[test]
fn an_unprivileged_user_has_a_lab_too() {
    /// `nobody`.
    const USER: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        // The user who runs this is unprivileged: every other test here shows it.
        return;
    }
    let labs = Labs::alone();
    let home = labs.base().parent().expect("a directory").to_owned();
    std::os::unix::fs::chown(&home, Some(USER), Some(USER)).expect("root may");
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).expect("root may");
    let as_user = |arguments: &[&str]| {
        let mut command = labs.command(arguments);
        // `uid` drops the groups of root as well.
        command.uid(USER).gid(USER).current_dir("/");
        command.output()
    };
    let up = match as_user(&["up"]) {
        Ok(output) => output,
        Err(error) => return skip(&format!("an unprivileged user cannot run the test's binary: {error}")),
    };
    let said = text(&up.stderr);
    if said.contains("cannot make network namespaces") {
        return skip(&said);
    }
    assert!(up.status.success(), "{said}");
    let run = |command: &str| text(&as_user(&["run", "--", "sh", "-c", command]).expect("it runs").stdout);
    assert_eq!(run("id -u"), "0\n", "who made the lab is root in it");
    assert!(run("cat /etc/resolv.conf").contains("nameserver 10.0.0.2"));
    let plgw = env!("CARGO_BIN_EXE_plgw");
    let inside = as_user(&["run", "--at", "peer", "--", plgw, "status", "--check"]).expect("it runs");
    assert!(inside.status.success(), "{}", text(&inside.stderr));
    let again =
        as_user(&["run", "--", plgw, "lab", "run", "--at", "peer", "--", "printenv", "PLGW_HOST"]).expect("it runs");
    assert_eq!(text(&again.stdout), "peer\n", "{}", text(&again.stderr));
    let mut outside = std::process::Command::new(plgw);
    outside.args(["targets", "--lab", "default"]).env(plgw::lab::DIR_VARIABLE, labs.base()).uid(USER).gid(USER);
    let outside = outside.output().expect("it runs");
    assert!(text(&outside.stdout).contains("Cluster0/shard-00-00"), "{}", text(&outside.stderr));
    assert!(as_user(&["cut", "us-east-1a"]).expect("it runs").status.success());
    let theirs = namespaces_of(&labs);
    assert!(as_user(&["down"]).expect("it runs").status.success());
    nothing_is_left(&labs, &theirs);
}
