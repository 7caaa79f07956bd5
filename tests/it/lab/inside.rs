//! The lab from inside, and from the machine around it: the admin API on each host, `plgw lab …` typed in a lab, lists.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};

use plgw::lab::{DIR_VARIABLE, Host};
use serde_json::Value;

use super::support::{ADMIN, Labs, TestLab, eventually, text};
use crate::support::skip;

const PLGW: &str = env!("CARGO_BIN_EXE_plgw");

/// `plgw …` on a host of the lab.
fn inside(labs: &Labs, host: &str, arguments: &[&str]) -> Output {
    labs.run(&[&["run", "--at", host, "--", PLGW], arguments].concat())
}

/// `plgw …` on the machine around the lab.
fn outside(labs: &Labs, arguments: &[&str]) -> Output {
    let mut command = Command::new(PLGW);
    command.args(arguments).env(DIR_VARIABLE, labs.base()).output().expect("the program runs")
}

/// The lab in `labs`' own directory, as `plgw lab list` has it: other tests have labs too.
fn listed(labs: &Labs, name: &str) -> Option<Value> {
    let all: Vec<Value> = serde_json::from_str(&labs.told(&["list", "--output", "json"])).expect("a list");
    all.into_iter().find(|lab| lab["directory"] == labs.dir(name).to_str().expect("UTF-8"))
}

#[test]
fn every_host_but_the_services_has_an_admin_api_that_answers_to_its_token() {
    let labs = Labs::new();
    let Some(_) = labs.up(&[]) else { return };
    for host in ["vpc", "vpc-b", "peer", "onprem", "internet", "internet-b", "gateway", "router"] {
        let status = inside(&labs, host, &["status", "--ready"]);
        assert!(status.status.success(), "{host}: {}", text(&status.stderr));
        let bare = ["run", "--at", host, "--", "env", "-u", "PLGW_ADMIN_TOKEN", "-u", "PLGW_ADMIN_PRIVATE_KEY"];
        let bare = labs.run(&[&bare[..], &[PLGW, "status"]].concat());
        assert!(text(&bare.stderr).contains("send the admin token"), "{host}: {}", text(&bare.stderr));
    }
    let refused = inside(&labs, "service", &["status"]);
    assert!(text(&refused.stderr).contains("on the service's side"), "{}", text(&refused.stderr));
    let variables = labs.told(&["run", "--at", "service", "--", "env"]);
    assert!(!variables.contains("PLGW_ADMIN"), "{variables}");
}

/// A2.
#[test]
fn the_services_side_cannot_reach_the_admin_api_and_other_hosts_can() {
    let Some(lab) = TestLab::up() else { return };
    lab.connect(Host::Vpc, ADMIN).expect("a consumer's host");
    let error = lab.connect(Host::Service, ADMIN).expect_err("the service's side");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "there is no way, and nothing says so");
}

#[test]
fn a_control_client_inside_moves_a_port_and_sets_a_fault() {
    let labs = Labs::new();
    let Some(_) = labs.up(&[]) else { return };
    let moved = inside(&labs, "peer", &["target", "move", "Cluster0/shard-00-01", "--port", "1100"]);
    assert!(moved.status.success(), "{}", text(&moved.stderr));
    let fault = ["fault", "add", "latency", "--name", "slow", "--target", "Cluster0/shard-00-01", "--delay", "5ms"];
    let set = inside(&labs, "vpc", &fault);
    assert!(set.status.success(), "{}", text(&set.stderr));
    let targets = text(&outside(&labs, &["targets", "--lab", "default", "--output", "json"]).stdout);
    let targets: Value = serde_json::from_str(&targets).expect("targets");
    let port = |id: &str| {
        targets["targets"].as_array().expect("a list").iter().find(|t| t["id"] == id).expect(id)["port"].clone()
    };
    assert_eq!(port("Cluster0/shard-00-01"), 1100);
    let faults = text(&outside(&labs, &["fault", "list", "--lab", "default"]).stdout);
    assert!(faults.contains("slow"), "{faults}");
    let unknown = outside(&labs, &["targets", "--lab", "other"]);
    assert!(text(&unknown.stderr).contains("`plgw lab up --name other` builds it"), "{}", text(&unknown.stderr));
}

