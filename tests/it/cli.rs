//! The command line from outside: output and exit codes.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Child, Net, Ran, plgw};

const QUICKSTART: &str = "config/scenarios/quickstart.toml";

#[test]
fn the_help_text_is_unchanged() {
    let help = Ran::of(&["--help"]);
    assert_eq!(help.code, Some(0));
    insta::assert_snapshot!("help", help.out);
    let quickstart = Ran::of(&["quickstart", "-h"]);
    insta::assert_snapshot!("help_quickstart", quickstart.out);
}

#[test]
fn no_line_of_help_is_wider_than_a_terminal() {
    for command in [
        &[][..],
        &["quickstart"],
        &["serve"],
        &["check"],
        &["plan"],
        &["connection-strings"],
        &["fault", "add"],
        &["zone", "shift"],
        &["limits"],
        &["target", "deregister"],
        &["dns", "export"],
        &["man"],
    ] {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let help = Ran::of(&arguments);
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""), "{command:?}");
        let wide: Vec<&str> = help.out.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{command:?}: {wide:#?}");
        assert!(command.is_empty() || help.out.contains("Examples:\n  plgw "), "{command:?}: {}", help.out);
    }
}

#[test]
fn an_invalid_command_line_exits_2_and_lists_what_is_known() {
    let unknown = Ran::of(&["quickstrat"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(2), ""));
    assert!(unknown.err.contains("similar subcommand exists: 'quickstart'"), "{}", unknown.err);
    let beside = Ran::of(&["connection-strings", "--config", QUICKSTART, "--admin", "127.0.0.1:1"]);
    assert_eq!((beside.code, beside.out.as_str()), (Some(2), ""));
    assert!(beside.err.contains("'--admin <ADDRESS:PORT>' cannot be used with '--config <FILE>'"), "{}", beside.err);
    for wrong in [
        &["quickstart", "--shift", "246"][..],
        &["connection-strings", "--config", QUICKSTART, "--lab", "x"],
        &["plan"],
        &["connection-strings", "--state", "x"],
        &["dns", "export", "--config", QUICKSTART],
    ] {
        assert_eq!(Ran::of(wrong).code, Some(2), "{wrong:?}");
    }
    let shift = Ran::of(&["quickstart", "--shift", "246"]);
    assert!(shift.err.contains("expected a number from 0 to 245"), "{}", shift.err);
}

/// A node's name becomes part of host names, so one that the file does not give is made of the address in letters that
/// host names have.
#[test]
fn nodes_without_names_pass_the_check_and_are_named_after_their_addresses() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("gateway.toml");
    let net = Net::claim();
    let text: String = net
        .text()
        .lines()
        .filter(|line| !matches!(*line, "name = \"a\"" | "name = \"b\"" | "name = \"c\""))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&file, text).expect("written");
    let path = file.to_str().expect("UTF-8");
    let checked = Ran::of(&["check", "--config", path]);
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""), "{}", checked.out);
    let planned = Ran::of(&["plan", "--config", path]);
    let name = net.target(0).to_string().replace(['.', ':'], "-");
    assert!(planned.out.contains(&format!("Cluster0/{name}")), "{}", planned.out);
}

#[test]
fn every_file_in_config_passes_the_check() {
    let files: Vec<PathBuf> = ["config", "config/scenarios"]
        .iter()
        .flat_map(|dir| std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).expect("it is there"))
        .map(|entry| entry.expect("it is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(files.len() >= 8, "{files:?}");
    let mut arguments = vec!["check".into(), "--config".into()];
    arguments.extend(files.iter().map(|file| file.as_os_str().to_owned()));
    let checked = Ran::from(plgw(&arguments).output().expect("the binary runs"));
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""), "{}", checked.out);
    for file in &files {
        let line = checked.out.lines().find(|line| line.starts_with(&format!("{}: ok: ", file.display())));
        assert!(line.is_some(), "{} in {}", file.display(), checked.out);
    }
}

/// C1, C2.
#[test]
fn the_output_of_init_passes_the_check_from_standard_input() {
    let options =
        "init --node 10.9.0.11:27017 --node mongo2.internal:27017 --cidr 10.8.0.0/16 --service-cidr 10.9.0.0/24";
    let made = Ran::of(&options.split(' ').collect::<Vec<_>>());
    assert_eq!((made.code, made.err.as_str()), (Some(0), ""));
    assert!(made.out.contains("host = \"mongo2.internal:27017\""), "{}", made.out);
    let check = |text: &str| {
        let mut input = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut input, text.as_bytes()).expect("written");
        std::io::Seek::rewind(&mut input).expect("rewound");
        Ran::from(plgw(["check", "-"]).stdin(input).output().expect("the binary runs"))
    };
    let right = check(&made.out);
    assert_eq!(right.code, Some(0), "{}", right.err);
    assert!(right.out.contains(": ok: 1 VPC, 1 endpoint, 1 cluster, 2 targets"), "{}", right.out);
    let wrong = check(&made.out.replace("type = \"replica-set\"", "type = \"replicaset\""));
    assert_eq!(wrong.code, Some(78));
    let line = 1 + made.out.lines().position(|line| line.starts_with("type = ")).expect("a type");
    assert!(wrong.err.contains(&format!("<stdin>:{line}:1: project[0].cluster[0].type: ")), "{}", wrong.err);
}

