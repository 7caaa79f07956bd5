//! Operators' settings by command, on top of the inventory: faults, zonal shifts, deregistered targets, the pace of
//! lifecycles.
//!
//! Each is one key of the state store, below `overrides/`. A value that the config has too is not saved, so that the
//! config applies again once the command is undone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inventory::Timestamp;
use super::saved_error::SavedError;
use super::store::{Entry, json};
use crate::model::{Desired, Fault, Pace, TargetId, VpceServiceId, Zone};

/// The prefix of the keys of overrides.
pub(super) const OVERRIDES: &str = "overrides/";

/// The origin of a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FaultOrigin {
    /// A command: it outlives the process.
    #[default]
    Command,
    /// The config.
    Config,
}

/// A fault that is scheduled or active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// The fault as requested.
    pub fault: Arc<Fault>,
    /// When it was set: its times count from here, also over restarts.
    pub since: Timestamp,
    /// Its origin.
    #[serde(skip)]
    pub origin: FaultOrigin,
    /// Whether it has begun.
    #[serde(skip)]
    pub begun: bool,
    /// Distinguishes its timers from those of an earlier fault of this name; 0: not started.
    #[serde(skip)]
    pub(super) epoch: u64,
}

impl FaultRecord {
    pub(super) fn new(fault: Arc<Fault>, since: Timestamp, origin: FaultOrigin) -> Self {
        let begun = fault.after.is_zero();
        Self { fault, since, origin, begun, epoch: 0 }
    }

    /// When it begins.
    #[must_use]
    pub fn begins(&self) -> Timestamp {
        self.since.plus(self.fault.after)
    }

    /// When it ends by itself.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        self.fault.lasts.map(|lasts| self.begins().plus(lasts))
    }

    /// The fault for the plan: without a delay once it has begun.
    fn in_force(&self) -> Arc<Fault> {
        if self.begun && !self.fault.after.is_zero() {
            Arc::new(Fault { after: Duration::ZERO, ..Fault::clone(&self.fault) })
        } else {
            Arc::clone(&self.fault)
        }
    }
}

/// A zonal shift.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZonalShift {
    /// The load balancer.
    pub service: VpceServiceId,
    /// The zone from which traffic is shifted away.
    pub zone: Zone,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    #[serde(skip)]
    pub(super) epoch: u64,
}

/// A process that was deregistered from its target group.
type DeregisteredMember = (VpceServiceId, TargetId, String);

/// A fault of the config that is not active.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SuppressedFault {
    fault: Arc<Fault>,
    /// Whether a command removed it; otherwise it expired.
    by_command: bool,
}

/// The operators' settings, and the config's faults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OperatorOverrides {
    /// Faults by name.
    pub(super) faults: BTreeMap<String, FaultRecord>,
    /// Faults of the config that were cleared or have ended; another fault of that name is not affected.
    absent: BTreeMap<String, SuppressedFault>,
    /// Zonal shifts.
    pub(super) shifts: BTreeMap<(VpceServiceId, Zone), ZonalShift>,
    /// Processes that were deregistered.
    pub(super) deregistered: BTreeSet<DeregisteredMember>,
    /// The pace of lifecycles; `None`: the config's.
    pub(super) pace: Option<Pace>,
    /// If several gateways share the state: when each fault last moved its target.
    moves: BTreeMap<String, FaultMove>,
}

/// A move by a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FaultMove {
    fault: Arc<Fault>,
    at: Timestamp,
}

impl OperatorOverrides {
    /// Applies them to the desired state.
    pub(super) fn apply_to(&self, desired: &mut Desired) {
        desired.faults = self.faults.iter().map(|(name, record)| (name.clone(), record.in_force())).collect();
        desired.shifted_zones = self.shifts.keys().cloned().collect();
        desired.deregistered.clone_from(&self.deregistered);
    }

