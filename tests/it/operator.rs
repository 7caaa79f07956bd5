//! The operator's commands against a running gateway, as a user types them.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Closed, EchoTarget, Net, Ran, TestGateway, eventually, plgw};

/// A gateway with an admin API, and the operator's commands against it.
struct Operated {
    gateway: TestGateway,
    admin: SocketAddr,
    _echo: EchoTarget,
}

impl Operated {
    async fn start() -> Self {
        let net = Net::claim();
        let echo = EchoTarget::start(net.target(0)).await;
        let admin = SocketAddr::new(net.metrics().ip(), 0);
        let gateway = TestGateway::start_with(net, |config| config.settings.admin = Some(admin)).await;
        let admin = gateway.gateway.admin_address().expect("it has an admin API");
        Self { gateway, admin, _echo: echo }
    }

    /// Runs a command to its end.
    async fn run(&self, line: &str) -> Ran {
        let mut command = plgw(line.split_whitespace());
        command.args(["--admin", &self.admin.to_string()]);
        let output = tokio::task::spawn_blocking(move || command.output().expect("the binary runs"));
        Ran::from(output.await.expect("it ends"))
    }

    /// Runs a command that must succeed, and returns its output.
    async fn ok(&self, line: &str) -> String {
        let ran = self.run(line).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{line}: {}", ran.out);
        ran.out
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --output json")).await).expect("JSON")
    }

    /// Runs a command that must fail, and returns its exit code and output.
    async fn fails(&self, line: &str) -> (i32, String) {
        let ran = self.run(line).await;
        assert_eq!(ran.out, "", "{line}");
        (ran.code.expect("it ends by itself"), ran.err)
    }
}

#[test]
fn a_bad_admin_address_is_reported_with_its_source() {
    let run = |arguments: &[&str]| {
        let output = plgw(arguments).env("PLGW_ADMIN", "not an address").output().expect("the binary runs");
        let ran = Ran::from(output);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
        ran.err
    };
    for arguments in [&["status"][..], &["fault", "add", "refuse"], &["status", "--lab", "x"]] {
        let said = run(arguments);
        assert!(said.starts_with("error: invalid value 'not an address' for 'PLGW_ADMIN': "), "{said}");
    }
    for arguments in [&["status", "--admin", "nowhere"][..], &["status", "--admin=nowhere"]] {
        let said = run(arguments);
        assert!(said.starts_with("error: invalid value 'nowhere' for '--admin <ADDRESS:PORT>': "), "{said}");
    }
}

