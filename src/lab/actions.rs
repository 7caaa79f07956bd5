//! Implementations of the commands.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::{env, fs};

use super::admin::{self, AdminApi, AdminCredentials};
use super::backends::{self, Backend};
use super::enter::{self, HostNamespaces, Job};
use super::error::IoContext;
use super::record::{self, DEFAULT_NAME, InitProcess, InitState, LabRecord, LabsDirectory};
use super::{
    CONFIG_FILE, CUT_FILE, DEFAULT_CONFIG, HOST_VARIABLE, Host, LabError, Process, config, holder, links, list,
    namespaces, outages, status, topology, vendor_names,
};
use crate::config::AdminTls;
use crate::files;
use crate::lifecycle::{exit_code, run_command};
use crate::model::DnsName;

/// The default config's name in messages.
const DEFAULT_FILE: &str = "config/scenarios/lab.toml (built in)";

pub(super) fn up(
    name: &str,
    file: Option<&Path>,
    clouds: bool,
    stand_ins: bool,
    vendor_names: bool,
) -> Result<(), LabError> {
    check_name(name)?;
    refuse_inside_lab("plgw lab up")?;
    let (text, asked) = match file {
        None if clouds => (super::config_with_clouds(), DEFAULT_FILE.to_owned()),
        None => (DEFAULT_CONFIG.to_owned(), DEFAULT_FILE.to_owned()),
        Some(path) => {
            // Read again as text, to which the lab's own addresses are applied for the gateway.
            crate::config::load(path)?;
            let text = fs::read_to_string(path);
            let text = text.map_err(|source| LabError::File { what: "read", path: path.to_owned(), source })?;
            (text, path.display().to_string())
        }
    };
    let desired = crate::config::parse(&text, &asked)?.desired;
    let (text, backends) = config::with_lab_addresses(&text, &asked, &desired)?;
    let topology = topology::topology(&crate::config::parse(&text, &asked)?.desired, &asked)?;
    let names = if vendor_names { vendor_names::of(&desired) } else { BTreeSet::new() };
    let plan = LabPlan { text, asked, topology, backends, names, stand_ins: file.is_none() || stand_ins };

    let labs = LabsDirectory::lock()?;
    if let Some((first, life)) = find_init(&labs, name)? {
        let lab =
            LabRecord::read(&labs.dir_of(name)).filter(|lab| life != InitState::Ended && lab.dead_process().is_none());
        if lab.is_some() {
            return Err(LabError::AlreadyUp { name: name.to_owned(), pid: first.pid, flag: flag(name) });
        }
        // A lab that lost an essential process has died, and is cleaned up like any other.
        kill(&first, life, name)?;
    }
    labs.remove(name)?;
    let (dir, lock) = labs.make(name)?;
    if let Err(error) = build(&dir, lock, &plan) {
        if let Some(first) = InitProcess::read(&dir) {
            first.kill()?;
        }
        labs.remove(name)?;
        labs.remove_if_empty();
        return Err(error);
    }
    print!("{}", status::ready(name, &dir)?);
    Ok(())
}

/// The inputs for building a lab.
struct LabPlan {
    /// The config.
    text: String,
    /// The config's name in messages.
    asked: String,
    topology: topology::Topology,
    backends: Vec<Backend>,
    /// Host names of the vendors' APIs that the gateway serves.
    names: BTreeSet<DnsName>,
    /// Whether stand-ins run instead of the backends.
    stand_ins: bool,
}

