//! Compiles the desired state to a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::TargetKind;
use super::apps::compile_apps;
use super::dns;
use super::endpoint_access::endpoint_access;
use super::error::{Findings, Location, PlanErrors};
use super::paths::paths;
use super::port_allocations::PortAllocations;
use super::ports::{PortLedger, allocate};
use super::rules;
use super::snapshot::{
    EndpointAccess, Generation, Listener, ListenerAccess, ListenerMode, Member, Snapshot, TargetGroup, TargetView,
    UnresolvedMember, ZoneAddress, ZoneView,
};
use super::strings::Paths;
use super::survey::{ServiceOwner, Survey, counts, is_available};
use super::targets::{Addressable, TargetProcess, is_optimized};
use crate::model::{
    CidrSet, ClaimId, Cluster, Desired, EndpointService, FaultKind, InterfaceEndpoint, IpAddressType, IpFamily,
    ListenerPort, Node, Project, TargetId, TargetState, VpceId, VpceServiceId, Zone,
};

/// Compiles the desired state to a snapshot, given the earlier port allocations; the second result is the new port
/// allocations.
///
/// Ports and indexes are sticky: a target keeps its port and an endpoint its N while they exist. The port of a removed
/// or moved target drains until [`PortAllocations::release`]. The result depends only on the arguments.
///
/// # Errors
///
/// [`PlanErrors`] with every mistake at once; the earlier allocations remain.
pub fn compile(
    desired: &Desired,
    held: &PortAllocations,
    generation: Generation,
) -> Result<(Snapshot, PortAllocations), PlanErrors> {
    let survey = Survey::of(desired);
    let mut findings = Findings::default();
    rules::check(&survey, held, &mut findings);
    let next = hold(&survey, held, &mut findings);
    findings.checked()?;

    let service_side: BTreeSet<_> = survey.providers.values().flat_map(|provider| provider.cidrs().iter()).collect();
    let mut service_side: Vec<IpNet> = service_side.into_iter().copied().collect();
    service_side.extend(outside_targets(&survey, &service_side));
    let service_side: CidrSet = service_side.into_iter().collect();
    let paths = paths(&survey, &next, &mut findings);
    let endpoint_access = endpoint_access(&survey);
    note_closed_ports(&survey, &endpoint_access, &next, &mut findings);
    let dns = dns::view(&survey, &endpoint_access, &paths, &service_side, &mut findings);
    findings.checked()?;

    let mut snapshot = Snapshot {
        generation,
        zones: zones(&survey),
        faults: desired.faults.values().cloned().collect(),
        strings: paths.iter().map(Paths::strings).collect(),
        apps: Arc::new(compile_apps(&survey, &endpoint_access)),
        dns: Arc::new(dns),
        service_side: Arc::new(service_side),
        notices: findings.into_notices(),
        served_here: desired.served_here.as_ref().map(|claims| claims.keys().cloned().collect()),
        ..Snapshot::default()
    };
    for provider in survey.providers.values() {
        if let ServiceOwner::Project(project, service) = *provider {
            add_balancer(&mut snapshot, &survey, &endpoint_access, &next, project, service);
        }
    }
    for project in &desired.projects {
        add_public(&mut snapshot, &survey, project);
    }
    snapshot.endpoints = endpoint_access;
    Ok((snapshot, next))
}

