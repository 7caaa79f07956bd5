//! A lab of a test's own, and sockets inside it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use plgw::lab::{DIR_VARIABLE, Host};
use rustix::fs::FlockOperation;

use crate::support::skip;

/// How long anything may take that ought to happen at once. Generous: machines are busy; nothing passes by waiting.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// How long a test listens to silence before it believes in it.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// Where the replica set's first node is in zone a.
pub(super) const ENI_A: Ipv4Addr = Ipv4Addr::new(10, 0, 30, 194);
/// And in zone b.
pub(super) const ENI_B: Ipv4Addr = Ipv4Addr::new(10, 0, 20, 54);
/// Where the admin API is in every lab.
pub(super) const ADMIN: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 0, 2), 8474);
/// The VPC's resolver.
pub(super) const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The directory of all labs of one test, and the labs in it. They end with it.
pub(super) struct Labs {
    dir: tempfile::TempDir,
    /// Held as long as it is open.
    _turn: File,
}

impl Labs {
    /// A directory for labs, beside those of other tests.
    pub(super) fn new() -> Self {
        Self::in_turn(FlockOperation::LockShared)
    }

    /// A directory for labs, while no other test on this machine has one: the kernel gives a namespace's number to
    /// another one as soon as it is free, so a test that looks for leftovers by number must run alone.
    pub(super) fn alone() -> Self {
        Self::in_turn(FlockOperation::LockExclusive)
    }

    fn in_turn(turn: FlockOperation) -> Self {
        let lock = File::create(concat!(env!("CARGO_TARGET_TMPDIR"), "/lab.lock")).expect("a file");
        rustix::fs::flock(&lock, turn).expect("a lock");
        Self { dir: tempfile::tempdir().expect("a directory"), _turn: lock }
    }

    /// The directory of all labs.
    pub(super) fn base(&self) -> PathBuf {
        self.dir.path().join("labs")
    }

    /// The directory of the lab `name`.
    pub(super) fn dir(&self, name: &str) -> PathBuf {
        self.base().join(name)
    }

    /// `plgw lab …`.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plgw"));
        command.arg("lab").args(arguments).env(DIR_VARIABLE, self.base());
        command
    }

    /// Runs `plgw lab …` to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }

    /// Runs it, expects success, and returns its output.
    pub(super) fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "plgw lab {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Builds a lab; `None`, having said why, where there are no namespaces.
    pub(super) fn up(&self, more: &[&str]) -> Option<String> {
        let arguments: Vec<&str> = ["up"].iter().chain(more).copied().collect();
        let output = self.run(&arguments);
        let said = text(&output.stderr);
        if said.contains("cannot make network namespaces") {
            skip(&said);
            return None;
        }
        assert!(output.status.success(), "plgw lab up: {said}");
        Some(text(&output.stdout))
    }
}

impl Drop for Labs {
    fn drop(&mut self) {
        let _ = self.run(&["down", "--all"]);
    }
}

/// One lab that is up, for tests that put sockets into it.
pub(super) struct TestLab {
    pub(super) labs: Labs,
}

impl TestLab {
    /// A lab that is built with these arguments; `None`, having said why, where it cannot be had.
    pub(super) fn up_with(arguments: &[&str]) -> Option<Self> {
        let labs = Self::labs()?;
        labs.up(arguments)?;
        Some(Self { labs })
    }

    fn labs() -> Option<Labs> {
        if !rustix::process::geteuid().is_root() {
            skip("only root can put sockets of a running test into another network namespace");
            return None;
        }
        Some(Labs::new())
    }

    /// A lab of the documentation's network; `None`, having said why, where it cannot be had.
    pub(super) fn up() -> Option<Self> {
        let labs = Self::labs()?;
        // The documentation's network, with a port that closes soon after it moved.
        let file = labs.dir.path().join("lab.toml");
        std::fs::write(&file, format!("move_grace = \"1s\"\n{}", plgw::lab::DEFAULT_CONFIG)).expect("a directory");
        labs.up(&["--config", file.to_str().expect("UTF-8"), "--stand-ins"])?;
        Some(Self { labs })
    }

    /// Its directory.
    pub(super) fn dir(&self) -> PathBuf {
        self.labs.dir("default")
    }

    /// Does `work` on a thread that is at `host`: its sockets have the host's addresses and routes, and keep them.
    pub(super) fn at<T: Send>(&self, host: Host, work: impl FnOnce() -> T + Send) -> T {
        let network = plgw::lab::network(&self.dir(), host).expect("the host is there");
        let enter = || {
            setns(&network, CloneFlags::CLONE_NEWNET).expect("root may enter");
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    /// A connection from `host`; the error is what connecting came to within [`SILENCE`].
    pub(super) fn connect(&self, host: Host, to: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
        let to = to.into();
        self.at(host, || TcpStream::connect_timeout(&to, SILENCE))
    }

    /// Whether a stand-in node answers `hello` through `to`: `Ok` when it does, else what came instead.
    pub(super) fn hello(&self, host: Host, to: impl Into<SocketAddr>) -> std::io::Result<()> {
        let mut stream = self.connect(host, to)?;
        stream.set_read_timeout(Some(SILENCE))?;
        // A TLS ClientHello's first bytes that no server takes: the stand-in answers with an alert, so a byte comes back.
        stream.write_all(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00")?;
        stream.read_exact(&mut [0])
    }

    /// The sum of the series of a metric that have every one of `labels`; `None` when there is none.
    pub(super) fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        crate::support::metric(&self.metrics(), name, labels)
    }

    /// The text of `/metrics`, which is served in the gateway's own namespace alone.
    pub(super) fn metrics(&self) -> String {
        self.at(Host::Gateway, || {
            let mut stream = TcpStream::connect(("127.0.0.1", 9464)).expect("metrics are served");
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("a request");
            let mut page = String::new();
            stream.read_to_string(&mut page).expect("a page");
            page
        })
    }

    /// The JSON answer of an operator's command on the gateway's host.
    pub(super) fn operator(&self, words: &[&str]) -> serde_json::Value {
        let command = [&["run", "--at", "gateway", "--", env!("CARGO_BIN_EXE_plgw")], words, &["--output", "json"]];
        let said = self.labs.told(&command.concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{words:?}: {error}: {said}"))
    }

    /// Changes the gateway's config while it runs.
    pub(super) fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.dir().join("gateway.toml");
        let before = std::fs::read_to_string(&path).expect("the config");
        let after = change(before.clone());
        assert_ne!(before, after, "the edit changes something");
        let new = path.with_extension("new");
        std::fs::write(&new, after).expect("the directory is writable");
        std::fs::rename(&new, &path).expect("the directory is writable");
    }
}

/// Waits until `condition` holds, looking every 20 ms.
pub(super) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = tokio::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Processes with `part` in their command line.
pub(super) fn processes_with(part: &Path) -> Vec<(i32, String)> {
    let part = part.to_str().expect("UTF-8");
    let entries = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (line.contains(part) && line.contains(" lab ")).then_some((pid, line))
    })
    .collect()
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
