//! `/metrics` as Prometheus reads it, and `docs/metrics.md` as people do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::conformance::{code, codes, read, table};
use crate::support::{EchoTarget, Net, TestGateway};

/// A family of the page.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The interface of scrapers and dashboards: a change here belongs in the changelog.
#[tokio::test]
async fn the_page_has_these_families_with_these_types_labels_and_help_texts() {
    let (_gateway, page) = page().await;
    let families = families(&page);
    let text: String = families
        .iter()
        .map(|(name, Family { kind, help, labels })| {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            format!("{name}{{{}}} {kind}\n    {help}\n", labels.join(","))
        })
        .collect();
    insta::assert_snapshot!(text);
}

/// The rules of `promtool check metrics`; the client tests run promtool itself.
#[tokio::test]
async fn names_follow_prometheus_conventions_and_every_family_has_a_help_text() {
    let (_gateway, page) = page().await;
    for (name, Family { kind, help, labels }) in families(&page) {
        assert!(!help.is_empty(), "{name} has no help");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name} is a {kind}");
        assert!(!name.contains("milli") && !name.ends_with("_count") && !name.ends_with("_sum"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        for label in labels {
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}{{{label}}}");
        }
    }
    // A histogram has its buckets in order, ends with +Inf, and that is its count.
    let of = |suffix: &str| {
        let start = format!("plgw_flow_duration_seconds_{suffix}{{");
        let lines = page.lines().filter(|line| line.starts_with(&start) && line.contains("target=\"Cluster0/a\""));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let buckets = of("bucket");
    let number = |line: &String| line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("a number");
    assert!(buckets.iter().map(number).is_sorted(), "{buckets:?}");
    let last = buckets.last().expect("it has buckets");
    assert!(last.contains("le=\"+Inf\"}"), "{last}");
    assert_eq!(number(last), number(&of("count")[0]));
}

/// `docs/metrics.md` lists exactly the metrics of `/metrics`, with type, labels and unit.
#[tokio::test]
async fn the_documented_metrics_are_those_of_the_page() {
    let (_gateway, page) = page().await;
    let found = families(&page);
    let rows = table("docs/metrics.md", "| metric ");
    let documented: BTreeMap<String, (String, BTreeSet<String>)> = rows
        .iter()
        .map(|cells| (code(&cells[0]), (cells[1].clone(), codes(&cells[2]).into_iter().collect())))
        .collect();
    assert_eq!(documented.len(), rows.len(), "a metric has one row");
    for cells in &rows {
        let (name, unit) = (code(&cells[0]), cells[3].as_str());
        let named = match unit {
            "" => !["_seconds", "_bytes"].iter().any(|unit| name.contains(unit)),
            "bytes per second" => name.contains("bytes_per_second"),
            unit => name.contains(&format!("_{unit}")),
        };
        assert!(named, "{name} is not in {unit:?}");
        assert!(!cells[4].is_empty(), "{name} answers nothing");
    }
    // A family that appears only after an event that this test lacks must at least occur in the sources.
    let sources = sources();
    for name in documented.keys().filter(|name| !found.contains_key(*name)) {
        assert!(sources.contains(&format!("\"{name}\"")), "{name} is documented and nowhere else");
    }
    let documented: BTreeMap<_, _> = documented.into_iter().filter(|(name, _)| found.contains_key(name)).collect();
    let found: BTreeMap<_, _> = found.into_iter().map(|(name, family)| (name, (family.kind, family.labels))).collect();
    assert_eq!(documented, found);
}

/// Labels are documented, and clients cannot create any.
#[tokio::test]
async fn every_label_is_explained() {
    let (_gateway, page) = page().await;
    let explained: BTreeSet<String> =
        table("docs/metrics.md", "| label ").iter().flat_map(|cells| codes(&cells[0])).collect();
    for (name, family) in families(&page) {
        for label in family.labels {
            assert!(explained.contains(&label), "{name}{{{label}}} is not explained");
        }
    }
}

/// NLB's UnhealthyRoutingFlowCount: flows to a group that fails open.
#[tokio::test]
async fn flows_of_a_group_that_fails_open_are_counted() {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        crate::health::quick_checks(config);
        // Nothing listens on the port of the checks, so that a target which works fails them.
        config.desired.projects[0].services[0].attributes.health_check.port = 27_019.try_into().ok();
    })
    .await;
    crate::health::state_of(&gateway, "a", plgw::model::TargetState::Unhealthy).await;
    gateway.expect_metric("plgw_unhealthy_hosts", &["Cluster0/a", r#"zone="us-east-1a""#], 1.0).await;
    gateway.expect_metric("plgw_healthy_hosts", &[], 0.0).await;
    gateway.expect_metric("plgw_unhealthy_routing_flows_total", &[], 0.0).await;
    assert_eq!(gateway.dial("a").await.echo(b"all the same").await, b"all the same");
    gateway.expect_metric("plgw_unhealthy_routing_flows_total", &[r#"zone="us-east-1a""#], 1.0).await;
}

/// A gateway after one flow, and its page.
async fn page() -> (TestGateway, String) {
    let net = Net::claim();
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start(net).await;
    gateway.dial("a").await.echo(b"so that every series shows").await;
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="completed""#], 1.0).await;
    crate::support::eventually("the peak is sampled", || {
        gateway.gateway.metrics().contains("plgw_peak_bytes_per_second{").then_some(()).ok_or("not yet")
    })
    .await;
    let page = gateway.gateway.metrics();
    (gateway, page)
}

fn families(page: &str) -> BTreeMap<String, Family> {
    let mut found: BTreeMap<String, Family> = BTreeMap::new();
    for line in page.lines() {
        if let Some(of_help) = line.strip_prefix("# HELP ") {
            let (name, help) = of_help.split_once(' ').expect("a help text");
            found.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some(of_type) = line.strip_prefix("# TYPE ") {
            let (name, kind) = of_type.split_once(' ').expect("a type");
            found.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if let Some((series, _)) = line.rsplit_once(' ') {
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let family = if found.contains_key(name) { name } else { family };
            let family = found.get_mut(family).unwrap_or_else(|| panic!("{family} has no type"));
            let labels = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once("=\""));
            family.labels.extend(labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le"));
        }
    }
    found
}

/// Every line of the crate's sources.
fn sources() -> String {
    let mut text = String::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|found| found == "rs") {
                text.push_str(&read(&path));
            }
        }
    }
    text
}
