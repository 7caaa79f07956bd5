//! A33 in the lab: a VPC with IPv6, and the same one-way and the same silence over it as over IPv4.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};

use plgw::lab::Host;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::rule::RuleAction;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::packets::Capture;
use super::support::{ENI_A, SILENCE, TestLab, eventually};

/// The dual-stack endpoint's addresses, and that of the IPv6-only one.
const ENDPOINTS: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0x30, 0, 0, 0, 0xc2),
    Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0x20, 0, 0, 0, 0x36),
    Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0x50, 0, 0, 0, 0xc2),
];

/// The host in the VPC's first subnet.
const VPC: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0x30, 0, 0, 0, 0xa);

/// The gateway's end of a cable, on the cable.
const GATEWAY_END: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn lab() -> Option<TestLab> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/scenarios/dual-stack.toml");
    TestLab::up_with(&["--config", file, "--stand-ins"])
}

fn at(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

#[test]
fn joined_hosts_reach_both_families_and_each_zone_can_be_cut() {
    let Some(lab) = lab() else { return };
    eventually("the first node answers", || lab.hello(Host::Vpc, at(ENDPOINTS[0], 1024)).is_ok());
    let before = lab.metric("plgw_flows_opened_total", &[]).expect("a series");
    for host in [Host::Vpc, Host::VpcB, Host::Peer] {
        for (ip, port) in ENDPOINTS.into_iter().flat_map(|ip| [1024, 1025, 1026].map(|port| (ip, port))) {
            lab.hello(host, at(ip, port)).unwrap_or_else(|error| panic!("{host} to {ip} port {port}: {error}"));
        }
        lab.hello(host, (ENI_A, 1024)).unwrap_or_else(|error| panic!("{host} over IPv4: {error}"));
    }
    let flows = lab.metric("plgw_flows_opened_total", &[]).expect("a series") - before;
    // Three hosts, three ports at two addresses over IPv6 and one over IPv4.
    assert!(flows >= 21.0, "{flows}");

    lab.labs.told(&["cut", "us-east-1b"]);
    let error = lab.connect(Host::Vpc, at(ENDPOINTS[1], 1024)).expect_err("its zone is cut");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    lab.hello(Host::Vpc, at(ENDPOINTS[0], 1024)).expect("the other zone serves");
    lab.labs.told(&["heal", "us-east-1b"]);
    lab.hello(Host::Vpc, at(ENDPOINTS[1], 1024)).expect("healed");
}

#[test]
fn no_other_host_reaches_an_endpoint_or_a_host_over_ipv6() {
    let Some(lab) = lab() else { return };
    let refused = lab.metric("plgw_refused_flows_total", &[]).expect("a series");
    let listener = lab.at(Host::Vpc, || TcpListener::bind(at(VPC, 7777))).expect("a listener in the VPC");
    lab.connect(Host::VpcB, at(VPC, 7777)).expect("hosts of the VPC reach each other");
    drop(listener.accept().expect("it was reached"));
    listener.set_nonblocking(true).expect("a listener");
    for host in [Host::Service, Host::Internet, Host::InternetB] {
        let endpoints = ENDPOINTS.into_iter().flat_map(|ip| [1024, 27017].map(|port| at(ip, port)));
        // An IPv4 address in IPv6's clothes takes the way of IPv4.
        for to in endpoints.chain([at(VPC, 7777), at(ENI_A.to_ipv6_mapped(), 1024)]) {
            let error = lab.connect(host, to).expect_err("not joined");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{host} to {to}: it vanishes");
        }
        // The one address on the cable that is the gateway's: nothing listens there.
        for port in [53, 1024, 8474, 9464, 27017] {
            let scope = lab.at(host, cable);
            let to = SocketAddr::V6(SocketAddrV6::new(GATEWAY_END, port, 0, scope));
            lab.connect(host, to).expect_err("nothing listens on a link-local address");
        }
    }
    assert_eq!(listener.accept().expect_err("no client").kind(), ErrorKind::WouldBlock);
    assert_eq!(lab.metric("plgw_refused_flows_total", &[]), Some(refused), "they did not even reach a listener");
    lab.hello(Host::Vpc, at(ENDPOINTS[0], 1024)).expect("the endpoint serves the VPC all the while");
}

/// The number of the interface `eth0` where this thread is: every host's end of its cable.
fn cable() -> u32 {
    let table = std::fs::read_to_string("/proc/thread-self/net/if_inet6").expect("a table");
    let row = table.lines().find(|row| row.ends_with(" eth0")).expect("it has an address");
    row.split_whitespace().nth(1).and_then(|index| u32::from_str_radix(index, 16).ok()).expect("a number")
}

/// A neighbour solicitation for an endpoint's address on a host's own link gets no answer.
#[test]
fn the_gateway_answers_no_neighbour_solicitation_for_an_endpoints_address() {
    let Some(lab) = lab() else { return };
    for host in [Host::Service, Host::Internet] {
        lab.at(host, || {
            let index = cable();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
                tokio::spawn(connection);
                for ip in ENDPOINTS {
                    let route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, 128);
                    let route = route.output_interface(index).build();
                    handle.route().add(route).execute().await.expect("root may");
                }
            });
        });
        for ip in ENDPOINTS {
            let error = lab.connect(host, at(ip, 1024)).expect_err("no neighbour");
            assert!(
                matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::HostUnreachable),
                "{host} to {ip}: {error}"
            );
        }
    }
}

