//! What `plgw plan` prints for people.

use super::view::{ListenerView, MemberView, PlanView, RecordView};
use crate::cli::check::counted;
use crate::cli::connection_strings;
use crate::cli::planned::StateUsed;
use crate::cli::table::{Look, Table};

pub(super) fn render(view: &PlanView, state: &StateUsed, look: Look) -> String {
    let mut text = String::new();
    let mut section = |title: String, body: String| {
        if !body.is_empty() {
            text.push_str(&format!("{}\n{body}\n", look.bold(&title)));
        }
    };
    section(counted(view.targets.len(), "target"), targets(view, look));
    section(counted(view.listeners.len(), "listener"), listeners(&view.listeners, look));
    section(counted(view.endpoints.len(), "endpoint"), endpoints(view, look));
    section("Connection strings".to_owned(), connection_strings::as_text(&view.connection_strings, look));
    section(counted(view.dns_records.len(), "DNS record"), records(&view.dns_records, look));
    section("The gateway's own addresses".to_owned(), services(view, look));
    section(counted(view.notices.len(), "notice"), view.notices.iter().map(|notice| format!("  {notice}\n")).collect());
    text.push_str(&look.dim(&format!("{}: {state}", view.config)));
    text.push('\n');
    text
}

fn targets(view: &PlanView, look: Look) -> String {
    let mut table = Table::new(["TARGET", "KIND", "PORT", "MEMBERS", "ZONES"]);
    for target in &view.targets {
        let kind = if target.paused { format!("{} (paused)", target.kind) } else { target.kind.to_owned() };
        let (members, zones) = members(&target.members);
        table.row([target.target.clone(), kind, target.port.to_string(), members, zones]);
    }
    full(&table, look)
}

/// Addresses and zones of members, each in one cell.
fn members(members: &[MemberView]) -> (String, String) {
    let addresses: Vec<String> = members.iter().map(|member| member.address.to_string()).collect();
    let mut zones: Vec<&str> = members.iter().map(|member| member.zone.as_str()).collect();
    zones.dedup();
    (addresses.join(", "), zones.join(", "))
}

fn listeners(listeners: &[ListenerView], look: Look) -> String {
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
    full(&table, look)
}

fn endpoints(view: &PlanView, look: Look) -> String {
    let mut table = Table::new(["ENDPOINT", "STATE", "ADDRESSES"]);
    for endpoint in &view.endpoints {
        let addresses: Vec<String> = endpoint.addresses.iter().map(|at| format!("{} ({})", at.ip, at.zone)).collect();
        table.row([endpoint.id.clone(), endpoint.state.to_owned(), addresses.join(", ")]);
    }
    full(&table, look)
}

/// DNS records as a table.
pub(in crate::cli) fn records(records: &[RecordView], look: Look) -> String {
    let mut table = Table::new(["VIEW", "NAME", "TYPE", "VALUE"]);
    for record in records {
        table.row([record.view.as_str(), record.name.as_str(), record.r#type, record.value.as_str()]);
    }
    full(&table, look)
}

fn services(view: &PlanView, look: Look) -> String {
    let mut table = Table::new(["WHAT", "ADDRESS"]);
    for address in &view.services.dns {
        table.row(["DNS, UDP and TCP".to_owned(), address.to_string()]);
    }
    for (what, address) in [("metrics", view.services.metrics), ("admin API", view.services.admin)] {
        if let Some(address) = address {
            table.row([what.to_owned(), address.to_string()]);
        }
    }
    full(&table, look)
}

fn full(table: &Table, look: Look) -> String {
    if table.is_empty() { String::new() } else { table.render(look) }
}
