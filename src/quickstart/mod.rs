//! The quickstart: the gateway and stand-ins on loopback, and a self-check from the clients' side.
//!
//! [`Quickstart::start`] shifts the scenario's addresses as the options say, checks that every address is free, starts
//! stand-ins with certificates of the lab's CA, and the gateway in front of them. [`Quickstart::check`] then uses it as
//! clients would. Output is left to the command line.

mod check;
mod client;
mod horizons;
mod scenario;
mod standins;
mod taken;

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

pub use self::check::Check;
use self::check::CheckContext;
pub use self::scenario::{NetworkShift, scenario};
pub use self::standins::{RunningStandIns, StandInTraffic};
pub use self::taken::AddressesInUse;
use crate::app::{Gateway, GatewayOptions, StartError, open_store};
use crate::config::{Config, DEFAULT_LAB_DIR, STATE_FILE, StateLocation};
use crate::control::store::{FileStore, OpenError};
use crate::control::{self, SavedError};
use crate::data;
use crate::lifecycle::{BindError, BindProblem};
use crate::model::{ClusterName, TargetState};
use crate::plan::{Generation, PlanErrors, PortAllocations, Snapshot, compile};
use crate::standin::StandinError;
pub use crate::standin::mongo::Timing;
use crate::telemetry::LogHandle;
use crate::tls::{LabCa, TlsError, identity};

/// Time limit for targets to become healthy. One successful probe is enough, and the stand-ins are already running.
const HEALTHY_TIMEOUT: Duration = Duration::from_secs(15);

/// Grace period for open flows when the quickstart stops: a user who pressed Ctrl-C is waiting.
const GRACE: Duration = Duration::from_secs(1);

/// Options of the quickstart.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The user's own config instead of the scenario; its addresses cannot be shifted.
    pub config: Option<Config>,
    /// The shift of the scenario's addresses.
    pub shift: NetworkShift,
    /// Another address for DNS.
    pub dns: Option<SocketAddr>,
    /// Another address for metrics.
    pub metrics: Option<SocketAddr>,
    /// Another address for the admin API.
    pub admin: Option<SocketAddr>,
    /// Directory for certificates and state; `None`: `./plgw-lab`, with the shift as a suffix if there is one.
    pub lab_dir: Option<PathBuf>,
    /// Use any free port for DNS, metrics and the admin API.
    pub free_ports: bool,
    /// Keep no state file: new ports at every start.
    pub state_in_memory: bool,
    /// Include Azure and Google Cloud.
    pub clouds: bool,
    /// The process' log, for the admin API.
    pub logs: Option<LogHandle>,
    /// Election timing of the stand-in sets; `None`: MongoDB's.
    pub timing: Option<Timing>,
}

/// Why the quickstart did not start.
#[derive(Debug, thiserror::Error)]
pub enum QuickstartError {
    /// Another quickstart has the networks of this shift.
    #[error("another quickstart uses the networks of `--shift {0}`")]
    Claimed(u8),
    /// An address is in use.
    #[error(transparent)]
    Taken(#[from] Box<AddressesInUse>),
    /// A stand-in cannot start.
    #[error(transparent)]
    StandIn(#[from] StandinError),
    /// The lab's CA or one of its certificates is not available.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The state file cannot be opened.
    #[error(transparent)]
    State(#[from] OpenError),
    /// The state file's content cannot be read.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// The state file does not match the config.
    #[error(transparent)]
    Plan(#[from] PlanErrors),
    /// A cluster of the scenario has no private connection strings.
    #[error("cluster {0} has no private connection strings, so there is no name to make a certificate for")]
    NoStrings(ClusterName),
    /// A node is configured by its host name.
    #[error(
        "there is no stand-in for {0} at the host name {1}: a stand-in needs an address; write the node's `address` instead of `host`"
    )]
    HostName(String, String),
    /// The gateway cannot start.
    #[error(transparent)]
    Gateway(#[from] StartError),
}

impl QuickstartError {
    /// Whether an address or the state file is in use by another process.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        let in_use = |error: &BindError| error.problem == BindProblem::InUse;
        match self {
            Self::Claimed(_) => true,
            Self::Taken(taken) => taken.is_in_use(),
            Self::StandIn(StandinError::Bind { source, .. }) => source.kind() == io::ErrorKind::AddrInUse,
            Self::State(OpenError::Locked { .. }) => true,
            Self::Gateway(StartError::State(OpenError::Locked { .. })) => true,
            Self::Gateway(StartError::Bind(error)) => in_use(error),
            _ => false,
        }
    }
}

/// The private connection strings for a command's environment: `PLGW_URI` is the first cluster's, `PLGW_URI_CLUSTER0` that of
/// `Cluster0`.
#[must_use]
pub fn uri_environment(snapshot: &Snapshot) -> Vec<(String, String)> {
    let strings =
        snapshot.strings.iter().filter_map(|of| Some((&of.cluster, &of.private.first()?.srv_connection_string)));
    let mut environment = Vec::new();
    for (cluster, string) in strings {
        if environment.is_empty() {
            environment.push(("PLGW_URI".to_owned(), string.clone()));
        }
        let name = cluster.as_str().to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        environment.push((format!("PLGW_URI_{name}"), string.clone()));
    }
    environment
}

/// A step of the start, for progress output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartStep {
    /// Creating certificates.
    Certificates,
    /// The stand-ins.
    StandIns,
    /// The gateway.
    Gateway,
    /// Targets are probed.
    Health,
    /// The self-check.
    Check,
}

impl StartStep {
    /// The step in words.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Certificates => "making certificates",
            Self::StandIns => "starting stand-in servers",
            Self::Gateway => "starting the gateway",
            Self::Health => "waiting until targets are healthy",
            Self::Check => "checking everything from a client's side",
        }
    }
}

