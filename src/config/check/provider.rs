//! Projects and their endpoint services.

use std::collections::HashSet;

use super::cluster::{TargetCounts, cluster};
use super::declared::{Declared, NetworkSide, required_networks};
use super::{cidr_set, values};
use crate::config::raw::{Located, Section};
use crate::config::value::{
    address, aws_region, boolean, duration, network, non_empty_text, one_of, parsed, text, whole,
};
use crate::model::{
    Attributes, Cloud, EndpointService, HealthCheck, HealthProtocol, HumanDuration, IpAddressType, IpFamily, Minimum,
    PortRange, Project, ProjectId, Region, TargetPort, VpceServiceId,
};

/// Bytes per megabit, the unit of the bandwidth in an earlier version.
const BYTES_PER_MEGABIT: u64 = 125_000;
/// A terabit per second.
const MAX_BANDWIDTH: u64 = 1_000_000 * BYTES_PER_MEGABIT;

/// One `[[project]]`.
pub(super) fn project(section: &Section<'_>, declared: &mut Declared) -> Option<Project> {
    let problems = section.problems;
    let id = section.required("id", parsed::<ProjectId>);
    let name = section.get("name", non_empty_text);
    let regionalized = section.or("regionalized_private_endpoints", false, boolean);
    let access_list = section.list("access_list", network).unwrap_or_default();
    if let Some(id) = &id {
        declared.unique(problems, "project id", &id.value, &id.location);
        declared.projects.insert(id.value.clone());
    }
    let mut names = HashSet::new();
    let mut load = TargetCounts::default();
    let owner = section.location.path.clone();
    let mut positions = Vec::new();
    let clusters = section.tables("cluster", |found| {
        let cluster = cluster(found, &owner, &mut names, &mut load, declared)?;
        positions.push((cluster.name.clone(), found.location.offset));
        Some(cluster)
    });
    let mut regions = HashSet::new();
    let services = section.tables("endpoint_service", |found| {
        let service = endpoint_service(found, &load, declared)?;
        if !regions.insert(service.region.clone()) {
            let message =
                format!("the project has an endpoint service in `{}` already; it has one a region", service.region);
            found.report("region", message);
        }
        Some(service)
    });
    let id = id?.value;
    for (name, offset) in positions {
        declared.positions.insert(format!("{id}/{name}"), offset);
    }
    Some(Project {
        name: name.map_or_else(|| id.to_string(), |name| name.value),
        regionalized,
        access_list: cidr_set(&access_list),
        clusters: clusters.into_iter().flatten().collect(),
        services: services.into_iter().flatten().collect(),
        id,
    })
}

fn endpoint_service(section: &Section<'_>, load: &TargetCounts, declared: &mut Declared) -> Option<EndpointService> {
    let problems = section.problems;
    let id = section.required("id", parsed::<VpceServiceId>);
    let region = section.required("region", parsed::<Region>);
    let cloud = region.as_ref().and_then(|region| region.value.cloud());
    if let (Some(id), Some(region)) = (&id, &region)
        && id.value.as_str().starts_with("vpce-svc-") == cloud.is_some()
    {
        let form = if cloud.is_some() {
            "24 lower-case hex digits, Atlas' id for it"
        } else {
            "`vpce-svc-` and 17 hex digits"
        };
        problems.report(&id.location, format!("an endpoint service in `{}` has another id: {form}", region.value));
    }
    // Source: Atlas' API description, which has it for AWS only.
    let remote = if cloud.is_none() {
        section.list("supported_remote_regions", aws_region).unwrap_or_default()
    } else {
        Vec::new()
    };
    check_remote(section, region.as_ref(), &remote);
    let ip_address_types = if cloud.is_none() { ip_address_types(section) } else { IpAddressType::default() };
    let cidrs = required_networks(section, "cidrs", "the service's side is distinguished from clients by its networks");
    let sources = section.list("source_addresses", address).unwrap_or_default();
    let ports = section.or("ports", PortRange::atlas(), parsed);
    let target_limit =
        section.or("target_limit", Cloud::target_limit(cloud), whole(1..=Cloud::maximum_target_limit(cloud)));
    let attributes = if cloud.is_some() { of_cloud(section, cloud) } else { attributes(section) };
    if let Some(id) = &id {
        declared.unique(problems, "endpoint service id", &id.value, &id.location);
    }
    declared.networks(NetworkSide::Service, &cidrs);
    if let Some(region) = &region {
        let targets = load.in_region(&region.value);
        if targets > ports.size() {
            let of = load.shares(&region.value);
            let message = format!("`{ports}` has {} ports for {targets} targets ({of}); widen it", ports.size());
            section.report("ports", message);
        }
    }
    let service = EndpointService {
        id: id?.value,
        region: region?.value,
        remote_regions: values(remote),
        ip_address_types,
        cidrs: cidr_set(&cidrs),
        source_addresses: values(sources),
        ports,
        target_limit,
        attributes,
    };
    declared.services.insert(service.name(), Some(ports));
    Some(service)
}