/// Starts the lab's first process, which holds `lock`, and waits until the lab is ready.
fn build(dir: &Path, lock: fs::File, plan: &LabPlan) -> Result<(), LabError> {
    let here = env::current_dir().context("find the current directory")?;
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|source| LabError::File { what: "write", path, source })
    };
    write(CONFIG_FILE, config::effective(&plan.text, &plan.asked, &plan.topology, &plan.names, dir, &here)?)?;
    write(backends::FILE, serde_json::to_string_pretty(&plan.backends).expect("addresses are JSON"))?;
    let log_path = dir.join("lab.log");
    let log = files::append(&log_path, files::LOG);
    let log = log.map_err(|source| LabError::File { what: "make", path: log_path, source })?;
    let credentials = AdminCredentials::make(dir)?;

    let program = super::program()?;
    let user_namespace = namespaces::prepare()?;
    let mut command = Command::new(program);
    command.args(["lab", "hold"]).arg(dir).arg("--asked").arg(&plan.asked);
    for process in [if plan.stand_ins { Process::StandIns } else { Process::Backends }, Process::Gateway] {
        command.args(["--process", process.name()]);
    }
    // All processes of the lab inherit them; the gateway refuses an admin API off loopback without credentials.
    command.envs(credentials.environment());
    command.current_dir("/").stdin(lock).stdout(Stdio::piped()).stderr(log);
    let mut child =
        command.spawn().map_err(|source| LabError::Command { command: "plgw lab hold".to_owned(), source })?;
    let pid = i32::try_from(child.id()).expect("a process' number is positive and fits");
    InitProcess::of(pid, user_namespace)?.write(dir)?;
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut said).context("read the answer of the lab's first process")?;
    }
    if said == holder::READY {
        return Ok(());
    }
    let why = if said.is_empty() { fs::read_to_string(dir.join("lab.log")).unwrap_or_default() } else { said };
    Err(LabError::Build(why.trim().to_owned()))
}

pub(super) fn down(name: &str) -> Result<(), LabError> {
    check_name(name)?;
    refuse_inside_lab("plgw lab down")?;
    let labs = LabsDirectory::lock()?;
    if !labs.dir_of(name).exists() {
        labs.remove_if_empty();
        println!("lab `{name}` is not up; nothing to remove");
        return Ok(());
    }
    end(&labs, name)?;
    labs.remove_if_empty();
    Ok(())
}

pub(super) fn down_all() -> Result<(), LabError> {
    refuse_inside_lab("plgw lab down")?;
    let labs = LabsDirectory::lock()?;
    for name in record::names()? {
        end(&labs, &name)?;
    }
    labs.remove_if_empty();
    Ok(())
}

fn end(labs: &LabsDirectory, name: &str) -> Result<(), LabError> {
    if let Some((first, life)) = find_init(labs, name)? {
        kill(&first, life, name)?;
    }
    labs.remove(name)?;
    println!("lab `{name}` is down");
    Ok(())
}

/// The recorded first process of the lab `name`.
fn find_init(labs: &LabsDirectory, name: &str) -> Result<Option<(InitProcess, InitState)>, LabError> {
    let dir = labs.dir_of(name);
    record::check(&dir)?;
    Ok(InitProcess::read(&dir).map(|first| (first.clone(), first.state_from_here(&dir))))
}

fn kill(first: &InitProcess, life: InitState, name: &str) -> Result<(), LabError> {
    match life {
        InitState::Unseen | InitState::ContainsThisProcess => Err(LabError::Unseen { name: name.to_owned() }),
        // `Ended`: its last processes may still be exiting.
        InitState::Runs | InitState::Ended => first.kill(),
    }
}

/// Refuses a command that would end the lab in which it runs, or build a lab inside it.
fn refuse_inside_lab(command: &'static str) -> Result<(), LabError> {
    for name in record::names()? {
        let dir = record::dir_of(&name)?;
        if InitProcess::read(&dir).is_some_and(|first| first.state_from_here(&dir) == InitState::ContainsThisProcess) {
            let host = env::var(HOST_VARIABLE).map_or_else(|_| String::new(), |host| format!(" at `{host}`"));
            return Err(LabError::Inside { name, host, command });
        }
    }
    Ok(())
}

pub(super) fn run(name: &str, host: Host, command: Vec<OsString>) -> Result<ExitCode, LabError> {
    let found = find(name)?;
    enter::run(&HostNamespaces::open(&found.first, &found.lab, host)?, job(&found, host, command)?)
}

