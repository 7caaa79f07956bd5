//! Invariants of the plan, tested by a random walk over valid and invalid desired states.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::fixture::{
    ENDPOINT, SERVICE, VPC, WEST_ENDPOINT, add_endpoint, bi_connector, nets, of, replica_set, sharded, two_regions,
    with_app,
};
use super::{Generation, ListenerAccess, PortAllocations, Snapshot, compile, diff};
use crate::model::{
    Cluster, Desired, EndpointState, InterfaceEndpoint, ListenerPort, Naming, PrivateZone, TargetState, Tier, VpceId,
    ZoneRecord,
};

/// A change of the desired state. The numbers choose the affected object, and any number is valid.
#[derive(Debug, Clone)]
enum DesiredEdit {
    AddCluster { kind: u8, nodes: u8, host: u16, label: bool },
    RemoveCluster(u8),
    RemoveNode(u8, u8),
    AddNode(u8, u16),
    Connector(u8, u16),
    Pause(u8),
    Name(u8),
    Tier(u8, u16),
    Public(u8, u8, u8),
    Region(u8),
    AddEndpoint(u8, u8),
    RemoveEndpoint(u8),
    State(u8, u8),
    Address(u8, u8),
    Lost(u8),
    Regional,
    Limit(u8),
    Ports(u16, u16),
    Move(u8, u16),
    Stay,
    Shift(u8),
    Health(u8, u8),
    Network(u8),
    Attributes(bool, bool),
    Zone(u8, u8),
    Twice(u8),
    App(u8),
    Release,
}

fn edit() -> impl Strategy<Value = DesiredEdit> {
    let n = any::<u8>();
    prop_oneof![
        3 => (n, 0u8..6, 11u16..60, any::<bool>())
            .prop_map(|(kind, nodes, host, label)| DesiredEdit::AddCluster { kind, nodes, host, label }),
        1 => n.prop_map(DesiredEdit::RemoveCluster),
        2 => (n, n).prop_map(|(a, b)| DesiredEdit::RemoveNode(a, b)),
        2 => (n, 60u16..999).prop_map(|(a, b)| DesiredEdit::AddNode(a, b)),
        1 => (n, 1000u16..1010).prop_map(|(a, b)| DesiredEdit::Connector(a, b)),
        2 => n.prop_map(DesiredEdit::Pause),
        1 => n.prop_map(DesiredEdit::Name),
        1 => (n, prop_oneof![Just(0u16), Just(2), Just(10)]).prop_map(|(a, b)| DesiredEdit::Tier(a, b)),
        1 => (n, n, 0u8..9).prop_map(|(a, b, c)| DesiredEdit::Public(a, b, c)),
        1 => n.prop_map(DesiredEdit::Region),
        2 => (n, n).prop_map(|(a, b)| DesiredEdit::AddEndpoint(a, b)),
        2 => n.prop_map(DesiredEdit::RemoveEndpoint),
        2 => (n, n).prop_map(|(a, b)| DesiredEdit::State(a, b)),
        1 => (n, n).prop_map(|(a, b)| DesiredEdit::Address(a, b)),
        1 => n.prop_map(DesiredEdit::Lost),
        1 => Just(DesiredEdit::Regional),
        1 => (0u8..120).prop_map(DesiredEdit::Limit),
        1 => (1000u16..1040, 0u16..40).prop_map(|(a, b)| DesiredEdit::Ports(a, b)),
        3 => (n, 1020u16..1060).prop_map(|(a, b)| DesiredEdit::Move(a, b)),
        2 => Just(DesiredEdit::Stay),
        1 => n.prop_map(DesiredEdit::Shift),
        1 => (n, n).prop_map(|(a, b)| DesiredEdit::Health(a, b)),
        1 => n.prop_map(DesiredEdit::Network),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(a, b)| DesiredEdit::Attributes(a, b)),
        1 => (n, n).prop_map(|(a, b)| DesiredEdit::Zone(a, b)),
        1 => n.prop_map(DesiredEdit::Twice),
        1 => n.prop_map(DesiredEdit::App),
        2 => Just(DesiredEdit::Release),
    ]
}

const ZONES: [&str; 4] = ["us-east-1a", "us-east-1b", "us-west-2a", "us-west-2b"];

fn pick<T>(items: &mut [T], n: u8) -> Option<&mut T> {
    let count = items.len();
    (count > 0).then(|| &mut items[usize::from(n) % count])
}

fn cluster(desired: &mut Desired, n: u8) -> Option<&mut Cluster> {
    pick(&mut desired.projects[0].clusters, n)
}

