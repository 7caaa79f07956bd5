//! The lab's first process: builds the lab, holds its namespaces open, and records which of its processes ended.
//!
//! It is process 1 of a PID namespace: however it ends, the kernel ends every process of the lab, and with the last of
//! them all namespaces, interfaces and mounts. So `down` only has to end it, and `kill -9` has the same effect.

use std::collections::BTreeMap;
use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};

use super::error::IoContext;
use super::namespaces::{self, Namespace};
use super::record::{self, HostRecord, LabRecord, ProcessRecord};
use super::topology::Topology;
use super::{CONFIG_FILE, Host, LabError, Process, files, ipv6_links, links, topology};
use crate::quickstart::{planned, uri_environment};

/// The first process's message when the lab is ready; any other message is an error.
pub(super) const READY: &str = "ready\n";

/// A process's message when it serves.
pub(super) const SERVES: &str = "serves\n";

/// How often it checks that its record exists, without which the lab could not be ended, and that it is not abandoned.
const RECORD_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The inputs for building the lab.
#[derive(Debug, Clone)]
pub(super) struct LabSpec {
    /// The lab's directory.
    pub(super) dir: PathBuf,
    /// The requested config, for messages.
    pub(super) asked: String,
    /// The processes to start.
    pub(super) processes: Vec<Process>,
}

/// Builds the lab and keeps it until this process is ended. Writes a message to standard output when it is ready, or an
/// error.
pub(super) fn hold(order: &LabSpec) -> Result<(), LabError> {
    namespaces::one_thread()?;
    // A separate session, so that neither the terminal nor Ctrl-C affects the lab.
    rustix::process::setsid().context("leave the terminal")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let built = runtime.block_on(build(order));
    let BuiltLab { mut lab, hosts, way_out } = match built {
        Ok(built) => built,
        Err(error) => {
            report_to_parent(&crate::control::chain(&error))?;
            return Err(error);
        }
    };
    lab.write(&order.dir)?;
    report_to_parent(READY)?;
    let watched = runtime.block_on(watch(&mut lab, &order.dir));
    drop((hosts, way_out));
    watched
}

/// The namespaces of one host.
#[derive(Debug)]
struct Namespaces {
    network: Namespace,
    mounts: Namespace,
}

/// A running lab, with what must stay open.
#[derive(Debug)]
struct BuiltLab {
    lab: LabRecord,
    hosts: BTreeMap<Host, Namespaces>,
    /// The process that connects to real backends ends when this is closed.
    way_out: Option<UnixStream>,
}

async fn build(order: &LabSpec) -> Result<BuiltLab, LabError> {
    let config = crate::config::load(&order.dir.join(CONFIG_FILE))?;
    let topology = topology::topology(&config.desired, &order.asked)?;
    let mut processes = BTreeMap::new();
    // Started first, while this process is still in the machine's network.
    let mut backends = if order.processes.contains(&Process::Backends) {
        let (ours, theirs) = UnixStream::pair().context("make a pair of sockets")?;
        Some((spawn(Process::Backends, &order.dir, OwnedFd::from(theirs).into())?, ours))
    } else {
        None
    };
    let held = make_hosts(&topology, &order.dir)?;
    let networks = held.iter().map(|(host, held)| Ok((*host, duplicate(&held.network)?)));
    let networks: BTreeMap<Host, Namespace> = networks.collect::<Result<_, LabError>>()?;
    links::wire(&topology, &networks).await?;
    if let Some(ipv6) = &topology.ipv6 {
        ipv6_links::wire(ipv6, &topology, &networks).await?;
    }

    if let Some((starting, ours)) = &mut backends {
        let service = held.get(&Host::Service).expect("every host is made");
        namespaces::enter_network(&service.network)?;
        super::backends::send_sockets(&super::backends::read(&order.dir)?, ours)?;
        let pid = starting.wait_until_serving(&order.dir)?;
        processes.insert(Process::Backends.name().to_owned(), ProcessRecord { pid, ended: None });
    }
    for (process, host) in order.processes.iter().filter_map(|process| Some((*process, process.host()?))) {
        let host = held.get(&host).expect("every host is made");
        namespaces::enter_network(&host.network)?;
        namespaces::enter_mounts(&host.mounts)?;
        let pid = spawn(process, &order.dir, Stdio::null())?.wait_until_serving(&order.dir)?;
        processes.insert(process.name().to_owned(), ProcessRecord { pid, ended: None });
    }
    let hosts = held.iter().map(|(host, held)| {
        let net = topology.host(*host);
        let record = HostRecord {
            network: held.network.as_raw_fd(),
            mounts: held.mounts.as_raw_fd(),
            address: net.map(topology::HostNet::address),
            resolver: net.and_then(|net| net.resolver),
            ipv6: topology.ipv6.as_ref().and_then(|ipv6| ipv6.hosts.get(host).copied()),
        };
        (*host, record)
    });
    let zones = topology.zones.iter().map(|(zone, ips)| (zone.to_string(), ips.clone())).collect();
    let nodes = topology
        .nodes
        .iter()
        .map(|(zone, ips)| (zone.to_string(), ips.iter().copied().map(IpAddr::V4).collect()))
        .collect();
    let ca = config.settings.lab_dir.join("ca.pem");
    // A failing plan has already kept the gateway from starting.
    let planned = planned(&config).await.ok();
    let strings = planned.as_ref().map(uri_environment).unwrap_or_default().into_iter().collect();
    let lab = LabRecord {
        config: order.asked.clone(),
        hosts: hosts.collect(),
        zones,
        nodes,
        processes,
        ca,
        admin: config.settings.admin,
        admin_tls: config.settings.admin_tls(),
        strings,
    };
    Ok(BuiltLab { lab, hosts: held, way_out: backends.map(|(_, ours)| ours) })
}