#[test]
fn lab_commands_typed_in_a_lab_act_on_it_or_say_to_leave_it_first() {
    let labs = Labs::new();
    let Some(_) = labs.up(&["--name", "one"]) else { return };
    let run = |arguments: &[&str]| {
        let before = ["run", "--name", "one", "--at", "vpc-b", "--", PLGW, "lab"];
        labs.run(&[&before[..], arguments].concat())
    };
    for command in
        [&["down", "--name", "one"][..], &["down", "--all"], &["up", "--name", "one"], &["up", "--name", "two"]]
    {
        let refused = run(command);
        let said = text(&refused.stderr);
        assert!(!refused.status.success(), "{command:?}");
        let verb = command[0];
        assert!(
            said.contains(&format!("you are in the lab `one` at `vpc-b`; `exit` first, then `plgw lab {verb}`")),
            "{said}"
        );
    }
    let status = run(&["status"]);
    assert!(status.status.success() && text(&status.stdout).contains("lab `one` is up"), "{}", text(&status.stdout));
    let list = run(&["list"]);
    assert!(text(&list.stdout).contains(labs.dir("one").to_str().expect("UTF-8")), "{}", text(&list.stdout));
    let peer =
        run(&["run", "--name", "one", "--at", "peer", "--", "sh", "-c", "echo $PLGW_HOST; cat /etc/resolv.conf"]);
    let said = text(&peer.stdout);
    assert!(said.starts_with("peer\n") && said.contains("nameserver 10.3.0.2"), "{said} {}", text(&peer.stderr));
    for verb in ["cut", "heal"] {
        let done = run(&[verb, "us-east-1a", "--name", "one"]);
        assert!(done.status.success(), "{verb}: {}", text(&done.stderr));
    }
    assert!(labs.told(&["status", "--name", "one"]).contains("lab `one` is up"));
    labs.told(&["down", "--name", "one"]);
}

#[test]
fn a_lab_of_another_pid_namespace_is_not_taken_for_dead() {
    let labs = Labs::new();
    let Some(_) = labs.up(&[]) else { return };
    let elsewhere = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", PLGW, "lab"]).args(arguments);
        command.env(DIR_VARIABLE, labs.base()).output().expect("util-linux")
    };
    if !elsewhere(&["--help"]).status.success() {
        return skip("no user namespace to look from");
    }
    for command in [&["down"][..], &["down", "--all"], &["run", "--", "true"], &["cut", "us-east-1a"], &["console"]] {
        let refused = elsewhere(command);
        assert!(!refused.status.success(), "{command:?}");
        assert!(text(&refused.stderr).contains("cannot be seen from here"), "{command:?}: {}", text(&refused.stderr));
    }
    assert!(text(&elsewhere(&["up"]).stderr).contains("is up already"));
    assert!(text(&elsewhere(&["list"]).stdout).contains("unseen"));
    labs.told(&["run", "--", "true"]);
}

#[test]
fn the_list_has_a_lab_until_it_is_removed_and_shows_that_it_died() {
    let labs = Labs::new();
    let Some(_) = labs.up(&["--name", "listed"]) else { return };
    let lab = listed(&labs, "listed").expect("it is up");
    assert_eq!((&lab["name"], &lab["state"]), (&Value::from("listed"), &Value::from("up")));
    assert!(lab["since"].as_str().is_some_and(|since| since.ends_with('Z')) && lab["pid"].is_i64(), "{lab}");
    let from_elsewhere = Command::new(PLGW).args(["lab", "list"]).env_remove(DIR_VARIABLE).output().expect("it runs");
    let said = text(&from_elsewhere.stdout);
    assert!(said.contains(labs.dir("listed").to_str().expect("UTF-8")), "found by its process: {said}");
    let pid = lab["pid"].as_i64().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
    rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::KILL).expect("it is ours");
    eventually("the list says that it has died", || listed(&labs, "listed").is_some_and(|lab| lab["state"] == "died"));
    labs.told(&["down", "--name", "listed"]);
    assert_eq!(listed(&labs, "listed"), None);
}

/// The status line's number of a request to `port` on loopback.
fn ask(port: u16, host: &str, token: Option<&str>) -> u16 {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the console forwards");
    let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    write!(stream, "GET /v1/status HTTP/1.1\r\nhost: {host}\r\n{token}connection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
}

#[test]
fn the_console_is_forwarded_with_host_check_and_token_until_the_lab_ends() {
    let labs = Labs::new();
    let Some(_) = labs.up(&[]) else { return };
    let mut console = labs.command(&["console"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(console.stdout.take().expect("piped")).read_line(&mut line).expect("a link");
    let (address, token) =
        line.trim().strip_prefix("http://").and_then(|l| l.split_once("/console#token=")).expect("a link");
    let port = address.parse::<SocketAddr>().expect("an address").port();
    assert_eq!(ask(port, address, Some(token)), 200);
    assert_eq!(ask(port, &format!("localhost:{port}"), Some(token)), 200);
    assert_eq!(ask(port, address, None), 401);
    assert_eq!(ask(port, "attacker.example", Some(token)), 403, "a rebound name");
    labs.told(&["down"]);
    assert_eq!(console.wait().expect("it ends").code(), Some(128 + 9));
}
