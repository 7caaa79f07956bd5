//! `run`, `shell`, `status`, and the files of each host.

use std::process::Stdio;

use super::support::{Labs, eventually, processes_with, text};

#[test]
fn a_commands_exit_status_is_passed_on() {
    let labs = Labs::new();
    let Some(_) = labs.up(&[]) else { return };
    for (command, status) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15)] {
        let output = labs.run(&["run", "--", "sh", "-c", command]);
        assert_eq!(output.status.code(), Some(status), "{command}");
    }
    assert_eq!(labs.run(&["run", "--", "no-such-command"]).status.code(), Some(127));
    assert_eq!(labs.run(&["run", "--", "/etc/passwd"]).status.code(), Some(126));
}

#[test]
fn each_place_has_its_own_resolver_and_the_host_keeps_its_own() {
    let host = std::fs::read_to_string("/etc/resolv.conf").expect("a host has one");
    let labs = Labs::new();
    let Some(_) = labs.up(&[]) else { return };
    for (host, resolver) in [
        ("vpc", "10.0.0.2"),
        ("vpc-b", "10.0.0.2"),
        ("peer", "10.3.0.2"),
        ("onprem", "10.2.0.2"),
        ("internet", "198.51.100.2"),
        ("internet-b", "192.0.2.2"),
        ("service", "127.0.0.1"),
    ] {
        let conf = labs.told(&["run", "--at", host, "--", "cat", "/etc/resolv.conf"]);
        let servers: Vec<&str> = conf.lines().filter_map(|line| line.strip_prefix("nameserver ")).collect();
        assert_eq!(servers, [resolver], "{host}");
    }
    assert_eq!(std::fs::read_to_string("/etc/resolv.conf").expect("still there"), host);
}

#[test]
fn a_shell_runs_at_the_given_host_and_reads_commands() {
    let labs = Labs::new();
    let Some(_) = labs.up(&[]) else { return };
    let mut shell = labs.command(&["shell", "--at", "peer"]);
    shell.env("SHELL", "/bin/sh").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = shell.spawn().expect("it starts");
    let mut input = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, b"echo at $PLGW_HOST; head -1 $PLGW_CA; exit 3\n").expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = text(&output.stdout);
    assert!(said.contains("at peer\n") && said.contains("-----BEGIN CERTIFICATE-----"), "{said}");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn labs_of_different_names_stand_side_by_side() {
    let labs = Labs::new();
    let Some(_) = labs.up(&["--name", "one"]) else { return };
    labs.up(&["--name", "two"]).expect("the first one came up too");
    let again = labs.run(&["up", "--name", "one"]);
    assert!(!again.status.success());
    assert!(text(&again.stderr).contains("`plgw lab down --name one`"), "{}", text(&again.stderr));
    labs.told(&["down", "--name", "one"]);
    assert_eq!(labs.run(&["run", "--name", "one", "--", "true"]).status.code(), Some(1));
    labs.told(&["run", "--name", "two", "--", "true"]);
    let status = labs.told(&["status"]);
    assert!(status.contains("`two` is up") && !status.contains("`one`"), "{status}");
}

#[test]
fn a_command_can_have_its_own_lab_which_is_removed_afterwards() {
    let labs = Labs::new();
    let Some(_) = labs.up(&[]) else { return };
    labs.told(&["down"]);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/scenarios/lab.toml");
    let before = ["run", "--config", config, "--stand-ins", "--at", "peer", "--", "sh", "-c"];
    let run =
        labs.run(&[&before[..], &["echo $PLGW_HOST of $PLGW_LAB has $PLGW_ADMIN and $PLGW_DNS; exit 5"]].concat());
    let said = text(&run.stdout);
    assert!(
        said.starts_with("peer of run-") && said.ends_with(" has http://169.254.0.2:8474 and 10.3.0.2:53\n"),
        "{said}"
    );
    assert_eq!(run.status.code(), Some(5), "{}", text(&run.stderr));
    assert!(!labs.base().exists(), "nothing is left");
    let failed = labs.run(&["run", "--config", "no-such-file.toml", "--", "true"]);
    assert!(!failed.status.success() && text(&failed.stderr).contains("no-such-file.toml"), "{}", text(&failed.stderr));
    assert!(!labs.base().exists(), "nothing is left");
}

/// C3: a lab that was built for one command ends with it, even if nothing is left that could take it down.
#[test]
fn a_lab_of_a_command_that_was_killed_is_removed() {
    let labs = Labs::new();
    let Some(_) = labs.up(&[]) else { return };
    labs.told(&["down"]);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/scenarios/lab.toml");
    let mut run = labs.command(&["run", "--config", config, "--stand-ins", "--", "sh", "-c", "echo started; cat"]);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut started = [0; 8];
    std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut started).expect("it says so");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    eventually("the lab is gone", || !labs.base().exists() && processes_with(&labs.base()).is_empty());
}

#[test]
fn configs_that_do_not_fit_a_lab_are_refused_before_anything_is_built() {
    let labs = Labs::new();
    let loopback = concat!(env!("CARGO_MANIFEST_DIR"), "/config/scenarios/quickstart.toml");
    for (arguments, said) in [
        (vec!["up", "--config", loopback, "--stand-ins"], "127.0.0.0/16"),
        (vec!["up", "--config", "no-such-file.toml"], "no-such-file.toml"),
        (vec!["up", "--name", "../x"], "`../x` is not a lab's name"),
        (vec!["run", "--", "true"], "`plgw lab up` builds it"),
    ] {
        let output = labs.run(&arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    }
    assert!(!labs.base().exists(), "nothing was made");
    assert_eq!(processes_with(&labs.base()), []);
}

#[test]
fn a_command_still_running_ends_with_the_lab() {
    let labs = Labs::new();
    let Some(_) = labs.up(&[]) else { return };
    let mut run = labs.command(&["run", "--", "sh", "-c", "echo started; exec sleep 1000"]);
    let mut child = run.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut started = [0; 8];
    std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut started).expect("it says so");
    labs.told(&["down"]);
    assert_eq!(child.wait().expect("it ends").code(), Some(128 + 9));
}
