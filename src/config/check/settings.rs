//! The process' own settings.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::declared::Declared;
use super::{cidr_set, values};
use crate::config::raw::{Located, Section};
use crate::config::settings::{
    AdminTls, AppServicesSettings, DEFAULT_ACCOUNT_ID, DEFAULT_ADMIN, DEFAULT_KEEPALIVE_IDLE, DEFAULT_LAB_DIR,
    DEFAULT_METRICS, DEFAULT_MOVE_GRACE, DEFAULT_SHUTDOWN_GRACE, DnsSettings, EtcdSettings, FlowLogSettings,
    LimitSettings, LogDestination, LoggingSettings, RelaySettings, STATE_FILE, Settings, StateLocation, TrafficType,
    admin_may_listen,
};
use crate::config::value::{
    bindable, boolean, duration, log_levels, network, non_empty_text, one_of, parsed, size, socket, ttl, url, whole,
};
use crate::model::{ClaimId, DnsName, FlowLogFormat, Pace};

/// The default prefix of every key in etcd.
const DEFAULT_ETCD_PREFIX: &str = "plgw/";
/// AWS' default of the maximum aggregation interval; the other choice is 60 s.
const DEFAULT_FLOW_LOG_INTERVAL: Duration = Duration::from_secs(600);
/// Large enough for searching, small enough for an editor.
const DEFAULT_ROTATE_SIZE: usize = 64 << 20;
/// With the size above, less than half a GiB.
const DEFAULT_KEEP: usize = 5;
/// More threads than any machine has cores.
const MAX_WORKERS: usize = 1024;
/// A day: a longer drain is probably a mistake in the unit.
const MAX_GRACE: u64 = 86_400;
/// The kernel's maximum of a keepalive's idle time (`TCP_KEEPIDLE`).
const MAX_KEEPALIVE: u64 = 32_767;
/// The maximum pipe size for unprivileged processes (`fs.pipe-max-size`).
const MAX_PIPE: usize = 1 << 20;
/// Maximum length of a congestion control's name (`TCP_CA_NAME_MAX`).
const MAX_CONGESTION_LENGTH: usize = 15;

/// Reads the settings from the top of the file and their tables.
pub(super) fn read(root: &Section<'_>, declared: &mut Declared) -> Settings {
    let defaults = Settings::default();
    let lab_dir = PathBuf::from(root.or("lab_dir", DEFAULT_LAB_DIR.to_owned(), non_empty_text));
    let dns = root.table("dns", |section| dns(section, declared));
    let move_grace = dns.as_ref().map_or(DEFAULT_MOVE_GRACE, |dns| dns.ttl.max(DEFAULT_MOVE_GRACE));
    let (gateway, zones) = root.table("gateway", |section| (section.get("id", parsed), zones(section)));
    let state = root.table("state", |section| state(section, &lab_dir, declared));
    if !matches!(state, StateLocation::Etcd(_)) {
        if let Some(found) = &gateway {
            let message = "names a gateway among those that share a state, and this one's is its alone; leave it out, or set \
                           `state.store` to `etcd`";
            root.problems.report(&found.location, message);
        }
        if let Some(found) = &zones {
            let message = "zones are shared out among gateways with one state in etcd; leave it out, or set `state.store` to \
                           `etcd`";
            root.problems.report(&found.location, message);
        }
    }
    let (admin, admin_tls, admin_names) = root.table("admin", |section| admin(section, declared));
    Settings {
        workers: root.or("workers", defaults.workers, whole(0..=MAX_WORKERS)),
        state: match state {
            StateLocation::Etcd(etcd) => StateLocation::Etcd(EtcdSettings {
                gateway: gateway.map(|found| found.value),
                zones: zones.map(|found| found.value),
                ..etcd
            }),
            location => location,
        },
        dns,
        metrics: root.table("metrics", |section| listen(section, DEFAULT_METRICS, declared).map(|found| found.value)),
        admin,
        admin_tls,
        admin_names,
        name_servers: root
            .table("node_names", |section| section.list("servers", socket).map(values).unwrap_or_default()),
        relay: root.table("relay", relay),
        limits: root.table("limits", limits),
        keepalive: root.table("keepalive", |section| {
            let idle = section.or("idle", DEFAULT_KEEPALIVE_IDLE, duration(1..=MAX_KEEPALIVE, "`TCP_KEEPIDLE`"));
            section.or("enabled", true, boolean).then_some(idle)
        }),
        app_services: root.table("app_services", |section| app_services(section, declared)),
        flow_logs: root.table("flow_logs", |section| flow_logs(section, &lab_dir, declared)),
        access_log: root.table("access_log", |section| log(section, lab_dir.join("access.log"), declared)),
        logs: root.table("logs", logs),
        shutdown_grace: root.or("shutdown_grace", DEFAULT_SHUTDOWN_GRACE, duration(0..=MAX_GRACE, "")),
        move_grace: root.or("move_grace", move_grace, duration(0..=MAX_GRACE, "")),
        pace: root.or(
            "pace",
            defaults.pace,
            one_of(&[("fast", Pace::Fast), ("realistic", Pace::Realistic), ("frozen", Pace::Frozen)]),
        ),
        watch_file: root.or("watch_file", defaults.watch_file, boolean),
        lab_dir,
    }
}

