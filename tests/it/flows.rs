//! Flows through the gateway: bytes, ends, counts.

use std::time::Duration;

use plgw::model::TargetState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    ClientNetwork, Closed, EchoTarget, Flow, HeldTarget, Net, RecordingTarget, ResettingTarget, SOON, SilentTarget,
    TestGateway, eventually,
};

/// A1, A5, A12: one address a zone, the ports from 1024, and the port alone chooses the node.
#[tokio::test]
async fn each_port_of_each_address_leads_to_its_own_node() {
    let net = Net::claim();
    let mut targets = [
        HeldTarget::start(net.target(0)).await,
        HeldTarget::start(net.target(1)).await,
        HeldTarget::start(net.target(2)).await,
    ];
    let gateway = TestGateway::start(net).await;
    let (vpc, a, b) = (gateway.net.source(ClientNetwork::Vpc), gateway.net.endpoint_a(), gateway.net.endpoint_b());
    for (i, target) in targets.iter_mut().enumerate() {
        let port = 1024 + u16::try_from(i).expect("small");
        for address in [a, b] {
            let mut flow = Flow::connect(vpc, (address, port).into()).await.expect("it accepts");
            flow.stream.write_all(b"for whom?").await.expect("written");
            let mut got = [0; 9];
            target.next().await.read_exact(&mut got).await.expect("read");
            assert_eq!(&got, b"for whom?");
        }
    }
}

#[tokio::test]
async fn bytes_are_counted_by_direction_and_ends_by_name() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let mut flow = gateway.dial("a").await;
    assert_eq!(flow.echo(b"twelve bytes").await, b"twelve bytes");
    gateway.expect_metric("plgw_active_flows", &[r#"target="Cluster0/a""#], 1.0).await;
    assert_eq!(gateway.gateway.flows().len(), 1);
    flow.stream.shutdown().await.expect("FIN");
    assert_eq!(flow.closed().await, Closed::Fin);
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="completed""#, "Cluster0/a"], 1.0).await;
    for direction in [r#"direction="to_target""#, r#"direction="to_client""#] {
        gateway.expect_metric("plgw_processed_bytes_total", &[direction, "Cluster0/a"], 12.0).await;
    }
    assert_eq!(gateway.metric("plgw_flows_opened_total", &["us-east-1a", "Cluster0/a"]), Some(1.0));
    assert!(gateway.gateway.flows().is_empty());
}

#[tokio::test]
async fn a_target_that_resets_resets_its_client() {
    let net = Net::claim();
    let _resetting = ResettingTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"x").await.expect("written");
    assert_eq!(flow.closed().await, Closed::Reset);
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="target_reset""#], 1.0).await;
    gateway.expect_metric("plgw_tcp_resets_total", &[r#"origin="target""#], 1.0).await;
}

#[tokio::test]
async fn a_client_that_resets_resets_its_target() {
    let net = Net::claim();
    let mut held = HeldTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"x").await.expect("written");
    let mut target = Flow { stream: held.next().await };
    flow.stream.set_zero_linger().expect("a live socket");
    drop(flow);
    assert_eq!(target.closed().await, Closed::Reset);
    gateway.expect_metric("plgw_tcp_resets_total", &[r#"origin="client""#], 1.0).await;
}

/// A client whose bytes the target does not accept is not read, but its RST is still detected.
#[tokio::test]
async fn a_reset_is_detected_while_the_target_reads_nothing() {
    let net = Net::claim();
    let mut held = HeldTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let mut flow = gateway.dial("a").await;
    // More than all the buffers on the way hold.
    let chunk = vec![7; 1 << 20];
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(300), flow.stream.write(&chunk)).await {
        assert!(written.expect("it is taken") > 0);
    }
    let target = held.next().await;
    flow.stream.set_zero_linger().expect("a live socket");
    drop(flow);
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="client_reset""#], 1.0).await;
    drop(target);
}

/// Bytes and FIN that a client sends before its target has answered are kept for the target.
#[tokio::test]
async fn bytes_and_end_of_an_early_client_reach_a_target_that_answers_late() {
    let net = Net::claim();
    let silent = SilentTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"early").await.expect("the kernel takes it");
    flow.stream.shutdown().await.expect("a live socket");
    silent.is_dialed(&gateway).await;
    let _echo = EchoTarget::on(silent.answer().await);
    let mut answer = Vec::new();
    // The kernel asks the target again after a second, then two.
    tokio::time::timeout(SOON, flow.stream.read_to_end(&mut answer))
        .await
        .expect("in time")
        .expect("an answer, and its end");
    assert_eq!(answer, b"early");
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="completed""#], 1.0).await;
}

#[tokio::test]
async fn a_client_that_resets_before_its_target_answers_resets_it() {
    let net = Net::claim();
    let silent = SilentTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let flow = gateway.dial("a").await;
    silent.is_dialed(&gateway).await;
    flow.stream.set_zero_linger().expect("a live socket");
    drop(flow);
    let target = silent.answer().await;
    // Among those that come may be health checks.
    while Flow::accept(&target).await.closed().await != Closed::Reset {}
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="client_reset""#], 1.0).await;
}

#[tokio::test]
async fn a_half_close_leaves_the_answer_flowing() {
    let net = Net::claim();
    let mut held = HeldTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"question").await.expect("written");
    flow.stream.shutdown().await.expect("FIN");
    let mut target = held.next().await;
    let mut question = String::new();
    target.read_to_string(&mut question).await.expect("to the FIN");
    assert_eq!(question, "question");
    target.write_all(&vec![7; 300_000]).await.expect("written");
    drop(target);
    let mut answer = Vec::new();
    flow.stream.read_to_end(&mut answer).await.expect("to the FIN");
    assert!(answer.len() == 300_000 && answer.iter().all(|byte| *byte == 7));
}

