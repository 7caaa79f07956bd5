//! The consumer's interface endpoints.

use std::collections::HashSet;
use std::net::IpAddr;

use super::clouds::aws_id;
use super::declared::Declared;
use super::values;
use crate::config::raw::{Located, Section};
use crate::config::value::{ipv4_address, ipv6_address, one_of, parsed, text};
use crate::model::{
    DnsRecordIpType, EndpointAddress, EndpointState, EniId, InterfaceEndpoint, IpAddressType, IpFamily,
    SecurityGroupId, ServiceName, SubnetId, VpcId, VpceId, is_reserved,
};

/// EC2's names of an endpoint's states.
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

/// The default security group of an endpoint on AWS.
const DEFAULT_GROUP: &str = "default";

/// One `[[interface_endpoint]]`.
pub(super) fn interface_endpoint(section: &Section<'_>, declared: &mut Declared) -> Option<InterfaceEndpoint> {
    let problems = section.problems;
    let id = section.required("id", aws_id::<VpceId>(VpceId::cloud));
    let vpc = section.required("vpc", parsed::<VpcId>);
    let service = section.required("service", parsed::<ServiceName>);
    let suffix = section.get("dns_suffix", dns_suffix);
    let state = section.or("state", EndpointState::Available, one_of(&STATES));
    let groups = section.list("security_groups", parsed::<SecurityGroupId>);
    let ip_address_type =
        section.or("ip_address_type", IpAddressType::default(), one_of(&IpAddressType::ALL.map(|t| (t.label(), t))));
    let dns_record_ip_type = section.or(
        "dns_record_ip_type",
        DnsRecordIpType::default_of(ip_address_type),
        one_of(&DnsRecordIpType::ALL.map(|t| (t.label(), t))),
    );
    if let Some(id) = &id {
        declared.unique(problems, "interface endpoint id", &id.value, &id.location);
        declared.endpoints.insert(id.value.clone());
    }
    if let Some(vpc) = &vpc {
        declared.expect_vpc(problems, vpc);
    }
    if let Some(service) = &service
        && !declared.services.contains_key(&service.value)
    {
        let message = format!("no `[[project.endpoint_service]]` or `[[app_service]]` is `{}`", service.value);
        problems.report(&service.location, message);
    }
    let security_groups = security_groups(section, vpc.as_ref(), groups, declared);
    let mut zones = HashSet::new();
    let addresses = section.tables("address", |found| {
        let service = service.as_ref().map(|service| &service.value);
        let addresses = interface(found, id.as_ref(), vpc.as_ref(), service, declared);
        if let Some(address) = addresses.first()
            && !zones.insert(address.zone.clone())
        {
            let message = format!("a second subnet in zone `{}`; an endpoint has one a zone", address.zone);
            found.report("subnet", message);
        }
        addresses
    });
    let id = id?.value;
    Some(InterfaceEndpoint {
        vpc: vpc?.value,
        service: service?.value,
        dns_suffix: suffix.map_or_else(|| derived_suffix(&id), |suffix| suffix.value),
        ip_address_type,
        dns_record_ip_type,
        addresses: addresses.into_iter().flatten().collect(),
        security_groups,
        state,
        registered: true,
        id,
    })
}

