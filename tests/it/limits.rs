//! Limits of targets, addresses and ports, and trusted sources of PROXY protocol headers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use plgw::data::proxy_protocol;
use plgw::model::{CidrSet, ConnectionLimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::health::{optimized, quick_checks, state_of};
use crate::support::{
    ClientNetwork, Closed, EchoTarget, Flow, HeldTarget, Net, RecordingTarget, TestGateway, netns, skip,
};

/// NLB: without a free source port towards a target, connections are dropped, and PortAllocationErrorCount increases.
#[tokio::test]
async fn a_full_target_gets_no_further_flow_until_one_ends() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        config.desired.projects[0].services[0].attributes.flows_per_target = 2;
    })
    .await;
    let mut held = [gateway.dial("a").await, gateway.dial("a").await];
    for flow in &mut held {
        flow.echo(b"x").await;
    }
    assert!(gateway.dial("a").await.is_unanswered().await);
    gateway.expect_metric("plgw_refused_flows_total", &[r#"reason="flow_limit""#], 1.0).await;
    gateway.expect_metric("plgw_port_allocation_errors_total", &[], 1.0).await;
    let [first, _second] = held;
    drop(first);
    gateway.expect_metric("plgw_active_flows", &["Cluster0/a"], 1.0).await;
    assert_eq!(gateway.dial("a").await.echo(b"free").await, b"free");
}

/// Atlas limits connections per node by the cluster's tier; `mongod` accepts a connection beyond the limit and closes
/// it.
#[tokio::test]
async fn a_node_at_its_clusters_connection_limit_closes_further_ones_until_one_ends() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        config.desired.projects[0].clusters[0].connection_limit = ConnectionLimit::Most(2);
    })
    .await;
    let mut held = [gateway.dial("a").await, gateway.dial("a").await];
    for flow in &mut held {
        flow.echo(b"x").await;
    }
    assert_eq!(gateway.dial("a").await.closed().await, Closed::Fin);
    gateway.expect_metric("plgw_refused_flows_total", &[r#"reason="connection_limit""#], 1.0).await;
    gateway.expect_metric("plgw_port_allocation_errors_total", &[], 0.0).await;
    let [first, _second] = held;
    drop(first);
    gateway.expect_metric("plgw_active_flows", &["Cluster0/a"], 1.0).await;
    assert_eq!(gateway.dial("a").await.echo(b"free").await, b"free");
}

/// With a pool of source addresses, each target has all ports of each address: flows to two targets share them.
#[tokio::test]
async fn targets_are_dialled_from_every_address_of_the_pool() {
    let net = Net::claim();
    let listener = TcpListener::bind(net.target(0)).await.expect("free");
    let pool: Vec<IpAddr> = [net.source(ClientNetwork::Service), net.target(100).ip()].into();
    let wanted = pool.clone();
    let gateway = TestGateway::start_with(net, |config| {
        config.desired.projects[0].services[0].source_addresses = wanted;
    })
    .await;
    let mut flows = Vec::new();
    let mut seen: BTreeSet<SocketAddr> = BTreeSet::new();
    for _ in 0..20 {
        flows.push(gateway.dial("a").await);
    }
    while seen.len() < 20 {
        seen.insert(listener.accept().await.expect("accepted").1);
    }
    let addresses: BTreeSet<IpAddr> = seen.iter().map(SocketAddr::ip).collect();
    assert_eq!(addresses, pool.into_iter().collect());
}

#[test]
fn source_ports_are_counted_by_target_and_a_client_without_one_gets_no_answer() {
    netns::run_inside("limits::inside_source_ports_run_out_for_one_target_and_not_for_another");
}

/// NLB: 55,000 ports towards each target. The same with ten ports: another target has all of them again, and further
/// connections are dropped and counted.
#[tokio::test]
#[ignore = "run by the test above, in a separate network"]
async fn inside_source_ports_run_out_for_one_target_and_not_for_another() {
    if !netns::is_inside() {
        return;
    }
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40009").expect("the network is the test's own");
    let net = Net::claim();
    let _echoes = [EchoTarget::start(net.target(0)).await, EchoTarget::start(net.target(1)).await];
    let source = net.source(ClientNetwork::Service);
    let gateway = TestGateway::start_with(net, |config| {
        let service = &mut config.desired.projects[0].services[0];
        service.source_addresses = vec![source];
        // No probe is to take a port meanwhile.
        service.attributes.health_check.interval = Duration::from_secs(300);
    })
    .await;
    let mut next_port = 50_000;
    let mut flows = Vec::new();
    for (member, errors) in [("a", 1.0), ("b", 2.0)] {
        let mut open = 0;
        let mut dropped = loop {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind((gateway.net.source(ClientNetwork::Vpc), next_port).into()).expect("a free port");
            next_port += 1;
            let mut flow = Flow { stream: socket.connect(gateway.address(member)).await.expect("it accepts") };
            // Answered, or counted: one of them happens.
            let answered = async {
                flow.stream.write_all(b"x").await.expect("written");
                flow.stream.read_exact(&mut [0]).await.expect("the echo");
            };
            let counted = gateway.expect_metric("plgw_port_allocation_errors_total", &[], errors);
            let is_open = tokio::select! {
                () = answered => true,
                () = counted => false,
            };
            if !is_open {
                break flow;
            }
            open += 1;
            flows.push(flow);
        };
        assert!(dropped.is_unanswered().await, "{member}");
        assert!((7..=10).contains(&open), "{member} had {open} of ten ports");
    }
    assert_eq!(gateway.metric("plgw_tcp_resets_total", &[]), Some(0.0), "no connection was reset");
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="unreachable""#], 2.0).await;
}

/// A17: a spike of connections is distributed evenly: within 10 % over four mongos.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_spread_evenly_over_four_mongos() {
    let net = Net::claim();
    let targets: Vec<_> = (0..4).map(|i| net.target(i)).collect();
    let mut echoes = Vec::new();
    for target in &targets {
        echoes.push(EchoTarget::start(*target).await);
    }
    let fourth = targets[3];
    let gateway = TestGateway::start_with(net, |config| {
        optimized(config);
        let nodes = &mut config.desired.projects[0].clusters[0].nodes;
        let mut node = nodes[2].clone();
        (node.name, node.address, node.public_address) = ("d".to_owned(), fourth.into(), None);
        nodes.push(node);
    })
    .await;
    let (source, address) =
        (gateway.net.source(ClientNetwork::Vpc), SocketAddr::new(gateway.net.endpoint_a(), gateway.port("lb")));
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..50 {
        let mut batch = tokio::task::JoinSet::new();
        for _ in 0..200 {
            batch.spawn(async move {
                let mut flow = Flow::connect(source, address).await.expect("it accepts");
                flow.stream.read_exact(&mut [0; 100]).await.expect("the echoed PROXY header");
                flow
            });
        }
        let flows = batch.join_all().await;
        for view in gateway.gateway.flows() {
            *counts.entry(view.member).or_default() += 1;
        }
        for flow in &flows {
            // No TIME_WAIT on the client's ports.
            flow.stream.set_zero_linger().expect("a live socket");
        }
        drop(flows);
        gateway.expect_metric("plgw_active_flows", &["Cluster0/lb"], 0.0).await;
    }
    assert_eq!(counts.values().sum::<u32>(), 10_000);
    assert!(counts.len() == 4 && counts.values().all(|count| (2_250..=2_750).contains(count)), "{counts:?}");
}

