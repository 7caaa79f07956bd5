//! Packets to an endpoint's address without a listener are dropped, as by the load balancer.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use plgw::lab::{DIR_VARIABLE, Host};

use super::support::{ENI_A, ENI_B, RESOLVER, SILENCE, TestLab, eventually, processes_with, text};

/// The General endpoint of App Services in zone a.
const APPS_A: Ipv4Addr = Ipv4Addr::new(10, 0, 30, 195);

/// `plgw` as an operator runs it on the machine around the lab.
fn operate(lab: &TestLab, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plgw"));
    command.args(arguments).args(["--lab", "default"]).env(DIR_VARIABLE, lab.labs.base());
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "plgw {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn ports_without_a_listener_time_out_and_follow_the_open_ports() {
    let Some(lab) = TestLab::up() else { return };
    for host in [Host::Vpc, Host::Peer] {
        for to in [(ENI_A, 1023), (ENI_A, 2000), (ENI_B, 27017), (ENI_A, 443), (APPS_A, 80), (APPS_A, 1024)] {
            let error = lab.connect(host, to).expect_err("nothing is there");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{host} to {to:?}: it vanishes");
        }
        for to in [(ENI_A, 1024), (ENI_B, 1026), (APPS_A, 443), (RESOLVER, 53)] {
            lab.connect(host, to).unwrap_or_else(|error| panic!("{host} to {to:?}: {error}"));
        }
    }
    // The resolver is no endpoint: a host's kernel answers for it.
    let error = lab.connect(Host::Vpc, (RESOLVER, 80)).expect_err("nothing is there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    let free = 3000;
    operate(&lab, &["target", "move", "Cluster0/shard-00-00", "--port", &free.to_string()]);
    lab.hello(Host::Vpc, (ENI_A, free)).expect("the new port is open at once");
    eventually("the old port is silent", || {
        lab.connect(Host::Vpc, (ENI_A, 1024)).is_err_and(|error| error.kind() == ErrorKind::TimedOut)
    });
    lab.hello(Host::Vpc, (ENI_B, free)).expect("and stays open");
}

/// A port with a refusing target is assigned: the client gets the refusal, as on AWS.
#[test]
fn a_port_whose_target_refuses_refuses_behind_the_packet_filter() {
    let Some(lab) = TestLab::up() else { return };
    let stand_ins = processes_with(&lab.dir()).into_iter().find(|(_, line)| line.contains(" process stand-ins "));
    let (stand_ins, _) = stand_ins.expect("they stand in");
    let pid = rustix::process::Pid::from_raw(stand_ins).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("the test's own lab");
    eventually("the port refuses", || {
        lab.connect(Host::Vpc, (ENI_A, 1024)).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    let error = lab.connect(Host::Vpc, (ENI_A, 2000)).expect_err("nothing is there");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

/// Interface endpoints answer neither UDP nor pings, and send no ICMP about them.
#[test]
fn datagrams_to_an_endpoint_get_no_answer() {
    let Some(lab) = TestLab::up() else { return };
    let answer = |to: (Ipv4Addr, u16)| {
        lab.at(Host::Vpc, || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.set_read_timeout(Some(SILENCE)).expect("a time-out");
            socket.connect(to).expect("a way");
            let _ = socket.send(b"anybody there?");
            socket.recv(&mut [0; 16]).expect_err("no answer").kind()
        })
    };
    assert!(matches!(answer((ENI_A, 1024)), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    assert_eq!(answer((RESOLVER, 9)), ErrorKind::ConnectionRefused, "a host's kernel says so where no endpoint is");
}
