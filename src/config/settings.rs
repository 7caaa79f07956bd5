//! The settings of the process: threads, addresses, limits, with their defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{CidrSet, ClaimId, DnsName, FlowLogFormat, GatewayId, LogLevels, Pace};

/// The default directory of certificates and state: below the current directory, so that a trial leaves no traces
/// elsewhere and needs no root privileges.
pub const DEFAULT_LAB_DIR: &str = "./plgw-lab";

/// The state file in the lab's directory.
pub const STATE_FILE: &str = "state.json";

/// In the port range of Prometheus exporters.
pub(super) const DEFAULT_METRICS: SocketAddr = loopback(9464);

/// Not the default port of any well-known service.
pub const DEFAULT_ADMIN: SocketAddr = loopback(8474);

/// Below the idle time-out of 350 s, so that a dead peer is detected before its flow expires.
pub(super) const DEFAULT_KEEPALIVE_IDLE: Duration = Duration::from_secs(120);

/// Below the stop time-out of service managers (90 s with systemd), long enough for queries to end.
pub(super) const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// The default TTL of DNS answers: caches return the old port of a moved target for that long. If `dns.ttl` is set to a
/// longer time, that is the default.
pub(super) const DEFAULT_MOVE_GRACE: Duration = Duration::from_secs(60);

/// AWS' value for interfaces that were created by a service, as those of endpoints are.
pub const DEFAULT_ACCOUNT_ID: &str = "unknown";

/// 127.0.0.1 with `port`.
const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The process' own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Number of threads for flows; 0 is one per core.
    pub workers: usize,
    /// The state store.
    #[serde(rename = "state.path")]
    pub state: StateLocation,
    /// The directory of the lab's CA, certificates and state.
    pub lab_dir: PathBuf,
    /// The DNS server; `None`: disabled.
    pub dns: Option<DnsSettings>,
    /// The address of `/metrics`, `/healthz` and `/readyz`; `None`: disabled.
    #[serde(rename = "metrics.listen")]
    pub metrics: Option<SocketAddr>,
    /// The address of the admin API, on loopback unless credentials are set; `None`: disabled.
    #[serde(rename = "admin.listen")]
    pub admin: Option<SocketAddr>,
    /// The admin API's TLS as configured; [`Self::admin_tls`] is the effective value.
    #[serde(rename = "admin.tls")]
    pub admin_tls: Option<AdminTls>,
    /// Host names of the admin API, only with TLS; DNS resolves them to its address.
    #[serde(rename = "admin.names")]
    pub admin_names: BTreeSet<DnsName>,
    /// The name servers for nodes' host names; empty: the machine's.
    #[serde(rename = "node_names.servers")]
    pub name_servers: Vec<SocketAddr>,
    /// Settings of the relay.
    pub relay: RelaySettings,
    /// Resource limits.
    pub limits: LimitSettings,
    /// Idle time before keepalive probes; `None`: no probes.
    #[serde(rename = "keepalive.idle")]
    pub keepalive: Option<Duration>,
    /// Settings of the App Services front end.
    pub app_services: AppServicesSettings,
    /// VPC flow logs; `None`: disabled.
    pub flow_logs: Option<FlowLogSettings>,
    /// The access log, with one JSON object per flow; `None`: disabled.
    pub access_log: Option<LogDestination>,
    /// Log levels: the only setting that a reload changes.
    #[serde(skip)]
    pub logs: LoggingSettings,
    /// How long flows may last after a stop was requested.
    pub shutdown_grace: Duration,
    /// How long the old port of a moved target still accepts.
    pub move_grace: Duration,
    /// The pace of lifecycles.
    pub pace: Pace,
    /// Whether to reload when the file changes; SIGHUP always reloads.
    pub watch_file: bool,
}

impl Settings {
    /// The gateway's own listening addresses besides endpoints and public addresses.
    #[must_use]
    pub fn own_addresses(&self) -> BTreeSet<SocketAddr> {
        let dns = self.dns.iter().flat_map(|dns| &dns.listen);
        dns.chain(&self.metrics).chain(&self.admin).copied().collect()
    }

