//! A31: the lab of a VPC in another region than the service.

use std::net::Ipv4Addr;

use plgw::lab::Host;

use super::names::ask;
use super::support::{Labs, TestLab};
use crate::support::skip;

#[test]
fn hosts_of_another_region_reach_the_load_balancer_and_the_services_side_reaches_no_host() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can put sockets of a running test into another network namespace");
    }
    let labs = Labs::new();
    let file = labs.base().with_extension("toml");
    // The scenario's networks, off loopback: no cable carries that.
    let text = include_str!("../../../config/scenarios/cross-region.toml");
    let text = text.replace("127.4.", "10.4.").replace("127.1.", "10.1.");
    std::fs::write(&file, text).expect("a file");
    let Some(_) = labs.up(&["--config", file.to_str().expect("UTF-8"), "--stand-ins"]) else { return };
    let lab = TestLab { labs };
    let addresses = [Ipv4Addr::new(10, 4, 20, 54), Ipv4Addr::new(10, 4, 30, 194)];
    for host in [Host::Vpc, Host::VpcB] {
        for ip in addresses {
            for port in 1024..1027 {
                lab.hello(host, (ip, port)).unwrap_or_else(|error| panic!("{host} to {ip}:{port}: {error}"));
            }
        }
        let name = "pl-0-us-east-1.k45tj.mongodb.net.";
        let answer = ask(&lab, host, Ipv4Addr::new(10, 4, 0, 2), name).expect("an answer");
        assert_eq!(answer.1, addresses, "{host}");
    }
    lab.connect(Host::Service, (addresses[0], 1024)).expect_err("connectivity is one-way");
    assert_eq!(lab.metric("plgw_endpoint_info", &["region=\"eu-west-1\"", "service_region=\"us-east-1\""]), Some(1.0));
    lab.labs.told(&["cut", "eu-west-1a"]);
    lab.hello(Host::Vpc, (addresses[0], 1024)).expect("the other zone serves");
    lab.connect(Host::Vpc, (addresses[1], 1024)).expect_err("the zone is out");
}
