//! Tests of the stand-ins with MongoDB's Rust driver.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bson::{Document, doc};
use futures_util::TryStreamExt;
use mongodb::error::{ErrorKind, WriteFailure};
use mongodb::options::{ClientOptions, ReturnDocument};
use mongodb::{Client, Collection};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{PERIOD, QUICK, SET, any_port, new_primary};
use crate::data::proxy_protocol;
use crate::standin::mongo::{Horizons, Mongos, MongosAddresses, MongosSpec, ReplicaSet, ReplicaSetSpec, Timing};
use crate::tls::LabCa;

/// A relay on a separate port, like a load balancer; with a PROXY header if the target requires one.
struct TestRelay {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl TestRelay {
    /// Distributes connections over `targets` in turn.
    async fn start(targets: Vec<SocketAddr>, header: bool) -> Self {
        let listener = TcpListener::bind(any_port()).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            let mut flows = tokio::task::JoinSet::new();
            while let Ok((mut client, peer)) = listener.accept().await {
                let target = targets[count.fetch_add(1, Ordering::Relaxed) % targets.len()];
                flows.spawn(async move {
                    let mut server = TcpStream::connect(target).await.expect("the target is up");
                    if header {
                        let header = proxy_protocol::encode(peer, address, None);
                        server.write_all(&header).await.expect("sent");
                    }
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, connections, task }
    }
}

impl Drop for TestRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct TestLab {
    dir: TempDir,
    ca: LabCa,
}

impl TestLab {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let ca = LabCa::open_or_create(dir.path()).expect("a CA");
        Self { dir, ca }
    }

    fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        let leaf = self.ca.issue(&["localhost".parse().unwrap()], &[[127, 0, 0, 1].into()]).expect("a leaf");
        Some(leaf.server_config(&[]).expect("a configuration"))
    }

