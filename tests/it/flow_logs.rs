//! Flow logs and access logs of a running gateway, as they are in their files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use plgw::config::{FlowLogSettings, LogDestination, TrafficType};
use plgw::model::FlowLogField;
use tokio::io::AsyncWriteExt;

use crate::conformance::{codes, table};
use crate::support::{ClientNetwork, EchoTarget, Flow, Net, TestGateway, eventually};

const FORMAT: &str = "${version} ${interface-id} ${srcaddr} ${dstaddr} ${dstport} ${packets} ${bytes} ${action} \
                      ${log-status} ${tcp-flags} ${flow-direction} ${traffic-path} ${vpc-id} ${plgw-reason}";

fn file(directory: &Path, name: &str) -> LogDestination {
    LogDestination::File { path: directory.join(name), rotate_size: 1 << 20, keep: 1 }
}

pub(crate) fn settings(directory: &Path, interval: Duration, traffic: TrafficType) -> FlowLogSettings {
    FlowLogSettings {
        destination: file(directory, "flow.log"),
        interval,
        traffic,
        format: FORMAT.parse().expect("a format"),
        account_id: "123456789012".to_owned(),
    }
}

/// The lines of a file without its header, split into fields.
fn lines(directory: &Path, name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    text.lines().skip(1).map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

async fn start(directory: &Path, interval: Duration, traffic: TrafficType) -> (EchoTarget, TestGateway) {
    let net = Net::claim();
    let echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| {
        config.settings.flow_logs = Some(settings(directory, interval, traffic));
        config.settings.access_log = Some(file(directory, "access.log"));
    })
    .await;
    (echo, gateway)
}

/// The records with data of the endpoint's address in zone a; waits for `count` of them.
async fn records(directory: &Path, gateway: &TestGateway, count: usize) -> Vec<Vec<String>> {
    let ip = gateway.net.endpoint_a().to_string();
    eventually(&format!("{count} records"), || {
        let with_data: Vec<_> = lines(directory, "flow.log")
            .into_iter()
            .filter(|words| words[8] == "OK" && (words[2] == ip || words[3] == ip))
            .collect();
        if with_data.len() >= count { Ok(with_data) } else { Err(with_data) }
    })
    .await
}

