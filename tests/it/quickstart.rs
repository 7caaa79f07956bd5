//! `plgw quickstart` from outside: it checks itself, leaves a running instance alone, and ends cleanly.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Child, Ran, Shift, plgw};

/// Every check that there is: one that is left out would pass unseen.
const CHECKS: [&str; 13] = [
    "targets",
    "hello",
    "balanced",
    "write-read",
    "standard-path",
    "dns-udp",
    "dns-tcp",
    "dns-views",
    "app-services",
    "one-way",
    "origin",
    "metrics",
    "readyz",
];

/// A2, A3, A9 to A13, A15 to A17, B1 to B3: each check names its numbers.
#[test]
fn quickstart_once_passes_every_check_and_exits_0() {
    let (shift, lab) = (Shift::claim(), lab());
    let ran = once(&shift, lab.path(), &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    for check in CHECKS {
        assert!(ran.out.lines().any(|line| line.starts_with(&format!("  ok      {check} "))), "{check}: {}", ran.out);
    }
    assert!(!ran.out.contains("FAILED"), "{}", ran.out);
    let target = ran.out.lines().find(|line| line.contains("Sharded0/lb")).expect("a line for every target");
    let words: Vec<&str> = target.split_whitespace().collect();
    assert_eq!((words[2], words.last()), ("1027", Some(&"healthy")), "{target}");
    assert!(ran.out.contains("      mongodb+srv://cluster0-pl-0-k45tj.mongodb.net\n"), "{}", ran.out);
    for file in ["ca.pem", "ca-key.pem", "state.json"] {
        assert!(lab.path().join(file).is_file(), "{file}");
    }
    assert!(ran.out.contains("\n  Cluster0 saw "), "what it carried: {}", ran.out);

    let again = once(&shift, lab.path(), &["--state-in-memory"]);
    assert_eq!((again.code, again.err.as_str()), (Some(0), ""), "with certificates that are there: {}", again.out);
}

/// A30: the same checks from within each cloud's network.
#[test]
fn with_clouds_every_check_passes_from_within_each_clouds_network() {
    let (shift, lab) = (Shift::claim(), lab());
    let ran = once(&shift, lab.path(), &["--clouds"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    for check in CHECKS {
        assert!(ran.out.lines().any(|line| line.starts_with(&format!("  ok      {check} "))), "{check}: {}", ran.out);
    }
    assert!(ran.out.contains("mongodb+srv://azure0-pl-0.uzgh6.mongodb.net\n"), "{}", ran.out);
    assert!(ran.out.contains("mongodb+srv://google0-psc-0.uzgh6.mongodb.net\n"), "{}", ran.out);
    assert!(ran.out.contains("\n  Azure0 saw ") && ran.out.contains("\n  Google0 saw "), "{}", ran.out);
}

#[test]
fn a_taken_address_is_one_line_that_names_it_and_the_flag_that_moves_it() {
    let (shift, lab) = (Shift::claim(), lab());
    let refused = |at: SocketAddr, flag: &str| {
        let ran = once(&shift, lab.path(), &[]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(69), ""), "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        let expected = ["plgw: cannot bind", &at.to_string(), "address already in use", flag];
        assert!(expected.iter().all(|part| ran.err.contains(part)), "{expected:?}: {}", ran.err);
    };
    let tcp = [
        (SocketAddr::from((shift.ip(0, 30, 194), 1025)), "`--shift N`"),
        (SocketAddr::from((shift.ip(1, 0, 12), 27017)), "`--shift N`"),
        (SocketAddr::from((shift.ip(9, 0, 11), 27017)), "`--shift N`"),
        (SocketAddr::from((shift.ip(0, 30, 196), 8443)), "`--shift N`"),
        (SocketAddr::from((shift.ip(0, 0, 1), 5335)), "`--dns ADDRESS:PORT`"),
        (SocketAddr::from((shift.ip(0, 0, 1), 9464)), "`--metrics ADDRESS:PORT`"),
        (SocketAddr::from((shift.ip(0, 0, 1), 8474)), "`--admin ADDRESS:PORT`"),
    ];
    for (address, flag) in tcp {
        let _held = TcpListener::bind(address).expect("free");
        refused(address, flag);
    }
    let dns = SocketAddr::from((shift.ip(0, 0, 1), 5335));
    let _held = UdpSocket::bind(dns).expect("free");
    refused(dns, "`--dns ADDRESS:PORT`");
    assert!(!lab.path().join("ca.pem").exists(), "nothing was made");
}

#[test]
fn a_second_quickstart_reports_the_taken_addresses_and_the_first_ends_cleanly_on_ctrl_c() {
    let (shift, lab, other) = (Shift::claim(), lab(), lab());
    let mut first = Running::start(&shift, lab.path());
    assert!(first.page.contains("\n  dig @"), "lines to copy: {}", first.page);
    assert!(first.page.contains(&format!("mongosh 'mongodb://{}:1024/", shift.ip(0, 30, 194))), "{}", first.page);

    let second = once(&shift, other.path(), &[]);
    assert_eq!(second.code, Some(69));
    assert_eq!(second.err.lines().count(), 1, "{}", second.err);
    assert!(
        second.err.contains("`--shift N`") && second.err.contains("more of its addresses are taken"),
        "{}",
        second.err
    );

    let rest = first.interrupt();
    assert!(rest.starts_with("Carried\n  "), "{rest}");
    for part in [" flows (", " to targets, ", " refused (", "\n  Cluster0 saw ", "\n  Sharded0 saw ", " inserted, "] {
        assert!(rest.contains(part), "{part} is not in {rest}");
    }
}

/// C3.
#[test]
fn a_command_runs_beside_it_with_its_addresses_in_the_environment_and_its_exit_code_is_passed_on() {
    let (shift, lab) = (Shift::claim(), lab());
    let run = |script: &str| {
        let mut command = plgw(["quickstart", "--shift", &shift.text(), "--lab-dir"]);
        Ran::from(command.arg(lab.path()).args(["--", "sh", "-c", script]).output().expect("the binary runs"))
    };
    // The operator's commands read the address from the environment.
    let script = format!(
        "{} status --ready && head -1 $PLGW_CA && echo $PLGW_DNS $PLGW_URI; exit 7",
        env!("CARGO_BIN_EXE_plgw")
    );
    let ran = run(&script);
    assert_eq!(ran.code, Some(7), "{} {}", ran.out, ran.err);
    let lines: Vec<&str> = ran.out.lines().collect();
    let ["-----BEGIN CERTIFICATE-----", addresses] = lines[..] else { panic!("{} {}", ran.out, ran.err) };
    assert!(addresses.ends_with(":5335 mongodb+srv://cluster0-pl-0-k45tj.mongodb.net"), "{addresses}");
    assert_eq!(run("exec no-such-command").code, Some(127));
    assert_eq!(run("kill -TERM $$").code, Some(128 + 15));
}

/// C3: what cannot be started has a shell's exit codes too, and says so; a command has the quickstart's own standard input, and
/// the quickstart waits for the command alone, not for what it left running.
#[test]
fn a_command_reads_standard_input_and_one_that_cannot_start_is_named() {
    let (shift, lab) = (Shift::claim(), lab());
    let command = |words: &[&str]| {
        let mut command = plgw(["quickstart", "--shift", &shift.text(), "--lab-dir"]);
        command.arg(lab.path()).arg("--").args(words);
        command
    };
    for (word, code) in [("no-such-command", 127), ("/etc/passwd", 126)] {
        let ran = Ran::from(command(&[word]).output().expect("the binary runs"));
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{}", ran.err);
        assert!(ran.err.starts_with(&format!("plgw: cannot run `{word}`: ")), "{}", ran.err);
    }
    let script = "cat; sleep 1000 >/dev/null 2>&1 & echo $!; exit 3";
    let mut child =
        command(&["sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), b"a line\n").expect("it reads");
    let ran = Ran::from(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, Some(3), "{}", ran.out);
    let left = ran.out.strip_prefix("a line\n").and_then(|rest| rest.trim().parse().ok()).and_then(Pid::from_raw);
    kill_process(left.unwrap_or_else(|| panic!("{}", ran.out)), Signal::KILL).expect("it is left alone");
}

/// C3: a quickstart that is killed leaves no lock and no address behind: the next one starts on its networks and its directory.
#[test]
fn after_a_kill_another_one_starts_at_once() {
    let (shift, lab) = (Shift::claim(), lab());
    let mut killed = Running::start(&shift, lab.path());
    killed.child.0.kill().expect("it runs");
    killed.child.0.wait().expect("it ends");
    let next = once(&shift, lab.path(), &[]);
    assert_eq!((next.code, next.err.as_str()), (Some(0), ""), "{}", next.out);
}

/// A quickstart that runs.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    /// Its output until it was ready.
    page: String,
}

impl Running {
    /// Starts one, and waits until it reports that it is ready.
    fn start(shift: &Shift, lab: &Path) -> Self {
        let mut command = plgw(["quickstart", "--shift", &shift.text(), "--lab-dir"]);
        let mut child = Child::of(command.arg(lab).stdout(Stdio::piped()));
        let mut out = BufReader::new(child.0.stdout.take().expect("piped"));
        let mut page = String::new();
        while !page.contains("\nRunning. ") {
            let read = out.read_line(&mut page).expect("readable");
            assert!(read > 0, "it ended: {page}");
        }
        Self { child, out, page }
    }

    /// Sends Ctrl-C and returns the rest of the output. It must exit 0.
    fn interrupt(&mut self) -> String {
        let pid = Pid::from_child(&self.child.0);
        kill_process(pid, Signal::INT).expect("it runs");
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("readable");
        let status = self.child.0.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{rest}");
        rest
    }
}

fn once(shift: &Shift, lab: &Path, more: &[&str]) -> Ran {
    let mut command = plgw(["quickstart", "--once", "--shift", &shift.text(), "--lab-dir"]);
    Ran::from(command.arg(lab).args(more).output().expect("the binary runs"))
}

fn lab() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}
