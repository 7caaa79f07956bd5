//! End-to-end tests of the server: real sockets, with the library's messages as the client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::fixture::{self, REGIONAL, cidrs};
use super::tcp::{IDLE_TIMEOUT, MAXIMUM_PER_SOURCE, maximum_connections};
use super::{DnsError, DnsMetrics, DnsServer, ViewKind, bind};
use crate::config::DnsSettings;
use crate::model::CidrSet;
use crate::plan::{DnsView, Snapshot};
use crate::telemetry::Registry;

const SEEDS: &str = "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net.";
const HOST: &str = "pl-0-us-east-1-k45tj.mongodb.net.";

/// A11 over both transports.
#[tokio::test]
async fn udp_and_tcp_give_the_same_seeds() {
    let server = TestDns::start(fixture::view()).await;
    let over_udp = server.ask(SEEDS, RecordType::SRV).await;
    let over_tcp = server.connect().await.ask(&query(SEEDS, RecordType::SRV)).await;
    for message in [over_udp, over_tcp] {
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert!(message.metadata.recursion_available && !message.metadata.authoritative);
        let mut ports = ports(&message);
        ports.sort_unstable();
        assert_eq!(ports, [1024, 1025, 1026]);
    }
}

/// A6: after a change, the answer is the new one, also on sockets and connections that were open before.
#[tokio::test]
async fn answers_follow_a_moved_port_at_once() {
    let server = TestDns::start(fixture::view()).await;
    let mut connection = server.connect().await;
    assert_eq!(connection.ask(&query(SEEDS, RecordType::SRV)).await.answers.len(), 3);
    server.publish(fixture::with_srv(fixture::view(), SEEDS, 1));
    assert_eq!(ports(&server.ask(SEEDS, RecordType::SRV).await), [1024]);
    assert_eq!(ports(&connection.ask(&query(SEEDS, RecordType::SRV)).await), [1024]);
}

/// A13: the output of `nslookup`; A14: the other address comes first the next time.
#[tokio::test]
async fn a_client_that_asks_for_both_families_gets_both_addresses_in_turn() {
    let server = TestDns::start(fixture::view()).await;
    let mut firsts = Vec::new();
    for _ in 0..4 {
        let v4 = server.ask(HOST, RecordType::A).await;
        assert_eq!(v4.answers[0].record_type(), RecordType::CNAME);
        assert_eq!(v4.answers[1].name.to_ascii(), format!("{REGIONAL}."));
        firsts.push(v4.answers[1].data.clone());
        let v6 = server.ask(HOST, RecordType::AAAA).await;
        assert_eq!((v6.metadata.response_code, v6.answers.len()), (ResponseCode::NoError, 1));
    }
    assert_eq!(firsts[0], firsts[2]);
    assert_eq!(firsts[1], firsts[3]);
    assert_ne!(firsts[0], firsts[1]);
}

#[tokio::test]
async fn fifty_seeds_are_cut_over_udp_and_come_whole_over_tcp() {
    let owner = "_mongodb._tcp.big.mongodb.net.";
    let server = TestDns::start(fixture::with_srv(fixture::view(), owner, 50)).await;
    let plain = server.ask(owner, RecordType::SRV).await;
    assert!(plain.metadata.truncation);
    let mut question = query(owner, RecordType::SRV);
    question.set_edns(edns(4096));
    let roomy = server.exchange(&question).await;
    assert!(roomy.metadata.truncation && roomy.answers.len() > plain.answers.len());
    assert_eq!(roomy.max_payload(), 1232);

    let whole = server.connect().await.ask(&question).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 50);
}

