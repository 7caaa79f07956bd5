//! Failures of commands, with their exit codes.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::app::StartError;
use crate::config::ConfigErrors;
use crate::control::store::OpenError;
use crate::control::{ChangeError, SavedError, chain};
use crate::dns::DnsError;
use crate::lab::LabError;
use crate::lifecycle::BindError;
use crate::plan::PlanErrors;
use crate::standin::StandinError;
use crate::telemetry::LogError;
use crate::tls::TlsError;

/// The kind of a failure, which sets the exit code. 2 is clap's, for an invalid command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// A check or an operation failed: 1.
    Failed,
    /// A file of the program is damaged: 65, `EX_DATAERR`.
    Data,
    /// An address or a file is in use or not available: 69, `EX_UNAVAILABLE`.
    Unavailable,
    /// The system refuses a thread, a signal handler or standard output: 71, `EX_OSERR`.
    System,
    /// The config is invalid: 78, `EX_CONFIG`.
    Config,
}

impl FailureKind {
    /// The exit code, from `sysexits.h` where it has one.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Data => 65,
            Self::Unavailable => 69,
            Self::System => 71,
            Self::Config => 78,
        }
    }
}

impl From<FailureKind> for ExitCode {
    fn from(kind: FailureKind) -> Self {
        Self::from(kind.code())
    }
}

/// Why a command failed: one line with its causes, or one line for each mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    message: String,
}

impl Failure {
    /// A failure of this kind with a message.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A failure of this kind, with its causes.
    fn of(kind: FailureKind, error: &dyn std::error::Error) -> Self {
        Self::new(kind, chain(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(FailureKind::Config, errors.to_string())
    }
}

impl From<PlanErrors> for Failure {
    fn from(errors: PlanErrors) -> Self {
        Self::new(FailureKind::Config, errors.to_string())
    }
}

/// Converts errors that always have the same kind.
macro_rules! always {
    ($($error:ty: $kind:ident),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::of(FailureKind::$kind, &error)
            }
        }
    )*};
}

always!(BindError: Unavailable, StandinError: Unavailable, TlsError: Unavailable, LogError: Config, io::Error: System);

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let kind = match error {
            OpenError::Locked { .. } | OpenError::Io { .. } | OpenError::Etcd { .. } => FailureKind::Unavailable,
            OpenError::Refused { .. } => FailureKind::Data,
            OpenError::NoEtcd => FailureKind::Config,
        };
        Self::of(kind, &error)
    }
}

impl From<SavedError> for Failure {
    fn from(error: SavedError) -> Self {
        let kind = match error {
            SavedError::Store(_) | SavedError::NotFollowed { .. } => FailureKind::Unavailable,
            SavedError::Value { .. } | SavedError::Unusable(_) => FailureKind::Data,
            SavedError::Taken { .. } => FailureKind::Unavailable,
            SavedError::TooManyKeys { .. } => FailureKind::Failed,
        };
        Self::of(kind, &error)
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        let kind = match error {
            ChangeError::Save(error) => return error.into(),
            ChangeError::Plan(_) | ChangeError::Config(_) => FailureKind::Config,
            ChangeError::Bind(_) | ChangeError::Stopping => FailureKind::Unavailable,
            ChangeError::Edit(_) | ChangeError::Refused(..) => FailureKind::Failed,
        };
        Self::of(kind, &error)
    }
}

impl From<DnsError> for Failure {
    fn from(error: DnsError) -> Self {
        let kind = match error {
            DnsError::Bind { .. } | DnsError::Stopped(_) => FailureKind::Unavailable,
            DnsError::ForwardsToItself(_) => FailureKind::Config,
            DnsError::UnknownVpc { .. } => FailureKind::Failed,
        };
        Self::of(kind, &error)
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        let kind = match error {
            LabError::Config(_) | LabError::Unsuited { .. } | LabError::AddressTwice(_) => FailureKind::Config,
            LabError::Forbidden { .. } | LabError::System { .. } | LabError::Netlink { .. } => FailureKind::System,
            LabError::AlreadyUp { .. } | LabError::File { .. } => FailureKind::Unavailable,
            _ => FailureKind::Failed,
        };
        Self::of(kind, &error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Bind(error) => error.into(),
            StartError::Dns(error) => error.into(),
            StartError::State(error) => error.into(),
            StartError::Change(error) => error.into(),
            StartError::Exposed(_) | StartError::Certificate(_) => Self::of(FailureKind::Config, &error),
            StartError::FlowLog(_) => Self::of(FailureKind::Unavailable, &error),
            StartError::Threads(_) => Self::of(FailureKind::System, &error),
        }
    }
}
