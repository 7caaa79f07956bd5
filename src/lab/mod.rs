//! The lab VPC: the network of MongoDB's documentation, in network namespaces on one Linux machine.
//!
//! In reading order: [`LabCommand`] is `plgw lab …`; `actions` implements it; `topology` (pure) computes the network of
//! a config, and `vendor_names` the names of the vendors' APIs that its gateway serves; `holder` is the lab's first
//! process, which builds and holds it; `namespaces`, `links`, `ipv6_links` and `files` configure the kernel; `record`
//! stores what exists of a running lab; `enter` runs commands in it; `process` runs the gateway behind its
//! `packet_filter`, the `stand_ins`, and the proxy to real `backends`; `outages` reports cut zones to DNS.

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
pub use command::{LabCommand, LabName, ListFormat, ZoneArgs};
pub use error::LabError;
pub use host::Host;
pub use process::Process;
pub use record::{DEFAULT_NAME, DIR_VARIABLE};

/// The default config of `plgw lab up`, from `config/scenarios/`.
pub const DEFAULT_CONFIG: &str = include_str!("../../config/scenarios/lab.toml");

/// The same with Azure and Google Cloud, whose addresses are the quickstart's with 10 as the first octet.
fn config_with_clouds() -> String {
    [DEFAULT_CONFIG, "\n", &CLOUDS.replace("127.", "10.")].concat()
}

/// The gateway's config in the lab's directory.
const CONFIG_FILE: &str = "gateway.toml";

/// The list of cut zones, in the lab's directory.
const CUT_FILE: &str = "cut.json";

/// The environment variable with the host on which a command runs.
pub const HOST_VARIABLE: &str = "PLGW_HOST";

/// Enters the network of the lab `name`'s gateway, and returns the access to its admin API. To be called while the
/// process is single-threaded.
///
/// # Errors
///
/// [`LabError::NotUp`], [`LabError::Unseen`], [`LabError::NoAdmin`], and the system's errors.
pub fn enter_admin(name: &str) -> Result<AdminApi, LabError> {
    actions::enter_admin(name)
}

/// The network namespace of a host in the lab with the directory `dir`: a thread that enters it has the host's
/// addresses and routes.
///
/// # Errors
///
/// [`LabError::NotUp`] and [`LabError::NoHost`].
pub fn network(dir: &Path, host: Host) -> Result<std::fs::File, LabError> {
    actions::network(dir, host)
}

/// The path of this program, which the lab's processes run too.
fn program() -> Result<PathBuf, LabError> {
    std::env::current_exe().map_err(|source| LabError::System { what: "find this program's file".to_owned(), source })
}
