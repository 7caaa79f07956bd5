//! Health checks: which members of which target groups take flows.
//!
//! [`Checker`] is the pure state machine of one member; [`HealthProber`] runs one for every member that it is given,
//! through a [`Probe`], and reports changes alone. Source: *Health checks for Network Load Balancer target groups*.

mod checker;
mod http;
mod probe;
mod prober;

use serde::{Serialize, Serializer};

pub use checker::{Checker, ProbeResult};
pub use http::HttpQuestion;
pub use probe::{LOCAL_HEADER, Probe, ProbeTarget, TcpProbe};
pub use prober::{HealthEvent, HealthProber, MemberKey, ProbedMember};

/// Why a target is in the state it is in; a healthy one has no reason. The names are the API's
/// (`TargetHealth.Reason` of `DescribeTargetHealth`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthReason {
    /// `initial`: the target is being registered.
    RegistrationInProgress,
    /// `initial`: the first checks are under way.
    InitialHealthChecking,
    /// `unhealthy`: as many checks in a row failed as the threshold says.
    FailedHealthChecks,
    /// `draining`: the target is being deregistered.
    DeregistrationInProgress,
    /// `unused`: the target is not registered.
    NotRegistered,
    /// `unused`: no listener leads to the target group.
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

    /// The reason in words, as the API's description has it in substance.
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

/// Probes never complete, so that only the test changes health.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct PendingProbe;

#[cfg(test)]
impl Probe for PendingProbe {
    fn probe(&self, _: ProbeTarget) -> futures_util::future::BoxFuture<'static, std::io::Result<()>> {
        Box::pin(std::future::pending())
    }
}
