//! A2: nothing on the service's side reaches a listener of the gateway or a host of the consumer's, on the wire.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};

use plgw::lab::Host;
use rtnetlink::packet_route::rule::RuleAction;

use super::packets::{Capture, Forge, MARK, Packet, Transport};
use super::support::{ENI_A, RESOLVER, SILENCE, TestLab, eventually};

/// The consumer's namespaces, where packets are looked for.
const CONSUMER: [Host; 5] = [Host::Vpc, Host::VpcB, Host::Peer, Host::Onprem, Host::Router];

/// Its hosts.
const HOSTS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 0, 30, 10),
    Ipv4Addr::new(10, 0, 20, 10),
    Ipv4Addr::new(10, 3, 0, 10),
    Ipv4Addr::new(10, 2, 0, 10),
];

/// The service's side: a node.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);

/// Sources that a packet may claim: a node, the load balancer, each consumer host, an endpoint, a listed and an unlisted
/// host of the internet, an unassigned address.
fn sources() -> Vec<Ipv4Addr> {
    let others =
        [NODE, Ipv4Addr::new(10, 1, 0, 4), ENI_A, Ipv4Addr::new(198, 51, 100, 10), Ipv4Addr::new(192, 0, 2, 10)];
    others.into_iter().chain(HOSTS).chain([Ipv4Addr::new(172, 31, 9, 9)]).collect()
}

/// Addresses and ports on which a process of `host` listens, from the kernel's own table; loopback left out.
fn listening(lab: &TestLab, host: Host, table: &str) -> Vec<SocketAddrV4> {
    let text = lab.at(host, || std::fs::read_to_string(format!("/proc/thread-self/net/{table}"))).expect("a table");
    // State 0A is LISTEN; a UDP socket that is not connected is 07.
    let open = if table == "tcp" { "0A" } else { "07" };
    let rows = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (address, port) = fields.nth(1)?.split_once(':')?;
        let state = fields.nth(1)?;
        let ip = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.swap_bytes());
        (state == open && !ip.is_loopback()).then_some(SocketAddrV4::new(ip, u16::from_str_radix(port, 16).ok()?))
    });
    rows.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whatever was made by [`Forge`] or claims to be from the service's networks.
fn of_the_service(packet: &Packet) -> bool {
    (MARK - 3..=MARK).contains(&packet.ttl) || packet.from.ip().octets().starts_with(&[10, 1])
}

