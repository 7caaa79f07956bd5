//! The consumer's networks and private endpoints in Azure and Google Cloud.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use toml::de::DeValue;

use super::cidr_set;
use super::declared::{Declared, NetworkSide, required_networks};
use super::networks::NetworkMap;
use crate::config::raw::Section;
use crate::config::value::{address, network, parsed};
use crate::model::{
    Cloud, EndpointState, InterfaceEndpoint, Region, ServiceName, Subnet, SubnetId, Vpc, VpcId, VpceId, VpceServiceId,
};

/// One `[[network]]`: a virtual network of Azure or a VPC network of Google Cloud, in one region.
pub(super) fn cloud_network(section: &Section<'_>, declared: &mut Declared) -> Option<Vpc> {
    let problems = section.problems;
    let index = declared.next_vpc();
    let id = section.required("id", cloud_id::<VpcId>(VpcId::cloud));
    let region = section.required("region", parsed::<Region>);
    let cidrs = required_networks(section, "cidrs", "a network has one range at least");
    let peered = section.list("peered", network).unwrap_or_default();
    let on_premises = section.list("on_premises", network).unwrap_or_default();
    if let Some(id) = &id {
        declared.unique(problems, "network id", &id.value, &id.location);
    }
    if let (Some(id), Some(region)) = (&id, &region)
        && id.value.cloud() != region.value.cloud()
    {
        let cloud = id.value.cloud().map_or("AWS", Cloud::label);
        problems
            .report(&region.location, format!("`{}` is not a region of {cloud}, where the network is", region.value));
    }
    declared.networks(NetworkSide::Vpc(index), &cidrs);
    declared.networks(NetworkSide::Joined(index), &peered);
    declared.networks(NetworkSide::Joined(index), &on_premises);
    let mut subnets = NetworkMap::default();
    let whole = cidr_set(&cidrs);
    let found = section.tables("subnet", |found| {
        let id = found.required("id", parsed::<SubnetId>);
        let cidr = found.required("cidr", network);
        if let Some(id) = &id {
            declared.unique(problems, "subnet id", &id.value, &id.location);
        }
        if let Some(cidr) = &cidr {
            if !whole.covers(&cidr.value) {
                problems.report(&cidr.location, format!("`{}` is outside the network's ranges ({whole})", cidr.value));
            }
            if let Some(other) = subnets.overlapping(cidr.value) {
                let message = format!("`{}` overlaps `{other}` of another subnet of the network", cidr.value);
                problems.report(&cidr.location, message);
            }
            subnets.insert(cidr.value, cidr.value);
        }
        // Subnets of these clouds have no zone.
        let zone = region.as_ref()?.value.zone_of_whole();
        Some(Subnet { id: id?.value, zone, cidr: cidr?.value, ipv6_cidr: None })
    });
    Some(Vpc {
        id: id?.value,
        region: region?.value,
        cidrs: whole,
        peered: cidr_set(&peered),
        on_premises: cidr_set(&on_premises),
        enable_dns_support: true,
        enable_dns_hostnames: true,
        subnets: found.into_iter().flatten().map(|subnet| (subnet.id.clone(), subnet)).collect(),
        security_groups: BTreeMap::new(),
    })
}

/// One `[[private_endpoint]]`: Azure's private endpoint, or Google's forwarding rule.
pub(super) fn private_endpoint(
    section: &Section<'_>,
    networks: &BTreeMap<VpcId, Vpc>,
    declared: &mut Declared,
) -> Option<InterfaceEndpoint> {
    let problems = section.problems;
    let id = section.required("id", cloud_id::<VpceId>(VpceId::cloud));
    let network = section.required("network", cloud_id::<VpcId>(VpcId::cloud));
    let service = section.required("service", parsed::<VpceServiceId>);
    let ip = section.required("ip", address);
    if let Some(id) = &id {
        declared.unique(problems, "private endpoint id", &id.value, &id.location);
        let is_new = declared.endpoints.insert(id.value.clone());
        if let Some(service) = service.as_ref().filter(|_| is_new) {
            let name = (service.value.clone(), id.value.atlas().to_owned());
            let holder = declared.cloud_endpoints.entry(name).or_insert_with(|| id.location.path.clone());
            if *holder != id.location.path {
                let message = format!(
                    "`{}` is the name of `{holder}` too, and Atlas knows a service's forwarding rules by their names alone; \
                     rename one of them",
                    id.value.atlas()
                );
                problems.report(&id.location, message);
            }
        }
    }
    let network = network?;
    let Some(place) = networks.get(&network.value) else {
        problems.report(&network.location, format!("no `[[network]]` has the id `{}`", network.value));
        return None;
    };
    let service = service?;
    let name = ServiceName::new(place.region.clone(), service.value.clone());
    if !declared.services.contains_key(&name) {
        let message = format!("no `[[project.endpoint_service]]` in `{}` has the id `{}`", place.region, service.value);
        problems.report(&service.location, message);
    }
    let (id, ip) = (id?, ip?);
    declared.bind_endpoint(&ip, Some(&name));
    if id.value.cloud() != place.region.cloud() {
        problems.report(&id.location, format!("`{}` is not in the cloud of its network `{}`", id.value, place.id));
        return None;
    }
    if let Some(region) = google_region(&id.value).filter(|region| *region != place.region.as_str()) {
        let message = format!("its region `{region}` is not its network's, `{}`", place.region);
        problems.report(&id.location, message);
        return None;
    }
    let endpoint = InterfaceEndpoint::in_cloud(id.value, place, name, ip.value, EndpointState::Available);
    if endpoint.is_none() {
        problems.report(&ip.location, format!("`{}` is in no subnet of `{}`", ip.value, place.id));
    }
    endpoint
}

/// The region in `projects/PROJECT/regions/REGION/forwardingRules/NAME`.
fn google_region(id: &VpceId) -> Option<&str> {
    (id.cloud() == Some(Cloud::Gcp)).then(|| id.as_str().split('/').nth(3)).flatten()
}

/// An AWS id.
pub(super) fn aws_id<T: FromStr<Err: Display>>(
    cloud: fn(&T) -> Option<Cloud>,
) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    id_where(move |id| {
        let cloud = cloud(id)?.label();
        let own = "that cloud's networks are `[[network]]` and its endpoints `[[private_endpoint]]`";
        Some(format!("is an id of {cloud}; {own}"))
    })
}

/// An id of Azure or Google Cloud.
fn cloud_id<T: FromStr<Err: Display>>(cloud: fn(&T) -> Option<Cloud>) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    let own = "write Azure's resource id (`/subscriptions/…`) or Google's name (`projects/…`)";
    id_where(move |id| cloud(id).is_none().then(|| format!("is an id of AWS; {own}")))
}

/// An id that satisfies a condition.
fn id_where<T: FromStr<Err: Display>>(
    wrong: impl Fn(&T) -> Option<String>,
) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let id = parsed::<T>(value)?;
        wrong(&id).map_or(Ok(id), Err)
    }
}
