//! A lab in front of real servers of this machine.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use plgw::lab::{DEFAULT_CONFIG, Host};

use super::support::{ENI_A, Labs, SOON, TestLab, eventually};
use crate::support::skip;

/// A server on this machine that sends a word to each client.
fn greeter(word: &'static [u8]) -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let accepting = listener.try_clone().expect("a copy");
    std::thread::spawn(move || {
        for stream in accepting.incoming() {
            // A client that has closed already, as health checks do, gets nothing.
            let _ = stream.and_then(|mut stream| stream.write_all(word));
        }
    });
    listener
}

#[test]
fn the_configs_own_nodes_are_reached_where_they_really_are() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can put sockets of a running test into another network namespace");
    }
    let real = greeter(b"real");
    let port = real.local_addr().expect("bound").port();
    let labs = Labs::new();
    let file = labs.base().with_extension("toml");
    // All on this machine's loopback; all but one have no listener.
    let text = DEFAULT_CONFIG.replace("\"10.1.0.11:27017\"", &format!("\"127.0.0.1:{port}\""));
    let text = ["\"10.1.0.1", "\"10.1.0.2", "http://10.1.0.3"]
        .into_iter()
        .fold(text, |text, node| text.replace(node, &node.replace("10.1.0", "127.0.9")));
    std::fs::write(&file, text).expect("a file");
    let Some(_) = labs.up(&["--config", file.to_str().expect("UTF-8")]) else { return };
    let lab = TestLab { labs };
    let heard = |host| {
        let mut stream = lab.connect(host, (ENI_A, 1024)).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        let mut word = String::new();
        stream.read_to_string(&mut word).ok()?;
        Some(word)
    };
    for host in [Host::Vpc, Host::Peer] {
        eventually("the real node's word arrives", || heard(host).as_deref() == Some("real"));
    }
    // The node that has no server behind it is not there, rather than silent.
    eventually("a node without a server refuses", || {
        let log = std::fs::read_to_string(lab.dir().join("gateway.log")).unwrap_or_default();
        log.contains("shard-00-01") && log.contains("refused")
    });
    let outside = lab.connect(Host::Service, (Ipv4Addr::LOCALHOST, port));
    outside.expect_err("the service's side has no way to this machine but through its nodes' addresses");
}