/// Ingress and egress of an accepted flow, one line for a rejected one, NODATA for an idle interface.
#[tokio::test]
async fn accepted_and_rejected_flows_are_in_the_flow_log_and_each_one_in_the_access_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_echo, gateway) = start(directory.path(), Duration::from_secs(1), TrafficType::All).await;
    let vpc = gateway.net.source(ClientNetwork::Vpc).to_string();
    assert_eq!(gateway.dial("a").await.echo(b"twelve bytes").await, b"twelve bytes");
    let outside =
        Flow::connect(gateway.net.source(ClientNetwork::Public), gateway.address("a")).await.expect("accepted");
    drop(outside);
    let mut peered =
        Flow::connect(gateway.net.source(ClientNetwork::Peered), gateway.address("a")).await.expect("accepted");
    peered.echo(b"x").await;
    drop(peered);
    let found = records(directory.path(), &gateway, 5).await;

    let header = std::fs::read_to_string(directory.path().join("flow.log")).expect("there");
    assert!(header.starts_with("version interface-id srcaddr dstaddr dstport packets bytes action "), "{header}");
    let of = |source: &str, direction: &str| {
        let word = if direction == "ingress" { 2 } else { 3 };
        let found: Vec<_> = found.iter().filter(|words| words[word] == source && words[10] == direction).collect();
        assert_eq!(found.len(), 1, "{source} {direction}: {found:?}");
        found[0].clone()
    };
    let ingress = of(&vpc, "ingress");
    assert_eq!(ingress[0], "5");
    assert!(ingress[1].starts_with("eni-"), "{ingress:?}");
    assert_eq!(ingress[4], gateway.port("a").to_string());
    let number = |word: &String| word.parse::<u64>().expect("a number");
    // The payload, and 40 bytes of headers for each packet.
    assert_eq!(number(&ingress[6]), 12 + 40 * number(&ingress[5]), "{ingress:?}");
    assert!(number(&ingress[5]) >= 3, "{ingress:?}");
    assert_eq!((ingress[7].as_str(), ingress[9].as_str(), ingress[11].as_str()), ("ACCEPT", "3", "-"));
    assert_eq!(ingress[12..], ["vpc-0b3f1c9a7d2e84f56", "completed"]);
    let egress = of(&vpc, "egress");
    assert_eq!(number(&egress[6]), 12 + 40 * number(&egress[5]), "{egress:?}");
    assert_eq!((egress[7].as_str(), egress[9].as_str(), egress[11].as_str()), ("ACCEPT", "19", "1"));
    assert_eq!(of(&gateway.net.source(ClientNetwork::Peered).to_string(), "egress")[11], "4");
    let rejected = of(&gateway.net.source(ClientNetwork::Public).to_string(), "ingress");
    assert_eq!(rejected[5..10], ["1", "40", "REJECT", "OK", "2"]);
    assert_eq!(rejected[13], "origin");
    // The address in zone b was not used.
    let quiet = lines(directory.path(), "flow.log");
    assert!(quiet.iter().any(|words| words[8] == "NODATA" && words[2] == "-"), "{quiet:?}");

    let access = eventually("three lines", || {
        let text = std::fs::read_to_string(directory.path().join("access.log")).expect("there");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        if lines.len() == 3 { Ok(lines) } else { Err(text) }
    })
    .await;
    let closed = access.iter().find(|line| line["origin"] == "vpc").expect("the first flow");
    assert_eq!((&closed["event"], &closed["end"]), (&"flow closed".into(), &"completed".into()));
    assert_eq!((&closed["bytes.to_target"], &closed["bytes.to_client"]), (&12.into(), &12.into()));
    assert_eq!((&closed["target.id"], &closed["zone"]), (&"Cluster0/a".into(), &"us-east-1a".into()));
    let refused = access.iter().find(|line| line["event"] == "flow refused").expect("the refusal");
    assert_eq!(refused["refusal"], "origin");
    gateway.expect_metric("plgw_flow_log_skipped_total", &[], 0.0).await;
    gateway.expect_metric("plgw_flow_log_records_total", &[r#"log="access""#], 3.0).await;
}

/// A long flow is recorded in each window, and its bytes are counted once.
#[tokio::test]
async fn a_flow_that_lasts_is_recorded_in_every_window() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_echo, gateway) = start(directory.path(), Duration::from_secs(1), TrafficType::Accept).await;
    let mut flow = gateway.dial("a").await;
    flow.echo(&[7; 1000]).await;
    let first = records(directory.path(), &gateway, 2).await;
    assert_eq!((first[0][9].as_str(), first[1][9].as_str(), first[0][13].as_str()), ("2", "18", "open"));
    flow.echo(&[7; 500]).await;
    flow.stream.shutdown().await.expect("FIN");
    drop(flow);
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="completed""#], 1.0).await;
    let TestGateway { gateway, net } = gateway;
    let ip = net.endpoint_a().to_string();
    // The rest is written at the stop.
    gateway.stop().await;
    let all = lines(directory.path(), "flow.log");
    let ingress: Vec<_> = all.iter().filter(|words| words[3] == ip && words[10] == "ingress").collect();
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let payload: u64 = ingress.iter().map(|words| number(&words[6]) - 40 * number(&words[5])).sum();
    assert_eq!(payload, 1500, "{ingress:?}");
    let flags = ingress.iter().fold(0, |flags, words| flags | number(&words[9]));
    assert_eq!(flags, 3, "SYN in the first, FIN in the last: {ingress:?}");
}

/// `traffic = "reject"`: accepted flows are not recorded.
#[tokio::test]
async fn only_the_configured_traffic_is_recorded() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_echo, gateway) = start(directory.path(), Duration::from_secs(600), TrafficType::Reject).await;
    gateway.dial("a").await.echo(b"let through").await;
    drop(Flow::connect(gateway.net.source(ClientNetwork::Service), gateway.address("a")).await.expect("accepted"));
    gateway.expect_metric("plgw_refused_flows_total", &[r#"reason="one_way""#], 1.0).await;
    gateway.expect_metric("plgw_flows_closed_total", &[r#"end="completed""#], 1.0).await;
    gateway.gateway.stop().await;
    let found = lines(directory.path(), "flow.log");
    let with_data: Vec<_> = found.iter().filter(|words| words[8] == "OK").collect();
    assert_eq!(with_data.len(), 1, "{found:?}");
    assert_eq!((with_data[0][7].as_str(), with_data[0][13].as_str()), ("REJECT", "one_way"));
}

/// `docs/flow-logs.md` has every field, with the version that AWS gives it.
#[test]
fn the_documented_fields_are_those_of_a_format() {
    let documented: BTreeMap<String, String> = table("docs/flow-logs.md", "| field ")
        .into_iter()
        .flat_map(|cells| codes(&cells[0]).into_iter().map(move |field| (field, cells[1].clone())))
        .collect();
    let version = |field: FlowLogField| match field.version() {
        0 => String::new(),
        version => version.to_string(),
    };
    let fields = FlowLogField::ALL.into_iter().map(|field| (field.name().to_owned(), version(field))).collect();
    assert_eq!(documented, fields);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_the_start_and_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("taken"), "a file").expect("written");
    let net = Net::claim();
    let mut config = net.config();
    config.settings.access_log = Some(file(&directory.path().join("taken"), "access.log"));
    let error =
        plgw::app::Gateway::start(config, plgw::app::GatewayOptions::default()).await.expect_err("no directory");
    assert!(error.to_string().starts_with("cannot write access logs to "), "{error}");
}