/// The gateway accepts before it knows that the target refuses, so the first client sees an immediate reset. From then
/// on the port refuses (`health.rs`).
#[tokio::test]
async fn the_first_client_of_a_refusing_target_is_reset() {
    let net = Net::claim();
    let echo = EchoTarget::start(net.target(1)).await;
    let gateway = TestGateway::start_with(net, |config| {
        // No check may find out first.
        config.desired.projects[0].services[0].attributes.health_check.interval = Duration::from_secs(300);
    })
    .await;
    // The first check comes with the start.
    crate::health::state_of(&gateway, "b", TargetState::Healthy).await;
    gateway.dial("b").await.echo(b"x").await;
    drop(echo);
    while tokio::net::TcpStream::connect(gateway.net.target(1)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    match Flow::connect(gateway.net.source(ClientNetwork::Vpc), gateway.address("b")).await {
        Ok(mut flow) => assert_eq!(flow.closed().await, Closed::Reset),
        // The reset may be there before the connection is looked at.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="unreachable""#, "Cluster0/b"], 1.0).await;
}

/// NLB expires an idle flow silently; the next segment from either side is answered with RST.
#[tokio::test]
async fn an_idle_flow_expires_and_later_bytes_are_reset() {
    let net = Net::claim();
    let mut held = HeldTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        config.desired.projects[0].services[0].attributes.idle_timeout = Duration::from_secs(1);
    })
    .await;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"x").await.expect("written");
    let mut target = Flow { stream: held.next().await };
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="idle""#], 1.0).await;
    assert!(gateway.gateway.flows().is_empty());
    let mut one = [0; 1];
    target.stream.read_exact(&mut one).await.expect("what was sent in time");
    let silent = tokio::time::timeout(Duration::from_millis(50), target.stream.read(&mut one)).await;
    assert!(silent.is_err(), "the expiry is not announced");
    flow.stream.write_all(b"too late").await.expect("the kernel takes it");
    assert_eq!(flow.closed().await, Closed::Reset);
    assert_eq!(target.closed().await, Closed::Reset);
    gateway.expect_metric("plgw_tcp_resets_total", &[r#"origin="elb""#], 1.0).await;
}

/// NLB: keepalive packets from either side restart the idle timer, though they carry no payload.
#[tokio::test]
async fn keepalive_probes_keep_a_silent_flow() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        config.desired.projects[0].services[0].attributes.idle_timeout = Duration::from_millis(1900);
    })
    .await;
    let mut kept = gateway.dial("a").await;
    let probing = socket2::TcpKeepalive::new().with_time(Duration::from_secs(1)).with_interval(Duration::from_secs(1));
    socket2::SockRef::from(&kept.stream).set_tcp_keepalive(&probing).expect("a live socket");
    kept.echo(b"x").await;
    // Two that are silent, one after the other, measure the time.
    for expired in [1.0, 2.0] {
        let mut silent = gateway.dial("a").await;
        silent.echo(b"x").await;
        gateway.expect_metric("plgw_flows_closed_total", &[r#"end="idle""#], expired).await;
    }
    assert_eq!(kept.echo(b"still here").await, b"still here");
}

#[tokio::test]
async fn a_half_closed_flow_expires_silently_too() {
    let net = Net::claim();
    let mut held = HeldTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        config.desired.projects[0].services[0].attributes.idle_timeout = Duration::from_secs(1);
    })
    .await;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"x").await.expect("written");
    let mut target = Flow { stream: held.next().await };
    flow.stream.shutdown().await.expect("FIN");
    let mut bytes = String::new();
    target.stream.read_to_string(&mut bytes).await.expect("to the FIN");
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="idle""#], 1.0).await;
    let mut one = [0; 1];
    let silent = tokio::time::timeout(Duration::from_millis(50), flow.stream.read(&mut one)).await;
    assert!(silent.is_err(), "the expiry is not announced");
    target.stream.write_all(b"too late").await.expect("the kernel takes it");
    assert_eq!(flow.closed().await, Closed::Reset);
}