/// A17: connections per mongos are limited: behind one optimized port, each gets up to its limit.
#[tokio::test]
async fn no_mongos_behind_an_optimized_string_holds_more_than_its_limit() {
    let net = Net::claim();
    let _echoes = EchoTarget::start_three(&net).await;
    let gateway = TestGateway::start_with(net, |config| {
        optimized(config);
        config.desired.projects[0].services[0].attributes.flows_per_target = 2;
    })
    .await;
    let mut spike = Vec::new();
    for _ in 0..60 {
        spike.push(gateway.dial("lb").await);
    }
    gateway.expect_metric("plgw_refused_flows_total", &[r#"reason="flow_limit""#], 54.0).await;
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for view in gateway.gateway.flows() {
        *counts.entry(view.member).or_default() += 1;
    }
    assert!(counts.len() == 3 && counts.values().all(|count| *count == 2), "{counts:?}");
}

/// The cap applies to the address, not to a flow, and to each direction separately.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flows_of_one_endpoint_address_share_its_bandwidth() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let cap = 4_000_000;
    let gateway = TestGateway::start_with(net, |config| {
        config.desired.projects[0].services[0].attributes.bandwidth_cap = Some(cap);
    })
    .await;
    let each = 1_000_000;
    let started = Instant::now();
    let mut flows = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut flow = gateway.dial("a").await;
        flows.spawn(async move {
            let (mut read, mut write) = flow.stream.split();
            let bytes = vec![9; each];
            let mut back = vec![0; each];
            let (written, read) = tokio::join!(write.write_all(&bytes), read.read_exact(&mut back));
            written.expect("written");
            read.expect("read");
        });
    }
    flows.join_all().await;
    let took = started.elapsed().as_secs_f64();
    assert!((0.95..1.6).contains(&took), "4 MB each way at 4 MB/s took {took} s");
}