/// The running quickstart.
#[derive(Debug)]
pub struct Quickstart {
    config: Config,
    is_own: bool,
    gateway: Gateway,
    standins: RunningStandIns,
    ca: LabCa,
    /// The claim of the scenario's networks, if this process got it.
    _claim: Option<UnixListener>,
    /// Keeps the members' names up to date.
    _follower: AbortOnDropHandle<()>,
}

/// The traffic of the quickstart.
#[derive(Debug, Clone)]
pub struct TrafficSummary {
    /// Through the gateway.
    pub gateway: data::Carried,
    /// The stand-ins' counts.
    pub stand_ins: Vec<StandInTraffic>,
}

impl Quickstart {
    /// Starts everything; `step` is called with each step.
    ///
    /// # Errors
    ///
    /// [`QuickstartError`]; nothing is left running.
    pub async fn start(options: &Options, step: impl Fn(StartStep)) -> Result<Self, QuickstartError> {
        let claim = match options.config.is_none().then(|| options.shift.claim()).transpose() {
            // Without free ports the addresses themselves decide: their errors name the process that has them.
            Err(error) if options.free_ports && error.kind() == io::ErrorKind::AddrInUse => {
                return Err(QuickstartError::Claimed(options.shift.get()));
            }
            claim => claim.ok().flatten(),
        };
        let config = configured(options);
        let planned = planned(&config).await?;
        taken::all_are_free(&config, options.config.is_some(), &planned)?;
        step(StartStep::Certificates);
        let ca = LabCa::open_or_create(&config.settings.lab_dir)?;
        step(StartStep::StandIns);
        let mut standins =
            RunningStandIns::start(&config.desired, &planned, &ca, options.timing.unwrap_or_default()).await?;
        step(StartStep::Gateway);
        let gateway_options = GatewayOptions {
            flags: Some(taken::FLAGS),
            logs: options.logs.clone(),
            stand_ins: Some(standins.control()),
            ..GatewayOptions::default()
        };
        let gateway = Gateway::start(config.clone(), gateway_options).await?;
        let follower = standins.follow(gateway.control().snapshots(), |_| false);
        step(StartStep::Health);
        let is_own = options.config.is_some();
        let quickstart = Self { config, is_own, gateway, standins, ca, _claim: claim, _follower: follower };
        quickstart.until_healthy().await;
        Ok(quickstart)
    }

    /// Waits until every target is healthy, or until a time limit; the check reports the others.
    async fn until_healthy(&self) {
        let all = |snapshot: &Arc<Snapshot>| unhealthy(snapshot).is_empty();
        let mut snapshots = self.gateway.control().snapshots();
        // Either way, the check reports it.
        let _ = timeout(HEALTHY_TIMEOUT, snapshots.wait_for(all)).await;
    }

    /// Uses the gateway as clients would: for the scenario from every network, for the user's config with the checks
    /// that fit any topology.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when no client that trusts the lab's CA can be created.
    pub async fn check(&self) -> Result<Vec<Check>, TlsError> {
        let context = CheckContext {
            desired: self.config.desired.clone(),
            snapshot: self.gateway.snapshot(),
            admin: self.gateway.admin_address(),
            dns: self.gateway.dns_addresses().to_vec(),
            metrics: self.gateway.metrics_address(),
            tls: identity::client_config(self.ca.certificate(), &[])?,
        };
        let context = Arc::new(context);
        Ok(if self.is_own { check::own(&context).await } else { Box::pin(check::all(&context)).await })
    }

    /// The running config.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The gateway.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The stand-ins.
    #[must_use]
    pub fn stand_ins(&self) -> &RunningStandIns {
        &self.standins
    }

    /// The certificate that clients have to trust.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        self.ca.certificate_path()
    }

    /// The traffic so far.
    #[must_use]
    pub fn carried(&self) -> TrafficSummary {
        TrafficSummary { gateway: self.gateway.carried(), stand_ins: self.standins.carried() }
    }

    /// Stops the gateway, then the stand-ins.
    pub async fn stop(self) -> TrafficSummary {
        let gateway = self.gateway.stop_within(GRACE).await;
        let stand_ins = self.standins.carried();
        self.standins.stop().await;
        TrafficSummary { gateway, stand_ins }
    }
}