    /// The admin API's effective TLS: by default the lab CA's certificate if the API has host names or can be reached
    /// from other machines, as every request contains credentials.
    #[must_use]
    pub fn admin_tls(&self) -> AdminTls {
        let leaves = self.admin.is_some_and(|address| !address.ip().is_loopback());
        let default = if leaves || !self.admin_names.is_empty() { AdminTls::LabCa } else { AdminTls::Off };
        self.admin_tls.clone().unwrap_or(default)
    }

    /// The DNS records of the admin API's host names: its listening address. None if it listens at every address.
    #[must_use]
    pub fn own_names(&self) -> BTreeMap<DnsName, IpAddr> {
        let at = self.admin.map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
        self.admin_names.iter().filter_map(|name| Some((name.clone(), at?))).collect()
    }

    /// Use any free ports for DNS, metrics and the admin API.
    pub fn take_free_ports(&mut self) {
        let dns = self.dns.iter_mut().flat_map(|dns| &mut dns.listen);
        dns.chain(&mut self.metrics).chain(&mut self.admin).for_each(|address| address.set_port(0));
    }

    /// The keys with different values in `other`: `dns.ttl`, or `dns` if a whole table was added or removed. Settings
    /// take effect at the next start, except log levels, which are omitted here.
    #[must_use]
    pub fn differing_keys(&self, other: &Self) -> Vec<String> {
        fn add(keys: &mut Vec<String>, path: &str, ours: &Value, others: &Value) {
            match (ours, others) {
                // A duration is a single value, although serde serializes it as a table.
                (Value::Object(fields), Value::Object(other)) if !fields.contains_key("secs") => {
                    for (key, value) in fields {
                        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                        add(keys, &path, value, &other[key]);
                    }
                }
                _ if ours != others => keys.push(path.to_owned()),
                _ => {}
            }
        }
        let values = [self, other].map(|settings| serde_json::to_value(settings).expect("settings have text keys"));
        let mut keys = Vec::new();
        add(&mut keys, "", &values[0], &values[1]);
        keys
    }
}

impl Default for Settings {
    fn default() -> Self {
        let lab_dir = PathBuf::from(DEFAULT_LAB_DIR);
        Self {
            workers: 0,
            state: StateLocation::File(lab_dir.join(STATE_FILE)),
            lab_dir,
            dns: Some(DnsSettings::default()),
            metrics: Some(DEFAULT_METRICS),
            admin: Some(DEFAULT_ADMIN),
            admin_tls: None,
            admin_names: BTreeSet::new(),
            name_servers: Vec::new(),
            relay: RelaySettings::default(),
            limits: LimitSettings::default(),
            keepalive: Some(DEFAULT_KEEPALIVE_IDLE),
            app_services: AppServicesSettings::default(),
            flow_logs: None,
            access_log: None,
            logs: LoggingSettings::default(),
            shutdown_grace: DEFAULT_SHUTDOWN_GRACE,
            move_grace: DEFAULT_MOVE_GRACE,
            pace: Pace::default(),
            watch_file: true,
        }
    }
}

/// The admin API's TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminTls {
    /// None: plain HTTP.
    #[default]
    Off,
    /// A certificate that the lab's CA issues at the start.
    LabCa,
    /// The user's certificate.
    Files {
        /// The chain, the listener's own certificate first.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

impl AdminTls {
    /// The scheme of the admin API's URL.
    pub(crate) fn scheme(&self) -> &'static str {
        if *self == Self::Off { "http" } else { "https" }
    }
}

/// The destination of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "destination", rename_all = "lowercase")]
pub enum LogDestination {
    /// Standard output.
    Stdout,
    /// A file that is rotated by size.
    File {
        /// The file.
        path: PathBuf,
        /// The size in bytes at which it is rotated.
        rotate_size: usize,
        /// The number of older files to keep.
        keep: usize,
    },
}

/// Which flows are recorded: AWS' traffic type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum TrafficType {
    /// All.
    #[default]
    All,
    /// Accepted flows.
    Accept,
    /// Rejected flows.
    Reject,
}

/// The settings of flow logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowLogSettings {
    /// The destination.
    #[serde(flatten)]
    pub destination: LogDestination,
    /// The aggregation interval.
    pub interval: Duration,
    /// The traffic type.
    pub traffic: TrafficType,
    /// The fields of a record.
    pub format: FlowLogFormat,
    /// The account that owns the network interfaces.
    pub account_id: String,
}

/// The state store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum StateLocation {
    /// A file, which outlives the process.
    File(PathBuf),
    /// Memory, which does not outlive the process.
    Memory,
    /// etcd, which outlives the machine.
    Etcd(EtcdSettings),
}

