//! Checks every file in `config/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::config::raw::{Problems, without_indexes};
use crate::config::{Config, Positions, Settings, parse, quickstart, read};
use crate::model::{AppEndpointKind, Attributes, Desired, Naming};

const GATEWAY: &str = include_str!("../../../config/gateway.toml");

#[test]
fn the_documented_file_has_the_defaults_and_an_empty_inventory() {
    let config = parse(GATEWAY, "config/gateway.toml").expect("no mistakes");
    assert_eq!(
        config,
        Config {
            settings: Settings::default(),
            desired: Desired::default(),
            notices: Vec::new(),
            positions: Positions::default()
        }
    );
}

#[test]
fn the_documented_file_has_every_key_that_is_known_and_no_other() {
    let text = uncommented(GATEWAY);
    let problems = Problems::new("gateway.toml", &text);
    read(&text, &problems);
    let mut known = problems.known.take();
    assert_eq!(problems.into_errors(), None);
    // Keys of earlier versions, accepted with a notice.
    for key in ["logs.repeats", "logs.interval", "project.endpoint_service.bandwidth_cap_mbps"] {
        assert!(known.remove(key), "{key}");
    }
    // Refused with the file's `state.store`.
    for key in ["gateway.id", "gateway.zones"] {
        assert!(known.remove(key), "{key}");
    }
    let documented: BTreeSet<String> = key_paths(&table(&text)).iter().map(|path| without_indexes(path)).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_documented_value_is_the_default_unless_it_is_marked_as_an_example() {
    let text = uncommented(GATEWAY);
    let whole = parse(&text, "gateway.toml").expect("no mistakes");
    let (mut defaults, mut examples) = (0, 0);
    for line in text.lines().filter(|line| line.contains(" = ")) {
        // Lines are not unique; each of several equal lines is removed in turn.
        for (start, _) in text.match_indices(line).filter(|(start, _)| is_line(&text, *start, line)) {
            let without = format!("{}{}", &text[..start], &text[start + line.len()..]);
            let example = line.ends_with("# example");
            match parse(&without, "gateway.toml") {
                Ok(config) if example => {
                    assert_ne!(config, whole, "{line}: is the default, so no example");
                    examples += 1;
                }
                Ok(config) => {
                    assert_eq!(config, whole, "{line}: is not the default, so mark it as an example");
                    defaults += 1;
                }
                Err(_) => assert!(!example, "{line}: cannot be left out, so needs no mark"),
            }
        }
    }
    assert!(defaults > 50 && examples > 5, "{defaults} defaults and {examples} examples are too few");
}

/// Resolvers and caches return the old port of a moved target for a TTL.
#[test]
fn a_moved_targets_old_port_accepts_for_a_ttl_by_default() {
    let grace = |text| parse(text, "f.toml").expect(text).settings.move_grace.as_secs();
    assert_eq!(grace(""), 60);
    assert_eq!(grace("[dns]\nttl = \"300s\""), 300);
    assert_eq!(grace("[dns]\nttl = \"5s\""), 60);
    assert_eq!(grace("move_grace = \"0s\"\n[dns]\nttl = \"300s\""), 0);
}

#[test]
fn keys_of_earlier_versions_are_taken_with_a_notice() {
    let old = format!("[logs]\nrepeats = 5\n{}", crate::config::QUICKSTART).replacen(
        "[[project.endpoint_service]]",
        "[[project.endpoint_service]]\nbandwidth_cap_mbps = 8",
        1,
    );
    let config = parse(&old, "f.toml").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.desired.projects[0].services[0].attributes.bandwidth_cap, Some(1_000_000));
    assert_eq!(config.notices.len(), 2, "{:?}", config.notices);
    assert!(config.notices.iter().any(|notice| notice.ends_with("write `bandwidth_bytes_per_second = 1000000`")));
    let new = old.replace("bandwidth_cap_mbps = 8", "bandwidth_bytes_per_second = 1000000");
    assert_eq!(parse(&new, "f.toml").expect("the new key").desired, config.desired);
}

#[test]
fn every_scenario_parses() {
    let scenarios = scenarios();
    for wanted in [
        "quickstart",
        "replica-set",
        "sharded",
        "sharded-optimized",
        "two-zones",
        "two-regions",
        "cross-region",
        "app-services",
    ] {
        assert!(scenarios.iter().any(|path| path.file_stem().is_some_and(|stem| stem == wanted)), "{wanted} is there");
    }
    for path in scenarios {
        let config = crate::config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(!config.desired.endpoints.is_empty(), "{} has endpoints", path.display());
    }
}

#[test]
fn an_invented_key_is_refused_in_every_table_of_every_file() {
    let mut texts = vec![uncommented(GATEWAY)];
    texts.extend(scenarios().iter().map(|path| std::fs::read_to_string(path).expect("a scenario is readable")));
    for text in texts {
        let original = table(&text);
        let tables = table_paths(&original);
        assert!(tables.len() > 5, "a file has tables");
        for path in tables {
            let mut changed = original.clone();
            table_at(&mut changed, &path).insert("invented".to_owned(), Value::Boolean(true));
            let text = toml::to_string(&changed).expect("a table can be written");
            let errors = parse(&text, "changed.toml").expect_err(&path);
            let expected = if path.is_empty() { "invented".to_owned() } else { format!("{path}.invented") };
            assert_eq!(errors.problems.len(), 1, "{errors}");
            assert_eq!(errors.problems[0].path, expected);
            assert!(errors.problems[0].message.starts_with("unknown key; "), "{errors}");
        }
    }
}

