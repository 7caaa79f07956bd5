//! Injected faults: their effect on flows, ports, zones and resolvers.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use plgw::model::{DnsFailure, Fault, FaultDirection, FaultKind, FaultScope, Share, TargetState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::health::{quick_checks, state_of};
use crate::support::{
    ClientNetwork, Closed, EchoTarget, Flow, HeldTarget, Net, Resolver, SOON, SilentTarget, TestGateway, eventually,
};

fn fault(name: &str, kind: FaultKind) -> Fault {
    let (scope, share, after) = (FaultScope::default(), Share::default(), Duration::ZERO);
    Fault { name: name.to_owned(), kind, scope, share, seed: 7, after, lasts: None }
}

async fn with_echo() -> (TestGateway, EchoTarget) {
    let net = Net::claim();
    let echo = EchoTarget::start(net.target(0)).await;
    (TestGateway::start(net).await, echo)
}

async fn set(gateway: &TestGateway, fault: Fault) {
    gateway.gateway.control().set_fault(fault).await.expect("the fault is set");
}

async fn clear(gateway: &TestGateway, name: &str) {
    gateway.gateway.control().clear_fault(name.to_owned()).await.expect("the fault is cleared");
}

/// Opens flows until one is not affected by the fault: the workers get changes one after another.
async fn eventually_echoes(gateway: &TestGateway) {
    let deadline = Instant::now() + SOON;
    loop {
        if let Ok(mut flow) = Flow::connect(gateway.net.source(ClientNetwork::Vpc), gateway.address("a")).await {
            let _ = flow.stream.write_all(b"well").await;
            let mut back = [0; 4];
            let answered = tokio::time::timeout(Duration::from_millis(500), flow.stream.read_exact(&mut back)).await;
            if matches!(answered, Ok(Ok(_))) {
                return;
            }
        }
        assert!(Instant::now() < deadline, "the port does not recover");
    }
}

