//! The output of `plgw lab status` and `up`.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::record::{InitProcess, InitState, LabRecord};
use super::{CONFIG_FILE, CUT_FILE, Host, LabError, actions, outages};

/// A lab as `plgw lab status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LabView {
    /// Its name.
    name: String,
    /// Its problem, if any.
    pub(super) problem: Option<String>,
    /// Its first process' pid on the host.
    pid: i32,
    /// The requested config.
    asked: String,
    /// Its directory.
    dir: PathBuf,
    /// The config of its gateway.
    config: PathBuf,
    /// Its CA certificate.
    ca: PathBuf,
    /// Its admin API, for all hosts except those of the service's side.
    admin: Option<String>,
    /// Hosts, addresses, resolvers.
    hosts: Vec<HostView>,
    /// Zones, whether they are cut, and the endpoint addresses in them.
    zones: Vec<LabZoneView>,
    /// Its processes, and how each one that is gone ended.
    processes: Vec<(String, Option<String>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct HostView {
    host: Host,
    address: Ipv4Addr,
    resolver: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<Ipv6Addr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct LabZoneView {
    zone: String,
    cut: bool,
    addresses: Vec<IpAddr>,
}

/// The state of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LabState {
    /// All processes are running.
    Up,
    /// It is being built, or its `up` was killed.
    Building,
    /// Running, but not reachable from here.
    Unseen,
    /// An essential process has ended.
    Died(String),
}

impl LabState {
    pub(super) fn of(first: Option<&InitProcess>, lab: Option<&LabRecord>, dir: &Path) -> Self {
        match (first.map_or(InitState::Ended, |first| first.state_from_here(dir)), lab) {
            (InitState::Ended, _) => Self::Died("its first process is gone, and everything else with it".to_owned()),
            (InitState::Unseen, _) => Self::Unseen,
            (InitState::Runs | InitState::ContainsThisProcess, None) => Self::Building,
            (InitState::Runs | InitState::ContainsThisProcess, Some(lab)) => match lab.dead_process() {
                Some((process, how)) => Self::Died(format!("the {process} {how}")),
                None => Self::Up,
            },
        }
    }

    fn problem(self) -> Option<String> {
        match self {
            Self::Up | Self::Unseen => None,
            Self::Building => Some("it is being built".to_owned()),
            Self::Died(why) => Some(why),
        }
    }
}

impl LabView {
    /// The lab with the directory `dir`; `None` if there is none.
    pub(super) fn of(name: &str, dir: &Path) -> Option<Self> {
        if !dir.exists() {
            return None;
        }
        let first = InitProcess::read(dir);
        let lab = LabRecord::read(dir);
        let problem = LabState::of(first.as_ref(), lab.as_ref(), dir).problem();
        let lab = lab.unwrap_or_default();
        let cut = outages::read(&dir.join(CUT_FILE));
        let host = |(host, held): (&Host, &super::record::HostRecord)| {
            held.address.map(|address| HostView { host: *host, address, resolver: held.resolver, ipv6: held.ipv6 })
        };
        Some(Self {
            name: name.to_owned(),
            problem,
            pid: first.map_or(0, |first| first.pid),
            asked: lab.config.clone(),
            dir: dir.to_owned(),
            config: dir.join(CONFIG_FILE),
            ca: lab.ca.clone(),
            admin: lab.admin_url(),
            hosts: lab.hosts.iter().filter_map(host).collect(),
            zones: lab
                .zones
                .iter()
                .map(|(zone, ips)| LabZoneView { zone: zone.clone(), cut: cut.contains(zone), addresses: ips.clone() })
                .collect(),
            processes: lab.processes.into_iter().map(|(name, process)| (name, process.ended)).collect(),
        })
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let flag = actions::flag(&self.name);
        match &self.problem {
            None => writeln!(out, "lab `{}` is up (process {}), from {}", self.name, self.pid, self.asked)?,
            Some(problem) => {
                writeln!(out, "lab `{}` has died: {problem}", self.name)?;
                writeln!(out, "  `plgw lab up{flag}` builds it again, `plgw lab down{flag}` removes what is left")?;
                return writeln!(out, "  logs are in {}", self.dir.display());
            }
        }
        // Most labs have no IPv6.
        let has_ipv6 = self.hosts.iter().any(|host| host.ipv6.is_some());
        let heading = if has_ipv6 { "RESOLVER        IPV6" } else { "RESOLVER" };
        writeln!(out, "\n  {:<12} {:<15} {heading}", "HOST", "ADDRESS")?;
        for host in &self.hosts {
            let resolver = host.resolver.map_or_else(|| "none".to_owned(), |ip| ip.to_string());
            let ipv6 = host.ipv6.map(|ip| format!("{:<1$}{ip}", "", 16 - resolver.len().min(15))).unwrap_or_default();
            writeln!(out, "  {:<12} {:<15} {resolver}{ipv6}", host.host.name(), host.address.to_string())?;
        }
        writeln!(out, "\n  {:<12} {:<5} ENDPOINT ADDRESSES", "ZONE", "STATE")?;
        for zone in &self.zones {
            let state = if zone.cut { "cut" } else { "up" };
            writeln!(out, "  {:<12} {state:<5} {}", zone.zone, joined(&zone.addresses))?;
        }
        writeln!(out, "\n  {:<12} {}", "config", self.config.display())?;
        writeln!(out, "  {:<12} {}", "CA", self.ca.display())?;
        if let Some(admin) = &self.admin {
            writeln!(out, "  {:<12} {admin} inside; `plgw lab console{flag}` leads to it", "admin API")?;
        }
        for (name, _) in &self.processes {
            writeln!(out, "  {:<12} running, logs to {}", name, self.dir.join(format!("{name}.log")).display())?;
        }
        Ok(())
    }
}

/// All labs, as a table.
pub(super) fn table(views: &[LabView]) -> String {
    let mut out = String::new();
    if views.is_empty() {
        out.push_str("no lab is up; `plgw lab up` builds one\n");
    }
    for (index, view) in views.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        view.write(&mut out).expect("a string takes all");
    }
    printable(&out)
}