#[test]
fn no_packet_of_the_services_side_passes_the_gateway_whatever_source_it_claims() {
    let Some(lab) = TestLab::up() else { return };
    let tcp = listening(&lab, Host::Gateway, "tcp");
    let udp = listening(&lab, Host::Gateway, "udp");
    assert!(
        tcp.contains(&SocketAddrV4::new(ENI_A, 1024)) && udp.contains(&SocketAddrV4::new(RESOLVER, 53)),
        "{tcp:?} {udp:?}"
    );
    let refused = lab.metric("plgw_refused_flows_total", &[]).expect("a series");
    let opened = lab.metric("plgw_flows_opened_total", &[]).expect("a series");
    let asked = lab.metric("plgw_dns_queries_total", &[]).expect("a series");

    let captures: Vec<(Host, Capture)> = CONSUMER.map(|host| (host, lab.at(host, Capture::start))).into();
    let service = lab.at(Host::Service, Capture::start);
    let sent = lab.at(Host::Service, || {
        let forge = Forge::new();
        let mut sent = 0;
        for source in sources() {
            let targets = tcp.iter().chain(&udp).copied();
            let hosts =
                HOSTS.into_iter().flat_map(|ip| [22, 53, 443, 1024, 27017].map(|port| SocketAddrV4::new(ip, port)));
            for (n, to) in (40_000_u16..).zip(targets.chain(hosts)) {
                forge.send(Transport::Syn, SocketAddrV4::new(source, n), to);
                forge.send(Transport::Udp, SocketAddrV4::new(source, n), to);
                sent += 2;
            }
        }
        sent
    });
    assert!(sent > 500, "{sent}");

    // A fence: one packet of the same make on an open way, seen by the same eyes, after all the others.
    lab.at(Host::Peer, || {
        let forge = Forge::new();
        for host in HOSTS {
            forge.send(
                Transport::Udp,
                SocketAddrV4::new(Ipv4Addr::new(10, 3, 0, 10), 50_000),
                SocketAddrV4::new(host, 9),
            );
        }
    });
    for (host, capture) in &captures {
        let mut seen = Vec::new();
        eventually("the fence is seen", || {
            seen.extend(capture.seen());
            seen.iter().any(|packet| packet.from.port() == 50_000)
        });
        let theirs: Vec<_> =
            seen.iter().filter(|p| of_the_service(p) && p.from.port() != 50_000 && p.to.port() != 50_000).collect();
        assert_eq!(theirs, Vec::<&Packet>::new(), "in `{host}`");
    }
    // The service's side saw its own packets leave and not one answer: no SYN-ACK, no RST, no datagram, no ICMP.
    let back: Vec<_> =
        service.seen().into_iter().filter(|p| p.ttl != MARK && p.to.port() >= 40_000 && p.to.port() < 45_000).collect();
    assert_eq!(back, [], "answers to the service's side");
    assert_eq!(lab.metric("plgw_flows_opened_total", &[]), Some(opened));
    assert_eq!(lab.metric("plgw_refused_flows_total", &[]), Some(refused), "they did not even reach a listener");
    assert_eq!(lab.metric("plgw_dns_queries_total", &[]), Some(asked), "nor the resolver");
}

#[test]
fn connections_from_the_services_side_fail_and_from_the_vpc_succeed() {
    let Some(lab) = TestLab::up() else { return };
    let host = lab.at(Host::Vpc, || TcpListener::bind("10.0.30.10:7777")).expect("a listener in the VPC");
    lab.connect(Host::VpcB, (HOSTS[0], 7777)).expect("hosts of the VPC reach each other");
    drop(host.accept().expect("it was reached"));
    host.set_nonblocking(true).expect("a listener");
    for to in [(ENI_A, 1024), (RESOLVER, 53), (Ipv4Addr::new(203, 0, 113, 11), 27017), (HOSTS[0], 7777), (HOSTS[2], 22)]
    {
        let error = lab.connect(Host::Service, to).expect_err("one-way");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{to:?}: it vanishes");
    }
    assert_eq!(host.accept().expect_err("no connection").kind(), ErrorKind::WouldBlock);
    lab.connect(Host::Vpc, (ENI_A, 1024)).expect("the endpoint serves the VPC all the while");
}

/// The gateway's sockets are a second check after the kernel's routing, which this test opens.
#[test]
fn without_the_routes_the_gateways_sockets_refuse_and_count_the_services_side() {
    let Some(lab) = TestLab::up() else { return };
    lab.at(Host::Gateway, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
            tokio::spawn(connection);
            // The kernel's usual first rule: every address is at home on every cable.
            let rule = handle.rule().add().v4().table_id(255).priority(1).action(RuleAction::ToTable);
            rule.execute().await.expect("root may");
        });
    });
    let counted = || lab.metric("plgw_refused_flows_total", &["reason=\"one_way\""]).expect("a series");
    let (before, opened) = (counted(), lab.metric("plgw_flows_opened_total", &[]).expect("a series"));
    let all = listening(&lab, Host::Gateway, "tcp").into_iter().filter(|to| to.port() >= 1024);
    let (admin, endpoints): (Vec<_>, Vec<_>) = all.partition(|to| to.ip().is_link_local());
    assert_eq!(admin.len(), 1, "{admin:?}");
    lab.hello(Host::Service, (*admin[0].ip(), admin[0].port())).expect_err("closed unanswered");
    for to in &endpoints {
        // The kernel completes the handshake; what a client sends then must reach no process.
        let error = lab.hello(Host::Service, (*to.ip(), to.port())).expect_err("one-way");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{to}: silence, not {error}");
    }
    let attempts = f64::from(u32::try_from(endpoints.len()).expect("few"));
    eventually("every attempt is counted", || counted() - before == attempts);
    assert_eq!(lab.metric("plgw_flows_opened_total", &[]), Some(opened));

    // Forged sources don't come so far: the way back to them is another cable.
    lab.at(Host::Service, || {
        let forge = Forge::new();
        for source in sources().into_iter().filter(|ip| !ip.octets().starts_with(&[10, 1])) {
            forge.send(Transport::Syn, SocketAddrV4::new(source, 41_000), SocketAddrV4::new(ENI_A, 1024));
        }
    });
    lab.hello(Host::Service, (ENI_A, 1024)).expect_err("a fence behind the forged ones");
    eventually("the fence is counted", || counted() - before == attempts + 1.0);
    assert_eq!(lab.metric("plgw_flows_opened_total", &[]), Some(opened));
    assert_eq!(lab.metric("plgw_refused_flows_total", &["reason=\"origin\""]), Some(0.0));
}