/// The zones that a gateway serves, and `public`.
fn zones(section: &Section<'_>) -> Option<Located<BTreeSet<ClaimId>>> {
    let zones = section.list("zones", parsed)?;
    let location = section.location_of("zones");
    if section.is_empty_array("zones") {
        section.report("zones", "it names no zone; leave it out, and the gateway serves all addresses");
    }
    Some(Located { value: values(zones).into_iter().collect(), location })
}

fn state(section: &Section<'_>, lab_dir: &Path, declared: &mut Declared) -> StateLocation {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        File,
        Memory,
        Etcd,
    }
    let kinds = [("file", Kind::File), ("memory", Kind::Memory), ("etcd", Kind::Etcd)];
    let kind = section.or("store", Kind::File, one_of(&kinds));
    let path = section.get("path", non_empty_text);
    let etcd = etcd(section, kind == Kind::Etcd);
    if let (Some(path), true) = (&path, kind != Kind::File) {
        let store = if kind == Kind::Memory { "memory" } else { "etcd" };
        let message = format!("a store in {store} has no path; leave it out or set `store` to `file`");
        section.problems.report(&path.location, message);
    }
    match kind {
        Kind::File => {
            let path = path.map_or_else(|| lab_dir.join(STATE_FILE), |path| PathBuf::from(path.value));
            declared.record_input_file(&path, &section.location_of("path"));
            StateLocation::File(path)
        }
        Kind::Memory => StateLocation::Memory,
        Kind::Etcd => {
            let (identity, user) = (etcd.identity.as_ref(), etcd.user.as_ref());
            let files = [("ca", etcd.ca.as_ref()), ("certificate", identity.map(|(certificate, _)| certificate))];
            let more = [("key", identity.map(|(_, key)| key)), ("password_file", user.map(|(_, file)| file))];
            for (key, path) in files.into_iter().chain(more) {
                if let Some(path) = path {
                    declared.record_input_file(path, &section.location_of(key));
                }
            }
            StateLocation::Etcd(etcd)
        }
    }
}

