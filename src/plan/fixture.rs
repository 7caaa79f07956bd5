//! The example of MongoDB's documentation as a desired state, and variants of it, for the tests of this module.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::{Generation, PortAllocations, Snapshot, compile};
use crate::model::{
    App, AppEndpoint, AppEndpointKind, AppService, Attributes, BiConnector, CidrSet, Cluster, ClusterKind,
    ConnectionLimit, DEFAULT_TARGET_LIMIT, DeploymentModel, Desired, DnsRecordIpType, EndpointAddress, EndpointService,
    EndpointState, Fault, FaultKind, FaultScope, InterfaceEndpoint, IpAddressType, Naming, Node, PortRange, PortRule,
    Project, SecurityGroup, ServiceName, Share, Subnet, Tier, Vpc, VpceId, Zone,
};

pub(super) const VPC: &str = "vpc-0a1b2c3d4e5f60718";
pub(super) const ENDPOINT: &str = "vpce-024f5b57108c8d3ed";
pub(super) const SERVICE: &str = "vpce-svc-02863655456245e5c";
pub(super) const WEST_VPC: &str = "vpc-0a1b2c3d4e5f60719";
pub(super) const WEST_ENDPOINT: &str = "vpce-0beef000000000001";
pub(super) const WEST_SERVICE: &str = "vpce-svc-0beef000000000001";
pub(super) const PROJECT: &str = "5f0000000000000000000001";
pub(super) const GENERAL_SERVICE: &str = "vpce-svc-0718bec2c0bdeab5c";
pub(super) const SYNC_SERVICE: &str = "vpce-svc-0718bec2c0bdeab5d";

