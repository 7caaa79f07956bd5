//! Control's metrics: reloads, snapshots, targets by state, and limits of load balancers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder, Unit};

use super::figures::ResourceGauges;
use crate::model::{Desired, VpceServiceId};
use crate::plan::Snapshot;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Metric handles.
pub(super) struct ControlMetrics {
    applied: Counter,
    refused: Counter,
    last_success: Gauge,
    last_reload_ok: Gauge,
    generation: Gauge,
    figures: ResourceGauges,
    shown: Mutex<Option<PublishedGauges>>,
}

/// What the gauges of [`ResourceGauges`] show.
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
        ] {
            recorder.describe_gauge(name.into(), unit, text.into());
        }
        let outcome =
            |outcome| recorder.register_counter(&key("plgw_reloads_total", &[("outcome", outcome)]), &METADATA);
        let gauge = |name| recorder.register_gauge(&key(name, &[]), &METADATA);
        let (applied, refused) = (outcome("applied"), outcome("refused"));
        let last_success = gauge("plgw_reload_last_success_timestamp_seconds");
        let (last_reload_ok, generation) = (gauge("plgw_reload_last_ok"), gauge("plgw_snapshot_generation"));
        let figures = ResourceGauges::new(recorder);
        Self { applied, refused, last_success, last_reload_ok, generation, figures, shown: Mutex::default() }
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
            self.figures.published(snapshot, desired);
        }
        *shown = Some(PublishedGauges { snapshot: Arc::clone(snapshot), limits });
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
