//! The output of the quickstart.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::cli::check::counted;
use crate::cli::connection_strings;
use crate::cli::operator::cell;
use crate::cli::plan::records;
use crate::cli::plan::view::{self, RecordView};
use crate::cli::table::{Table, Terminal, wrapped};
use crate::model::{AppEndpointKind, TargetState};
use crate::plan::{Listener, ListenerAccess, PrivateStrings, Snapshot, TargetKind, TargetView};
use crate::quickstart::{Check, Quickstart, StandInTraffic, TrafficSummary};

/// The running services, and the state of the checks. `brief` is for an interactive terminal: without the records, which the
/// commands to try query, and without details of passed checks.
pub(super) fn started(quickstart: &Quickstart, checks: &[Check], terminal: Terminal, brief: bool) -> String {
    let snapshot = quickstart.gateway().snapshot();
    let mut text = String::new();
    let mut section = |title: &str, body: String| text.push_str(&format!("{}\n{body}\n", terminal.bold(title)));
    section("Targets", targets(&snapshot, terminal));
    let strings = connection_strings::shown(&snapshot.strings);
    section("Connection strings", connection_strings::as_text(&strings, terminal));
    if !brief {
        section("DNS records of the private path", records(&private_records(&snapshot), terminal));
    }
    if !snapshot.notices.is_empty() {
        section("Notices", snapshot.notices.iter().map(|notice| wrapped("  ", notice, 4, terminal)).collect());
    }
    let passed = brief && checks.iter().all(|check| check.outcome.is_ok());
    section("Self-check", if passed { all_passed(checks, terminal) } else { self_check(checks, terminal) });
    text
}

/// Commands to try while it runs.
pub(super) fn suggestions(quickstart: &Quickstart, terminal: Terminal) -> String {
    let lines = lines(quickstart, &quickstart.gateway().snapshot(), terminal);
    let last = terminal.bold("Running. Ctrl-C stops it and prints what it carried.");
    format!("{}\n{lines}\n{last}\n", terminal.bold("Try it"))
}

/// The records of the private strings, and those that only VPCs see.
fn private_records(snapshot: &Snapshot) -> Vec<RecordView> {
    let private = snapshot.strings.iter().flat_map(|strings| &strings.private);
    let mut names = BTreeSet::new();
    let mut endpoints = BTreeSet::new();
    for strings in private {
        let seeds = strings.srv_connection_string.trim_start_matches("mongodb+srv://");
        names.extend([seeds.to_owned(), format!("_mongodb._tcp.{seeds}")]);
        let hosts = strings.connection_string.trim_start_matches("mongodb://").split(['/', ',']);
        names.extend(hosts.filter_map(|host| Some(host.split_once(':')?.0.to_owned())));
        endpoints.extend(strings.endpoints.iter().map(|(id, _)| format!("{id}-")));
    }
    let leads = |record: &RecordView| {
        names.contains(&record.name) || endpoints.iter().any(|endpoint| record.name.starts_with(endpoint))
    };
    let mut kept: Vec<RecordView> = Vec::new();
    for record in view::records(snapshot) {
        // Two zones of a VPC may have the same record: one declared by the consumer, and the one that AWS would have
        // created.
        let is_new = kept.iter().all(|other| !record.is_same_record(other));
        if is_new && (record.view != "public" || leads(&record)) {
            kept.push(record);
        }
    }
    kept
}

/// The traffic; `by_check` is the self-check's part of it.
pub(super) fn carried(carried: &TrafficSummary, by_check: &TrafficSummary, terminal: Terminal) -> String {
    let (all, check) = (carried.gateway, by_check.gateway);
    let mut text = format!("{}\n", terminal.bold("Carried"));
    text.push_str(&format!(
        "  {} ({} by the self-check), {} to targets, {} to clients, {} refused ({} by the self-check)\n",
        counted_u64(all.flows, "flow"),
        check.flows,
        bytes(all.bytes_to_target),
        bytes(all.bytes_to_client),
        all.refused,
        check.refused,
    ));
    for stand_in in &carried.stand_ins {
        text.push_str(&match stand_in {
            StandInTraffic::Cluster(name, seen) => format!(
                "  {name} saw {}, {}; documents: {} inserted, {} found, {} updated, {} deleted\n",
                counted_u64(seen.connections, "connection"),
                counted_u64(seen.commands, "command"),
                seen.inserted,
                seen.found,
                seen.updated,
                seen.deleted
            ),
            StandInTraffic::App(id, seen) => format!(
                "  {id} saw {}, {}, {}\n",
                counted_u64(seen.requests, "request"),
                counted_u64(seen.websockets, "WebSocket"),
                counted_u64(seen.messages, "message")
            ),
        });
    }
    text
}