/// The supported address families. Source: Amazon EC2 API Reference, *ServiceConfiguration*.
fn ip_address_types(section: &Section<'_>) -> IpAddressType {
    const KEY: &str = "supported_ip_address_types";
    let families = section.list(KEY, one_of(&IpFamily::ALL.map(|family| (family.label(), family))));
    if section.is_empty_array(KEY) {
        section.report(KEY, "empty; name `ipv4`, `ipv6` or both");
    }
    let families = families.map(values).unwrap_or_default();
    match (families.contains(&IpFamily::Ipv4), families.contains(&IpFamily::Ipv6)) {
        (true, true) => IpAddressType::Dualstack,
        (false, true) => IpAddressType::Ipv6,
        (_, false) => IpAddressType::Ipv4,
    }
}

/// Regions other than the service's own, each once.
fn check_remote(section: &Section<'_>, own: Option<&Located<Region>>, remote: &[Located<Region>]) {
    let mut seen = HashSet::new();
    for region in remote {
        if own.is_some_and(|own| own.value == region.value) {
            section
                .problems
                .report(&region.location, format!("`{}` is the service's own region; leave it out", region.value));
        } else if !seen.insert(&region.value) {
            section.problems.report(&region.location, format!("`{}` appears here twice", region.value));
        }
    }
}

/// Attributes of a service outside AWS, which has no network load balancer's.
fn of_cloud(section: &Section<'_>, cloud: Option<Cloud>) -> Attributes {
    let defaults = Cloud::attributes(cloud);
    Attributes {
        connect_timeout: section.or("connect_timeout", defaults.connect_timeout, duration(1..=300, "")),
        proxy_protocol: section.or("proxy_protocol", defaults.proxy_protocol, boolean),
        health_check: section.table("health_check", health_check),
        ..defaults
    }
}

/// Attributes, with AWS's limits where AWS has the attribute.
fn attributes(section: &Section<'_>) -> Attributes {
    let defaults = Attributes::default();
    let percentage = |key| section.get(key, whole(1..=100_u8)).map(|found| found.value);
    let routing_minimum = Minimum {
        count: section.or("routing_minimum_healthy", defaults.routing_minimum.count, whole(1..=1000)),
        percentage: percentage("routing_minimum_healthy_percentage"),
    };
    let dns_minimum = Minimum {
        count: section.or("dns_minimum_healthy", defaults.dns_minimum.count, whole(0..=1000)),
        percentage: percentage("dns_minimum_healthy_percentage"),
    };
    let ordered = |dns_key: &str, dns: usize, routing_key: &str, routing: usize| {
        if dns != 0 && dns < routing {
            let message = format!("{dns} is less than `{routing_key}`, {routing}; AWS refuses that");
            section.report(if section.is_present(dns_key) { dns_key } else { routing_key }, message);
        }
    };
    ordered("dns_minimum_healthy", dns_minimum.count, "routing_minimum_healthy", routing_minimum.count);
    let of_hundred = |minimum: Minimum| minimum.percentage.map_or(0, usize::from);
    ordered(
        "dns_minimum_healthy_percentage",
        of_hundred(dns_minimum),
        "routing_minimum_healthy_percentage",
        of_hundred(routing_minimum),
    );
    Attributes {
        idle_timeout: section.or(
            "idle_timeout",
            defaults.idle_timeout,
            duration(60..=6000, "AWS's range for `tcp.idle_timeout.seconds`"),
        ),
        deregistration_delay: section.or(
            "deregistration_delay",
            defaults.deregistration_delay,
            duration(0..=3600, "AWS's range for `deregistration_delay.timeout_seconds`"),
        ),
        terminate_on_deregistration: section.or(
            "connection_termination",
            defaults.terminate_on_deregistration,
            boolean,
        ),
        connect_timeout: section.or("connect_timeout", defaults.connect_timeout, duration(1..=300, "")),
        proxy_protocol: section.or("proxy_protocol", defaults.proxy_protocol, boolean),
        cross_zone: section.or("cross_zone", defaults.cross_zone, boolean),
        terminate_on_unhealthy: section.or(
            "unhealthy_connection_termination",
            defaults.terminate_on_unhealthy,
            boolean,
        ),
        unhealthy_draining_interval: section.or(
            "unhealthy_draining_interval",
            defaults.unhealthy_draining_interval,
            duration(0..=360_000, "AWS's range for `target_health_state.unhealthy.draining_interval_seconds`"),
        ),
        routing_minimum,
        dns_minimum,
        bandwidth_cap: bandwidth_cap(section),
        proxy_sources: cidr_set(&section.list("proxy_protocol_sources", network).unwrap_or_default()),
        flows_per_target: section.or("flows_per_target", defaults.flows_per_target, whole(1..=10_000_000)),
        health_check: section.table("health_check", health_check),
    }
}

