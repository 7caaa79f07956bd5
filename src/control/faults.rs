//! Injected faults: set, begin, repeat, end and clear.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::chain::chain;
use super::draft::{EditError, ResourceKind};
use super::events::{EventKind, Severity};
use super::inventory::Timestamp;
use super::overrides::{FaultOrigin, FaultRecord};
use super::owner::{ChangeError, Command, FaultPhase, MAX_REPLAYS, Owner, RETRY_DELAY, Refused, replayed};
use super::plane::Plane;
use crate::model::{Fault, FaultKind, FaultScope, TargetId, check_fault};
use crate::plan::AppListenerKind;

impl<P: Plane> Owner<P> {
    /// Sets a fault. A fault without a name gets one.
    pub(super) async fn set_fault(&mut self, mut fault: Fault, replace: bool) -> Result<FaultRecord, ChangeError> {
        if fault.name.is_empty() {
            fault.name = self.overrides.free_name(&fault);
        }
        let name = fault.name.clone();
        let bad = |problem| ChangeError::Refused(Refused::BadFault, format!("fault `{name}`: {problem}"));
        check_fault(&fault).map_err(bad)?;
        self.check_scope(&fault.scope).map_err(bad)?;
        if !replace && self.overrides.faults.contains_key(&name) {
            return Err(EditError::Exists { what: ResourceKind::Fault, id: name }.into());
        }
        let record = FaultRecord::new(Arc::new(fault), Timestamp::now(), FaultOrigin::Command);
        let mut overrides = self.overrides.clone();
        overrides.faults.insert(name.clone(), record);
        self.set_overrides(overrides).await?;
        let record = self.overrides.faults[&name].clone();
        tracing::warn!(fault = name, r#type = record.fault.kind.label(), "fault set");
        let (kind, begun) = (record.fault.kind.label(), if record.begun { "is on" } else { "is set for later" });
        self.record_fault(&name, format!("fault `{name}` {begun}: {kind}"));
        self.start_clocks();
        Ok(record)
    }

    fn record_fault(&self, name: &str, message: String) {
        self.events.record(EventKind::Fault, Severity::Info, name, message);
    }

    /// Checks that the scope matches something: a fault without effect is a mistake.
    fn check_scope(&self, scope: &FaultScope) -> Result<(), String> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let known = |what: &str, wanted: Option<&str>, known: BTreeSet<&str>| match wanted {
            Some(wanted) if !known.contains(wanted) => {
                let known = known.into_iter().collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "none".to_owned() } else { known };
                Err(format!("there is no {what} `{wanted}`; there is: {known}"))
            }
            _ => Ok(()),
        };
        let groups = || snapshot.listeners.values().map(|listener| &listener.group);
        let members = || {
            let of_targets = snapshot.targets.iter().flat_map(|target| &target.members);
            of_targets.chain(groups().flat_map(|group| &group.members))
        };
        let of_projects = self.desired.projects.iter().flat_map(|project| &project.services).map(|s| s.id.as_str());
        let services = of_projects.chain(self.desired.app_services.iter().map(|service| service.id.as_str()));
        known("endpoint service", scope.service.as_ref().map(|service| service.as_str()), services.collect())?;
        let targets = snapshot.targets.iter().map(|target| target.id.as_str());
        let targets = targets.chain(groups().map(|group| group.target.as_str()));
        known("target", scope.target.as_ref().map(|target| target.as_str()), targets.collect())?;
        known("member", scope.member.as_deref(), members().map(|member| member.name.as_str()).collect())?;
        let endpoints = snapshot.endpoints.keys().map(|endpoint| endpoint.as_str());
        known("endpoint", scope.endpoint.as_ref().map(|endpoint| endpoint.as_str()), endpoints.collect())?;
        let zones = snapshot.zones.iter().map(|view| view.zone.as_str());
        let zones = zones.chain(members().map(|member| member.zone.as_str()));
        let zones = zones.chain(snapshot.apps.listeners.values().filter_map(|listener| match &listener.kind {
            AppListenerKind::Private { zone, .. } => Some(zone.as_str()),
            AppListenerKind::Public => None,
        }));
        known("zone", scope.zone.as_ref().map(|zone| zone.as_str()), zones.collect())
    }

    /// Clears a fault, or all faults.
    pub(super) async fn clear_faults(&mut self, name: Option<String>) -> Result<usize, ChangeError> {
        let mut overrides = self.overrides.clone();
        let names: Vec<String> = name.map_or_else(|| overrides.faults.keys().cloned().collect(), |name| vec![name]);
        for name in &names {
            if !overrides.clear(name, &self.config.faults, true) {
                return Err(ChangeError::no_such_fault(name, overrides.faults.keys().map(String::as_str)));
            }
        }
        self.set_overrides(overrides).await?;
        for name in &names {
            tracing::warn!(fault = name, "fault cleared");
            self.record_fault(name, format!("fault `{name}` was cleared"));
        }
        Ok(names.len())
    }

    /// Starts the timers of faults and shifts that have none.
    pub(super) fn start_clocks(&mut self) {
        let now = Timestamp::now();
        let mut due = Vec::new();
        // If several gateways share the state, the one that set a fault may be gone before the fault's move.
        let is_waiting = |record: &FaultRecord| {
            self.overrides.latest_move(&record.fault).is_none_or(|latest| latest < record.begins())
        };
        let unmoved: BTreeSet<String> = match self.saved.gateway() {
            Some(_) => self
                .overrides
                .faults
                .iter()
                .filter(|(_, record)| is_waiting(record))
                .map(|(name, _)| name.clone())
                .collect(),
            None => BTreeSet::new(),
        };
        for (name, record) in self.overrides.faults.iter_mut().filter(|(_, record)| record.epoch == 0) {
            self.epoch += 1;
            record.epoch = self.epoch;
            let mut at = |moment: Timestamp, due_then| due.push((moment, name.clone(), record.epoch, due_then));
            match &record.fault.kind {
                _ if !record.begun => at(record.begins(), FaultPhase::Begin),
                // A fault that was just set, or one that repeats since before a restart. A single move is not repeated.
                FaultKind::PortMove { .. }
                    if record.begins().plus(RESTART_THRESHOLD) > now || unmoved.contains(name) =>
                {
                    at(now, FaultPhase::Begin);
                }
                FaultKind::PortMove { every: Some(every) } => {
                    let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
                    let into = (now.0 - record.begins().0) % every;
                    at(Timestamp(now.0.saturating_add(every - into)), FaultPhase::Begin);
                }
                _ => {}
            }
            if let Some(end) = record.ends() {
                at(end, FaultPhase::End);
            }
        }
        for (moment, name, epoch, due) in due {
            self.send_after(now.until(moment), Command::FaultDue { name, epoch, due });
        }
        self.start_shift_clocks(now);
    }

    pub(super) async fn fault_due(&mut self, name: String, epoch: u64, due: FaultPhase) {
        let Some(record) = self.overrides.faults.get(&name).filter(|record| record.epoch == epoch) else {
            // The fault was cleared or replaced meanwhile.
            return;
        };
        let (fault, begun) = (Arc::clone(&record.fault), record.begun);
        let mut overrides = self.overrides.clone();
        match due {
            FaultPhase::Begin if !begun => {
                tracing::warn!(fault = name, r#type = fault.kind.label(), "fault begins");
                self.record_fault(&name, format!("fault `{name}` begins: {}", fault.kind.label()));
                if let Some(record) = overrides.faults.get_mut(&name) {
                    record.begun = true;
                }
                if !self.set_overrides_or_log(overrides).await {
                    return self.send_after(RETRY_DELAY, Command::FaultDue { name, epoch, due });
                }
            }
            FaultPhase::Begin => {}
            FaultPhase::End => {
                tracing::warn!(fault = name, "fault ends");
                self.record_fault(&name, format!("fault `{name}` is over"));
                overrides.clear(&name, &self.config.faults, false);
                if !self.set_overrides_or_log(overrides).await {
                    return self.send_after(RETRY_DELAY, Command::FaultDue { name, epoch, due });
                }
            }
        }
        if let (FaultPhase::Begin, FaultKind::PortMove { every }) = (due, &fault.kind)
            && let Some(target) = fault.scope.target.clone()
        {
            let moved = replayed!(self, self.move_by_fault(&name, &fault, &target));
            let is_moved = moved.is_ok();
            if let Err(error) = moved {
                tracing::error!(fault = name, reason = chain(&error), "failed to move the target of a fault");
                if self.saved.gateway().is_some() && matches!(error, ChangeError::Save(_)) {
                    // No gateway is known to have made this move.
                    return self.send_after(RETRY_DELAY, Command::FaultDue { name, epoch, due });
                }
            }
            if let Some(every) = every {
                let next = match self.overrides.latest_move(&fault) {
                    Some(latest) if is_moved => Timestamp::now().until(latest.plus(*every)),
                    _ => *every,
                };
                self.send_after(next, Command::FaultDue { name, epoch, due });
            }
        }
    }

    /// Moves a target for a fault that is due. If several gateways share the state, the fault is due on each of them:
    /// the move is saved with its time, and the others find it done.
    async fn move_by_fault(&mut self, name: &str, fault: &Arc<Fault>, target: &TargetId) -> Result<(), ChangeError> {
        let FaultKind::PortMove { every } = &fault.kind else { return Ok(()) };
        let before = self.overrides.clone();
        if self.saved.gateway().is_some() {
            let Some(record) = before.faults.get(name) else { return Ok(()) };
            let (now, latest) = (Timestamp::now(), before.latest_move(fault));
            let is_done = latest.is_some_and(|latest| match every {
                Some(every) => now < latest.plus(*every),
                None => record.origin == FaultOrigin::Config || latest >= record.begins(),
            });
            if is_done {
                return Ok(());
            }
            self.overrides.record_move(fault, now.max(record.begins()));
        }
        let outcome = self.move_target(target, fault.scope.service.as_ref(), None).await;
        if outcome.is_err() {
            self.overrides = before;
        }
        outcome.map(drop)
    }
}

/// A fault that began within this time was not restored by a restart.
const RESTART_THRESHOLD: Duration = Duration::from_millis(200);
