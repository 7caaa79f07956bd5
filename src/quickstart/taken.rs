//! Checks that every address of the quickstart is free before anything is started.

use std::net::SocketAddr;

use super::standins;
use crate::config::Config;
use crate::lifecycle::{BindError, BindProblem, bind_tcp, bind_udp};
use crate::plan::Snapshot;

/// The option that changes the addresses of the scenario.
const SHIFT: &str = "`--shift N` (it moves every address of the quickstart; take 10, 20, …)";

/// The option that changes the addresses of the user's own config.
const OWN: &str = "another address in the config";

/// The flags that change the gateway's own addresses.
pub(super) const FLAGS: crate::app::AddressFlags = crate::app::AddressFlags {
    dns: "`--dns ADDRESS:PORT`",
    metrics: "`--metrics ADDRESS:PORT`",
    admin: "`--admin ADDRESS:PORT`",
};

/// An address that is not available, with the flag that changes it, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{first}{}", and_others(*.others))]
pub struct AddressesInUse {
    /// The first error.
    first: BindError,
    /// The number of further errors.
    others: usize,
}

fn and_others(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => "; one more of its addresses is taken".to_owned(),
        n => format!("; {n} more of its addresses are taken"),
    }
}

impl AddressesInUse {
    /// Whether the address is in use.
    pub(super) fn is_in_use(&self) -> bool {
        self.first.problem == BindProblem::InUse
    }
}

/// Tries to bind every address.
///
/// The scenario's addresses come first: if they are in use, another quickstart runs, and the whole scenario has to be
/// shifted.
///
/// # Errors
///
/// [`AddressesInUse`].
pub(super) fn all_are_free(config: &Config, is_own: bool, planned: &Snapshot) -> Result<(), Box<AddressesInUse>> {
    let of_inventory = if is_own { OWN } else { SHIFT };
    let tcp = |address, what: &str, flag: &str| bind_tcp(address, what, flag).err();
    let mut errors: Vec<BindError> = Vec::new();
    for listener in planned.listeners.values() {
        errors.extend(tcp(listener.address, &format!("the listener of {}", listener.group.target), of_inventory));
    }
    for listener in planned.apps.listeners.values() {
        errors.extend(tcp(listener.address, "the App Services front end", of_inventory));
    }
    for (address, what) in standins::addresses(&config.desired) {
        errors.extend(tcp(address, &what, of_inventory));
    }
    for address in config.settings.dns.iter().flat_map(|dns| &dns.listen) {
        let udp = bind_udp(*address, "the DNS server", FLAGS.dns).err();
        errors.extend(udp.or_else(|| tcp(*address, "the DNS server", FLAGS.dns)));
    }
    let of = |address: Option<SocketAddr>, what, flag| address.and_then(|address| tcp(address, what, flag));
    errors.extend(of(config.settings.metrics, "the metrics exporter", FLAGS.metrics));
    errors.extend(of(config.settings.admin, "the admin API", FLAGS.admin));
    let others = errors.len().saturating_sub(1);
    match errors.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Box::new(AddressesInUse { first, others })),
    }
}
