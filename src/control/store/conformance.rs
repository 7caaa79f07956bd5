//! Tests that every implementation of [`StateStore`] must pass.
//!
//! The tests allow for stores with other writers, like etcd: revisions have gaps and do not begin at 0.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use proptest::prelude::*;

use super::{
    Entry, ExpectedRevision, FileStore, MAXIMUM_COMMIT_BYTES, MAXIMUM_COMMIT_OPERATIONS, MemoryStore, Revision,
    StateKey, StateStore, StoreError, Txn,
};

/// Runs `$test` as a separate test against every implementation.
macro_rules! for_every_adapter {
    ($($name:ident => $test:ident;)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$test(std::sync::Arc::new(super::MemoryStore::new())).await;
            })*
        }
        mod memory_with_gaps {
            $(#[tokio::test]
            async fn $name() {
                super::$test(std::sync::Arc::new(super::MemoryStore::with_gaps())).await;
            })*
        }
        mod file {
            $(#[tokio::test]
            async fn $name() {
                let directory = tempfile::tempdir().unwrap();
                let store = super::FileStore::open(directory.path().join("state.json")).await.unwrap();
                super::$test(std::sync::Arc::new(store)).await;
            })*
        }
        #[cfg(feature = "etcd")]
        mod etcd {
            $(#[tokio::test]
            async fn $name() {
                if let Some((store, _alone)) = crate::control::store::etcd_tests::store_alone().await {
                    super::$test(std::sync::Arc::new(store)).await;
                }
            })*
        }
    };
}

for_every_adapter! {
    revisions_grow_with_commits_that_change_something => revisions;
    a_compare_that_does_not_hold_changes_nothing => conflicts;
    a_transaction_is_all_or_nothing_and_touches_a_key_once => transactions;
    a_transaction_has_128_operations_at_most => operations;
    a_range_is_in_order_of_key_and_ends_with_its_prefix => ranges;
    parallel_writers_that_retry_lose_nothing => parallel_writers;
}

fn key(text: &str) -> StateKey {
    text.parse().unwrap()
}

async fn put(store: &dyn StateStore, name: &str, value: &str) -> Revision {
    store.commit(Txn::new().put(key(name), value.to_owned())).await.expect("a commit")
}

async fn revision(store: &dyn StateStore) -> Revision {
    store.range("").await.unwrap().revision
}

async fn get(store: &dyn StateStore, name: &str) -> Option<Entry> {
    store.range(name).await.unwrap().entries.into_iter().find(|entry| entry.key.as_str() == name)
}

async fn revisions(store: Arc<dyn StateStore>) {
    let new = revision(&*store).await;
    let first = put(&*store, "a", "1").await;
    let second = put(&*store, "a", "1").await;
    assert!(new < first && first < second, "the same value again is a commit");
    assert_eq!(store.commit(Txn::new()).await.unwrap(), second);
    assert_eq!(store.commit(Txn::new().delete(key("missing"))).await.unwrap(), second);
    let third = store.commit(Txn::new().delete(key("a"))).await.unwrap();
    assert!(second < third);
    assert_eq!(revision(&*store).await, third);
    assert_eq!(get(&*store, "a").await, None);
    let fourth = put(&*store, "b", "1").await;
    assert_eq!(get(&*store, "b").await.unwrap().revision, fourth);
}

async fn conflicts(store: Arc<dyn StateStore>) {
    let first = put(&*store, "a", "1").await;
    let second = put(&*store, "a", "2").await;
    for (name, expected, found) in [
        ("a", ExpectedRevision::Absent, Some(second)),
        ("a", ExpectedRevision::At(first), Some(second)),
        ("b", ExpectedRevision::At(first), None),
    ] {
        let txn = Txn::new().compare(key("c"), ExpectedRevision::Absent).compare(key(name), expected);
        let error = store.commit(txn.put(key("c"), "3").delete(key("a"))).await.expect_err("a conflict");
        let StoreError::Conflict { key: at, expected: was_expected, found: was_found } = error else {
            panic!("{error:?}")
        };
        assert_eq!((at, was_expected, was_found), (key(name), expected, found));
    }
    let range = store.range("").await.unwrap();
    assert_eq!((range.entries.len(), range.revision), (1, second));
    let holds = Txn::new().compare(key("a"), ExpectedRevision::At(second)).compare(key("b"), ExpectedRevision::Absent);
    assert!(store.commit(holds.put(key("b"), "3")).await.unwrap() > second);
}

