//! Errors of the lab.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::Host;

/// Why a lab command failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// This user can't create namespaces on this machine.
    #[error(
        "cannot make network namespaces: {reason}\n`plgw quickstart` needs none: it shows the same on loopback addresses"
    )]
    Forbidden {
        /// The setting that forbids it, and how to change it.
        reason: String,
    },
    /// The config is invalid.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigErrors),
    /// The config is valid, but does not describe a lab.
    #[error("cannot build a lab from {file}: {reason}")]
    Unsuited {
        /// The config's file.
        file: String,
        /// The unsupported setting and the supported ones.
        reason: String,
    },
    /// A lab of this name is running.
    #[error("the lab `{name}` is up already (process {pid}); `plgw lab down{flag}` ends it, `--name` makes another")]
    AlreadyUp {
        /// Its name.
        name: String,
        /// Its first process.
        pid: i32,
        /// ` --name NAME` unless the name is the default.
        flag: String,
    },
    /// No lab of this name is running.
    #[error("the lab `{name}` is not up; `plgw lab up{flag}` builds it")]
    NotUp {
        /// Its name.
        name: String,
        /// ` --name NAME` unless the name is the default.
        flag: String,
    },
    /// A lab is running, but can't be reached from this process.
    #[error(
        "the lab `{name}` is up, but its processes cannot be seen from here: it was built in another PID namespace, as a \
         container has one, or /proc hides them; run this where `plgw lab up` ran, as the same user"
    )]
    Unseen {
        /// Its name.
        name: String,
    },
    /// The command can't be used inside a lab.
    #[error("you are in the lab `{name}`{host}; `exit` first, then `{command}`")]
    Inside {
        /// Its name.
        name: String,
        /// ` at HOST` if that is known.
        host: String,
        /// The requested command.
        command: &'static str,
    },
    /// The lab's config disables the admin API.
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
    /// A name that can't be a directory's.
    #[error("`{0}` is not a lab's name; use up to 32 letters, digits and dashes")]
    BadName(String),
    /// No endpoint has an address in this zone.
    #[error("no endpoint has an address in zone `{zone}`; the zones are {known}")]
    NoZone {
        /// The requested zone.
        zone: String,
        /// The existing zones.
        known: String,
    },
    /// The process has several threads, so it can't change its namespaces.
    #[error("cannot change namespaces: this process runs {0} threads and must run one")]
    Threads(usize),
    /// The lab's first process reported an error, or died.
    #[error("cannot build the lab: {0}")]
    Build(String),
    /// A request to the kernel's network configuration failed.
    #[error("cannot {what} in `{host}`")]
    Netlink {
        /// The operation.
        what: String,
        /// The host.
        host: Host,
        /// The kernel's error.
        #[source]
        source: rtnetlink::Error,
    },
    /// An interface that was just created does not exist.
    #[error("cannot find the interface `{name}` in `{host}`")]
    NoInterface {
        /// Its name.
        name: String,
        /// The host.
        host: Host,
    },
    /// Two objects of the config would have one address.
    #[error("the address {0} is wanted twice in the lab")]
    AddressTwice(Ipv4Addr),
    /// An error of the operating system.
    #[error("cannot {what}")]
    System {
        /// The operation.
        what: String,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// An error with a file of the lab.
    #[error("cannot {what} {}", path.display())]
    File {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The command can't be started.
    #[error("cannot run `{command}`")]
    Command {
        /// The command.
        command: String,
        /// The error.
        #[source]
        source: io::Error,
    },
}

/// Adds the operation to an operating system error.
pub(super) trait IoContext<T> {
    /// Adds `what` to the error.
    fn context(self, what: impl Into<String>) -> Result<T, LabError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T, LabError> {
        self.map_err(|error| LabError::System { what: what.into(), source: error.into() })
    }
}
