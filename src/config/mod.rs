//! Parses text to a checked [`Config`]; reports every mistake at once, each with its location, its path and what to
//! write instead.
//!
//! `config/gateway.toml` explains every key at its default. In processing order: `raw` walks the tables, `value` parses
//! single values, `check` combines them and checks across tables.

mod check;
mod error;
mod positions;
mod raw;
mod settings;
mod value;

use std::io::Read;
use std::path::Path;

use raw::{ConfigLocation, Problems, Section};

use crate::model::Desired;

pub use error::{ConfigErrors, ConfigProblem};
pub use positions::Positions;
pub use settings::{
    AdminTls, AppServicesSettings, DEFAULT_ACCOUNT_ID, DEFAULT_ADMIN, DEFAULT_LAB_DIR, DnsSettings, EtcdSettings,
    FlowLogSettings, LimitSettings, LogDestination, LoggingSettings, RelaySettings, STATE_FILE, Settings,
    StateLocation, TrafficType, admin_may_listen,
};

/// The quickstart's config file, from `config/scenarios/`.
pub const QUICKSTART: &str = include_str!("../../config/scenarios/quickstart.toml");

/// The additions of Azure and Google Cloud to the quickstart and, with `10.` instead of `127.`, to the lab.
pub const CLOUDS: &str = include_str!("../../config/scenarios/clouds.toml");

/// A checked config. Its values were checked individually and against each other; the plan checks whether targets and
/// endpoints can be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The process' own settings.
    pub settings: Settings,
    /// The inventory: VPCs, endpoints, projects, apps, private hosted zones.
    pub desired: Desired,
    /// Notices about keys of earlier versions.
    pub notices: Vec<String>,
    /// The location of each object in the file.
    pub positions: Positions,
}

/// Reads and checks the file at `path`. Blocking.
///
/// # Errors
///
/// [`ConfigErrors`] with every mistake, or with one when the file cannot be read.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    read_bytes(std::fs::read(path), &path.display().to_string())
}

/// Reads and checks standard input until its end; errors call it `<stdin>`. Blocking.
///
/// # Errors
///
/// [`ConfigErrors`] with every mistake, or with one when it cannot be read.
pub fn load_stdin() -> Result<Config, ConfigErrors> {
    let mut bytes = Vec::new();
    read_bytes(std::io::stdin().read_to_end(&mut bytes).map(|_| bytes), "<stdin>")
}

fn read_bytes(bytes: std::io::Result<Vec<u8>>, file: &str) -> Result<Config, ConfigErrors> {
    let bytes = bytes.map_err(|error| ConfigErrors::whole(file, &format!("cannot read the file: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let start = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let problems = Problems::new(file, &start);
        problems.report(&ConfigLocation { path: String::new(), offset: start.len() }, "not UTF-8 text from here on");
        problems.into_errors().expect("one was just reported")
    })?;
    parse(&text, file)
}

/// Checks `text`; `file_name` is for errors.
///
/// # Errors
///
/// [`ConfigErrors`] with every mistake.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigErrors> {
    let problems = Problems::new(file_name, text);
    let config = read(text, &problems);
    match (config, problems.into_errors()) {
        (Some(config), None) => Ok(config),
        (_, Some(errors)) => Err(errors),
        (None, None) => Err(ConfigErrors::whole(file_name, "cannot be read as TOML")),
    }
}

/// The quickstart: everything on loopback, at the addresses in its documentation.
///
/// # Panics
///
/// Never: the file is compiled in, and a test parses it.
#[must_use]
pub fn quickstart() -> Config {
    parse(QUICKSTART, "config/scenarios/quickstart.toml").expect("a test reads the embedded quickstart file")
}

/// Parses `text`; mistakes are added to `problems`. `None` if it is not valid TOML.
fn read<'t>(text: &'t str, problems: &Problems<'t>) -> Option<Config> {
    let table = raw::parse_toml(text, problems)?;
    Some(Section::root(table.get_ref(), problems, check::check))
}

#[cfg(test)]
mod tests;