/// Reads the keys of a store in etcd. They may be present without being used; `wanted`: they are used.
fn etcd(section: &Section<'_>, wanted: bool) -> EtcdSettings {
    let endpoints = section.list("endpoints", url).unwrap_or_default();
    let prefix = section.or("prefix", DEFAULT_ETCD_PREFIX.to_owned(), non_empty_text);
    let path = |key| section.get(key, non_empty_text).map(|found| PathBuf::from(found.value));
    let (ca, certificate, key, password_file) = (path("ca"), path("certificate"), path("key"), path("password_file"));
    let user = section.get("user", non_empty_text).map(|found| found.value);
    if wanted && endpoints.is_empty() {
        let example = "endpoints = [\"http://127.0.0.1:2379\"]";
        section.report("endpoints", format!("etcd's client URLs are missing; write `{example}`"));
    } else if wanted {
        let is_secure = |endpoint: &Located<String>| endpoint.value.starts_with("https:");
        let secure = endpoints.iter().filter(|endpoint| is_secure(endpoint)).count();
        if secure > 0 && secure < endpoints.len() {
            section.report("endpoints", "some are `https:` and some `http:`; make them all the same");
        } else if secure > 0 && ca.is_none() {
            section
                .report("endpoints", "`https:` needs `ca`, the file with the certificate of the CA that signed etcd's");
        } else if secure == 0 {
            for key in ["ca", "certificate", "key"].into_iter().filter(|key| section.is_present(key)) {
                section.report(
                    key,
                    "the endpoints are `http:`, where no certificate is used; leave it out or write `https:`",
                );
            }
        }
    }
    if wanted && certificate.is_some() != key.is_some() {
        section.report(if key.is_some() { "key" } else { "certificate" }, "`certificate` and `key` belong together");
    }
    if wanted && user.is_some() != password_file.is_some() {
        let there = if user.is_some() { "user" } else { "password_file" };
        section.report(there, "`user` and `password_file` belong together");
    }
    let prefix = if prefix.ends_with('/') { prefix } else { format!("{prefix}/") };
    EtcdSettings {
        endpoints: values(endpoints),
        prefix,
        gateway: None,
        zones: None,
        ca,
        identity: certificate.zip(key),
        user: user.zip(password_file),
    }
}

fn dns(section: &Section<'_>, declared: &mut Declared) -> Option<DnsSettings> {
    let defaults = DnsSettings::default();
    let enabled = section.or("enabled", true, boolean);
    let listen = section.list("listen", bindable).unwrap_or_else(|| {
        defaults
            .listen
            .iter()
            .map(|address| Located { value: *address, location: section.location_of("listen") })
            .collect()
    });
    if enabled {
        listen.iter().for_each(|address| declared.bind(address));
        if section.is_empty_array("listen") {
            section.report("listen", "no address to answer on; give one, or set `dns.enabled` to false");
        }
    }
    let settings = DnsSettings {
        listen: values(listen),
        ttl: section.or("ttl", defaults.ttl, ttl),
        negative_ttl: section.or("negative_ttl", defaults.negative_ttl, ttl),
        forward: section.list("forward", socket).map(values).unwrap_or_default(),
        public_clients: section
            .list("public_clients", network)
            .map_or(defaults.public_clients, |networks| cidr_set(&networks)),
    };
    let own = settings.forward.iter().position(|upstream| enabled && settings.listen.contains(upstream));
    if let Some(index) = own {
        let upstream = settings.forward[index];
        section.report("forward", format!("`{upstream}` is this resolver itself; questions would loop"));
    }
    enabled.then_some(settings)
}

/// A table of `enabled` and `listen`.
fn listen(section: &Section<'_>, default: SocketAddr, declared: &mut Declared) -> Option<Located<SocketAddr>> {
    let enabled = section.or("enabled", true, boolean);
    let listen = section
        .get("listen", bindable)
        .unwrap_or_else(|| Located { value: default, location: section.location_of("listen") });
    if !enabled {
        return None;
    }
    declared.bind_page(&listen);
    Some(listen)
}

