//! What the quickstart prints.

use std::net::SocketAddr;

use crate::cli::check::counted;
use crate::cli::connection_strings;
use crate::cli::plan::records;
use crate::cli::plan::view::{self, StringsView};
use crate::cli::table::{Look, Table};
use crate::model::TargetState;
use crate::plan::{Gate, PrivateStrings, Snapshot, TargetKind, TargetView};
use crate::quickstart::{Carried, Check, Quickstart, StandInCarried};

/// Everything that there is to know once it runs.
pub(super) fn started(quickstart: &Quickstart, checks: &[Check], look: Look) -> String {
    let snapshot = quickstart.gateway().snapshot();
    let mut text = String::new();
    let mut section = |title: &str, body: String| text.push_str(&format!("{}\n{body}\n", look.bold(title)));
    section("Targets", targets(&snapshot, look));
    let strings: Vec<StringsView> = snapshot.strings.iter().map(StringsView::from).collect();
    section("Connection strings", connection_strings::as_text(&strings, look));
    section("DNS records", records(&view::records(&snapshot), look));
    section("Try it", lines(quickstart, &snapshot, look));
    section("Self-check", self_check(checks, look));
    text
}

/// The last line before it waits.
pub(super) fn staying(look: Look) -> String {
    format!("{}\n", look.bold("Running. Ctrl-C stops it and says what it carried."))
}

/// What went through it; `by_check` of that was the self-check's.
pub(super) fn carried(carried: &Carried, by_check: &Carried, look: Look) -> String {
    let (all, check) = (carried.gateway, by_check.gateway);
    let mut text = format!("{}\n", look.bold("Carried"));
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
            StandInCarried::Cluster(name, seen) => format!(
                "  {name} saw {}, {}; documents: {} inserted, {} found, {} updated, {} deleted\n",
                counted_u64(seen.connections, "connection"),
                counted_u64(seen.commands, "command"),
                seen.inserted,
                seen.found,
                seen.updated,
                seen.deleted
            ),
            StandInCarried::App(id, seen) => format!(
                "  {id} saw {}, {}, {}\n",
                counted_u64(seen.requests, "request"),
                counted_u64(seen.websockets, "WebSocket"),
                counted_u64(seen.messages, "message")
            ),
        });
    }
    text
}

fn targets(snapshot: &Snapshot, look: Look) -> String {
    let mut table = Table::new(["TARGET", "KIND", "PORT", "MEMBERS", "ZONES", "HEALTH"]);
    for target in &snapshot.targets {
        let members: Vec<String> = target.members.iter().map(|member| member.address.to_string()).collect();
        let mut zones: Vec<&str> = target.members.iter().map(|member| member.zone.as_str()).collect();
        zones.dedup();
        let health = target.state.label();
        let health = match target.state {
            TargetState::Healthy => look.green(health),
            TargetState::Unhealthy | TargetState::UnhealthyDraining => look.red(health),
            TargetState::Initial | TargetState::Draining | TargetState::Unused => health.to_owned(),
        };
        table.row([
            target.id.to_string(),
            view::kind(target.kind).to_owned(),
            target.port.to_string(),
            members.join(", "),
            zones.join(", "),
            health,
        ]);
    }
    table.render(look)
}

fn self_check(checks: &[Check], look: Look) -> String {
    let mut text = String::new();
    for check in checks {
        let (verdict, said) = match &check.outcome {
            Ok(seen) => (look.green("ok    "), seen),
            Err(seen) => (look.red("FAILED"), seen),
        };
        let took = look.dim(&format!("({} ms)", check.took.as_millis()));
        text.push_str(&format!("  {verdict}  {:<14}{said} {took}\n", check.name));
    }
    text
}

/// Something to copy: why, then the lines themselves.
struct Recipe {
    what: String,
    lines: Vec<String>,
}

impl Recipe {
    fn new(what: impl Into<String>, lines: impl IntoIterator<Item = String>) -> Self {
        Self { what: what.into(), lines: lines.into_iter().collect() }
    }
}