#[tokio::test]
async fn several_questions_may_be_sent_on_one_connection_before_the_first_answer() {
    let server = TestDns::start(fixture::view()).await;
    let mut connection = server.connect().await;
    let questions: Vec<_> = [SEEDS, HOST, "absent.mongodb.net."].map(|name| query(name, RecordType::SRV)).to_vec();
    let mut bytes = Vec::new();
    for question in &questions {
        bytes.extend(framed(question));
    }
    // Split within a length and within a message, as packets may be.
    let (first, rest) = bytes.split_at(1);
    let (second, third) = rest.split_at(40);
    for part in [first, second, third] {
        connection.stream.write_all(part).await.expect("open");
        connection.stream.flush().await.expect("open");
    }
    for question in &questions {
        assert_eq!(connection.receive().await.metadata.id, question.metadata.id);
    }
    connection.stream.shutdown().await.expect("open");
    assert!(connection.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_after_the_idle_timeout() {
    let server = TestDns::start(fixture::view()).await;
    let started = Instant::now();
    let mut connection = server.connect().await;
    // A partial question does not count.
    connection.stream.write_all(&framed(&query(SEEDS, RecordType::SRV))[..20]).await.expect("open");
    assert!(connection.is_closed().await);
    assert!(started.elapsed() >= IDLE_TIMEOUT);
}

/// A zero-length message every few seconds would otherwise hold a connection for ever.
#[tokio::test]
async fn a_message_that_cannot_be_parsed_ends_the_connection() {
    let server = TestDns::start(fixture::view()).await;
    // The library treats an empty message as the connection's end.
    for (count, message) in [Vec::new(), b"short".to_vec(), vec![0xff; 64]].into_iter().enumerate() {
        let mut connection = server.connect().await;
        connection.ask(&query(SEEDS, RecordType::SRV)).await;
        let length = u16::try_from(message.len()).expect("short").to_be_bytes();
        connection.stream.write_all(&[length.as_slice(), &message].concat()).await.expect("open");
        assert!(connection.is_closed().await, "{message:?}");
        server.expect_metric(&format!("plgw_dns_malformed_packets_total {count}"));
    }
}

/// RFC 7766 §6.2.3. Connections in use stay open.
#[tokio::test]
async fn the_longest_idle_connection_makes_place_when_a_source_or_a_view_has_none_left() {
    let server = TestDns::start(fixture::view()).await;
    let question = query(SEEDS, RecordType::SRV);
    let vpc = |n: usize| format!("127.0.0.{}:0", 8 + n / MAXIMUM_PER_SOURCE);
    let mut open = Vec::new();
    for n in 0..maximum_connections(ViewKind::Vpc) {
        let mut connection = server.connect_from(&vpc(n)).await;
        connection.ask(&question).await;
        open.push(connection);
    }
    // The view is full: after the first connection's question, the second one has been idle for longest.
    open[0].ask(&question).await;
    let mut late = server.connect_from("127.0.0.99:0").await;
    assert_eq!(late.ask(&question).await.answers.len(), 3);
    assert!(open[1].is_closed().await);
    assert_eq!(open[0].ask(&question).await.answers.len(), 3);

    // A source at its limit displaces its own connection: the last remaining one of the first source.
    let last = open.pop().expect("connections");
    drop(last);
    let of_source = MAXIMUM_PER_SOURCE;
    let mut again = server.connect_from(&vpc(of_source)).await;
    assert_eq!(again.ask(&question).await.answers.len(), 3);
    assert!(open[of_source].is_closed().await, "the first of the second source");
    assert_eq!(open[2].ask(&question).await.answers.len(), 3, "longer idle, but another source's");
}

/// Public clients, the service's side and unknown sources have separate limits.
#[tokio::test]
async fn sources_outside_the_vpcs_cannot_take_the_places_of_vpc_clients() {
    let server = TestDns::start(fixture::view()).await;
    let question = query(SEEDS, RecordType::SRV);
    let mut first = server.connect().await;
    first.ask(&question).await;
    let mut held = Vec::new();
    for n in 0..maximum_connections(ViewKind::Vpc) {
        for network in ["127.9.0", "127.1.0", "127.77.0"] {
            let mut connection = server.connect_from(&format!("{network}.{}:0", 1 + n / 8)).await;
            connection.ask(&question).await;
            held.push(connection);
        }
    }
    assert_eq!(first.ask(&question).await.answers.len(), 3, "open since before");
    assert_eq!(server.connect_from("127.0.0.9:0").await.ask(&question).await.answers.len(), 3);
}

/// 0x20: clients that vary the case of a question expect it back unchanged.
#[tokio::test]
async fn the_question_comes_back_in_its_own_spelling() {
    let server = TestDns::start(fixture::view()).await;
    let asked = "_MongoDB._tcp.ClusteR0-pl-0-K45tj.mongodb.NET.";
    let message = server.ask(asked, RecordType::SRV).await;
    assert!(message.queries[0].name().eq_case(&Name::from_ascii(asked).expect("a name")));
    assert!(message.answers[0].name.eq_case(&Name::from_ascii(asked).expect("a name")));
    assert_eq!(message.answers.len(), 3);
}

/// A2, B9: the source determines the view.
#[tokio::test]
async fn the_source_address_decides_the_view() {
    let server = TestDns::start(fixture::view()).await;
    let name = "us-east-1.aws.services.cloud.mongodb.com.";
    let question = query(name, RecordType::A);
    for (source, code, answers) in [
        ("127.0.0.9:0", ResponseCode::NoError, 2),
        ("127.9.0.1:0", ResponseCode::NoError, 1),
        ("127.1.0.11:0", ResponseCode::Refused, 0),
        ("127.77.0.1:0", ResponseCode::Refused, 0),
    ] {
        let source: SocketAddr = source.parse().expect(source);
        let over_udp = exchange_from(source, server.address, &question).await;
        let over_tcp = connect_from(source, server.address).await.ask(&question).await;
        for message in [over_udp, over_tcp] {
            assert_eq!((message.metadata.response_code, message.answers.len()), (code, answers), "{source}");
        }
    }
    server.expect_metric(r#"plgw_dns_queries_total{view="vpc",type="a",rcode="noerror"} 2"#);
    server.expect_metric(r#"plgw_dns_queries_total{view="public",type="a",rcode="noerror"} 2"#);
    server.expect_metric(r#"plgw_dns_queries_total{view="none",type="a",rcode="refused"} 4"#);
}

#[tokio::test]
async fn unsupported_questions_get_their_response_codes() {
    let server = TestDns::start(fixture::view()).await;

    let mut update = query(SEEDS, RecordType::SRV);
    update.metadata.op_code = OpCode::Update;
    update.set_edns(edns(1232));
    let reply = server.exchange(&update).await;
    assert_eq!((reply.metadata.response_code, reply.metadata.op_code), (ResponseCode::NotImp, OpCode::Update));
    assert_eq!((reply.queries, reply.edns.is_some()), (update.queries, true));

    let mut two = query(SEEDS, RecordType::SRV);
    two.add_query(query(HOST, RecordType::A).queries.remove(0));
    assert_eq!(server.exchange(&two).await.metadata.response_code, ResponseCode::FormErr);

    let mut later = query(SEEDS, RecordType::SRV);
    let mut version = edns(1232);
    version.set_version(1);
    later.set_edns(version);
    let reply = server.exchange(&later).await;
    assert_eq!((u16::from(reply.metadata.response_code), reply.answers.len()), (16, 0));
    assert_eq!(reply.edns.expect("the version that is spoken").version(), 0);

    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    assert_eq!(server.exchange(&chaos).await.metadata.response_code, ResponseCode::Refused);
    let transfer = server.connect().await.ask(&query("mongodb.net.", RecordType::AXFR)).await;
    assert_eq!(transfer.metadata.response_code, ResponseCode::Refused);

    server.expect_metric(r#"plgw_dns_queries_total{view="none",type="other",rcode="notimp"} 1"#);
    server.expect_metric(r#"plgw_dns_queries_total{view="none",type="other",rcode="formerr"} 1"#);
    server.expect_metric("plgw_dns_malformed_packets_total 1");
    server.expect_metric(r#"plgw_dns_queries_total{view="none",type="srv",rcode="badvers"} 1"#);
    server.expect_metric("plgw_dns_answer_duration_seconds_count 5");
}

#[tokio::test]
async fn messages_that_are_no_questions_get_no_answers() {
    let server = TestDns::start(fixture::view()).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    client.connect(server.address).await.expect("loopback");
    let mut reply = query(SEEDS, RecordType::SRV);
    reply.metadata.message_type = MessageType::Response;
    for packet in [Vec::new(), b"too short".to_vec(), reply.to_vec().expect("a message")] {
        client.send(&packet).await.expect("sent");
    }
    let question = query(SEEDS, RecordType::SRV);
    client.send(&question.to_vec().expect("a message")).await.expect("sent");
    let first = receive(&client).await;
    assert_eq!(first.metadata.id, question.metadata.id, "the first reply is the question's answer");

    // A header whose counts exceed the message's records gets the shortest of replies.
    let mut counts = question.to_vec().expect("a message");
    counts[6..12].fill(0xff);
    client.send(&counts).await.expect("sent");
    let error = receive(&client).await;
    assert_eq!((error.metadata.response_code, error.metadata.id), (ResponseCode::FormErr, question.metadata.id));
}

#[test]
fn no_packet_disturbs_the_server() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(TestDns::start(fixture::view()));
    let client = runtime.block_on(async { UdpSocket::bind("127.0.0.1:0").await.expect("a port") });
    let question = query(SEEDS, RecordType::SRV);
    let mut with_edns = query(HOST, RecordType::A);
    with_edns.set_edns(edns(1400));
    let valid: Vec<_> = [question.clone(), with_edns].iter().map(|m| m.to_vec().expect("a message")).collect();

    let noise = proptest::collection::vec(any::<u8>(), 0..600);
    let damaged = (proptest::sample::select(valid), proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6))
        .prop_map(|(mut packet, edits)| {
            let length = packet.len();
            for (at, byte) in edits {
                packet[usize::from(at) % length] = byte;
            }
            packet
        });
    let mut runner = TestRunner::new(Config { cases: 512, failure_persistence: None, ..Config::default() });
    runner
        .run(&prop_oneof![noise, damaged], |packet| {
            runtime.block_on(async {
                client.send_to(&packet, server.address).await.expect("sent");
                let answer = server.exchange(&question).await;
                prop_assert_eq!(answer.answers.len(), 3);
                Ok(())
            })
        })
        .expect("every packet is survived");
}

#[tokio::test]
async fn other_names_are_forwarded_upstream() {
    let upstream = FakeResolver::start().await;
    let server = TestDns::start_with(fixture::view(), vec![upstream.address]).await;
    let mut question = query("wWw.example.com.", RecordType::A);
    question.set_edns(edns(1232));
    let mut connection = server.connect().await;
    for message in [server.exchange(&question).await, connection.ask(&question).await] {
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert!(message.metadata.recursion_available && !message.metadata.authoritative);
        assert_eq!(message.queries[0].name().to_ascii(), "wWw.example.com.");
        assert_eq!(message.answers[0].data, FakeResolver::address_record());
        assert!(message.edns.is_some());
    }
    // A missing name in a public zone, and an alias to outside the zones.
    assert_eq!(server.ask("other.mongodb.net.", RecordType::A).await.answers.len(), 1);
    let chained = server.ask("out.mongodb.net.", RecordType::A).await;
    let names: Vec<_> = chained.answers.iter().map(|record| record.name.to_ascii()).collect();
    assert_eq!(names, ["out.mongodb.net.", "www.example.com."]);
    // Private zones are not forwarded.
    let denied = server.ask("x.below.us-east-1.aws.services.cloud.mongodb.com.", RecordType::A).await;
    assert_eq!(denied.metadata.response_code, ResponseCode::NXDomain);

    let mut local = query("www.example.com.", RecordType::A);
    local.metadata.recursion_desired = false;
    assert_eq!(server.exchange(&local).await.metadata.response_code, ResponseCode::Refused);
    // Public clients, the service's side and unknown sources are not served other names.
    for source in ["127.9.0.1:0", "127.1.0.11:0", "127.77.0.1:0"] {
        let source = source.parse().expect("an address");
        let refused = exchange_from(source, server.address, &query("www.example.com.", RecordType::A)).await;
        assert_eq!(refused.metadata.response_code, ResponseCode::Refused, "{source}");
    }
    server.expect_metric(r#"plgw_dns_forwarded_total{outcome="answered"} 4"#);
}

#[tokio::test]
async fn a_forwarded_answer_that_is_too_long_is_truncated_with_tc() {
    let upstream = FakeResolver::start().await;
    let server = TestDns::start_with(fixture::view(), vec![upstream.address]).await;
    let mut question = query("many.example.com.", RecordType::A);
    let cut = server.exchange(&question).await;
    assert!(cut.metadata.truncation && (1..40).contains(&cut.answers.len()));
    question.set_edns(edns(1232));
    assert_eq!(server.exchange(&question).await.answers.len(), 40);
}

#[tokio::test]
async fn without_an_upstream_answer_the_question_fails() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let server = TestDns::start_with(fixture::view(), vec![closed]).await;
    let message = server.ask("out.mongodb.net.", RecordType::A).await;
    assert_eq!((message.metadata.response_code, message.answers.len()), (ResponseCode::ServFail, 0));
    server.expect_metric(r#"plgw_dns_forwarded_total{outcome="timeout"} 1"#);
}

/// The server's own address, and every address of this host when the server listens on all of them.
#[tokio::test]
async fn a_server_that_would_forward_to_itself_does_not_start() {
    for (listen, upstream) in [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.53"),
        ("0.0.0.0", "0.0.0.0"),
        ("127.0.0.1", "0.0.0.0"),
    ] {
        let sockets = bind(SocketAddr::new(listen.parse().expect(listen), 0), "dns.listen").expect("a port");
        let port = sockets.udp[0].local_addr().expect("bound").port();
        let own = SocketAddr::new(upstream.parse().expect(upstream), port);
        let error = start(sockets, own).expect_err("a loop");
        assert!(matches!(error, DnsError::ForwardsToItself(address) if address == own), "{listen} {upstream}");
    }
    let sockets = bind("127.0.0.1:0".parse().expect("an address"), "dns.listen").expect("a port");
    let port = sockets.udp[0].local_addr().expect("bound").port();
    start(sockets, SocketAddr::from(([127, 0, 0, 53], port))).expect("another address");
    let sockets = bind("0.0.0.0:0".parse().expect("an address"), "dns.listen").expect("a port");
    let port = sockets.udp[0].local_addr().expect("bound").port();
    start(sockets, SocketAddr::from(([192, 0, 2, 1], port))).expect("another host");

    fn start(sockets: super::DnsSockets, upstream: SocketAddr) -> Result<DnsServer, DnsError> {
        let options =
            DnsSettings { forward: vec![upstream], public_clients: CidrSet::default(), ..DnsSettings::default() };
        let (_snapshots, receiver) = watch::channel(Arc::new(Snapshot::default()));
        let metrics = DnsMetrics::new(&metrics::NoopRecorder);
        DnsServer::start(sockets, options, receiver, metrics, &CancellationToken::new())
    }
}

/// An upstream resolver that forwards to this server: one question must not become many.
#[tokio::test]
async fn a_loop_through_an_upstream_resolver_is_detected() {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
    let looping = socket.local_addr().expect("bound");
    let server = TestDns::start_with(fixture::view(), vec![looping]).await;
    let address = server.address;
    let (counted, mut count) = watch::channel(0);
    let _resolver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let mut packet = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.expect("a question");
            counted.send_modify(|count| *count += 1);
            let (socket, question) = (Arc::clone(&socket), packet[..length].to_vec());
            tokio::spawn(async move {
                let onward = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
                onward.send_to(&question, address).await.expect("sent");
                let mut reply = [0; 4096];
                let length = onward.recv(&mut reply).await.expect("an answer");
                socket.send_to(&reply[..length], from).await.expect("sent");
            });
        }
    }));
    count.wait_for(|count| *count > 0).await.expect("the probe at the start");
    let answered = server.ask("www.example.com.", RecordType::A).await;
    assert_eq!(answered.metadata.response_code, ResponseCode::ServFail);
    let before = *count.borrow();
    assert!(before < 16, "{before} questions");
    for name in ["www.example.com.", "www.example.org."] {
        assert_eq!(server.ask(name, RecordType::A).await.metadata.response_code, ResponseCode::ServFail);
    }
    assert_eq!(*count.borrow(), before, "it is asked no more");
    assert_eq!(server.ask(SEEDS, RecordType::SRV).await.answers.len(), 3);
}

#[tokio::test]
async fn a_stop_ends_connections_and_frees_the_address() {
    let server = TestDns::start(fixture::view()).await;
    let mut connection = server.connect().await;
    connection.ask(&query(SEEDS, RecordType::SRV)).await;
    let address = server.address;
    server.stop.cancel();
    let stopped = timeout(Duration::from_secs(5), server.server.stopped()).await;
    stopped.expect("within its time").expect("without an error");
    assert!(connection.is_closed().await);
    bind(address, "dns.listen").expect("free again");
}

/// A server on loopback, and clients for it.
struct TestDns {
    address: SocketAddr,
    server: DnsServer,
    snapshots: watch::Sender<Arc<Snapshot>>,
    metrics: Registry,
    stop: CancellationToken,
}

impl TestDns {
    async fn start(view: DnsView) -> Self {
        Self::start_with(view, Vec::new()).await
    }

    async fn start_with(view: DnsView, forward: Vec<SocketAddr>) -> Self {
        let sockets = bind("127.0.0.1:0".parse().expect("an address"), "dns.listen").expect("a port");
        let options = DnsSettings { forward, public_clients: cidrs(&["127.9.0.0/16"]), ..DnsSettings::default() };
        let (snapshots, receiver) = watch::channel(fixture::snapshot(view));
        let registry = Registry::new();
        let metrics = DnsMetrics::new(registry.recorder());
        let stop = CancellationToken::new();
        let server = DnsServer::start(sockets, options, receiver, metrics, &stop).expect("it starts");
        let [address] = *server.addresses() else { panic!("one address: {:?}", server.addresses()) };
        Self { address, server, snapshots, metrics: registry, stop }
    }

    fn publish(&self, view: DnsView) {
        self.snapshots.send(fixture::snapshot(view)).expect("the server listens");
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.exchange(&query(name, kind)).await
    }

    async fn exchange(&self, question: &Message) -> Message {
        exchange_from("127.0.0.1:0".parse().expect("an address"), self.address, question).await
    }

    async fn connect(&self) -> Connection {
        connect_from("127.0.0.1:0".parse().expect("an address"), self.address).await
    }

    async fn connect_from(&self, source: &str) -> Connection {
        connect_from(source.parse().expect("an address"), self.address).await
    }

    fn expect_metric(&self, line: &str) {
        let page = self.metrics.render();
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}

struct Connection {
    stream: TcpStream,
}

impl Connection {
    async fn ask(&mut self, question: &Message) -> Message {
        self.stream.write_all(&framed(question)).await.expect("open");
        self.receive().await
    }

    async fn receive(&mut self) -> Message {
        let read = async {
            let mut bytes = vec![0; usize::from(self.stream.read_u16().await.expect("a length"))];
            self.stream.read_exact(&mut bytes).await.expect("an answer");
            Message::from_vec(&bytes).expect("a message")
        };
        timeout(Duration::from_secs(5), read).await.expect("an answer in time")
    }

    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let read = timeout(Duration::from_secs(60), self.stream.read_to_end(&mut rest)).await;
        read.is_ok() && rest.is_empty()
    }
}

async fn connect_from(source: SocketAddr, server: SocketAddr) -> Connection {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(source).expect("loopback");
    Connection { stream: socket.connect(server).await.expect("it listens") }
}

async fn exchange_from(source: SocketAddr, server: SocketAddr, question: &Message) -> Message {
    let client = UdpSocket::bind(source).await.expect("loopback");
    client.connect(server).await.expect("loopback");
    client.send(&question.to_vec().expect("a message")).await.expect("sent");
    let answer = receive(&client).await;
    assert_eq!(answer.metadata.id, question.metadata.id);
    answer
}

async fn receive(client: &UdpSocket) -> Message {
    let mut packet = vec![0; 4096];
    let length = timeout(Duration::from_secs(5), client.recv(&mut packet)).await;
    let length = length.expect("an answer in time").expect("an answer");
    Message::from_vec(&packet[..length]).expect("a message")
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

fn edns(payload: u16) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    edns
}

fn framed(message: &Message) -> Vec<u8> {
    let bytes = message.to_vec().expect("a message");
    let length = u16::try_from(bytes.len()).expect("short");
    [length.to_be_bytes().as_slice(), &bytes].concat()
}

fn ports(message: &Message) -> Vec<u16> {
    let port = |record: &Record| match &record.data {
        RData::SRV(srv) => Some(srv.port),
        _ => None,
    };
    message.answers.iter().filter_map(port).collect()
}

/// A resolver without EDNS that has an address for every name, and forty for names that begin with `many`.
struct FakeResolver {
    address: SocketAddr,
    _serving: tokio_util::task::AbortOnDropHandle<()>,
}

impl FakeResolver {
    fn address_record() -> RData {
        RData::A(std::net::Ipv4Addr::new(192, 0, 2, 7).into())
    }

    async fn start() -> Self {
        let super::DnsSockets { udp, tcp } = bind("127.0.0.1:0".parse().expect("an address"), "fake").expect("a port");
        let address = udp[0].local_addr().expect("bound");
        let serving = tokio::spawn(async move {
            let mut packet = [0; 512];
            loop {
                tokio::select! {
                    received = udp[0].recv_from(&mut packet) => {
                        let (length, from) = received.expect("a question");
                        let mut answer = Self::answer(&packet[..length]);
                        if answer.answers.len() > 20 {
                            answer.answers.clear();
                            answer.metadata.truncation = true;
                        }
                        udp[0].send_to(&answer.to_vec().expect("a message"), from).await.expect("sent");
                    }
                    accepted = tcp[0].accept() => {
                        let mut stream = accepted.expect("a connection").0;
                        let mut question = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
                        stream.read_exact(&mut question).await.expect("a question");
                        stream.write_all(&framed(&Self::answer(&question))).await.expect("open");
                    }
                }
            }
        });
        Self { address, _serving: tokio_util::task::AbortOnDropHandle::new(serving) }
    }

    fn answer(question: &[u8]) -> Message {
        let mut message = Message::from_vec(question).expect("a message").into_response();
        let name = message.queries[0].name().clone();
        let count = if name.to_ascii().starts_with("many") { 40 } else { 1 };
        for _ in 0..count {
            message.add_answer(Record::from_rdata(name.clone(), 30, Self::address_record()));
        }
        message
    }
}
