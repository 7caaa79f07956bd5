//! What the commands do.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use super::backends::{self, Backend};
use super::enter::{self, Door, Job};
use super::error::Doing;
use super::record::{self, DEFAULT_NAME, First, Lab, Labs};
use super::{
    CONFIG_FILE, CUT_FILE, DEFAULT_CONFIG, LabError, Part, Place, config, holder, links, namespaces, outages, status,
    topology,
};

/// What the default config is called in messages.
const DEFAULT_FILE: &str = "config/scenarios/lab.toml (built in)";

pub(super) fn up(name: &str, file: Option<&Path>, stand_ins: bool) -> Result<(), LabError> {
    check_name(name)?;
    let (text, asked) = match file {
        None => (DEFAULT_CONFIG.to_owned(), DEFAULT_FILE.to_owned()),
        Some(path) => {
            // Read once more as text: the gateway gets it with the lab's own addresses.
            crate::config::load(path)?;
            let text = fs::read_to_string(path);
            let text = text.map_err(|source| LabError::File { what: "read", path: path.to_owned(), source })?;
            (text, path.display().to_string())
        }
    };
    let desired = crate::config::parse(&text, &asked)?.desired;
    let (text, backends) = config::relocated(&text, &asked, &desired)?;
    let topology = topology::topology(&crate::config::parse(&text, &asked)?.desired, &asked)?;
    let plan = Plan { text, asked, topology, backends, stand_ins: file.is_none() || stand_ins };

    let labs = Labs::lock()?;
    let dir = labs.dir_of(name);
    if let Some(first) = First::read(&dir).filter(First::is_alive) {
        // A lab that lost a process it needs has died: it is cleaned up like any other.
        match Lab::read(&dir) {
            Some(lab) if lab.dead_process().is_none() => {
                return Err(LabError::AlreadyUp { name: name.to_owned(), pid: first.pid, flag: flag(name) });
            }
            _ => first.kill()?,
        }
    }
    labs.remove(name)?;
    labs.make(name)?;
    if let Err(error) = build(&dir, &plan) {
        if let Some(first) = First::read(&dir) {
            first.kill()?;
        }
        labs.remove(name)?;
        labs.remove_if_empty();
        return Err(error);
    }
    print!("{}", status::stands(name, &dir)?);
    Ok(())
}

/// A lab that is to be built.
struct Plan {
    /// The config.
    text: String,
    /// What it is called.
    asked: String,
    topology: topology::Topology,
    backends: Vec<Backend>,
    /// Whether stand-ins take the backends' places.
    stand_ins: bool,
}

/// Starts the lab's first process and waits until the lab stands.
fn build(dir: &Path, plan: &Plan) -> Result<(), LabError> {
    let here = env::current_dir().doing("find the current directory")?;
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|source| LabError::File { what: "write", path, source })
    };
    write(CONFIG_FILE, config::effective(&plan.text, &plan.asked, &plan.topology, dir, &here)?)?;
    write(backends::FILE, serde_json::to_string_pretty(&plan.backends).expect("addresses are JSON"))?;
    let log_path = dir.join("lab.log");
    let log = fs::File::create(&log_path);
    let log = log.map_err(|source| LabError::File { what: "make", path: log_path, source })?;

    let program = super::program()?;
    let user_namespace = namespaces::prepare()?;
    let mut command = Command::new(program);
    command.args(["lab", "hold"]).arg(dir).arg("--asked").arg(&plan.asked);
    for part in [if plan.stand_ins { Part::StandIns } else { Part::Backends }, Part::Gateway] {
        command.args(["--part", part.name()]);
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child =
        command.spawn().map_err(|source| LabError::Command { command: "plgw lab hold".to_owned(), source })?;
    let pid = i32::try_from(child.id()).expect("a process' number is positive and fits");
    First::of(pid, user_namespace)?.write(dir)?;
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut said).doing("hear from the lab's first process")?;
    }
    if said == holder::STANDS {
        return Ok(());
    }
    let why = if said.is_empty() { fs::read_to_string(dir.join("lab.log")).unwrap_or_default() } else { said };
    Err(LabError::Build(why.trim().to_owned()))
}