/// Parses a value.
pub(super) fn of<T: FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` does not parse"))
}

pub(super) fn nets(texts: &[&str]) -> CidrSet {
    texts.iter().map(|text| CidrSet::parse_one(text).expect(text)).collect()
}

/// One VPC with an endpoint in two zones, and a replica set of three nodes.
pub(super) fn documented() -> Desired {
    let mut desired = Desired::default();
    desired.vpcs.insert(of(VPC), vpc(VPC, "us-east-1", "10.0", &[("30", "a"), ("20", "b"), ("10", "c")]));
    desired.projects.push(Project {
        id: of(PROJECT),
        name: "Lab".to_owned(),
        regionalized: false,
        access_list: nets(&["203.0.113.0/24"]),
        clusters: vec![replica_set("Cluster0", "k45tj", &["us-east-1a", "us-east-1b", "us-east-1c"], 11)],
        services: vec![service(SERVICE, "us-east-1", "10.200.0.0/16")],
    });
    add_endpoint(&mut desired, ENDPOINT, SERVICE, "us-east-1", VPC, &[("10.0.30.194", "a"), ("10.0.20.54", "b")]);
    desired
}

/// [`documented`], with a second region: a VPC, a service and an endpoint in `us-west-2`.
pub(super) fn two_regions() -> Desired {
    let mut desired = documented();
    desired.vpcs.insert(of(WEST_VPC), vpc(WEST_VPC, "us-west-2", "10.1", &[("30", "a"), ("20", "b")]));
    desired.projects[0].services.push(service(WEST_SERVICE, "us-west-2", "10.201.0.0/16"));
    add_endpoint(&mut desired, WEST_ENDPOINT, WEST_SERVICE, "us-west-2", WEST_VPC, &[("10.1.30.194", "a")]);
    desired
}

/// [`documented`], with an app and its General and Sync endpoints.
pub(super) fn with_app() -> Desired {
    let mut desired = documented();
    for (id, kind, endpoint, ip) in [
        (GENERAL_SERVICE, AppEndpointKind::General, "vpce-0a000000000000001", "10.0.30.195"),
        (SYNC_SERVICE, AppEndpointKind::Sync, "vpce-0a000000000000002", "10.0.30.196"),
    ] {
        let (region, cidrs) = (of("us-east-1"), nets(&["10.202.0.0/16"]));
        desired.app_services.push(AppService { id: of(id), region, kind, cidrs });
        add_endpoint(&mut desired, endpoint, id, "us-east-1", VPC, &[(ip, "a")]);
    }
    desired.apps.push(app("myapp-abcde"));
    desired
}

pub(super) fn app(id: &str) -> App {
    let endpoint = |id: &str, kind| AppEndpoint { endpoint: of(id), kind, comment: String::new() };
    App {
        id: of(id),
        project: of(PROJECT),
        deployment: DeploymentModel::Local,
        region: of("us-east-1"),
        allow_non_vpc_requests: false,
        access_list: CidrSet::default(),
        wire_protocol: false,
        public_address: of("203.0.113.10:443"),
        endpoints: vec![
            endpoint("vpce-0a000000000000001", AppEndpointKind::General),
            endpoint("vpce-0a000000000000002", AppEndpointKind::Sync),
        ],
        backend: "http://10.202.0.31:9080".to_owned(),
    }
}

/// An outage of a zone, at one endpoint or at all of them.
pub(super) fn outage(name: &str, zone: &str, endpoint: Option<&str>) -> Arc<Fault> {
    let scope = FaultScope { zone: Some(of(zone)), endpoint: endpoint.map(of), ..FaultScope::default() };
    let (name, kind, share) = (name.to_owned(), FaultKind::ZoneOutage {}, Share::default());
    Arc::new(Fault { name, kind, scope, share, seed: 0, after: Duration::ZERO, lasts: None })
}

pub(super) fn vpc(id: &str, region: &str, net: &str, subnets: &[(&str, &str)]) -> Vpc {
    let subnets = subnets.iter().map(|(third, letter)| {
        let id = of(&format!("subnet-0000{third}0{letter}"));
        let subnet = Subnet {
            id,
            zone: of(&format!("{region}{letter}")),
            cidr: CidrSet::parse_one(&format!("{net}.{third}.0/24")).expect("a subnet"),
            ipv6_cidr: None,
        };
        (subnet.id.clone(), subnet)
    });
    let group = |id: &str, name: &str, ingress, egress, members: &[&str]| {
        let group = SecurityGroup { id: of(id), name: name.to_owned(), ingress, egress, members: nets(members) };
        (group.id.clone(), group)
    };
    let whole = format!("{net}.0.0/16");
    Vpc {
        id: of(id),
        region: of(region),
        cidrs: nets(&[whole.as_str()]),
        peered: nets(&["10.99.0.0/16"]),
        on_premises: nets(&["192.168.0.0/16"]),
        enable_dns_support: true,
        enable_dns_hostnames: true,
        subnets: subnets.collect(),
        security_groups: BTreeMap::from([
            group("sg-000000e0", "endpoints", vec![rule(&[whole.as_str()], &["sg-000000c0"])], vec![], &[]),
            group("sg-000000c0", "clients", vec![], vec![rule(&[], &["sg-000000e0"])], &["192.168.7.0/24"]),
        ]),
    }
}

pub(super) fn rule(cidrs: &[&str], groups: &[&str]) -> PortRule {
    PortRule { ports: PortRange::atlas(), cidrs: nets(cidrs), groups: groups.iter().map(|id| of(id)).collect() }
}

pub(super) fn service(id: &str, region: &str, net: &str) -> EndpointService {
    EndpointService {
        id: of(id),
        region: of(region),
        remote_regions: Vec::new(),
        ip_address_types: IpAddressType::default(),
        cidrs: nets(&[net]),
        source_addresses: Vec::new(),
        ports: PortRange::atlas(),
        target_limit: DEFAULT_TARGET_LIMIT,
        attributes: Attributes::default(),
    }
}

/// A replica set with a node in each of `zones`; the nodes' addresses end in `host` and up.
pub(super) fn replica_set(name: &str, label: &str, zones: &[&str], host: u16) -> Cluster {
    let kind = ClusterKind::ReplicaSet { set_name: format!("{name}-shard-0-shard-0") };
    cluster(name, label, kind, zones, host, 27017)
}

pub(super) fn sharded(name: &str, label: &str, optimized: bool, zones: &[&str], host: u16) -> Cluster {
    cluster(name, label, ClusterKind::Sharded { optimized }, zones, host, 27016)
}

fn cluster(name: &str, label: &str, kind: ClusterKind, zones: &[&str], host: u16, port: u16) -> Cluster {
    let node = |(n, zone): (usize, &&str)| {
        let zone: Zone = of(zone);
        let net = if zone.region() == of("us-east-1") { "10.200" } else { "10.201" };
        let host = usize::from(host) + n;
        let address = of(&format!("{net}.{}.{}:{port}", host / 256, host % 256));
        Node { name: format!("shard-00-{n:02}"), zone, address, public_address: None }
    };
    Cluster {
        name: of(name),
        label: of(label),
        naming: Naming::Dash,
        kind,
        tier: Tier::Dedicated(10),
        connection_limit: ConnectionLimit::None,
        paused: false,
        nodes: zones.iter().enumerate().map(node).collect(),
        bi_connectors: Vec::new(),
    }
}

pub(super) fn bi_connector(name: &str, address: &str) -> BiConnector {
    BiConnector { name: name.to_owned(), zone: of("us-east-1a"), address: of(address) }
}

pub(super) fn add_endpoint(
    desired: &mut Desired,
    id: &str,
    service: &str,
    region: &str,
    vpc: &str,
    addresses: &[(&str, &str)],
) {
    let addresses = addresses.iter().enumerate().map(|(n, (ip, letter))| {
        let zone: Zone = of(&format!("{region}{letter}"));
        let subnet = desired.vpcs[&of(vpc)].subnets.values().find(|subnet| subnet.zone == zone).expect("a subnet");
        EndpointAddress {
            eni: of(&format!("eni-{}{n}", &id[id.len() - 7..])),
            subnet: subnet.id.clone(),
            zone,
            ip: of::<IpAddr>(ip),
        }
    });
    let endpoint = InterfaceEndpoint {
        id: of(id),
        vpc: of(vpc),
        service: ServiceName::new(of(region), of(service)),
        dns_suffix: "ypwbxwll".to_owned(),
        ip_address_type: IpAddressType::default(),
        dns_record_ip_type: DnsRecordIpType::default(),
        addresses: addresses.collect(),
        security_groups: vec![of("sg-000000e0")],
        state: EndpointState::Available,
        registered: true,
    };
    desired.endpoints.insert(endpoint.id.clone(), endpoint);
}

pub(super) fn endpoint<'a>(desired: &'a mut Desired, id: &str) -> &'a mut InterfaceEndpoint {
    desired.endpoints.get_mut(&of::<VpceId>(id)).expect("it is there")
}

/// The snapshot of a desired state, without earlier allocations.
pub(super) fn plan(desired: &Desired) -> Snapshot {
    plan_from(desired, &PortAllocations::default()).0
}

pub(super) fn plan_from(desired: &Desired, held: &PortAllocations) -> (Snapshot, PortAllocations) {
    compile(desired, held, Generation(1)).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The text of each error.
pub(super) fn refusals(desired: &Desired) -> Vec<String> {
    refusals_from(desired, &PortAllocations::default())
}

pub(super) fn refusals_from(desired: &Desired, held: &PortAllocations) -> Vec<String> {
    let errors = compile(desired, held, Generation(1)).expect_err("it is refused");
    errors.as_slice().iter().map(ToString::to_string).collect()
}