fn endpoint(desired: &mut Desired, n: u8) -> Option<&mut InterfaceEndpoint> {
    let count = desired.endpoints.len().max(1);
    desired.endpoints.values_mut().nth(usize::from(n) % count)
}

fn apply(desired: &mut Desired, edit: DesiredEdit) {
    match edit {
        DesiredEdit::AddCluster { kind, nodes, host, label } => {
            let zones: Vec<_> = (0..nodes).map(|n| ZONES[usize::from(kind / 4 + n * (kind % 2)) % 4]).collect();
            let (name, label) = (format!("Cluster{}", kind % 5), if label { "k45tj" } else { "auylw" });
            desired.projects[0].clusters.push(match kind % 3 {
                0 => replica_set(&name, label, &zones, host * 8),
                1 => sharded(&name, label, true, &zones, host * 8),
                _ => sharded(&name, label, false, &zones, host * 8),
            });
        }
        DesiredEdit::RemoveCluster(n) => {
            let clusters = &mut desired.projects[0].clusters;
            if !clusters.is_empty() {
                clusters.remove(usize::from(n) % clusters.len());
            }
        }
        DesiredEdit::RemoveNode(n, m) => {
            if let Some(cluster) = cluster(desired, n).filter(|cluster| !cluster.nodes.is_empty()) {
                cluster.nodes.remove(usize::from(m) % cluster.nodes.len());
            }
        }
        DesiredEdit::AddNode(n, host) => {
            if let Some(cluster) = cluster(desired, n)
                && let Some(node) = cluster.nodes.last().cloned()
            {
                let address = of(&format!("10.200.{}.{}:27017", host / 256 + 100, host % 256));
                cluster.nodes.push(crate::model::Node { name: format!("shard-01-{host}"), address, ..node });
            }
        }
        DesiredEdit::Connector(n, port) => {
            if let Some(cluster) = cluster(desired, n) {
                cluster.bi_connectors.push(bi_connector(&format!("bi{port}"), &format!("10.200.99.{n}:{port}")));
            }
        }
        DesiredEdit::Pause(n) => {
            if let Some(cluster) = cluster(desired, n) {
                cluster.paused = !cluster.paused;
            }
        }
        DesiredEdit::Name(n) => {
            if let Some(cluster) = cluster(desired, n) {
                match n % 4 {
                    0 => cluster.naming = Naming::Dot,
                    1 => cluster.naming = Naming::Dash,
                    2 => cluster.name = of(&"x".repeat(usize::from(n) % 64 + 1)),
                    _ => cluster.nodes.iter_mut().for_each(|node| node.name = format!("a b.{n}\u{e9}")),
                }
            }
        }
        DesiredEdit::Tier(n, size) => {
            if let Some(cluster) = cluster(desired, n) {
                cluster.tier = if size < 10 { Tier::Shared(size) } else { Tier::Dedicated(size) };
            }
        }
        DesiredEdit::Public(n, m, host) => {
            if let Some(node) = cluster(desired, n).and_then(|cluster| pick(&mut cluster.nodes, m)) {
                node.public_address =
                    (host > 0).then(|| of(&format!("203.0.113.{host}:{}", u16::from(host) % 3 * 9000)));
            }
        }
        DesiredEdit::Region(n) => {
            if let Some(cluster) = cluster(desired, n) {
                cluster.nodes.iter_mut().for_each(|node| node.zone = of(ZONES[usize::from(n) % 4]));
            }
        }
        DesiredEdit::AddEndpoint(n, host) => {
            let id = format!("vpce-0000000000000{n:04x}");
            let addresses = [(format!("10.0.30.{host}"), "a"), (format!("10.0.20.{host}"), "b")];
            let addresses = addresses.each_ref().map(|(ip, zone)| (ip.as_str(), *zone));
            add_endpoint(desired, &id, SERVICE, "us-east-1", VPC, &addresses[..usize::from(n % 3)]);
        }
        DesiredEdit::RemoveEndpoint(n) => {
            if let Some(id) = endpoint(desired, n).map(|endpoint| endpoint.id.clone()) {
                desired.endpoints.remove(&id);
            }
        }
        DesiredEdit::State(n, m) => {
            const STATES: [EndpointState; 8] = [
                EndpointState::Available,
                EndpointState::Available,
                EndpointState::PendingAcceptance,
                EndpointState::Deleting,
                EndpointState::Deleted,
                EndpointState::Rejected,
                EndpointState::Failed,
                EndpointState::Expired,
            ];
            if let Some(endpoint) = endpoint(desired, n) {
                endpoint.state = STATES[usize::from(m) % STATES.len()];
            }
        }
        DesiredEdit::Address(n, host) => {
            if let Some(address) = endpoint(desired, n).and_then(|endpoint| pick(&mut endpoint.addresses, host)) {
                address.ip = of(&format!("10.0.{}.{host}", if host % 7 == 0 { 77 } else { 30 }));
            }
        }
        DesiredEdit::Lost(n) => {
            if let Some(endpoint) = endpoint(desired, n) {
                match n % 4 {
                    0 => endpoint.vpc = of("vpc-0dead000000000001"),
                    1 => endpoint.service = of("com.amazonaws.vpce.us-east-1.vpce-svc-0dead000000000001"),
                    2 => endpoint.dns_suffix = format!("{n}\u{e9}.*"),
                    _ => endpoint.security_groups.push(of("sg-0000dead")),
                }
            }
        }
        DesiredEdit::Regional => desired.projects[0].regionalized = !desired.projects[0].regionalized,
        DesiredEdit::Limit(limit) => desired.projects[0].services[0].target_limit = limit.into(),
        DesiredEdit::Ports(first, more) => {
            desired.projects[0].services[0].ports = of(&format!("{first}-{}", first + more));
        }
        DesiredEdit::Move(n, port) => {
            let targets = super::targets::addressable(&desired.projects[0], &desired.resolved);
            let mut ids: Vec<_> = targets.into_values().flatten().map(|target| target.id).collect();
            if let Some(id) = pick(&mut ids, n) {
                let port = ListenerPort::try_from(port).expect("a port");
                desired.moves.insert((of(SERVICE), id.clone()), port);
            }
        }
        DesiredEdit::Stay => desired.moves.clear(),
        DesiredEdit::Shift(n) => {
            let zone = (of(SERVICE), of(ZONES[usize::from(n) % 2]));
            if !desired.shifted_zones.remove(&zone) {
                desired.shifted_zones.insert(zone);
            }
        }
        DesiredEdit::Health(n, m) => {
            let member =
                (of(SERVICE), of(&format!("Cluster0/shard-00-{:02}", n % 4)), format!("shard-00-{:02}", n % 4));
            desired.health.insert(member, TargetState::ALL[usize::from(m) % 6].into());
        }
        DesiredEdit::Network(n) => {
            if let Some(vpc) = desired.vpcs.values_mut().next() {
                match n % 3 {
                    0 => vpc.on_premises = nets(&[&format!("10.{n}.0.0/16")]),
                    1 => vpc.enable_dns_hostnames = !vpc.enable_dns_hostnames,
                    _ => vpc.peered = nets(&[&format!("10.{n}.0.0/16")]),
                }
            }
        }
        DesiredEdit::Attributes(proxy, cross) => {
            let attributes = &mut desired.projects[0].services[0].attributes;
            (attributes.proxy_protocol, attributes.cross_zone) = (proxy, cross);
        }
        DesiredEdit::Zone(n, m) => desired.private_zones.push(PrivateZone {
            name: of(["mongodb.net", "us-east-1.aws.services.cloud.mongodb.com"][usize::from(n % 2)]),
            vpcs: vec![of(VPC)],
            records: vec![match m % 3 {
                0 => ZoneRecord::Alias { name: of("mongodb.net"), endpoint: of(ENDPOINT) },
                1 => ZoneRecord::Cname { name: of("a.mongodb.net"), target: of("mongodb.net") },
                _ => ZoneRecord::Address { name: of("*.mongodb.net"), ips: vec![of("10.0.0.9")] },
            }],
        }),
        DesiredEdit::Twice(n) => match n % 3 {
            0 => desired.projects.push(desired.projects[0].clone()),
            1 => {
                let service = desired.projects[0].services[0].clone();
                desired.projects[0].services.push(service);
            }
            _ => {
                if let Some(app) = desired.apps.first().cloned() {
                    desired.apps.push(app);
                }
            }
        },
        DesiredEdit::App(n) => {
            if let Some(app) = pick(&mut desired.apps, n) {
                match n % 4 {
                    0 => app.endpoints.truncate(1),
                    1 => app.endpoints.reverse(),
                    2 => app.wire_protocol = !app.wire_protocol,
                    _ => app.region = of("us-west-2"),
                }
            }
        }
        DesiredEdit::Release => {}
    }
}