/// The rate at which a target receives 125 MB through the gateway, in bytes per second.
async fn rate_of_125_megabytes(gateway: &TestGateway, held: &mut HeldTarget) -> f64 {
    const BYTES: u64 = 125_000_000;
    let mut flow = gateway.dial("a").await;
    flow.stream.write_all(b"x").await.expect("written");
    let target = held.next().await;
    let started = Instant::now();
    let writing = tokio::spawn(async move {
        let chunk = vec![9; 1 << 20];
        // Until the target has had enough.
        while flow.stream.write_all(&chunk).await.is_ok() {}
    });
    let read = tokio::io::copy(&mut target.take(BYTES), &mut tokio::io::sink()).await.expect("read");
    let took = started.elapsed().as_secs_f64();
    writing.await.expect("it ends with the flow");
    assert_eq!(read, BYTES);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = read as f64 / took;
    rate
}

/// The cap is never exceeded; it is also reached, if the machine is clearly faster without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_of_a_gigabit_a_second_is_kept_within_five_percent() {
    let gigabit = 125e6;
    let net = Net::claim();
    let mut held = HeldTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        config.desired.projects[0].services[0].attributes.bandwidth_cap = Some(125_000_000);
    })
    .await;
    let mut rates = Vec::new();
    for _ in 0..30 {
        let rate = rate_of_125_megabytes(&gateway, &mut held).await;
        assert!(rate <= 1.05 * gigabit, "{rate} bytes a second");
        if rate >= 0.95 * gigabit {
            return;
        }
        rates.push(rate);
    }
    let net = Net::claim();
    let mut held = HeldTarget::start(net.target(0)).await;
    let free = rate_of_125_megabytes(&TestGateway::start(net).await, &mut held).await;
    assert!(free < 2.0 * gigabit, "{rates:?} bytes a second, {free} without a cap");
    skip(&format!("this machine is too busy to tell: {rates:?} bytes a second with the cap, {free} without"));
}