async fn transactions(store: Arc<dyn StateStore>) {
    put(&*store, "old", "1").await;
    let txn = Txn::new().put(key("new/a"), "1").put(key("new/b"), "2").delete(key("old"));
    let revision = store.commit(txn).await.unwrap();
    let range = store.range("").await.unwrap();
    assert_eq!(range.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["new/a", "new/b"]);
    assert!(range.entries.iter().all(|e| e.revision == revision));

    let twice = Txn::new().put(key("new/a"), "2").delete(key("new/a"));
    let error = store.commit(twice).await.expect_err("a key twice");
    assert!(error.to_string().contains("twice"), "{error}");
    let large = Txn::new().put(key("new/c"), vec![0; MAXIMUM_COMMIT_BYTES]);
    let error = store.commit(large).await.expect_err("too large");
    assert!(error.to_string().contains("bytes of keys and values"), "{error}");
    assert_eq!(store.range("").await.unwrap(), range);
}

async fn operations(store: Arc<dyn StateStore>) {
    let keys = || (0..).map(|n| key(&format!("k/{n}")));
    let all = || Txn {
        compares: keys().map(|key| (key, ExpectedRevision::Absent)).take(MAXIMUM_COMMIT_OPERATIONS).collect(),
        puts: keys().map(|key| (key, Bytes::from("1"))).take(MAXIMUM_COMMIT_OPERATIONS).collect(),
        deletes: Vec::new(),
    };
    let too_many = MAXIMUM_COMMIT_OPERATIONS + 1;
    for txn in [all().delete(key("x")), all().put(key("x"), "1"), all().compare(key("x"), ExpectedRevision::Absent)] {
        let error = store.commit(txn).await.expect_err("too many");
        assert!(error.to_string().contains(&format!("{too_many} operations")), "{error}");
    }
    assert!(store.range("").await.unwrap().entries.is_empty());
    store.commit(all()).await.expect("as many as there may be");
    assert_eq!(store.range("").await.unwrap().entries.len(), MAXIMUM_COMMIT_OPERATIONS);
}

