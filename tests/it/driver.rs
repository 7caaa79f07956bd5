//! The Rust driver through everything: names from the gateway's DNS, TLS with the lab's CA, the relay, stand-ins.
//!
//! The driver resolves hosts by the system's resolver alone, so this runs in a separate network namespace.

use std::collections::BTreeSet;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;
use mongodb::options::{ClientOptions, ServerAddress};
use mongodb::{Client, ServerType};
use plgw::model::{Fault, FaultKind, FaultScope, Share, StandInCommand, StandInState};
use plgw::quickstart::{Options, Quickstart, Timing};
use tokio::sync::watch;

use crate::support::netns;
use crate::support::{SOON, eventually};

const SRV: &str = "mongodb+srv://cluster0-pl-0-k45tj.mongodb.net";
/// Slow enough for a busy machine to keep a healthy primary.
const QUICK: Timing =
    Timing { heartbeat_interval: Duration::from_millis(200), election_timeout: Duration::from_secs(2) };
const HOST: &str = "pl-0-us-east-1-k45tj.mongodb.net";

/// A6, A9, A11, A12, A13.
#[test]
fn the_driver_finds_the_documented_cluster_and_follows_a_port_move() {
    netns::run_inside("driver::inside_the_driver_follows_a_port_move");
}

/// A16.
#[test]
fn the_driver_takes_load_balancing_from_the_optimized_strings_txt_record() {
    netns::run_inside("driver::inside_the_driver_is_load_balanced");
}

#[test]
#[ignore = "run by the tests of this file, in a separate network"]
fn inside_the_driver_follows_a_port_move() {
    inside(async |quickstart, ca| {
        let mut old = connect(SRV, ca).await;
        assert_eq!(old.seeds, at_ports(&[1024, 1025, 1026]), "what SRV says");
        old.until_known(&[1024, 1025, 1026]).await;
        insert(&old, "before").await;

        let target = "Cluster0/shard-00-00".parse().expect("a target");
        let moved = quickstart.gateway().control().move_target(target, None, None).await.expect("moved");
        insert(&old, "old client").await;

        let now = [moved.to.get(), 1025, 1026];
        let mut new = connect(SRV, ca).await;
        assert_eq!(new.seeds, at_ports(&now), "SRV follows at once");
        new.until_known(&now).await;
        insert(&new, "new client").await;

        old.until_known(&now).await;
        insert(&old, "followed").await;
        let moves = new.client.database("lab").collection::<Document>("moves");
        assert_eq!(moves.count_documents(doc! {}).await.expect("counted"), 4);
        // Not shut down in form: the driver would first end its wait for the next look at SRV, a minute.
    });
}

/// A30.
#[test]
fn the_driver_uses_each_clouds_seed_list() {
    netns::run_inside("driver::inside_the_driver_uses_each_clouds_seed_list");
}

#[test]
#[ignore = "run by the tests of this file, in a separate network"]
fn inside_the_driver_uses_each_clouds_seed_list() {
    inside_of(Options { clouds: true, ..Options::default() }, async |_, ca| {
        for (srv, host) in [
            ("mongodb+srv://azure0-pl-0.uzgh6.mongodb.net", "pl-0-eastus2-azure.uzgh6.mongodb.net"),
            ("mongodb+srv://google0-psc-0.uzgh6.mongodb.net", "pl-0-us-central1-gcp.uzgh6.mongodb.net"),
        ] {
            let at = connect(srv, ca).await;
            let seeds: BTreeSet<String> = [1024, 1025, 1026].map(|port| format!("{host}:{port}")).into();
            assert_eq!(at.seeds, seeds, "what SRV says");
            insert(&at, srv).await;
        }
    });
}

#[test]
#[ignore = "run by the tests of this file, in a separate network"]
fn inside_the_driver_is_load_balanced() {
    inside(async |quickstart, ca| {
        let snapshot = quickstart.gateway().snapshot();
        let mut private = snapshot.strings.iter().flat_map(|strings| &strings.private);
        let optimized = private.find_map(|strings| strings.srv_shard_optimized_connection_string.as_deref());
        let connected = connect(optimized.expect("Sharded0 is optimized"), ca).await;
        assert_eq!(connected.load_balanced, Some(true), "TXT says it");
        insert(&connected, "balanced").await;
    });
}

/// A set elects when its primary's member or zone is lost, and hands over at a step-down; a fault on the clients' path
/// alone changes nothing. Every write is acknowledged once.
#[test]
fn the_driver_writes_again_after_each_loss_of_its_primary() {
    netns::run_inside("driver::inside_the_driver_loses_its_primary");
}

