//! Tests of stand-in nodes with raw messages. `driver` has those with a real driver.

mod driver;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, Document, Uuid, doc};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::wire::{self, Form};
use super::{Horizons, Mongos, MongosAddresses, MongosSpec, ReplicaSet, ReplicaSetSpec, Timing};
use crate::data::proxy_protocol;
use crate::model::StandInState;
use crate::standin::StandinError;
use crate::tls::{LabCa, identity};

/// Longest wait for something that should come at once.
const SOON: Duration = Duration::from_secs(10);
const SET: &str = "Cluster0-shard-0-shard-0";
/// Fast enough for a test, slow enough for a busy machine to keep a healthy primary.
const QUICK: Timing =
    Timing { heartbeat_interval: Duration::from_millis(50), election_timeout: Duration::from_millis(800) };
/// How long a member that steps down is not a candidate.
const PERIOD: Duration = Duration::from_secs(60);

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn spec(horizons: &watch::Sender<Horizons>) -> ReplicaSetSpec {
    ReplicaSetSpec {
        set_name: SET.into(),
        nodes: vec![any_port(); 3],
        tls: None,
        proxied: false,
        horizons: horizons.subscribe(),
        timing: Timing::default(),
    }
}

async fn plain_set() -> (ReplicaSet, watch::Sender<Horizons>) {
    let horizons = watch::Sender::default();
    (ReplicaSet::start(spec(&horizons)).await.expect("a replica set"), horizons)
}

/// A set with short election time-outs.
async fn quick_set() -> (ReplicaSet, watch::Sender<Horizons>) {
    let horizons = watch::Sender::default();
    (ReplicaSet::start(ReplicaSetSpec { timing: QUICK, ..spec(&horizons) }).await.expect("a replica set"), horizons)
}

