//! Admission.

use plgw::model::EndpointState;

use crate::support::{ClientNetwork, EchoTarget, Flow, Net, TestGateway};

/// A3: clients in a peered VPC, or in a data centre behind Direct Connect, need no access list entry.
#[tokio::test]
async fn joined_networks_pass_and_others_are_dropped() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    for place in [ClientNetwork::Vpc, ClientNetwork::Peered, ClientNetwork::OnPremises] {
        let mut flow = Flow::connect(gateway.net.source(place), gateway.address("a")).await.expect("it accepts");
        assert_eq!(flow.echo(b"hello").await, b"hello", "{place:?}");
    }
    let mut flow =
        Flow::connect(gateway.net.source(ClientNetwork::Public), gateway.address("a")).await.expect("it accepts");
    assert!(flow.is_unanswered().await);
    gateway.expect_metric("plgw_refused_flows_total", &[r#"reason="origin""#], 1.0).await;
}

/// A2: from the service's side nothing is answered, on any address that the gateway owns.
#[tokio::test]
async fn nothing_from_the_services_side_is_answered_anywhere() {
    let net = Net::claim();
    // A port whose target refuses would refuse every client; these targets listen.
    let _targets = [
        EchoTarget::start(net.target(0)).await,
        EchoTarget::start(net.target(1)).await,
        EchoTarget::start(net.target(2)).await,
    ];
    let gateway = TestGateway::start(net).await;
    let snapshot = gateway.gateway.snapshot();
    let sources = [gateway.net.source(ClientNetwork::Service), gateway.net.target(0).ip()];
    assert_eq!(snapshot.listeners.len(), 7, "three ports at two addresses, and one public address");
    for source in sources {
        for address in snapshot.listeners.keys() {
            let mut flow = Flow::connect(source, *address).await.expect("the kernel accepts");
            assert!(flow.is_unanswered().await, "{source} on {address}");
        }
        // The exporter closes without an answer; DNS over TCP does or refuses.
        let mut metrics = Flow::connect(source, gateway.net.metrics()).await.expect("the kernel accepts");
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = metrics.stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = metrics.stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(dns_code(source, gateway.net.dns()).await, 5, "REFUSED");
    }
    gateway.expect_metric("plgw_refused_flows_total", &[r#"reason="one_way""#], 14.0).await;
    assert_eq!(gateway.metric("plgw_flows_opened_total", &[]), Some(0.0));
}

/// A persistent connection to the metrics or the admin API ends without a response once a reload puts its source on the
/// service's side.
#[tokio::test]
async fn a_kept_connection_gets_no_answer_once_its_source_is_the_services() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let net = Net::claim();
    let admin = (net.metrics().ip(), 8474).into();
    let gateway = TestGateway::start_with(net, |config| config.settings.admin = Some(admin)).await;
    let source = gateway.net.source(ClientNetwork::Public);
    let mut kept = Vec::new();
    for (address, path) in [(gateway.net.metrics(), "/healthz"), (admin, "/v1/status")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let mut stream = Flow::connect(source, address).await.expect("it listens").stream;
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = [0; 4096];
        let n = stream.read(&mut answer).await.expect("an answer");
        assert!(answer[..n].starts_with(b"HTTP/1.1 "), "{path}: {}", String::from_utf8_lossy(&answer[..n]));
        kept.push((stream, request));
    }
    let mut config = gateway.net.config();
    config.desired.projects[0].services[0].cidrs = [ipnet::IpNet::from(source)].into_iter().collect();
    gateway.gateway.control().replace_inventory(Ok(config.desired)).await.expect("applied");
    for (mut stream, request) in kept {
        let _ = stream.write_all(request.as_bytes()).await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.windows(5).any(|part| part == b"HTTP/"), "{}", String::from_utf8_lossy(&rest));
    }
}

/// The response code of a question for the seed list's host, asked over UDP from `source`.
async fn dns_code(source: std::net::IpAddr, server: std::net::SocketAddr) -> u8 {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in "pl-0-us-east-1-k45tj.mongodb.net".split('.') {
        question.push(u8::try_from(label.len()).expect("short"));
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    let socket = tokio::net::UdpSocket::bind((source, 0)).await.expect("a free port");
    socket.connect(server).await.expect("an address");
    socket.send(&question).await.expect("sent");
    let mut answer = [0; 512];
    let n = tokio::time::timeout(crate::support::SOON, socket.recv(&mut answer)).await.expect("in time").expect("read");
    assert!(n >= 12 && answer[..2] == question[..2]);
    answer[3] & 15
}

/// A25: without a rule for the port or the source, a connection is dropped, and counted by reason.
#[tokio::test]
async fn a_security_group_drops_what_no_rule_names() {
    let net = Net::claim();
    let _targets = [EchoTarget::start(net.target(0)).await, EchoTarget::start(net.target(1)).await];
    let gateway = TestGateway::start_with(net, |config| {
        let vpc = config.desired.vpcs.values_mut().next().expect("one VPC");
        let group = vpc.security_groups.values_mut().next().expect("one group");
        group.ingress[0].ports = "1024-1024".parse().expect("a range");
    })
    .await;
    assert_eq!(gateway.dial("a").await.echo(b"in").await, b"in");
    assert!(gateway.dial("b").await.is_unanswered().await);
    gateway.expect_metric("plgw_refused_flows_total", &[r#"reason="security_group""#], 1.0).await;
}

/// A15: the public path admits clients on the access list; the private path does not use it.
#[tokio::test]
async fn the_public_path_asks_the_access_list() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let snapshot = gateway.gateway.snapshot();
    let public = snapshot.listeners.keys().find(|address| address.port() == 27017).expect("a public address");
    let listed = gateway.net.source(ClientNetwork::Public);
    let mut flow = Flow::connect(listed, *public).await.expect("it accepts");
    assert_eq!(flow.echo(b"standard string").await, b"standard string");
    let mut flow = Flow::connect(gateway.net.source(ClientNetwork::Vpc), *public).await.expect("it accepts");
    assert!(flow.is_unanswered().await);
    gateway.expect_metric("plgw_refused_flows_total", &[r#"reason="access_list""#, "public"], 1.0).await;
}

#[tokio::test]
async fn an_endpoint_that_waits_for_acceptance_has_no_listener() {
    let gateway = TestGateway::start_with(Net::claim(), |config| {
        let endpoint = config.desired.endpoints.values_mut().next().expect("one endpoint");
        endpoint.state = EndpointState::PendingAcceptance;
    })
    .await;
    let address = (gateway.net.endpoint_a(), 1024).into();
    assert!(Flow::connect(gateway.net.source(ClientNetwork::Vpc), address).await.is_err());
}
