//! Compiles the DNS records of the desired state.
//!
//! Atlas' and AWS's `vpce` names are public records with private addresses; App Services' names resolve to the app's
//! public address outside and, through a zone that AWS manages in the endpoint's VPC, to the endpoint inside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::error::{Findings, Location, RuleError};
use super::rules::{is_paired, owner};
use super::snapshot::{DnsFault, DnsView, DnsZone, EndpointAccess, RecordSets, VpcDns};
use super::strings::{Paths, PrivatePath};
use super::survey::{Survey, is_available};
use crate::model::{
    AppEndpointKind, CidrSet, DeploymentModel, DnsName, EndpointState, Fault, FaultKind, ListenerPort, PrivateZone,
    Region, VpcId, VpceId, ZoneRecord,
};

/// The domain of App Services' names.
const APP_DOMAIN: &str = "services.cloud.mongodb.com";

/// The view of a whole plan.
pub(super) fn view(
    survey: &Survey<'_>,
    endpoint_access: &BTreeMap<VpceId, Arc<EndpointAccess>>,
    paths: &[Paths<'_>],
    service_side: &CidrSet,
    findings: &mut Findings,
) -> DnsView {
    let mut public = ZoneSet::default();
    for path in paths {
        let at = || Location::Cluster(path.project.clone(), path.cluster.name.clone());
        let added = add_cluster(&mut public, path, endpoint_access);
        findings.take(at, added);
    }
    add_endpoints(&mut public, survey, endpoint_access);
    add_apps(&mut public, survey);
    for (name, address) in &survey.desired.own_names {
        findings.take(|| Location::OwnName(name.clone()), add_own_name(&mut public, name, *address));
    }
    let mut managed = managed(survey);
    let vpcs = survey.desired.vpcs.iter().map(|(id, vpc)| VpcDns {
        vpc: id.clone(),
        clients: vpc.cidrs.clone(),
        enabled: vpc.enable_dns_support,
        private: if vpc.private_zones_work() {
            private(survey, id, managed.remove(id).unwrap_or_default(), findings)
        } else {
            BTreeMap::new()
        },
    });
    let mut vpcs: Vec<VpcDns> = vpcs.collect();
    // If networks overlap, the VPC with endpoints is found first.
    vpcs.sort_by_cached_key(|view| !survey.has_endpoints(&view.vpc));
    DnsView { vpcs, public: public.0, refused: service_side.clone(), faults: failures(survey) }
}

/// DNS faults: in the VPC of an endpoint, or everywhere.
fn failures(survey: &Survey<'_>) -> Vec<DnsFault> {
    let failure = |fault: &Arc<Fault>| {
        let FaultKind::DnsFailure { answer } = fault.kind else { return None };
        let clients = match &fault.scope.endpoint {
            None => None,
            Some(endpoint) => {
                let vpc = survey.desired.endpoints.get(endpoint).and_then(|e| survey.desired.vpcs.get(&e.vpc));
                Some(vpc?.cidrs.clone())
            }
        };
        Some(DnsFault { fault: Arc::clone(fault), answer, clients })
    };
    survey.faults().filter_map(failure).collect()
}

/// The private hosted zones that AWS creates for an app's endpoint of this kind: the names that device SDKs use for
/// HTTP, and both spellings for WebSockets.
pub(super) fn managed_zones(kind: AppEndpointKind, region: &Region) -> Vec<DnsName> {
    let names = match kind {
        AppEndpointKind::General => vec![format!("{region}.aws.{APP_DOMAIN}")],
        AppEndpointKind::Sync => vec![format!("ws.{region}.aws.{APP_DOMAIN}"), format!("{region}.aws.ws.{APP_DOMAIN}")],
    };
    names.iter().map(|name| name.parse().expect("a region is a DNS label")).collect()
}

/// Zones by apex, with their records.
#[derive(Default)]
struct ZoneSet(BTreeMap<DnsName, DnsZone>);

impl ZoneSet {
    fn at(&mut self, zone: &DnsName, name: DnsName) -> &mut RecordSets {
        self.0.entry(zone.clone()).or_default().records.entry(name).or_default()
    }

    /// Adds records at a name that has none yet.
    fn put(&mut self, zone: &DnsName, name: DnsName, records: RecordSets) -> Result<(), RuleError> {
        let there = self.at(zone, name.clone());
        if *there == RecordSets::default() {
            *there = records;
            Ok(())
        } else {
            Err(taken(&name))
        }
    }
}

fn taken(name: &DnsName) -> RuleError {
    format!("the host name `{name}` is made twice; rename one of the clusters or nodes").into()
}

fn add_cluster(
    zones: &mut ZoneSet,
    path: &Paths<'_>,
    endpoint_access: &BTreeMap<VpceId, Arc<EndpointAccess>>,
) -> Result<(), RuleError> {
    zones.0.entry(path.zone.clone()).or_default();
    for private in &path.private {
        let ports = private.hosts.iter().flat_map(|host| host.ports.iter().map(|port| (*port, host.name.clone())));
        add_seed_list(zones, path, &private.name, ports.collect(), private.optimized)?;
        add_hosts(zones, path, private, endpoint_access)?;
    }
    let mut seeds = Vec::new();
    for (host, node) in &path.nodes {
        let Some(address) = node.public_address else { continue };
        let Ok(port) = ListenerPort::try_from(address.port()) else { continue };
        seeds.push((port, host.clone()));
        let addresses = BTreeSet::from([address.ip()]);
        zones.put(&path.zone, host.clone(), RecordSets { addresses, ..RecordSets::default() })?;
    }
    if seeds.is_empty() { Ok(()) } else { add_seed_list(zones, path, &path.standard, seeds, false) }
}

/// SRV records at `_mongodb._tcp.NAME`, TXT at the name itself (MongoDB specifications, *Initial DNS Seedlist
/// Discovery*).
fn add_seed_list(
    zones: &mut ZoneSet,
    path: &Paths<'_>,
    name: &DnsName,
    srv: Vec<(ListenerPort, DnsName)>,
    optimized: bool,
) -> Result<(), RuleError> {
    let owner = name.prefixed("_mongodb._tcp").map_err(|_| RuleError::HostName(name.to_string()))?;
    zones.put(&path.zone, owner, RecordSets { srv, ..RecordSets::default() })?;
    let txt = Some(path.options(optimized));
    zones.put(&path.zone, name.clone(), RecordSets { txt, ..RecordSets::default() })
}

/// The hosts are shared by all clusters of a project and region: one CNAME each, however many clusters.
fn add_hosts(
    zones: &mut ZoneSet,
    path: &Paths<'_>,
    private: &PrivatePath<'_>,
    endpoint_access: &BTreeMap<VpceId, Arc<EndpointAccess>>,
) -> Result<(), RuleError> {
    for host in &private.hosts {
        let Some(access) = endpoint_access.get(host.endpoint) else { continue };
        let records = match &access.regional_name {
            Some(name) => RecordSets { cname: Some(name.clone()), ..RecordSets::default() },
            // Azure and Google: an A record. Source: Atlas, *Troubleshoot Private Endpoint Connection Issues*.
            None => RecordSets {
                addresses: access.addresses.iter().map(|address| address.ip).collect(),
                ..RecordSets::default()
            },
        };
        let there = zones.at(&path.zone, host.name.clone());
        if *there == RecordSets::default() {
            *there = records;
        } else if *there != records {
            return Err(taken(&host.name));
        }
    }
    Ok(())
}

/// AWS's names: the regional one with an address per subnet, and a zonal one for each. A zonal name is not affected by
/// a zonal shift, as its clients want exactly that address.
fn add_endpoints(zones: &mut ZoneSet, survey: &Survey<'_>, endpoint_access: &BTreeMap<VpceId, Arc<EndpointAccess>>) {
    for access in endpoint_access.values() {
        let Some(regional) = &access.regional_name else { continue };
        let Some(zone) = regional.parent() else { continue };
        zones.0.entry(zone.clone()).or_default();
        let Some(endpoint) = survey.desired.endpoints.get(&access.id) else { continue };
        if access.state != EndpointState::Available {
            continue;
        }
        zones.at(&zone, regional.clone()).addresses = survey.answered(endpoint).0;
        let first = regional.as_str().split('.').next().unwrap_or_default();
        for address in access.addresses.iter().filter(|address| endpoint.dns_record_ip_type.answers(address.ip)) {
            let zonal = zone.prefixed(&format!("{first}-{}", address.zone)).expect("22 + 1 + 8 + 1 + 15 letters fit");
            zones.at(&zone, zonal).addresses.insert(address.ip);
        }
    }
}

/// App Services' names outside of every VPC: regional or global ones.
fn add_apps(zones: &mut ZoneSet, survey: &Survey<'_>) {
    let domain: DnsName = APP_DOMAIN.parse().expect("a constant name");
    for app in &survey.desired.apps {
        let names = match app.deployment {
            DeploymentModel::Local => {
                let mut names = managed_zones(AppEndpointKind::General, &app.region);
                names.extend(managed_zones(AppEndpointKind::Sync, &app.region));
                names
            }
            DeploymentModel::Global => {
                vec![domain.clone(), domain.prefixed("ws").expect("a constant name")]
            }
        };
        for name in names {
            zones.at(&domain, name).addresses.insert(app.public_address.ip());
        }
    }
}

/// Adds a host name of the gateway's own APIs, as a public name like the vendors': in the zone that contains it,
/// otherwise in a separate zone, so that it hides no other name.
fn add_own_name(zones: &mut ZoneSet, name: &DnsName, address: IpAddr) -> Result<(), RuleError> {
    let parents = zones.0.keys().filter(|zone| name.is_within(zone));
    let zone = parents.max_by_key(|zone| zone.as_str().len()).unwrap_or(name).clone();
    let records = RecordSets { addresses: BTreeSet::from([address]), ..RecordSets::default() };
    let taken =
        |_| format!("`{name}` is already the name of a cluster's host, an endpoint or an app; leave it out").into();
    zones.put(&zone, name.clone(), records).map_err(taken)
}

/// The zones that AWS manages, by VPC.
fn managed(survey: &Survey<'_>) -> BTreeMap<VpcId, BTreeMap<DnsName, BTreeSet<IpAddr>>> {
    let mut zones: BTreeMap<VpcId, BTreeMap<DnsName, BTreeSet<IpAddr>>> = BTreeMap::new();
    for app in &survey.desired.apps {
        for registered in app.endpoints.iter().filter(|r| r.kind == AppEndpointKind::General || is_paired(app)) {
            let endpoint = survey.desired.endpoints.get(&registered.endpoint);
            let Some(endpoint) = endpoint.filter(|endpoint| is_available(endpoint)) else { continue };
            if *endpoint.service.region() != app.region {
                continue;
            }
            for name in managed_zones(registered.kind, &app.region) {
                zones.entry(endpoint.vpc.clone()).or_default().insert(name, survey.answered(endpoint).0);
            }
        }
    }
    zones
}

/// A VPC's private hosted zones: the consumer's own, and the managed ones with other names.
fn private(
    survey: &Survey<'_>,
    vpc: &VpcId,
    managed: BTreeMap<DnsName, BTreeSet<IpAddr>>,
    findings: &mut Findings,
) -> BTreeMap<DnsName, DnsZone> {
    let associated = survey.desired.private_zones.iter().filter(|zone| zone.vpcs.contains(vpc));
    let mut zones: BTreeMap<DnsName, DnsZone> =
        associated.map(|zone| (zone.name.clone(), consumers_zone(survey, zone))).collect();
    for (apex, addresses) in managed {
        if zones.contains_key(&apex) {
            findings.note(
                &Location::PrivateZone(apex),
                format_args!("it replaces the zone that the App Services endpoint in {vpc} would have"),
            );
            continue;
        }
        let records = RecordSets { addresses, ..RecordSets::default() };
        zones.insert(apex.clone(), DnsZone { records: BTreeMap::from([(apex, records)]) });
    }
    zones
}

fn consumers_zone(survey: &Survey<'_>, zone: &PrivateZone) -> DnsZone {
    let mut answers = DnsZone::default();
    for record in &zone.records {
        let sets = answers.records.entry(owner(record).clone()).or_default();
        match record {
            ZoneRecord::Address { ips, .. } => sets.addresses.extend(ips),
            ZoneRecord::Cname { target, .. } => sets.cname = Some(target.clone()),
            ZoneRecord::Alias { endpoint, .. } => {
                if let Some(endpoint) = survey.desired.endpoints.get(endpoint).filter(|e| is_available(e)) {
                    sets.addresses.extend(survey.answered(endpoint).0);
                }
            }
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::super::Snapshot;
    use super::super::fixture::{
        ENDPOINT, SERVICE, VPC, WEST_ENDPOINT, add_endpoint, documented, endpoint, of, outage, plan, refusals,
        replica_set, sharded, two_regions, with_app,
    };
    use super::*;
    use crate::model::{Desired, ListenerPort, Naming, TargetId, TargetState};
    use crate::plan::{DnsAnswer, ZoneView};

    const REGIONAL: &str = "vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com";

    /// The records of a public zone at a name, in short form.
    fn at(zones: &BTreeMap<DnsName, DnsZone>, zone: &str, name: &str) -> Vec<String> {
        let zone = zones.get(&of::<DnsName>(zone)).unwrap_or_else(|| panic!("no zone {zone}"));
        let Some(sets) = zone.records.get(&of::<DnsName>(name)) else { return Vec::new() };
        let addresses = sets.addresses.iter().map(|ip| format!("A {ip}"));
        let cname = sets.cname.iter().map(|name| format!("CNAME {name}"));
        let srv = sets.srv.iter().map(|(port, host)| format!("SRV 0 0 {port} {host}"));
        let txt = sets.txt.iter().map(|text| format!("TXT {text}"));
        addresses.chain(cname).chain(srv).chain(txt).collect()
    }

    fn public(snapshot: &Snapshot, zone: &str, name: &str) -> Vec<String> {
        at(&snapshot.dns.public, zone, name)
    }

    fn private<'a>(snapshot: &'a Snapshot, vpc: &str) -> &'a BTreeMap<DnsName, DnsZone> {
        &snapshot.dns.vpcs.iter().find(|view| view.vpc == of(vpc)).expect("the VPC").private
    }

    /// A11.
    #[test]
    fn the_seed_list_has_a_record_per_node_at_one_host() {
        let snapshot = plan(&documented());
        assert_eq!(
            public(&snapshot, "mongodb.net", "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net"),
            [
                "SRV 0 0 1024 pl-0-us-east-1-k45tj.mongodb.net",
                "SRV 0 0 1025 pl-0-us-east-1-k45tj.mongodb.net",
                "SRV 0 0 1026 pl-0-us-east-1-k45tj.mongodb.net",
            ]
        );
        assert_eq!(
            public(&snapshot, "mongodb.net", "cluster0-pl-0-k45tj.mongodb.net"),
            ["TXT authSource=admin&replicaSet=Cluster0-shard-0-shard-0"]
        );
    }

    /// A13.
    #[test]
    fn the_host_is_a_cname_to_the_regional_name_which_has_an_address_per_subnet() {
        let snapshot = plan(&documented());
        assert_eq!(public(&snapshot, "mongodb.net", "pl-0-us-east-1-k45tj.mongodb.net"), [format!("CNAME {REGIONAL}")]);
        let zone = "vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com";
        assert_eq!(public(&snapshot, zone, REGIONAL), ["A 10.0.20.54", "A 10.0.30.194"]);
        let zonal = |letter: &str| REGIONAL.replacen("ypwbxwll", &format!("ypwbxwll-us-east-1{letter}"), 1);
        assert_eq!(public(&snapshot, zone, &zonal("a")), ["A 10.0.30.194"]);
        assert_eq!(public(&snapshot, zone, &zonal("b")), ["A 10.0.20.54"]);
    }

    /// A6: SRV answers follow a port move at once.
    #[test]
    fn the_seed_list_follows_a_moved_port() {
        let mut desired = documented();
        let target: TargetId = of("Cluster0/shard-00-01");
        desired.moves.insert((of(SERVICE), target), ListenerPort::try_from(2000).expect("a port"));
        let srv = public(&plan(&desired), "mongodb.net", "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net");
        assert_eq!(srv[1], "SRV 0 0 2000 pl-0-us-east-1-k45tj.mongodb.net");
    }

    #[test]
    fn an_optimized_cluster_has_one_record_with_load_balanced() {
        let mut desired = documented();
        let cluster = sharded("Sharded0", "k45tj", true, &["us-east-1a", "us-east-1b"], 21);
        desired.projects[0].clusters.push(cluster);
        desired.projects[0].clusters[1].naming = Naming::Dot;
        let snapshot = plan(&desired);
        let (zone, name) = ("k45tj.mongodb.net", "sharded0-pl-0-lb.k45tj.mongodb.net");
        assert_eq!(
            public(&snapshot, zone, &format!("_mongodb._tcp.{name}")),
            ["SRV 0 0 1027 pl-0-us-east-1.k45tj.mongodb.net"]
        );
        assert_eq!(public(&snapshot, zone, name), ["TXT authSource=admin&loadBalanced=true"]);
        assert_eq!(public(&snapshot, zone, "pl-0-us-east-1.k45tj.mongodb.net"), [format!("CNAME {REGIONAL}")]);
    }

    #[test]
    fn a_sharded_clusters_txt_names_no_set() {
        let mut desired = documented();
        desired.projects[0].clusters[0] = sharded("Cluster0", "k45tj", false, &["us-east-1a", "us-east-1b"], 21);
        let snapshot = plan(&desired);
        assert_eq!(public(&snapshot, "mongodb.net", "cluster0-pl-0-k45tj.mongodb.net"), ["TXT authSource=admin"]);
        let srv = public(&snapshot, "mongodb.net", "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net");
        assert_eq!(srv.len(), 2);
    }

    #[test]
    fn a_multi_region_seed_list_names_each_regions_host() {
        let mut desired = two_regions();
        desired.projects[0].clusters[0] = replica_set("Cluster0", "k45tj", &["us-east-1a", "us-west-2a"], 11);
        let srv = public(&plan(&desired), "mongodb.net", "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net");
        assert_eq!(
            srv,
            ["SRV 0 0 1024 pl-0-us-east-1-k45tj.mongodb.net", "SRV 0 0 1024 pl-0-us-west-2-k45tj.mongodb.net"]
        );
    }

    #[test]
    fn clusters_of_a_project_share_the_host() {
        let mut desired = documented();
        desired.projects[0].clusters.push(replica_set("Cluster1", "k45tj", &["us-east-1a"], 31));
        let snapshot = plan(&desired);
        let srv = public(&snapshot, "mongodb.net", "_mongodb._tcp.cluster1-pl-0-k45tj.mongodb.net");
        assert_eq!(srv, ["SRV 0 0 1027 pl-0-us-east-1-k45tj.mongodb.net"]);
    }

    /// A15.
    #[test]
    fn names_of_the_gateways_apis_are_public_and_replace_no_other_names() {
        let mut desired = documented();
        desired.own_names.insert(of("cloud.mongodb.com"), of("169.254.0.2"));
        let snapshot = plan(&desired);
        let name: DnsName = of("cloud.mongodb.com");
        assert_eq!(snapshot.dns.public[&name].records[&name].addresses, BTreeSet::from([of("169.254.0.2")]));
        desired.own_names.insert(of("pl-0-us-east-1-k45tj.mongodb.net"), of("169.254.0.2"));
        let refused = refusals(&desired).join("; ");
        assert!(
            refused.contains("admin.names, pl-0-us-east-1-k45tj.mongodb.net") && refused.contains("already"),
            "{refused}"
        );
    }

    #[test]
    fn nodes_with_public_addresses_have_standard_records() {
        let mut desired = documented();
        for (n, node) in desired.projects[0].clusters[0].nodes.iter_mut().enumerate().skip(1) {
            node.public_address = Some(of(&format!("203.0.113.2{n}:27017")));
        }
        let snapshot = plan(&desired);
        assert_eq!(
            public(&snapshot, "mongodb.net", "_mongodb._tcp.cluster0-k45tj.mongodb.net"),
            [
                "SRV 0 0 27017 cluster0-shard-00-01-k45tj.mongodb.net",
                "SRV 0 0 27017 cluster0-shard-00-02-k45tj.mongodb.net",
            ]
        );
        let set = ["TXT authSource=admin&replicaSet=Cluster0-shard-0-shard-0"];
        assert_eq!(public(&snapshot, "mongodb.net", "cluster0-k45tj.mongodb.net"), set);
        let host = public(&snapshot, "mongodb.net", "cluster0-shard-00-01-k45tj.mongodb.net");
        assert_eq!(host, ["A 203.0.113.21"]);
        assert!(public(&snapshot, "mongodb.net", "cluster0-shard-00-00-k45tj.mongodb.net").is_empty());
    }

    #[test]
    fn an_endpoint_that_is_not_available_has_no_records() {
        for state in [EndpointState::Pending, EndpointState::PendingAcceptance, EndpointState::Deleting] {
            let mut desired = documented();
            endpoint(&mut desired, ENDPOINT).state = state;
            let snapshot = plan(&desired);
            for zone in snapshot.dns.public.values() {
                assert!(zone.records.is_empty(), "{state:?}: {zone:?}");
            }
            assert_eq!(snapshot.dns.public.len(), 2, "the zones stay, so that the names are known not to be");
        }
    }

    #[test]
    fn a_shifted_zone_leaves_the_regional_name_but_not_its_zonal_one() {
        let mut desired = documented();
        desired.shifted_zones.insert((of(SERVICE), of("us-east-1a")));
        let zone = "vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com";
        let snapshot = plan(&desired);
        assert_eq!(public(&snapshot, zone, REGIONAL), ["A 10.0.20.54"]);
        assert_eq!(public(&snapshot, zone, &REGIONAL.replacen("wll.", "wll-us-east-1a.", 1)), ["A 10.0.30.194"]);
        assert_eq!(snapshot.listeners.len(), 6, "DNS alone changes");

        desired.shifted_zones.insert((of(SERVICE), of("us-east-1b")));
        assert_eq!(public(&plan(&desired), zone, REGIONAL).len(), 2, "with every zone shifted all are answered");
    }

    /// A4: clients see a silent zone only in DNS; its targets are not affected.
    #[test]
    fn a_silent_zone_leaves_the_regional_name_and_its_targets_stay_reachable_through_the_others() {
        let mut desired = documented();
        let zone = "vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com";
        let before = plan(&desired).listeners;
        desired.silent_zones.insert(of("us-east-1a"));
        let snapshot = plan(&desired);
        assert_eq!(public(&snapshot, zone, REGIONAL), ["A 10.0.20.54"]);
        assert_eq!(public(&snapshot, zone, &REGIONAL.replacen("wll.", "wll-us-east-1a.", 1)), ["A 10.0.30.194"]);
        assert_eq!(snapshot.listeners, before);

        desired.silent_zones.insert(of("us-east-1b"));
        assert_eq!(public(&plan(&desired), zone, REGIONAL).len(), 2, "with every zone silent all are answered");
    }

    /// A lost zone is in DNS only as a last resort: not while another zone is there, even if its lost target makes
    /// every zone unhealthy with cross-zone load balancing, or an operator shifted away from the other zone.
    #[test]
    fn a_lost_zone_stays_out_of_dns_as_long_as_another_zone_is_not_lost() {
        let zone = "vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com";
        let answers = |desired: &Desired| {
            let snapshot = plan(desired);
            let why = |at: &ZoneView| at.fail_open();
            (public(&snapshot, zone, REGIONAL), snapshot.zones.iter().map(why).collect::<Vec<_>>())
        };
        let mut desired = documented();
        desired.faults.insert("lost-a".to_owned(), outage("lost-a", "us-east-1a", None));
        assert_eq!(answers(&desired), (vec!["A 10.0.20.54".to_owned()], vec![None, None]));

        // After the time of the health checks.
        let key = (of(SERVICE), of("Cluster0/shard-00-00"), "shard-00-00".to_owned());
        desired.health.insert(key, TargetState::Unhealthy.into());
        let open = Some(DnsAnswer::NoHealthyZone);
        assert_eq!(answers(&desired), (vec!["A 10.0.20.54".to_owned()], vec![None, open]));

        desired.shifted_zones.insert((of(SERVICE), of("us-east-1b")));
        let open = Some(DnsAnswer::ShiftedZonesAlone);
        assert_eq!(answers(&desired), (vec!["A 10.0.20.54".to_owned()], vec![None, open]));

        desired.shifted_zones.clear();
        desired.faults.insert("lost-b".to_owned(), outage("lost-b", "us-east-1b", None));
        let open = Some(DnsAnswer::EveryZoneLost);
        assert_eq!(answers(&desired), (vec!["A 10.0.20.54".to_owned(), "A 10.0.30.194".to_owned()], vec![open, open]));
    }

    /// An outage of one endpoint's zone does not affect other endpoints' names.
    #[test]
    fn only_the_endpoint_whose_own_zone_is_lost_leaves_the_zone_out_of_dns() {
        let other = "vpce-0beef000000000002";
        let mut desired = documented();
        add_endpoint(&mut desired, other, SERVICE, "us-east-1", VPC, &[("10.0.30.7", "a"), ("10.0.20.7", "b")]);
        desired.faults.insert("lost".to_owned(), outage("lost", "us-east-1a", Some(ENDPOINT)));
        let snapshot = plan(&desired);
        let answered = |view: &ZoneView| {
            let answered = view.addresses.iter().filter(|address| address.in_dns);
            (view.lost, answered.map(|address| address.ip.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(
            snapshot.zones.iter().map(answered).collect::<Vec<_>>(),
            [(true, vec!["10.0.30.7".to_owned()]), (false, vec!["10.0.20.54".to_owned(), "10.0.20.7".to_owned()])]
        );
    }

    /// B14, and the purpose of private hosted zones: the same name resolves differently inside the VPC.
    #[test]
    fn an_apps_names_lead_to_its_endpoints_inside_and_to_its_public_address_outside() {
        let snapshot = plan(&with_app());
        let general = "us-east-1.aws.services.cloud.mongodb.com";
        let sync = ["ws.us-east-1.aws.services.cloud.mongodb.com", "us-east-1.aws.ws.services.cloud.mongodb.com"];
        for name in [general, sync[0], sync[1]] {
            assert_eq!(public(&snapshot, "services.cloud.mongodb.com", name), ["A 203.0.113.10"]);
        }
        let zones = private(&snapshot, VPC);
        assert_eq!(zones.len(), 3);
        assert_eq!(at(zones, general, general), ["A 10.0.30.195"]);
        for name in sync {
            assert_eq!(at(zones, name, name), ["A 10.0.30.196"]);
        }
    }

    /// B9.
    #[test]
    fn without_both_dns_attributes_a_vpc_has_no_private_zones() {
        for (support, hostnames) in [(true, false), (false, true)] {
            let mut desired = with_app();
            let vpc = desired.vpcs.get_mut(&of::<VpcId>(VPC)).expect("the VPC");
            (vpc.enable_dns_support, vpc.enable_dns_hostnames) = (support, hostnames);
            let snapshot = plan(&desired);
            assert!(private(&snapshot, VPC).is_empty());
            assert_eq!(snapshot.dns.vpcs[0].enabled, support);
        }
    }

    /// B11.
    #[test]
    fn an_app_that_changed_its_region_has_no_use_for_its_old_endpoints() {
        let mut desired = with_app();
        desired.apps[0].region = of("us-west-2");
        let snapshot = plan(&desired);
        assert!(private(&snapshot, VPC).is_empty());
        assert_eq!(
            snapshot.notices[0],
            "app myapp-abcde: endpoint vpce-0a000000000000001 leads to us-east-1, but the app is deployed to us-west-2: it \
             is unusable; create a new endpoint in the app's region"
        );
        assert_eq!(snapshot.notices.len(), 2);
    }

    /// B8.
    #[test]
    fn a_sync_endpoint_alone_is_incomplete_and_has_no_names() {
        let mut desired = with_app();
        desired.apps[0].endpoints.remove(0);
        let snapshot = plan(&desired);
        assert!(private(&snapshot, VPC).is_empty());
        assert!(snapshot.notices[0].contains("vpce-0a000000000000002 is incomplete"), "{:?}", snapshot.notices);
    }

    fn own_zone(desired: &mut Desired, name: &str, records: Vec<ZoneRecord>) {
        desired.private_zones.push(PrivateZone { name: of(name), vpcs: vec![of(VPC)], records });
    }

    #[test]
    fn a_consumers_zone_answers_addresses_names_and_aliases() {
        let mut desired = documented();
        let records = vec![
            ZoneRecord::Address { name: of("*.lab.internal"), ips: vec![of("10.0.1.1")] },
            ZoneRecord::Cname { name: of("db.lab.internal"), target: of("pl-0-us-east-1-k45tj.mongodb.net") },
            ZoneRecord::Alias { name: of("lab.internal"), endpoint: of(ENDPOINT) },
        ];
        own_zone(&mut desired, "lab.internal", records);
        let snapshot = plan(&desired);
        let zones = private(&snapshot, VPC);
        assert_eq!(at(zones, "lab.internal", "*.lab.internal"), ["A 10.0.1.1"]);
        assert_eq!(at(zones, "lab.internal", "db.lab.internal"), ["CNAME pl-0-us-east-1-k45tj.mongodb.net"]);
        assert_eq!(at(zones, "lab.internal", "lab.internal"), ["A 10.0.20.54", "A 10.0.30.194"]);
    }

    #[test]
    fn a_consumers_own_zone_goes_before_the_managed_one() {
        let mut desired = with_app();
        let name = "us-east-1.aws.services.cloud.mongodb.com";
        own_zone(&mut desired, name, vec![ZoneRecord::Address { name: of(name), ips: vec![of("10.0.1.1")] }]);
        let snapshot = plan(&desired);
        assert_eq!(at(private(&snapshot, VPC), name, name), ["A 10.0.1.1"]);
        assert!(snapshot.notices[0].starts_with(&format!("private hosted zone {name}: it replaces")));
    }

    #[test]
    fn the_services_side_is_refused() {
        let snapshot = plan(&two_regions());
        let side = snapshot.dns.refused.to_string();
        assert_eq!(side, "10.200.0.0/16, 10.201.0.0/16");
        assert_eq!(*snapshot.service_side, snapshot.dns.refused);
        assert!(!snapshot.dns.vpcs.is_empty() && snapshot.endpoints.contains_key(&of::<VpceId>(WEST_ENDPOINT)));
    }

    #[test]
    fn two_clusters_cannot_make_the_same_name() {
        let mut desired = documented();
        let mut twin = replica_set("Cluster0-pl-0", "k45tj", &["us-east-1a"], 31);
        twin.nodes[0].public_address = Some(of("203.0.113.30:27017"));
        desired.projects[0].clusters.push(twin);
        assert_eq!(
            refusals(&desired),
            ["project 5f0000000000000000000001, cluster Cluster0-pl-0: the host name \
              `_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net` is made twice; rename one of the clusters or nodes"]
        );
    }
}
