//! The settings of the process: threads, addresses, limits, with the defaults for keys that the file does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{CidrSet, ClaimId, DnsName, FlowLogFormat, GatewayId, LogLevels, Pace};

/// The default directory of certificates and state: below the current directory, so a trial leaves no traces
/// elsewhere and needs no root.
pub const DEFAULT_LAB_DIR: &str = "./plgw-lab";

/// The default prefix of every key in etcd.
pub const DEFAULT_ETCD_PREFIX: &str = "plgw/";

/// The state file in the lab's directory.
pub const STATE_FILE: &str = "state.json";

/// 53 is the system's; 5335 is near it and free, and needs no root.
pub const DEFAULT_DNS_LISTEN: SocketAddr = loopback(5335);

/// In the range that Prometheus' exporters register.
pub const DEFAULT_METRICS: SocketAddr = loopback(9464);

/// Beside nothing well known.
pub const DEFAULT_ADMIN: SocketAddr = loopback(8474);

/// The TTL that Atlas and the `vpce` names answer with: a port move is seen within a minute.
pub const DEFAULT_DNS_TTL: Duration = Duration::from_secs(60);

/// How long "no such name" may be remembered: the lesser of a private hosted zone's SOA TTL (900 s) and its last field
/// (86,400 s). Source: Route 53, *SOA and NS records*.
pub const DEFAULT_NEGATIVE_TTL: Duration = Duration::from_secs(900);

/// One read takes what a bulk stream has ready; one buffer serves a whole worker, so its size costs nothing per flow.
pub const DEFAULT_SCRATCH: usize = 128 * 1024;

/// Large enough for a bulk stream, small enough that 64 pipes stay under the kernel's 64 MiB of pipe pages per user.
pub const DEFAULT_PIPE_SIZE: usize = 256 * 1024;

/// Bulk directions that one worker splices at once; each holds two descriptors. Further ones are copied.
pub const DEFAULT_PIPES_PER_WORKER: usize = 64;

/// Enough to drain a burst, few enough that the flows of the worker are not kept waiting.
pub const DEFAULT_ACCEPTS_PER_WAKE: usize = 32;

/// What Linux caps a backlog at (`net.core.somaxconn`).
pub const DEFAULT_BACKLOG: u32 = 4096;

/// Every held client costs a descriptor; past this many, refused clients are reset.
pub const DEFAULT_HELD_REFUSALS: usize = 1024;

/// How long a Linux client tries to connect to what does not answer (`tcp_syn_retries` = 6).
pub const DEFAULT_HOLD_TIME: Duration = Duration::from_secs(127);

/// Below the idle time-out of 350 s, so that a dead peer is found before its flow is forgotten.
pub const DEFAULT_KEEPALIVE_IDLE: Duration = Duration::from_secs(120);

/// Short enough for a service manager's patience (systemd kills after 90 s), long enough for queries to end.
pub const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// The default TTL of DNS answers: caches name the old port of a moved target for that long. A longer `dns.ttl` is the
/// default where it is set.
pub const DEFAULT_MOVE_GRACE: Duration = Duration::from_secs(60);

/// AWS' own default for the maximum aggregation interval; 60 s is its other.
pub const DEFAULT_FLOW_LOG_INTERVAL: Duration = Duration::from_secs(600);

/// AWS' word where an interface was made by a service, as those of endpoints are.
pub const DEFAULT_ACCOUNT_ID: &str = "unknown";

/// Large enough to grep through, small enough to open in an editor.
pub const DEFAULT_ROTATE_SIZE: usize = 64 << 20;

/// With the size above, less than half a GiB.
pub const DEFAULT_KEEP: usize = 5;

