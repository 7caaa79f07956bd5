//! Health checks: which members of target groups receive flows.
//!
//! [`Checker`] is the pure state machine of one member; [`HealthProber`] runs one for each member through a [`Probe`]
//! and reports changes only. Source: *Health checks for Network Load Balancer target groups*.

mod checker;
mod http;
mod probe;
mod prober;

pub use checker::{Checker, ProbeResult};
pub use http::HttpCheck;
pub use probe::{LOCAL_HEADER, Probe, ProbeTarget, TcpProbe};
pub use prober::{HealthEvent, HealthProber, MemberKey, ProbedMember};

/// The reason for a target's state; a healthy target has none. The names are the API's (`TargetHealth.Reason` of
/// `DescribeTargetHealth`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthReason {
    /// `initial`: the first checks are in progress.
    InitialHealthChecking,
    /// `unhealthy`: the threshold of consecutive failed checks was reached.
    FailedHealthChecks,
    /// `draining`: the target is being deregistered.
    DeregistrationInProgress,
    /// `unused`: no listener forwards to the target group.
    NotInUse,
}

impl HealthReason {
    /// The reason's code in the API.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::InitialHealthChecking => "Elb.InitialHealthChecking",
            Self::FailedHealthChecks => "Target.FailedHealthChecks",
            Self::DeregistrationInProgress => "Target.DeregistrationInProgress",
            Self::NotInUse => "Target.NotInUse",
        }
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