/// Sends a SYN with any source.
fn forge(source: Ipv6Addr, from: u16, to: Ipv6Addr, port: u16) {
    let mut segment = [from.to_be_bytes(), port.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let length = u16::try_from(segment.len()).expect("short");
    let pseudo = [&source.octets()[..], &to.octets(), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 6], &segment].concat();
    segment[16..18].copy_from_slice(&super::packets::checksum(&pseudo).to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([6, 64]);
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend(segment);
    let raw = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(255))).expect("root may");
    raw.send_to(&packet, &SockAddr::from(SocketAddrV6::new(to, 0, 0, 0))).expect("there is a route");
}

/// Source and destination ports of the TCP segments over IPv6 that passed.
fn ports(capture: &Capture) -> Vec<(u16, u16)> {
    let frames = capture.frames();
    let is_tcp = |frame: &&Vec<u8>| frame.len() >= 58 && frame[12..14] == [0x86, 0xdd] && frame[20] == 6;
    let two = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    frames.iter().filter(is_tcp).map(|frame| (two(frame, 54), two(frame, 56))).collect()
}

/// The kernel checks no sources of IPv6 by itself, as `rp_filter` does for IPv4: routes and rules must.
#[test]
fn a_forged_source_reaches_no_endpoint_and_no_host() {
    let Some(lab) = lab() else { return };
    let (vpc, service) = (lab.at(Host::Vpc, Capture::start), lab.at(Host::Service, Capture::start));
    let opened = lab.metric("plgw_flows_opened_total", &[]).expect("a series");
    let node = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0xa);
    for (host, from) in [(Host::Service, 21_000), (Host::InternetB, 22_000), (Host::Peer, 23_000), (Host::VpcB, 24_000)]
    {
        lab.at(host, || {
            // Peer and VpcB are on the router's links: there a forged source is dropped. The others are on the
            // gateway's, where an endpoint's address is not to be had from.
            for source in [VPC, node] {
                for to in ENDPOINTS.into_iter().chain([VPC]) {
                    forge(source, from, to, 1024);
                }
            }
        });
    }
    // A fence: a segment of the same make on an open way is answered, and seen by the same eyes, after all the others.
    lab.hello(Host::Vpc, at(ENDPOINTS[0], 1024)).expect("the endpoint serves");
    lab.at(Host::Vpc, || forge(VPC, 26_000, ENDPOINTS[0], 1024));
    let mut seen = Vec::new();
    eventually("the fence is seen", || {
        seen.extend(ports(&vpc));
        seen.contains(&(1024, 26_000))
    });
    let is_forged = |(from, to): &(u16, u16)| [*from, *to].iter().any(|port| (21_000..25_000).contains(port));
    assert_eq!(seen.iter().filter(|ports| is_forged(ports)).count(), 0, "in `vpc`: {seen:?}");
    let answers = ports(&service).into_iter().filter(|(_, to)| (21_000..25_000).contains(to)).count();
    assert_eq!(answers, 0, "answers to the service's side");
    eventually("nothing but the fence was let in", || {
        lab.metric("plgw_flows_opened_total", &[]).is_some_and(|now| now == opened + 1.0)
    });
}