/// Targets of running clusters that are not healthy, each with the members that cause it.
fn unhealthy(snapshot: &Snapshot) -> Vec<String> {
    let running = snapshot.targets.iter().filter(|target| !target.paused);
    let members = running.flat_map(|target| target.members.iter().map(move |member| (target, member)));
    members
        .filter(|(_, member)| member.state != TargetState::Healthy)
        .map(|(target, member)| {
            format!("{} ({} at {}) is {}", target.id, member.name, member.address, member.state.label())
        })
        .collect()
}

/// The scenario or the user's config, at the addresses of the options.
fn configured(options: &Options) -> Config {
    let own = options.config.clone();
    let is_own = own.is_some();
    let mut config = own.unwrap_or_else(|| scenario(options.shift, options.clouds));
    let settings = &mut config.settings;
    if options.free_ports {
        settings.take_free_ports();
    }
    if let (Some(address), Some(dns)) = (options.dns, &mut settings.dns) {
        dns.listen = vec![address];
    }
    settings.metrics = options.metrics.or(settings.metrics);
    settings.admin = options.admin.or(settings.admin);
    if let Some(dir) = &options.lab_dir {
        settings.lab_dir.clone_from(dir);
    } else if !is_own {
        settings.lab_dir = lab_dir(options.shift);
    }
    if options.state_in_memory {
        settings.state = StateLocation::Memory;
    } else if !is_own || options.lab_dir.is_some() {
        settings.state = StateLocation::File(settings.lab_dir.join(STATE_FILE));
    }
    config
}

/// A separate lab directory for every shift, so that concurrent instances share no state.
fn lab_dir(shift: NetworkShift) -> PathBuf {
    match shift.get() {
        0 => PathBuf::from(DEFAULT_LAB_DIR),
        n => PathBuf::from(format!("{DEFAULT_LAB_DIR}-{n}")),
    }
}

/// The snapshot that the gateway starts with or has: the config with the content of the state file.
pub(crate) async fn planned(config: &Config) -> Result<Snapshot, QuickstartError> {
    let mut desired = config.desired.clone();
    let held = match &config.settings.state {
        StateLocation::Memory => PortAllocations::default(),
        StateLocation::File(path) => match FileStore::peek_blocking(path)? {
            Some(store) => control::load_with_overrides(Arc::new(store), &mut desired).await?,
            None => PortAllocations::default(),
        },
        location @ StateLocation::Etcd(_) => {
            control::load_with_overrides(open_store(location).await?, &mut desired).await?
        }
    };
    Ok(compile(&desired, &held, Generation(1))?.0)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::path::Path;

    use super::*;
    use crate::model::StandInCommand;

    /// A shift that no other test on this machine uses; integration tests claim from 32 on, in the same way.
    fn claim() -> (NetworkShift, Vec<TcpListener>) {
        [12, 22]
            .into_iter()
            .find_map(|n| {
                let claim = |octet| TcpListener::bind((Ipv4Addr::new(127, octet, 255, 254), 64_999));
                let claims = (n..n + 10).map(claim).collect::<Result<Vec<_>, _>>().ok()?;
                Some((NetworkShift::new(n)?, claims))
            })
            .expect("two of these tests at once at most")
    }

    async fn start(lab: &Path) -> (Quickstart, Vec<TcpListener>) {
        let (shift, claims) = claim();
        let options = Options { shift, lab_dir: Some(lab.to_owned()), state_in_memory: true, ..Options::default() };
        let quickstart = Box::pin(Quickstart::start(&options, |_| {})).await.expect("it starts");
        (quickstart, claims)
    }

    fn failures(checks: &[Check]) -> Vec<(&str, &str)> {
        checks.iter().filter_map(|check| Some((check.name, check.outcome.as_ref().err()?.as_str()))).collect()
    }

    /// A single test, as it takes ten networks.
    #[tokio::test]
    async fn the_check_passes_follows_a_port_move_and_names_the_broken_part() {
        let lab = tempfile::tempdir().expect("a directory");
        let (quickstart, _claims) = start(lab.path()).await;
        assert_eq!(failures(&quickstart.check().await.expect("clients")), []);

        let target = "Cluster0/shard-00-01".parse().expect("a target");
        let moved = quickstart.gateway.control().move_target(target, None, None).await.expect("a free port");
        assert_ne!(moved.from, moved.to);
        // A separate task updates the members' names.
        let mut checks = quickstart.check().await.expect("clients");
        for _ in 0..100 {
            if failures(&checks).is_empty() {
                break;
            }
            checks = quickstart.check().await.expect("clients");
        }
        assert_eq!(failures(&checks), []);

        let stop = StandInCommand::Stop { cluster: "Cluster0".to_owned(), member: "shard-00-02".to_owned() };
        quickstart.standins.run(stop).await.expect("a member");
        let checks = quickstart.check().await.expect("clients");
        let failed = failures(&checks);
        let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
        assert!(names.starts_with(&["hello", "write-read", "standard-path"]), "{failed:?}");
        assert!(!names.contains(&"dns-udp") && !names.contains(&"one-way"), "the rest still holds: {failed:?}");
        let (_, reason) = failed[0];
        assert!(reason.contains(":1026 as pl-0-us-east-1-k45tj.mongodb.net"), "{reason}");
        quickstart.stop().await;
    }
}