    /// Merges these overrides with a config's faults: new faults begin now; unchanged ones, and all that a command set,
    /// continue.
    #[must_use]
    pub(super) fn over(mut self, config: &BTreeMap<String, Arc<Fault>>, now: Timestamp) -> Self {
        self.faults.retain(|name, record| {
            let same = || config.get(name).is_some_and(|fault| *fault == record.fault);
            record.origin == FaultOrigin::Command || same()
        });
        self.absent.retain(|name, absent| config.get(name) == Some(&absent.fault));
        for (name, fault) in config {
            if !self.faults.contains_key(name) && !self.absent.contains_key(name) {
                let record = FaultRecord::new(Arc::clone(fault), now, FaultOrigin::Config);
                self.faults.insert(name.clone(), record);
            }
        }
        self
    }

    /// Keeps the progress of `before`: an unchanged fault or shift continues with its timers, and ended faults of the
    /// config stay ended.
    #[must_use]
    pub(super) fn keeping_progress_of(mut self, before: &Self) -> Self {
        for (name, record) in &mut self.faults {
            if let Some(same) = before.faults.get(name).filter(|known| {
                known.fault == record.fault
                    && known.origin == record.origin
                    && (known.since == record.since || record.origin == FaultOrigin::Config)
            }) {
                record.clone_from(same);
            }
        }
        for (name, absent) in before.absent.iter().filter(|(_, absent)| !absent.by_command) {
            if self.faults.get(name).is_some_and(|record| record.origin == FaultOrigin::Config) {
                self.faults.remove(name);
                self.absent.insert(name.clone(), absent.clone());
            }
        }
        for (key, shift) in &mut self.shifts {
            if let Some(same) = before.shifts.get(key).filter(|known| known.expires == shift.expires) {
                shift.epoch = same.epoch;
            }
        }
        self
    }

    /// Clears a fault; `config` are the config's faults. Returns whether there was one.
    pub(super) fn clear(&mut self, name: &str, config: &BTreeMap<String, Arc<Fault>>, by_command: bool) -> bool {
        let Some(record) = self.faults.remove(name) else { return false };
        if let Some(fault) = config.get(name) {
            let by_command = by_command || record.origin == FaultOrigin::Command;
            self.absent.insert(name.to_owned(), SuppressedFault { fault: Arc::clone(fault), by_command });
        }
        true
    }

    /// When `fault` last moved its target; moves by another fault of that name do not count.
    pub(super) fn latest_move(&self, fault: &Arc<Fault>) -> Option<Timestamp> {
        self.moves.get(&fault.name).filter(|made| made.fault == *fault).map(|made| made.at)
    }

    /// Records that `fault` moved its target.
    pub(super) fn record_move(&mut self, fault: &Arc<Fault>, at: Timestamp) {
        self.moves.insert(fault.name.clone(), FaultMove { fault: Arc::clone(fault), at });
    }

    /// A name for a fault without one: its type, and the first free number.
    pub(super) fn free_name(&self, fault: &Fault) -> String {
        let label = fault.kind.label();
        let free = |number: &usize| !self.faults.contains_key(&format!("{label}-{number}"));
        // There is one more number than faults, so one is free.
        let number = (1..=self.faults.len() + 1).find(free).unwrap_or_default();
        format!("{label}-{number}")
    }

    /// Removes deregistrations and zonal shifts of a removed cluster or service, so that the next one of that name
    /// starts without them.
    pub(super) fn forget_absent(&mut self, desired: &Desired) {
        let projects = || desired.projects.iter();
        self.deregistered.retain(|(service, target, _)| {
            let cluster = target.as_str().split('/').next().unwrap_or_default();
            projects().any(|project| {
                project.services.iter().any(|own| own.id == *service)
                    && project.clusters.iter().any(|own| own.name.as_str() == cluster)
            })
        });
        self.shifts.retain(|(service, _), _| {
            projects().any(|project| project.services.iter().any(|own| own.id == *service))
                || desired.app_services.iter().any(|own| own.id == *service)
        });
    }