/// Invariants of every snapshot.
fn check_snapshot(desired: &Desired, snapshot: &Snapshot, held: &PortAllocations) {
    let mut ports = BTreeSet::new();
    for target in &snapshot.targets {
        assert!(ports.insert((&target.service, target.port)), "{target:?} shares its port");
        assert_eq!(held.ledgers[&target.service].port(&target.id), Some(target.port));
    }
    let views: BTreeMap<_, _> =
        snapshot.targets.iter().map(|target| ((&target.service, target.port.get()), target)).collect();
    for (address, listener) in &snapshot.listeners {
        assert_eq!(*address, listener.address);
        assert!(!listener.group.members.is_empty());
        if let ListenerAccess::Endpoint(access) = &listener.access {
            let target = views[&(&listener.group.service, address.port())];
            assert_eq!((&listener.group.target, &listener.group.members), (&target.id, &target.members));
            assert_eq!(access.state, EndpointState::Available);
            assert!(!target.paused && access.addresses.iter().any(|own| own.ip == address.ip()));
        }
    }
    let mut indexes = BTreeSet::new();
    for (id, index) in &held.indexes {
        assert!(indexes.insert((desired.endpoints[id].service.clone(), index)), "{id} shares its N");
    }
    for zone in snapshot.dns.public.values() {
        for records in zone.records.values() {
            let others = !records.addresses.is_empty() || !records.srv.is_empty() || records.txt.is_some();
            assert!(records.cname.is_none() || !others, "a CNAME stands alone");
        }
    }
    let clusters: usize = desired.projects.iter().map(|project| project.clusters.len()).sum();
    assert_eq!(snapshot.strings.len(), clusters);
    for strings in &snapshot.strings {
        assert_eq!(strings.private.is_empty(), strings.unavailable.is_some());
    }
}