#[test]
#[ignore = "run by the tests of this file, in a separate network"]
fn inside_the_driver_loses_its_primary() {
    inside(async |quickstart, ca| {
        let mut at = connect(SRV, ca).await;
        at.until_known(&[1024, 1025, 1026]).await;
        insert(&at, "before").await;
        let control = quickstart.gateway().control();
        let primary = |not: &str| {
            let members = quickstart.stand_ins().list();
            members.into_iter().find(|found| found.state == StandInState::Primary && found.member != not)
        };
        let fault = |kind: FaultKind, scope: FaultScope| {
            let name = "loss".to_owned();
            Fault { name, kind, scope, share: Share::default(), seed: 0, after: Duration::ZERO, lasts: None }
        };
        let cluster = || "Cluster0".to_owned();
        let command = |command| quickstart.stand_ins().run(command);
        let first = primary("").expect("a primary").member;
        let target = |node: &str| Some(format!("Cluster0/{node}").parse().expect("a target"));

        let zone = FaultScope { zone: Some("us-east-1a".parse().expect("a zone")), ..FaultScope::default() };
        control.set_fault(fault(FaultKind::ZoneOutage {}, zone)).await.expect("set");
        let second =
            eventually("another primary", || primary(&first).ok_or_else(|| quickstart.stand_ins().list())).await;
        control.clear_fault("loss".to_owned()).await.expect("cleared");
        insert(&at, "zone").await;

        let scope = FaultScope { target: target(&second.member), ..FaultScope::default() };
        control.set_fault(fault(FaultKind::TargetDown { silent: false }, scope)).await.expect("set");
        insert(&at, "member").await;
        let third = primary(&second.member).expect("the one that took the write");
        control.clear_fault("loss".to_owned()).await.expect("cleared");

        command(StandInCommand::StepDown { cluster: cluster() }).await.expect("stepped down");
        insert(&at, "step-down").await;
        let fourth = primary(&third.member).expect("the one that took the write").member;

        command(StandInCommand::Stop { cluster: cluster(), member: fourth.clone() }).await.expect("a member");
        insert(&at, "stopped").await;
        command(StandInCommand::Start { cluster: cluster(), member: fourth.clone() }).await.expect("a member");
        let fifth = primary(&fourth).expect("the one that took the write").member;

        let scope = FaultScope { target: target(&fifth), ..FaultScope::default() };
        control.set_fault(fault(FaultKind::Refuse {}, scope)).await.expect("set");
        // Longer than an election takes: there must be none.
        tokio::time::sleep(4 * QUICK.election_timeout).await;
        assert_eq!(primary("").expect("a primary").member, fifth);
        control.clear_fault("loss".to_owned()).await.expect("cleared");
        insert(&at, "path").await;
        let moves = at.client.database("lab").collection::<Document>("moves");
        assert_eq!(moves.count_documents(doc! {}).await.expect("counted"), 6);
    });
}

/// Runs `test` against a quickstart with DNS on port 53.
fn inside(test: impl AsyncFnOnce(&Quickstart, &str)) {
    inside_of(Options::default(), test);
}

/// The same with these options.
fn inside_of(options: Options, test: impl AsyncFnOnce(&Quickstart, &str)) {
    if !netns::is_inside() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options {
        dns: Some("127.0.0.1:53".parse().expect("an address")),
        lab_dir: Some(directory.path().to_owned()),
        timing: Some(QUICK),
        ..options
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(Box::pin(async {
        let quickstart = Quickstart::start(&options, |_| {}).await.expect("the quickstart starts");
        let ca = quickstart.ca_path().display().to_string();
        test(&quickstart, &ca).await;
        quickstart.stop().await;
    }));
}

/// A client and its events.
struct Connected {
    client: Client,
    seeds: BTreeSet<String>,
    load_balanced: Option<bool>,
    /// The nodes that answered last time.
    nodes: watch::Receiver<BTreeSet<String>>,
}

impl Connected {
    /// Waits until the driver knows the nodes at these ports and no others.
    async fn until_known(&mut self, ports: &[u16]) {
        let wanted = at_ports(ports);
        let known = tokio::time::timeout(SOON, self.nodes.wait_for(|nodes| *nodes == wanted)).await.is_ok();
        assert!(known, "expected {wanted:?}, last seen {:?}", self.nodes.borrow());
    }
}

async fn connect(string: &str, ca: &str) -> Connected {
    let mut options = ClientOptions::parse(format!("{string}/?tlsCAFile={ca}")).await.expect("the string resolves");
    let seeds = options.hosts.iter().map(ServerAddress::to_string).collect();
    let load_balanced = options.load_balanced;
    options.server_selection_timeout = Some(SOON);
    options.heartbeat_freq = (load_balanced != Some(true)).then_some(Duration::from_millis(500));
    let (sender, nodes) = watch::channel(BTreeSet::new());
    options.sdam_event_handler = Some(EventHandler::callback(move |event| {
        if let SdamEvent::TopologyDescriptionChanged(change) = event {
            let servers = change.new_description.servers();
            let known = servers.values().filter(|server| server.server_type() != ServerType::Unknown);
            sender.send_replace(known.map(|server| server.address().to_string()).collect());
        }
    }));
    let client = Client::with_options(options).expect("a client");
    Connected { client, seeds, load_balanced, nodes }
}

async fn insert(at: &Connected, id: &str) {
    let moves = at.client.database("lab").collection::<Document>("moves");
    moves.insert_one(doc! { "_id": id }).await.unwrap_or_else(|error| panic!("{id}: {error}"));
    assert!(moves.find_one(doc! { "_id": id }).await.expect("found").is_some(), "{id}");
}

fn at_ports(ports: &[u16]) -> BTreeSet<String> {
    ports.iter().map(|port| format!("{HOST}:{port}")).collect()
}
