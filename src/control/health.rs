//! Health checks: which members of target groups receive flows.
//!
//! [`Checker`] is the pure state machine of one member; [`HealthProber`] runs one for each member through a [`Probe`]
//! and reports changes only. Source: *Health checks for Network Load Balancer target groups*.

mod checker;
mod http;
mod probe;
mod prober;

use serde::{Serialize, Serializer};

pub use checker::{Checker, ProbeResult};
pub use http::HttpCheck;
pub use probe::{LOCAL_HEADER, Probe, ProbeTarget, TcpProbe};
pub use prober::{HealthEvent, HealthProber, MemberKey, ProbedMember};

/// The reason for a target's state; a healthy target has none. The names are the API's (`TargetHealth.Reason` of
/// `DescribeTargetHealth`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthReason {
    /// `initial`: the target is being registered.
    RegistrationInProgress,
    /// `initial`: the first checks are in progress.
    InitialHealthChecking,
    /// `unhealthy`: the threshold of consecutive failed checks was reached.
    FailedHealthChecks,
    /// `draining`: the target is being deregistered.
    DeregistrationInProgress,
    /// `unused`: the target is not registered.
    NotRegistered,
    /// `unused`: no listener forwards to the target group.
    NotInUse,
}

impl HealthReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::RegistrationInProgress,
        Self::InitialHealthChecking,
        Self::FailedHealthChecks,
        Self::DeregistrationInProgress,
        Self::NotRegistered,
        Self::NotInUse,
    ];

    /// The reason's code in the API.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::RegistrationInProgress => "Elb.RegistrationInProgress",
            Self::InitialHealthChecking => "Elb.InitialHealthChecking",
            Self::FailedHealthChecks => "Target.FailedHealthChecks",
            Self::DeregistrationInProgress => "Target.DeregistrationInProgress",
            Self::NotRegistered => "Target.NotRegistered",
            Self::NotInUse => "Target.NotInUse",
        }
    }

    /// A sentence, in substance that of the API's description.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::RegistrationInProgress => "Target registration is in progress",
            Self::InitialHealthChecking => "Initial health checks in progress",
            Self::FailedHealthChecks => "Health checks failed",
            Self::DeregistrationInProgress => "Target deregistration is in progress",
            Self::NotRegistered => "Target is not registered to the target group",
            Self::NotInUse => "Target group is not configured to receive traffic from the load balancer",
        }
    }
}

impl Serialize for HealthReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// Probes that never complete, so that only the test changes health.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct PendingProbe;

#[cfg(test)]
impl Probe for PendingProbe {
    fn probe(&self, _: ProbeTarget) -> futures_util::future::BoxFuture<'static, std::io::Result<()>> {
        Box::pin(std::future::pending())
    }
}