/// Waits until a member other than `not` is primary and reports it; returns its index.
async fn new_primary(set: &ReplicaSet, not: usize) -> usize {
    let elected = async {
        loop {
            match set.primary() {
                Some(primary) if primary != not => return primary,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(SOON, elected).await.expect("an election")
}

/// Repeats `command` on new connections until its reply satisfies `fits`.
async fn until(address: SocketAddr, command: Document, fits: impl Fn(&Document) -> bool) -> Document {
    let seen = async {
        loop {
            let reply = Raw::dial(address).await.run(command.clone()).await;
            if fits(&reply) {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, seen).await.expect("the reply that is waited for")
}

async fn two_mongos() -> Mongos {
    let addresses = MongosAddresses { direct: Some(any_port()), load_balanced: Some(any_port()) };
    Mongos::start(MongosSpec { nodes: vec![addresses; 2], tls: None }).await.expect("two mongos")
}

/// A client that sends raw messages.
struct Raw<S> {
    stream: S,
    last: i32,
}

/// A message from a node.
#[derive(Debug)]
struct RawReply {
    id: i32,
    response_to: i32,
    more: bool,
    body: Document,
}

impl Raw<TcpStream> {
    async fn dial(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("a connection"), last: 0 }
    }

    /// Connects as a load balancer does.
    async fn dial_proxied(address: SocketAddr, header: &[u8]) -> Self {
        let mut raw = Self::dial(address).await;
        raw.stream.write_all(header).await.expect("a header sent");
        raw
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Sends a command with these flags; returns its number.
    async fn send(&mut self, flags: u32, body: Document) -> i32 {
        self.last += 1;
        let mut section = flags.to_le_bytes().to_vec();
        section.push(0);
        section.extend(body.to_vec().unwrap());
        self.send_operation(2013, &section).await;
        self.last
    }

    async fn send_operation(&mut self, operation: i32, rest: &[u8]) {
        let head = [rest.len() as i32 + 16, self.last, 0, operation];
        let bytes: Vec<u8> = head.iter().flat_map(|number| number.to_le_bytes()).chain(rest.iter().copied()).collect();
        self.stream.write_all(&bytes).await.expect("sent");
    }

    async fn receive(&mut self) -> RawReply {
        let message = timeout(SOON, wire::read(&mut self.stream)).await.expect("in time").expect("a message");
        let message = message.expect("the connection is open");
        let response_to = i32::from_le_bytes(*message[8..].first_chunk().unwrap());
        let request = wire::parse(&message).expect("OP_MSG");
        let more = matches!(request.form, Form::Msg { unacknowledged: true, .. });
        RawReply { id: request.id, response_to, more, body: request.body }
    }

    async fn run(&mut self, mut body: Document) -> Document {
        if !body.contains_key("$db") {
            body.insert("$db", "test");
        }
        let id = self.send(0, body).await;
        let reply = self.receive().await;
        assert_eq!(reply.response_to, id);
        reply.body
    }

    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(timeout(SOON, self.stream.read_to_end(&mut rest)).await, Ok(Ok(0) | Err(_)))
    }
}

fn code(reply: &Document) -> i32 {
    assert_eq!(reply.get_f64("ok").unwrap(), 0.0, "{reply}");
    reply.get_i32("code").expect("a code")
}

fn hosts(reply: &Document) -> Vec<String> {
    reply.get_array("hosts").expect("hosts").iter().map(|host| host.as_str().unwrap().to_owned()).collect()
}

fn counter(reply: &Document) -> i64 {
    reply.get_document("topologyVersion").expect("a version").get_i64("counter").expect("64 bits")
}

/// A `hello` that waits for a state other than that of `reply`.
fn awaiting(reply: &Document, milliseconds: i32) -> Document {
    let version = reply.get_document("topologyVersion").expect("a version").clone();
    doc! { "hello": 1, "$db": "admin", "topologyVersion": version, "maxAwaitTimeMS": milliseconds }
}

#[tokio::test]
async fn hello_has_the_fields_that_drivers_need_from_a_primary_and_a_secondary() {
    let (set, _horizons) = plain_set().await;
    let own: Vec<String> = set.addresses().iter().map(ToString::to_string).collect();
    for (index, address) in set.addresses().iter().enumerate() {
        let reply = Raw::dial(*address).await.run(doc! { "hello": 1, "helloOk": true }).await;
        assert_eq!(reply.get_str("setName").unwrap(), SET);
        assert_eq!(hosts(&reply), own);
        assert_eq!(reply.get_str("me").unwrap(), own[index]);
        assert_eq!(reply.get_str("primary").unwrap(), own[0]);
        assert_eq!(reply.get_bool("isWritablePrimary").unwrap(), index == 0);
        assert_eq!(reply.get_bool("secondary").unwrap(), index != 0);
        assert_eq!(reply.get_object_id("electionId").is_ok(), index == 0);
        assert_eq!(reply.get_i32("maxWireVersion").unwrap(), 25);
        assert_eq!(reply.get_i32("minWireVersion").unwrap(), 0);
        assert_eq!(reply.get_i32("maxBsonObjectSize").unwrap(), 16_777_216);
        assert_eq!(reply.get_i32("maxMessageSizeBytes").unwrap(), 48_000_000);
        assert!(reply.get_bool("helloOk").unwrap());
        assert_eq!(counter(&reply), 1);
        assert!(!reply.contains_key("ismaster") && !reply.contains_key("serviceId") && !reply.contains_key("msg"));
    }
    let reply = Raw::dial(set.addresses()[0]).await.run(doc! { "isMaster": 1 }).await;
    assert!(reply.get_bool("ismaster").unwrap());
    assert!(!reply.contains_key("isWritablePrimary") && !reply.contains_key("helloOk"));
}

#[tokio::test]
async fn the_handshake_of_older_drivers_is_answered_in_kind() {
    let (set, _horizons) = plain_set().await;
    let mut raw = Raw::dial(set.addresses()[0]).await;
    for (command, ok) in [(doc! { "ismaster": 1 }, 1.0), (doc! { "find": "c" }, 0.0)] {
        let rest = [&[0; 4], b"admin.$cmd\0".as_slice(), &[0; 4], &[0xFF; 4], &command.to_vec().unwrap()].concat();
        raw.send_operation(2004, &rest).await;
        let message = wire::read(&mut raw.stream).await.unwrap().expect("a reply");
        assert_eq!(message[12..16], 1_i32.to_le_bytes(), "OP_REPLY");
        assert_eq!(message[32..36], 1_i32.to_le_bytes(), "one document");
        let body = Document::from_reader(&message[36..]).expect("a document");
        assert_eq!(body.get_f64("ok").unwrap(), ok);
        assert_eq!(body.get_i32("code").ok(), (ok == 0.0).then_some(352));
    }
}

#[tokio::test]
async fn a_change_of_the_horizons_is_sent_to_watching_clients_at_once() {
    let (set, horizons) = plain_set().await;
    let mut raw = Raw::dial(set.addresses()[0]).await;
    let now = raw.run(doc! { "hello": 1 }).await;
    let id = raw.send(1 << 16, awaiting(&now, 3_600_000)).await;
    let mut changed = Horizons::default();
    changed.insert("pl-0.net".parse().unwrap(), ["a:1", "a:2", "a:3"].map(str::to_owned));
    horizons.send_replace(changed);
    let first = raw.receive().await;
    assert_eq!((first.response_to, first.more, counter(&first.body)), (id, true, 2));
    set.step_down(PERIOD).await.expect("stepped down");
    let mut last = first;
    let mut seen = Vec::new();
    loop {
        let next = raw.receive().await;
        assert_eq!((next.response_to, next.more), (last.id, true));
        assert!(counter(&next.body) > counter(&last.body));
        assert!(!next.body.get_bool("isWritablePrimary").unwrap());
        seen.push((next.body.get_bool("secondary").unwrap(), next.body.get_str("primary").ok().map(str::to_owned)));
        last = next;
        if seen.last().is_some_and(|(_, primary)| *primary == Some(set.addresses()[1].to_string())) {
            break;
        }
    }
    assert_eq!(seen[0], (false, Some(set.addresses()[0].to_string())), "writes off, not yet a secondary");
    assert!(seen.contains(&(true, None)), "a secondary that knows no primary: {seen:?}");
}

#[tokio::test]
async fn a_wait_without_a_change_ends_in_time_with_the_same_state() {
    let (set, _horizons) = plain_set().await;
    let mut raw = Raw::dial(set.addresses()[0]).await;
    let now = raw.run(doc! { "hello": 1 }).await;
    let again = raw.run(awaiting(&now, 20)).await;
    assert_eq!(counter(&again), counter(&now));
    let id = raw.send(1 << 16, awaiting(&now, 20)).await;
    let (first, second) = (raw.receive().await, raw.receive().await);
    assert_eq!((first.response_to, second.response_to), (id, first.id));
    assert_eq!(counter(&second.body), counter(&now));
}

#[tokio::test]
async fn a_client_with_the_topology_of_another_process_is_answered_at_once() {
    let (set, _horizons) = plain_set().await;
    let mut raw = Raw::dial(set.addresses()[0]).await;
    let now = raw.run(doc! { "hello": 1 }).await;
    let version = |process: ObjectId, counter: i64| doc! { "processId": process, "counter": counter };
    let other = version(ObjectId::new(), 99);
    let reply = raw.run(doc! { "hello": 1, "topologyVersion": other, "maxAwaitTimeMS": 3_600_000 }).await;
    assert_eq!(counter(&reply), 1);
    let own = now.get_document("topologyVersion").unwrap().get_object_id("processId").unwrap();
    let future = doc! { "hello": 1, "topologyVersion": version(own, 99), "maxAwaitTimeMS": 1 };
    assert_eq!(code(&raw.run(future).await), 31382);
}

#[tokio::test]
async fn a_watcher_that_goes_away_is_noticed() {
    let (set, _horizons) = plain_set().await;
    let mut watcher = Raw::dial(set.addresses()[0]).await;
    let now = watcher.run(doc! { "hello": 1 }).await;
    watcher.send(1 << 16, awaiting(&now, 3_600_000)).await;
    let mut raw = Raw::dial(set.addresses()[0]).await;
    let open = |reply: Document| reply.get_document("connections").unwrap().get_i32("current").unwrap();
    assert_eq!(open(raw.run(doc! { "serverStatus": 1 }).await), 2);
    drop(watcher);
    let gone = async {
        while open(raw.run(doc! { "serverStatus": 1 }).await) != 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone).await.expect("the connection ends");
}

#[tokio::test]
async fn the_dialled_name_selects_the_horizon_in_hello() {
    let dir = TempDir::new().unwrap();
    let ca = LabCa::open_or_create(dir.path()).expect("a CA");
    let (private, public) = ("pl-0-us-east-1-k45tj.mongodb.net", "cluster0-shard-00-00-k45tj.mongodb.net");
    let leaf = ca.issue(&[private.parse().unwrap(), public.parse().unwrap()], &[]).expect("a leaf");
    let horizons = watch::Sender::<Horizons>::default();
    let ports = |first: u16| (first..first + 3).map(move |port| format!("{private}:{port}"));
    horizons.send_modify(|all| all.insert(private.parse().unwrap(), ports(1024)));
    let tls = Some(leaf.server_config(&[]).expect("a configuration"));
    let set = ReplicaSet::start(ReplicaSetSpec { tls, ..spec(&horizons) }).await.expect("a replica set");
    let client = identity::client_config(ca.certificate(), &[]).expect("a configuration");
    let dial = async |index: usize, name: &'static str| {
        let stream = TcpStream::connect(set.addresses()[index]).await.expect("a connection");
        let name = ServerName::try_from(name).unwrap();
        let connector = tokio_rustls::TlsConnector::from(client.clone());
        Raw { stream: connector.connect(name, stream).await.expect("TLS"), last: 0 }
    };
    let reply = dial(1, private).await.run(doc! { "hello": 1 }).await;
    assert_eq!(hosts(&reply), ports(1024).collect::<Vec<_>>());
    assert_eq!(reply.get_str("me").unwrap(), format!("{private}:1025"));
    assert_eq!(reply.get_str("primary").unwrap(), format!("{private}:1024"));
    let reply = dial(1, public).await.run(doc! { "hello": 1 }).await;
    assert_eq!(reply.get_str("me").unwrap(), set.addresses()[1].to_string());
    let mut watcher = dial(2, private).await;
    let now = watcher.run(doc! { "hello": 1 }).await;
    watcher.send(1 << 16, awaiting(&now, 3_600_000)).await;
    horizons.send_modify(|all| all.insert(private.parse().unwrap(), ports(2000)));
    assert_eq!(hosts(&watcher.receive().await.body), ports(2000).collect::<Vec<_>>());
    let mut plain = Raw::dial(set.addresses()[0]).await;
    plain.send(0, doc! { "hello": 1, "$db": "admin" }).await;
    let mut alert = Vec::new();
    let _ = timeout(SOON, plain.stream.read_to_end(&mut alert)).await.expect("a plain client is closed on");
    assert!(!alert.starts_with(b"\x3d"), "no reply in the clear");
}

#[tokio::test]
async fn only_the_primary_writes_and_secondaries_read_if_the_client_allows_it() {
    let (set, _horizons) = plain_set().await;
    let mut primary = Raw::dial(set.addresses()[0]).await;
    let mut secondary = Raw::dial(set.addresses()[1]).await;
    let insert = doc! { "insert": "c", "documents": [{ "_id": 1 }] };
    assert_eq!(code(&secondary.run(insert.clone()).await), 10107);
    assert_eq!(primary.run(insert.clone()).await, doc! { "n": 1, "ok": 1.0 });
    assert_eq!(code(&secondary.run(doc! { "find": "c" }).await), 13435);
    let find = doc! { "find": "c", "$readPreference": { "mode": "secondaryPreferred" } };
    let found = secondary.run(find).await;
    let batch = found.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    assert_eq!(batch, &vec![Bson::Document(doc! { "_id": 1 })]);
    set.step_down(PERIOD).await.expect("stepped down");
    assert_eq!(new_primary(&set, 0).await, 1);
    let refused = primary.run(insert).await;
    assert_eq!(code(&refused), 10107);
    assert!(counter(&refused) >= 3, "a step-down raises it by two: {refused}");
    let again = secondary.run(doc! { "insert": "c", "documents": [{ "_id": 1 }] }).await;
    let errors = again.get_array("writeErrors").expect("write errors");
    assert_eq!(errors[0].as_document().unwrap().get_i32("code").unwrap(), 11000);
    assert_eq!(again.get_i32("n").unwrap(), 0);
}

#[tokio::test]
async fn a_write_that_is_retried_on_the_next_primary_happens_once() {
    let (set, _horizons) = plain_set().await;
    let lsid = doc! { "id": Uuid::new() };
    let insert = doc! { "insert": "c", "documents": [{ "n": 1 }], "lsid": lsid.clone(), "txnNumber": 1_i64 };
    assert_eq!(Raw::dial(set.addresses()[0]).await.run(insert.clone()).await.get_i32("n").unwrap(), 1);
    set.step_down(PERIOD).await.expect("stepped down");
    let mut raw = Raw::dial(set.addresses()[new_primary(&set, 0).await]).await;
    assert_eq!(raw.run(insert.clone()).await.get_i32("n").unwrap(), 1);
    assert_eq!(raw.run(doc! { "count": "c" }).await.get_i32("n").unwrap(), 1);
    assert_eq!(raw.run(doc! { "endSessions": [lsid] }).await, doc! { "ok": 1.0 });
    assert_eq!(set.carried().inserted, 1);
}

#[tokio::test]
async fn a_stopped_primary_is_replaced_and_comes_back_as_a_secondary() {
    let (set, _horizons) = quick_set().await;
    let first = set.addresses()[0];
    let mut raw = Raw::dial(first).await;
    let before = raw.run(doc! { "hello": 1 }).await;
    raw.run(doc! { "insert": "c", "documents": [{ "_id": 1 }] }).await;
    set.stop_node(0).await.expect("a node");
    assert!(raw.is_closed().await);
    assert!(TcpStream::connect(first).await.is_err());
    let primary = new_primary(&set, 0).await;
    let hello = Raw::dial(set.addresses()[primary]).await.run(doc! { "hello": 1 }).await;
    assert!(hello.get_object_id("electionId").unwrap() > before.get_object_id("electionId").unwrap());
    assert_eq!(hello.get_i32("setVersion").unwrap(), 1);
    assert!(matches!(set.stop_node(3).await, Err(StandinError::NoNode { index: 3, count: 3 })));
    set.start_node(0).await.expect("its address is free");
    let known = set.addresses()[primary].to_string();
    let back = until(first, doc! { "hello": 1 }, |hello| hello.get_str("primary").is_ok_and(|it| it == known)).await;
    assert!(back.get_bool("secondary").unwrap());
    let process = |hello: &Document| hello.get_document("topologyVersion").unwrap().get_object_id("processId").unwrap();
    assert_ne!(process(&back), process(&before), "a new process");
    let count = doc! { "count": "c", "$readPreference": { "mode": "secondary" } };
    assert_eq!(Raw::dial(first).await.run(count).await.get_i32("n").unwrap(), 1);
    set.stop().await;
    assert!(TcpStream::connect(first).await.is_err());
}

#[tokio::test]
async fn an_isolated_primary_steps_down_and_its_writes_wait_for_a_majority() {
    let (set, _horizons) = quick_set().await;
    let mut old = Raw::dial(set.addresses()[0]).await;
    set.isolate_node(0, true).expect("a node");
    let lsid = doc! { "id": Uuid::new() };
    let insert = doc! { "insert": "c", "documents": [{ "_id": 1 }], "lsid": lsid, "txnNumber": 1_i64 };
    let alone = doc! { "insert": "c", "documents": [{ "_id": 2 }], "writeConcern": { "w": 1 } };
    assert_eq!(old.run(alone).await.get_i32("n").unwrap(), 1, "one member is enough for w: 1");
    let limited =
        doc! { "insert": "c", "documents": [{ "_id": 3 }], "writeConcern": { "w": "majority", "wtimeout": 1 } };
    let late = old.run(limited).await;
    assert_eq!(late.get_document("writeConcernError").unwrap().get_i32("code").unwrap(), 64);
    let waited = old.run(insert.clone()).await;
    assert_eq!(waited.get_document("writeConcernError").unwrap().get_i32("code").unwrap(), 189);
    assert_eq!(waited.get_array("errorLabels").unwrap(), &vec![Bson::from("RetryableWriteError")]);
    assert!(counter(&waited) >= 2);
    // The retry on the new primary succeeds, and applies nothing twice.
    let primary = new_primary(&set, 0).await;
    let retried = Raw::dial(set.addresses()[primary]).await.run(insert).await;
    assert_eq!((retried.get_i32("n").unwrap(), retried.contains_key("writeConcernError")), (1, false));
    let count = async |index: usize| {
        let read = doc! { "count": "c", "$readPreference": { "mode": "secondaryPreferred" } };
        Raw::dial(set.addresses()[index]).await.run(read).await.get_i32("n").unwrap()
    };
    assert_eq!((count(primary).await, count(0).await), (1, 3), "the others never had what the isolated one wrote");
    let refused = old.run(doc! { "insert": "c", "documents": [{}] }).await;
    assert_eq!(code(&refused), 10107);
    set.isolate_node(0, false).expect("a node");
    assert_eq!(count(0).await, 1, "what it wrote alone is rolled back");
    let known = set.addresses()[primary].to_string();
    until(set.addresses()[0], doc! { "hello": 1 }, |hello| hello.get_str("primary").is_ok_and(|it| it == known)).await;
}

/// As on a real set: no other primary was elected meanwhile, so the others copy its writes.
#[tokio::test]
async fn an_isolated_primarys_writes_are_kept_when_it_returns_in_time() {
    let (set, _horizons) = plain_set().await;
    let mut primary = Raw::dial(set.addresses()[0]).await;
    set.isolate_node(0, true).expect("a node");
    let alone = doc! { "insert": "c", "documents": [{ "_id": 1 }], "writeConcern": { "w": 1 } };
    assert_eq!(primary.run(alone).await.get_i32("n").unwrap(), 1);
    let read = doc! { "count": "c", "$readPreference": { "mode": "secondary" } };
    let mut secondary = Raw::dial(set.addresses()[1]).await;
    assert_eq!(secondary.run(read.clone()).await.get_i32("n").unwrap(), 0);
    set.isolate_node(0, false).expect("a node");
    assert_eq!(secondary.run(read).await.get_i32("n").unwrap(), 1);
    assert!(!primary.run(doc! { "insert": "c", "documents": [{}] }).await.contains_key("writeConcernError"));
}

#[tokio::test]
async fn a_minority_elects_no_primary_until_a_majority_is_back() {
    let (set, _horizons) = quick_set().await;
    set.stop_node(1).await.expect("a node");
    set.stop_node(2).await.expect("a node");
    let hello = doc! { "hello": 1 };
    let alone = until(set.addresses()[0], hello, |hello| hello.get_bool("secondary").unwrap_or(false)).await;
    assert!(!alone.contains_key("primary") && !alone.contains_key("electionId"));
    assert_eq!(set.primary(), None);
    let states = |set: &ReplicaSet| set.members().iter().map(|member| member.state).collect::<Vec<_>>();
    assert_eq!(states(&set), [StandInState::Secondary, StandInState::Down, StandInState::Down]);
    let mut raw = Raw::dial(set.addresses()[0]).await;
    assert_eq!(code(&raw.run(doc! { "find": "c" }).await), 13435);
    let secondary = doc! { "find": "c", "$readPreference": { "mode": "secondaryPreferred" } };
    assert_eq!(raw.run(secondary).await.get_f64("ok").unwrap(), 1.0, "reads of a secondary go on");
    set.start_node(1).await.expect("its address is free");
    new_primary(&set, 2).await;
}

#[tokio::test]
async fn step_down_keeps_connections_and_cursors_and_hands_over() {
    let (set, _horizons) = plain_set().await;
    let mut raw = Raw::dial(set.addresses()[0]).await;
    let documents: Vec<_> = (0..5).map(|n| doc! { "_id": n }).collect();
    raw.run(doc! { "insert": "c", "documents": documents }).await;
    let id = raw.run(doc! { "find": "c", "batchSize": 2 }).await;
    let id = id.get_document("cursor").unwrap().get_i64("id").unwrap();
    let mut secondary = Raw::dial(set.addresses()[2]).await;
    let step_down = doc! { "replSetStepDown": 60, "$db": "admin" };
    assert_eq!(code(&secondary.run(step_down.clone()).await), 10107);
    assert_eq!(code(&raw.run(doc! { "replSetStepDown": 5, "$db": "admin" }).await), 2, "shorter than the catch-up");
    assert_eq!(code(&raw.run(doc! { "replSetStepDown": -1, "$db": "admin" }).await), 2);
    assert_eq!(code(&raw.run(doc! { "replSetFreeze": 10, "$db": "admin" }).await), 95);
    assert_eq!(raw.run(step_down).await, doc! { "ok": 1.0 });
    // Well before the 10 s that an election by time-out would take.
    assert_eq!(new_primary(&set, 0).await, 1);
    let more = raw.run(doc! { "getMore": id, "collection": "c" }).await;
    assert_eq!(more.get_document("cursor").unwrap().get_array("nextBatch").unwrap().len(), 3);
    let freeze = raw.run(doc! { "replSetFreeze": 0, "$db": "admin" }).await;
    assert_eq!(freeze.get_str("info").unwrap(), "unfreezing");
    let status = |reply: &Document| {
        let members = reply.get_array("members").unwrap().iter();
        members.map(|it| it.as_document().unwrap().get_i32("state").unwrap()).collect::<Vec<_>>()
    };
    until(set.addresses()[0], doc! { "replSetGetStatus": 1 }, |reply| status(reply) == [2, 1, 2]).await;
}

#[tokio::test]
async fn step_down_without_another_member_is_refused_unless_forced() {
    let (set, _horizons) = plain_set().await;
    set.stop_node(1).await.expect("a node");
    set.stop_node(2).await.expect("a node");
    let mut raw = Raw::dial(set.addresses()[0]).await;
    let short = doc! { "replSetStepDown": 60, "secondaryCatchUpPeriodSecs": 0, "$db": "admin" };
    assert_eq!(code(&raw.run(short).await), 262);
    assert!(raw.run(doc! { "hello": 1 }).await.get_bool("isWritablePrimary").unwrap());
    let error = set.step_down(PERIOD).await.expect_err("no other member").to_string();
    assert!(error.contains(SET), "{error}");
    assert_eq!(raw.run(doc! { "replSetStepDown": 60, "force": true, "$db": "admin" }).await, doc! { "ok": 1.0 });
    assert!(raw.run(doc! { "hello": 1 }).await.get_bool("secondary").unwrap());
}

#[tokio::test]
async fn a_write_concern_counts_the_members_that_the_primary_reaches() {
    let (set, _horizons) = plain_set().await;
    set.stop_node(2).await.expect("a node");
    let mut raw = Raw::dial(set.addresses()[0]).await;
    assert!(!raw.run(doc! { "insert": "c", "documents": [{}] }).await.contains_key("writeConcernError"));
    let all = doc! { "insert": "c", "documents": [{}], "writeConcern": { "w": 3, "wtimeout": 1 } };
    let late = raw.run(all.clone()).await;
    let error = late.get_document("writeConcernError").unwrap();
    assert_eq!((error.get_i32("code").unwrap(), late.get_i32("n").unwrap()), (64, 1));
    set.start_node(2).await.expect("its address is free");
    assert!(!raw.run(all).await.contains_key("writeConcernError"));
}

#[tokio::test]
async fn a_write_without_acknowledgement_to_a_secondary_costs_the_connection() {
    let (set, _horizons) = plain_set().await;
    let mut raw = Raw::dial(set.addresses()[1]).await;
    let insert = doc! { "insert": "c", "$db": "test", "documents": [{ "_id": 1 }], "writeConcern": { "w": 0 } };
    raw.send(1 << 1, insert).await;
    assert!(raw.is_closed().await);
}

#[tokio::test]
async fn a_cursor_lives_on_its_own_node_only() {
    let (set, _horizons) = plain_set().await;
    let mut raw = Raw::dial(set.addresses()[0]).await;
    let documents: Vec<_> = (0..5).map(|n| doc! { "_id": n }).collect();
    raw.run(doc! { "insert": "c", "documents": documents }).await;
    let reply = raw.run(doc! { "find": "c", "batchSize": 2 }).await;
    let id = reply.get_document("cursor").unwrap().get_i64("id").unwrap();
    let more = doc! { "getMore": id, "collection": "c", "batchSize": 2 };
    assert_eq!(code(&Raw::dial(set.addresses()[1]).await.run(more.clone()).await), 43);
    let mut other = Raw::dial(set.addresses()[0]).await;
    let next = other.run(more).await;
    assert_eq!(next.get_document("cursor").unwrap().get_array("nextBatch").unwrap().len(), 2);
    let killed = raw.run(doc! { "killCursors": "c", "cursors": [id] }).await;
    assert_eq!(killed.get_array("cursorsKilled").unwrap().len(), 1);
}

#[tokio::test]
async fn behind_a_load_balancer_a_mongos_sends_its_service_id_on_request() {
    let mongos = two_mongos().await;
    let mut ids = Vec::new();
    let client = "10.0.3.9:51222".parse().unwrap();
    for addresses in mongos.addresses() {
        let address = addresses.load_balanced.expect("a port");
        let header = proxy_protocol::encode(client, address, None);
        let mut raw = Raw::dial_proxied(address, &header).await;
        let reply = raw.run(doc! { "hello": 1, "loadBalanced": true }).await;
        assert_eq!(reply.get_str("msg").unwrap(), "isdbgrid");
        assert!(reply.get_bool("isWritablePrimary").unwrap());
        assert!(!reply.contains_key("setName") && !reply.contains_key("hosts"));
        ids.push(reply.get_object_id("serviceId").expect("a service id"));
        assert_eq!(raw.run(doc! { "whatsmyuri": 1 }).await.get_str("you").unwrap(), "10.0.3.9:51222");
        let line = b"PROXY TCP4 10.0.3.9 10.0.30.194 51222 1027\r\n";
        let reply = Raw::dial_proxied(address, line).await.run(doc! { "hello": 1 }).await;
        assert!(!reply.contains_key("serviceId"), "the public path is not load balanced");
        let endpoint = "vpce-024f5b57108c8d3ed".parse().unwrap();
        let mut unaware = Raw::dial_proxied(address, &proxy_protocol::encode(client, address, Some(&endpoint))).await;
        assert_eq!(code(&unaware.run(doc! { "hello": 1 }).await), 354);
        assert!(unaware.is_closed().await);
    }
    assert_ne!(ids[0], ids[1]);
    let direct = mongos.addresses()[0].direct.expect("a port");
    let reply = Raw::dial(direct).await.run(doc! { "hello": 1, "loadBalanced": true }).await;
    assert!(!reply.contains_key("serviceId"), "no load balancer leads here");
    mongos.stop().await;
}

#[tokio::test]
async fn a_load_balanced_port_closes_connections_without_a_header() {
    let mongos = two_mongos().await;
    let address = mongos.addresses()[0].load_balanced.expect("a port");
    let mut raw = Raw::dial(address).await;
    raw.send(0, doc! { "hello": 1, "$db": "admin", "loadBalanced": true }).await;
    assert!(raw.is_closed().await);
    let mut probe = Raw::dial_proxied(address, &proxy_protocol::local()).await;
    assert_eq!(probe.run(doc! { "ping": 1 }).await, doc! { "ok": 1.0 });
}

#[tokio::test]
async fn a_set_with_headers_shows_its_clients_and_their_endpoint() {
    let horizons = watch::Sender::default();
    let set = ReplicaSet::start(ReplicaSetSpec { proxied: true, ..spec(&horizons) }).await.expect("a replica set");
    let address = set.addresses()[0];
    let endpoint = "vpce-024f5b57108c8d3ed".parse().unwrap();
    let header = proxy_protocol::encode("10.0.3.9:51222".parse().unwrap(), address, Some(&endpoint));
    let mut raw = Raw::dial_proxied(address, &header).await;
    let reply = raw.run(doc! { "whatsmyuri": 1 }).await;
    assert_eq!(reply, doc! { "you": "10.0.3.9:51222", "vpce": "vpce-024f5b57108c8d3ed", "ok": 1.0 });
    let reply = raw.run(doc! { "hello": 1, "loadBalanced": true }).await;
    assert_eq!(reply.get_str("setName").unwrap(), SET);
    assert!(!reply.contains_key("serviceId"), "a mongod has none");
    let mut bare = Raw::dial(address).await;
    bare.send(0, doc! { "ping": 1, "$db": "admin" }).await;
    assert!(bare.is_closed().await);
}

#[tokio::test]
async fn a_load_balanced_cursor_ends_with_its_connection() {
    let mongos = two_mongos().await;
    let address = mongos.addresses()[0].load_balanced.expect("a port");
    let header = proxy_protocol::encode("10.0.3.9:1".parse().unwrap(), address, None);
    let mut raw = Raw::dial_proxied(address, &header).await;
    raw.run(doc! { "hello": 1, "loadBalanced": true }).await;
    raw.run(doc! { "insert": "c", "documents": [{ "_id": 1 }, { "_id": 2 }] }).await;
    let reply = raw.run(doc! { "find": "c", "batchSize": 1 }).await;
    let id = reply.get_document("cursor").unwrap().get_i64("id").unwrap();
    drop(raw);
    let mut other = Raw::dial(mongos.addresses()[0].direct.expect("a port")).await;
    let gone = async {
        // An open cursor stays valid without requests.
        while other
            .run(doc! { "serverStatus": 1 })
            .await
            .get_document("connections")
            .unwrap()
            .get_i32("current")
            .unwrap()
            > 1
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone).await.expect("the connection ends");
    assert_eq!(code(&other.run(doc! { "getMore": id, "collection": "c" }).await), 43);
    let second = mongos.addresses()[1].direct.expect("a port");
    assert_eq!(Raw::dial(second).await.run(doc! { "count": "c" }).await.get_i32("n").unwrap(), 2, "one store");
}

#[tokio::test]
async fn unsupported_commands_are_refused_with_mongodbs_codes() {
    let (set, _horizons) = plain_set().await;
    let mut raw = Raw::dial(set.addresses()[0]).await;
    let unknown = raw.run(doc! { "atlasVersion": 1 }).await;
    assert_eq!(code(&unknown), 59);
    assert_eq!(unknown.get_str("codeName").unwrap(), "CommandNotFound");
    let message = unknown.get_str("errmsg").unwrap();
    assert!(message.contains("'atlasVersion'") && message.contains("docs/real-servers.md"), "{message}");
    let transaction = doc! { "insert": "c", "documents": [{}], "startTransaction": true, "autocommit": false };
    assert_eq!(code(&raw.run(transaction).await), 263);
    assert_eq!(code(&raw.run(doc! { "commitTransaction": 1, "autocommit": false }).await), 251);
    assert_eq!(code(&raw.run(doc! { "find": "c", "filter": { "a": { "$regex": "x" } } }).await), 59);
    assert_eq!(code(&raw.run(doc! { "find": "c", "collation": { "locale": "de" } }).await), 59);
    let unique = doc! { "createIndexes": "c", "indexes": [{ "key": { "a": 1 }, "name": "a", "unique": true }] };
    assert_eq!(code(&raw.run(unique).await), 67);
    assert_eq!(code(&raw.run(doc! { "insert": "c", "documents": [] }).await), 16);
    assert_eq!(code(&raw.run(doc! { "insert": 5, "documents": [{}] }).await), 73);
    let concern = doc! { "insert": "c", "documents": [{}], "writeConcern": { "w": 4 } };
    assert_eq!(raw.run(concern).await.get_document("writeConcernError").unwrap().get_i32("code").unwrap(), 100);
    assert_eq!(code(&raw.run(Document::new()).await), 59, "a command without a name");
}

#[tokio::test]
async fn a_node_identifies_itself_as_a_stand_in() {
    let (set, _horizons) = plain_set().await;
    let mut raw = Raw::dial(set.addresses()[1]).await;
    let info = raw.run(doc! { "buildInfo": 1 }).await;
    assert_eq!(info.get_array("modules").unwrap(), &vec![Bson::from("plgw stand-in")]);
    assert!(info.get_str("version").unwrap().starts_with("8.0."));
    for command in [
        "ping",
        "hostInfo",
        "serverStatus",
        "connectionStatus",
        "getCmdLineOpts",
        "whatsmyuri",
        "startSession",
        "replSetGetConfig",
    ] {
        assert_eq!(raw.run(doc! { command: 1 }).await.get_f64("ok").unwrap(), 1.0, "{command}");
    }
    assert_eq!(raw.run(doc! { "getLog": "startupWarnings" }).await.get_f64("ok").unwrap(), 1.0);
    let status = raw.run(doc! { "replSetGetStatus": 1 }).await;
    assert_eq!(status.get_i32("myState").unwrap(), 2);
    assert_eq!(status.get_array("members").unwrap().len(), 3);
}

#[tokio::test]
async fn databases_collections_and_indexes_are_listed_and_dropped() {
    let (set, _horizons) = plain_set().await;
    let mut raw = Raw::dial(set.addresses()[0]).await;
    raw.run(doc! { "insert": "c", "documents": [{ "_id": 1 }] }).await;
    let index = doc! { "createIndexes": "c", "indexes": [{ "key": { "a": 1 }, "name": "a_1" }] };
    assert_eq!(raw.run(index).await.get_i32("numIndexesAfter").unwrap(), 2);
    raw.run(doc! { "create": "empty" }).await;
    let names = |reply: &Document| {
        let cursor = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
        cursor.iter().map(|entry| entry.as_document().unwrap().get_str("name").unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&raw.run(doc! { "listIndexes": "c" }).await), ["_id_", "a_1"]);
    assert_eq!(names(&raw.run(doc! { "listCollections": 1 }).await), ["c", "empty"]);
    assert_eq!(names(&raw.run(doc! { "listCollections": 1, "filter": { "name": "c" } }).await), ["c"]);
    raw.run(doc! { "drop": "c" }).await;
    assert_eq!(names(&raw.run(doc! { "listCollections": 1 }).await), ["empty"]);
    raw.run(doc! { "dropDatabase": 1 }).await;
    let listed = raw.run(doc! { "listDatabases": 1 }).await;
    assert_eq!(listed.get_array("databases").unwrap().len(), 0);
}

#[tokio::test]
async fn a_write_without_acknowledgement_gets_no_reply() {
    let (set, _horizons) = plain_set().await;
    let mut raw = Raw::dial(set.addresses()[0]).await;
    let insert = doc! { "insert": "c", "$db": "test", "documents": [{ "_id": 1 }], "writeConcern": { "w": 0 } };
    raw.send(1 << 1, insert).await;
    assert_eq!(raw.run(doc! { "count": "c" }).await.get_i32("n").unwrap(), 1);
}

#[tokio::test]
async fn a_malformed_message_costs_its_own_connection_only() {
    let (set, _horizons) = plain_set().await;
    let mut good = Raw::dial(set.addresses()[0]).await;
    for noise in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0xFF; 64], &[16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    {
        let mut bad = Raw::dial(set.addresses()[0]).await;
        bad.stream.write_all(noise).await.expect("sent");
        assert!(bad.is_closed().await);
    }
    assert_eq!(good.run(doc! { "ping": 1 }).await, doc! { "ok": 1.0 });
}

#[tokio::test]
async fn probes_that_send_nothing_are_not_counted_as_carried() {
    let (set, _horizons) = plain_set().await;
    for _ in 0..3 {
        drop(TcpStream::connect(set.addresses()[0]).await.expect("a connection"));
    }
    let mut raw = Raw::dial(set.addresses()[0]).await;
    raw.run(doc! { "insert": "c", "documents": [{}, {}] }).await;
    raw.run(doc! { "update": "c", "updates": [{ "q": {}, "u": { "$set": { "a": 1 } }, "multi": true }] }).await;
    raw.run(doc! { "find": "c" }).await;
    raw.run(doc! { "delete": "c", "deletes": [{ "q": {}, "limit": 1 }] }).await;
    let carried = set.carried();
    assert_eq!((carried.connections, carried.commands), (1, 4));
    assert_eq!((carried.inserted, carried.updated, carried.found, carried.deleted), (2, 2, 2, 1));
}

#[tokio::test]
async fn a_taken_address_is_named_and_nothing_is_left_running() {
    let taken = tokio::net::TcpListener::bind(any_port()).await.unwrap();
    let horizons = watch::Sender::default();
    let nodes = vec![any_port(), taken.local_addr().unwrap()];
    let error = ReplicaSet::start(ReplicaSetSpec { nodes, ..spec(&horizons) }).await.expect_err("a taken address");
    let expected = format!("cannot bind the stand-in node 1 of {SET} to {}", taken.local_addr().unwrap());
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn dropping_a_set_ends_its_connections() {
    let (set, _horizons) = plain_set().await;
    let set = Arc::new(set);
    let mut raw = Raw::dial(set.addresses()[0]).await;
    raw.run(doc! { "ping": 1 }).await;
    drop(set);
    assert!(raw.is_closed().await);
}
