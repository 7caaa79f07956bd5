//! Notifications to a service manager: systemd's protocol, over a socket of the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

use crate::support::{Child, ClientNetwork, Net, SOON, plgw};

/// A manager that listens.
struct Manager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(SOON)).expect("a time-out");
        Self { socket, directory }
    }

    /// A gateway that notifies it.
    fn start(&self, net: &Net, environment: &[(&str, &str)]) -> Child {
        let file = self.directory.path().join("gateway.toml");
        std::fs::write(&file, format!("watch_file = false\nshutdown_grace = \"1h\"\n{}", net.text()))
            .expect("writable");
        let mut command = plgw(["serve", "--config"]);
        command.arg(file).env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        Child::of(command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// The next message: its variables.
    fn next(&self) -> BTreeMap<String, String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a message");
        let text = std::str::from_utf8(&bytes[..length]).expect("text");
        text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    /// The next message that sets `variable`, and how many others came before.
    fn next_with(&self, variable: &str) -> BTreeMap<String, String> {
        (0..50)
            .map(|_| self.next())
            .find(|message| message.contains_key(variable))
            .unwrap_or_else(|| panic!("{variable}"))
    }
}

#[test]
fn the_service_manager_is_notified_of_readiness_reloads_and_a_long_drain() {
    let (manager, net) = (Manager::new(), Net::claim());
    let _target = std::net::TcpListener::bind(net.target(0)).expect("free");
    let mut gateway = manager.start(&net, &[]);
    let pid = Pid::from_child(&gateway.0);

    let ready = manager.next();
    assert_eq!(ready.get("READY").map(String::as_str), Some("1"), "{ready:?}");
    assert!(ready["STATUS"].ends_with(" listeners accept"), "{ready:?}");
    // A client that waited for readiness can connect.
    let flow = net.connect(ClientNetwork::Vpc, SocketAddr::new(net.endpoint_a(), 1024)).expect("the port accepts");

    let before = clock_gettime(ClockId::Monotonic);
    kill_process(pid, Signal::HUP).expect("it runs");
    let reloading = manager.next();
    assert_eq!(reloading.get("RELOADING").map(String::as_str), Some("1"), "{reloading:?}");
    let at: i64 = reloading["MONOTONIC_USEC"].parse().expect("microseconds");
    assert!(at >= before.tv_sec * 1_000_000 + before.tv_nsec / 1000, "{reloading:?}");
    let again = manager.next();
    assert_eq!(again.get("READY").map(String::as_str), Some("1"), "{again:?}");

    std::fs::write(manager.directory.path().join("gateway.toml"), "workers = -1\n").expect("writable");
    kill_process(pid, Signal::HUP).expect("it runs");
    assert!(manager.next().contains_key("RELOADING"));
    let refused = manager.next();
    assert_eq!(refused.get("READY").map(String::as_str), Some("1"), "what was before holds: {refused:?}");
    assert!(
        refused["STATUS"].contains("the last reload was refused") && refused["STATUS"].contains("workers"),
        "{refused:?}"
    );

    kill_process(pid, Signal::TERM).expect("it runs");
    assert_eq!(manager.next().get("STOPPING").map(String::as_str), Some("1"));
    let draining = manager.next_with("EXTEND_TIMEOUT_USEC");
    assert_eq!(draining["EXTEND_TIMEOUT_USEC"], "15000000");
    // The flow keeps it draining, and it repeats the status.
    let draining =
        (0..10).map(|_| manager.next_with("EXTEND_TIMEOUT_USEC")).find(|m| m["STATUS"].starts_with("draining"));
    assert_eq!(draining.expect("a status")["STATUS"], "draining: 1 flows are open");
    // A reset ends both sides at once, whatever the target does.
    socket2::SockRef::from(&flow).set_linger(Some(Duration::ZERO)).expect("possible");
    drop(flow);
    assert_eq!(gateway.0.wait().expect("it ends").code(), Some(0));
}

#[test]
fn the_watchdog_is_notified_only_if_it_is_set_for_this_process() {
    let (manager, net) = (Manager::new(), Net::claim());
    let _gateway = manager.start(&net, &[("WATCHDOG_USEC", "200000")]);
    assert!(manager.next_with("WATCHDOG")["WATCHDOG"] == "1");
    assert!(manager.next_with("WATCHDOG")["WATCHDOG"] == "1", "and again");

    let (manager, net) = (Manager::new(), Net::claim());
    let mut gateway = manager.start(&net, &[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")]);
    assert!(manager.next_with("READY").contains_key("STATUS"));
    kill_process(Pid::from_child(&gateway.0), Signal::TERM).expect("it runs");
    assert_eq!(gateway.0.wait().expect("it ends").code(), Some(0));
    manager.socket.set_nonblocking(true).expect("possible");
    let mut bytes = [0; 4096];
    while let Ok(length) = manager.socket.recv(&mut bytes) {
        assert!(!bytes[..length].starts_with(b"WATCHDOG"), "another process' watchdog");
    }
}