    /// Whether the shift of this timer is still active.
    pub(super) fn is_shift(&self, key: &(VpceServiceId, Zone), epoch: u64) -> bool {
        self.shifts.get(key).is_some_and(|shift| shift.epoch == epoch)
    }

    /// The saved keys and values.
    pub(super) fn saved(&self) -> BTreeMap<String, Vec<u8>> {
        let mut saved = BTreeMap::new();
        let mut put = |key: String, value: Vec<u8>| saved.insert(format!("{OVERRIDES}{key}"), value);
        for (name, record) in self.faults.iter().filter(|(_, record)| record.origin == FaultOrigin::Command) {
            put(format!("fault/{}", coded(name)), json(record));
        }
        for (name, absent) in self.absent.iter().filter(|(_, absent)| absent.by_command) {
            put(format!("cleared/{}", coded(name)), json(&absent.fault));
        }
        for ((service, zone), shift) in &self.shifts {
            put(format!("shift/{service}/{zone}"), json(shift));
        }
        for (service, target, member) in &self.deregistered {
            let key = format!("deregistered/{service}/{}/{}", coded(target.as_str()), coded(member));
            put(key, json(&(service, target, member)));
        }
        if let Some(pace) = self.pace {
            put("pace".to_owned(), json(&pace));
        }
        // A record of a fault that has ended or was cleared would affect the next fault of that name.
        for (name, made) in self.moves.iter().filter(|(name, _)| self.faults.contains_key(*name)) {
            put(format!("moved/{}", coded(name)), json(made));
        }
        saved
    }

    /// Reads the saved overrides, without those that have ended at `now`.
    ///
    /// # Errors
    ///
    /// [`SavedError::Value`] for a key or a value that this version doesn't write.
    pub(super) fn load(entries: &[Entry], now: Timestamp) -> Result<Self, SavedError> {
        let mut overrides = Self::default();
        for entry in entries {
            let key = &entry.key;
            let kind = key.as_str().trim_start_matches(OVERRIDES).split('/').next().unwrap_or_default();
            match kind {
                "fault" => {
                    let mut record: FaultRecord = SavedError::read(entry)?;
                    record.begun = record.begins() <= now;
                    if record.ends().is_none_or(|end| now < end) {
                        overrides.faults.insert(record.fault.name.clone(), record);
                    }
                }
                "cleared" => {
                    let fault: Arc<Fault> = SavedError::read(entry)?;
                    overrides.absent.insert(fault.name.clone(), SuppressedFault { fault, by_command: true });
                }
                "shift" => {
                    let shift: ZonalShift = SavedError::read(entry)?;
                    if shift.expires.is_none_or(|end| now < end) {
                        overrides.shifts.insert((shift.service.clone(), shift.zone.clone()), shift);
                    }
                }
                "deregistered" => {
                    overrides.deregistered.insert(SavedError::read(entry)?);
                }
                "moved" => {
                    let made: FaultMove = SavedError::read(entry)?;
                    overrides.moves.insert(made.fault.name.clone(), made);
                }
                "pace" => overrides.pace = Some(SavedError::read(entry)?),
                other => {
                    let source = serde::de::Error::custom(format!("there are no overrides of kind `{other}`"));
                    return Err(SavedError::Value { key: key.as_str().to_owned(), source });
                }
            }
        }
        Ok(overrides)
    }
}