/// C2.
#[test]
fn every_mistake_is_reported_at_once_with_its_place_and_the_exit_code_is_78() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, change: &dyn Fn(String) -> String| {
        let path = directory.path().join(name);
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(QUICKSTART)).expect("readable");
        std::fs::write(&path, change(text)).expect("writable");
        path.display().to_string()
    };
    let unreadable = write("config.toml", &|text| {
        text.replacen("us-east-1a", "us-esat-1a", 1).replacen("127.1.0.11:27017", "127.1.0.11:0", 1)
    });
    // Each value is right, what they come to together isn't: the plan's to say.
    let forbidden = write("plan.toml", &|text| text.replacen("tier = \"M30\"", "tier = \"M5\"", 1));
    let missing = directory.path().join("missing.toml").display().to_string();
    let checked = Ran::of(&["check", &unreadable, &missing, &forbidden, QUICKSTART]);
    assert_eq!(checked.code, Some(78));
    assert!(checked.out.starts_with(&format!("{QUICKSTART}: ok: ")), "the right one is said too: {}", checked.out);
    let says = |part: &str| assert!(checked.err.contains(part), "{part} is not in {}", checked.err);
    says(&format!("plgw: {unreadable}: 2 problems\n"));
    says("vpc[0].subnet[0].zone: in zone `us-esat-1a`");
    says("project[0].cluster[0].node[0].address");
    says(&format!("{missing}: 1 problem\n  cannot read the file"));
    says(&format!(
        "{forbidden}: 1 problem\n  {forbidden}:61:1: project 5f2a1b3c4d5e6f7081920a3b, cluster Sharded0: private endpoints are"
    ));

    let json = Ran::of(&["check", "--config", &unreadable, QUICKSTART, "--output", "json"]);
    assert_eq!((json.code, json.err.as_str()), (Some(78), ""));
    let files: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((&files[0]["ok"], files[0]["problems"].as_array().map(Vec::len)), (&false.into(), Some(2)));
    assert_eq!((&files[1]["ok"], &files[1]["summary"]["targets"]), (&true.into(), &4.into()));
}

/// A5, A8: ports from 1024 on, one for each `mongod`, one in all for the optimized sharded cluster.
#[test]
fn the_plan_of_the_quickstart_has_its_documented_ports_names_and_strings() {
    let view = plan(&["--config", QUICKSTART]);
    let ports: Vec<(&str, u64)> = view["targets"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|target| (target["target"].as_str().expect("text"), target["port"].as_u64().expect("a number")))
        .collect();
    assert_eq!(
        ports,
        [
            ("Cluster0/shard-00-00", 1024),
            ("Cluster0/shard-00-01", 1025),
            ("Cluster0/shard-00-02", 1026),
            ("Sharded0/lb", 1027),
        ]
    );
    let private: Vec<&str> = view["listeners"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|listener| listener["path"] == "private")
        .filter_map(|listener| listener["address"].as_str())
        .collect();
    assert_eq!(
        private,
        [
            "127.0.20.54:1024",
            "127.0.20.54:1025",
            "127.0.20.54:1026",
            "127.0.20.54:1027",
            "127.0.30.194:1024",
            "127.0.30.194:1025",
            "127.0.30.194:1026",
            "127.0.30.194:1027",
        ]
    );
    assert_eq!(
        view["connection_strings"][0]["private"][0]["srv_connection_string"],
        "mongodb+srv://cluster0-pl-0-k45tj.mongodb.net"
    );
    let has = |name: &str, kind: &str, value: &str| {
        let records = view["dns_records"].as_array().expect("a list");
        assert!(
            records.iter().any(|record| record["view"] == "public"
                && record["name"] == name
                && record["type"] == kind
                && record["value"] == value),
            "{name} {kind} {value}"
        );
    };
    has("_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net", "SRV", "0 0 1025 pl-0-us-east-1-k45tj.mongodb.net.");
    has(
        "pl-0-us-east-1-k45tj.mongodb.net",
        "CNAME",
        "vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com.",
    );
}