/// 127.0.0.1 with `port`.
const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The process' own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Threads that carry flows; 0 is one per core.
    pub workers: usize,
    /// Where ports and restrictions are kept.
    #[serde(rename = "state.path")]
    pub state: StateLocation,
    /// The directory of the lab's CA, certificates and state.
    pub lab_dir: PathBuf,
    /// The resolver; `None`: none runs.
    pub dns: Option<DnsSettings>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; `None`: nowhere.
    #[serde(rename = "metrics.listen")]
    pub metrics: Option<SocketAddr>,
    /// Where the admin API is served, on loopback unless credentials are set; `None`: nowhere.
    #[serde(rename = "admin.listen")]
    pub admin: Option<SocketAddr>,
    /// How the admin API is served, where the file says so; [`Self::admin_tls`] says what it comes to.
    #[serde(rename = "admin.tls")]
    pub admin_tls: Option<AdminTls>,
    /// Host names that the admin API answers to, over TLS alone, and that DNS answers with its address.
    #[serde(rename = "admin.names")]
    pub admin_names: BTreeSet<DnsName>,
    /// The name servers that are asked for nodes' host names; empty: the machine's.
    #[serde(rename = "node_names.servers")]
    pub name_servers: Vec<SocketAddr>,
    /// How bytes are moved.
    pub relay: RelaySettings,
    /// How much is taken on at once.
    pub limits: LimitSettings,
    /// Silence after which the kernel probes a peer; `None`: it never does.
    #[serde(rename = "keepalive.idle")]
    pub keepalive: Option<Duration>,
    /// App Services' front.
    pub app_services: AppServicesSettings,
    /// Flow logs as a VPC has them; `None`: none are written.
    pub flow_logs: Option<FlowLogSettings>,
    /// Where one JSON object goes for every flow; `None`: nowhere.
    pub access_log: Option<LogDestination>,
    /// What is logged: the one setting that a reload changes.
    #[serde(skip)]
    pub logs: LoggingSettings,
    /// How long flows may last once the process was asked to stop.
    pub shutdown_grace: Duration,
    /// How long the old port of a moved target still accepts.
    pub move_grace: Duration,
    /// How quickly the lives of what the APIs make go on.
    pub pace: Pace,
    /// Reload when the file changes; SIGHUP reloads either way.
    pub watch_file: bool,
}

impl Settings {
    /// Where the gateway itself answers beside endpoints and public addresses.
    #[must_use]
    pub fn own_addresses(&self) -> BTreeSet<SocketAddr> {
        let dns = self.dns.iter().flat_map(|dns| &dns.listen);
        dns.chain(&self.metrics).chain(&self.admin).copied().collect()
    }

    /// By which certificate the admin API is served: by the lab CA's where the file says nothing and the API has host names,
    /// or can be reached from other machines, as credentials go with every request.
    #[must_use]
    pub fn admin_tls(&self) -> AdminTls {
        let leaves = self.admin.is_some_and(|address| !address.ip().is_loopback());
        let default = if leaves || !self.admin_names.is_empty() { AdminTls::LabCa } else { AdminTls::Off };
        self.admin_tls.clone().unwrap_or(default)
    }

    /// What DNS answers for the host names of the admin API: where it listens. Nothing for one that listens at every address.
    #[must_use]
    pub fn own_names(&self) -> BTreeMap<DnsName, IpAddr> {
        let at = self.admin.map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
        self.admin_names.iter().filter_map(|name| Some((name.clone(), at?))).collect()
    }

    /// Any free port instead of DNS', the metrics' and the admin API's own.
    pub fn take_free_ports(&mut self) {
        let dns = self.dns.iter_mut().flat_map(|dns| &mut dns.listen);
        dns.chain(&mut self.metrics).chain(&mut self.admin).for_each(|address| address.set_port(0));
    }

    /// The keys whose values differ in `other`: `dns.ttl`, or `dns` where a whole table is new or gone. Settings take effect
    /// at the next start, but for what is logged, which is left out here.
    #[must_use]
    pub fn differing_keys(&self, other: &Self) -> Vec<String> {
        fn add(keys: &mut Vec<String>, path: &str, ours: &Value, others: &Value) {
            match (ours, others) {
                // A duration is a value, although serde makes a table of it.
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

/// By which certificate the admin API is served over TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminTls {
    /// By none: it is served in clear.
    #[default]
    Off,
    /// By one that the lab's CA signs at the start.
    LabCa,
    /// By the user's own.
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

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "destination", rename_all = "lowercase")]
pub enum LogDestination {
    /// To standard output.
    Stdout,
    /// To a file that is put aside at a size.
    File {
        /// The file.
        path: PathBuf,
        /// At this many bytes it is put aside.
        rotate_size: usize,
        /// So many older ones are kept.
        keep: usize,
    },
}

/// Which flows are recorded, in AWS' words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum TrafficType {
    /// All.
    #[default]
    All,
    /// Those that the interface let through.
    Accept,
    /// Those that it did not.
    Reject,
}

/// The settings of flow logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowLogSettings {
    /// Where they go.
    #[serde(flatten)]
    pub destination: LogDestination,
    /// The aggregation interval.
    pub interval: Duration,
    /// Which flows are recorded.
    pub traffic: TrafficType,
    /// The fields of a record.
    pub format: FlowLogFormat,
    /// The owner of the network interfaces.
    pub account_id: String,
}

/// Where ports and restrictions are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum StateLocation {
    /// In this file: they outlive the process.
    File(PathBuf),
    /// In memory: they end with the process.
    Memory,
    /// In etcd: they outlive the machine.
    Etcd(EtcdSettings),
}