#[tokio::test]
async fn every_kind_of_fault_is_added_listed_and_removed_by_command() {
    let operated = Operated::start().await;
    assert_eq!(operated.ok("fault list").await, "  there are no faults\n");
    let kinds = [
        "latency --delay 100ms --jitter 20ms --direction to-client --endpoint vpce-024f5b57108c8d3ed",
        "bandwidth --bytes-per-second 1000 --service vpce-svc-02863655456245e5c",
        "reset --bytes 10 --time 1m --share 0.25 --seed 7",
        "black-hole --after 1h --for 1m",
        "refuse --after 1h",
        "half-open --time 5s --member a",
        "slow-close --delay 1s --target Cluster0/a",
        "zone-outage --zone us-east-1a --after 1h",
        "target-down --silent --target Cluster0/b",
        "port-move --target Cluster0/c --every 1h",
        "dns-failure --answer servfail --share 0.5",
    ];
    for kind in kinds {
        let name = kind.split(' ').next().expect("a word");
        let said = operated.ok(&format!("fault add {kind}")).await;
        assert!(said.starts_with(&format!("  fault {name}-1 is set and ")), "{said}");
    }
    let listed = operated.json("fault list").await;
    let faults = listed["faults"].as_array().expect("a list");
    assert_eq!(faults.len(), kinds.len());
    let find = |name: &str| faults.iter().find(|fault| fault["name"] == name).expect("it is listed");
    let reset = find("reset-1");
    assert_eq!((&reset["bytes"], &reset["time"]), (&10.into(), &"1m".into()));
    assert_eq!((&reset["share"], &reset["seed"], &reset["state"]), (&0.25.into(), &7.into(), &"active".into()));
    let hole = find("black-hole-1");
    assert_eq!((&hole["state"], &hole["after"], &hole["for"]), (&"waiting".into(), &"1h".into(), &"1m".into()));
    let table = operated.ok("fault list").await;
    let row = table.lines().find(|line| line.contains("latency-1")).expect("a row");
    assert!(row.contains("delay=100ms") && row.contains("endpoint=vpce-024f5b57108c8d3ed"), "{row}");
    assert!(!table.contains('\x1b'), "colours are for terminals: {table:?}");
    let status = operated.ok("status").await;
    assert!(status.lines().all(|line| line.chars().count() <= 80), "{status}");
    assert!(status.contains("  warning   fault `reset-1` is on: reset everywhere\n"), "{status}");
    let checked = operated.run("status --check").await;
    assert_eq!((checked.code, checked.err.as_str()), (Some(1), ""));
    assert!(checked.out.contains("  warning   fault `reset-1` is on: reset everywhere\n"), "{}", checked.out);
    assert_eq!(operated.ok("status --ready").await, "");
    let events = operated.ok("events --last 1000").await;
    assert!(events.contains("fault `reset-1` is on: reset\n"), "{events}");

    assert_eq!(operated.ok("fault remove latency-1").await, "  fault latency-1 is removed\n");
    assert_eq!(operated.ok("fault clear").await, "  10 faults are removed\n");
    assert_eq!(operated.ok("fault list").await, "  there are no faults\n");

    let (code, said) = operated.fails("fault remove latency-1").await;
    assert_eq!((code, said.as_str()), (1, "plgw: there is no fault `latency-1`; set are: none\n"));
    let (code, said) = operated.fails("fault add refuse --target Cluster0/none").await;
    assert!(code == 1 && said.contains("there is no target `Cluster0/none`"), "{said}");
    let (code, said) = operated.fails("fault add latency").await;
    assert!(code == 2 && said.contains("--delay"), "{said}");
    assert_eq!(operated.fails("fault add refuse --share 2").await.0, 2);
    assert_eq!(operated.fails("fault add reset").await.0, 2);
}

#[tokio::test]
async fn a_fault_set_by_command_takes_effect_and_shows_in_the_flow_list() {
    let operated = Operated::start().await;
    operated.ok("fault add latency --delay 1ms --name slow --target Cluster0/a").await;
    let mut flow = operated.gateway.dial("a").await;
    flow.echo(b"x").await;
    let flows = operated.json("flows").await;
    assert_eq!(flows["flows"][0]["faults"], serde_json::json!(["slow"]));
    let table = operated.ok("flows --target Cluster0/a").await;
    assert!(table.contains("FAULTS") && table.contains("slow"), "{table}");
    assert_eq!(operated.json("fault list").await["faults"][0]["flows"], 1);
    let id = flows["flows"][0]["id"].as_str().expect("an id");
    assert_eq!(operated.ok(&format!("flows --kill {id}")).await, format!("  flow {id} is ended\n"));
    assert_eq!(flow.closed().await, Closed::Reset);
    assert_eq!(operated.fails(&format!("flows --kill {id}")).await.0, 1);
}

#[tokio::test]
async fn a_zone_is_shifted_away_from_by_command() {
    let operated = Operated::start().await;
    let (a, b) = (operated.gateway.net.endpoint_a(), operated.gateway.net.endpoint_b());
    let table = operated.ok("zone list").await;
    assert!(table.contains(&a.to_string()) && table.contains("us-east-1b"), "{table}");
    let shifted = operated.json("zone shift us-east-1a --for 30m").await;
    let zone = &shifted["zones"][0];
    assert!(zone["shifted"] == true && zone["shift"]["expires"].is_string(), "{zone}");
    assert_eq!(operated.gateway.answers().await, [b]);
    let (code, said) = operated.fails("zone shift us-east-1b").await;
    assert!(code == 1 && said.contains("one zone at a time"), "{said}");
    operated.ok("zone unshift us-east-1a").await;
    assert_eq!(operated.gateway.answers().await, [b, a]);
    let (code, said) = operated.fails("zone shift eu-west-1a").await;
    assert!(code == 1 && said.contains("zones with addresses: us-east-1a, us-east-1b"), "{said}");
    assert_eq!(operated.fails("zone shift nowhere").await.0, 2);
    assert_eq!(operated.fails("zone shift us-east-1a --for 10ms").await.0, 1);
}

