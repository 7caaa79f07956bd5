//! The state file after `kill -9`: every acknowledged commit is there, none is torn.
//!
//! A child process (this test binary again) commits as fast as it can and prints each revision once it is acknowledged.
//! The parent kills it after a random number of lines, at a random moment of the next commit, and opens the file.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plgw::control::store::{ExpectedRevision, FileStore, OpenError, StateKey, StateStore, Txn};

/// How often the child is killed, unless the environment variable [`KILLS`] is set.
const ROUNDS: u64 = 40;

/// For a long run.
const KILLS: &str = "PLGW_TEST_KILLS";

/// Names the state file to the child.
const STATE_FILE: &str = "PLGW_TEST_STATE_FILE";

#[tokio::test]
async fn nothing_acknowledged_is_lost_or_torn_by_kill_9() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state/state.json");
    let mut random = Random::new();
    let seed = random.0;
    let rounds = std::env::var(KILLS).map_or(ROUNDS, |kills| kills.parse().expect("a number"));
    let mut acknowledged = 0;
    for round in 0..rounds {
        // Every tenth round at once: the first of them hits the creation of the file.
        let wanted = if round % 10 == 0 { 0 } else { 1 + random.below(30) };
        acknowledged = run_and_kill(&path, wanted, random.below(200_000), acknowledged);

        let store = FileStore::open(&path).await.unwrap_or_else(|error| {
            panic!("round {round} of seed {seed:#x}: {error}");
        });
        let range = store.range("").await.expect("the entries");
        let revision = range.revision.0;
        assert!(
            (acknowledged..=acknowledged + 1).contains(&revision),
            "round {round} of seed {seed:#x}: {acknowledged} was acknowledged, {revision} is there"
        );
        let found: BTreeMap<_, _> =
            range.entries.into_iter().map(|e| (e.key.as_str().to_owned(), (e.value.to_vec(), e.revision.0))).collect();
        assert_eq!(found, expected_at(revision), "round {round} of seed {seed:#x}");
        acknowledged = revision;
    }
    assert!(acknowledged > rounds * 5, "the child got too little done to show anything: {acknowledged}");
}

#[tokio::test]
async fn a_file_that_another_process_holds_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.json");
    let mut child = spawn_child(&path);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let acknowledged = lines.by_ref().find(|line| line.as_ref().is_ok_and(|line| line.starts_with("ack ")));
    assert!(acknowledged.is_some(), "the child ended by itself");
    let error = FileStore::open(&path).await.expect_err("the child holds it");
    child.kill().expect("a running child");
    child.wait().expect("an ended child");
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    FileStore::open(&path).await.expect("free again: the kernel gave the lock back");
}

/// Not a test: the tests above run it as a child process.
#[test]
#[ignore = "run by the tests of this file, as a child process"]
fn child_that_commits_until_it_is_killed() {
    let Some(path) = std::env::var_os(STATE_FILE).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let store = FileStore::open(path).await.expect("the state file");
        let mut out = std::io::stdout();
        let mut revision = store.range("").await.expect("the entries").revision.0;
        loop {
            let acknowledged = store.commit(change(revision + 1, revision)).await.expect("a commit").0;
            assert_eq!(acknowledged, revision + 1);
            revision = acknowledged;
            writeln!(out, "ack {revision}").and_then(|()| out.flush()).expect("the parent reads");
        }
    });
}

/// The change that revision `next` is: a counter with compare-and-swap, two keys that must always agree, one port of
/// seventeen, and every fifth time a key that goes again with the next.
fn change(next: u64, last: u64) -> Txn {
    let key = |text: &str| text.parse::<StateKey>().expect("a key");
    let expected = match last {
        0 => ExpectedRevision::Absent,
        last => ExpectedRevision::At(plgw::control::store::Revision(last)),
    };
    let txn = Txn::new()
        .compare(key("counter"), expected)
        .put(key("counter"), next.to_string())
        .put(key("pair/a"), value(next))
        .put(key("pair/z"), value(next))
        .put(key(&format!("ports/{}", next % 17)), value(next));
    match next % 5 {
        0 => txn.put(key("passing"), next.to_string()),
        1 => txn.delete(key("passing")),
        _ => txn,
    }
}

/// A value with bytes and length that identify the revision that wrote it.
fn value(revision: u64) -> Vec<u8> {
    revision.to_string().into_bytes().repeat(1 + revision as usize % 23)
}

/// Everything that is there at `revision`, worked out from [`change`] alone.
fn expected_at(revision: u64) -> BTreeMap<String, (Vec<u8>, u64)> {
    let mut entries = BTreeMap::new();
    for revision in 1..=revision {
        let txn = change(revision, revision - 1);
        for (key, value) in txn.puts {
            entries.insert(key.as_str().to_owned(), (value.to_vec(), revision));
        }
        for key in txn.deletes {
            entries.remove(key.as_str());
        }
    }
    entries
}

/// Runs the child until `wanted` acknowledgements were read, lets `spins` pass, kills it, and returns the last revision
/// that it acknowledged; `before` when there was none.
fn run_and_kill(path: &Path, wanted: u64, spins: u64, before: u64) -> u64 {
    let mut child = spawn_child(path);
    let mut acknowledgements = BufReader::new(child.stdout.take().expect("a pipe"))
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("ack ")?.parse::<u64>().ok());
    let mut last = before;
    for _ in 0..wanted {
        last = acknowledgements.next().expect("the child commits until it is killed");
    }
    for _ in 0..spins {
        std::hint::spin_loop();
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("an ended child");
    // The output from before its death is still in the pipe.
    acknowledgements.last().unwrap_or(last)
}

fn spawn_child(path: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "store::child_that_commits_until_it_is_killed", "--ignored", "--nocapture"])
        .env(STATE_FILE, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child process")
}

/// A xorshift generator; its first state is printed when a round fails.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(RandomState::new().hash_one(0) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
