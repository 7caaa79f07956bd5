//! The consumer's interface endpoints.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::clouds::aws_id;
use super::declared::Declared;
use super::values;
use crate::config::raw::{At, Section};
use crate::config::value::{address, one_of, parsed, text};
use crate::model::{
    EndpointAddress, EndpointState, EniId, InterfaceEndpoint, SecurityGroupId, ServiceName, SubnetId, VpcId, VpceId,
    Zone,
};

/// EC2's words for an endpoint's states.
const STATES: [(&str, EndpointState); 8] = [
    ("available", EndpointState::Available),
    ("pendingAcceptance", EndpointState::PendingAcceptance),
    ("pending", EndpointState::Pending),
    ("deleting", EndpointState::Deleting),
    ("deleted", EndpointState::Deleted),
    ("rejected", EndpointState::Rejected),
    ("failed", EndpointState::Failed),
    ("expired", EndpointState::Expired),
];

/// The group that AWS gives an endpoint when none is named.
const DEFAULT_GROUP: &str = "default";

/// One `[[interface_endpoint]]`.
pub(super) fn interface_endpoint(section: &Section<'_>, declared: &mut Declared) -> Option<InterfaceEndpoint> {
    let problems = section.problems;
    let id = section.need("id", aws_id::<VpceId>(VpceId::cloud));
    let vpc = section.need("vpc", parsed::<VpcId>);
    let service = section.need("service", parsed::<ServiceName>);
    let suffix = section.get("dns_suffix", dns_suffix);
    let state = section.or("state", EndpointState::Available, one_of(&STATES));
    let groups = section.list("security_groups", parsed::<SecurityGroupId>);
    if let Some(id) = &id {
        declared.unique(problems, "interface endpoint id", &id.value, &id.spot);
        declared.endpoints.insert(id.value.clone());
    }
    if let Some(vpc) = &vpc {
        declared.expect_vpc(problems, vpc);
    }
    if let Some(service) = &service
        && !declared.services.contains_key(&service.value)
    {
        let message = format!("no `[[project.endpoint_service]]` or `[[app_service]]` is `{}`", service.value);
        problems.report(&service.spot, message);
    }
    let security_groups = security_groups(section, vpc.as_ref(), groups, declared);
    let mut zones = HashSet::new();
    let addresses = section.tables("address", |found| {
        let service = service.as_ref().map(|service| &service.value);
        let address = endpoint_address(found, id.as_ref(), vpc.as_ref(), service, declared)?;
        if !zones.insert(address.zone.clone()) {
            let message = format!("a second subnet in zone `{}`; an endpoint has one a zone", address.zone);
            found.report("subnet", message);
        }
        Some(address)
    });
    let id = id?.value;
    Some(InterfaceEndpoint {
        vpc: vpc?.value,
        service: service?.value,
        dns_suffix: suffix.map_or_else(|| derived_suffix(&id), |suffix| suffix.value),
        addresses: addresses.into_iter().flatten().collect(),
        security_groups,
        state,
        registered: true,
        id,
    })
}

/// The groups that were named, or the VPC's `default`.
fn security_groups(
    section: &Section<'_>,
    vpc: Option<&At<VpcId>>,
    named: Option<Vec<At<SecurityGroupId>>>,
    declared: &Declared,
) -> Vec<SecurityGroupId> {
    let Some((vpc, own)) = vpc.and_then(|vpc| Some((&vpc.value, &declared.vpcs.get(&vpc.value)?.groups))) else {
        return named.map(values).unwrap_or_default();
    };
    if let Some(named) = named {
        for group in named.iter().filter(|group| !own.contains_key(&group.value)) {
            let message = format!("VPC `{vpc}` has no security group `{}`", group.value);
            section.problems.report(&group.spot, message);
        }
        return values(named);
    }
    let default = own.iter().find(|(_, name)| name.as_deref() == Some(DEFAULT_GROUP));
    if default.is_none() && own.values().all(Option::is_some) {
        let message = format!("missing, and VPC `{vpc}` has no security group named `{DEFAULT_GROUP}` to stand in");
        section.report("security_groups", message);
    }
    default.map(|(id, _)| id.clone()).into_iter().collect()
}