/// Creates the namespaces of every host: a network, and mounts with the host's files.
fn make_hosts(topology: &Topology, dir: &Path) -> Result<BTreeMap<Host, Namespaces>, LabError> {
    let base = namespaces::new_mounts()?;
    files::isolate_mounts()?;
    let hosts = topology.hosts.iter().map(|host| (host.kind, host.resolver));
    let mut held = BTreeMap::new();
    for (host, resolver) in hosts.chain([(Host::Gateway, None::<Ipv4Addr>), (Host::Router, None)]) {
        namespaces::enter_mounts(&base)?;
        let mounts = namespaces::new_mounts()?;
        let network = namespaces::new_network()?;
        files::put(dir, host, resolver)?;
        held.insert(host, Namespaces { network, mounts });
    }
    Ok(held)
}

/// A process that has been started and does not serve yet.
struct StartingProcess {
    process: Process,
    child: Child,
}

/// Starts a process of the lab in the current namespaces.
fn spawn(process: Process, dir: &Path, input: Stdio) -> Result<StartingProcess, LabError> {
    let path = dir.join(process.log());
    let log = crate::files::append(&path, crate::files::LOG);
    let log = log.map_err(|source| LabError::File { what: "open", path, source })?;
    let mut command = Command::new(super::program()?);
    command.args(["lab", "process", process.name()]).arg(dir).current_dir(dir);
    command.stdin(input).stdout(Stdio::piped()).stderr(log);
    if env::var_os("RUST_LOG").is_none() {
        // The log is a file, read after a failure.
        command.env("RUST_LOG", "info");
    }
    let child = command.spawn().map_err(|source| LabError::Command { command: process.name().to_owned(), source })?;
    Ok(StartingProcess { process, child })
}

impl StartingProcess {
    /// Waits until the process serves, and returns its pid inside the lab.
    fn wait_until_serving(&mut self, dir: &Path) -> Result<i32, LabError> {
        let name = self.process.name();
        let mut said = String::new();
        // The pipe is closed when the process has reported that it serves, and when it ends.
        if let Some(mut out) = self.child.stdout.take() {
            out.read_to_string(&mut said).context(format!("read the answer of the {name}"))?;
        }
        if said != SERVES {
            let log = std::fs::read_to_string(dir.join(self.process.log())).unwrap_or_default();
            return Err(LabError::Build(format!("the {name} does not start: {}", last_lines(&log))));
        }
        Ok(i32::try_from(self.child.id()).expect("a process' number is positive and fits"))
    }
}

/// The last lines of a log, for an error message.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// Reaps processes, records the end of essential ones, and returns on request or when its record is gone.
async fn watch(lab: &mut LabRecord, dir: &Path) -> Result<(), LabError> {
    let mut children = signal(SignalKind::child()).context("listen for ended processes")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut tick = tokio::time::interval(RECORD_CHECK_INTERVAL);
    loop {
        if reap(lab) {
            lab.write(dir)?;
        }
        tokio::select! {
            _ = children.recv() => {}
            _ = terminate.recv() => return Ok(()),
            _ = tick.tick() => {
                if !record::is_recorded(dir) {
                    return Ok(());
                }
                if record::is_abandoned(dir) {
                    // What fails is left to `plgw lab down`.
                    let _ = std::fs::remove_dir_all(dir);
                    let _ = dir.parent().map(std::fs::remove_dir);
                    return Ok(());
                }
            }
        }
    }
}

/// Reaps all processes that have ended; as process 1 it also inherits orphans. Returns whether an essential process was
/// among them.
fn reap(lab: &mut LabRecord) -> bool {
    let mut needed = false;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let process = lab.processes.values_mut().find(|process| process.pid == pid.as_raw_nonzero().get());
        if let Some(process) = process {
            needed = true;
            process.ended = Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exited with status {code}"),
                (None, Some(signal)) => format!("was killed by signal {signal}"),
                (None, None) => "ended".to_owned(),
            });
        }
    }
    needed
}

/// Writes the message that this process's parent waits for, and closes standard output.
pub(super) fn report_to_parent(text: &str) -> Result<(), LabError> {
    let mut out = io::stdout();
    // Fails when the parent is gone: then this process has no record, and must not stay.
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("answer the parent process")?;
    let null = OpenOptions::new().write(true).open("/dev/null").context("open /dev/null")?;
    rustix::stdio::dup2_stdout(&null).context("close standard output")
}

fn duplicate(namespace: &Namespace) -> Result<File, LabError> {
    namespace.try_clone().context("hold a namespace")
}