#[test]
fn the_json_plan_keeps_its_shape() {
    let mut view = plan(&["--config", "config/scenarios/replica-set.toml", "--state", "/nonexistent/state"]);
    // One of each is enough for the shape.
    for list in ["listeners", "targets", "dns_records"] {
        view[list].as_array_mut().expect("a list").truncate(1);
    }
    insta::assert_snapshot!("plan_json", serde_json::to_string_pretty(&view).expect("JSON"));
}

#[test]
fn the_table_of_a_plan_has_a_line_for_everything_and_no_colours() {
    let shown = Ran::of(&["plan", "--config", "config/scenarios/replica-set.toml", "--state", "/nonexistent/state"]);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert!(!shown.out.contains('\x1b'), "{:?}", shown.out);
    insta::assert_snapshot!("plan_table", shown.out);
}

/// A target keeps its port: the plan shows the ports of the running gateway, not those of a first start.
#[test]
fn a_plan_reads_held_ports_from_the_state_file_without_changing_it() {
    use plgw::control::store::{FileStore, StateStore, Txn};
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.json");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = runtime.block_on(async {
        let store = FileStore::open(&path).await.expect("a new file");
        let ledger = r#"{"held":{"Cluster0/shard-00-00":2048},"draining":[]}"#;
        let key = "ports/vpce-svc-02863655456245e5c".parse().expect("a key");
        store.commit(Txn::new().put(key, ledger)).await.expect("a commit");
        store
    });
    let before = std::fs::read(&path).expect("readable");
    let state = path.display().to_string();
    // The store is open, as a running gateway's would be.
    let view = plan(&["--config", "config/scenarios/replica-set.toml", "--state", &state]);
    drop(store);
    let ports: Vec<u64> =
        view["targets"].as_array().expect("a list").iter().filter_map(|target| target["port"].as_u64()).collect();
    assert_eq!(ports, [1024, 1025, 2048]);
    assert_eq!(view["state"], serde_json::json!({ "source": "file", "path": state }));
    assert_eq!(std::fs::read(&path).expect("readable"), before);

    std::fs::write(&path, &before[..before.len() - 1]).expect("writable");
    let cut = Ran::of(&["plan", "--config", "config/scenarios/replica-set.toml", "--state", &state]);
    assert_eq!(cut.code, Some(65));
    assert!(
        cut.err.starts_with(&format!("plgw: cannot use the state file `{state}`: it is damaged: its ")),
        "{}",
        cut.err
    );
}

/// The horizons for real servers, which make them announce the private names.
#[test]
fn the_horizons_of_a_plan_are_a_script_and_json_with_a_member_each() {
    let script = Ran::of(&["plan", "--config", QUICKSTART, "--state", "/nonexistent/state", "--horizons"]);
    assert_eq!((script.code, script.err.as_str()), (Some(0), ""));
    insta::assert_snapshot!("plan_horizons", script.out);
    let arguments = ["--config", QUICKSTART, "--state", "/nonexistent/state", "--horizons"];
    let view = plan(&arguments);
    let members = view[0]["members"].as_array().expect("a list");
    assert_eq!(members.len(), 3);
    assert_eq!(members[1]["host"], "127.1.0.12:27017");
    assert_eq!(members[1]["horizons"]["pl-0"], "pl-0-us-east-1-k45tj.mongodb.net:1025");
    assert_eq!(view.as_array().map(Vec::len), Some(1), "a mongos needs none");
}