#[test]
fn the_quickstart_has_the_addresses_that_its_documentation_names() {
    let Config { settings, desired, .. } = quickstart();
    assert_eq!(settings, Settings::default());

    let vpc = desired.vpcs.values().next().expect("one VPC");
    assert_eq!(
        (vpc.cidrs.to_string(), vpc.peered.to_string(), vpc.on_premises.to_string()),
        ("127.0.0.0/16".into(), "127.3.0.0/16".into(), "127.2.0.0/16".into())
    );
    assert!(vpc.private_zones_work());

    let addresses = |id: &str| -> Vec<String> {
        let endpoint = &desired.endpoints[&id.parse().expect(id)];
        endpoint.addresses.iter().map(|address| format!("{} {}", address.zone, address.ip)).collect()
    };
    assert_eq!(addresses("vpce-024f5b57108c8d3ed"), ["us-east-1a 127.0.30.194", "us-east-1b 127.0.20.54"]);
    let app = &desired.apps[0];
    assert_eq!((app.id.as_str(), app.public_address.to_string()), ("myapp-abcde", "127.9.0.10:8443".into()));
    let of_kind = |kind| {
        let endpoint = app.endpoints.iter().find(|endpoint| endpoint.kind == kind).expect("one of each kind");
        addresses(endpoint.endpoint.as_str())
    };
    assert_eq!(of_kind(AppEndpointKind::General), ["us-east-1a 127.0.30.195", "us-east-1b 127.0.20.55"]);
    assert_eq!(of_kind(AppEndpointKind::Sync), ["us-east-1a 127.0.30.196", "us-east-1b 127.0.20.56"]);

    let project = &desired.projects[0];
    let nodes = |cluster: usize| -> Vec<String> {
        project.clusters[cluster].nodes.iter().map(|node| node.address.to_string()).collect()
    };
    assert_eq!(nodes(0), ["127.1.0.11:27017", "127.1.0.12:27017", "127.1.0.13:27017"]);
    assert_eq!(nodes(1), ["127.1.0.21:27016", "127.1.0.22:27016"]);
    assert_eq!((project.clusters[0].naming, project.clusters[1].naming), (Naming::Dash, Naming::Dot));
    assert_eq!(project.services[0].cidrs.to_string(), "127.1.0.0/16");
    assert_eq!(project.services[0].attributes.idle_timeout, Attributes::default().idle_timeout);
}

/// The text with its commented-out keys and tables enabled: `#` without a space after it.
fn uncommented(text: &str) -> String {
    let bare = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(bare).collect()
}

/// Whether `line` is a whole line at `start`.
fn is_line(text: &str, start: usize, line: &str) -> bool {
    let before = start == 0 || text.as_bytes()[start - 1] == b'\n';
    before && text[start + line.len()..].starts_with('\n')
}

fn scenarios() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/scenarios");
    std::fs::read_dir(directory)
        .expect("the scenarios are there")
        .map(|entry| entry.expect("an entry is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect()
}

fn table(text: &str) -> Table {
    text.parse().expect("TOML")
}

/// The paths of every key in `table`, tables included.
fn key_paths(table: &Table) -> Vec<String> {
    let mut paths = Vec::new();
    for path in table_paths(table) {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
        paths.extend(table_at(&mut table.clone(), &path).keys().map(|key| format!("{prefix}{key}")));
    }
    paths
}

/// The paths of `table` (empty) and of every table in it.
fn table_paths(table: &Table) -> Vec<String> {
    fn visit(table: &Table, path: &str, paths: &mut Vec<String>) {
        paths.push(path.to_owned());
        for (key, value) in table {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match value {
                Value::Table(table) => visit(table, &path, paths),
                Value::Array(elements) => {
                    for (index, element) in elements.iter().enumerate() {
                        if let Value::Table(table) = element {
                            visit(table, &format!("{path}[{index}]"), paths);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    let mut paths = Vec::new();
    visit(table, "", &mut paths);
    paths
}

fn table_at<'a>(table: &'a mut Table, path: &str) -> &'a mut Table {
    path.split('.').filter(|step| !step.is_empty()).fold(table, |table, step| {
        let (key, index) = match step.strip_suffix(']').and_then(|step| step.split_once('[')) {
            Some((key, index)) => (key, Some(index.parse::<usize>().expect("an index"))),
            None => (step, None),
        };
        let value = table.get_mut(key).expect("the key is there");
        match (value, index) {
            (Value::Array(elements), Some(index)) => elements[index].as_table_mut().expect("a table"),
            (Value::Table(table), None) => table,
            _ => panic!("{path} is no table"),
        }
    })
}