/// Bandwidth of each endpoint address in each direction, in bytes per second; `None`: no cap.
fn bandwidth_cap(section: &Section<'_>) -> Option<u64> {
    let bytes = section.get("bandwidth_bytes_per_second", whole(0..=MAX_BANDWIDTH)).map(|found| found.value);
    let megabits = section.get("bandwidth_cap_mbps", whole(0..=MAX_BANDWIDTH / BYTES_PER_MEGABIT));
    if let Some(Located { value, location }) = &megabits {
        let now = value * BYTES_PER_MEGABIT;
        let message = format!("the key of an earlier version; write `bandwidth_bytes_per_second = {now}`");
        match bytes {
            Some(_) => section.problems.report(location, message + " alone"),
            None => section.problems.note(location, &message),
        }
    }
    bytes.or(megabits.map(|megabits| megabits.value * BYTES_PER_MEGABIT)).filter(|bytes| *bytes > 0)
}

fn health_check(section: &Section<'_>) -> HealthCheck {
    let defaults = HealthCheck::default();
    let protocols = [("tcp", HealthProtocol::Tcp), ("http", HealthProtocol::Http), ("https", HealthProtocol::Https)];
    let protocol = section.or("protocol", defaults.protocol, one_of(&protocols));
    let check = HealthCheck {
        protocol,
        port: section.get("port", port).map(|found| found.value),
        path: section.or("path", defaults.path, path),
        matcher: section.or("matcher", defaults.matcher, parsed),
        interval: section.or(
            "interval",
            defaults.interval,
            duration(5..=300, "AWS's range for `HealthCheckIntervalSeconds`"),
        ),
        timeout: section.or(
            "timeout",
            protocol.default_timeout(),
            duration(2..=120, "AWS's range for `HealthCheckTimeoutSeconds`"),
        ),
        healthy_threshold: section.or("healthy_threshold", defaults.healthy_threshold, whole(2..=10)),
        unhealthy_threshold: section.or("unhealthy_threshold", defaults.unhealthy_threshold, whole(2..=10)),
    };
    if check.timeout > check.interval {
        let (timeout, interval) = (HumanDuration(check.timeout), HumanDuration(check.interval));
        section
            .report("timeout", format!("`{timeout}` is longer than the interval `{interval}`: probes would overlap"));
    }
    check
}

/// A health check port other than the traffic port.
fn port(value: &toml::de::DeValue<'_>) -> Result<TargetPort, String> {
    TargetPort::try_from(whole(1..=65_535_u16)(value)?).map_err(|error| error.to_string())
}

/// The path of HTTP requests.
fn path(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    let path = text(value)?;
    if path.starts_with('/') && path.len() <= 1024 && path.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(path)
    } else {
        Err(format!("`{path}` is not a path (it starts with `/` and has at most 1024 printable ASCII characters)"))
    }
}