/// Where etcd is, and who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EtcdSettings {
    /// The members' client URLs. At least one, all `http:` or all `https:`.
    pub endpoints: Vec<String>,
    /// The prefix of every key; it ends with `/`.
    pub prefix: String,
    /// This gateway's name among those that share the prefix; `None`: the host's name.
    #[serde(rename = "gateway.id")]
    pub gateway: Option<GatewayId>,
    /// The zones whose addresses this gateway serves when it can have them, and `public`; `None`: it serves all addresses.
    #[serde(rename = "gateway.zones")]
    pub zones: Option<BTreeSet<ClaimId>>,
    /// The certificate of the CA that signed the members'; given when the endpoints are `https:`.
    pub ca: Option<PathBuf>,
    /// The certificate and the key that the gateway shows.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The user, and the file with its password.
    pub user: Option<(String, PathBuf)>,
}

/// The resolver's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsSettings {
    /// Where it answers, over UDP and TCP. At least one.
    pub listen: Vec<SocketAddr>,
    /// The TTL of its answers, in whole seconds.
    pub ttl: Duration,
    /// How long a negative answer may be cached, in whole seconds.
    pub negative_ttl: Duration,
    /// Upstream resolvers for names outside the zones, asked for clients of a VPC; empty: such names do not exist for them.
    pub forward: Vec<SocketAddr>,
    /// The sources that get the public view, when they are in no VPC.
    pub public_clients: CidrSet,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            listen: vec![DEFAULT_DNS_LISTEN],
            ttl: DEFAULT_DNS_TTL,
            negative_ttl: DEFAULT_NEGATIVE_TTL,
            forward: Vec::new(),
            public_clients: CidrSet::everywhere(),
        }
    }
}

/// How bytes are moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelaySettings {
    /// Bytes of a worker's one read buffer.
    pub scratch: usize,
    /// Whether bulky directions are moved by the kernel alone.
    pub splice: bool,
    /// Bytes of a pipe between two sockets.
    pub pipe_size: usize,
    /// Pipes that one worker may hold.
    pub pipes_per_worker: usize,
    /// The congestion control of both sides, `cubic`; `None`: the kernel's default.
    pub congestion: Option<String>,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            scratch: DEFAULT_SCRATCH,
            splice: true,
            pipe_size: DEFAULT_PIPE_SIZE,
            pipes_per_worker: DEFAULT_PIPES_PER_WORKER,
            congestion: None,
        }
    }
}

/// What is logged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoggingSettings {
    /// Levels; `None`: those of `RUST_LOG`, or `info`.
    pub levels: Option<LogLevels>,
}

/// How much is taken on at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitSettings {
    /// Connections that a listener accepts at most before others get their turn.
    pub accepts_per_wake: usize,
    /// Connections that the kernel keeps for a listener until they are accepted.
    pub backlog: u32,
    /// Refused clients that are held unanswered at once; more are reset.
    pub held_refusals: usize,
    /// How long a refused client is held.
    pub hold_time: Duration,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            accepts_per_wake: DEFAULT_ACCEPTS_PER_WAKE,
            backlog: DEFAULT_BACKLOG,
            held_refusals: DEFAULT_HELD_REFUSALS,
            hold_time: DEFAULT_HOLD_TIME,
        }
    }
}

/// The settings of App Services' front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppServicesSettings {
    /// What clients are shown: files of a chain and its key. None: the lab's CA signs certificates.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// CA certificates that `https` backends are checked against, besides the lab's own.
    pub backend_ca: Option<PathBuf>,
    /// A PROXY protocol header in front of every connection to a backend.
    pub proxy_protocol: bool,
    /// Connections that one thread holds at once.
    pub connections: usize,
    /// What a client may take for a request's head.
    pub header_time: Duration,
    /// Silence between two requests.
    pub idle: Duration,
    /// Silence within a body, and in taking an answer.
    pub body_idle: Duration,
    /// Bytes of a request's head.
    pub header_size: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// What a backend may take to be connected to.
    pub connect_timeout: Duration,
    /// What a backend may take to answer.
    pub answer_timeout: Duration,
    /// Longest silence both ways on a WebSocket.
    pub websocket_idle: Duration,
    /// How long a WebSocket lasts once its endpoint is gone.
    pub deregistration_delay: Duration,
}

impl Default for AppServicesSettings {
    /// Where the values come from is said in `appservices::AppOptions` and `AppLimits`; a test keeps them alike.
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

/// Whether the admin API may listen at `address`: without credentials, only where this machine alone can reach it.
///
/// # Errors
///
/// Why not, and what to do instead.
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