/// Behind another load balancer: the header of a configured source names the client, which is then admitted or refused;
/// a second header, which the client may have forged, is payload.
#[tokio::test]
async fn a_header_from_a_configured_source_identifies_the_client_and_a_forged_second_one_is_payload() {
    let net = Net::claim();
    let mut recording = RecordingTarget::start(net.target(0)).await;
    // The outer load balancer is outside of every network that may use the endpoint.
    let outer = net.source(ClientNetwork::Public);
    let gateway = TestGateway::start_with(net, |config| {
        let sources: CidrSet = [ipnet::IpNet::from(outer)].into_iter().collect();
        config.desired.projects[0].services[0].attributes.proxy_sources = sources;
    })
    .await;
    let address = gateway.address("a");
    let client = SocketAddr::new(gateway.net.source(ClientNetwork::Peered), 40_000);
    let service = SocketAddr::new(gateway.net.source(ClientNetwork::Service), 40_001);
    let forged = proxy_protocol::encode(service, address, None);

    let mut flow = Flow::connect(outer, address).await.expect("it accepts");
    let sent = [&proxy_protocol::encode(client, address, None)[..], &forged, b"payload"].concat();
    flow.stream.write_all(&sent).await.expect("written");
    let mut got = Vec::new();
    while got.len() < forged.len() + 7 {
        got.extend(recording.next().await);
    }
    assert_eq!(got, [&forged[..], b"payload"].concat());
    let view = &gateway.gateway.flows()[0];
    assert_eq!((view.client, view.origin), (client, plgw::model::Origin::Peered));

    // One whose client may not use the endpoint is refused for that client.
    let mut flow = Flow::connect(outer, address).await.expect("it accepts");
    flow.stream.write_all(&proxy_protocol::encode(service, address, None)).await.expect("written");
    assert!(flow.is_unanswered().await);
    gateway.expect_metric("plgw_refused_flows_total", &[r#"reason="one_way""#], 1.0).await;

    // Without a header the client is unknown.
    let mut flow = Flow::connect(outer, address).await.expect("it accepts");
    flow.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    assert_eq!(flow.closed().await, Closed::Reset);
    gateway.expect_metric("plgw_refused_flows_total", &[r#"reason="proxy_header""#], 1.0).await;

    // From anybody else a header is payload.
    let mut flow = Flow::connect(gateway.net.source(ClientNetwork::Vpc), address).await.expect("it accepts");
    flow.stream.write_all(&forged).await.expect("written");
    let mut got = Vec::new();
    while got.len() < forged.len() {
        got.extend(recording.next().await);
    }
    assert_eq!(got, forged);
}

/// A6, under load: clients that resolve the seed list by the gateway's own DNS and connect, while ports move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_that_reconnect_by_srv_are_never_refused_while_ports_move() {
    let net = Net::claim();
    let _echoes = [
        EchoTarget::start(net.target(0)).await,
        EchoTarget::start(net.target(1)).await,
        EchoTarget::start(net.target(2)).await,
    ];
    let gateway = TestGateway::start_with(net, |config| {
        quick_checks(config);
        // However slow the machine is, an answer is fresh for as long as a client takes to use it.
        config.settings.move_grace = Duration::from_secs(120);
    })
    .await;
    for member in ["a", "b", "c"] {
        state_of(&gateway, member, plgw::model::TargetState::Healthy).await;
    }
    let (source, dns, host) = (gateway.net.source(ClientNetwork::Vpc), gateway.net.dns(), gateway.net.endpoint_a());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..200 {
        clients.spawn(async move {
            let resolver = crate::support::Resolver::new(source, dns).await;
            for _ in 0..5 {
                let seeds = resolver.seeds("cluster0-pl-0-k45tj.mongodb.net").await;
                assert_eq!(seeds.len(), 3);
                for (_, port) in seeds {
                    let flow = Flow::connect(source, (host, port).into()).await;
                    let mut flow = flow.unwrap_or_else(|error| panic!("port {port}: {error}"));
                    assert_eq!(flow.echo(b"x").await, b"x");
                }
            }
        });
    }
    let moves = async {
        for round in 0..9 {
            let member = ["a", "b", "c"][round % 3];
            let target = format!("Cluster0/{member}").parse().expect("an id");
            gateway.gateway.control().move_target(target, None, None).await.expect("moved");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (_, ()) = tokio::join!(clients.join_all(), moves);
}