#[tokio::test]
async fn latency_delays_each_direction_and_only_flows_that_start_under_it() {
    let (gateway, _echo) = with_echo().await;
    let mut before = gateway.dial("a").await;
    before.echo(b"x").await;
    let (delay, jitter, direction) = (Duration::from_millis(150), Duration::ZERO, FaultDirection::Both);
    set(&gateway, fault("slow", FaultKind::Latency { delay, jitter, direction })).await;
    let mut slow = gateway.dial("a").await;
    let started = Instant::now();
    assert_eq!(slow.echo(b"there and back").await, b"there and back");
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    let named = gateway.gateway.flows().into_iter().filter(|flow| flow.faults == ["slow"]).count();
    assert_eq!(named, 1);
    gateway.expect_metric("plgw_faulted_flows_total", &[r#"fault="slow""#, r#"type="latency""#], 1.0).await;
    // Once a flow; the one without the fault had its first byte sooner than the delay of one way.
    let first_byte = async |series: &str, labels: &[&str], count: f64| {
        let name = format!("plgw_first_byte_duration_seconds_{series}");
        gateway.expect_metric(&name, labels, count).await;
    };
    first_byte("count", &[], 2.0).await;
    first_byte("bucket", &[r#"le="0.16""#], 1.0).await;
    first_byte("bucket", &[r#"le="0.4""#], 2.0).await;
    let started = Instant::now();
    before.echo(b"as before").await;
    assert!(started.elapsed() < Duration::from_millis(150), "{:?}", started.elapsed());
    // Order and the end are kept.
    let bytes: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    slow.stream.set_nodelay(true).expect("an option");
    assert!(slow.echo(&bytes).await == bytes);
    slow.stream.shutdown().await.expect("FIN");
    assert_eq!(slow.closed().await, Closed::Fin);
}

#[tokio::test]
async fn jitter_spreads_the_delay_and_keeps_the_order() {
    let (gateway, _echo) = with_echo().await;
    let (delay, jitter, direction) = (Duration::from_millis(80), Duration::from_millis(80), FaultDirection::ToTarget);
    set(&gateway, fault("shaky", FaultKind::Latency { delay, jitter, direction })).await;
    let mut flow = gateway.dial("a").await;
    let mut took = Vec::new();
    for round in 0..12_u8 {
        let started = Instant::now();
        assert_eq!(flow.echo(&[round]).await, [round]);
        took.push(started.elapsed());
    }
    let spread = *took.iter().max().expect("some") - *took.iter().min().expect("some");
    assert!(spread > Duration::from_millis(30), "twelve delays of 0 to 160 ms: {took:?}");
    let named = gateway.gateway.flows().into_iter().filter(|flow| flow.faults == ["shaky"]).count();
    assert_eq!(named, 1);
}

#[tokio::test]
async fn bandwidth_matches_its_setting() {
    let (gateway, _echo) = with_echo().await;
    let direction = FaultDirection::ToTarget;
    set(&gateway, fault("thin", FaultKind::Bandwidth { bytes_per_second: 200_000, direction })).await;
    let mut flow = gateway.dial("a").await;
    let bytes = vec![5; 100_000];
    let started = Instant::now();
    assert!(flow.echo(&bytes).await == bytes);
    let took = started.elapsed().as_secs_f64();
    assert!((0.45..2.0).contains(&took), "100 kB at 200 kB/s took {took} s");
}

#[tokio::test]
async fn a_reset_comes_after_exactly_the_set_bytes_or_time() {
    let net = Net::claim();
    let mut held = HeldTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    set(&gateway, fault("cut", FaultKind::Reset { bytes: Some(10), time: None })).await;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"exactly ten and no more").await.expect("written");
    assert_eq!(flow.closed().await, Closed::Reset);
    let _target = held.next().await;
    gateway.expect_metric("plgw_processed_bytes_total", &[r#"direction="to_target""#, "Cluster0/a"], 10.0).await;
    set(&gateway, fault("cut", FaultKind::Reset { bytes: None, time: Some(Duration::from_millis(100)) })).await;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"x").await.expect("written");
    assert_eq!(flow.closed().await, Closed::Reset);
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="drained""#], 2.0).await;
}

#[tokio::test]
async fn a_half_open_flow_accepts_all_bytes_and_answers_nothing() {
    let (gateway, _echo) = with_echo().await;
    set(&gateway, fault("deaf", FaultKind::HalfOpen { time: Duration::from_millis(100) })).await;
    let mut flow = gateway.dial("a").await;
    assert_eq!(flow.echo(b"at first").await, b"at first");
    tokio::time::timeout(SOON, async {
        loop {
            flow.stream.write_all(b"?").await.expect("it is taken");
            let mut one = [0; 1];
            if tokio::time::timeout(Duration::from_millis(200), flow.stream.read(&mut one)).await.is_err() {
                return;
            }
        }
    })
    .await
    .expect("it goes deaf");
    assert!(flow.is_unanswered().await, "and no end either");
}

/// The target's side was closed before; the idle time-out must not send anything to the client.
#[tokio::test]
async fn a_half_open_flow_expires_silently_too() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        config.desired.projects[0].services[0].attributes.idle_timeout = Duration::from_secs(1);
    })
    .await;
    set(&gateway, fault("deaf", FaultKind::HalfOpen { time: Duration::ZERO })).await;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"?").await.expect("it is taken");
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="idle""#], 1.0).await;
    let mut one = [0; 1];
    let silent = tokio::time::timeout(Duration::from_millis(50), flow.stream.read(&mut one)).await;
    assert!(silent.is_err(), "the expiry is not announced");
    flow.stream.write_all(b"too late").await.expect("the kernel takes it");
    assert_eq!(flow.closed().await, Closed::Reset);
}

#[tokio::test]
async fn a_slow_close_delays_the_fin() {
    let (gateway, _echo) = with_echo().await;
    set(&gateway, fault("lingering", FaultKind::SlowClose { delay: Duration::from_millis(200) })).await;
    let mut flow = gateway.dial("a").await;
    flow.echo(b"x").await;
    let started = Instant::now();
    flow.stream.shutdown().await.expect("FIN");
    assert_eq!(flow.closed().await, Closed::Fin);
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_share_of_the_flows_is_refused_and_the_same_ones_in_every_run() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (gateway, _echo) = with_echo().await;
        let half = Share::new(0.5).expect("a share");
        set(&gateway, Fault { share: half, ..fault("flaky", FaultKind::Refuse {}) }).await;
        let mut fates = Vec::new();
        for _ in 0..40 {
            let fate = match Flow::connect(gateway.net.source(ClientNetwork::Vpc), gateway.address("a")).await {
                Ok(mut flow) => {
                    let _ = flow.stream.write_all(b"x").await;
                    matches!(flow.stream.read(&mut [0; 1]).await, Ok(1))
                }
                Err(_) => false,
            };
            fates.push(fate);
        }
        let refused = fates.iter().filter(|well| !**well).count();
        assert!((8..=32).contains(&refused), "{refused} of 40");
        #[expect(clippy::cast_precision_loss, reason = "40 at most")]
        let count = refused as f64;
        gateway.expect_metric("plgw_refused_flows_total", &[r#"reason="fault_reset""#], count).await;
        runs.push(fates);
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_port_can_refuse_and_a_port_can_be_a_black_hole() {
    let (gateway, _echo) = with_echo().await;
    let (source, address) = (gateway.net.source(ClientNetwork::Vpc), gateway.address("a"));
    set(&gateway, fault("closed", FaultKind::Refuse {})).await;
    let deadline = Instant::now() + SOON;
    while Flow::connect(source, address).await.is_ok() {
        assert!(Instant::now() < deadline, "it never refuses");
    }
    clear(&gateway, "closed").await;
    eventually_echoes(&gateway).await;
    set(&gateway, fault("hole", FaultKind::BlackHole {})).await;
    let deadline = Instant::now() + SOON;
    loop {
        let attempt = Flow::connect(source, address);
        if tokio::time::timeout(Duration::from_millis(150), attempt).await.is_err() {
            break;
        }
        assert!(Instant::now() < deadline, "it still answers");
    }
    clear(&gateway, "hole").await;
    eventually_echoes(&gateway).await;
}

/// The target itself is healthy; the gateway treats it as down for clients, its own probes and every view.
#[tokio::test]
async fn a_target_that_is_down_by_a_fault_resets_its_flows_and_refuses() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, quick_checks).await;
    state_of(&gateway, "a", TargetState::Healthy).await;
    let mut flow = gateway.dial("a").await;
    flow.echo(b"x").await;
    let scope = FaultScope { target: Some("Cluster0/a".parse().expect("an id")), ..FaultScope::default() };
    set(&gateway, Fault { scope, ..fault("down", FaultKind::TargetDown { silent: false }) }).await;
    assert_eq!(flow.closed().await, Closed::Reset);
    let deadline = Instant::now() + SOON;
    while Flow::connect(gateway.net.source(ClientNetwork::Vpc), gateway.address("a")).await.is_ok() {
        assert!(Instant::now() < deadline, "it never refuses");
    }
    state_of(&gateway, "a", TargetState::Unhealthy).await;
    clear(&gateway, "down").await;
    state_of(&gateway, "a", TargetState::Healthy).await;
    eventually_echoes(&gateway).await;
}

/// As if the target's host were gone: connections are not answered, and clients time out.
#[tokio::test]
async fn a_target_that_is_silent_by_a_fault_answers_neither_flows_nor_probes() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, quick_checks).await;
    state_of(&gateway, "a", TargetState::Healthy).await;
    let scope = FaultScope { target: Some("Cluster0/a".parse().expect("an id")), ..FaultScope::default() };
    set(&gateway, Fault { scope, ..fault("gone", FaultKind::TargetDown { silent: true }) }).await;
    gateway.expect_metric("plgw_fault_active", &[r#"fault="gone""#, r#"type="target-down""#], 1.0).await;
    eventually_silent(&gateway, gateway.address("a")).await;
    state_of(&gateway, "a", TargetState::Unhealthy).await;
    clear(&gateway, "gone").await;
    gateway.expect_metric("plgw_fault_active", &[r#"fault="gone""#], 0.0).await;
    state_of(&gateway, "a", TargetState::Healthy).await;
    eventually_echoes(&gateway).await;
}

/// Opens connections until one is not answered.
async fn eventually_silent(gateway: &TestGateway, address: std::net::SocketAddr) {
    let source = gateway.net.source(ClientNetwork::Vpc);
    let deadline = Instant::now() + SOON;
    while tokio::time::timeout(Duration::from_millis(150), Flow::connect(source, address)).await.is_ok() {
        assert!(Instant::now() < deadline, "{address} still answers");
    }
}

/// The targets of a lost zone, reached through the address of another zone.
#[tokio::test]
async fn targets_of_a_lost_zone_cannot_be_reached_through_another_zones_address() {
    let net = Net::claim();
    let _echoes = [EchoTarget::start(net.target(0)).await, EchoTarget::start(net.target(1)).await];
    let gateway = TestGateway::start(net).await;
    let (source, b) = (gateway.net.source(ClientNetwork::Vpc), gateway.net.endpoint_b());
    let (to_a, to_b) = ((b, gateway.port("a")).into(), (b, gateway.port("b")).into());
    let mut flow = Flow::connect(source, to_a).await.expect("it accepts");
    flow.echo(b"x").await;
    let scope = FaultScope { zone: Some("us-east-1a".parse().expect("a zone")), ..FaultScope::default() };
    set(&gateway, Fault { scope, ..fault("lost", FaultKind::ZoneOutage {}) }).await;
    eventually_silent(&gateway, to_a).await;
    assert_eq!(Flow::connect(source, to_b).await.expect("it accepts").echo(b"well").await, b"well");
    flow.stream.write_all(b"late").await.expect("the kernel takes it");
    let mut four = [0; 4];
    let standing = tokio::time::timeout(Duration::from_millis(150), flow.stream.read(&mut four)).await;
    assert!(standing.is_err(), "what flows to a lost target stands still");
    clear(&gateway, "lost").await;
    tokio::time::timeout(SOON, flow.stream.read_exact(&mut four)).await.expect("in time").expect("it goes on");
    assert_eq!(&four, b"late");
}

/// The target is lost before it has answered; once it is back, the flow continues.
#[tokio::test]
async fn a_flow_that_still_dials_pauses_and_continues_with_its_zone() {
    let net = Net::claim();
    let silent = SilentTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    let to_a = (gateway.net.endpoint_b(), gateway.port("a")).into();
    let mut flow = Flow::connect(gateway.net.source(ClientNetwork::Vpc), to_a).await.expect("it accepts");
    flow.stream.write_all(b"early").await.expect("the kernel takes it");
    silent.is_dialed(&gateway).await;
    let scope = FaultScope { zone: Some("us-east-1a".parse().expect("a zone")), ..FaultScope::default() };
    set(&gateway, Fault { scope, ..fault("lost", FaultKind::ZoneOutage {}) }).await;
    // The kernel asks the target again a second after the first time. Among those that come then may be health checks, which
    // end by themselves; the flow's connection doesn't.
    let target = silent.answer().await;
    let mut connection = loop {
        let mut flow = Flow::accept(&target).await;
        let mut one = [0; 1];
        match tokio::time::timeout(Duration::from_millis(150), flow.stream.read(&mut one)).await {
            Ok(Ok(1..)) => panic!("what flows to a lost target stands still"),
            Ok(_) => {}
            Err(_) => break flow,
        }
    };
    clear(&gateway, "lost").await;
    let mut five = [0; 5];
    tokio::time::timeout(SOON, connection.stream.read_exact(&mut five)).await.expect("in time").expect("it goes on");
    assert_eq!(&five, b"early");
}

/// A4: zone outage: its address is removed from DNS and does not answer, and its flows freeze; the other zone serves.
#[tokio::test]
async fn a_zone_outage_stops_its_flows_and_removes_it_from_dns() {
    let net = Net::claim();
    let _echoes = [EchoTarget::start(net.target(1)).await, EchoTarget::start(net.target(2)).await];
    let gateway = TestGateway::start(net).await;
    let (a, b) = (gateway.net.endpoint_a(), gateway.net.endpoint_b());
    let source = gateway.net.source(ClientNetwork::Vpc);
    let port = gateway.port("b");
    let mut through_a = Flow::connect(source, (a, port).into()).await.expect("it accepts");
    let mut through_b = Flow::connect(source, (b, port).into()).await.expect("it accepts");
    through_a.echo(b"x").await;
    through_b.echo(b"x").await;
    let scope = FaultScope { zone: Some("us-east-1a".parse().expect("a zone")), ..FaultScope::default() };
    set(&gateway, Fault { scope, ..fault("lost", FaultKind::ZoneOutage {}) }).await;
    assert_eq!(gateway.answers().await, [b]);
    assert_eq!(through_b.echo(b"serves").await, b"serves");
    let new = Flow::connect(source, (b, port).into()).await.expect("it accepts").echo(b"new").await;
    assert_eq!(new, b"new");
    let deadline = Instant::now() + SOON;
    let brief = Duration::from_millis(150);
    // The kernel may complete a handshake until the workers get the command, but no data comes back.
    while let Ok(accepted) = tokio::time::timeout(brief, Flow::connect(source, (a, port).into())).await {
        let mut accepted = accepted.expect("it accepts");
        assert!(tokio::time::timeout(brief, accepted.echo(b"lost")).await.is_err(), "the lost zone answers");
        assert!(Instant::now() < deadline, "the lost zone still accepts");
    }
    through_a.stream.write_all(b"late").await.expect("the kernel takes it");
    let mut four = [0; 4];
    let standing = tokio::time::timeout(Duration::from_millis(150), through_a.stream.read(&mut four)).await;
    assert!(standing.is_err(), "it stands still");
    clear(&gateway, "lost").await;
    tokio::time::timeout(SOON, through_a.stream.read_exact(&mut four)).await.expect("in time").expect("it goes on");
    assert_eq!(&four, b"late");
    assert_eq!(gateway.answers().await, [b, a]);
}

#[tokio::test]
async fn a_resolver_fails_as_configured_and_recovers() {
    let gateway = TestGateway::start(Net::claim()).await;
    let resolver = Resolver::new(gateway.net.source(ClientNetwork::Vpc), gateway.net.dns()).await;
    let name = "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net";
    for (answer, code) in [
        (DnsFailure::Servfail, ResponseCode::ServFail),
        (DnsFailure::Nxdomain, ResponseCode::NXDomain),
        (DnsFailure::Refused, ResponseCode::Refused),
    ] {
        let endpoint = Some("vpce-024f5b57108c8d3ed".parse().expect("an id"));
        let scope = FaultScope { endpoint, ..FaultScope::default() };
        set(&gateway, Fault { scope, ..fault("nameless", FaultKind::DnsFailure { answer }) }).await;
        assert_eq!(resolver.ask(name, RecordType::SRV).await.metadata.response_code, code);
        let outside = Resolver::new(gateway.net.source(ClientNetwork::Public), gateway.net.dns()).await;
        let given = outside.ask(name, RecordType::SRV).await;
        assert_eq!(given.metadata.response_code, ResponseCode::NoError, "it fails in the endpoint's VPC alone");
    }
    gateway.expect_metric("plgw_dns_faulted_questions_total", &[r#"answer="servfail""#], 1.0).await;
    set(&gateway, fault("nameless", FaultKind::DnsFailure { answer: DnsFailure::Timeout })).await;
    assert!(resolver.is_unanswered("pl-0-us-east-1-k45tj.mongodb.net").await);
    gateway.expect_metric("plgw_dns_faulted_questions_total", &[r#"answer="timeout""#], 1.0).await;
    clear(&gateway, "nameless").await;
    assert_eq!(resolver.seeds("cluster0-pl-0-k45tj.mongodb.net").await.len(), 3);
}

/// Set again with the same seed, it affects the same questions.
#[tokio::test]
async fn a_share_of_the_questions_fails_and_the_same_ones_in_every_run() {
    let gateway = TestGateway::start(Net::claim()).await;
    let resolver = Resolver::new(gateway.net.source(ClientNetwork::Vpc), gateway.net.dns()).await;
    let mut runs = Vec::new();
    for seed in [7, 8, 7] {
        let (share, kind) = (Share::new(0.5).expect("a share"), FaultKind::DnsFailure { answer: DnsFailure::Servfail });
        set(&gateway, Fault { share, seed, ..fault("flaky", kind) }).await;
        let mut fates = Vec::new();
        for _ in 0..40 {
            let answer = resolver.ask("pl-0-us-east-1-k45tj.mongodb.net", RecordType::A).await;
            fates.push(answer.metadata.response_code == ResponseCode::ServFail);
        }
        let failed = fates.iter().filter(|failed| **failed).count();
        assert!((8..=32).contains(&failed), "{failed} of 40");
        runs.push(fates);
    }
    assert!(runs[0] == runs[2] && runs[0] != runs[1], "{runs:?}");
}

#[tokio::test]
async fn a_port_moves_again_and_again_until_the_fault_is_over() {
    let (gateway, _echo) = with_echo().await;
    let scope = FaultScope { target: Some("Cluster0/a".parse().expect("an id")), ..FaultScope::default() };
    let kind = FaultKind::PortMove { every: Some(Duration::from_millis(50)) };
    set(&gateway, Fault { scope, ..fault("restless", kind) }).await;
    let mut seen = std::collections::BTreeSet::new();
    eventually("four ports", || {
        seen.insert(gateway.port("a"));
        (seen.len() >= 4).then_some(()).ok_or(seen.clone())
    })
    .await;
    clear(&gateway, "restless").await;
    let last = gateway.port("a");
    assert_eq!(gateway.dial("a").await.echo(b"settled").await, b"settled");
    assert_eq!(gateway.port("a"), last);
    let pointless = FaultScope { target: Some("Cluster0/none".parse().expect("an id")), ..FaultScope::default() };
    let unknown = Fault { scope: pointless, ..fault("unknown", FaultKind::PortMove { every: None }) };
    let error = gateway.gateway.control().set_fault(unknown).await.expect_err("there is no such target");
    assert!(error.to_string().contains("there is no target `Cluster0/none`"), "{error}");
}

#[tokio::test]
async fn a_fault_begins_and_ends_by_its_own_times_and_moves_ports() {
    let (gateway, _echo) = with_echo().await;
    let target = Some("Cluster0/a".parse().expect("an id"));
    let scope = FaultScope { target, ..FaultScope::default() };
    let timed = Fault {
        scope,
        after: Duration::from_millis(50),
        lasts: Some(Duration::from_millis(200)),
        ..fault("restless", FaultKind::PortMove { every: None })
    };
    set(&gateway, timed).await;
    assert_eq!(gateway.gateway.control().faults().len(), 1);
    eventually("the port moves", || {
        let port = gateway.port("a");
        (port == 1027).then_some(()).ok_or(port)
    })
    .await;
    eventually("the fault is over", || {
        let faults = gateway.gateway.control().faults();
        faults.is_empty().then_some(()).ok_or(faults)
    })
    .await;
    let senseless = fault("senseless", FaultKind::ZoneOutage {});
    let error = gateway.gateway.control().set_fault(senseless).await.expect_err("it names no zone");
    assert_eq!(error.to_string(), "fault `senseless`: `zone-outage` needs a zone");
    let error = gateway.gateway.control().clear_fault("none".to_owned()).await.expect_err("there is none");
    assert_eq!(error.to_string(), "there is no fault `none`; set are: none");
}

#[tokio::test]
async fn a_scenario_has_its_own_faults() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let text = format!("{}\n[[fault]]\nname = \"cut\"\ntype = \"reset\"\nbytes = 4\nfor = \"1h\"\n", net.text());
    let gateway = TestGateway::start_with(net, |config| {
        *config = plgw::config::parse(&text, "scenario.toml").unwrap_or_else(|errors| panic!("{errors}"));
    })
    .await;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"more than four").await.expect("written");
    assert_eq!(flow.closed().await, Closed::Reset);
}
