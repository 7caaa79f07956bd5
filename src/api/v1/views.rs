//! Read-only parts of `/v1`: the status, the snapshot, endpoints and connection strings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Method;
use schemars::JsonSchema;
use serde::Serialize;

use super::V1Error;
use super::operation::{Operation, OperationRequest};
use super::problems::{ProblemInputs, StatusProblem};
use super::{limits, problems};
use crate::data::Carried;
use crate::lifecycle::ReadinessView;
use crate::model::{CidrSet, HumanDuration, VpcId, Zone};
use crate::plan::{ClusterStrings, DnsZone, EndpointAccess, Generation, Listener, Member, RecordSets, TargetView};

pub(super) fn operations() -> Vec<Operation> {
    let get = Method::GET;
    vec![
        Operation::new(
            get.clone(),
            "/v1/status",
            "getStatus",
            "What is wrong, what is ready, what was carried",
            status,
        ),
        Operation::new(
            get.clone(),
            "/v1/snapshot",
            "getSnapshot",
            "The snapshot that the data plane and DNS use",
            snapshot,
        ),
        Operation::new(get.clone(), "/v1/endpoints", "listEndpoints", "Every interface endpoint", endpoints),
        Operation::new(
            get,
            "/v1/connection-strings",
            "getConnectionStrings",
            "The connection strings of every cluster",
            connection_strings,
        )
        .query(&["project", "cluster"]),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Status {
    /// Whether no problem is more severe than `info`.
    ok: bool,
    /// Current problems, most severe first.
    problems: Vec<StatusProblem>,
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
    /// The number of faults.
    faults: usize,
    notices: Vec<String>,
}

async fn status(request: OperationRequest) -> Result<Status, V1Error> {
    let shared = &request.shared;
    let (control, snapshot, readiness) = (&shared.control, shared.control.snapshot(), shared.readiness.view());
    let reload_problem = control.last_problem().borrow().clone();
    let (store_problem, flow_log_problem) = (control.store_problem(), shared.flows.flow_log_problem());
    let problems = problems::problems(&ProblemInputs {
        readiness: &readiness,
        reload_problem: reload_problem.as_deref(),
        pending_settings: &shared.pending_settings.borrow(),
        store_problem: store_problem.as_deref(),
        shared_status: &control.shared_status().borrow(),
        flow_log_problem: flow_log_problem.as_deref(),
        node_names: &control.node_names(),
        snapshot: &snapshot,
        faults: &control.faults(),
        shifts: &control.shifts(),
        draining_ports: &control.draining_ports(),
        limits: &limits::view(shared).limits,
        gateways: control.gateways().as_deref(),
    });
    Ok(Status {
        ok: problems.iter().all(StatusProblem::is_info),
        problems,
        version: env!("CARGO_PKG_VERSION"),
        generation: snapshot.generation,
        readiness,
        reload_problem,
        listeners: snapshot.listeners.len(),
        targets: snapshot.targets.len(),
        endpoints: snapshot.endpoints.len(),
        open_flows: shared.flows.open_flows(),
        carried: shared.flows.carried(),
        faults: snapshot.faults.len(),
        notices: snapshot.notices.clone(),
    })
}

#[derive(Serialize, JsonSchema)]
struct Endpoints {
    endpoints: Vec<Arc<EndpointAccess>>,
}

async fn endpoints(request: OperationRequest) -> Result<Endpoints, V1Error> {
    Ok(Endpoints { endpoints: request.shared.control.snapshot().endpoints.values().cloned().collect() })
}

#[derive(Serialize, JsonSchema)]
struct Strings {
    connection_strings: Vec<ClusterStrings>,
}

async fn connection_strings(request: OperationRequest) -> Result<Strings, V1Error> {
    let wanted = |strings: &&ClusterStrings| {
        request.query("project").is_none_or(|id| strings.project.as_str() == id)
            && request.query("cluster").is_none_or(|name| strings.cluster.as_str() == name)
    };
    let snapshot = request.shared.control.snapshot();
    Ok(Strings { connection_strings: snapshot.strings.iter().filter(wanted).cloned().collect() })
}

/// Everything that the data plane and DNS read.
#[derive(Serialize, JsonSchema)]
struct SnapshotOut {
    generation: Generation,
    listeners: Vec<ListenerView>,
    targets: Vec<TargetView>,
    endpoints: Vec<Arc<EndpointAccess>>,
    connection_strings: Vec<ClusterStrings>,
    dns: DnsViewOut,
    service_side: CidrSet,
    notices: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct ListenerView {
    address: SocketAddr,
    zone: Zone,
    /// The endpoint, or `public`.
    gate: String,
    target: String,
    members: Vec<Member>,
    proxy_protocol: bool,
    idle_timeout: HumanDuration,
    deregistration_delay: HumanDuration,
}

impl ListenerView {
    fn of(listener: &Listener) -> Self {
        let group = &listener.group;
        Self {
            address: listener.address,
            zone: listener.zone.clone(),
            gate: listener.access.label().to_owned(),
            target: group.target.to_string(),
            members: group.members.clone(),
            proxy_protocol: group.proxy_protocol,
            idle_timeout: HumanDuration(group.idle_timeout),
            deregistration_delay: HumanDuration(group.deregistration_delay),
        }
    }
}

type DnsZones = BTreeMap<String, BTreeMap<String, RecordSets>>;

#[derive(Serialize, JsonSchema)]
struct DnsViewOut {
    public: DnsZones,
    vpcs: Vec<VpcDnsOut>,
}

#[derive(Serialize, JsonSchema)]
struct VpcDnsOut {
    vpc: VpcId,
    clients: CidrSet,
    enabled: bool,
    private: DnsZones,
}

async fn snapshot(request: OperationRequest) -> Result<SnapshotOut, V1Error> {
    let snapshot = request.shared.control.snapshot();
    let vpcs = snapshot.dns.vpcs.iter().map(|vpc| VpcDnsOut {
        vpc: vpc.vpc.clone(),
        clients: vpc.clients.clone(),
        enabled: vpc.enabled,
        private: zones(&vpc.private),
    });
    Ok(SnapshotOut {
        generation: snapshot.generation,
        listeners: snapshot.listeners.values().map(|listener| ListenerView::of(listener)).collect(),
        targets: snapshot.targets.clone(),
        endpoints: snapshot.endpoints.values().cloned().collect(),
        connection_strings: snapshot.strings.clone(),
        dns: DnsViewOut { public: zones(&snapshot.dns.public), vpcs: vpcs.collect() },
        service_side: (*snapshot.service_side).clone(),
        notices: snapshot.notices.clone(),
    })
}

fn zones<N: ToString>(zones: &BTreeMap<N, DnsZone>) -> DnsZones {
    let records = |zone: &DnsZone| zone.records.iter().map(|(name, sets)| (name.to_string(), sets.clone())).collect();
    zones.iter().map(|(apex, zone)| (apex.to_string(), records(zone))).collect()
}
