//! A4, A14: a zone's outage, on the wire.

use std::io::ErrorKind;

use plgw::lab::Host;

use super::support::{ENI_A, ENI_B, RESOLVER, TestLab, text};

#[test]
fn packets_of_a_cut_zone_vanish_for_every_client_while_the_other_zone_and_the_resolver_serve() {
    let Some(lab) = TestLab::up() else { return };
    lab.hello(Host::Vpc, (ENI_B, 1024)).expect("both zones serve");
    lab.labs.told(&["cut", "us-east-1b"]);
    lab.labs.told(&["cut", "us-east-1b"]);
    assert!(lab.labs.told(&["status"]).contains("us-east-1b   cut"));
    for host in [Host::Vpc, Host::VpcB, Host::Peer, Host::Onprem] {
        let error = lab.connect(host, (ENI_B, 1024)).expect_err("the zone is out");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{host}: neither refused nor unreachable");
        lab.hello(host, (ENI_A, 1024)).expect("the other zone serves");
        if matches!(host, Host::Vpc | Host::VpcB) {
            lab.connect(host, (RESOLVER, 53)).expect("the resolver belongs to no zone");
        }
    }
    lab.labs.told(&["heal", "us-east-1b"]);
    lab.labs.told(&["heal", "us-east-1b"]);
    for host in [Host::Vpc, Host::VpcB, Host::Peer, Host::Onprem] {
        lab.hello(host, (ENI_B, 1024)).expect("both zones serve again");
    }
}

#[test]
fn an_open_flow_through_a_cut_zone_is_silent_rather_than_reset_and_lives_on_when_it_heals() {
    use std::io::{Read, Write};
    let Some(lab) = TestLab::up() else { return };
    let mut flow = lab.connect(Host::Vpc, (ENI_B, 1024)).expect("the zone serves");
    flow.set_read_timeout(Some(super::support::SILENCE)).expect("a time-out");
    lab.labs.told(&["cut", "us-east-1b"]);
    flow.write_all(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00").expect("the kernel takes it");
    let silence = flow.read_exact(&mut [0]).expect_err("nothing comes back");
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    lab.labs.told(&["heal", "us-east-1b"]);
    flow.set_read_timeout(Some(super::support::SOON)).expect("a time-out");
    flow.read_exact(&mut [0]).expect("it was sent again, and answered");
}

#[test]
fn a_zone_that_no_endpoint_has_an_address_in_is_refused_with_those_that_have() {
    let Some(lab) = TestLab::up() else { return };
    let output = lab.labs.run(&["cut", "eu-west-1a"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("us-east-1a, us-east-1b"), "{}", text(&output.stderr));
}
