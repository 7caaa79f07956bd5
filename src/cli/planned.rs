//! Plans a config file without starting anything, for read-only commands.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::Failure;
use crate::app::open_store;
use crate::config::{self, Config, Positions, StateLocation};
use crate::control;
use crate::control::store::FileStore;
use crate::plan::{Generation, Location, PlanError, PlanErrors, PortAllocations, Snapshot, compile};

/// A config, and the snapshot that a gateway would start with.
#[derive(Debug)]
pub(super) struct PlannedConfig {
    /// The config.
    pub(super) config: Config,
    /// The snapshot.
    pub(super) snapshot: Snapshot,
    /// The source of the assigned ports.
    pub(super) state: StateSource,
}

/// The source of the assigned ports and indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StateSource {
    /// The state file, which is only read, even if it is in use.
    File(PathBuf),
    /// There is no state file yet: every target gets a new port.
    NoFile(PathBuf),
    /// The config keeps its state in memory.
    Memory,
    /// These members of etcd.
    Etcd(Vec<String>),
}

impl fmt::Display for StateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "ports that are held are taken from {} (only read)", path.display()),
            Self::NoFile(path) => write!(f, "{} does not exist yet, so every target gets a new port", path.display()),
            Self::Etcd(endpoints) => {
                write!(f, "ports that are held are taken from etcd at {} (only read)", endpoints.join(", "))
            }
            Self::Memory => f.write_str("the state is kept in memory, so every target gets a new port"),
        }
    }
}

/// Reads the config at `path` (`-`: standard input), and plans it on top of its state file, or of the one at `state`.
pub(super) fn load(path: &Path, state: Option<&Path>) -> Result<PlannedConfig, Failure> {
    let mut config = if path == Path::new("-") { config::load_stdin()? } else { config::load(path)? };
    config.desired.own_addresses = config.settings.own_addresses();
    config.desired.own_names = config.settings.own_names();
    let location = state.map_or(config.settings.state.clone(), |path| StateLocation::File(path.to_owned()));
    let (held, state) = held(location)?;
    let (snapshot, _) =
        compile(&config.desired, &held, Generation(1)).map_err(|errors| in_file(path, &config.positions, &errors))?;
    Ok(PlannedConfig { config, snapshot, state })
}

fn held(location: StateLocation) -> Result<(PortAllocations, StateSource), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match location {
        StateLocation::Memory => Ok((PortAllocations::default(), StateSource::Memory)),
        StateLocation::File(path) => match FileStore::peek_blocking(&path)? {
            Some(store) => Ok((runtime.block_on(control::held(Arc::new(store)))?, StateSource::File(path))),
            None => Ok((PortAllocations::default(), StateSource::NoFile(path))),
        },
        StateLocation::Etcd(ref settings) => {
            let store = runtime.block_on(open_store(&location))?;
            Ok((runtime.block_on(control::held(store))?, StateSource::Etcd(settings.endpoints.clone())))
        }
    }
}

/// The plan's errors in the format of config errors.
pub(super) fn in_file(path: &Path, positions: &Positions, errors: &PlanErrors) -> Failure {
    let file = if path == Path::new("-") { "<stdin>".to_owned() } else { path.display().to_string() };
    let errors = errors.as_slice();
    let plural = if errors.len() == 1 { "" } else { "s" };
    let line = |error: &PlanError| match position(positions, &error.location) {
        Some((line, column)) => format!("\n  {file}:{line}:{column}: {error}"),
        None => format!("\n  {error}"),
    };
    let lines: String = errors.iter().map(line).collect();
    Failure::new(super::FailureKind::Config, format!("{file}: {} problem{plural}{lines}", errors.len()))
}

/// Line and column of an error's location.
fn position(positions: &Positions, location: &Location) -> Option<(usize, usize)> {
    positions.get(&match location {
        Location::Vpc(id) => id.to_string(),
        Location::Endpoint(id) => id.to_string(),
        Location::Project(id) => id.to_string(),
        Location::Cluster(project, name) => format!("{project}/{name}"),
        Location::Service(id) => id.to_string(),
        Location::App(id) => id.to_string(),
        Location::PrivateZone(name) => name.to_string(),
        Location::OwnName(name) => format!("admin.names/{name}"),
    })
}