/// Builds a lab of `config`, runs `command` in it, removes the lab, and returns the command's exit code.
pub(super) fn run_in_new(
    config: &Path,
    stand_ins: bool,
    vendor_names: bool,
    host: Host,
    command: &[OsString],
) -> Result<ExitCode, LabError> {
    refuse_inside_lab("plgw lab run --config")?;
    let program = super::program()?;
    let name = format!("run-{}", std::process::id());
    // Each in a separate process, as a process that has built or entered a lab can't leave its namespaces.
    let plgw = |verb: &str| {
        let mut command = Command::new(&program);
        command.args(["lab", verb, "--name", &name]);
        command
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let mut up = plgw("up");
        up.arg("--for-parent").arg("--config").arg(config).args(stand_ins.then_some("--stand-ins"));
        up.args(vendor_names.then_some("--vendor-names")).stdout(Stdio::null());
        let mut ended = run_command(&mut up).await;
        // The lab is removed whatever happens after it was built.
        let mut runner = None;
        if ended.as_ref().is_ok_and(ExitStatus::success) {
            let locked = record::dir_of(&name).and_then(|dir| record::run_by_this_process(&dir));
            if locked.is_ok() {
                let mut run = plgw("run");
                run.args(["--at", host.name(), "--"]).args(command);
                ended = run_command(&mut run).await;
            }
            runner = Some(locked);
        }
        let down = run_command(plgw("down").stdout(Stdio::null())).await;
        let down = down.context("run `plgw lab down`")?;
        runner.transpose()?;
        Ok(if down.success() { exit_code(&ended) } else { ExitCode::FAILURE })
    })
}

pub(super) fn shell(name: &str, host: Host) -> Result<ExitCode, LabError> {
    let found = find(name)?;
    let entry = HostNamespaces::open(&found.first, &found.lab, host)?;
    let command = enter::shell(&found.dir, host)?;
    print!("{}", status::welcome(host, &found.lab));
    enter::run(&entry, job(&found, host, command)?)
}

/// A command to run at `host`, with its environment.
fn job(found: &RunningLab, host: Host, command: Vec<OsString>) -> Result<Job, LabError> {
    let held = found.lab.hosts.get(&host);
    let resolver = held.and_then(|held| held.resolver).map(|ip| format!("{ip}:{}", topology::DNS_PORT));
    let mut environment = admin::environment(host, &found.lab, &found.dir)?;
    environment.extend([("PLGW_LAB", found.name.clone().into()), (HOST_VARIABLE, host.name().into())]);
    environment.extend(resolver.map(|resolver| ("PLGW_DNS", resolver.into())));
    environment.extend([("PLGW_CA", found.lab.ca.clone().into()), (record::DIR_VARIABLE, record::base()?.into())]);
    let strings = found.lab.strings.clone().into_iter().map(|(name, string)| (name, string.into()));
    let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(strings).collect();
    Ok(Job { command, environment, input: None })
}

/// Enters the network of the lab's gateway, for a client of its admin API.
pub(super) fn enter_admin(name: &str) -> Result<AdminApi, LabError> {
    let found = find(name)?;
    let url = found.lab.admin_url().ok_or(LabError::NoAdmin)?;
    let address = url.parse().expect("a scheme and a socket address");
    let token = AdminCredentials::read(&found.dir)?.token;
    HostNamespaces::open(&found.first, &found.lab, Host::Gateway)?.enter_network()?;
    let ca = (found.lab.admin_tls == AdminTls::LabCa).then_some(found.lab.ca);
    Ok(AdminApi { address, token, ca })
}

/// Listens on this machine's loopback at `port`, and forwards to the lab's admin API until the lab ends.
pub(super) fn console(name: &str, port: u16) -> Result<ExitCode, LabError> {
    let found = find(name)?;
    let address = found.lab.admin.ok_or(LabError::NoAdmin)?;
    let token = AdminCredentials::read(&found.dir)?.token;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = listener.context(format!("bind 127.0.0.1:{port} for the console (`--port` takes another)"))?;
    let here = listener.local_addr().context("find the console's address")?;
    let command = vec![super::program()?.into(), "lab".into(), "forward".into(), address.to_string().into()];
    let scheme = found.lab.admin_tls.scheme();
    let link = format!("{scheme}://{here}/console#token={token}");
    // The reader of a pipe may have closed it after the first line.
    let _ = writeln!(std::io::stdout(), "{link}\nthe console of lab `{name}`, until Ctrl-C; the link has its token");
    let entry = HostNamespaces::open(&found.first, &found.lab, Host::Gateway)?;
    enter::run(&entry, Job { input: Some(listener.into()), ..job(&found, Host::Gateway, command)? })
}