/// Adds notices about endpoints whose security groups admit no client to any of their targets' ports.
fn note_closed_ports(
    survey: &Survey<'_>,
    endpoint_access: &BTreeMap<VpceId, Arc<EndpointAccess>>,
    held: &PortAllocations,
    findings: &mut Findings,
) {
    for endpoint in survey.endpoints.values().flatten() {
        let (service, groups) = (endpoint.service.service(), &endpoint.security_groups);
        let Some((access, ledger)) = endpoint_access.get(&endpoint.id).zip(held.ledgers.get(service)) else { continue };
        let open = |port: ListenerPort| access.rules.ingress.iter().any(|rule| rule.ports.contains(port));
        let targets = survey.targets.get(service).into_iter().flatten();
        let ports: BTreeSet<ListenerPort> = targets.filter_map(|target| ledger.port(&target.id)).collect();
        let (Some(first), Some(last)) = (ports.first(), ports.last()) else { continue };
        if groups.is_empty() {
            continue;
        }
        let over = |family: IpFamily| {
            let is_of = |net: &IpNet| IpFamily::of(net.addr()) == family;
            let mut rules = access.rules.ingress.iter().filter(|rule| rule.cidrs.iter().any(is_of));
            rules.any(|rule| ports.iter().any(|port| rule.ports.contains(*port)))
        };
        let is_dual = endpoint.ip_address_type == IpAddressType::Dualstack;
        let closed = match ports.iter().any(|port| open(*port)) {
            false => "",
            // Rules have networks of one address family each.
            true if is_dual && !over(IpFamily::Ipv6) => " over IPv6",
            true if is_dual && !over(IpFamily::Ipv4) => " over IPv4",
            true => continue,
        };
        let names: Vec<&str> = groups.iter().map(|group| group.as_str()).collect();
        let plural = if names.len() == 1 { ("", "s") } else { ("s", "") };
        let (names, range) =
            (names.join(", "), if first == last { format!(" {first}") } else { format!("s {first}-{last}") });
        findings.note(
            &Location::Endpoint(endpoint.id.clone()),
            format_args!(
                "security group{} {names} admit{} none of this endpoint's port{range}{closed}",
                plural.0, plural.1
            ),
        );
    }
}

/// The zones with endpoints of each project's load balancers.
fn zones(survey: &Survey<'_>) -> Vec<ZoneView> {
    let services = survey.providers.iter().filter(|(_, provider)| matches!(provider, ServiceOwner::Project(..)));
    let zones_of = |service: &VpceServiceId| {
        let addresses = survey.endpoints_of(service).iter().flat_map(|endpoint| &endpoint.addresses);
        addresses.map(|address| address.zone.clone()).collect::<BTreeSet<_>>()
    };
    let views = services.flat_map(|(service, _)| {
        zones_of(service).into_iter().map(|zone| ZoneView {
            service: (*service).clone(),
            healthy: survey.is_zone_healthy(service, &zone, None),
            shifted: survey.is_shifted(service, &zone),
            silent: survey.desired.silent_zones.contains(&zone),
            unserved: survey.is_zone_unserved(&zone),
            lost: survey.is_zone_lost(service, &zone, None),
            unhealthy_targets: survey.unhealthy_targets(service, &zone).to_vec(),
            addresses: addresses_in(survey, service, &zone),
            zone,
        })
    });
    views.collect()
}

fn addresses_in(survey: &Survey<'_>, service: &VpceServiceId, zone: &Zone) -> Vec<ZoneAddress> {
    let endpoints = survey.endpoints_of(service).iter();
    let of_endpoint = |endpoint: &&InterfaceEndpoint| {
        let answered = is_available(endpoint).then(|| survey.answered(endpoint));
        let here = endpoint.addresses.iter().filter(|address| address.zone == *zone).map(|address| address.ip);
        let id = &endpoint.id;
        let view = |ip| {
            let answer = answered.as_ref().filter(|(ips, _)| ips.contains(&ip)).map(|(_, answer)| *answer);
            ZoneAddress { endpoint: id.clone(), ip, in_dns: answer.is_some(), dns_answer: answer }
        };
        here.map(view).collect::<Vec<_>>()
    };
    endpoints.flat_map(of_endpoint).collect()
}

/// Addresses of processes outside every load balancer's networks. They count as the service's side too, except those
/// for which there is a notice ([`Survey::is_service_side_alone`]).
fn outside_targets(survey: &Survey<'_>, service_side: &[IpNet]) -> Vec<IpNet> {
    let known: CidrSet = service_side.iter().copied().collect();
    let projects = survey.desired.projects.iter().filter(|project| !project.services.is_empty());
    let addresses: BTreeSet<IpAddr> = projects
        .flat_map(|project| &project.clusters)
        .flat_map(|cluster| cluster.addresses().filter_map(|address| address.at(&survey.desired.resolved)))
        .map(|address| address.ip())
        .filter(|ip| !known.contains(*ip) && survey.is_service_side_alone(*ip))
        .collect();
    addresses.into_iter().map(IpNet::from).collect()
}

