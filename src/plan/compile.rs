//! From what is wanted to a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::TargetKind;
use super::apps::compile_apps;
use super::dns;
use super::error::{Findings, Location, PlanErrors, RuleError};
use super::gates::gates;
use super::held::Held;
use super::paths::paths;
use super::ports::{PortLedger, allocate};
use super::rules;
use super::snapshot::{EndpointGate, Gate, Generation, Listener, Member, Snapshot, TargetGroup, TargetView};
use super::strings::Paths;
use super::survey::{Provider, Survey, counts, is_available};
use super::targets::{Addressable, Process, is_optimized};
use crate::model::{
    CidrSet, Cluster, Desired, EndpointService, InterfaceEndpoint, ListenerPort, Node, Project, TargetId, TargetState,
    VpceId, VpceServiceId,
};

/// Turns what is wanted into a snapshot, given what is held from before; the second result is what to hold from now on.
///
/// Ports and indexes stick: a target keeps its port and an endpoint its N while they exist. The port of a target that is
/// gone or moved drains until [`Held::release`]. The answer depends on the arguments alone.
///
/// # Errors
///
/// [`PlanErrors`] with every mistake at once; nothing is then to be held.
pub fn compile(desired: &Desired, held: &Held, generation: Generation) -> Result<(Snapshot, Held), PlanErrors> {
    let survey = Survey::of(desired);
    let mut findings = Findings::default();
    rules::check(&survey, held, &mut findings);
    let next = hold(&survey, held, &mut findings);
    findings.checked()?;

    let service_side: BTreeSet<_> = survey.providers.values().flat_map(|provider| provider.cidrs().iter()).collect();
    let service_side: CidrSet = service_side.into_iter().copied().collect();
    let paths = paths(&survey, &next, &mut findings);
    let gates = gates(&survey);
    let dns = dns::view(&survey, &gates, &paths, &service_side, &mut findings);
    findings.checked()?;

    let mut snapshot = Snapshot {
        generation,
        strings: paths.iter().map(Paths::strings).collect(),
        apps: Arc::new(compile_apps(desired, &gates)),
        dns: Arc::new(dns),
        service_side: Arc::new(service_side),
        notices: findings.into_notices(),
        ..Snapshot::default()
    };
    for provider in survey.providers.values() {
        if let Provider::Project(project, service) = *provider {
            add_balancer(&mut snapshot, &survey, &gates, &next, project, service);
        }
    }
    for project in &desired.projects {
        add_public(&mut snapshot, &survey, project);
    }
    snapshot.endpoints = gates;
    Ok((snapshot, next))
}

/// Ports for every target and an N for every endpoint.
fn hold(survey: &Survey<'_>, held: &Held, findings: &mut Findings) -> Held {
    let mut next = Held::default();
    let mut moves: BTreeMap<&VpceServiceId, BTreeMap<TargetId, ListenerPort>> = BTreeMap::new();
    for ((service, target), port) in &survey.desired.moves {
        let known = survey.targets.get(service).is_some_and(|t| t.binary_search_by(|t| t.id.cmp(target)).is_ok());
        if !known {
            let text = format_args!("nothing moves to port {port}: there is no target `{target}`");
            findings.note(&Location::Service(service.clone()), text);
        }
        moves.entry(service).or_default().insert(target.clone(), *port);
    }
    let fresh = PortLedger::default();
    for (id, provider) in &survey.providers {
        let Provider::Project(_, service) = provider else { continue };
        let ledger = held.ledgers.get(id).unwrap_or(&fresh);
        let wanted = survey.targets.get(id).into_iter().flatten().map(|target| target.id.clone()).collect();
        match allocate(service.ports, ledger, &wanted, moves.get(id).unwrap_or(&BTreeMap::new())) {
            Ok(ledger) => {
                note_strays(service, &ledger, findings);
                next.ledgers.insert((*id).clone(), ledger);
            }
            Err(errors) => {
                for error in errors {
                    findings.refuse(Location::Service((*id).clone()), error);
                }
            }
        }
        number(survey.endpoints_of(id), held, &mut next, findings);
    }
    for (id, ledger) in &held.ledgers {
        if !matches!(survey.providers.get(id), Some(Provider::Project(..))) {
            next.ledgers.insert(id.clone(), ledger.retired());
        }
    }
    next.ledgers.retain(|_, ledger| !ledger.is_empty());
    next
}

/// Says which ports lie outside the load balancer's range, which has changed since they were given.
fn note_strays(service: &EndpointService, ledger: &PortLedger, findings: &mut Findings) {
    for (target, port) in ledger.ports().filter(|(_, port)| !service.ports.contains(*port)) {
        findings.note(
            &Location::Service(service.id.clone()),
            format_args!("`{target}` keeps port {port}, which is outside {}; move it to end that", service.ports),
        );
    }
}

/// Gives every endpoint of a load balancer its N: the one that it has, else the lowest free, in order of id.
///
/// An endpoint that has one keeps it in every state; a new one gets one when it is to be connected.
fn number(endpoints: &[&InterfaceEndpoint], held: &Held, next: &mut Held, findings: &mut Findings) {
    let mut taken: BTreeSet<u16> = BTreeSet::new();
    let mut new: Vec<&VpceId> = Vec::new();
    for endpoint in endpoints {
        match held.indexes.get(&endpoint.id) {
            Some(index) if taken.insert(*index) => {
                next.indexes.insert(endpoint.id.clone(), *index);
            }
            _ if counts(endpoint) => new.push(&endpoint.id),
            _ => {}
        }
    }
    let mut free = (0..=u16::MAX).filter(|index| !taken.contains(index));
    for id in new {
        match free.next() {
            Some(index) => {
                next.indexes.insert(id.clone(), index);
            }
            None => findings.refuse(Location::Endpoint(id.clone()), RuleError::IndexesExhausted),
        }
    }
}

