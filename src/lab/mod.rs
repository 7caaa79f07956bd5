//! The lab VPC: the network that the documentation draws, in network namespaces on one Linux machine.
//!
//! In reading order: [`LabCommand`] is `plgw lab …`; `actions` does what it asks; `topology` (pure) says what the network
//! of a config looks like, and `vendor_names` which names of the vendors' APIs its gateway answers to; `holder` is the lab's first process, which builds and holds it; `namespaces`, `links`,
//! `ipv6_links` and `files` configure the kernel; `record` is what a lab leaves on disk while it is up; `enter` runs commands in it; `process`
//! runs the gateway behind its `packet_filter`, the `stand_ins`, and the way to real `backends`; `outages` lets DNS notice a
//! cut zone. Nothing else in this crate reads this module.

mod actions;
mod admin;
mod backends;
mod command;
mod config;
mod enter;
mod error;
mod files;
mod holder;
mod host;
mod ipv6_links;
mod links;
mod list;
mod namespaces;
mod outages;
mod packet_filter;
mod permit;
mod process;
mod record;
mod stand_ins;
mod status;
mod topology;
mod vendor_names;

use std::path::{Path, PathBuf};

use crate::config::CLOUDS;

pub use admin::AdminApi;
pub use command::{Console, Cut, Down, Forward, Hold, LabCommand, LabName, List, ProcessOf, Run, Shell, Status, Up};
pub use error::LabError;
pub use host::Host;
pub use process::Process;
pub use record::{DEFAULT_NAME, DIR_VARIABLE};

/// What `plgw lab up` builds when no config is named, as it is in `config/scenarios/`.
pub const DEFAULT_CONFIG: &str = include_str!("../../config/scenarios/lab.toml");

/// The same with Azure and Google Cloud, whose addresses are the quickstart's with 10 in front.
fn config_with_clouds() -> String {
    [DEFAULT_CONFIG, "\n", &CLOUDS.replace("127.", "10.")].concat()
}

/// The gateway's config in the lab's directory.
const CONFIG_FILE: &str = "gateway.toml";

/// Zones that are cut, in the lab's directory.
const CUT_FILE: &str = "cut.json";

/// Names the host that a command runs on, in its environment.
pub const HOST_VARIABLE: &str = "PLGW_HOST";

/// Enters the network of the lab `name`'s gateway, and returns what a client of its admin API needs there. To be called
/// while the process has one thread.
///
/// # Errors
///
/// [`LabError::NotUp`], [`LabError::Unseen`], [`LabError::NoAdmin`], and what the system says.
pub fn enter_admin(name: &str) -> Result<AdminApi, LabError> {
    actions::enter_admin(name)
}

/// The network namespace of a host in the lab whose directory is `dir`: a thread that enters it has the host's
/// addresses and routes.
///
/// # Errors
///
/// [`LabError::NotUp`] and [`LabError::NoHost`].
pub fn network(dir: &Path, host: Host) -> Result<std::fs::File, LabError> {
    actions::network(dir, host)
}

/// This program: the lab's processes are it again.
fn program() -> Result<PathBuf, LabError> {
    std::env::current_exe().map_err(|source| LabError::System { what: "find this program's file".to_owned(), source })
}
