//! What can go wrong with a lab, in words that say what to do.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::Host;

/// Why the lab did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// No namespaces for this user on this machine.
    #[error(
        "cannot make network namespaces: {reason}\n`plgw quickstart` needs none: it shows the same on loopback addresses"
    )]
    Forbidden {
        /// The setting that forbids it, and how it is changed.
        reason: String,
    },
    /// The config is broken.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigErrors),
    /// The config is good, but no lab can be made of it.
    #[error("no lab can be made of {file}: {reason}")]
    Unsuited {
        /// The config's file.
        file: String,
        /// What does not fit, and what would.
        reason: String,
    },
    /// A lab of this name runs.
    #[error("the lab `{name}` is up already (process {pid}); `plgw lab down{flag}` ends it, `--name` makes another")]
    AlreadyUp {
        /// Its name.
        name: String,
        /// Its first process.
        pid: i32,
        /// ` --name NAME` where the name is not the default.
        flag: String,
    },
    /// No lab of this name runs.
    #[error("the lab `{name}` is not up; `plgw lab up{flag}` builds it")]
    NotUp {
        /// Its name.
        name: String,
        /// ` --name NAME` where the name is not the default.
        flag: String,
    },
    /// A lab runs, but not where this process could reach it.
    #[error(
        "the lab `{name}` is up, but its processes cannot be seen from here: it was built in another PID namespace, as a \
         container has one, or /proc hides them; run this where `plgw lab up` ran, as the same user"
    )]
    Unseen {
        /// Its name.
        name: String,
    },
    /// The command makes no sense inside of a lab.
    #[error("you are in the lab `{name}`{host}; `exit` first, then `{command}`")]
    Inside {
        /// Its name.
        name: String,
        /// ` at HOST` where that is known.
        host: String,
        /// What was asked for.
        command: &'static str,
    },
    /// The lab's config turns its admin API off.
    #[error("the lab's gateway has no admin API: its config turns it off; remove `enabled = false` from `[admin]`")]
    NoAdmin,
    /// This lab has no such host.
    #[error("the lab has no host `{host}`: {reason}")]
    NoHost {
        /// The host.
        host: Host,
        /// Why it has none.
        reason: &'static str,
    },
    /// A name that cannot be a directory's.
    #[error("`{0}` is not a lab's name; use up to 32 letters, digits and dashes")]
    BadName(String),
    /// No endpoint has an address in this zone.
    #[error("no endpoint has an address in zone `{zone}`; the zones are {known}")]
    NoZone {
        /// What was asked for.
        zone: String,
        /// The zones that are.
        known: String,
    },
    /// The process has threads already, so that it cannot change its namespaces.
    #[error("cannot change namespaces: this process runs {0} threads and must run one")]
    Threads(usize),
    /// The lab's first process said why it could not build the lab, or died while it did.
    #[error("cannot build the lab: {0}")]
    Build(String),
    /// A request to the kernel's network configuration failed.
    #[error("cannot {what} in `{host}`")]
    Netlink {
        /// What was asked for.
        what: String,
        /// Where.
        host: Host,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// An interface that was just made is not there.
    #[error("cannot find the interface `{name}` in `{host}`")]
    NoInterface {
        /// Its name.
        name: String,
        /// Where.
        host: Host,
    },
    /// Two things of the config would hold one address.
    #[error("the address {0} is wanted twice in the lab")]
    AddressTwice(Ipv4Addr),
    /// Anything that the operating system refused.
    #[error("cannot {what}")]
    System {
        /// What was asked for.
        what: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A file of the lab cannot be used.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was asked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The command cannot be started.
    #[error("cannot run `{command}`")]
    Command {
        /// The command.
        command: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Adds to an operating system error what was being done.
pub(super) trait IoContext<T> {
    /// The same result, with `what` in front of its error.
    fn doing(self, what: impl Into<String>) -> Result<T, LabError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, LabError> {
        self.map_err(|error| LabError::System { what: what.into(), source: error.into() })
    }
}