/// Allocates a port for every target and an N for every endpoint.
fn hold(survey: &Survey<'_>, held: &PortAllocations, findings: &mut Findings) -> PortAllocations {
    let mut next = PortAllocations::default();
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
        let ServiceOwner::Project(_, service) = provider else { continue };
        let ledger = held.ledgers.get(id).unwrap_or(&fresh);
        let wanted = survey.targets.get(id).into_iter().flatten().map(|target| target.id.clone()).collect();
        match allocate(service.ports, ledger, &wanted, moves.get(id).unwrap_or(&BTreeMap::new())) {
            Ok(ledger) => {
                note_out_of_range(service, &ledger, findings);
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
        if !matches!(survey.providers.get(id), Some(ServiceOwner::Project(..))) {
            next.ledgers.insert(id.clone(), ledger.retired());
        }
    }
    next.ledgers.retain(|_, ledger| !ledger.is_empty());
    next
}

/// Adds notices about ports outside the load balancer's range, which has changed since they were assigned.
fn note_out_of_range(service: &EndpointService, ledger: &PortLedger, findings: &mut Findings) {
    for (target, port) in ledger.ports().filter(|(_, port)| !service.ports.contains(*port)) {
        findings.note(
            &Location::Service(service.id.clone()),
            format_args!("`{target}` keeps port {port}, which is outside {}; move it to end that", service.ports),
        );
    }
}

/// Assigns every endpoint of a load balancer its N: the existing one, otherwise the lowest free one, in order of id.
///
/// An endpoint keeps its N in every state; a new one gets one when it is about to be connected.
fn number(
    endpoints: &[&InterfaceEndpoint],
    held: &PortAllocations,
    next: &mut PortAllocations,
    findings: &mut Findings,
) {
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
            None => {
                let rule = "cannot number the endpoint: every N of `pl-N` from 0 to 65535 is taken";
                findings.refuse(Location::Endpoint(id.clone()), rule.to_owned());
            }
        }
    }
}

/// Adds the targets of one load balancer, and a listener for each at every address of every available endpoint.
fn add_balancer(
    snapshot: &mut Snapshot,
    survey: &Survey<'_>,
    endpoint_access: &BTreeMap<VpceId, Arc<EndpointAccess>>,
    held: &PortAllocations,
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
            let connections_per_member = match target.kind {
                TargetKind::BiConnector => None,
                _ => target.cluster.connections_per_node(),
            };
            let group = TargetGroup { connections_per_member, ..group(service, target.id.clone(), members, proxy) };
            open.push((port, Arc::new(group)));
        }
    }
    snapshot.targets[first..].sort_by_key(|target| target.port);
    for endpoint in survey.endpoints_of(&service.id).iter().filter(|endpoint| is_available(endpoint)) {
        let Some(access) = endpoint_access.get(&endpoint.id) else { continue };
        for at in &access.addresses {
            let Some(lease) = survey.desired.lease(at.zone.as_str()) else { continue };
            for (port, group) in &open {
                let address = SocketAddr::new(at.ip, port.get());
                let access = ListenerAccess::Endpoint(Arc::clone(access));
                let answer = group.answer(&at.zone);
                let (group, zone) = (Arc::clone(group), at.zone.clone());
                let (faults, lease) = (Vec::new(), lease.clone());
                let mut listener = Listener { address, access, group, zone, answer, outage: false, faults, lease };
                apply_faults(&mut listener, survey);
                snapshot.listeners.insert(address, Arc::new(listener));
            }
        }
    }
}

