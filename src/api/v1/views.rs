//! What `/v1` answers with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::data::{Carried, FlowView};
use crate::lifecycle::ReadinessView;
use crate::model::{CidrSet, Zone};
use crate::plan::{
    ClusterStrings, DnsZone, EndpointGate, Generation, Listener, Member, RecordSets, Snapshot, TargetView,
};

/// `GET /v1/status`.
#[derive(Serialize)]
pub(super) struct StatusView {
    version: &'static str,
    generation: Generation,
    readiness: ReadinessView,
    /// Why the last reload was refused.
    reload_problem: Option<String>,
    listeners: usize,
    targets: usize,
    endpoints: usize,
    open_flows: usize,
    carried: Carried,
    /// Faults that are set.
    faults: usize,
    notices: Vec<String>,
}

impl StatusView {
    pub(super) fn of(
        snapshot: &Snapshot,
        readiness: ReadinessView,
        reload_problem: Option<String>,
        open_flows: usize,
        carried: Carried,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            generation: snapshot.generation,
            readiness,
            reload_problem,
            listeners: snapshot.listeners.len(),
            targets: snapshot.targets.len(),
            endpoints: snapshot.endpoints.len(),
            open_flows,
            carried,
            faults: snapshot.faults.len(),
            notices: snapshot.notices.clone(),
        }
    }
}

/// `GET /v1/targets`.
#[derive(Serialize)]
pub(super) struct TargetsView {
    targets: Vec<TargetView>,
}

impl TargetsView {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self { targets: snapshot.targets.iter().chain(&snapshot.leaving).cloned().collect() }
    }
}

/// `GET /v1/endpoints`.
#[derive(Serialize)]
pub(super) struct EndpointsView {
    endpoints: Vec<Arc<EndpointGate>>,
}

impl EndpointsView {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self { endpoints: snapshot.endpoints.values().cloned().collect() }
    }
}

/// `GET /v1/flows`.
#[derive(Serialize)]
pub(super) struct FlowsPage {
    pub(super) flows: Vec<FlowView>,
}

/// `GET /v1/connection-strings`.
#[derive(Serialize)]
pub(super) struct StringsView {
    connection_strings: Vec<ClusterStrings>,
}

impl StringsView {
    pub(super) fn of(snapshot: &Snapshot, project: Option<&str>, cluster: Option<&str>) -> Self {
        let wanted = |strings: &&ClusterStrings| {
            project.is_none_or(|id| strings.project.as_str() == id)
                && cluster.is_none_or(|name| strings.cluster.as_str() == name)
        };
        Self { connection_strings: snapshot.strings.iter().filter(wanted).cloned().collect() }
    }
}

/// `GET /v1/snapshot`: all that the data plane and DNS read.
#[derive(Serialize)]
pub(super) struct SnapshotView {
    generation: Generation,
    listeners: Vec<ListenerView>,
    targets: Vec<TargetView>,
    endpoints: Vec<Arc<EndpointGate>>,
    connection_strings: Vec<ClusterStrings>,
    dns: DnsViewOut,
    service_side: CidrSet,
    notices: Vec<String>,
}

#[derive(Serialize)]
struct ListenerView {
    address: SocketAddr,
    zone: Zone,
    /// The endpoint, or `public`.
    gate: String,
    target: String,
    members: Vec<Member>,
    proxy_protocol: bool,
    idle_timeout_seconds: f64,
    deregistration_delay_seconds: f64,
}

impl ListenerView {
    fn of(listener: &Listener) -> Self {
        let group = &listener.group;
        Self {
            address: listener.address,
            zone: listener.zone.clone(),
            gate: listener.gate.label().to_owned(),
            target: group.target.to_string(),
            members: group.members.clone(),
            proxy_protocol: group.proxy_protocol,
            idle_timeout_seconds: group.idle_timeout.as_secs_f64(),
            deregistration_delay_seconds: group.deregistration_delay.as_secs_f64(),
        }
    }
}

type Zones = BTreeMap<String, BTreeMap<String, RecordSets>>;

#[derive(Serialize)]
struct DnsViewOut {
    public: Zones,
    vpcs: Vec<VpcDnsOut>,
}

#[derive(Serialize)]
struct VpcDnsOut {
    vpc: String,
    clients: CidrSet,
    enabled: bool,
    private: Zones,
}

impl SnapshotView {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let vpcs = snapshot.dns.vpcs.iter().map(|vpc| VpcDnsOut {
            vpc: vpc.vpc.to_string(),
            clients: vpc.clients.clone(),
            enabled: vpc.enabled,
            private: zones(&vpc.private),
        });
        Self {
            generation: snapshot.generation,
            listeners: snapshot.listeners.values().map(|listener| ListenerView::of(listener)).collect(),
            targets: snapshot.targets.clone(),
            endpoints: snapshot.endpoints.values().cloned().collect(),
            connection_strings: snapshot.strings.clone(),
            dns: DnsViewOut { public: zones(&snapshot.dns.public), vpcs: vpcs.collect() },
            service_side: (*snapshot.service_side).clone(),
            notices: snapshot.notices.clone(),
        }
    }
}

fn zones<N: ToString>(zones: &BTreeMap<N, DnsZone>) -> Zones {
    let records = |zone: &DnsZone| zone.records.iter().map(|(name, sets)| (name.to_string(), sets.clone())).collect();
    zones.iter().map(|(apex, zone)| (apex.to_string(), records(zone))).collect()
}