fn targets(snapshot: &Snapshot, terminal: Terminal) -> String {
    let mut table = Table::new(["TARGET", "KIND", "PORT", "MEMBER", "ZONE", "HEALTH"]);
    for target in &snapshot.targets {
        let mut what = [target.id.to_string(), cell(&serde_json::json!(target.kind)), target.port.to_string()];
        for member in &target.members {
            let health = member.state.label();
            let health = match member.state {
                TargetState::Healthy => terminal.green(health),
                TargetState::Unhealthy | TargetState::UnhealthyDraining => terminal.red(health),
                TargetState::Initial | TargetState::Draining | TargetState::Unused => health.to_owned(),
            };
            let of_member = [member.address.to_string(), member.zone.to_string(), health];
            // Further members follow below the first.
            table.row(std::mem::take(&mut what).into_iter().chain(of_member));
        }
    }
    table.render(terminal)
}

fn self_check(checks: &[Check], terminal: Terminal) -> String {
    let mut text = String::new();
    for check in checks {
        let (verdict, said) = match &check.outcome {
            Ok(seen) => (terminal.green("ok    "), seen),
            Err(seen) => (terminal.red("FAILED"), seen),
        };
        let took = terminal.dim(&format!("({} ms)", check.took.as_millis()));
        text.push_str(&format!("  {verdict}  {:<14}{said} {took}\n", check.name));
    }
    text
}

/// The checks' names, wrapped for the terminal.
fn all_passed(checks: &[Check], terminal: Terminal) -> String {
    let mut lines = vec![String::new()];
    for (index, check) in checks.iter().enumerate() {
        let end = if index + 1 == checks.len() { "" } else { "," };
        let word = format!("{}{end} ", check.name);
        let line = lines.last_mut().expect("there is a first one");
        if line.len() + word.len() > BRIEF_WIDTH {
            lines.push(word);
        } else {
            line.push_str(&word);
        }
    }
    let counted = counted(checks.len(), "check");
    let mut text = format!("  {}  {counted}; `--once` prints what each one saw\n", terminal.green("ok"));
    lines.iter().for_each(|line| text.push_str(&format!("      {}\n", line.trim_end())));
    text
}

/// Maximum line length; with the indentation it is 80.
const BRIEF_WIDTH: usize = 72;

/// Commands to copy: their purpose, then the lines.
struct Recipe {
    what: String,
    lines: Vec<String>,
}

impl Recipe {
    fn new(what: impl Into<String>, lines: impl IntoIterator<Item = String>) -> Self {
        Self { what: what.into(), lines: lines.into_iter().collect() }
    }
}

fn lines(quickstart: &Quickstart, snapshot: &Snapshot, terminal: Terminal) -> String {
    let dns = quickstart.gateway().dns_addresses().first().copied();
    let set = snapshot.targets.iter().find(|target| target.kind == TargetKind::Mongod);
    let strings = set.and_then(|target| private_strings(snapshot, target));
    let mut recipes = Vec::new();
    if let Some((dns, strings)) = dns.zip(strings) {
        recipes.extend(names(quickstart, dns, strings));
    }
    if let Some((target, strings)) = set.zip(strings) {
        recipes.extend(drivers(quickstart, snapshot, target, strings, dns));
    }
    recipes.extend(pages(quickstart));
    recipes.extend(app_services(quickstart, dns));
    let mut text = String::new();
    for recipe in &recipes {
        text.push_str(&format!("  {}\n", terminal.dim(&format!("# {}", recipe.what))));
        recipe.lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
}

fn private_strings<'s>(snapshot: &'s Snapshot, target: &TargetView) -> Option<&'s PrivateStrings> {
    snapshot.strings.iter().find(|strings| strings.cluster == target.cluster)?.private.first()
}

fn names(quickstart: &Quickstart, dns: SocketAddr, strings: &PrivateStrings) -> Vec<Recipe> {
    let (ip, port) = (dns.ip(), dns.port());
    let seeds = strings.srv_connection_string.trim_start_matches("mongodb+srv://");
    let host = host_of(strings).unwrap_or(seeds);
    let dig = |options: &str, question: &str| format!("dig {options}@{ip} -p {port} {question}");
    let service = quickstart.config().desired.projects.iter().flat_map(|project| &project.services).next();
    let other_side = service.and_then(|service| service.source_addresses.first());
    let mut recipes = vec![Recipe::new(
        "the names, as a host in the VPC resolves them",
        [
            dig("", &format!("SRV _mongodb._tcp.{seeds}")),
            dig("", &format!("TXT {seeds}")),
            format!("nslookup -port={port} {host} {ip}"),
        ],
    )];
    if let Some(source) = other_side {
        let line = dig(&format!("-b {source} "), host);
        recipes.push(Recipe::new("the same from the service's side: REFUSED (one-way)", [line]));
    }
    recipes
}

/// The first host of the strings.
fn host_of(strings: &PrivateStrings) -> Option<&str> {
    let rest = strings.connection_string.strip_prefix("mongodb://")?;
    Some(rest.split_once(':')?.0)
}

