//! The text output of `plgw plan`.

use super::view::{PlanView, PlannedListener, RecordView};
use crate::cli::check::counted;
use crate::cli::connection_strings;
use crate::cli::planned::StateSource;
use crate::cli::table::{Table, Terminal, wrapped};

pub(super) fn render(view: &PlanView, state: &StateSource, terminal: Terminal) -> String {
    let mut text = String::new();
    let mut section = |title: String, body: String| {
        if !body.is_empty() {
            text.push_str(&format!("{}\n{body}\n", terminal.bold(&title)));
        }
    };
    section(counted(view.targets.len(), "target"), targets(view, terminal));
    section(counted(view.listeners.len(), "listener"), listeners(&view.listeners, terminal));
    section(counted(view.endpoints.len(), "endpoint"), endpoints(view, terminal));
    section(counted(view.apps.len(), "app"), apps(view, terminal));
    section("Connection strings".to_owned(), connection_strings::as_text(&view.connection_strings, terminal));
    section(counted(view.dns_records.len(), "DNS record"), records(&view.dns_records, terminal));
    section("The gateway's own addresses".to_owned(), services(view, terminal));
    let notices = view.notices.iter().map(|notice| wrapped("  ", notice, 4, terminal)).collect();
    section(counted(view.notices.len(), "notice"), notices);
    text + &wrapped("", &terminal.dim(&format!("{}: {state}", view.config)), 2, terminal)
}

fn targets(view: &PlanView, terminal: Terminal) -> String {
    let mut table = Table::new(["TARGET", "KIND", "PORT", "MEMBER", "ZONE"]);
    for target in &view.targets {
        let kind = if target.paused { format!("{} (paused)", target.kind) } else { target.kind.to_owned() };
        let mut what = [target.target.clone(), kind, target.port.to_string()];
        for member in &target.members {
            // Further members follow below the first.
            table.row(std::mem::take(&mut what).into_iter().chain([member.address.clone(), member.zone.clone()]));
        }
    }
    full(&table, terminal)
}

fn listeners(listeners: &[PlannedListener], terminal: Terminal) -> String {
    let mut table = Table::new(["ADDRESS", "THROUGH", "ZONE", "TARGET", "PROXY HEADER"]);
    for listener in listeners {
        let through = listener.endpoint.clone().unwrap_or_else(|| "public path".to_owned());
        let proxy = if listener.proxy_protocol { "v2" } else { "" };
        table.row([
            listener.address.to_string(),
            through,
            listener.zone.clone(),
            listener.target.clone(),
            proxy.to_owned(),
        ]);
    }
    full(&table, terminal)
}

fn endpoints(view: &PlanView, terminal: Terminal) -> String {
    let mut table = Table::new(["ENDPOINT", "STATE", "ADDRESSES"]);
    for endpoint in &view.endpoints {
        let addresses: Vec<String> = endpoint.addresses.iter().map(|at| format!("{} ({})", at.ip, at.zone)).collect();
        table.row([endpoint.id.clone(), endpoint.state.to_owned(), addresses.join(", ")]);
    }
    full(&table, terminal)
}

fn apps(view: &PlanView, terminal: Terminal) -> String {
    let mut table = Table::new(["APP", "BACKEND", "RESTRICTED", "ADDRESS", "THROUGH"]);
    for app in &view.apps {
        let restricted = if app.restricted { "yes" } else { "no" };
        let backend = app.backend.as_deref().unwrap_or("none");
        let mut what = [app.app.clone(), backend.to_owned(), restricted.to_owned()];
        for at in &app.addresses {
            let through = at.endpoint.as_deref().unwrap_or("public path");
            // Further addresses follow below the first.
            table.row(std::mem::take(&mut what).into_iter().chain([at.address.to_string(), through.to_owned()]));
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

fn services(view: &PlanView, terminal: Terminal) -> String {
    let mut table = Table::new(["WHAT", "ADDRESS"]);
    for address in &view.services.dns {
        table.row(["DNS, UDP and TCP".to_owned(), address.to_string()]);
    }
    for (what, address) in [("metrics", view.services.metrics), ("admin API", view.services.admin)] {
        if let Some(address) = address {
            table.row([what.to_owned(), address.to_string()]);
        }
    }
    full(&table, terminal)
}

fn full(table: &Table, terminal: Terminal) -> String {
    if table.is_empty() { String::new() } else { table.render(terminal) }
}
