//! Behaviour of etcd only: rows D10 and D11 of tests/CONFORMANCE.md. `PLGW_TEST_ETCD` has the client URLs of a running
//! etcd, separated by commas; `.ci/run` starts one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use etcd_client::Client;
use futures_util::{FutureExt, StreamExt};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, watch};

use super::{EtcdOptions, EtcdStore, OpenError, Revision, StateStore, Txn};

/// The endpoints of the etcd under test; `None`, with a message, when there is none.
fn endpoints() -> Option<Vec<String>> {
    let Ok(endpoints) = std::env::var("PLGW_TEST_ETCD") else {
        eprintln!("SKIP: PLGW_TEST_ETCD names no etcd");
        return None;
    };
    Some(endpoints.split(',').map(str::to_owned).collect())
}

async fn connect(endpoints: Vec<String>) -> Result<EtcdStore, OpenError> {
    EtcdStore::connect(options(endpoints)).await
}

/// Options with a separate prefix.
fn options(endpoints: Vec<String>) -> EtcdOptions {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos();
    let prefix = format!("test/{now}-{}-{count}/", std::process::id());
    EtcdOptions { endpoints, prefix, ..EtcdOptions::default() }
}

/// One store twice: directly, and through a connection that can be cut. While the guard is held, no other test writes.
pub(in crate::control) struct Wired {
    pub(in crate::control) direct: Arc<EtcdStore>,
    pub(in crate::control) through: Arc<EtcdStore>,
    endpoints: Vec<String>,
    is_cut: watch::Sender<bool>,
    _alone: RwLockWriteGuard<'static, ()>,
}

impl Wired {
    pub(in crate::control) async fn connect() -> Option<Self> {
        let endpoints = endpoints()?;
        let alone = REMEMBERED.write().await;
        let (is_cut, cut) = watch::channel(false);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let etcd = endpoints[0].trim_start_matches("http://").to_owned();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (etcd, mut cut) = (etcd.clone(), cut.clone());
                tokio::spawn(async move {
                    let pass = async {
                        let mut server = TcpStream::connect(etcd).await?;
                        copy_bidirectional(&mut client, &mut server).await
                    };
                    tokio::select! {
                        biased;
                        _ = cut.wait_for(|cut| *cut) => {}
                        _ = pass => {}
                    }
                });
            }
        });
        let options = options(endpoints.clone());
        let through = EtcdOptions { endpoints: vec![url], ..options.clone() };
        Some(Self {
            direct: Arc::new(EtcdStore::connect(options).await.expect("the etcd of PLGW_TEST_ETCD answers")),
            through: Arc::new(EtcdStore::connect(through).await.expect("it answers through the wire")),
            endpoints,
            is_cut,
            _alone: alone,
        })
    }

    /// Cuts or restores the connection.
    pub(in crate::control) fn cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }

    /// Makes etcd compact everything before its latest revision.
    pub(in crate::control) async fn compact(&self) {
        let latest = self.direct.range("").await.expect("a snapshot").revision;
        let mut client = Client::connect(&self.endpoints, None).await.expect("etcd answers");
        client.compact(latest.0.cast_signed(), None).await.expect("compacted");
    }
}

/// Compaction and revisions affect the whole of etcd, so tests of these run alone.
static REMEMBERED: RwLock<()> = RwLock::const_new(());

/// A store with a separate prefix. While the guard is held, etcd is not compacted.
pub(in crate::control) async fn store() -> Option<(EtcdStore, RwLockReadGuard<'static, ()>)> {
    let endpoints = endpoints()?;
    let guard = REMEMBERED.read().await;
    Some((connect(endpoints).await.expect("the etcd of PLGW_TEST_ETCD answers"), guard))
}

/// The same while no other test writes.
pub(in crate::control) async fn store_alone() -> Option<(EtcdStore, RwLockWriteGuard<'static, ()>)> {
    let endpoints = endpoints()?;
    let guard = REMEMBERED.write().await;
    Some((connect(endpoints).await.expect("the etcd of PLGW_TEST_ETCD answers"), guard))
}

async fn put(store: &EtcdStore, name: &str, value: impl Into<bytes::Bytes>) -> Revision {
    store.commit(Txn::new().put(name.parse().expect("a key"), value)).await.expect("a commit")
}

#[tokio::test]
async fn a_watch_that_is_cut_ends_and_another_begins_after_a_compaction() {
    let Some(wired) = Wired::connect().await else { return };
    put(&wired.direct, "a", "1").await;
    let mut changes = wired.through.changes("").await.expect("etcd answers");
    assert_eq!(changes.next().now_or_never(), None, "an earlier change");
    put(&wired.direct, "a", "2").await;
    assert_eq!(changes.next().await, Some(()));
    wired.cut(true);
    assert_eq!(changes.next().await, None);
    put(&wired.direct, "a", "3").await;
    put(&wired.direct, "a", "4").await;
    wired.compact().await;
    wired.cut(false);
    let mut changes = wired.through.changes("").await.expect("etcd answers again");
    put(&wired.direct, "a", "5").await;
    assert_eq!(changes.next().await, Some(()));
}

#[tokio::test]
async fn a_reader_catches_up_with_more_than_grpc_takes_by_default() {
    let Some((store, _remembered)) = store().await else { return };
    let mut changes = store.changes("").await.expect("etcd answers");
    for n in 0..6 {
        put(&store, &format!("large/{n}"), vec![b'x'; 1_000_000]).await;
    }
    assert_eq!(changes.next().await, Some(()));
    let entries = store.range("").await.unwrap().entries;
    assert_eq!(entries.iter().map(|entry| entry.value.len()).collect::<Vec<_>>(), [1_000_000; 6]);
}

#[tokio::test]
async fn one_prefix_is_nothing_to_another() {
    let Some((one, _remembered)) = store().await else { return };
    let other = connect(endpoints().expect("there are some")).await.expect("it answers");
    let before = one.range("").await.unwrap();
    let revision = put(&other, "a", "1").await;
    let after = one.range("").await.unwrap();
    assert!(before.entries.is_empty() && after.entries.is_empty());
    assert!(after.revision >= revision && revision > before.revision, "revisions are the cluster's");
}

#[tokio::test]
async fn a_member_that_does_not_answer_is_passed_over() {
    let Some(endpoints) = endpoints() else { return };
    let _remembered = REMEMBERED.read().await;
    // Accepts connections and never answers, as a stopped process.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let store = connect([vec![silent.clone()], endpoints].concat()).await.expect("the other member answers");
    put(&store, "a", "1").await;
    let error = connect(vec![silent.clone()]).await.expect_err("no member answers");
    let text = crate::control::chain(&error);
    assert_eq!(
        text,
        format!("cannot read the state in etcd: no etcd member answered ({silent}: no answer within 1 s)")
    );
}