fn admin(section: &Section<'_>, declared: &mut Declared) -> (Option<SocketAddr>, Option<AdminTls>, BTreeSet<DnsName>) {
    let listen = listen(section, DEFAULT_ADMIN, declared);
    if let Some(Located { value, location }) = &listen
        && let Err(problem) = admin_may_listen(*value, credentials_are_set())
    {
        section.problems.report(location, problem);
    }
    let [certificate, key] = ["certificate", "key"].map(|name| section.get(name, non_empty_text));
    for file in certificate.iter().chain(&key) {
        declared.record_input_file(Path::new(&file.value), &file.location);
    }
    if certificate.is_some() != key.is_some() {
        let missing = if key.is_none() { "key" } else { "certificate" };
        section.report(missing, "TLS needs both `certificate` and `key`; write both, or neither".to_owned());
    }
    let names = section.list("names", parsed::<DnsName>).unwrap_or_default();
    for Located { value, location } in &names {
        declared.positions.insert(format!("admin.names/{value}"), location.offset);
        if value.as_str().starts_with('*') || value.as_str().parse::<IpAddr>().is_ok() {
            section.problems.report(
                location,
                format!("`{value}` is no host name; write one that clients ask for, as `cloud.mongodb.com`"),
            );
        }
    }
    if listen.is_none() && !names.is_empty() {
        section.report("names", "no listener answers to them, as `admin.enabled` is false; leave one of the two out");
    }
    // `files`: those of the keys `certificate` and `key`.
    let choices = [("off", Some(AdminTls::Off)), ("lab_ca", Some(AdminTls::LabCa)), ("files", None)];
    let tls = section.get("tls", one_of(&choices));
    if let Some(Located { value, location }) = &tls {
        let problem = match value {
            None if certificate.is_none() => Some("TLS by `files` needs both `certificate` and `key`; write both"),
            Some(_) if certificate.is_some() => {
                Some("`certificate` and `key` are for TLS by `files`; write that, or leave `tls` or both of them out")
            }
            Some(AdminTls::Off) if !names.is_empty() => {
                Some("`names` are answered to over TLS alone; leave `tls` out, or write `lab_ca`")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            section.problems.report(location, problem);
        }
    }
    let files = certificate
        .zip(key)
        .map(|(certificate, key)| AdminTls::Files { certificate: certificate.value.into(), key: key.value.into() });
    let tls = files.or(tls.and_then(|tls| tls.value));
    (listen.map(|listen| listen.value), tls, values(names).into_iter().collect())
}

/// Whether the environment has credentials for the admin API. Secrets are kept out of files, so this is the only part
/// of the environment that affects a config.
fn credentials_are_set() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("PLGW_ADMIN_PUBLIC_KEY") && is_set("PLGW_ADMIN_PRIVATE_KEY")
}

fn relay(section: &Section<'_>) -> RelaySettings {
    let defaults = RelaySettings::default();
    let congestion = section.get("congestion", non_empty_text);
    if let Some(name) = congestion.as_ref().filter(|name| name.value.len() > MAX_CONGESTION_LENGTH) {
        let (location, name) = (&name.location, &name.value);
        section.problems.report(
            location,
            format!("`{name}` is no congestion control: their names have at most {MAX_CONGESTION_LENGTH} characters"),
        );
    }
    RelaySettings {
        scratch: section.or("scratch", defaults.scratch, size(4096..=16 << 20)),
        splice: section.or("splice", defaults.splice, boolean),
        pipe_size: section.or("pipe_size", defaults.pipe_size, size(4096..=MAX_PIPE)),
        pipes_per_worker: section.or("pipes_per_worker", defaults.pipes_per_worker, whole(0..=4096)),
        congestion: congestion.map(|found| found.value),
    }
}

fn flow_logs(section: &Section<'_>, lab_dir: &Path, declared: &mut Declared) -> Option<FlowLogSettings> {
    let destination = log(section, lab_dir.join("flow.log"), declared);
    let traffic = [("all", TrafficType::All), ("accept", TrafficType::Accept), ("reject", TrafficType::Reject)];
    let interval =
        section.or("interval", DEFAULT_FLOW_LOG_INTERVAL, duration(1..=600, "a flow log's own are 60s and 600s"));
    let traffic = section.or("traffic", TrafficType::default(), one_of(&traffic));
    let format = section.or("format", FlowLogFormat::default(), parsed);
    let account_id = section.get("account_id", non_empty_text);
    if let Some(account) = &account_id {
        let digits = account.value.len() == 12 && account.value.bytes().all(|b| b.is_ascii_digit());
        if !digits && account.value != DEFAULT_ACCOUNT_ID {
            let message = format!("`{}` is no account id (12 digits, or `{DEFAULT_ACCOUNT_ID}`)", account.value);
            section.problems.report(&account.location, message);
        }
    }
    let account_id = account_id.map_or_else(|| DEFAULT_ACCOUNT_ID.to_owned(), |account| account.value);
    Some(FlowLogSettings { destination: destination?, interval, traffic, format, account_id })
}