/// The configured groups, or the VPC's `default`.
fn security_groups(
    section: &Section<'_>,
    vpc: Option<&Located<VpcId>>,
    named: Option<Vec<Located<SecurityGroupId>>>,
    declared: &Declared,
) -> Vec<SecurityGroupId> {
    let Some((vpc, own)) = vpc.and_then(|vpc| Some((&vpc.value, &declared.vpcs.get(&vpc.value)?.groups))) else {
        return named.map(values).unwrap_or_default();
    };
    if let Some(named) = named {
        for group in named.iter().filter(|group| !own.contains_key(&group.value)) {
            let message = format!("VPC `{vpc}` has no security group `{}`", group.value);
            section.problems.report(&group.location, message);
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

/// The addresses of one interface: at most one of each family. The plan checks which ones the endpoint's type requires.
fn interface(
    section: &Section<'_>,
    endpoint: Option<&Located<VpceId>>,
    vpc: Option<&Located<VpcId>>,
    service: Option<&ServiceName>,
    declared: &mut Declared,
) -> Vec<EndpointAddress> {
    let problems = section.problems;
    let subnet = section.required("subnet", parsed::<SubnetId>);
    let is_needed = !section.is_present("ipv6");
    let ip = if is_needed { section.required("ip", ipv4_address) } else { section.get("ip", ipv4_address) };
    let ipv6 = section.get("ipv6", ipv6_address);
    let ips = ip.map(|ip| ip.map(|ip| IpAddr::V4(*ip))).into_iter();
    let ips: Vec<Located<IpAddr>> = ips.chain(ipv6.map(|ip| ip.map(|ip| IpAddr::V6(*ip)))).collect();
    let eni = section.get("eni", parsed::<EniId>);
    for ip in &ips {
        declared.bind_endpoint(ip, service);
    }
    if let Some(eni) = &eni {
        declared.unique(problems, "network interface id", &eni.value, &eni.location);
    }
    let Some(subnet) = subnet else { return Vec::new() };
    let Some(place) = declared.subnets.get(&subnet.value) else {
        problems.report(&subnet.location, format!("no `[[vpc.subnet]]` has the id `{}`", subnet.value));
        return Vec::new();
    };
    if let (Some(vpc), Some(own)) = (vpc, &place.vpc)
        && vpc.value != *own
    {
        let message = format!("`{}` is a subnet of `{own}`, not of the endpoint's VPC `{}`", subnet.value, vpc.value);
        problems.report(&subnet.location, message);
    }
    for ip in ips.iter().filter(|_| !place.cidrs.is_empty()) {
        let family = IpFamily::of(ip.value);
        match place.cidrs.iter().find(|cidr| IpFamily::of(cidr.addr()) == family) {
            None => {
                let message = format!("`{}` is {}, of which its subnet has no network", ip.value, family.name());
                problems.report(&ip.location, message);
            }
            Some(cidr) if !cidr.contains(&ip.value) => {
                problems.report(&ip.location, format!("`{}` is outside its subnet `{cidr}`", ip.value));
            }
            Some(cidr) if is_reserved(ip.value, *cidr) => {
                let message =
                    format!("`{}` is reserved: AWS keeps the first four addresses and the last of `{cidr}`", ip.value);
                problems.report(&ip.location, message);
            }
            Some(_) => {}
        }
    }
    let eni = eni.map(|eni| eni.value).or_else(|| Some(derived_eni(&endpoint?.value, &subnet.value)));
    let Some((zone, eni)) = place.zone.clone().zip(eni) else { return Vec::new() };
    let address = |ip: Located<IpAddr>| EndpointAddress {
        eni: eni.clone(),
        subnet: subnet.value.clone(),
        zone: zone.clone(),
        ip: ip.value,
    };
    ips.into_iter().map(address).collect()
}

/// Eight lower-case letters and digits, which AWS appends to an endpoint's id in its names.
fn dns_suffix(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    let suffix = text(value)?;
    let fits = suffix.len() == 8 && suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if fits { Ok(suffix) } else { Err(format!("`{suffix}` is not eight lower-case letters and digits, as `ypwbxwll`")) }
}

/// The derived id of the endpoint's network interface in `subnet`: the same at every start.
fn derived_eni(endpoint: &VpceId, subnet: &SubnetId) -> EniId {
    format!("eni-0{:016x}", fnv1a(&format!("{endpoint}/{subnet}"))).parse().expect("`eni-` and 17 hex digits are an id")
}

/// The default suffix of an endpoint: the same at every start.
fn derived_suffix(endpoint: &VpceId) -> String {
    let hash = fnv1a(endpoint.as_str());
    (0..8).map(|i| char::from(b'a' + u8::try_from((hash >> (8 * i) & 0xff) % 26).expect("below 26"))).collect()
}

/// FNV-1a of the text: well distributed, and the same in every version of the program, unlike std's hasher.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