fn members(survey: &Survey<'_>, service: &EndpointService, target: &Addressable<'_>) -> Vec<Member> {
    let here = target.processes.iter().filter_map(|process| member(survey, service, &target.id, process));
    let mut members: Vec<Member> = here.collect();
    for ((of, id, name), (zone, address)) in &survey.desired.draining {
        if *of == service.id && *id == target.id && !members.iter().any(|member| member.name == *name) {
            members.push(Member {
                name: name.clone(),
                zone: zone.clone(),
                address: *address,
                host: None,
                state: TargetState::Draining,
                reach: None,
                shifted: false,
                faulted: false,
            });
        }
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

/// The member for a process; `None` while its host name is not resolved.
fn member(
    survey: &Survey<'_>,
    service: &EndpointService,
    target: &TargetId,
    process: &TargetProcess<'_>,
) -> Option<Member> {
    let health = survey.health(&service.id, target, process.name);
    let fault = survey.unreachable(&service.id, target, process.name, process.zone);
    let key = (service.id.clone(), target.clone(), process.name.to_owned());
    let state = match (survey.desired.deregistered.contains(&key), survey.desired.draining.contains_key(&key)) {
        (false, _) => health.state,
        (true, true) => TargetState::Draining,
        (true, false) => TargetState::Unused,
    };
    Some(Member {
        name: process.name.to_owned(),
        zone: process.zone.clone(),
        address: process.address?,
        host: process.given.host().cloned(),
        state,
        reach: fault.or(health.reach),
        faulted: fault.is_some(),
        shifted: survey.is_shifted(&service.id, process.zone),
    })
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
        state: if target.cluster.paused { TargetState::Unused } else { best_state(&members) },
        members,
        unresolved: target.processes.iter().filter(|process| process.address.is_none()).map(unresolved).collect(),
        paused: target.cluster.paused,
    }
}

fn unresolved(process: &TargetProcess<'_>) -> UnresolvedMember {
    UnresolvedMember { name: process.name.to_owned(), zone: process.zone.clone(), address: process.given.to_string() }
}

/// The best state among the members, as one that receives flows suffices.
fn best_state(members: &[Member]) -> TargetState {
    const BEST_FIRST: [TargetState; 6] = [
        TargetState::Healthy,
        TargetState::Initial,
        TargetState::UnhealthyDraining,
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
        terminate_on_unhealthy: attributes.terminate_on_unhealthy,
        routing_minimum: attributes.routing_minimum,
        bandwidth_cap: attributes.bandwidth_cap,
        proxy_sources: attributes.proxy_sources.clone(),
        flows_per_target: attributes.flows_per_target,
        connections_per_member: None,
        cross_zone: attributes.cross_zone,
        source_addresses: service.source_addresses.clone(),
    }
}

/// Applies the faults to a listener. A fault that matches every flow changes the listener's mode.
fn apply_faults(listener: &mut Listener, survey: &Survey<'_>) {
    let vpce = match &listener.access {
        ListenerAccess::Endpoint(access) => Some(&access.id),
        ListenerAccess::Public { .. } => None,
    };
    let (group, zone) = (&listener.group, &listener.zone);
    for fault in survey.faults() {
        let scope = &fault.scope;
        let here = scope.service.as_ref().is_none_or(|service| *service == group.service)
            && scope.zone.as_ref().is_none_or(|of| of == zone)
            && scope.endpoint.as_ref().is_none_or(|of| vpce == Some(of));
        let at_target = scope.target.as_ref().is_none_or(|target| *target == group.target)
            && scope.member.as_ref().is_none_or(|name| group.members.iter().any(|member| member.name == *name));
        if matches!(fault.kind, FaultKind::ZoneOutage {}) && here && scope.zone.is_some() {
            listener.outage = true;
            listener.answer = ListenerMode::Ignore;
        } else if fault.kind.affects_flows() && here && at_target {
            match fault.kind {
                _ if listener.outage || !fault.share.is_whole() => {}
                FaultKind::Refuse {} => listener.answer = ListenerMode::Refuse,
                FaultKind::BlackHole {} => listener.answer = ListenerMode::Ignore,
                _ => {}
            }
            listener.faults.push(Arc::clone(fault));
        }
    }
}

/// Adds the standard path: clients on the project's IP access list reach a node at its public address.
fn add_public(snapshot: &mut Snapshot, survey: &Survey<'_>, project: &Project) {
    let Some(lease) = survey.desired.lease(ClaimId::PUBLIC) else { return };
    let access_list = Arc::new(project.access_list.clone());
    for cluster in project.clusters.iter().filter(|cluster| !cluster.paused) {
        for node in &cluster.nodes {
            let Some(address) = node.public_address else { continue };
            let Some(service) = survey.service_in(project, &node.zone.region()) else { continue };
            let group = Arc::new(public_group(survey, project, service, cluster, node));
            let access = ListenerAccess::Public { access_list: Arc::clone(&access_list) };
            let answer = group.answer(&node.zone);
            let zone = node.zone.clone();
            let (faults, lease) = (Vec::new(), lease.clone());
            let mut listener = Listener { address, access, group, zone, answer, outage: false, faults, lease };
            apply_faults(&mut listener, survey);
            snapshot.listeners.insert(address, Arc::new(listener));
        }
    }
}

/// A group with a single node. Its process expects a PROXY header on the standard path if it does on the private one,
/// as it is the same port.
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
    let process = TargetProcess::new(&node.name, &node.zone, &node.address, &survey.desired.resolved);
    let members = member(survey, service, &checked, &process).into_iter().collect();
    TargetGroup {
        connections_per_member: cluster.connections_per_node(),
        ..group(service, own, members, service.attributes.proxy_protocol || optimized)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        ENDPOINT, SERVICE, VPC, WEST_ENDPOINT, add_endpoint, bi_connector, documented, endpoint, nets, of, plan,
        plan_from, refusals_from, replica_set, rule, sharded, two_regions, with_app,
    };
    use super::*;
    use crate::model::{EndpointState, SecurityGroupId, VpcId};

    fn listener<'a>(snapshot: &'a Snapshot, address: &str) -> &'a Listener {
        snapshot.listeners.get(&of::<SocketAddr>(address)).unwrap_or_else(|| panic!("nothing listens on {address}"))
    }

    fn addresses(snapshot: &Snapshot) -> Vec<String> {
        snapshot.listeners.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn a_process_is_a_member_once_its_host_name_is_resolved() {
        let mut desired = documented();
        desired.projects[0].clusters[0].nodes[1].address = of("mongo1.internal:27017");
        let waiting = plan(&desired);
        desired.resolved.insert(of("mongo1.internal"), of("10.200.0.77"));
        let resolved = plan(&desired);
        let target = |snapshot: &Snapshot| {
            snapshot.targets.iter().find(|target| target.id == of("Cluster0/shard-00-01")).expect("a target").clone()
        };
        let (before, after) = (target(&waiting), target(&resolved));
        assert_eq!((before.members.len(), before.unresolved[0].address.as_str()), (0, "mongo1.internal:27017"));
        assert_eq!((after.members[0].address, after.unresolved.len()), (of("10.200.0.77:27017"), 0));
        assert_eq!(
            (before.port, addresses(&waiting)),
            (after.port, addresses(&resolved)),
            "its port is open all the time"
        );
    }

    /// A1, A5.
    #[test]
    fn every_address_of_an_endpoint_has_a_listener_for_every_target() {
        let snapshot = plan(&documented());
        assert_eq!(
            addresses(&snapshot),
            [
                "10.0.20.54:1024",
                "10.0.20.54:1025",
                "10.0.20.54:1026",
                "10.0.30.194:1024",
                "10.0.30.194:1025",
                "10.0.30.194:1026",
            ]
        );
        let second = listener(&snapshot, "10.0.20.54:1025");
        assert_eq!(second.zone, of("us-east-1b"));
        assert_eq!(second.access.label(), ENDPOINT);
        assert_eq!(second.group.target, of("Cluster0/shard-00-01"));
        assert_eq!(second.group.members.len(), 1);
        assert_eq!(second.group.members[0].address, of("10.200.0.12:27017"));
        assert_eq!(second.group.members[0].zone, of("us-east-1b"), "a member in another zone, with cross-zone");
        assert!(!second.group.proxy_protocol && second.group.cross_zone);
        assert_eq!(snapshot.generation, Generation(1));
    }

    /// A8, A16.
    #[test]
    fn an_optimized_cluster_is_one_target_with_all_mongos_behind_a_proxy_header() {
        let mut desired = documented();
        desired.projects[0].clusters.push(sharded("Sharded0", "k45tj", true, &["us-east-1b", "us-east-1a"], 21));
        desired.projects[0].clusters.push(sharded("Sharded1", "k45tj", false, &["us-east-1b", "us-east-1a"], 31));
        desired.projects[0].clusters[0].bi_connectors.push(bi_connector("bi", "10.200.9.9:27015"));
        let snapshot = plan(&desired);
        let targets: Vec<_> = snapshot.targets.iter().map(|t| (t.port.get(), t.id.as_str(), t.kind)).collect();
        assert_eq!(
            targets,
            [
                (1024, "Cluster0/bi", TargetKind::BiConnector),
                (1025, "Cluster0/shard-00-00", TargetKind::Mongod),
                (1026, "Cluster0/shard-00-01", TargetKind::Mongod),
                (1027, "Cluster0/shard-00-02", TargetKind::Mongod),
                (1028, "Sharded0/lb", TargetKind::Optimized),
                (1029, "Sharded1/shard-00-00", TargetKind::Mongos),
                (1030, "Sharded1/shard-00-01", TargetKind::Mongos),
            ]
        );
        let balanced = listener(&snapshot, "10.0.30.194:1028");
        assert!(balanced.group.proxy_protocol);
        let members: Vec<_> = balanced.group.members.iter().map(|member| member.address.to_string()).collect();
        assert_eq!(members, ["10.200.0.21:27016", "10.200.0.22:27016"]);
        assert!(!listener(&snapshot, "10.0.30.194:1029").group.proxy_protocol);
    }

    #[test]
    fn a_service_can_put_a_proxy_header_before_every_flow() {
        let mut desired = documented();
        desired.projects[0].services[0].attributes.proxy_protocol = true;
        let snapshot = plan(&desired);
        assert!(!snapshot.listeners.is_empty(), "the documented config has listeners");
        assert!(snapshot.listeners.values().all(|listener| listener.group.proxy_protocol));
    }

    /// A18: each endpoint's listeners forward to its region's `mongos`.
    #[test]
    fn an_endpoint_leads_to_the_nodes_of_its_own_region() {
        let mut desired = two_regions();
        let zones = ["us-east-1a", "us-west-2a", "us-west-2b"];
        desired.projects[0].clusters[0] = sharded("Cluster0", "k45tj", true, &zones, 21);
        desired.projects[0].regionalized = true;
        let snapshot = plan(&desired);
        let members = |address| listener(&snapshot, address).group.members.len();
        assert_eq!((members("10.0.30.194:1024"), members("10.1.30.194:1024")), (1, 2));
        assert_eq!(snapshot.targets.len(), 2, "a port per region");
    }

    #[test]
    fn a_paused_cluster_keeps_its_ports_and_nothing_listens_on_them() {
        let mut desired = documented();
        desired.projects[0].clusters.push(replica_set("Cluster1", "k45tj", &["us-east-1a"], 31));
        let (before, held) = plan_from(&desired, &PortAllocations::default());
        desired.projects[0].clusters[0].paused = true;
        let (after, still) = plan_from(&desired, &held);
        assert_eq!(held, still);
        assert_eq!(before.listeners.len(), 8);
        assert_eq!(addresses(&after), ["10.0.20.54:1027", "10.0.30.194:1027"]);
        let paused: Vec<_> = after.targets.iter().map(|t| (t.port.get(), t.paused, t.state)).collect();
        let (unused, initial) = (TargetState::Unused, TargetState::Initial);
        assert_eq!(paused, [(1024, true, unused), (1025, true, unused), (1026, true, unused), (1027, false, initial)]);
    }

    #[test]
    fn an_endpoint_that_is_not_available_has_no_listeners_but_is_seen() {
        for state in [
            EndpointState::PendingAcceptance,
            EndpointState::Pending,
            EndpointState::Deleting,
            EndpointState::Rejected,
            EndpointState::Failed,
            EndpointState::Expired,
        ] {
            let mut desired = documented();
            endpoint(&mut desired, ENDPOINT).state = state;
            let snapshot = plan(&desired);
            assert!(snapshot.listeners.is_empty(), "{state:?}");
            assert_eq!(snapshot.endpoints[&of::<VpceId>(ENDPOINT)].state, state);
            assert_eq!(snapshot.targets.len(), 3, "the ports are held all the same");
        }
    }

    #[test]
    fn a_removed_endpoint_is_no_more() {
        let mut desired = documented();
        endpoint(&mut desired, ENDPOINT).state = EndpointState::Deleted;
        let (snapshot, held) = plan_from(&desired, &PortAllocations::default());
        assert!(snapshot.endpoints.is_empty() && held.indexes.is_empty());
    }

    #[test]
    fn an_app_endpoint_has_a_gate_and_no_listener_of_the_load_balancers() {
        let (snapshot, held) = plan_from(&with_app(), &PortAllocations::default());
        assert_eq!(snapshot.endpoints.len(), 3);
        assert_eq!(snapshot.listeners.len(), 6);
        assert_eq!(held.indexes.len(), 1, "App Services' endpoints have no N");
        assert_eq!(snapshot.service_side.to_string(), "10.200.0.0/16, 10.202.0.0/16");
    }

    /// A15.
    #[test]
    fn a_public_address_leads_clients_on_the_access_list_to_its_node() {
        let mut desired = documented();
        desired.projects[0].clusters[0].nodes[2].public_address = Some(of("203.0.113.22:27017"));
        let snapshot = plan(&desired);
        let public = listener(&snapshot, "203.0.113.22:27017");
        let ListenerAccess::Public { access_list } = &public.access else { panic!("{:?}", public.access) };
        assert_eq!(**access_list, nets(&["203.0.113.0/24"]));
        assert_eq!(public.group.members[0].address, of("10.200.0.13:27017"));
        assert_eq!(public.zone, of("us-east-1c"));

        desired.projects[0].clusters[0].paused = true;
        let (_, held) = plan_from(&documented(), &PortAllocations::default());
        assert!(plan_from(&desired, &held).0.listeners.is_empty());
    }

    #[test]
    fn a_public_mongos_of_an_optimized_cluster_has_the_health_of_its_group() {
        let mut desired = documented();
        let mut cluster = sharded("Cluster0", "k45tj", true, &["us-east-1a", "us-east-1b"], 21);
        cluster.nodes[1].public_address = Some(of("203.0.113.22:27016"));
        desired.projects[0].clusters[0] = cluster;
        desired
            .health
            .insert((of(SERVICE), of("Cluster0/lb"), "shard-00-01".to_owned()), TargetState::Unhealthy.into());
        let snapshot = plan(&desired);
        let public = listener(&snapshot, "203.0.113.22:27016");
        assert_eq!(public.group.members[0].state, TargetState::Unhealthy);
        assert_eq!(public.group.target, of("Cluster0/shard-00-01"));
        assert!(public.group.proxy_protocol, "it is the same port of the same process");
    }

    #[test]
    fn a_target_is_as_healthy_as_its_best_member() {
        let mut desired = documented();
        desired.projects[0].clusters[0] = sharded("Cluster0", "k45tj", true, &["us-east-1a", "us-east-1b"], 21);
        let mut state = |first: TargetState, second: TargetState| {
            for (name, state) in [("shard-00-00", first), ("shard-00-01", second)] {
                desired.health.insert((of(SERVICE), of("Cluster0/lb"), name.to_owned()), state.into());
            }
            let snapshot = plan(&desired);
            let members = &listener(&snapshot, "10.0.30.194:1024").group.members;
            assert_eq!((members[0].state, members[1].state), (first, second));
            snapshot.targets[0].state
        };
        use TargetState::{Draining, Healthy, Initial, Unhealthy};
        assert_eq!(state(Unhealthy, Healthy), Healthy);
        assert_eq!(state(Unhealthy, Initial), Initial);
        assert_eq!(state(Unhealthy, Draining), Unhealthy);
        assert_eq!(plan(&documented()).targets[0].state, Initial, "not yet heard of");
    }

    /// A25.
    #[test]
    fn rules_that_name_groups_become_networks() {
        let snapshot = plan(&documented());
        let access = &snapshot.endpoints[&of::<VpceId>(ENDPOINT)];
        assert_eq!(access.rules.ingress.len(), 1);
        assert_eq!(access.rules.ingress[0].cidrs.to_string(), "10.0.0.0/16, 192.168.7.0/24");
        assert_eq!(access.rules.clients.len(), 1, "groups that have members");
        assert_eq!(access.rules.clients[0].members.to_string(), "192.168.7.0/24");
        let out = access.rules.clients[0].egress[0].cidrs.to_string();
        assert_eq!(out, "10.0.30.194/32, 10.0.20.54/32", "the endpoint's interfaces carry its group");
    }

    #[test]
    fn all_groups_of_an_endpoint_apply_together() {
        let mut desired = documented();
        let vpc = desired.vpcs.get_mut(&of::<VpcId>(VPC)).expect("it is there");
        let clients = vpc.security_groups.get_mut(&of::<SecurityGroupId>("sg-000000c0")).expect("it is there");
        clients.ingress.push(rule(&["192.168.0.0/16"], &[]));
        endpoint(&mut desired, ENDPOINT).security_groups.push(of("sg-000000c0"));
        let snapshot = plan(&desired);
        assert_eq!(snapshot.endpoints[&of::<VpceId>(ENDPOINT)].rules.ingress.len(), 2);
    }

    #[test]
    fn a_vanished_targets_port_drains_until_it_is_released() {
        let mut desired = documented();
        let (_, held) = plan_from(&desired, &PortAllocations::default());
        let gone = desired.projects[0].clusters[0].nodes.remove(0);
        let (snapshot, mut held) = plan_from(&desired, &held);
        assert_eq!(snapshot.targets[0].port.get(), 1025, "the others keep theirs");
        let draining: Vec<_> = held.draining().map(|(service, port)| (service.to_string(), port.get())).collect();
        assert_eq!(draining, [(SERVICE.to_owned(), 1024)]);

        desired.projects[0].clusters[0].nodes.push(gone);
        assert_eq!(plan_from(&desired, &held).0.targets[2].port.get(), 1027);
        assert!(held.release(&of(SERVICE), ListenerPort::try_from(1024).expect("a port")));
        assert_eq!(plan_from(&desired, &held).0.targets[0].port.get(), 1024);
    }

    #[test]
    fn a_vanished_service_leaves_its_ports_draining() {
        let mut desired = two_regions();
        desired.projects[0].clusters.push(replica_set("West", "k45tj", &["us-west-2a"], 31));
        let (_, held) = plan_from(&desired, &PortAllocations::default());
        assert_eq!((held.ledgers.len(), held.indexes.len()), (2, 2));
        desired.projects[0].services.pop();
        desired.endpoints.remove(&of::<VpceId>(WEST_ENDPOINT));
        let (_, mut held) = plan_from(&desired, &held);
        assert_eq!(held.draining().count(), 1);
        held.release_all();
        assert_eq!((held.ledgers.len(), held.indexes.len()), (1, 1));
    }

    #[test]
    fn an_impossible_move_is_refused_with_its_load_balancer() {
        let mut desired = documented();
        let (_, held) = plan_from(&desired, &PortAllocations::default());
        let port = ListenerPort::try_from(1026).expect("a port");
        desired.moves.insert((of(SERVICE), of("Cluster0/shard-00-00")), port);
        assert_eq!(
            refusals_from(&desired, &held),
            [format!(
                "endpoint service {SERVICE}: cannot move `Cluster0/shard-00-00` to port 1026: `Cluster0/shard-00-02` has \
                 it; choose a free port"
            )]
        );
    }

    #[test]
    fn planning_twice_gives_the_same_result() {
        let mut desired = with_app();
        add_endpoint(&mut desired, "vpce-0beef000000000002", SERVICE, "us-east-1", VPC, &[("10.0.30.7", "a")]);
        let (first, held) = plan_from(&desired, &PortAllocations::default());
        let (second, again) = plan_from(&desired, &held);
        assert_eq!(held, again);
        assert_eq!(first.listeners, second.listeners);
        assert_eq!((first.targets, first.strings, first.dns), (second.targets, second.strings, second.dns));
    }
}