fn endpoint_address(
    section: &Section<'_>,
    endpoint: Option<&At<VpceId>>,
    vpc: Option<&At<VpcId>>,
    service: Option<&ServiceName>,
    declared: &mut Declared,
) -> Option<EndpointAddress> {
    let problems = section.problems;
    let subnet = section.need("subnet", parsed::<SubnetId>);
    let ip = section.need("ip", address);
    let eni = section.get("eni", parsed::<EniId>);
    if let Some(ip) = &ip {
        declared.bind_endpoint(ip, service);
    }
    if let Some(eni) = &eni {
        declared.unique(problems, "network interface id", &eni.value, &eni.spot);
    }
    let subnet = subnet?;
    let Some(place) = declared.subnets.get(&subnet.value) else {
        problems.report(&subnet.spot, format!("no `[[vpc.subnet]]` has the id `{}`", subnet.value));
        return None;
    };
    if let (Some(vpc), Some(own)) = (vpc, &place.vpc)
        && vpc.value != *own
    {
        let message = format!("`{}` is a subnet of `{own}`, not of the endpoint's VPC `{}`", subnet.value, vpc.value);
        problems.report(&subnet.spot, message);
    }
    let ip = ip?;
    if let Some(cidr) = place.cidr {
        if !cidr.contains(&ip.value) {
            problems.report(&ip.spot, format!("`{}` lies outside its subnet `{cidr}`", ip.value));
        } else if is_reserved(ip.value, cidr) {
            let message =
                format!("`{}` is reserved: AWS keeps the first four addresses and the last of `{cidr}`", ip.value);
            problems.report(&ip.spot, message);
        }
    }
    let zone: Zone = place.zone.clone()?;
    let eni = eni.map(|eni| eni.value).or_else(|| Some(derived_eni(&endpoint?.value, &subnet.value)))?;
    Some(EndpointAddress { eni, subnet: subnet.value, zone, ip: ip.value })
}

/// Whether AWS keeps `ip` for itself: the first four addresses of a subnet and the last. Source: AWS, *Create an
/// interface endpoint*. A subnet too small to have others is the lab's own and keeps none.
fn is_reserved(ip: IpAddr, subnet: IpNet) -> bool {
    let (IpAddr::V4(ip), IpNet::V4(subnet)) = (ip, subnet) else { return false };
    let from_start = ip.to_bits() - subnet.network().to_bits();
    subnet.prefix_len() <= 28 && (from_start < 4 || ip == subnet.broadcast())
}

/// Eight lower-case letters and digits, as AWS puts them behind an endpoint's id in its names.
fn dns_suffix(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    let suffix = text(value)?;
    let fits = suffix.len() == 8 && suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if fits { Ok(suffix) } else { Err(format!("`{suffix}` is not eight lower-case letters and digits, as `ypwbxwll`")) }
}

/// A network interface's id for the endpoint's address in `subnet`: the same on every start.
fn derived_eni(endpoint: &VpceId, subnet: &SubnetId) -> EniId {
    format!("eni-0{:016x}", fnv1a(&format!("{endpoint}/{subnet}"))).parse().expect("`eni-` and 17 hex digits are an id")
}

/// The suffix of an endpoint that was given none: the same on every start.
fn derived_suffix(endpoint: &VpceId) -> String {
    let hash = fnv1a(endpoint.as_str());
    (0..8).map(|i| char::from(b'a' + u8::try_from((hash >> (8 * i) & 0xff) % 26).expect("below 26"))).collect()
}

/// FNV-1a over the text: spreads, and is the same in every version of the program, which std's hasher does not promise.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