/// Connection settings of etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EtcdSettings {
    /// The members' client URLs. At least one, all `http:` or all `https:`.
    pub endpoints: Vec<String>,
    /// The prefix of every key; it ends with `/`.
    pub prefix: String,
    /// This gateway's id among those that share the prefix; `None`: the host's name.
    #[serde(rename = "gateway.id")]
    pub gateway: Option<GatewayId>,
    /// The zones that this gateway is configured for, and `public`; `None`: it serves all addresses.
    #[serde(rename = "gateway.zones")]
    pub zones: Option<BTreeSet<ClaimId>>,
    /// The file of the CA certificate, for `https:` endpoints.
    pub ca: Option<PathBuf>,
    /// The files of the client certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The user, and the file with its password.
    pub user: Option<(String, PathBuf)>,
}

/// Settings of the DNS server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsSettings {
    /// The listening addresses, for UDP and TCP. At least one.
    pub listen: Vec<SocketAddr>,
    /// The TTL of answers, in whole seconds.
    pub ttl: Duration,
    /// The TTL of negative answers, in whole seconds.
    pub negative_ttl: Duration,
    /// Upstream resolvers for names outside the zones, for clients of a VPC; empty: such names do not exist for them.
    pub forward: Vec<SocketAddr>,
    /// The sources that can resolve public names, besides the VPCs.
    pub public_clients: CidrSet,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            // 53 is usually taken by the system; 5335 is similar, free, and needs no root privileges.
            listen: vec![loopback(5335)],
            // The TTL of Atlas and `vpce` names: a port move is visible within a minute.
            ttl: Duration::from_secs(60),
            // The lesser of a private hosted zone's SOA TTL (900 s) and its minimum (86,400 s). Source: Route 53, *SOA and
            // NS records*.
            negative_ttl: Duration::from_secs(900),
            forward: Vec::new(),
            public_clients: CidrSet::everywhere(),
        }
    }
}

/// Settings of the relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelaySettings {
    /// Size of a worker's read buffer in bytes.
    pub scratch: usize,
    /// Whether to splice bulk transfers.
    pub splice: bool,
    /// Size of a pipe in bytes.
    pub pipe_size: usize,
    /// Maximum number of pipes per worker.
    pub pipes_per_worker: usize,
    /// The congestion control algorithm of both sides, `cubic`; `None`: the kernel's default.
    pub congestion: Option<String>,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            // Large enough for a bulk stream; one buffer serves a whole worker, so its size costs nothing per flow.
            scratch: 128 * 1024,
            splice: true,
            // Large enough for a bulk stream, small enough that 64 pipes stay below the kernel's limit of 64 MiB of pipe pages
            // per user.
            pipe_size: 256 * 1024,
            // Directions that one worker splices at the same time; each holds two descriptors. Further ones are copied.
            pipes_per_worker: 64,
            congestion: None,
        }
    }
}

/// Log settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoggingSettings {
    /// Levels; `None`: those of `RUST_LOG`, or `info`.
    pub levels: Option<LogLevels>,
}

/// Resource limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitSettings {
    /// Connections that a listener accepts before the worker's other tasks run.
    pub accepts_per_wake: usize,
    /// Backlog of a listening socket.
    pub backlog: u32,
    /// Maximum number of refused clients that are held unanswered; more are reset.
    pub held_refusals: usize,
    /// How long a refused client is held.
    pub hold_time: Duration,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            // Enough for a burst, few enough that the worker's flows do not wait.
            accepts_per_wake: 32,
            // Linux' maximum of a backlog (`net.core.somaxconn`).
            backlog: 4096,
            // Each held client costs a descriptor; beyond this number, refused clients are reset.
            held_refusals: 1024,
            // How long a Linux client tries to connect to an address that does not answer (`tcp_syn_retries` = 6).
            hold_time: Duration::from_secs(127),
        }
    }
}

