//! A30: Azure Private Link and Google Private Service Connect, from a config to a snapshot.

use std::net::SocketAddr;
use std::time::Duration;

use super::fixture::{endpoint, of, plan, refusals, replica_set};
use super::{ListenerAccess, Snapshot};
use crate::config::{self, CLOUDS};
use crate::model::{Cloud, Cluster, Desired, DnsName, VpceId};

const AZURE_ENDPOINT: &str = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/lab/providers/\
                              Microsoft.Network/privateEndpoints/atlas";
const GOOGLE_ENDPOINT: &str = "projects/lab-project/regions/us-central1/forwardingRules/atlas";

fn clouds() -> Desired {
    config::parse(CLOUDS, "clouds.toml").expect("the embedded file is good").desired
}

fn with_zones(name: &str, zones: &[&str], first: u16) -> Cluster {
    let mut cluster = replica_set(name, "uzgh6", zones, first);
    cluster.naming = crate::model::Naming::Dot;
    cluster
}

fn records(snapshot: &Snapshot, name: &str) -> Vec<String> {
    let zone = snapshot.dns.public.get(&of::<DnsName>("uzgh6.mongodb.net")).expect("the zone");
    let Some(sets) = zone.records.get(&of::<DnsName>(name)) else { return Vec::new() };
    let srv = sets.srv.iter().map(|(port, host)| format!("SRV 0 0 {port} {host}"));
    let txt = sets.txt.iter().map(|text| format!("TXT {text}"));
    sets.addresses.iter().map(|ip| format!("A {ip}")).chain(srv).chain(txt).collect()
}

/// Names in Atlas' form: `psc` only in Google's seed list, hosts with a suffix for their cloud, and A records.
#[test]
fn strings_and_records_are_those_of_each_cloud() {
    let snapshot = plan(&clouds());
    let private = |n: usize| &snapshot.strings[n].private[0];
    assert_eq!(private(0).srv_connection_string, "mongodb+srv://azure0-pl-0.uzgh6.mongodb.net");
    assert_eq!(
        private(0).connection_string,
        "mongodb://pl-0-eastus2-azure.uzgh6.mongodb.net:1024,pl-0-eastus2-azure.uzgh6.mongodb.net:1025,\
         pl-0-eastus2-azure.uzgh6.mongodb.net:1026/?ssl=true&authSource=admin&replicaSet=atlas-azure0-shard-0"
    );
    assert_eq!(private(1).srv_connection_string, "mongodb+srv://google0-psc-0.uzgh6.mongodb.net");
    assert!(private(1).connection_string.starts_with("mongodb://pl-0-us-central1-gcp.uzgh6.mongodb.net:1024,"));
    assert_eq!(private(1).endpoints, [(of(GOOGLE_ENDPOINT), of("us-central1"))]);

    assert_eq!(records(&snapshot, "pl-0-eastus2-azure.uzgh6.mongodb.net"), ["A 127.4.0.4"]);
    let host = "pl-0-us-central1-gcp.uzgh6.mongodb.net";
    assert_eq!(records(&snapshot, host), ["A 127.5.0.4"]);
    let srv = [1024, 1025, 1026].map(|port| format!("SRV 0 0 {port} {host}"));
    assert_eq!(records(&snapshot, "_mongodb._tcp.google0-psc-0.uzgh6.mongodb.net"), srv);
    assert_eq!(
        records(&snapshot, "google0-psc-0.uzgh6.mongodb.net"),
        ["TXT authSource=admin&replicaSet=atlas-google0-shard-0"]
    );
}

/// One address, a port for each node, the idle time-out of each cloud, and no security group that refuses all clients.
#[test]
fn each_endpoint_has_one_address_with_a_port_for_each_node() {
    let snapshot = plan(&clouds());
    assert_eq!(snapshot.notices, Vec::<String>::new());
    for (ip, endpoint, idle) in [("127.4.0.4", AZURE_ENDPOINT, 240), ("127.5.0.4", GOOGLE_ENDPOINT, 1200)] {
        for port in 1024..=1026 {
            let listener = &snapshot.listeners[&of::<SocketAddr>(&format!("{ip}:{port}"))];
            assert_eq!(listener.group.idle_timeout, Duration::from_secs(idle));
            let ListenerAccess::Endpoint(access) = &listener.access else { panic!("it is private") };
            assert_eq!((access.id.as_str(), access.regional_name.as_ref()), (endpoint, None));
        }
    }
    assert_eq!(snapshot.listeners.len(), 6);
}