#[test]
fn names_are_exported_in_three_formats_and_as_a_vpc_sees_them() {
    let export = |more: &[&str]| {
        let arguments: Vec<&str> = ["dns", "export", "--config", QUICKSTART].iter().chain(more).copied().collect();
        Ran::of(&arguments)
    };
    let zone = export(&["--format", "bind"]);
    let line = "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net. 60 IN SRV 0 0 1024 pl-0-us-east-1-k45tj.mongodb.net.\n";
    assert!(zone.code == Some(0) && zone.out.contains(line), "{}", zone.out);
    let batch = export(&["--format", "route53"]);
    assert!(batch.out.contains("\"Action\": \"UPSERT\""), "{}", batch.out);
    let app = "us-east-1.aws.services.cloud.mongodb.com";
    let outside = export(&["--format", "hosts"]);
    assert!(outside.out.contains(&format!("127.9.0.10 {app}\n")), "{}", outside.out);
    let inside = export(&["--format", "hosts", "--vpc", "vpc-0b3f1c9a7d2e84f56"]);
    assert!(inside.out.contains(&format!("127.0.20.55 {app}\n")), "{}", inside.out);
    let unknown = export(&["--format", "hosts", "--vpc", "vpc-00000000"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("there is `vpc-0b3f1c9a7d2e84f56`"), "{}", unknown.err);
}

#[test]
fn connection_strings_are_printed_whole_and_by_cluster() {
    let all = Ran::of(&["connection-strings", "--config", QUICKSTART]);
    let documented = "mongodb://pl-0-us-east-1-k45tj.mongodb.net:1024,pl-0-us-east-1-k45tj.mongodb.net:1025,\
                      pl-0-us-east-1-k45tj.mongodb.net:1026/?ssl=true&authSource=admin&replicaSet=Cluster0-shard-0-shard-0";
    assert!(all.out.lines().any(|line| line.trim() == documented), "{}", all.out);
    let one = Ran::of(&["connection-strings", "--config", QUICKSTART, "--cluster", "Sharded0"]);
    assert!(one.out.contains("mongodb+srv://sharded0-pl-0-lb.auylw.mongodb.net\n"), "{}", one.out);
    assert!(!one.out.contains("k45tj"), "{}", one.out);
    let unknown = Ran::of(&["connection-strings", "--config", QUICKSTART, "--cluster", "Cluster9"]);
    assert_eq!(unknown.code, Some(1));
    assert_eq!(unknown.err, format!("plgw: {QUICKSTART} has no cluster `Cluster9`; there is Cluster0, Sharded0\n"));
}

#[test]
fn completions_and_manual_pages_are_made_for_every_command() {
    for (shell, sign) in [("bash", "_plgw()"), ("zsh", "#compdef plgw"), ("fish", "complete -c plgw")] {
        let completions = Ran::of(&["completions", shell]);
        assert!(completions.code == Some(0) && completions.out.contains(sign), "{shell}");
    }
    let page = Ran::of(&["man", "dns", "export"]);
    assert!(page.out.contains(".TH plgw-dns-export 1"), "{}", page.out);
    assert!(Ran::of(&["man"]).out.contains(".TH plgw 1"));
    assert_eq!(Ran::of(&["man", "nothing"]).code, Some(1));
    let directory = tempfile::tempdir().expect("a directory");
    let dir = directory.path().display().to_string();
    assert_eq!(Ran::of(&["man", "--dir", &dir]).code, Some(0));
    assert!(directory.path().join("plgw-quickstart.1").is_file());
}

#[test]
fn an_unknown_log_format_in_the_environment_is_an_error() {
    let ran = Ran::from(plgw(["man"]).env("LOG_FORMAT", "xml").output().expect("the binary runs"));
    assert_eq!((ran.code, ran.out.as_str()), (Some(78), ""));
    assert_eq!(ran.err, "plgw: `LOG_FORMAT=xml` is no log format; write `text` or `json`\n");
}

#[test]
fn serve_runs_until_it_is_stopped_and_reports_what_it_carried() {
    let (net, directory) = (Net::claim(), tempfile::tempdir().expect("a directory"));
    let path = directory.path().join("gateway.toml");
    std::fs::write(&path, net.text()).expect("writable");
    let serve = || {
        let mut command = plgw(["serve", "--config"]);
        command.arg(&path).stdout(Stdio::null()).stderr(Stdio::piped());
        Child::of(&mut command)
    };
    let mut first = serve();
    let mut log = BufReader::new(first.0.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.contains("lifecycle: phase phase=\"running\"") {
        assert!(log.read_line(&mut said).expect("readable") > 0, "it ended: {said}");
    }

    let second = serve().ran();
    assert_eq!(second.code, Some(69));
    let last = second.err.lines().last().expect("a reason");
    assert!(last.starts_with("plgw: cannot bind DNS to"), "{}", second.err);
    assert!(last.contains("`dns.listen` sets the address: Address already in use"), "{}", second.err);

    kill_process(Pid::from_child(&first.0), Signal::TERM).expect("it runs");
    log.read_to_string(&mut said).expect("readable");
    assert_eq!(first.0.wait().expect("it ends").code(), Some(0), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.contains("stopped flows=0 refused=0")), "{said}");

    std::fs::write(&path, "workers = -1\n").expect("writable");
    let wrong = serve().ran();
    assert_eq!(wrong.code, Some(78));
    assert!(
        wrong.err.starts_with(&format!("plgw: {}: 1 problem\n  {0}:1:1: workers: ", path.display())),
        "{}",
        wrong.err
    );
}

/// The plan as `--output json` has it.
fn plan(arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = ["plan", "--output", "json"].iter().chain(arguments).copied().collect();
    let planned = Ran::of(&arguments);
    assert_eq!((planned.code, planned.err.as_str()), (Some(0), ""));
    serde_json::from_str(&planned.out).expect("JSON")
}