/// Removes escape sequences and other control characters, which a file's name may contain and a terminal would
/// interpret.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// All labs, as JSON.
pub(super) fn json(views: &[LabView]) -> Result<String, LabError> {
    let text = serde_json::to_string_pretty(views);
    Ok(text.map_err(|error| LabError::System { what: "show the labs as JSON".to_owned(), source: error.into() })?
        + "\n")
}

/// The message for a lab that was just built, with commands to try.
pub(super) fn ready(name: &str, dir: &Path) -> Result<String, LabError> {
    let Some(view) = LabView::of(name, dir) else {
        return Err(LabError::NotUp { name: name.to_owned(), flag: actions::flag(name) });
    };
    let flag = actions::flag(name);
    let mut out = table(&[view]);
    let tries = [
        (format!("plgw lab shell{flag}"), "open a shell on a host in the VPC"),
        (format!("plgw lab run{flag} --at vpc -- nslookup HOST"), "ask the VPC's resolver"),
        (format!("plgw lab down{flag}"), "remove all of it"),
    ];
    out.push('\n');
    for (command, what) in tries {
        writeln!(out, "  {command:<45} {what}").expect("a string takes all");
    }
    Ok(out)
}

/// The first lines of a shell.
pub(super) fn welcome(host: Host, lab: &LabRecord) -> String {
    let held = lab.hosts.get(&host);
    let address = held.and_then(|held| held.address).map_or_else(String::new, |ip| format!(" at {ip}"));
    let resolver = held.and_then(|held| held.resolver);
    let resolver = resolver.map_or_else(|| "It has no resolver.".to_owned(), |ip| format!("Its resolver is {ip}."));
    format!("You are on `{host}`{address}. {resolver} The lab's CA is in $PLGW_CA. `exit` leaves.\n")
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join("  ")
}