/// A shift is of the zone, not of the addresses that it has at the moment.
#[tokio::test]
async fn a_shift_remains_without_addresses_and_can_be_ended() {
    let operated = Operated::start().await;
    let control = operated.gateway.gateway.control();
    operated.ok("zone shift us-east-1a").await;
    let whole = operated.gateway.net.config().desired;
    let mut without = whole.clone();
    let a = operated.gateway.net.endpoint_a();
    without.endpoints.values_mut().for_each(|endpoint| endpoint.addresses.retain(|address| address.ip != a));
    control.replace_inventory(Ok(without)).await.expect("taken over");
    let (code, said) = operated.fails("zone shift us-east-1b").await;
    assert!(code == 1 && said.contains("one zone at a time"), "{said}");
    operated.ok("zone unshift us-east-1a").await;
    control.replace_inventory(Ok(whole)).await.expect("taken over");
    let listed = operated.json("zone list").await;
    let shifted: Vec<_> = listed["zones"].as_array().expect("zones").iter().map(|zone| &zone["shifted"]).collect();
    assert_eq!(shifted, [false, false]);
}

/// A cluster that takes the name of a removed one has all of its members registered.
#[tokio::test]
async fn a_deregistration_goes_with_its_cluster() {
    let operated = Operated::start().await;
    let control = operated.gateway.gateway.control();
    operated.ok("target deregister Cluster0/a").await;
    let whole = operated.gateway.net.config().desired;
    let mut without = whole.clone();
    without.projects[0].clusters.clear();
    control.replace_inventory(Ok(without)).await.expect("taken over");
    control.replace_inventory(Ok(whole)).await.expect("taken over");
    eventually("a target like any other", || {
        let view = operated.gateway.gateway.snapshot().targets.iter().find(|t| t.id.as_str() == "Cluster0/a").cloned();
        let state = view.map(|view| view.state.label());
        matches!(state, Some("initial" | "healthy")).then_some(()).ok_or(state)
    })
    .await;
}

#[tokio::test]
async fn limits_are_shown_and_set_by_command() {
    let operated = Operated::start().await;
    let table = operated.ok("limits").await;
    assert!(table.contains("3 of 50") && table.contains("0 of 55000") && table.contains("no cap"), "{table}");
    let set = operated.json("limits --flows-per-target 1 --bandwidth-bytes-per-second 125000").await;
    assert_eq!(set["limits"][0]["bandwidth_bytes_per_second"], 125_000);
    let mut first = operated.gateway.dial("a").await;
    first.echo(b"x").await;
    assert!(operated.gateway.dial("a").await.is_unanswered().await, "the second flow is one too many");
    assert!(operated.ok("limits --bandwidth-bytes-per-second none").await.contains("no cap"));
    let former = operated.run("limits --bandwidth 1000").await;
    assert!(former.code == Some(0) && former.out.contains("1000"), "{}", former.out);
    assert!(former.err.contains("write `--bandwidth-bytes-per-second 1000`"), "{}", former.err);
    let (code, said) = operated.fails("limits --targets-per-region 2").await;
    assert!(code == 1 && said.contains("3 addressable targets"), "{said}");
}

