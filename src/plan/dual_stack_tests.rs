//! A33: endpoints of IPv6 and dual stack, from a config to a snapshot.

use std::net::{IpAddr, SocketAddr};

use super::Snapshot;
use super::fixture::{endpoint, of, plan, refusals};
use crate::config;
use crate::model::{CidrSet, Desired, DnsName, DnsRecordIpType, IpAddressType, Origin, VpceId, Zone};

const ENDPOINT: &str = "vpce-024f5b57108c8d3ed";
const IPV6_ENDPOINT: &str = "vpce-0beef000000000001";
const SERVICE: &str = "vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com";

fn dual_stack() -> Desired {
    let text = include_str!("../../config/scenarios/dual-stack.toml");
    config::parse(text, "dual-stack.toml").expect("a good file").desired
}

/// The addresses in DNS for a name of an endpoint.
fn answered(snapshot: &Snapshot, name: &str) -> Vec<String> {
    let zone = snapshot.dns.public.get(&of::<DnsName>(SERVICE)).expect("the service's zone");
    let sets = zone.records.get(&of::<DnsName>(&format!("{name}.{SERVICE}"))).expect("the name");
    sets.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn every_address_of_both_families_has_a_listener_for_every_target() {
    let snapshot = plan(&dual_stack());
    let ports = |ip: &str| -> Vec<u16> {
        let here = snapshot.listeners.keys().filter(|address| address.ip() == of::<IpAddr>(ip));
        here.map(SocketAddr::port).collect()
    };
    for ip in ["10.0.30.194", "10.0.20.54", "2001:db8:a:30::c2", "2001:db8:a:20::36", "2001:db8:a:50::c2"] {
        assert_eq!(ports(ip), [1024, 1025, 1026], "{ip}");
    }
    let listener = &snapshot.listeners[&of("[2001:db8:a:20::36]:1024")];
    assert_eq!(listener.zone, of::<Zone>("us-east-1b"));
    assert_eq!(listener.group.members[0].address, of("10.1.0.11:27017"), "the target stays on IPv4");
    assert!(snapshot.notices.is_empty(), "{:?}", snapshot.notices);
}

/// The regional name and the zonal ones, by `DnsRecordIpType`.
#[test]
fn names_have_the_records_of_the_record_type() {
    let names = ["ypwbxwll", "ypwbxwll-us-east-1a"].map(|suffix| format!("{ENDPOINT}-{suffix}"));
    let ipv4 = [vec!["10.0.20.54", "10.0.30.194"], vec!["10.0.30.194"]];
    let ipv6 = [vec!["2001:db8:a:20::36", "2001:db8:a:30::c2"], vec!["2001:db8:a:30::c2"]];
    for records in DnsRecordIpType::ALL {
        let mut desired = dual_stack();
        endpoint(&mut desired, ENDPOINT).dns_record_ip_type = records;
        let snapshot = plan(&desired);
        for (n, name) in names.iter().enumerate() {
            let expected = match records {
                DnsRecordIpType::Ipv4 => ipv4[n].clone(),
                DnsRecordIpType::Ipv6 => ipv6[n].clone(),
                DnsRecordIpType::Dualstack | DnsRecordIpType::ServiceDefined => [&ipv4[n][..], &ipv6[n][..]].concat(),
            };
            assert_eq!(answered(&snapshot, name), expected, "{records:?}");
        }
        let zone = snapshot.zones.iter().find(|zone| zone.zone == of("us-east-1b")).expect("a zone");
        let in_dns = zone.addresses.iter().filter(|address| address.in_dns).count();
        assert_eq!(in_dns, answered(&snapshot, &names[0]).len() / 2, "{records:?}");
    }
    let snapshot = plan(&dual_stack());
    assert_eq!(answered(&snapshot, &format!("{IPV6_ENDPOINT}-q3s5t7v9")), ["2001:db8:a:50::c2"]);
}

#[test]
fn a_clients_origin_follows_from_its_ipv6_address_and_no_other_spelling_matches() {
    let snapshot = plan(&dual_stack());
    let access = &snapshot.endpoints[&of::<VpceId>(ENDPOINT)];
    for (source, origin) in [
        ("2001:db8:a:30::a", Origin::Vpc),
        ("2001:db8:a:ff:ffff::1", Origin::Vpc),
        ("2001:db8:a:100::1", Origin::Public),
        ("2001:db8:c::a", Origin::Peered),
        ("2001:db8:b::a", Origin::Service),
        // An IPv4-mapped IPv6 address is the IPv4 address; other forms that contain one are separate addresses.
        ("::ffff:10.0.30.10", Origin::Vpc),
        ("::ffff:10.1.0.11", Origin::Service),
        ("::10.0.30.10", Origin::Public),
        ("2002:a00:1e0a::1", Origin::Public),
        ("64:ff9b::a00:1e0a", Origin::Public),
        ("fe80::2", Origin::Public),
        ("fd00:a::1", Origin::Public),
        ("::1", Origin::Public),
    ] {
        assert_eq!(access.origin(of(source), &snapshot.service_side), origin, "{source}");
    }
}

#[test]
fn rules_of_one_family_admit_no_client_of_the_other_and_the_plan_has_a_notice() {
    let mut desired = dual_stack();
    let vpc = desired.vpcs.values_mut().next().expect("one VPC");
    vpc.security_groups.values_mut().next().expect("one group").ingress.truncate(1);
    let said = |desired: &Desired| plan(desired).notices.join("\n");
    assert_eq!(
        said(&desired),
        format!(
            "endpoint {ENDPOINT}: security group sg-0a1b2c3d4e5f60718 admits none of this endpoint's ports 1024-1026 over \
             IPv6"
        ),
    );
}

#[test]
fn addresses_of_the_wrong_family_are_refused_with_the_right_type() {
    let name = format!("com.amazonaws.vpce.us-east-1.{}", SERVICE.split('.').next().expect("a label"));
    let refused = |change: &dyn Fn(&mut Desired)| {
        let mut desired = dual_stack();
        change(&mut desired);
        refusals(&desired)
    };
    let types = |desired: &mut Desired, types| desired.projects[0].services[0].ip_address_types = types;
    assert_eq!(
        refused(&|desired| types(desired, IpAddressType::Ipv6)),
        [format!(
            "endpoint {ENDPOINT}: IP address type dualstack is not supported by the endpoint service {name}, which supports \
             ipv6; choose that, or let the service's owner add `supported_ip_address_types`"
        )]
    );
    assert_eq!(refused(&|desired| types(desired, IpAddressType::Ipv4)).len(), 2, "both endpoints");
    assert_eq!(
        refused(&|desired| endpoint(desired, IPV6_ENDPOINT).dns_record_ip_type = DnsRecordIpType::Dualstack),
        [format!(
            "endpoint {IPV6_ENDPOINT}: DNS record IP type dualstack does not fit IP address type ipv6, with which it is ipv6"
        )]
    );
    assert_eq!(
        refused(&|desired| {
            let own = endpoint(desired, ENDPOINT);
            own.addresses.retain(|address| address.ip.is_ipv4() || address.zone != of("us-east-1a"));
        }),
        [format!(
            "endpoint {ENDPOINT}: an endpoint of IP address type dualstack has one IPv6 address in each subnet, and this one \
             has 0 in subnet subnet-0c1d2e3f4a5b60718"
        )]
    );
    assert_eq!(
        refused(&|desired| {
            let own = endpoint(desired, ENDPOINT);
            (own.ip_address_type, own.dns_record_ip_type) = (IpAddressType::Ipv6, DnsRecordIpType::Ipv6);
            own.addresses.retain(|address| address.ip.is_ipv6() && address.zone == of("us-east-1b"));
        }),
        [format!(
            "endpoint {ENDPOINT}: IP address type ipv6 needs subnets with an IPv6 network alone, and subnet \
             subnet-0d2e3f4a5b6c71829 has an IPv4 and an IPv6 network"
        )]
    );
    let service = SERVICE.split('.').next().expect("a label");
    assert_eq!(
        refused(&|desired| {
            desired.projects[0].services[0].cidrs =
                [CidrSet::parse_one("10.1.0.0/16").expect("a network")].into_iter().collect();
        }),
        [format!(
            "endpoint service {service}: it supports IPv6 and none of its networks is IPv6; add its VPC's to `cidrs`, as \
             `2001:db8:1::/56`"
        )]
    );
}

/// Such an address means another host on every link, so its network does not identify clients.
#[test]
fn link_local_and_multicast_networks_are_refused() {
    for net in ["fe80::/64", "ff00::/8"] {
        let mut desired = dual_stack();
        let vpc = desired.vpcs.values_mut().next().expect("one VPC");
        vpc.on_premises = [CidrSet::parse_one(net).expect("a network")].into_iter().collect();
        let refused = refusals(&desired);
        assert!(refused.len() == 1 && refused[0].contains(net), "{refused:?}");
    }
}
