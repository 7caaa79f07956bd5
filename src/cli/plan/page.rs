//! The text output of `plgw plan`.

use serde_json::Value;

use super::view::RecordView;
use crate::cli::check::counted;
use crate::cli::connection_strings;
use crate::cli::operator::{cell, list};
use crate::cli::planned::StateSource;
use crate::cli::table::{Table, Terminal, wrapped};

pub(super) fn render(view: &Value, dns_records: &[RecordView], state: &StateSource, terminal: Terminal) -> String {
    let mut text = String::new();
    let mut section = |title: String, body: String| {
        if !body.is_empty() {
            text.push_str(&format!("{}\n{body}\n", terminal.bold(&title)));
        }
    };
    let of = |name| list(view, name);
    section(counted(of("targets").len(), "target"), targets(of("targets"), terminal));
    section(counted(of("listeners").len(), "listener"), listeners(of("listeners"), terminal));
    section(counted(of("endpoints").len(), "endpoint"), endpoints(of("endpoints"), terminal));
    section(counted(of("apps").len(), "app"), apps(of("apps"), terminal));
    section("Connection strings".to_owned(), connection_strings::as_text(of("connection_strings"), terminal));
    section(counted(dns_records.len(), "DNS record"), records(dns_records, terminal));
    section("The gateway's own addresses".to_owned(), services(&view["services"], terminal));
    let notices = of("notices").iter().map(|notice| wrapped("  ", &cell(notice), 4, terminal));
    section(counted(of("notices").len(), "notice"), notices.collect());
    text + &wrapped("", &terminal.dim(&format!("{}: {state}", cell(&view["config"]))), 2, terminal)
}

fn targets(targets: &[Value], terminal: Terminal) -> String {
    let mut table = Table::new(["TARGET", "KIND", "PORT", "MEMBER", "ZONE"]);
    for target in targets {
        let paused = if target["paused"] == true { " (paused)" } else { "" };
        let mut what = [cell(&target["target"]), cell(&target["kind"]) + paused, cell(&target["port"])];
        for member in list(target, "members") {
            // Further members follow below the first.
            table.row(std::mem::take(&mut what).into_iter().chain([cell(&member["address"]), cell(&member["zone"])]));
        }
    }
    full(&table, terminal)
}

fn listeners(listeners: &[Value], terminal: Terminal) -> String {
    let mut table = Table::new(["ADDRESS", "THROUGH", "ZONE", "TARGET", "PROXY HEADER"]);
    for listener in listeners {
        let proxy = if listener["proxy_protocol"] == true { "v2" } else { "" };
        table.row([
            cell(&listener["address"]),
            through(listener),
            cell(&listener["zone"]),
            cell(&listener["target"]),
            proxy.to_owned(),
        ]);
    }
    full(&table, terminal)
}

fn through(listener: &Value) -> String {
    listener["endpoint"].as_str().unwrap_or("public path").to_owned()
}

fn endpoints(endpoints: &[Value], terminal: Terminal) -> String {
    let mut table = Table::new(["ENDPOINT", "STATE", "ADDRESSES"]);
    for endpoint in endpoints {
        let addresses = list(endpoint, "addresses").iter();
        let addresses: Vec<_> = addresses.map(|at| format!("{} ({})", cell(&at["ip"]), cell(&at["zone"]))).collect();
        table.row([cell(&endpoint["id"]), cell(&endpoint["state"]), addresses.join(", ")]);
    }
    full(&table, terminal)
}

fn apps(apps: &[Value], terminal: Terminal) -> String {
    let mut table = Table::new(["APP", "BACKEND", "RESTRICTED", "ADDRESS", "THROUGH"]);
    for app in apps {
        let restricted = if app["restricted"] == true { "yes" } else { "no" };
        let backend = app["backend"].as_str().unwrap_or("none");
        let mut what = [cell(&app["app"]), backend.to_owned(), restricted.to_owned()];
        for at in list(app, "addresses") {
            // Further addresses follow below the first.
            table.row(std::mem::take(&mut what).into_iter().chain([cell(&at["address"]), through(at)]));
        }
    }
    full(&table, terminal)
}

/// DNS records as a table, or grouped by name where that is too wide.
pub(in crate::cli) fn records(records: &[RecordView], terminal: Terminal) -> String {
    let mut table = Table::new(["VIEW", "NAME", "TYPE", "VALUE"]);
    for record in records {
        table.row([record.view.as_str(), record.name.as_str(), record.r#type, record.value.as_str()]);
    }
    if table.fits(terminal) {
        return full(&table, terminal);
    }
    let mut text = String::new();
    let mut last = None;
    for record in records {
        if last != Some((&record.view, &record.name)) {
            let view = if record.view == "public" { String::new() } else { format!(" (in {})", record.view) };
            text.push_str(&format!("  {}{view}\n", terminal.bold(&record.name)));
            last = Some((&record.view, &record.name));
        }
        text.push_str(&format!("    {:<7}{}\n", record.r#type, record.value));
    }
    text
}

fn services(services: &Value, terminal: Terminal) -> String {
    let mut table = Table::new(["WHAT", "ADDRESS"]);
    for address in list(services, "dns") {
        table.row(["DNS, UDP and TCP".to_owned(), cell(address)]);
    }
    for (what, address) in [("metrics", &services["metrics"]), ("admin API", &services["admin"])] {
        if !address.is_null() {
            table.row([what.to_owned(), cell(address)]);
        }
    }
    full(&table, terminal)
}

fn full(table: &Table, terminal: Terminal) -> String {
    if table.is_empty() { String::new() } else { table.render(terminal) }
}