/// A table of `enabled`, and the destination of a log.
fn log(section: &Section<'_>, default: PathBuf, declared: &mut Declared) -> Option<LogDestination> {
    let enabled = section.or("enabled", false, boolean);
    let in_file = section.or("destination", true, one_of(&[("file", true), ("stdout", false)]));
    let path = section.get("path", non_empty_text);
    let rotate_size = section.or("rotate_size", DEFAULT_ROTATE_SIZE, size(4096..=1 << 40));
    let keep = section.or("keep", DEFAULT_KEEP, whole(0..=1000));
    if let Some(path) = path.as_ref().filter(|_| !in_file) {
        section
            .problems
            .report(&path.location, "standard output has no path; leave it out or set `destination` to `file`");
    }
    let destination = if in_file {
        LogDestination::File { path: path.map_or(default, |path| PathBuf::from(path.value)), rotate_size, keep }
    } else {
        LogDestination::Stdout
    };
    if let LogDestination::File { path, .. } = &destination
        && enabled
    {
        declared.record_log_file(section.problems, path, &section.location_of("path"));
    }
    enabled.then_some(destination)
}

fn limits(section: &Section<'_>) -> LimitSettings {
    let defaults = LimitSettings::default();
    LimitSettings {
        accepts_per_wake: section.or("accepts_per_wake", defaults.accepts_per_wake, whole(1..=4096)),
        backlog: section.or("backlog", defaults.backlog, whole(1..=65_535)),
        held_refusals: section.or("held_refusals", defaults.held_refusals, whole(0..=1_000_000)),
        hold_time: section.or("hold_time", defaults.hold_time, duration(0..=3600, "")),
    }
}

fn logs(section: &Section<'_>) -> LoggingSettings {
    for key in ["repeats", "interval"] {
        if let Some(Located { location, .. }) = section.get(key, |_| Ok(())) {
            let message = "has no effect any more, as repeating lines are not limited; remove it, set levels instead";
            section.problems.note(&location, message);
        }
    }
    LoggingSettings { levels: section.get("levels", log_levels).map(|found| found.value) }
}

fn app_services(section: &Section<'_>, declared: &mut Declared) -> AppServicesSettings {
    let defaults = AppServicesSettings::default();
    let certificates = section.tables("certificate", |files| {
        let certificate = files.required("certificate", non_empty_text);
        let key = files.required("key", non_empty_text);
        for file in certificate.iter().chain(&key) {
            declared.record_input_file(Path::new(&file.value), &file.location);
        }
        Some((PathBuf::from(certificate?.value), PathBuf::from(key?.value)))
    });
    AppServicesSettings {
        certificates: certificates.into_iter().flatten().collect(),
        backend_ca: section.get("backend_ca", non_empty_text).map(|path| PathBuf::from(path.value)),
        proxy_protocol: section.or("proxy_protocol", defaults.proxy_protocol, boolean),
        connections: section.or("connections", defaults.connections, whole(1..=1_000_000)),
        header_time: section.or("header_time", defaults.header_time, duration(1..=3600, "")),
        idle: section.or("idle", defaults.idle, duration(1..=3600, "")),
        body_idle: section.or("body_idle", defaults.body_idle, duration(1..=3600, "")),
        header_size: section.or("header_size", defaults.header_size, size(8192..=1 << 20)),
        streams: section.or("streams", defaults.streams, whole(1..=10_000)),
        connect_timeout: section.or("connect_timeout", defaults.connect_timeout, duration(1..=300, "")),
        answer_timeout: section.or("answer_timeout", defaults.answer_timeout, duration(1..=3600, "")),
        websocket_idle: section.or(
            "websocket_idle",
            defaults.websocket_idle,
            duration(60..=6000, "NLB's idle timeout"),
        ),
        deregistration_delay: section.or(
            "deregistration_delay",
            defaults.deregistration_delay,
            duration(0..=3600, "NLB's deregistration delay"),
        ),
    }
}
