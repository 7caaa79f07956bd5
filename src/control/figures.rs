//! Gauges of the objects in the snapshot; a removed object's gauge is 0.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Gauge, Key, Label, Level, Metadata, Recorder};

use crate::model::{Desired, EndpointState, TargetState};
use crate::plan::{DnsAnswer, Snapshot};

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

const HEALTHY: &str = "plgw_healthy_hosts";
const UNHEALTHY: &str = "plgw_unhealthy_hosts";
const ENDPOINTS: &str = "plgw_endpoints";
const ENDPOINT_INFO: &str = "plgw_endpoint_info";
const LISTENER_PORT: &str = "plgw_listener_port";
const FLOWS_LIMIT: &str = "plgw_target_flows_limit";
const TARGETS: &str = "plgw_targets";
const ZONAL_HEALTH: &str = "plgw_zonal_health";
const ZONAL_SHIFT: &str = "plgw_zonal_shift";
const ZONAL_FAIL_OPEN: &str = "plgw_zonal_fail_open";
const FAULT_ACTIVE: &str = "plgw_fault_active";
const SLOTS_USED: &str = "plgw_target_slots_used";
const SLOTS_LIMIT: &str = "plgw_target_slots_limit";

/// Help texts.
const DESCRIPTIONS: &[(&str, &str)] = &[
    (HEALTHY, "Healthy members of a target group, by their zone (NLB: HealthyHostCount)."),
    (UNHEALTHY, "Unhealthy members of a target group, by their zone (NLB: UnHealthyHostCount)."),
    (ENDPOINTS, "Private endpoints of a service, by state; `available` is connected (PrivateLink: EndpointsCount)."),
    (
        ENDPOINT_INFO,
        "The VPC and the service of an endpoint, each with its region, and their provider, to join with; always 1.",
    ),
    (LISTENER_PORT, "The port of a target on its load balancer, which a port move changes."),
    (FLOWS_LIMIT, "Flows that one target may hold at once: its source ports."),
    (TARGETS, "Members of target groups, by state (NLB: HealthyHostCount, UnHealthyHostCount)."),
    (ZONAL_HEALTH, "1 while every target group is healthy in the zone (NLB: ZonalHealthStatus)."),
    (ZONAL_SHIFT, "1 while an operator has shifted away from the zone."),
    (
        ZONAL_FAIL_OPEN,
        "1 while DNS answers the zone's addresses although it is unhealthy or lost, as no better zone is left.",
    ),
    (FAULT_ACTIVE, "1 while a fault is active."),
    (SLOTS_USED, "Addressable targets that hold a port."),
    (SLOTS_LIMIT, "Addressable targets that a region may have."),
];

/// A series: its name and its labels, in order.
type GaugeSeries = (&'static str, Vec<(&'static str, String)>);

/// The gauges of existing objects.
pub(super) struct ResourceGauges {
    recorder: Arc<dyn Recorder + Send + Sync>,
    gauges: Mutex<BTreeMap<GaugeSeries, Gauge>>,
}

impl ResourceGauges {
    pub(super) fn new(recorder: Arc<dyn Recorder + Send + Sync>) -> Self {
        for (name, text) in DESCRIPTIONS {
            recorder.describe_gauge((*name).into(), None, (*text).into());
        }
        Self { recorder, gauges: Mutex::default() }
    }

    /// Sets the gauges to the current snapshot. An existing gauge changes once, so that no scrape sees a 0 in between.
    pub(super) fn published(&self, snapshot: &Snapshot, desired: &Desired) {
        let mut figures = figures(snapshot, desired);
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in &snapshot.faults {
            let labels = vec![("fault", fault.name.clone()), ("type", fault.kind.label().to_owned())];
            let series = (FAULT_ACTIVE, labels);
            // A fault that was active before has the value 0.
            if fault.is_active() || gauges.contains_key(&series) {
                *figures.entry(series).or_default() |= u32::from(fault.is_active());
            }
        }
        for (_, gauge) in gauges.iter().filter(|(series, _)| !figures.contains_key(*series)) {
            gauge.set(0.0);
        }
        // A released handle's series is rendered for a while, and then dropped.
        gauges.retain(|series, _| figures.contains_key(series));
        for (series, value) in figures {
            let gauge = gauges.entry(series).or_insert_with_key(|(name, labels)| {
                let labels: Vec<_> = labels.iter().map(|(name, value)| Label::new(*name, value.clone())).collect();
                self.recorder.register_gauge(&Key::from_parts(*name, labels), &METADATA)
            });
            gauge.set(f64::from(value));
        }
    }
}

