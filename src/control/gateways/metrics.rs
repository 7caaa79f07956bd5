//! Metrics of gateways that share a state.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use metrics::{Counter, Gauge, Level, Metadata, Recorder, Unit};

use super::view::{GatewayState, GatewaysView};
use crate::control::metrics::key;
use crate::model::ClaimId;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// The handles.
pub(super) struct GatewayMetrics {
    renewed: Counter,
    failed: Counter,
    last_renewal: Gauge,
    /// The number of gateways in each state.
    gateways: Vec<Gauge>,
    /// For each claim of this gateway: whether it serves it, and whether no gateway does.
    claims: Vec<(ClaimId, Gauge, Gauge)>,
}

impl GatewayMetrics {
    pub(super) fn new(recorder: Arc<dyn Recorder + Send + Sync>, claims: Option<BTreeSet<ClaimId>>) -> Self {
        let described = [
            (
                "plgw_gateway_last_renewal_timestamp_seconds",
                Some(Unit::Seconds),
                "When the state store last took a sign of life.",
            ),
            ("plgw_gateways", None, "Gateways that share the state, by what they do, as this one sees them."),
            (
                "plgw_gateway_claim_served",
                None,
                "1 while this gateway listens at the addresses of a claim that it wants.",
            ),
            (
                "plgw_gateway_claim_unserved",
                None,
                "1 while no gateway listens at the addresses of a claim that this one wants.",
            ),
        ];
        for (name, unit, text) in described {
            recorder.describe_gauge(name.into(), unit, text.into());
        }
        let renewals = "plgw_gateway_renewals_total";
        recorder.describe_counter(
            renewals.into(),
            None,
            "Signs of life to the gateways that share the state, by outcome.".into(),
        );
        let counter = |outcome| recorder.register_counter(&key(renewals, &[("outcome", outcome)]), &METADATA);
        let of_claim = |claim: ClaimId| {
            let labels = [("claim", claim.as_str())];
            let served = register(&*recorder, "plgw_gateway_claim_served", &labels);
            let unserved = register(&*recorder, "plgw_gateway_claim_unserved", &labels);
            (claim.clone(), served, unserved)
        };
        Self {
            renewed: counter("renewed"),
            failed: counter("failed"),
            last_renewal: register(&*recorder, "plgw_gateway_last_renewal_timestamp_seconds", &[]),
            gateways: GatewayState::ALL
                .map(|state| register(&*recorder, "plgw_gateways", &[("state", state.label())]))
                .into(),
            claims: claims.into_iter().flatten().map(of_claim).collect(),
        }
    }

    /// Counts a renewal.
    pub(super) fn renewed(&self, is_ok: bool) {
        if is_ok {
            self.renewed.increment(1);
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            self.last_renewal.set(now.map_or(0.0, |since| since.as_secs_f64()));
        } else {
            self.failed.increment(1);
        }
    }

    /// Sets the gauges.
    pub(super) fn published(&self, view: &GatewaysView) {
        for (gauge, state) in self.gateways.iter().zip(GatewayState::ALL) {
            let count = view.gateways.iter().filter(|gateway| gateway.state == state).count();
            gauge.set(u32::try_from(count).map_or(f64::MAX, f64::from));
        }
        for (claim, served, unserved) in &self.claims {
            let serves = |is_meant: fn(bool) -> bool| {
                let serving = view.gateways.iter().filter(|gateway| gateway.state == GatewayState::Serving);
                let mut meant = serving.filter(|gateway| is_meant(gateway.is_this));
                meant.any(|gateway| gateway.claims.is_none() || gateway.serving.contains(claim))
            };
            served.set(f64::from(u8::from(serves(|is_this| is_this))));
            unserved.set(f64::from(u8::from(!serves(|_| true))));
        }
    }
}

fn register(recorder: &dyn Recorder, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
    recorder.register_gauge(&key(name, labels), &METADATA)
}