fn lines(quickstart: &Quickstart, snapshot: &Snapshot, look: Look) -> String {
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
        text.push_str(&format!("  {}\n", look.dim(&format!("# {}", recipe.what))));
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

/// Lines that work at a shell as it is: drivers ask port 53 of the system's resolver for names, which is not the gateway's.
fn drivers(
    quickstart: &Quickstart,
    snapshot: &Snapshot,
    target: &TargetView,
    strings: &PrivateStrings,
    dns: Option<SocketAddr>,
) -> Vec<Recipe> {
    let ca = quickstart.ca_path();
    let ca = ca.display();
    let mut recipes = Vec::new();
    let is_way = |listener: &&std::sync::Arc<crate::plan::Listener>| {
        matches!(listener.gate, Gate::Endpoint(_)) && listener.group.target == target.id
    };
    // The zone that the strings' first host leads to in the documentation: the last address in order is its first.
    let way = snapshot.listeners.values().filter(is_way).last().map(|listener| listener.address);
    if let Some(way) = way {
        let direct = format!("mongodb://{way}/?directConnection=true&tls=true&tlsCAFile={ca}");
        recipes.push(Recipe::new(
            "one node by its endpoint address; by address no name is needed, and the certificate holds it",
            [format!("mongosh '{direct}'")],
        ));
    }
    if let Some(dns) = dns {
        let (ip, port) = (dns.ip(), dns.port());
        let string = format!("{}/?tlsCAFile={ca}", strings.srv_connection_string);
        recipes.push(Recipe::new(
            "the whole set by its private seed list, in Python: a driver asks port 53, so give it this resolver \
             (pip install 'pymongo[srv]')",
            [
                "python3 -c 'import dns.resolver as d, pymongo".to_owned(),
                format!(
                    "r = d.default_resolver = d.Resolver(configure=False); r.nameservers, r.port = [\"{ip}\"], {port}"
                ),
                "d.override_system_resolver(r)".to_owned(),
                format!("c = pymongo.MongoClient(\"{string}\")"),
                "print(c.test.things.insert_one({\"hello\": \"private endpoint\"}).inserted_id, c.nodes)'".to_owned(),
            ],
        ));
    }
    if let Some((way, host)) = way.zip(host_of(strings)) {
        recipes.push(Recipe::new(
            "the whole set by its standard string, in any driver: the name must resolve, and /etc/hosts will do",
            [
                format!("echo '{} {host}' | sudo tee -a /etc/hosts", way.ip()),
                format!("mongosh '{}&tlsCAFile={ca}'", strings.connection_string),
            ],
        ));
    }
    recipes
}

fn pages(quickstart: &Quickstart) -> Option<Recipe> {
    let address = quickstart.gateway().metrics_address()?;
    let lines = ["readyz", "metrics"].map(|page| format!("curl http://{address}/{page}"));
    Some(Recipe::new("metrics and readiness", lines))
}

/// The App Services names. The front that serves them adds its own requests here.
fn app_services(quickstart: &Quickstart, dns: Option<SocketAddr>) -> Option<Recipe> {
    let (dns, app) = dns.zip(quickstart.config().desired.apps.first())?;
    let name = format!("{}.aws.services.cloud.mongodb.com", app.region);
    let (ip, port, public) = (dns.ip(), dns.port(), app.public_address.ip());
    let line = |options: &str| format!("dig {options}@{ip} -p {port} +short {name}");
    Some(Recipe::new(
        "App Services: the endpoints in the VPC, the public address outside",
        [line(""), line(&format!("-b {public} "))],
    ))
}

fn counted_u64(count: u64, what: &str) -> String {
    usize::try_from(count).map_or_else(|_| format!("{count} {what}s"), |count| counted(count, what))
}

/// Bytes in the largest unit of which there is one, as `1.5 MiB`.
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
    fn bytes_are_shown_in_the_largest_unit() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }
}