/// The gateway's sockets are a second check after the routes, which this test opens.
#[test]
fn without_the_routes_the_gateways_sockets_distinguish_ipv6_sources() {
    let Some(lab) = lab() else { return };
    lab.at(Host::Gateway, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
            tokio::spawn(connection);
            // The kernel's usual first rule: every address is at home on every cable.
            let rule = handle.rule().add().v6().table_id(255).priority(1).action(RuleAction::ToTable);
            rule.execute().await.expect("root may");
        });
    });
    let counted =
        |reason: &str| lab.metric("plgw_refused_flows_total", &[&format!("reason=\"{reason}\"")]).expect("a series");
    for (host, reason) in [(Host::Service, "one_way"), (Host::Internet, "origin"), (Host::InternetB, "origin")] {
        let before = counted(reason);
        for ip in ENDPOINTS {
            let error = lab.hello(host, at(ip, 1024)).expect_err("refused");
            assert!(
                matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                "{host}: silence, not {error}"
            );
        }
        eventually("every attempt is counted", || counted(reason) == before + 3.0);
    }
}

#[test]
fn ports_without_a_listener_do_not_answer_over_ipv6_either() {
    let Some(lab) = lab() else { return };
    for host in [Host::Vpc, Host::Peer] {
        for port in [1023, 2000, 27017, 443] {
            let error = lab.connect(host, at(ENDPOINTS[0], port)).expect_err("nothing is there");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{host} to {port}: it vanishes");
        }
    }
    let answer = lab.at(Host::Vpc, || {
        let socket = UdpSocket::bind("[::]:0").expect("a socket");
        socket.set_read_timeout(Some(SILENCE)).expect("a time-out");
        socket.connect(at(ENDPOINTS[0], 1024)).expect("a way");
        let _ = socket.send(b"anybody there?");
        socket.recv(&mut [0; 16]).expect_err("no answer").kind()
    });
    assert!(matches!(answer, ErrorKind::WouldBlock | ErrorKind::TimedOut));
}

#[test]
fn neighbours_change_no_route_and_the_gateway_forwards_nothing() {
    let Some(lab) = lab() else { return };
    let setting = |host: Host, name: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{name}");
        lab.at(host, || std::fs::read_to_string(path)).expect("a setting").trim().to_owned()
    };
    for interface in ["all", "vpc", "internet", "internet-b", "service"] {
        assert_eq!(setting(Host::Gateway, &format!("{interface}/forwarding")), "0", "{interface}");
        for name in ["accept_ra", "accept_redirects"] {
            assert_eq!(setting(Host::Gateway, &format!("{interface}/{name}")), "0", "{interface}/{name}");
        }
    }
    for host in [Host::Vpc, Host::VpcB, Host::Peer, Host::Service] {
        for name in ["accept_ra", "accept_redirects"] {
            assert_eq!(setting(host, &format!("eth0/{name}")), "0", "{host}: {name}");
        }
    }
    // A lab of a VPC without IPv6 has none.
    let Some(other) = TestLab::up() else { return };
    let path = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    assert_eq!(other.at(Host::Vpc, || std::fs::read_to_string(path)).expect("a setting").trim(), "1");
}
