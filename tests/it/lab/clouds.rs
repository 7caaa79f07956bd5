//! A30 in the lab: a virtual network of Azure and a VPC network of Google Cloud beside the VPC, each one-way.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use plgw::lab::Host;

use super::packets::{Capture, Packet};
use super::support::{ENI_A, TestLab, eventually};

/// Each cloud's host, its endpoint, and its resolver.
const CLOUDS: [(Host, Ipv4Addr, Ipv4Addr); 2] = [
    (Host::Azure, Ipv4Addr::new(10, 4, 0, 4), Ipv4Addr::new(10, 4, 0, 2)),
    (Host::Google, Ipv4Addr::new(10, 5, 0, 4), Ipv4Addr::new(10, 5, 0, 2)),
];

#[test]
fn each_clouds_host_reaches_its_own_endpoint_and_no_other_networks() {
    let Some(lab) = TestLab::up_with(&["--clouds"]) else { return };
    for (host, endpoint, _) in CLOUDS {
        eventually("the endpoint's first node answers", || lab.hello(host, (endpoint, 1024)).is_ok());
        for port in [1025, 1026] {
            lab.hello(host, (endpoint, port)).unwrap_or_else(|error| panic!("{host} at port {port}: {error}"));
        }
        lab.hello(host, (endpoint, 1027)).expect_err("there are three nodes");
        for (other, ..) in CLOUDS.iter().filter(|(other, ..)| *other != host) {
            lab.hello(*other, (endpoint, 1024)).expect_err("another cloud's network");
        }
        for other in [Host::Vpc, Host::Peer, Host::Onprem, Host::Internet] {
            lab.hello(other, (endpoint, 1024)).expect_err("another network");
        }
        lab.hello(host, (ENI_A, 1024)).expect_err("the VPC's endpoint is the VPC's");
    }
    lab.hello(Host::Vpc, (ENI_A, 1024)).expect("and serves it");
}

#[test]
fn nothing_on_the_services_side_reaches_an_endpoint_or_a_host_of_another_cloud() {
    let Some(lab) = TestLab::up_with(&["--clouds"]) else { return };
    for (host, endpoint, resolver) in CLOUDS {
        let capture = lab.at(host, Capture::start);
        let own = Ipv4Addr::from_octets([endpoint.octets()[0], endpoint.octets()[1], 0, 10]);
        for to in [(endpoint, 1024), (endpoint, 27017), (resolver, 53), (own, 22)] {
            let error = lab.connect(Host::Service, to).expect_err("one-way");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{to:?}: it vanishes");
        }
        // A fence: one flow of the host's own, seen by the same eyes, after all the others.
        lab.hello(host, (endpoint, 1024)).expect("the endpoint serves its own network all the while");
        let mut seen = Vec::new();
        eventually("the fence is seen", || {
            seen.extend(capture.seen());
            seen.iter().any(|packet| *packet.from.ip() == endpoint || *packet.to.ip() == endpoint)
        });
        let theirs: Vec<&Packet> =
            seen.iter().filter(|packet| packet.from.ip().octets().starts_with(&[10, 1])).collect();
        assert_eq!(theirs, Vec::<&Packet>::new(), "in `{host}`");
    }
}
