//! Cross-region access: an endpoint in another region than its service.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{Desired, EndpointState, Region, VpceId, Zone};
use crate::plan::fixture::{
    ENDPOINT, GENERAL_SERVICE, SERVICE, WEST_ENDPOINT, WEST_VPC, add_endpoint, documented, endpoint, of, plan,
    plan_from, refusals, refusals_from, two_regions, with_app,
};

/// The service of MongoDB's example with an additional endpoint, in a VPC in `us-west-2`.
fn from_the_west(remote_regions: &[&str]) -> Desired {
    let mut desired = two_regions();
    desired.projects[0].services.truncate(1);
    desired.projects[0].services[0].remote_regions = remote_regions.iter().map(|region| of(region)).collect();
    endpoint(&mut desired, WEST_ENDPOINT).service = of(&format!("com.amazonaws.vpce.us-east-1.{SERVICE}"));
    desired
}

#[test]
fn an_endpoint_in_a_region_that_the_service_supports_has_its_listeners_and_the_services_names() {
    let snapshot = plan(&from_the_west(&["eu-west-1", "us-west-2"]));
    let ports = |ip: &str| -> BTreeSet<u16> {
        let here = snapshot.listeners.values().filter(|listener| listener.address.ip() == of::<std::net::IpAddr>(ip));
        here.map(|listener| listener.address.port()).collect()
    };
    assert_eq!(ports("10.1.30.194"), BTreeSet::from([1024, 1025, 1026]));
    assert_eq!(ports("10.1.30.194"), ports("10.0.30.194"));
    let access = &snapshot.endpoints[&of::<VpceId>(WEST_ENDPOINT)];
    assert_eq!(
        access.regional_name.as_ref().expect("an endpoint of AWS has one").as_str(),
        format!("{WEST_ENDPOINT}-ypwbxwll.{SERVICE}.us-east-1.vpce.amazonaws.com"),
        "the label is the service's region"
    );
    let strings = &snapshot.strings[0];
    assert_eq!(strings.private.len(), 2, "one for each endpoint, as for endpoints of one region");
    assert!(strings.private[1].connection_string.starts_with("mongodb://pl-1-us-east-1-k45tj.mongodb.net:1024,"));
}

#[test]
fn another_region_is_refused_until_the_owner_supports_it() {
    let refused = refusals(&from_the_west(&["eu-west-1"]));
    assert_eq!(
        refused,
        [format!(
            "endpoint {WEST_ENDPOINT}: the endpoint is in us-west-2, and com.amazonaws.vpce.us-east-1.{SERVICE} takes no \
             endpoints from there; let the service's owner add us-west-2 to its supported remote regions, or use a service \
             in us-west-2"
        )]
    );
    let mut desired = from_the_west(&[]);
    endpoint(&mut desired, WEST_ENDPOINT).registered = false;
    plan(&desired);
}

#[test]
fn an_endpoint_stays_when_its_region_is_removed_from_the_list_and_a_new_one_is_refused() {
    let (_, held) = plan_from(&from_the_west(&["us-west-2"]), &Default::default());
    let mut desired = from_the_west(&[]);
    let (snapshot, held) = plan_from(&desired, &held);
    assert_eq!(snapshot.endpoints[&of::<VpceId>(WEST_ENDPOINT)].state, EndpointState::Available);
    let second = "vpce-0beef000000000002";
    add_endpoint(&mut desired, second, SERVICE, "us-west-2", WEST_VPC, &[("10.1.20.194", "b")]);
    endpoint(&mut desired, second).service = of(&format!("com.amazonaws.vpce.us-east-1.{SERVICE}"));
    let refused = refusals_from(&desired, &held);
    assert!(refused.len() == 1 && refused[0].starts_with(&format!("endpoint {second}: ")), "{refused:?}");
}

/// App Services' endpoint services support no other region.
#[test]
fn an_app_services_endpoint_is_in_the_services_region() {
    let mut desired = with_app();
    desired.vpcs.extend(two_regions().vpcs.split_off(&of(WEST_VPC)));
    add_endpoint(&mut desired, WEST_ENDPOINT, GENERAL_SERVICE, "us-west-2", WEST_VPC, &[("10.1.30.194", "a")]);
    endpoint(&mut desired, WEST_ENDPOINT).service = of(&format!("com.amazonaws.vpce.us-east-1.{GENERAL_SERVICE}"));
    assert!(refusals(&desired)[0].contains("takes no endpoints from there"));
}

/// `use1-az3` is `us-east-1c` here.
#[test]
fn zones_without_cross_region_access_have_no_address_to_another_region() {
    let excluded: BTreeSet<String> = Region::known()
        .iter()
        .flat_map(|region| of::<Region>(region).zones().collect::<Vec<_>>())
        .filter(|zone| !zone.has_cross_region_access())
        .map(|zone| zone.id())
        .collect();
    assert_eq!(excluded, ["apne1-az3", "apne2-az2", "apne2-az4", "use1-az3", "usw1-az2"].map(str::to_owned).into());
    let mut desired = two_regions();
    desired.projects[0].services.remove(0);
    desired.projects[0].services[0].remote_regions = vec![of("us-east-1")];
    let west = of(&format!("com.amazonaws.vpce.us-west-2.{}", crate::plan::fixture::WEST_SERVICE));
    let moved = endpoint(&mut desired, ENDPOINT);
    moved.service = west;
    moved.addresses.truncate(1);
    let address = &mut moved.addresses[0];
    (address.zone, address.subnet, address.ip) = (of::<Zone>("us-east-1c"), of("subnet-0000100c"), of("10.0.10.5"));
    assert_eq!(
        refusals(&desired),
        [format!(
            "endpoint {ENDPOINT}: subnet subnet-0000100c is in us-east-1c (use1-az3), which has no cross-region access; \
             choose a subnet in another zone"
        )]
    );
}

#[test]
fn a_load_balancer_with_another_idle_timeout_has_no_cross_region_access() {
    let mut desired = documented();
    let service = &mut desired.projects[0].services[0];
    service.attributes.idle_timeout = Duration::from_secs(600);
    service.remote_regions = vec![of("eu-west-1"), of("us-east-1")];
    assert_eq!(
        refusals(&desired),
        [
            format!(
                "endpoint service {SERVICE}: supported remote regions are other regions than the endpoint service's own, \
                 US_EAST_1; leave it out"
            ),
            format!(
                "endpoint service {SERVICE}: cross-region access is not supported for a load balancer with an idle time-out \
                 of its own, here 600 s; leave it at AWS's 350 s, or take the supported remote regions away"
            ),
        ]
    );
}

/// Zones of two regions need not match, so none of the load balancer's is preferred.
#[test]
fn without_cross_zone_flows_of_another_region_go_to_every_zone() {
    let mut desired = from_the_west(&["us-west-2"]);
    desired.projects[0].services[0].attributes.cross_zone = false;
    let snapshot = plan(&desired);
    let registered = |ip: &str| {
        let listener = &snapshot.listeners[&of(ip)];
        listener.group.members.iter().filter(|member| listener.group.is_registered(member, &listener.zone)).count()
    };
    assert_eq!(
        ["10.0.30.194:1024", "10.0.30.194:1025", "10.1.30.194:1024", "10.1.30.194:1025"].map(registered),
        [1, 0, 1, 1]
    );
    let west = snapshot.zones.iter().find(|zone| zone.zone == of("us-west-2a")).expect("its zone");
    assert!(west.healthy, "{west:?}");
}