#[test]
fn a_node_can_open_nothing_back_along_a_flow_that_a_client_has_open() {
    let Some(lab) = TestLab::up() else { return };
    let client = lab.connect(Host::Vpc, (ENI_A, 1024)).expect("the endpoint accepts");
    client.set_read_timeout(Some(SILENCE)).expect("a time-out");
    let gateways_end = established(&lab, 27017);
    let capture = lab.at(Host::Vpc, Capture::start);
    for port in [gateways_end.port(), 1024, 27017, 53, 8474, 9464] {
        let error = lab.connect(Host::Service, (*gateways_end.ip(), port)).expect_err("one-way");
        assert!(matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::TimedOut), "{port}: {error}");
    }
    let datagram = lab.at(Host::Service, || UdpSocket::bind("10.1.0.11:0").and_then(|s| s.send_to(b"x", gateways_end)));
    datagram.expect("it leaves");
    // The client's flow is as it was, and has not been sent a byte: a server of MongoDB's speaks when it is spoken to.
    let silent = std::io::Read::read(&mut &client, &mut [0]).expect_err("silence");
    assert!(matches!(silent.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silent}");
    let syns: Vec<_> = capture.seen().into_iter().filter(|p| p.protocol == 6 && p.flags & 0x12 == 0x02).collect();
    assert_eq!(syns, [], "no connection was opened towards the client");
}

/// The gateway's end of the one flow that is open to a node's `port`.
fn established(lab: &TestLab, port: u16) -> SocketAddrV4 {
    let mut found = None;
    eventually("the flow reaches its node", || {
        let text = lab.at(Host::Service, || std::fs::read_to_string("/proc/thread-self/net/tcp")).expect("a table");
        found = text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let address = |field: &str| {
                let (ip, port) = field.split_once(':')?;
                let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.swap_bytes());
                Some(SocketAddrV4::new(ip, u16::from_str_radix(port, 16).ok()?))
            };
            let (own, peer) = (address(fields.get(1)?)?, address(fields.get(2)?)?);
            (fields.get(3) == Some(&"01") && own.port() == port).then_some(peer)
        });
        found.is_some()
    });
    found.expect("just found")
}

#[test]
fn the_gateway_forwards_nothing_and_checks_sources() {
    let Some(lab) = TestLab::up() else { return };
    let setting = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/{name}");
        lab.at(Host::Gateway, || std::fs::read_to_string(path)).expect("a setting").trim().to_owned()
    };
    assert_eq!(setting("ip_forward"), "0");
    for interface in ["vpc", "internet", "internet-b", "service"] {
        assert_eq!(setting(&format!("conf/{interface}/forwarding")), "0");
        assert_eq!(setting(&format!("conf/{interface}/rp_filter")), "1");
    }
}
