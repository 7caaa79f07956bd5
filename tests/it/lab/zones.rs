//! A4, A14: a zone's outage, on the wire.

use std::io::ErrorKind;

use plgw::lab::Host;

use serde_json::{Value, json};

use super::support::{ENI_A, ENI_B, RESOLVER, TestLab, eventually, text};

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

/// The members of a stand-in set, by name: state and isolation.
fn members(answer: &Value) -> Vec<(String, Value, Value)> {
    let members = answer["members"].as_array().unwrap_or_else(|| panic!("members: {answer}"));
    let view =
        |it: &Value| (it["member"].as_str().expect("a name").to_owned(), it["state"].clone(), it["isolated"].clone());
    members.iter().map(view).collect()
}

fn primary(lab: &TestLab) -> Option<String> {
    members(&lab.operator(&["standin", "list"])).into_iter().find(|member| member.1 == "PRIMARY").map(|member| member.0)
}

fn zone(lab: &TestLab, name: &str) -> Value {
    let answer = lab.operator(&["zone", "list"]);
    answer["zones"].as_array().expect("zones").iter().find(|zone| zone["zone"] == name).expect("the zone").clone()
}

/// A4. Its target's health checks fail, and with cross-zone load balancing they make every zone unhealthy.
#[test]
fn with_a_cut_zone_its_member_is_lost_the_others_elect_and_its_addresses_stay_out_of_dns() {
    let Some(lab) = TestLab::up() else { return };
    assert_eq!(primary(&lab).as_deref(), Some("shard-00-00"));
    lab.labs.told(&["cut", "us-east-1a"]);
    eventually("the member in the zone is alone", || {
        members(&lab.operator(&["standin", "list"]))[0] == ("shard-00-00".to_owned(), json!("SECONDARY"), json!(true))
    });
    eventually("another primary", || primary(&lab).is_some_and(|primary| primary != "shard-00-00"));
    eventually("its checks have failed", || zone(&lab, "us-east-1b")["healthy"] == false);
    eventually("DNS has noticed", || zone(&lab, "us-east-1a")["lost"] == true);
    assert_eq!(zone(&lab, "us-east-1a")["in_dns"], false);
    assert_eq!(zone(&lab, "us-east-1b")["fail_open"], "fail-open: no zone is healthy");
    assert_eq!(lab.metric("plgw_zonal_fail_open", &["zone=\"us-east-1b\""]), Some(1.0));
    assert_eq!(lab.metric("plgw_zonal_fail_open", &["zone=\"us-east-1a\""]), Some(0.0));
    lab.labs.told(&["heal", "us-east-1a"]);
    eventually("everything is as before", || {
        zone(&lab, "us-east-1a")["healthy"] == true && zone(&lab, "us-east-1b")["fail_open"].is_null()
    });
    assert_eq!(members(&lab.operator(&["standin", "list"]))[0].2, false);
}

/// The stand-ins are another process on the service's side; the gateway takes the operator's commands to them.
#[test]
fn stand_ins_of_the_lab_are_stopped_started_and_stepped_down_by_the_gateways_admin_api() {
    let Some(lab) = TestLab::up() else { return };
    let state = |answer: &Value, name: &str| members(answer).into_iter().find(|m| m.0 == name).expect("a member").1;
    let answer = lab.operator(&["standin", "step-down", "Cluster0"]);
    assert_eq!(state(&answer, "shard-00-00"), "SECONDARY");
    eventually("another primary", || primary(&lab).is_some_and(|primary| primary != "shard-00-00"));
    let answer = lab.operator(&["standin", "stop", "Cluster0/shard-00-00"]);
    assert_eq!(state(&answer, "shard-00-00"), "DOWN");
    let answer = lab.operator(&["standin", "start", "Cluster0/shard-00-00"]);
    assert_eq!(state(&answer, "shard-00-00"), "SECONDARY");
    let stop = ["run", "--at", "gateway", "--", env!("CARGO_BIN_EXE_plgw"), "standin", "stop", "Cluster0/shard-00-07"];
    let refused = lab.labs.run(&stop);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("Cluster0/shard-00-02"), "{}", text(&refused.stderr));
}