/// The targets of one load balancer, and a listener for each at every address of every available endpoint.
fn add_balancer(
    snapshot: &mut Snapshot,
    survey: &Survey<'_>,
    gates: &BTreeMap<VpceId, Arc<EndpointGate>>,
    held: &Held,
    project: &Project,
    service: &EndpointService,
) {
    let Some(ledger) = held.ledgers.get(&service.id) else { return };
    let first = snapshot.targets.len();
    let mut open = Vec::new();
    for target in survey.targets.get(&service.id).into_iter().flatten() {
        let Some(port) = ledger.port(&target.id) else { continue };
        let members = members(survey, service, target);
        snapshot.targets.push(view(project, service, target, port, members.clone()));
        if !target.cluster.paused {
            let proxy = service.attributes.proxy_protocol || target.kind == TargetKind::Optimized;
            open.push((port, Arc::new(group(service, target.id.clone(), members, proxy))));
        }
    }
    snapshot.targets[first..].sort_by_key(|target| target.port);
    for endpoint in survey.endpoints_of(&service.id).iter().filter(|endpoint| is_available(endpoint)) {
        let Some(gate) = gates.get(&endpoint.id) else { continue };
        for at in &gate.addresses {
            for (port, group) in &open {
                let address = SocketAddr::new(at.ip, port.get());
                let gate = Gate::Endpoint(Arc::clone(gate));
                let listener = Listener { address, gate, group: Arc::clone(group), zone: at.zone.clone() };
                snapshot.listeners.insert(address, Arc::new(listener));
            }
        }
    }
}

fn members(survey: &Survey<'_>, service: &EndpointService, target: &Addressable<'_>) -> Vec<Member> {
    target.processes.iter().map(|process| member(survey, service, &target.id, process)).collect()
}

fn member(survey: &Survey<'_>, service: &EndpointService, target: &TargetId, process: &Process<'_>) -> Member {
    let health = &survey.desired.health;
    let state = if health.is_empty() {
        None
    } else {
        health.get(&(service.id.clone(), target.clone(), process.name.to_owned())).copied()
    };
    Member {
        name: process.name.to_owned(),
        zone: process.zone.clone(),
        address: process.address,
        state: state.unwrap_or(TargetState::Initial),
    }
}

fn view(
    project: &Project,
    service: &EndpointService,
    target: &Addressable<'_>,
    port: ListenerPort,
    members: Vec<Member>,
) -> TargetView {
    TargetView {
        project: project.id.clone(),
        service: service.id.clone(),
        region: service.region.clone(),
        id: target.id.clone(),
        cluster: target.cluster.name.clone(),
        kind: target.kind,
        port,
        state: if target.cluster.paused { TargetState::Unused } else { best_of(&members) },
        members,
        paused: target.cluster.paused,
    }
}

/// The best state among the members: one that takes flows is enough.
fn best_of(members: &[Member]) -> TargetState {
    const BEST_FIRST: [TargetState; 5] = [
        TargetState::Healthy,
        TargetState::Initial,
        TargetState::Unhealthy,
        TargetState::Draining,
        TargetState::Unused,
    ];
    let is_some = |state: &&TargetState| members.iter().any(|member| member.state == **state);
    BEST_FIRST.iter().find(is_some).copied().unwrap_or(TargetState::Unused)
}

fn group(service: &EndpointService, target: TargetId, members: Vec<Member>, proxy_protocol: bool) -> TargetGroup {
    let attributes = &service.attributes;
    TargetGroup {
        service: service.id.clone(),
        target,
        members,
        proxy_protocol,
        idle_timeout: attributes.idle_timeout,
        connect_timeout: attributes.connect_timeout,
        deregistration_delay: attributes.deregistration_delay,
        terminate_on_deregistration: attributes.terminate_on_deregistration,
        flows_per_target: attributes.flows_per_target,
        cross_zone: attributes.cross_zone,
        source_addresses: service.source_addresses.clone(),
    }
}

/// The standard path: each node with a public address of its own is reached there by whoever is on the project's IP
/// access list.
fn add_public(snapshot: &mut Snapshot, survey: &Survey<'_>, project: &Project) {
    let access_list = Arc::new(project.access_list.clone());
    for cluster in project.clusters.iter().filter(|cluster| !cluster.paused) {
        for node in &cluster.nodes {
            let Some(address) = node.public_address else { continue };
            let Some(service) = survey.service_in(project, &node.zone.region()) else { continue };
            let group = Arc::new(public_group(survey, project, service, cluster, node));
            let gate = Gate::Public { access_list: Arc::clone(&access_list) };
            let listener = Listener { address, gate, group, zone: node.zone.clone() };
            snapshot.listeners.insert(address, Arc::new(listener));
        }
    }
}

/// One node alone. Its process expects a PROXY header on the standard path if it does on the private one: it is the same
/// port of the same process.
fn public_group(
    survey: &Survey<'_>,
    project: &Project,
    service: &EndpointService,
    cluster: &Cluster,
    node: &Node,
) -> TargetGroup {
    let optimized = is_optimized(project, cluster);
    let own = TargetId::new(&cluster.name, &node.name);
    let checked = if optimized { TargetId::optimized(&cluster.name) } else { own.clone() };
    let process = Process { name: &node.name, zone: &node.zone, address: node.address };
    let members = vec![member(survey, service, &checked, &process)];
    group(service, own, members, service.attributes.proxy_protocol || optimized)
}