    async fn client(&self, hosts: &str, options: &str) -> Client {
        let ca = self.dir.path().join("ca.pem");
        let uri = format!("mongodb://{hosts}/?tls=true&tlsCAFile={}{options}", ca.display());
        let mut options = ClientOptions::parse(uri).await.expect("a connection string");
        options.server_selection_timeout = Some(Duration::from_secs(20));
        Client::with_options(options).expect("a client")
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The operations of a typical first program.
async fn use_it(collection: Collection<Document>) {
    collection.insert_many((0..250).map(|n| doc! { "_id": n, "even": n % 2 == 0 })).await.expect("inserted");
    let cursor = collection.find(doc! {}).sort(doc! { "_id": 1 }).batch_size(40).await.expect("found");
    let ids: Vec<i32> = cursor.map_ok(|document| document.get_i32("_id").unwrap()).try_collect().await.expect("all");
    assert_eq!(ids, (0..250).collect::<Vec<_>>());
    assert_eq!(collection.count_documents(doc! { "even": true }).await.expect("counted"), 125);
    assert_eq!(collection.estimated_document_count().await.expect("counted"), 250);
    let one = collection.find_one(doc! { "_id": { "$gt": 7, "$in": [1, 8, 9] } }).await.expect("found");
    assert_eq!(one, Some(doc! { "_id": 8, "even": true }));
    let updated = collection.update_many(doc! { "even": true }, doc! { "$inc": { "n": 1 } }).await.expect("updated");
    assert_eq!((updated.matched_count, updated.modified_count), (125, 125));
    let upserted = collection.update_one(doc! { "_id": 999 }, doc! { "$set": { "a": 1 } }).upsert(true).await.unwrap();
    assert_eq!(upserted.upserted_id, Some(999.into()));
    let replaced = collection.replace_one(doc! { "_id": 999 }, doc! { "b": 2 }).await.expect("replaced");
    assert_eq!(replaced.modified_count, 1);
    let changed = collection
        .find_one_and_update(doc! { "_id": 999 }, doc! { "$unset": { "b": 1 } })
        .return_document(ReturnDocument::After)
        .await;
    assert_eq!(changed.expect("changed"), Some(doc! { "_id": 999 }));
    assert_eq!(collection.delete_many(doc! { "even": false }).await.expect("deleted").deleted_count, 125);
    let twice = collection.insert_one(doc! { "_id": 0 }).await.expect_err("a duplicate");
    assert!(matches!(&*twice.kind, ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == 11000));
    collection.create_index(mongodb::IndexModel::builder().keys(doc! { "n": 1 }).build()).await.expect("an index");
    assert_eq!(collection.list_index_names().await.expect("indexes"), ["_id_", "n_1"]);
    collection.drop().await.expect("dropped");
}

#[tokio::test]
async fn the_driver_uses_a_replica_set_over_tls() {
    let lab = TestLab::new();
    let horizons = watch::Sender::default();
    let nodes = vec![any_port(); 3];
    let spec = ReplicaSetSpec {
        set_name: SET.into(),
        nodes,
        tls: lab.tls(),
        proxied: false,
        horizons: horizons.subscribe(),
        timing: Timing::default(),
    };
    let set = ReplicaSet::start(spec).await.expect("a replica set");
    let client = lab.client(&list(set.addresses()), &format!("&replicaSet={SET}")).await;
    use_it(client.database("lab").collection("things")).await;
    assert_eq!(client.list_database_names().await.expect("names"), Vec::<String>::new());
    let carried = set.carried();
    assert_eq!((carried.inserted, carried.deleted), (250, 125));
    assert!(carried.found >= 250, "{carried:?}");
}

#[tokio::test]
async fn the_driver_follows_an_election_and_retries_its_write() {
    let lab = TestLab::new();
    let horizons = watch::Sender::default();
    let nodes = vec![any_port(); 3];
    let spec = ReplicaSetSpec {
        set_name: SET.into(),
        nodes,
        tls: lab.tls(),
        proxied: false,
        horizons: horizons.subscribe(),
        timing: QUICK,
    };
    let set = ReplicaSet::start(spec).await.expect("a replica set");
    let client = lab.client(&list(&set.addresses()[..1]), &format!("&replicaSet={SET}")).await;
    let collection = client.database("lab").collection::<Document>("things");
    collection.insert_one(doc! { "_id": 1 }).await.expect("inserted");
    set.step_down(PERIOD).await.expect("stepped down");
    collection.insert_one(doc! { "_id": 2 }).await.expect("inserted after the election");
    let primary = new_primary(&set, 0).await;
    set.stop_node(primary).await.expect("a node");
    collection.insert_one(doc! { "_id": 3 }).await.expect("inserted after the failure");
    assert_eq!(collection.count_documents(doc! {}).await.expect("counted"), 3);
}

#[tokio::test]
async fn the_driver_follows_a_port_move_by_its_horizon() {
    let lab = TestLab::new();
    let horizons = watch::Sender::<Horizons>::default();
    let nodes = vec![any_port(); 3];
    let spec = ReplicaSetSpec {
        set_name: SET.into(),
        nodes,
        tls: lab.tls(),
        proxied: false,
        horizons: horizons.subscribe(),
        timing: Timing::default(),
    };
    let set = ReplicaSet::start(spec).await.expect("a replica set");
    let mut relays = Vec::new();
    for address in set.addresses() {
        relays.push(TestRelay::start(vec![*address], false).await);
    }
    let publish = |relays: &[TestRelay]| {
        let members = relays.iter().map(|relay| format!("localhost:{}", relay.address.port())).collect::<Vec<_>>();
        horizons.send_modify(|all| all.insert("localhost".parse().unwrap(), members.clone()));
        members.join(",")
    };
    let seeds = publish(&relays);
    let client = lab.client(&seeds, &format!("&replicaSet={SET}")).await;
    let collection = client.database("lab").collection::<Document>("things");
    collection.insert_one(doc! { "_id": 1 }).await.expect("inserted");
    let moved = TestRelay::start(vec![set.addresses()[0]], false).await;
    let old = std::mem::replace(&mut relays[0], moved);
    publish(&relays);
    let arrived = async {
        while relays[0].connections.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::SOON, arrived).await.expect("the driver comes to the new port by itself");
    drop(old);
    collection.insert_one(doc! { "_id": 2 }).await.expect("inserted by the new port");
    assert_eq!(set.carried().inserted, 2);
}

#[tokio::test]
async fn the_driver_uses_mongos_behind_a_load_balancer() {
    let lab = TestLab::new();
    let addresses = MongosAddresses { direct: None, load_balanced: Some(any_port()) };
    let mongos = Mongos::start(MongosSpec { nodes: vec![addresses; 2], tls: lab.tls() }).await.expect("two mongos");
    let targets = mongos.addresses().iter().filter_map(|addresses| addresses.load_balanced).collect();
    let balancer = TestRelay::start(targets, true).await;
    let client = lab.client(&balancer.address.to_string(), "&loadBalanced=true").await;
    use_it(client.database("lab").collection("things")).await;
    assert_eq!(mongos.carried().inserted, 250);
}

#[tokio::test]
async fn the_driver_reports_a_port_that_is_not_load_balanced() {
    let lab = TestLab::new();
    let addresses = MongosAddresses { direct: Some(any_port()), load_balanced: None };
    let mongos = Mongos::start(MongosSpec { nodes: vec![addresses], tls: lab.tls() }).await.expect("a mongos");
    let direct = mongos.addresses()[0].direct.expect("a port").to_string();
    let client = lab.client(&direct, "&loadBalanced=true").await;
    let error = client.list_database_names().await.expect_err("no service id").to_string();
    assert!(error.contains("load balanc"), "{error}");
    let client = lab.client(&direct, "").await;
    use_it(client.database("lab").collection("things")).await;
}
