//! Control's metrics: reloads, snapshots, targets by state, and limits of load balancers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder, Unit};

use super::figures::ResourceGauges;
use crate::model::{Desired, TargetState, VpceServiceId, Zone};
use crate::plan::{DnsAnswer, Snapshot};

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Metric handles.
pub(super) struct ControlMetrics {
    recorder: Arc<dyn Recorder + Send + Sync>,
    applied: Counter,
    refused: Counter,
    last_success: Gauge,
    last_reload_ok: Gauge,
    generation: Gauge,
    zones: Mutex<BTreeMap<(VpceServiceId, Zone), Vec<Gauge>>>,
    faults: Mutex<BTreeMap<(String, &'static str), Gauge>>,
    per_service: Mutex<BTreeMap<(String, &'static str), Gauge>>,
    figures: ResourceGauges,
    shown: Mutex<Option<PublishedGauges>>,
}

/// The values that the gauges depend on.
struct PublishedGauges {
    snapshot: Arc<Snapshot>,
    limits: ServiceLimits,
}

/// For each load balancer, its limits of targets and of flows per target.
type ServiceLimits = Vec<(VpceServiceId, usize, usize)>;

impl PublishedGauges {
    /// Whether the gauges would not change, as for most changes.
    fn is_same(&self, snapshot: &Snapshot, limits: &ServiceLimits) -> bool {
        let shown = &self.snapshot;
        shown.targets == snapshot.targets
            && shown.leaving == snapshot.leaving
            && shown.zones == snapshot.zones
            && shown.faults == snapshot.faults
            && shown.endpoints == snapshot.endpoints
            && self.limits == *limits
    }
}

fn limits(desired: &Desired) -> ServiceLimits {
    let services = desired.projects.iter().flat_map(|project| &project.services);
    services.map(|service| (service.id.clone(), service.target_limit, service.attributes.flows_per_target)).collect()
}

impl ControlMetrics {
    pub(super) fn new(recorder: Arc<dyn Recorder + Send + Sync>) -> Self {
        recorder.describe_counter("plgw_reloads_total".into(), None, "Config reloads, by outcome.".into());
        for (name, unit, text) in [
            ("plgw_reload_last_success_timestamp_seconds", Some(Unit::Seconds), "When a config was last applied."),
            (
                "plgw_reload_last_ok",
                None,
                "1 when the config was taken over at the start or by the last reload, 0 when that was refused.",
            ),
            ("plgw_snapshot_generation", None, "Number of the snapshot in force."),
            ("plgw_targets", None, "Members of target groups, by state (NLB: HealthyHostCount, UnHealthyHostCount)."),
            ("plgw_zonal_health", None, "1 while every target group is healthy in the zone (NLB: ZonalHealthStatus)."),
            ("plgw_fault_active", None, "1 while a fault is active."),
            ("plgw_zonal_shift", None, "1 while an operator has shifted away from the zone."),
            (
                "plgw_zonal_fail_open",
                None,
                "1 while DNS answers the zone's addresses although it is unhealthy or lost, as no better zone is left.",
            ),
            ("plgw_target_slots_used", None, "Addressable targets that hold a port."),
            ("plgw_target_slots_limit", None, "Addressable targets that a region may have."),
        ] {
            recorder.describe_gauge(name.into(), unit, text.into());
        }
        let outcome =
            |outcome| recorder.register_counter(&key("plgw_reloads_total", &[("outcome", outcome)]), &METADATA);
        let gauge = |name| recorder.register_gauge(&key(name, &[]), &METADATA);
        let (applied, refused) = (outcome("applied"), outcome("refused"));
        let last_success = gauge("plgw_reload_last_success_timestamp_seconds");
        let (last_reload_ok, generation) = (gauge("plgw_reload_last_ok"), gauge("plgw_snapshot_generation"));
        let (zones, faults, per_service) = (Mutex::default(), Mutex::default(), Mutex::default());
        let figures = ResourceGauges::new(Arc::clone(&recorder));
        Self {
            recorder,
            applied,
            refused,
            last_success,
            last_reload_ok,
            generation,
            zones,
            faults,
            per_service,
            figures,
            shown: Mutex::default(),
        }
    }

    /// Records that a config was applied, at the start or by a reload.
    pub(super) fn config_applied(&self) {
        self.last_success.set(now());
        self.last_reload_ok.set(1.0);
    }

    /// Counts a reload.
    pub(super) fn reloaded(&self, ok: bool) {
        if ok {
            self.applied.increment(1);
            self.config_applied();
        } else {
            self.refused.increment(1);
            self.last_reload_ok.set(0.0);
        }
    }

    /// Sets the gauges to the current snapshot.
    pub(super) fn published(&self, snapshot: &Arc<Snapshot>, desired: &Desired) {
        self.generation.set(float(snapshot.generation.0));
        let limits = limits(desired);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if !shown.as_ref().is_some_and(|shown| shown.is_same(snapshot, &limits)) {
            self.show(snapshot, desired);
        }
        *shown = Some(PublishedGauges { snapshot: Arc::clone(snapshot), limits });
    }

    /// Sets every gauge. Depends only on what [`PublishedGauges::is_same`] compares.
    fn show(&self, snapshot: &Snapshot, desired: &Desired) {
        self.figures.published(snapshot, desired);
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.values().flatten().for_each(|gauge| gauge.set(0.0));
        let there = |(service, zone): &(VpceServiceId, Zone)| {
            snapshot.zones.iter().any(|view| view.service == *service && view.zone == *zone)
        };
        zones.retain(|key, _| there(key));
        for view in &snapshot.zones {
            let labels = [("service", view.service.as_str()), ("zone", view.zone.as_str())];
            let register = |name, labels: &[_]| self.recorder.register_gauge(&key(name, labels), &METADATA);
            let gauges = zones.entry((view.service.clone(), view.zone.clone())).or_insert_with(|| {
                let plain = ["plgw_zonal_health", "plgw_zonal_shift"].map(|name| register(name, &labels));
                let fail_open = DnsAnswer::FAIL_OPEN
                    .map(|why| register("plgw_zonal_fail_open", &[labels[0], labels[1], ("reason", why.label())]));
                plain.into_iter().chain(fail_open).collect()
            });
            let fail_open = DnsAnswer::FAIL_OPEN.map(|why| view.fail_open() == Some(why));
            for (gauge, value) in gauges.iter().zip([view.healthy, view.shifted].into_iter().chain(fail_open)) {
                gauge.set(f64::from(u8::from(value)));
            }
        }
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.values().for_each(|gauge| gauge.set(0.0));
        faults.retain(|(name, kind), _| {
            snapshot.faults.iter().any(|fault| fault.name == *name && fault.kind.label() == *kind)
        });
        for fault in snapshot.faults.iter().filter(|fault| fault.is_active()) {
            let (name, kind) = (fault.name.clone(), fault.kind.label());
            let labels: [(&'static str, &str); 2] = [("fault", &fault.name), ("type", kind)];
            let register = || self.recorder.register_gauge(&key("plgw_fault_active", &labels), &METADATA);
            faults.entry((name, kind)).or_insert_with(register).set(1.0);
        }
        let mut gauges = self.per_service.lock().unwrap_or_else(PoisonError::into_inner);
        for gauge in gauges.values() {
            gauge.set(0.0);
        }
        let services = desired.projects.iter().flat_map(|project| &project.services);
        gauges.retain(|(service, _), _| services.clone().any(|other| other.id.as_str() == service));
        let mut set = |id: &'static str, name: &'static str, labels: [(&'static str, &str); 2], value: u64| {
            let gauge = gauges
                .entry((labels[0].1.to_owned(), id))
                .or_insert_with(|| self.recorder.register_gauge(&key(name, &labels), &METADATA));
            gauge.set(float(value));
        };
        for service in services {
            let own = || snapshot.targets.iter().filter(|target| target.service == service.id);
            let id = ("service", service.id.as_str());
            let limits = [("plgw_target_slots_used", own().count()), ("plgw_target_slots_limit", service.target_limit)];
            for (name, value) in limits {
                set(name, name, [id, ("provider", service.region.provider())], value as u64);
            }
            let leaving = || snapshot.leaving.iter().filter(|target| target.service == service.id);
            for state in TargetState::ALL {
                let members =
                    own().chain(leaving()).flat_map(|target| &target.members).filter(|member| member.state == state);
                set(state.label(), "plgw_targets", [id, ("state", state.label())], members.count() as u64);
            }
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "counts of targets and snapshots stay far below 2^52")]
fn float(value: u64) -> f64 {
    value as f64
}

pub(super) fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    Key::from_parts(name, labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect::<Vec<_>>())
}