#[tokio::test]
async fn targets_are_moved_taken_out_and_put_back_by_command_and_the_strings_follow() {
    let operated = Operated::start().await;
    assert_eq!(operated.ok("target move Cluster0/a --port 2000").await, "  Cluster0/a moved from port 1024 to 2000\n");
    let strings = operated.ok("connection-strings --cluster Cluster0").await;
    assert!(strings.contains(":2000,") && strings.contains("mongodb+srv://cluster0-pl-0"), "{strings}");
    let strings = operated.json("connection-strings").await;
    assert_eq!(strings[0]["private"][0]["endpoints"][0]["endpoint_id"], "vpce-024f5b57108c8d3ed");
    let (code, said) = operated.fails("connection-strings --cluster None").await;
    assert_eq!((code, said.as_str()), (1, "plgw: the gateway has no cluster `None`; there is Cluster0\n"));

    let mut flow = operated.gateway.dial("a").await;
    flow.echo(b"x").await;
    assert_eq!(operated.ok("target deregister Cluster0/a").await, "  deregistered a of Cluster0/a\n");
    let targets = operated.json("targets").await;
    let target = targets["targets"].as_array().expect("a list").iter().find(|target| target["id"] == "Cluster0/a");
    assert_eq!(target.expect("it is listed")["state"], "draining");
    assert_eq!(flow.echo(b"drains").await, b"drains");
    operated.ok("target register Cluster0/a").await;
    eventually("new flows again", || {
        let view = operated.gateway.gateway.snapshot().targets.iter().find(|t| t.id.as_str() == "Cluster0/a").cloned();
        let state = view.map(|view| view.state.label());
        matches!(state, Some("initial" | "healthy")).then_some(()).ok_or(state)
    })
    .await;
    let mut again = operated.gateway.dial("a").await;
    assert_eq!(again.echo(b"back").await, b"back");
    assert_eq!(operated.fails("target deregister Cluster0/none").await.0, 1);
}

/// Issue 20: a name, a URL and the environment's variable lead there as an address does.
#[tokio::test]
async fn a_name_and_a_url_lead_to_the_admin_api_from_the_flag_and_the_environment() {
    let operated = Operated::start().await;
    let local = format!("localhost:{}", operated.admin.port());
    // `localhost` is 127.0.0.1, where the port is taken and nothing listens.
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    taken.bind(&SocketAddr::from(([127, 0, 0, 1], operated.admin.port())).into()).expect("free");
    for (flag, variable, reaches) in [
        (Some(format!("http://{}", operated.admin)), None, true),
        (Some(format!("http://{}/", operated.admin)), Some(local.clone()), true),
        (None, Some(operated.admin.to_string()), true),
        (None, Some(format!("http://{}", operated.admin)), true),
        (None, Some(local.clone()), false),
        (Some(local), Some(operated.admin.to_string()), false),
    ] {
        let mut command = plgw(["targets"]);
        command.args(flag.iter().flat_map(|flag| ["--admin", flag])).env_remove("PLGW_ADMIN");
        command.envs(variable.iter().map(|variable| ("PLGW_ADMIN", variable)));
        let output = tokio::task::spawn_blocking(move || command.output().expect("the binary runs"));
        let ran = Ran::from(output.await.expect("it ends"));
        assert_eq!(ran.code, Some(if reaches { 0 } else { 69 }), "{flag:?} {variable:?}: {}", ran.err);
    }
}

#[tokio::test]
async fn an_unreachable_gateway_has_its_own_exit_code() {
    let operated = Operated::start().await;
    let admin = operated.admin;
    operated.gateway.gateway.stop_within(Duration::ZERO).await;
    for line in
        ["status", "fault list", "zone list", "limits", "connection-strings", "flows", "targets", "endpoints", "events"]
    {
        let mut command = plgw([line.split(' ').collect(), vec!["--admin"]].concat());
        let output = tokio::task::spawn_blocking(move || command.arg(admin.to_string()).output());
        let ran = Ran::from(output.await.expect("it ends").expect("the binary runs"));
        assert_eq!((ran.code, ran.out.as_str()), (Some(69), ""), "{line}");
        assert!(ran.err.contains("is `plgw serve` running"), "{line}: {}", ran.err);
    }
}
