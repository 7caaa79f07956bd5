//! A13, B9: the answers of the VPC's resolver and of others.

use std::net::{Ipv4Addr, UdpSocket};
use std::str::FromStr;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use plgw::lab::Host;

use super::support::{ENI_A, ENI_B, RESOLVER, SOON, TestLab, eventually};

const PRIVATE: &str = "pl-0-us-east-1-k45tj.mongodb.net.";
const APP: &str = "us-east-1.aws.services.cloud.mongodb.com.";

/// The answer that the resolver of `host` has, or that of another.
pub(super) fn ask(lab: &TestLab, host: Host, resolver: Ipv4Addr, name: &str) -> Option<(ResponseCode, Vec<Ipv4Addr>)> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_str(name).expect("a name"), RecordType::A));
    let bytes = question.to_vec().expect("a message");
    let answer = lab.at(host, || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(super::support::SILENCE))?;
        socket.send_to(&bytes, (resolver, 53))?;
        let mut answer = [0; 4096];
        let length = socket.recv(&mut answer)?;
        Ok::<_, std::io::Error>(answer[..length].to_vec())
    });
    let answer = Message::from_vec(&answer.ok()?).expect("a DNS message");
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(ip) => Some(ip.0),
        _ => None,
    });
    let mut addresses: Vec<Ipv4Addr> = addresses.collect();
    addresses.sort();
    Some((answer.metadata.response_code, addresses))
}

#[test]
fn the_vpc_gets_the_private_view_and_other_clients_the_public_one() {
    let Some(lab) = TestLab::up() else { return };
    let both = vec![ENI_B, ENI_A];
    for host in [Host::Vpc, Host::VpcB] {
        let answer = ask(&lab, host, RESOLVER, APP).expect("an answer");
        assert_eq!(answer.1, [Ipv4Addr::new(10, 0, 20, 55), Ipv4Addr::new(10, 0, 30, 195)], "{host}");
        assert_eq!(ask(&lab, host, RESOLVER, PRIVATE).expect("an answer").1, both);
    }
    let public = [Ipv4Addr::new(203, 0, 113, 10)];
    for (host, resolver) in [
        (Host::Peer, Ipv4Addr::new(10, 3, 0, 2)),
        (Host::Onprem, Ipv4Addr::new(10, 2, 0, 2)),
        (Host::Internet, Ipv4Addr::new(198, 51, 100, 2)),
        (Host::InternetB, Ipv4Addr::new(192, 0, 2, 2)),
    ] {
        assert_eq!(ask(&lab, host, resolver, APP).expect("an answer").1, public, "{host}");
        // Atlas' names are public records with private answers.
        assert_eq!(ask(&lab, host, resolver, PRIVATE).expect("an answer").1, both, "{host}");
    }
    for resolver in [RESOLVER, Ipv4Addr::new(198, 51, 100, 2)] {
        assert_eq!(ask(&lab, Host::Service, resolver, PRIVATE), None, "the service's side gets no answer");
    }
}

#[test]
fn with_either_dns_attribute_off_private_names_do_not_resolve_and_on_again_they_do() {
    let Some(lab) = TestLab::up() else { return };
    let private = [Ipv4Addr::new(10, 0, 20, 55), Ipv4Addr::new(10, 0, 30, 195)];
    let resolves = || ask(&lab, Host::Vpc, RESOLVER, APP).is_some_and(|answer| answer.1 == private);
    assert!(resolves());
    for attribute in ["enable_dns_hostnames", "enable_dns_support"] {
        let (on, off) = (format!("{attribute} = true"), format!("{attribute} = false"));
        lab.edit(|config| config.replace(&on, &off));
        eventually("the private name is gone", || !resolves());
        lab.edit(|config| config.replace(&off, &on));
        eventually("the private name is back", resolves);
    }
}

#[test]
fn answers_come_over_tcp_as_well() {
    use std::io::{Read, Write};
    let Some(lab) = TestLab::up() else { return };
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_str(PRIVATE).expect("a name"), RecordType::A));
    let bytes = question.to_vec().expect("a message");
    let mut stream = lab.connect(Host::VpcB, (RESOLVER, 53)).expect("TCP is served");
    stream.set_read_timeout(Some(SOON)).expect("a time-out");
    stream.write_all(&u16::try_from(bytes.len()).expect("short").to_be_bytes()).expect("it takes it");
    stream.write_all(&bytes).expect("it takes it");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).expect("all of it");
    assert!(Message::from_vec(&answer).expect("a DNS message").answers.len() >= 3);
}
