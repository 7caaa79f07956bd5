//! C8. Every table of the operator's commands fits into 80 columns, with the longest names that AWS and Atlas give.

use serde_json::{Value, json};

use super::super::table::Terminal;
use super::{endpoints, events, fault, flows, gateways, limits, log_level, standin, status, targets, zone};

const ENDPOINT: &str = "vpce-024f5b57108c8d3ed";
const SERVICE: &str = "vpce-svc-02863655456245e5c";
const SERVICE_NAME: &str = "com.amazonaws.vpce.ap-northeast-1.vpce-svc-02863655456245e5c";
const TARGET: &str = "Production-Analytics-Cluster-01/shard-00-00";
const CLIENT: &str = "[2001:db8:1234:5678:9abc:def0:1234:5678]:54321";
const ZONE: &str = "ap-northeast-1a";

/// The output of a command on a terminal of 80 columns.
fn at_80(text: impl Fn(Terminal) -> String) -> String {
    let text = text(Terminal { width: Some(80), ..Terminal::default() });
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}\n{text}", line.chars().count());
    }
    text
}

#[test]
fn flows_fit_into_80_columns_and_are_whole() {
    let flow = |faults: Value| {
        json!({
            "id": "100000000001", "client": CLIENT, "origin": "on_premises", "endpoint": ENDPOINT, "target": TARGET,
            "age_seconds": 86_400.0, "bytes_to_target": 123_456_789_012_u64, "bytes_to_client": 123_456_789_012_u64,
            "faults": faults,
        })
    };
    let answer = json!({ "flows": [flow(json!([])), flow(json!(["latency-1", "bandwidth-2"]))] });
    let text = at_80(|terminal| flows::table(&answer, terminal));
    for whole in [CLIENT, TARGET, ENDPOINT, "latency-1 bandwidth-2", "123456789012"] {
        assert!(text.contains(whole), "{whole} in\n{text}");
    }
    let usual = json!({ "flows": [{
        "id": "100000000001", "client": "127.0.0.1:48902", "origin": "vpc", "endpoint": ENDPOINT,
        "target": "Cluster0/shard-00-00", "age_seconds": 12.0, "bytes_to_target": 1500, "bytes_to_client": 1500, "faults": [],
    }] });
    assert_eq!(at_80(|terminal| flows::table(&usual, terminal)).lines().count(), 4, "two lines a flow");
}

#[test]
fn every_other_table_fits_into_80_columns() {
    let member = json!({ "name": "shard-00-00", "address": CLIENT, "state": "unhealthy_draining" });
    let target = json!({
        "id": TARGET, "port": 65_535, "kind": "bi-connector", "state": "unhealthy_draining", "region": "ap-northeast-1",
        "members": [member, member], "unresolved": [{ "address": "mongo-production-01.databases.example.com:27017" }],
    });
    let text = at_80(|terminal| targets::table(&json!({ "targets": [target] }), terminal));
    assert!(text.contains("mongo-production-01.databases.example.com:27017 (not resolved)"), "{text}");
    let endpoint = json!({
        "id": ENDPOINT, "state": "pendingAcceptance", "vpc": "vpc-0b3f1c9a7d2e84f56", "service": SERVICE_NAME,
        "addresses": [{ "ip": "10.0.30.194", "zone": ZONE }, { "ip": "10.0.20.54", "zone": ZONE }],
    });
    at_80(|terminal| endpoints::table(&json!({ "endpoints": [endpoint] }), terminal));
    let used = json!({ "used": 55_000, "limit": 55_000 });
    let service = json!({
        "service": SERVICE, "provider": "AZURE", "region": "ap-northeast-1", "targets_per_region": used, "flows_per_target": used,
        "bandwidth_bytes_per_second": 125_000_000_000_u64, "ports": { "used": 100, "range": "1024-65535" },
    });
    at_80(|terminal| limits::table(&json!({ "limits": [service] }), None, terminal));
    let lost = json!({
        "zone": ZONE, "service": SERVICE, "healthy": false, "lost": true, "in_dns": true,
        "fail_open": "fail-open: every zone that is not shifted away from is lost",
        "shift": { "since": "2026-11-30T11:17:36Z", "expires": "2026-11-30T12:17:36Z" },
        "addresses": [{ "ip": "10.0.30.194" }, { "ip": "10.0.30.195" }, { "ip": "10.0.30.196" }],
    });
    at_80(|terminal| zone::table(&json!({ "zones": [lost] }), terminal));
    let set = json!({
        "name": "latency-in-one-zone", "type": "latency", "delay": "100ms", "jitter": "20ms", "direction": "to_target",
        "zone": ZONE, "target": TARGET, "share": 0.25, "seed": 7, "state": "waiting",
        "begins_at": "2026-11-30T11:17:36Z", "ends_at": "2026-11-30T12:17:36Z", "flows": 1_000_000,
    });
    at_80(|terminal| fault::table(&json!({ "faults": [set] }), terminal));
    let stand_in = json!({
        "cluster": "Production-Analytics-Cluster-01", "member": "shard-00-00", "state": "SECONDARY", "zone": ZONE,
        "address": "127.1.0.11:27017", "isolated": true,
    });
    at_80(|terminal| standin::table(&json!({ "members": [stand_in] }), terminal));
    let message =
        format!("{TARGET} moved from port 1024 to port 65535; port 1024 drains for as long as flows are open on it");
    let event =
        json!({ "at": "2026-11-30T11:17:36Z", "kind": "registration", "severity": "warning", "message": message });
    let page = json!({ "events": [event, event], "missed": true });
    let coloured = events::table(&page, Terminal { width: Some(80), colours: true, ..Terminal::default() });
    assert_eq!(at_80(|terminal| events::table(&page, terminal)).lines().count(), coloured.lines().count());
    let of_programs = events::table(&page, Terminal::default());
    assert!(of_programs.lines().count() == 3 && of_programs.contains(&message), "{of_programs}");
    let gateway = json!({
        "id": "gateway-ap-northeast-1a-01", "state": "standing-by", "is_this": true, "zones": [ZONE, "public"], "serving": [ZONE],
        "heard_seconds_ago": 86_400, "admin": "https://[2001:db8:1234:5678:9abc:def0:1234:5678]:8474",
    });
    let claim =
        json!({ "zone": ZONE, "gateway": gateway["id"], "standbys": [gateway["id"], gateway["id"]], "fenced": true });
    at_80(|terminal| {
        gateways::table(&json!({ "shared": true, "gateways": [gateway, gateway], "claims": [claim] }), terminal)
    });
    let modules =
        json!({ "levels": "warn,data=debug", "format": "text", "dropped": 0, "modules": { "appservices": "error" } });
    at_80(|terminal| log_level::table(&modules, terminal));
    let status = json!({
        "version": "0.1.0 (0123456789ab)", "generation": 12, "listeners": 1_024, "targets": 100, "endpoints": 30, "open_flows": 55_000,
        "carried": { "flows": 1_000_000, "refused": 1_000 },
        "notices": [format!("endpoint {ENDPOINT}: its security groups admit no client at some of the ports that targets have: {TARGET}")],
        "readiness": { "ready": true, "conditions": [{ "name": "listeners", "ready": true, "detail": "1024 listeners accept" }] },
    });
    at_80(|terminal| status::table(&status, terminal));
}

