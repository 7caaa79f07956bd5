//! Faults of a scenario.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::raw::{Located, Problems, Section};
use crate::config::value::{boolean, duration, non_empty_text, one_of, parsed, share, whole};
use crate::model::{Cluster, Desired, DnsFailure, Fault, FaultDirection, FaultKind, FaultScope, TargetId, check_fault};

/// A day: no lab run is longer.
const MAX_DURATION: u64 = 86_400;

/// One `[[fault]]`. The keys besides the common ones depend on its type.
pub(super) fn fault(section: &Section<'_>, names: &mut HashSet<String>) -> Option<Located<Fault>> {
    let name = section.required("name", non_empty_text);
    let kind = kind(section);
    let scope = FaultScope {
        service: section.get("service", parsed).map(|found| found.value),
        target: section.get("target", parsed).map(|found| found.value),
        member: section.get("member", non_empty_text).map(|found| found.value),
        endpoint: section.get("endpoint", parsed).map(|found| found.value),
        zone: section.get("zone", crate::config::value::zone).map(|found| found.value),
    };
    let time = |key| section.get(key, duration(0..=MAX_DURATION, "")).map(|found| found.value);
    let (after, lasts) = (time("after").unwrap_or_default(), time("for"));
    let share = section.get("share", share).map(|found| found.value).unwrap_or_default();
    let seed = section.or("seed", 0, whole(0..=u64::MAX >> 1));
    let name = name?;
    if !names.insert(name.value.clone()) {
        section.problems.report(&name.location, format!("`{}` is another fault's name", name.value));
    }
    let fault = Fault { name: name.value, kind: kind?, scope, share, seed, after, lasts };
    match check_fault(&fault) {
        Ok(()) => Some(Located { value: fault, location: section.location.clone() }),
        Err(problem) => {
            section.report("type", problem);
            None
        }
    }
}

fn kind(section: &Section<'_>) -> Option<FaultKind> {
    let types = [
        "latency",
        "bandwidth",
        "reset",
        "black-hole",
        "refuse",
        "half-open",
        "slow-close",
        "zone-outage",
        "target-down",
        "port-move",
        "dns-failure",
    ];
    let of_type = section.required("type", one_of(&types.map(|name| (name, name))));
    let time = |key| section.get(key, duration(0..=MAX_DURATION, "")).map(|found| found.value);
    let directions = [
        ("both", FaultDirection::Both),
        ("to_target", FaultDirection::ToTarget),
        ("to_client", FaultDirection::ToClient),
    ];
    let answers = [
        ("servfail", DnsFailure::Servfail),
        ("nxdomain", DnsFailure::Nxdomain),
        ("refused", DnsFailure::Refused),
        ("timeout", DnsFailure::Timeout),
    ];
    // Every key is read, so that a key of another type is not reported as unknown.
    let (delay, jitter, at, every) = (time("delay"), time("jitter"), time("time"), time("every"));
    let direction = section.get("direction", one_of(&directions)).map(|found| found.value);
    let rate = section.get("bytes_per_second", whole(1..=u64::MAX >> 1)).map(|found| found.value);
    let bytes = section.get("bytes", whole(0..=u64::MAX >> 1)).map(|found| found.value);
    let silent = section.get("silent", boolean).map(|found| found.value);
    let answer = section.get("answer", one_of(&answers)).map(|found| found.value);
    let of_type = of_type?.value;
    let keys: &[&str] = match of_type {
        "latency" => &["delay", "jitter", "direction"],
        "bandwidth" => &["bytes_per_second", "direction"],
        "reset" => &["bytes", "time"],
        "half-open" => &["time"],
        "slow-close" => &["delay"],
        "target-down" => &["silent"],
        "port-move" => &["every"],
        "dns-failure" => &["answer"],
        _ => &[],
    };
    let all = ["delay", "jitter", "time", "every", "direction", "bytes_per_second", "bytes", "silent", "answer"];
    for key in all.into_iter().filter(|key| section.is_present(key) && !keys.contains(key)) {
        section.report(key, format!("`{of_type}` has no such thing; leave it out"));
    }
    let needed = |key: &str| {
        if !section.is_present(key) {
            section.report(key, format!("missing; `{of_type}` has no default for it"));
        }
    };
    let (jitter, direction) = (jitter.unwrap_or(Duration::ZERO), direction.unwrap_or_default());
    Some(match of_type {
        "latency" => {
            needed("delay");
            FaultKind::Latency { delay: delay?, jitter, direction }
        }
        "bandwidth" => {
            needed("bytes_per_second");
            FaultKind::Bandwidth { bytes_per_second: rate?, direction }
        }
        "reset" => FaultKind::Reset { bytes, time: at },
        "black-hole" => FaultKind::BlackHole {},
        "refuse" => FaultKind::Refuse {},
        "half-open" => {
            needed("time");
            FaultKind::HalfOpen { time: at? }
        }
        "slow-close" => {
            needed("delay");
            FaultKind::SlowClose { delay: delay? }
        }
        "zone-outage" => FaultKind::ZoneOutage {},
        "target-down" => FaultKind::TargetDown { silent: silent.unwrap_or(false) },
        "port-move" => FaultKind::PortMove { every },
        _ => {
            needed("answer");
            FaultKind::DnsFailure { answer: answer? }
        }
    })
}