/// Every series with its value, except those of faults. Reads only the parts of the snapshot that
/// `PublishedGauges::is_same` compares.
fn figures(snapshot: &Snapshot, desired: &Desired) -> BTreeMap<GaugeSeries, u32> {
    let mut figures = BTreeMap::new();
    for view in &snapshot.targets {
        let of_target = || vec![("service", view.service.to_string()), ("target", view.id.to_string())];
        figures.insert((LISTENER_PORT, of_target()), u32::from(view.port.get()));
        for member in &view.members {
            for (name, state) in [(HEALTHY, TargetState::Healthy), (UNHEALTHY, TargetState::Unhealthy)] {
                let mut labels = of_target();
                labels.push(("zone", member.zone.to_string()));
                *figures.entry((name, labels)).or_default() += u32::from(member.state == state);
            }
        }
    }
    let of_endpoints =
        |service: &str, state: &str| (ENDPOINTS, vec![("service", service.to_owned()), ("state", state.to_owned())]);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    for service in desired.projects.iter().flat_map(|project| &project.services) {
        let of_service = || vec![("service", service.id.to_string())];
        figures.insert((FLOWS_LIMIT, of_service()), number(service.attributes.flows_per_target));
        let own = || snapshot.targets.iter().filter(|target| target.service == service.id);
        for (name, count) in [(SLOTS_USED, own().count()), (SLOTS_LIMIT, service.target_limit)] {
            let mut labels = of_service();
            labels.push(("provider", service.region.provider().to_owned()));
            figures.insert((name, labels), number(count));
        }
        let leaving = snapshot.leaving.iter().filter(|target| target.service == service.id);
        let members: Vec<_> = own().chain(leaving).flat_map(|target| &target.members).collect();
        for state in TargetState::ALL {
            let mut labels = of_service();
            labels.push(("state", state.label().to_owned()));
            figures.insert((TARGETS, labels), number(members.iter().filter(|member| member.state == state).count()));
        }
        // A service without connected endpoints shows 0.
        figures.insert(of_endpoints(service.id.as_str(), EndpointState::Available.label()), 0);
    }
    for view in &snapshot.zones {
        let of_zone = || vec![("service", view.service.to_string()), ("zone", view.zone.to_string())];
        figures.insert((ZONAL_HEALTH, of_zone()), u32::from(view.healthy));
        figures.insert((ZONAL_SHIFT, of_zone()), u32::from(view.shifted));
        for why in DnsAnswer::FAIL_OPEN {
            let mut labels = of_zone();
            labels.push(("reason", why.label().to_owned()));
            figures.insert((ZONAL_FAIL_OPEN, labels), u32::from(view.fail_open() == Some(why)));
        }
    }
    for endpoint in snapshot.endpoints.values() {
        let service = endpoint.service.service().as_str();
        *figures.entry(of_endpoints(service, endpoint.state.label())).or_default() += 1;
        let region = desired.vpcs.get(&endpoint.vpc).map(|vpc| vpc.region.to_string());
        let labels = vec![
            ("endpoint", endpoint.id.to_string()),
            ("provider", endpoint.service.region().provider().to_owned()),
            ("region", region.unwrap_or_default()),
            ("service", service.to_owned()),
            ("service_region", endpoint.service.region().to_string()),
            ("vpc", endpoint.vpc.to_string()),
        ];
        figures.insert((ENDPOINT_INFO, labels), 1);
    }
    figures
}
