//! The health state of one member, from the results of its checks. Pure: no clock, no socket.

use super::HealthReason;
use crate::model::{HealthCheck, TargetState};

/// The result of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    /// The member answered.
    Pass,
    /// It did not answer in time, or wrongly.
    Fail,
}

/// The health of one member: `initial`, `healthy` or `unhealthy`.
///
/// A new member is healthy after its first pass, whatever the threshold. Every later change takes the threshold's
/// number of consecutive equal results; one different result resets the count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checker {
    healthy_threshold: u8,
    unhealthy_threshold: u8,
    state: TargetState,
    /// Consecutive results that contradict `state`.
    against: u8,
}

impl Checker {
    /// A newly registered member.
    #[must_use]
    pub fn new(check: &HealthCheck) -> Self {
        Self {
            healthy_threshold: check.healthy_threshold,
            unhealthy_threshold: check.unhealthy_threshold,
            state: TargetState::Initial,
            against: 0,
        }
    }

    /// Changes the thresholds; the state and the count stay.
    pub fn set_thresholds(&mut self, check: &HealthCheck) {
        self.healthy_threshold = check.healthy_threshold;
        self.unhealthy_threshold = check.unhealthy_threshold;
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> TargetState {
        self.state
    }

    /// The reason for the state.
    #[must_use]
    pub fn reason(&self) -> Option<HealthReason> {
        match self.state {
            TargetState::Initial => Some(HealthReason::InitialHealthChecking),
            TargetState::Unhealthy | TargetState::UnhealthyDraining => Some(HealthReason::FailedHealthChecks),
            TargetState::Draining => Some(HealthReason::DeregistrationInProgress),
            TargetState::Unused => Some(HealthReason::NotInUse),
            TargetState::Healthy => None,
        }
    }

    /// Applies one result; returns the new state when it changes.
    pub fn observe(&mut self, verdict: ProbeResult) -> Option<TargetState> {
        let (next, needed) = match (self.state, verdict) {
            (TargetState::Initial, ProbeResult::Pass) => (TargetState::Healthy, 1),
            (TargetState::Unhealthy, ProbeResult::Pass) => (TargetState::Healthy, self.healthy_threshold),
            (TargetState::Initial | TargetState::Healthy, ProbeResult::Fail) => {
                (TargetState::Unhealthy, self.unhealthy_threshold)
            }
            (TargetState::Healthy, ProbeResult::Pass) | (TargetState::Unhealthy, ProbeResult::Fail) => {
                self.against = 0;
                return None;
            }
            // The owner times the draining interval; here such a member is unhealthy.
            (TargetState::Draining | TargetState::Unused | TargetState::UnhealthyDraining, _) => return None,
        };
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return None;
        }
        self.state = next;
        self.against = 0;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ProbeResult::{Fail, Pass};
    use super::*;

    fn checker(healthy_threshold: u8, unhealthy_threshold: u8) -> Checker {
        Checker::new(&HealthCheck { healthy_threshold, unhealthy_threshold, ..HealthCheck::default() })
    }

    fn states(checker: &mut Checker, verdicts: &[ProbeResult]) -> Vec<Option<TargetState>> {
        verdicts.iter().map(|verdict| checker.observe(*verdict)).collect()
    }

    #[test]
    fn a_new_member_is_healthy_after_its_first_pass_whatever_the_threshold() {
        let mut checker = checker(5, 2);
        assert_eq!(
            (checker.state(), checker.reason()),
            (TargetState::Initial, Some(HealthReason::InitialHealthChecking))
        );
        assert_eq!(states(&mut checker, &[Fail, Pass]), [None, Some(TargetState::Healthy)]);
        assert_eq!(checker.reason(), None);
    }

    #[test]
    fn a_new_member_that_fails_is_unhealthy_after_the_threshold() {
        let mut checker = checker(5, 3);
        assert_eq!(states(&mut checker, &[Fail, Fail, Fail]), [None, None, Some(TargetState::Unhealthy)]);
        assert_eq!(checker.reason().map(HealthReason::code), Some("Target.FailedHealthChecks"));
    }

    #[test]
    fn only_results_in_a_row_count() {
        let mut checker = checker(3, 2);
        let verdicts = [Pass, Fail, Pass, Fail, Fail, Pass, Pass, Fail, Pass, Pass, Pass];
        let changes: Vec<_> = states(&mut checker, &verdicts);
        let expected = |at: usize| match at {
            0 | 10 => Some(TargetState::Healthy),
            4 => Some(TargetState::Unhealthy),
            _ => None,
        };
        assert_eq!(changes, (0..verdicts.len()).map(expected).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn the_state_follows_the_last_long_enough_run_of_results(
            passes in proptest::collection::vec(any::<bool>(), 1..60), healthy in 2u8..=10, unhealthy in 2u8..=10,
        ) {
            let mut checker = checker(healthy, unhealthy);
            let mut expected = TargetState::Initial;
            for (i, pass) in passes.iter().enumerate() {
                let run = passes[..=i].iter().rev().take_while(|other| *other == pass).count();
                checker.observe(if *pass { Pass } else { Fail });
                if *pass && (expected == TargetState::Initial || run >= usize::from(healthy)) {
                    expected = TargetState::Healthy;
                } else if !pass && run >= usize::from(unhealthy) {
                    expected = TargetState::Unhealthy;
                }
                prop_assert_eq!(checker.state(), expected);
            }
        }
    }
}