#[test]
fn the_limit_is_150_and_can_be_raised_to_200() {
    for cloud in [Cloud::Azure, Cloud::Gcp] {
        let mut desired = clouds();
        let n = usize::from(cloud == Cloud::Gcp);
        let zone = ["eastus2-1", "us-central1-a"][n];
        let services = &mut desired.projects[0].services;
        let service = services.iter().position(|service| service.region.cloud() == Some(cloud)).expect("one each");
        assert_eq!(services[service].target_limit, 150);
        desired.projects[0].clusters.push(with_zones("Crowd", &vec![zone; 147], 300));
        assert_eq!(plan(&desired).targets.len(), 153);
        desired.projects[0].clusters[2] = with_zones("Crowd", &vec![zone; 148], 300);
        let refused = refusals(&desired);
        assert!(refused[0].contains("151 addressable targets") && refused[0].contains("at most 200"), "{refused:?}");
        desired.projects[0].services[service].target_limit = 201;
        assert!(refusals(&desired)[0].contains("at most 200"));
    }
}

#[test]
fn over_several_google_regions_a_project_has_forty_targets() {
    let mut desired = clouds();
    let mut west = desired.projects[0].services[1].clone();
    (west.id, west.region) = (of("65f0000000000000000000b2"), of("us-west2"));
    desired.projects[0].services.push(west);
    desired.projects[0].clusters.push(with_zones("Crowd", &vec!["us-west2-a"; 37], 300));
    assert_eq!(plan(&desired).targets.len(), 43);
    desired.projects[0].clusters[2] = with_zones("Crowd", &vec!["us-west2-a"; 38], 300);
    assert!(refusals(&desired)[0].contains("41 addressable targets over several Google Cloud regions"));
}

/// A cluster over several clouds has the infix `pl`, index 0, and requires an endpoint in each.
#[test]
fn a_multi_cloud_cluster_has_one_string_over_both_and_no_psc() {
    let mut desired = clouds();
    desired.projects[0].clusters = vec![with_zones("Multi0", &["eastus2-1", "us-central1-a", "us-central1-b"], 300)];
    let snapshot = plan(&desired);
    assert_eq!(snapshot.strings[0].private.len(), 1);
    let private = &snapshot.strings[0].private[0];
    assert_eq!(private.srv_connection_string, "mongodb+srv://multi0-pl-0.uzgh6.mongodb.net");
    assert!(
        private.connection_string.starts_with(
            "mongodb://pl-0-eastus2-azure.uzgh6.mongodb.net:1024,pl-0-us-central1-gcp.uzgh6.mongodb.net:1024,\
             pl-0-us-central1-gcp.uzgh6.mongodb.net:1025/"
        ),
        "{private:?}"
    );
    desired.endpoints.remove(&of::<VpceId>(AZURE_ENDPOINT));
    assert_eq!(
        plan(&desired).strings[0].unavailable.as_deref(),
        Some(
            "there is no available private endpoint in eastus2; Azure Private Link and Google Cloud Private Service Connect \
             must be active in all regions into which a multi-region cluster is deployed"
        )
    );
}

/// The placement rule holds across providers; regional mode lifts it.
#[test]
fn several_endpoints_in_one_region_exclude_those_of_other_clouds() {
    let mut desired = clouds();
    let mut second = endpoint(&mut desired, GOOGLE_ENDPOINT).clone();
    second.id = of("projects/lab-project/regions/us-central1/forwardingRules/second");
    second.addresses[0].ip = of("127.5.0.5");
    desired.endpoints.insert(second.id.clone(), second);
    assert!(refusals(&desired)[0].contains("1 in eastus2, 2 in us-central1"));
    desired.endpoints.remove(&of::<VpceId>(AZURE_ENDPOINT));
    let snapshot = plan(&desired);
    let names: Vec<&str> = snapshot.strings[1].private.iter().map(|p| p.srv_connection_string.as_str()).collect();
    assert_eq!(
        names,
        ["mongodb+srv://google0-psc-0.uzgh6.mongodb.net", "mongodb+srv://google0-psc-1.uzgh6.mongodb.net"]
    );
}

#[test]
fn an_endpoint_has_one_address_and_is_in_its_cloud() {
    let mut desired = clouds();
    endpoint(&mut desired, GOOGLE_ENDPOINT).addresses.clear();
    assert!(
        refusals(&desired)[0].contains("a private endpoint of Google Cloud Private Service Connect has one address")
    );
    let mut desired = clouds();
    desired.vpcs.values_mut().for_each(|network| network.region = of("us-east-1"));
    assert!(refusals(&desired).iter().any(|refusal| refusal.contains("us-east-1 is a region of AWS")));
}