/// Commands that work in any shell without changes: drivers use port 53 of the system's resolver, which is not the
/// gateway's.
fn drivers(
    quickstart: &Quickstart,
    snapshot: &Snapshot,
    target: &TargetView,
    strings: &PrivateStrings,
    dns: Option<SocketAddr>,
) -> Vec<Recipe> {
    let ca = in_uri(&quickstart.ca_path());
    let mut recipes = Vec::new();
    let is_way = |listener: &&Arc<Listener>| {
        matches!(listener.access, ListenerAccess::Endpoint(_)) && listener.group.target == target.id
    };
    let way = snapshot.listeners.values().rfind(is_way).map(|listener| listener.address);
    if let Some(way) = way {
        recipes.push(Recipe::new(
            "one node through the endpoint: an address needs no resolver, and the certificate has it too",
            [format!("mongosh 'mongodb://{way}/?directConnection=true&tls=true&tlsCAFile={ca}'")],
        ));
    }
    if let Some(dns) = dns {
        let (ip, port) = (dns.ip(), dns.port());
        let script = [
            "import dns.resolver as d, pymongo".to_owned(),
            format!("r = d.default_resolver = d.Resolver(configure=False); r.nameservers, r.port = [\"{ip}\"], {port}"),
            "d.override_system_resolver(r)".to_owned(),
            format!("c = pymongo.MongoClient(\"{}/?tlsCAFile={ca}\")", strings.srv_connection_string),
            "print(c.test.things.insert_one({\"by\": \"me\"}).inserted_id, *c.nodes)".to_owned(),
        ];
        recipes.push(Recipe::new(
            "the whole set by its private seed list, without root (pip install pymongo dnspython)",
            [format!("python3 -c '{}'", script.join("; "))],
        ));
    }
    if let Some((way, host)) = way.zip(host_of(strings)) {
        recipes.push(Recipe::new(
            "the whole set in any driver: by the standard string, once the system knows the name",
            [
                format!("echo '{} {host}' | sudo tee -a /etc/hosts", way.ip()),
                format!("mongosh '{}&tlsCAFile={ca}'", strings.connection_string),
            ],
        ));
    }
    recipes
}

/// Characters that are escaped in a path.
const IN_PATH: AsciiSet = NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// An absolute path, encoded for a connection string, as the command may be run in another directory.
fn in_uri(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    percent_encode(path.as_os_str().as_encoded_bytes(), &IN_PATH).to_string()
}

fn pages(quickstart: &Quickstart) -> Vec<Recipe> {
    let gateway = quickstart.gateway();
    let console = gateway.admin_address().map(|address| {
        Recipe::new("the console: what runs, and switches for it, in a browser", [format!("http://{address}/")])
    });
    let metrics = gateway.metrics_address().map(|address| {
        let lines = ["readyz", "metrics"].map(|page| format!("curl http://{address}/{page}"));
        Recipe::new("metrics and readiness", lines)
    });
    console.into_iter().chain(metrics).collect()
}

/// The App Services names, and requests on both paths.
fn app_services(quickstart: &Quickstart, dns: Option<SocketAddr>) -> Vec<Recipe> {
    let desired = &quickstart.config().desired;
    let Some(app) = desired.apps.first() else { return Vec::new() };
    let name = format!("{}.aws.services.cloud.mongodb.com", app.region);
    let public = app.public_address;
    let mut recipes = Vec::new();
    if let Some(dns) = dns {
        let line = |options: &str| format!("dig {options}@{} -p {} +short {name}", dns.ip(), dns.port());
        recipes.push(Recipe::new(
            "App Services: the name leads to the General endpoint in the VPC, to the public address outside",
            [line(""), line(&format!("-b {} ", public.ip()))],
        ));
    }
    let of_kind = |kind| app.endpoints.iter().find(move |endpoint| endpoint.kind == kind);
    let general = of_kind(AppEndpointKind::General).and_then(|endpoint| desired.endpoints.get(&endpoint.endpoint));
    if let Some(general) = general.and_then(|general| general.addresses.first()) {
        let ca = std::path::absolute(quickstart.ca_path()).unwrap_or_else(|_| quickstart.ca_path());
        let (port, ca) = (public.port(), ca.display());
        let url = format!("https://{name}:{port}/api/client/v2.0/app/{}/location", app.id);
        let curl =
            |options: &str, ip: IpAddr| format!("curl -i {options}--cacert '{ca}' --resolve {name}:{port}:{ip} {url}");
        recipes.push(Recipe::new(
            "a client request through the endpoint, and one from the internet (404 while the app is restricted)",
            [curl("", general.ip), curl(&format!("--interface {} ", public.ip()), public.ip())],
        ));
    }
    recipes
}

fn counted_u64(count: u64, what: &str) -> String {
    usize::try_from(count).map_or_else(|_| format!("{count} {what}s"), |count| counted(count, what))
}

/// Formats bytes in the largest fitting unit, as `1.5 MiB`.
fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = count as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < units.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{scaled:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_connection_string_is_whole_and_escaped() {
        assert_eq!(in_uri(Path::new("/my lab&co/ca.pem")), "/my%20lab%26co/ca.pem");
        assert!(in_uri(Path::new("./ca.pem")).starts_with('/'));
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }
}