pub(super) fn list(as_json: bool) -> Result<(), LabError> {
    print!("{}", list::labs()?.text(as_json)?);
    Ok(())
}

pub(super) fn status(name: Option<&str>, json: bool) -> Result<ExitCode, LabError> {
    let names = match name {
        Some(name) => vec![check_name(name)?.to_owned()],
        None => record::names()?,
    };
    let mut all_well = true;
    let mut views = Vec::new();
    for name in &names {
        let dir = record::dir_of(name)?;
        let view = status::LabView::of(name, &dir);
        if view.is_none() && names.len() == 1 {
            return Err(LabError::NotUp { name: name.clone(), flag: flag(name) });
        }
        all_well &= view.as_ref().is_some_and(|view| view.problem.is_none());
        views.extend(view);
    }
    print!("{}", if json { status::json(&views)? } else { status::table(&views) });
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn cut(name: &str, zone: &str, dead: bool) -> Result<(), LabError> {
    let found = find(name)?;
    let lab = &found.lab;
    let (endpoints, nodes) = (lab.zones.get(zone), lab.nodes.get(zone));
    if endpoints.or(nodes).is_none() {
        let known: BTreeSet<&str> = lab.zones.keys().chain(lab.nodes.keys()).map(String::as_str).collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(LabError::NoZone { zone: zone.to_owned(), known });
    }
    let (endpoints, nodes) = (endpoints.map_or(&[][..], Vec::as_slice), nodes.map_or(&[][..], Vec::as_slice));
    let mut zones = outages::read(&found.dir.join(CUT_FILE));
    zones.retain(|other| other != zone);
    if dead {
        zones.push(zone.to_owned());
    }
    outages::write(&found.dir, &zones)?;

    let (router, service) = (
        HostNamespaces::open(&found.first, lab, Host::Router)?,
        HostNamespaces::open(&found.first, lab, Host::Service)?,
    );
    router.enter_network()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(links::cut(Host::Router, router.network(), endpoints, dead))?;
    runtime.block_on(links::cut(Host::Service, service.network(), nodes, dead))?;
    let list = endpoints.iter().chain(nodes).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if dead {
        println!("zone {zone} is cut: packets to and from {list} vanish; `plgw lab heal {zone}{}` ends it", flag(name));
    } else {
        println!("zone {zone} is healed: {list} answer again");
    }
    Ok(())
}

pub(super) fn network(dir: &Path, host: Host) -> Result<fs::File, LabError> {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let found = running_lab(&name, dir.to_owned())?;
    Ok(HostNamespaces::open(&found.first, &found.lab, host)?.into_network())
}

/// A running lab.
struct RunningLab {
    name: String,
    dir: PathBuf,
    first: InitProcess,
    lab: LabRecord,
}

fn find(name: &str) -> Result<RunningLab, LabError> {
    running_lab(name, record::dir_of(check_name(name)?)?)
}

/// The running lab `name` with the directory `dir`; an error if it is not up or can't be reached from here.
fn running_lab(name: &str, dir: PathBuf) -> Result<RunningLab, LabError> {
    let not_up = || LabError::NotUp { name: name.to_owned(), flag: flag(name) };
    let first = InitProcess::read(&dir).ok_or_else(not_up)?;
    match first.state_from_here(&dir) {
        InitState::Runs | InitState::ContainsThisProcess => {
            let lab = LabRecord::read(&dir).ok_or_else(not_up)?;
            Ok(RunningLab { name: name.to_owned(), dir, first, lab })
        }
        InitState::Unseen => Err(LabError::Unseen { name: name.to_owned() }),
        InitState::Ended => Err(not_up()),
    }
}

fn check_name(name: &str) -> Result<&str, LabError> {
    if record::is_name(name) { Ok(name) } else { Err(LabError::BadName(name.to_owned())) }
}

/// The `--name` option for this lab in messages.
pub(super) fn flag(name: &str) -> String {
    if name == DEFAULT_NAME { String::new() } else { format!(" --name {name}") }
}