/// Encodes text as one segment of a key, injectively.
fn coded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::store::{Revision, StateKey};

    fn fault(name: &str, text: &str) -> Arc<Fault> {
        serde_json::from_str(&format!(r#"{{"name":"{name}","type":"refuse"{text}}}"#)).expect("a fault")
    }

    fn entries(overrides: &OperatorOverrides) -> Vec<Entry> {
        let entry = |(key, value): (String, Vec<u8>)| Entry {
            key: key.parse::<StateKey>().expect("a key"),
            value: value.into(),
            revision: Revision(1),
        };
        overrides.saved().into_iter().map(entry).collect()
    }

    fn set(overrides: &mut OperatorOverrides, fault: Arc<Fault>, at: u64) {
        overrides.faults.insert(fault.name.clone(), FaultRecord::new(fault, Timestamp(at), FaultOrigin::Command));
    }

    #[test]
    fn saved_overrides_are_read_back_without_the_expired_ones() {
        let mut overrides = OperatorOverrides { pace: Some(Pace::Frozen), ..OperatorOverrides::default() };
        set(&mut overrides, fault("a/b ü", r#","after":"500ms""#), 1000);
        set(&mut overrides, fault("brief", r#","for":"500ms""#), 1000);
        let (service, zone): (VpceServiceId, Zone) =
            ("vpce-svc-02863655456245e5c".parse().expect("an id"), "us-east-1a".parse().expect("a zone"));
        let shift = |zone: &Zone, expires| ZonalShift {
            service: service.clone(),
            zone: zone.clone(),
            since: Timestamp(1000),
            expires,
            epoch: 0,
        };
        overrides.shifts.insert((service.clone(), zone.clone()), shift(&zone, Some(Timestamp(1500))));
        overrides.deregistered.insert((service.clone(), "Cluster0/a".parse().expect("an id"), "a".to_owned()));
        assert_eq!(OperatorOverrides::load(&entries(&overrides), Timestamp(1499)).expect("readable"), overrides);

        let later = OperatorOverrides::load(&entries(&overrides), Timestamp(1500)).expect("readable");
        assert_eq!(later.faults.keys().collect::<Vec<_>>(), ["a/b ü"]);
        assert!(later.faults["a/b ü"].begun && later.shifts.is_empty() && later.deregistered.len() == 1);
    }

    #[test]
    fn a_command_overrides_the_config_and_a_cleared_fault_stays_cleared() {
        let config: BTreeMap<_, _> = [fault("x", ""), fault("y", "")].map(|fault| (fault.name.clone(), fault)).into();
        let mut overrides = OperatorOverrides::default();
        set(&mut overrides, fault("x", r#","seed":7"#), 1);
        let mut overrides = overrides.over(&config, Timestamp(5));
        assert_eq!((overrides.faults["x"].fault.seed, overrides.faults["y"].since), (7, Timestamp(5)));
        assert!(
            overrides.clear("x", &config, true)
                && overrides.clear("y", &config, true)
                && !overrides.clear("z", &config, true)
        );
        let again =
            OperatorOverrides::load(&entries(&overrides), Timestamp(6)).expect("readable").over(&config, Timestamp(6));
        assert!(again.faults.is_empty(), "{again:?}");
        let changed: BTreeMap<_, _> = [("y".to_owned(), fault("y", r#","seed":1"#))].into();
        assert_eq!(again.over(&changed, Timestamp(7)).faults.len(), 1, "another fault of that name was not cleared");
    }

    #[test]
    fn a_fault_of_the_config_that_is_over_does_not_come_back_with_a_reload_but_with_a_restart() {
        let config: BTreeMap<_, _> = [("x".to_owned(), fault("x", ""))].into();
        let mut overrides = OperatorOverrides::default().over(&config, Timestamp(1));
        overrides.clear("x", &config, false);
        assert!(overrides.clone().over(&config, Timestamp(2)).faults.is_empty());
        assert!(entries(&overrides).is_empty());
    }

    #[test]
    fn a_fault_without_a_name_gets_the_first_that_is_free() {
        let mut overrides = OperatorOverrides::default();
        set(&mut overrides, fault("refuse-1", ""), 1);
        set(&mut overrides, fault("other", ""), 1);
        assert_eq!(overrides.free_name(&fault("", "")), "refuse-2");
    }
}