/// A target keeps its port unless it is removed or was moved.
fn check_sticky(desired: &Desired, before: &PortAllocations, after: &PortAllocations) {
    for (service, ledger) in &before.ledgers {
        for (target, port) in ledger.ports() {
            let now = after.ledgers.get(service).and_then(|ledger| ledger.port(target));
            let asked = desired.moves.get(&(service.clone(), target.clone())).copied();
            assert!(now.is_none() || now == Some(asked.unwrap_or(port)), "{target} went from {port} to {now:?}");
            let drains = after.draining().any(|draining| draining == (service, port));
            assert_eq!(now != Some(port), drains, "a port is kept or drains");
        }
    }
    for (id, index) in &before.indexes {
        assert!(after.indexes.get(id).is_none_or(|now| now == index), "{id} changed its N");
    }
}

fn check_diff(old: &Snapshot, new: &Snapshot) {
    let changes = diff(old, new);
    let mut listeners = old.listeners.clone();
    for (address, _) in &changes.close {
        assert!(listeners.remove(address).is_some(), "{address} is closed and was not open");
    }
    for listener in &changes.retarget {
        let before = listeners.insert(listener.address, listener.clone());
        assert!(before.is_some_and(|before| before != *listener), "{} is retargeted for nothing", listener.address);
    }
    for listener in &changes.open {
        assert!(listeners.insert(listener.address, listener.clone()).is_none(), "{} is open", listener.address);
    }
    assert_eq!(listeners, new.listeners);
    assert!(diff(new, new).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any desired state is planned or refused; ports and indexes are sticky and distinct; the diff turns the old
    /// listeners into the new ones; allocations survive being saved.
    #[test]
    fn a_plan_keeps_its_promises_whatever_is_wanted(
        app in any::<bool>(),
        edits in prop::collection::vec(edit(), 1..40),
    ) {
        let mut desired = if app { with_app() } else { two_regions() };
        if app {
            prop_assert!(!desired.endpoints.contains_key(&of::<VpceId>(WEST_ENDPOINT)));
        }
        let (mut snapshot, mut held) = compile(&desired, &PortAllocations::default(), Generation(0)).expect("it is sensible");
        for (n, edit) in edits.into_iter().enumerate() {
            if matches!(edit, DesiredEdit::Release) {
                held.release_all();
            }
            let before = desired.clone();
            apply(&mut desired, edit);
            match compile(&desired, &held, Generation(n as u64 + 1)) {
                Ok((next, after)) => {
                    check_snapshot(&desired, &next, &after);
                    check_sticky(&desired, &held, &after);
                    check_diff(&snapshot, &next);
                    let saved = serde_json::to_string(&after).expect("JSON");
                    prop_assert_eq!(serde_json::from_str::<PortAllocations>(&saved).expect("readable"), after.clone());
                    (snapshot, held) = (next, after);
                }
                Err(errors) => {
                    prop_assert!(!errors.as_slice().is_empty());
                    // As in control, a refused change has no effect. Sometimes the walk continues from the refused
                    // state instead, to combine mistakes.
                    if n % 4 != 0 {
                        desired = before;
                    }
                }
            }
        }
    }
}
