//! A3, A15, A25: access by origin and path.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use plgw::lab::Host;

use super::support::{ENI_A, ENI_B, TestLab, eventually};

/// Where the internet reaches the first node by the standard string.
const PUBLIC: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 11), 27017);

fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

#[test]
fn joined_networks_reach_the_endpoint_without_an_access_list_and_others_do_not() {
    let Some(lab) = TestLab::up() else { return };
    lab.edit(|config| config.replace("access_list = [\"198.51.100.0/24\"]", "access_list = []"));
    for host in [Host::Vpc, Host::VpcB, Host::Peer, Host::Onprem] {
        for endpoint in [ENI_A, ENI_B] {
            lab.hello(host, (endpoint, 1024)).unwrap_or_else(|error| panic!("{host} to {endpoint}: {error}"));
        }
    }
    for host in [Host::Internet, Host::InternetB] {
        let error = lab.connect(host, (ENI_A, 1024)).expect_err("not joined");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{host}: there is no way, and nothing says so");
    }
}

#[test]
fn listed_addresses_of_the_internet_reach_the_standard_ports_and_others_get_no_answer() {
    let Some(lab) = TestLab::up() else { return };
    lab.hello(Host::Internet, PUBLIC).expect("on the list");
    let refused = || lab.metric("plgw_refused_flows_total", &["reason=\"access_list\""]).expect("a series");
    assert_eq!(refused(), 0.0);
    let error = lab.hello(Host::InternetB, PUBLIC).expect_err("on no list");
    assert!(is_silence(&error), "{error}");
    eventually("the refusal is counted", || refused() == 1.0);
    for port in [1024, 1025, 27017, 443] {
        let error = lab.connect(Host::Internet, (ENI_A, port)).expect_err("listed, and still outside");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{port}");
    }
    let error = lab.connect(Host::Vpc, PUBLIC).expect_err("the VPC has no way out");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_port_or_source_that_the_security_group_does_not_admit_hangs_is_counted_and_is_admitted_at_run_time() {
    let Some(lab) = TestLab::up() else { return };
    let refused = || lab.metric("plgw_refused_flows_total", &["reason=\"security_group\""]).expect("a series");
    let rule = |ports: &str, cidrs: &str| format!("cidrs = {cidrs}\nports = \"{ports}\"");
    let all = "[\"10.0.0.0/16\", \"10.3.0.0/16\", \"10.2.0.0/16\"]";
    let vpc_alone = "[\"10.0.0.0/16\"]";
    lab.edit(|config| {
        assert!(config.contains(&rule("1024-65535", all)), "the rule is written as expected: {config}");
        config.replace(&rule("1024-65535", all), &rule("1025-65535", vpc_alone))
    });
    eventually("port 1024 is closed to the VPC", || lab.hello(Host::Vpc, (ENI_A, 1024)).is_err_and(|e| is_silence(&e)));
    lab.hello(Host::Vpc, (ENI_A, 1025)).expect("the next port is open");
    let before = refused();
    let error = lab.hello(Host::Peer, (ENI_A, 1025)).expect_err("another source");
    assert!(is_silence(&error), "{error}");
    eventually("the refusal is counted", || refused() == before + 1.0);
    assert_eq!(lab.metric("plgw_refused_flows_total", &["reason=\"origin\""]), Some(0.0));

    lab.edit(|config| config.replace(&rule("1025-65535", vpc_alone), &rule("1024-65535", all)));
    eventually("it is open again", || lab.hello(Host::Peer, (ENI_A, 1024)).is_ok());
}