/// Faults by name. One that names what `desired` does not have gets a notice: an API may add it later, or the name is misspelt.
pub(super) fn by_name(
    faults: Vec<Located<Fault>>,
    desired: &Desired,
    problems: &Problems<'_>,
) -> BTreeMap<String, Arc<Fault>> {
    let clusters = || desired.projects.iter().flat_map(|project| &project.clusters);
    let names = |cluster: &Cluster| -> Vec<String> {
        let connectors = cluster.bi_connectors.iter().map(|connector| connector.name.clone());
        cluster.nodes.iter().map(|node| node.name.clone()).chain(connectors).collect()
    };
    let targets = clusters().flat_map(|cluster| {
        let own = names(cluster).into_iter().map(|name| TargetId::new(&cluster.name, &name));
        own.chain([TargetId::optimized(&cluster.name)])
    });
    let of_projects =
        desired.projects.iter().flat_map(|project| &project.services).map(|service| service.id.to_string());
    let services = of_projects.chain(desired.app_services.iter().map(|service| service.id.to_string()));
    let zones = desired.vpcs.values().flat_map(|vpc| vpc.subnets.values()).map(|subnet| subnet.zone.to_string());
    let zones = zones.chain(clusters().flat_map(|cluster| &cluster.nodes).map(|node| node.zone.to_string()));
    let known: [(&str, BTreeSet<String>); 5] = [
        ("service", services.collect()),
        ("target", targets.map(|target| target.to_string()).collect()),
        ("member", clusters().flat_map(names).collect()),
        ("endpoint", desired.endpoints.keys().map(ToString::to_string).collect()),
        ("zone", zones.collect()),
    ];
    for Located { value: Fault { scope, .. }, location } in &faults {
        let FaultScope { service, target, member, endpoint, zone } = scope;
        let named = [
            service.as_ref().map(ToString::to_string),
            target.as_ref().map(ToString::to_string),
            member.clone(),
            endpoint.as_ref().map(ToString::to_string),
            zone.as_ref().map(ToString::to_string),
        ];
        for ((key, known), name) in known.iter().zip(named) {
            if let Some(name) = name.filter(|name| !known.contains(name)) {
                problems.note(
                    location,
                    &format!("this config has no {key} `{name}`; the fault has an effect only once an API has made it"),
                );
            }
        }
    }
    faults.into_iter().map(|fault| (fault.value.name.clone(), Arc::new(fault.value))).collect()
}