async fn ranges(store: Arc<dyn StateStore>) {
    for name in ["ports/b", "ports/a", "ports/a/x", "portsmouth", "port", "ports/ä"] {
        put(&*store, name, name).await;
    }
    let names = async |prefix: &str| {
        let entries = store.range(prefix).await.unwrap().entries;
        entries.into_iter().map(|e| e.key.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("ports/").await, ["ports/a", "ports/a/x", "ports/b", "ports/ä"]);
    assert_eq!(names("").await, ["port", "ports/a", "ports/a/x", "ports/b", "ports/ä", "portsmouth"]);
    assert!(names("q").await.is_empty());
}

/// Only one process changes a file, so its store has no items; `etcd_tests` tests etcd's.
#[tokio::test]
async fn later_changes_have_an_item() {
    let store = MemoryStore::new();
    put(&store, "a", "1").await;
    let mut changes = store.changes("a").await.unwrap();
    assert_eq!(changes.next().now_or_never(), None, "an earlier change");
    put(&store, "a", "2").await;
    put(&store, "a", "3").await;
    assert_eq!(changes.next().await, Some(()));
    drop(store);
    assert_eq!(changes.next().await, None);
}

async fn parallel_writers(store: Arc<dyn StateStore>) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..100 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            loop {
                let found = get(&*store, "counter").await;
                let (count, expected) = found.map_or((0, ExpectedRevision::Absent), |entry| {
                    let count = std::str::from_utf8(&entry.value).unwrap().parse::<u32>().unwrap();
                    (count, ExpectedRevision::At(entry.revision))
                });
                let txn = Txn::new()
                    .compare(key("counter"), expected)
                    .put(key("counter"), (count + 1).to_string())
                    .put(key(&format!("writers/{writer}")), count.to_string());
                match store.commit(txn).await {
                    Ok(_) => return count,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    let taken: BTreeSet<u32> = writers.join_all().await.into_iter().collect();
    assert_eq!(taken, (0..100).collect(), "each writer counted once, from what the one before it wrote");
    assert_eq!(get(&*store, "counter").await.unwrap().value, "100");
    assert_eq!(store.range("writers/").await.unwrap().entries.len(), 100);
}

/// One step of a random run.
#[derive(Debug, Clone)]
enum StoreStep {
    Commit { puts: BTreeMap<u8, u8>, deletes: BTreeSet<u8>, compare: Option<(u8, Compare)> },
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum Compare {
    Right,
    Absent,
    At(u64),
}

fn step() -> impl Strategy<Value = StoreStep> {
    let compare = prop_oneof![Just(Compare::Right), Just(Compare::Absent), (0u64..40).prop_map(Compare::At)];
    let commit = (
        proptest::collection::btree_map(0u8..8, any::<u8>(), 0..4),
        proptest::collection::btree_set(0u8..8, 0..3),
        proptest::option::of((0u8..8, compare)),
    )
        .prop_map(|(puts, deletes, compare)| StoreStep::Commit { puts, deletes, compare });
    prop_oneof![9 => commit, 1 => Just(StoreStep::Reopen)]
}

/// Runs `steps` against a store and a simple model of it, and compares them after each.
async fn follows_the_model(
    steps: Vec<StoreStep>,
    open: impl AsyncFn(Option<Arc<dyn StateStore>>) -> Arc<dyn StateStore>,
) {
    let mut store = open(None).await;
    let mut model: BTreeMap<StateKey, (Vec<u8>, Revision)> = BTreeMap::new();
    let mut revision = revision(&*store).await;
    let name = |i: u8| key(&format!("k/{i}"));
    for step in steps {
        let StoreStep::Commit { puts, mut deletes, compare } = step else {
            store = open(Some(store)).await;
            continue;
        };
        deletes.retain(|i| !puts.contains_key(i));
        let mut txn = Txn::new();
        let mut holds = true;
        if let Some((i, compare)) = compare {
            let found = model.get(&name(i)).map(|(_, revision)| *revision);
            let expected = match compare {
                Compare::Right => found.map_or(ExpectedRevision::Absent, ExpectedRevision::At),
                Compare::Absent => ExpectedRevision::Absent,
                Compare::At(revision) => ExpectedRevision::At(Revision(revision)),
            };
            holds = expected == found.map_or(ExpectedRevision::Absent, ExpectedRevision::At);
            txn = txn.compare(name(i), expected);
        }
        for (i, value) in &puts {
            txn = txn.put(name(*i), vec![*value; usize::from(*value)]);
        }
        for i in &deletes {
            txn = txn.delete(name(*i));
        }
        let outcome = store.commit(txn).await;
        if holds {
            let found = outcome.expect("the compare holds");
            let changes = !puts.is_empty() || deletes.iter().any(|i| model.contains_key(&name(*i)));
            assert!(if changes { found > revision } else { found == revision }, "{found} after {revision}");
            revision = found;
            for (i, value) in puts {
                model.insert(name(i), (vec![value; usize::from(value)], revision));
            }
            for i in deletes {
                model.remove(&name(i));
            }
        } else {
            assert!(matches!(outcome, Err(StoreError::Conflict { .. })), "{outcome:?}");
        }
        let range = store.range("").await.unwrap();
        assert_eq!(range.revision, revision);
        let found = range.entries.into_iter().map(|e| (e.key, (e.value.to_vec(), e.revision))).collect();
        assert_eq!(model, found);
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_memory_store_follows_the_model(steps in proptest::collection::vec(step(), 1..60)) {
        for new in [MemoryStore::new, MemoryStore::with_gaps] {
            let open = async |store: Option<_>| store.unwrap_or_else(|| Arc::new(new()) as Arc<dyn StateStore>);
            block_on(follows_the_model(steps.clone(), open));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_file_store_follows_the_model_over_restarts(steps in proptest::collection::vec(step(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        block_on(follows_the_model(steps, async |store: Option<Arc<dyn StateStore>>| {
            drop(store);
            Arc::new(FileStore::open(&path).await.unwrap()) as Arc<dyn StateStore>
        }));
    }
}