/// Settings of the App Services front end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppServicesSettings {
    /// Certificates, as files of a chain and its key. Empty: the lab's CA issues them.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// CA certificates for `https` backends, in addition to the lab's own.
    pub backend_ca: Option<PathBuf>,
    /// Whether to start every backend connection with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Maximum number of connections per thread.
    pub connections: usize,
    /// Time limit for a request's head.
    pub header_time: Duration,
    /// Idle time between two requests.
    pub idle: Duration,
    /// Idle time within a body, and while a client does not read its response.
    pub body_idle: Duration,
    /// Maximum size of a request's head in bytes.
    pub header_size: usize,
    /// Maximum number of concurrent requests of one HTTP/2 connection.
    pub streams: u32,
    /// Time limit for connecting to a backend.
    pub connect_timeout: Duration,
    /// Time limit for a backend's response.
    pub answer_timeout: Duration,
    /// Idle time-out of a WebSocket.
    pub websocket_idle: Duration,
    /// How long a WebSocket stays open after its endpoint is removed.
    pub deregistration_delay: Duration,
}

impl Default for AppServicesSettings {
    /// `appservices::AppOptions` and `AppLimits` name the sources of these values.
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            backend_ca: None,
            proxy_protocol: false,
            connections: 10_000,
            header_time: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body_idle: Duration::from_secs(60),
            header_size: 32 << 10,
            streams: 100,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(300),
            websocket_idle: Duration::from_secs(350),
            deregistration_delay: Duration::from_secs(300),
        }
    }
}

/// Whether the admin API may listen at `address`: without credentials, only at one that other machines can't reach.
///
/// # Errors
///
/// The reason, and what to do instead.
pub fn admin_may_listen(address: SocketAddr, has_credentials: bool) -> Result<(), String> {
    if has_credentials || address.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "`{address}` can be reached from other machines and the admin API has no credentials; set PLGW_ADMIN_PUBLIC_KEY \
         and PLGW_ADMIN_PRIVATE_KEY in the environment, or write a loopback address, as `{DEFAULT_ADMIN}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_api_speaks_tls_where_it_has_names_or_leaves_the_machine() {
        let at = |listen: &str| Settings { admin: Some(listen.parse().expect("an address")), ..Settings::default() };
        assert_eq!(at("127.0.0.1:8474").admin_tls(), AdminTls::Off);
        for listen in ["0.0.0.0:8474", "10.0.0.7:8474", "[2001:db8::1]:8474"] {
            assert_eq!(at(listen).admin_tls(), AdminTls::LabCa, "{listen}");
            assert_eq!(
                Settings { admin_tls: Some(AdminTls::Off), ..at(listen) }.admin_tls(),
                AdminTls::Off,
                "{listen}"
            );
        }
        let name: DnsName = "cloud.mongodb.com".parse().expect("a name");
        let named = |listen| Settings { admin_names: BTreeSet::from([name.clone()]), ..at(listen) };
        assert_eq!(named("127.0.0.1:443").admin_tls(), AdminTls::LabCa);
        assert_eq!(named("127.0.0.1:443").own_names()[&name], IpAddr::from([127, 0, 0, 1]));
        assert!(named("0.0.0.0:443").own_names().is_empty(), "no one address is where it answers");
    }

    #[test]
    fn settings_that_differ_are_named_by_their_keys() {
        let before = Settings { access_log: Some(LogDestination::Stdout), ..Settings::default() };
        let mut after = before.clone();
        after.logs.levels = Some(LogLevels::standard());
        assert!(before.differing_keys(&after).is_empty(), "a reload changes what is logged");
        after.workers += 1;
        after.metrics = None;
        after.relay.splice = !after.relay.splice;
        after.dns.as_mut().expect("DNS is on").ttl += Duration::from_secs(1);
        after.access_log = Some(LogDestination::File { path: "access.log".into(), rotate_size: 4096, keep: 1 });
        let keys = before.differing_keys(&after);
        assert_eq!(keys, ["access_log.destination", "dns.ttl", "metrics.listen", "relay.splice", "workers"]);
        after.dns = None;
        assert!(before.differing_keys(&after).contains(&"dns".to_owned()));
        let flow_logs = |interval| FlowLogSettings {
            destination: LogDestination::Stdout,
            interval: Duration::from_secs(interval),
            traffic: TrafficType::All,
            format: FlowLogFormat::default(),
            account_id: DEFAULT_ACCOUNT_ID.to_owned(),
        };
        let of = |interval| Settings { flow_logs: Some(flow_logs(interval)), ..Settings::default() };
        assert_eq!(of(60).differing_keys(&of(600)), ["flow_logs.interval"]);
    }
}