/// A16: what a real `loadBalancerPort` requires: the header comes once, first, together with the payload.
#[tokio::test]
async fn a_proxy_header_and_the_first_payload_come_together() {
    let net = Net::claim();
    let mut recording = RecordingTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        config.desired.projects[0].services[0].attributes.proxy_protocol = true;
    })
    .await;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"payload").await.expect("written");
    let first = loop {
        let read = recording.next().await;
        // A health check's header says LOCAL and nothing else.
        if read.len() > 16 {
            break read;
        }
    };
    let header = ppp::v2::Header::try_from(first.as_slice()).expect("an independent decoder reads it");
    assert_eq!(&first[header.len()..], b"payload");
    let ppp::v2::Addresses::IPv4(addresses) = header.addresses else { panic!("{:?}", header.addresses) };
    let client = flow.stream.local_addr().expect("connected");
    let port = gateway.port("a");
    assert_eq!(std::net::IpAddr::from(addresses.source_address), client.ip());
    assert_eq!((addresses.source_port, addresses.destination_port), (client.port(), port));
    let vpce = header.tlvs().filter_map(Result::ok).find(|tlv| tlv.kind == 0xEA).expect("the endpoint's id");
    assert_eq!(vpce.value.as_ref(), b"\x01vpce-024f5b57108c8d3ed");
}

#[tokio::test]
async fn an_operator_ends_a_flow_by_its_id() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let mut flow = gateway.dial("a").await;
    flow.echo(b"x").await;
    let id = gateway.gateway.flows()[0].id;
    assert!(gateway.gateway.kill(id));
    assert_eq!(flow.closed().await, Closed::Reset);
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="drained""#], 1.0).await;
    assert!(!gateway.gateway.kill(id), "it is gone");
}

#[tokio::test]
async fn probes_make_targets_healthy_and_count_as_no_flow() {
    let net = Net::claim();
    let _targets = [EchoTarget::start(net.target(0)).await, EchoTarget::start(net.target(1)).await];
    let gateway = TestGateway::start_with(net, |config| {
        let check = &mut config.desired.projects[0].services[0].attributes.health_check;
        (check.interval, check.timeout) = (Duration::from_millis(50), Duration::from_millis(50));
    })
    .await;
    eventually("two healthy targets and an unhealthy one", || {
        let states: Vec<_> = gateway.gateway.snapshot().targets.iter().map(|target| target.state).collect();
        let wanted = [TargetState::Healthy, TargetState::Healthy, TargetState::Unhealthy];
        (states == wanted).then_some(()).ok_or(states)
    })
    .await;
    gateway.expect_metric("plgw_targets", &[r#"state="healthy""#], 2.0).await;
    assert_eq!(gateway.metric("plgw_flows_opened_total", &[]), Some(0.0));
    assert_eq!(gateway.metric("plgw_processed_bytes_total", &[]), Some(0.0));
}