pub(super) fn down(name: &str) -> Result<(), LabError> {
    check_name(name)?;
    let labs = Labs::lock()?;
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
    let labs = Labs::lock()?;
    for name in record::names()? {
        end(&labs, &name)?;
    }
    labs.remove_if_empty();
    Ok(())
}

fn end(labs: &Labs, name: &str) -> Result<(), LabError> {
    if let Some(first) = First::read(&labs.dir_of(name)) {
        first.kill()?;
    }
    labs.remove(name)?;
    println!("lab `{name}` is down");
    Ok(())
}

pub(super) fn run(name: &str, place: Place, command: Vec<OsString>) -> Result<ExitCode, LabError> {
    let (dir, first, lab) = find(name)?;
    let door = Door::open(&first, &lab, place)?;
    enter::run(&door, &Job { command, name: name.to_owned(), place, ca: ca(&dir) })
}

pub(super) fn shell(name: &str, place: Place) -> Result<ExitCode, LabError> {
    let (dir, first, lab) = find(name)?;
    let door = Door::open(&first, &lab, place)?;
    let command = enter::shell(&dir, place)?;
    print!("{}", status::welcome(place, &lab));
    enter::run(&door, &Job { command, name: name.to_owned(), place, ca: ca(&dir) })
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
        let view = status::View::of(name, &dir);
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
    let (dir, first, lab) = find(name)?;
    let (endpoints, nodes) = (lab.zones.get(zone), lab.nodes.get(zone));
    if endpoints.or(nodes).is_none() {
        let known: BTreeSet<&str> = lab.zones.keys().chain(lab.nodes.keys()).map(String::as_str).collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(LabError::NoZone { zone: zone.to_owned(), known });
    }
    let (endpoints, nodes) = (endpoints.map_or(&[][..], Vec::as_slice), nodes.map_or(&[][..], Vec::as_slice));
    let mut zones = outages::read(&dir.join(CUT_FILE));
    zones.retain(|other| other != zone);
    if dead {
        zones.push(zone.to_owned());
    }
    outages::write(&dir, &zones)?;

    let (router, service) = (Door::open(&first, &lab, Place::Router)?, Door::open(&first, &lab, Place::Service)?);
    router.enter_network()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start a runtime")?;
    runtime.block_on(links::cut(Place::Router, router.network(), endpoints, dead))?;
    runtime.block_on(links::cut(Place::Service, service.network(), nodes, dead))?;
    let list = endpoints.iter().chain(nodes).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if dead {
        println!("zone {zone} is cut: packets to and from {list} vanish; `plgw lab heal {zone}{}` ends it", flag(name));
    } else {
        println!("zone {zone} is healed: {list} answer again");
    }
    Ok(())
}

pub(super) fn network(dir: &Path, place: Place) -> Result<fs::File, LabError> {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (first, lab) = standing(&name, dir)?;
    Ok(Door::open(&first, &lab, place)?.into_network())
}

/// The lab's CA certificate.
pub(super) fn ca(dir: &Path) -> PathBuf {
    let loaded = crate::config::load(&dir.join(CONFIG_FILE));
    loaded.map_or_else(|_| dir.to_owned(), |config| config.settings.lab_dir).join("ca.pem")
}

fn find(name: &str) -> Result<(PathBuf, First, Lab), LabError> {
    let dir = record::dir_of(check_name(name)?)?;
    let (first, lab) = standing(name, &dir)?;
    Ok((dir, first, lab))
}

/// The lab `name`, whose directory is `dir`, when it stands.
fn standing(name: &str, dir: &Path) -> Result<(First, Lab), LabError> {
    let found = First::read(dir).filter(First::is_alive).zip(Lab::read(dir));
    found.ok_or_else(|| LabError::NotUp { name: name.to_owned(), flag: flag(name) })
}

fn check_name(name: &str) -> Result<&str, LabError> {
    if record::is_name(name) { Ok(name) } else { Err(LabError::BadName(name.to_owned())) }
}

/// What else to write on the command line for this lab.
pub(super) fn flag(name: &str) -> String {
    if name == DEFAULT_NAME { String::new() } else { format!(" --name {name}") }
}