/// C8: as many targets as Atlas has at one load balancer, with the longest names.
#[test]
fn the_plan_of_fifty_targets_fits_into_80_columns_but_for_what_cannot_be_broken() {
    let node = |n: usize| {
        format!(
            "{{ name = \"shard-00-{n:02}\", zone = \"ap-northeast-1a\", address = \"127.1.0.{}:27017\" }},\n",
            10 + n
        )
    };
    let nodes: String = (0..50).map(node).collect();
    let text = format!(
        r#"
[[vpc]]
id = "vpc-0b3f1c9a7d2e84f56"
region = "ap-northeast-1"
cidrs = ["127.0.0.0/16"]
[[vpc.subnet]]
id = "subnet-0c1d2e3f4a5b60718"
zone = "ap-northeast-1a"
cidr = "127.0.30.0/24"
[[vpc.security_group]]
id = "sg-0a1b2c3d4e5f60718"
name = "default"
ingress = [{{ ports = "1024-65535", cidrs = ["127.0.0.0/16"] }}]
[[project]]
id = "5f2a1b3c4d5e6f7081920a3b"
[[project.cluster]]
name = "Production-Analytics-Cluster-01"
label = "k45tj"
type = "replica-set"
node = [
{nodes}]
[[project.endpoint_service]]
id = "{SERVICE}"
region = "ap-northeast-1"
cidrs = ["127.1.0.0/16"]
[[interface_endpoint]]
id = "{ENDPOINT}"
vpc = "vpc-0b3f1c9a7d2e84f56"
service = "{SERVICE_NAME}"
address = [{{ subnet = "subnet-0c1d2e3f4a5b60718", ip = "127.0.30.194" }}]
"#
    );
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.toml");
    std::fs::write(&path, format!("[state]\nstore = \"memory\"\n{text}")).expect("written");
    let planned = super::super::planned::load(&path, None).unwrap_or_else(|failure| panic!("{failure}"));
    let text = super::super::plan::page(&path, &planned, Terminal { width: Some(80), ..Terminal::default() });
    assert!(text.contains("50 targets\n") && text.contains("50 listeners\n"), "{text}");
    // Names are whole, those of 80 characters and more too.
    let is_long = |word: &str| word.chars().count() > 70;
    let wide = |line: &&str| line.chars().count() > 80 && !line.split_whitespace().any(is_long);
    let wide: Vec<&str> = text.lines().filter(wide).collect();
    assert!(wide.is_empty(), "{wide:#?}");
}
