//! Rules of the provider's side: placement of private endpoints, numbers of targets, clusters. Source: Atlas, "Set Up a
//! Private Endpoint", considerations and limitations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::super::TargetKind;
use super::super::error::{Findings, GOOGLE_REGIONS_LIMIT, Location, RuleError, TargetLimit};
use super::super::port_allocations::PortAllocations;
use super::super::strings::ClusterHosts;
use super::super::survey::{Survey, counts};
use super::super::targets::{Addressable, is_optimized};
use super::{distinct, twice};
use crate::model::{
    Attributes, Cloud, Cluster, ClusterKind, ClusterName, Desired, EndpointService, IpFamily, Label, Project,
    ProjectId, Region, Tier, VpceId,
};

pub(super) fn check(survey: &Survey<'_>, held: &PortAllocations, findings: &mut Findings) {
    let desired = survey.desired;
    distinct("project", desired.projects.iter().map(|p| &p.id), |id| Location::Project((*id).clone()), findings);
    let atlas = desired.projects.iter().flat_map(|project| &project.services).map(|service| &service.id);
    let app = desired.app_services.iter().map(|service| &service.id);
    distinct("endpoint service", atlas.chain(app), |id| Location::Service((*id).clone()), findings);

    check_own_addresses(survey, findings);
    let mut labels: BTreeMap<&Label, &ProjectId> = BTreeMap::new();
    let mut places = UsedAddresses::of(survey);
    places.check_apps(desired, findings);
    for project in &desired.projects {
        check_services(survey, held, project, findings);
        check_spread(survey, project, findings);
        let mut names = BTreeMap::new();
        for cluster in &project.clusters {
            let at = Location::Cluster(project.id.clone(), cluster.name.clone());
            check_cluster(survey, project, cluster, &at, findings);
            match names.insert(cluster.name.host_label(), &cluster.name) {
                None => {}
                Some(first) if *first == cluster.name => {
                    findings.refuse(at.clone(), twice("cluster", first));
                }
                Some(first) => {
                    let second = &cluster.name;
                    let rule =
                        format!("clusters `{first}` and `{second}` would have the same host names; rename one of them");
                    findings.refuse(at.clone(), rule);
                }
            }
            let owner = labels.entry(&cluster.label).or_insert(&project.id);
            if **owner != project.id {
                let label = &cluster.label;
                let rule = format!(
                    "the label `{label}` belongs to project {owner}; labels make the projects' host names unique"
                );
                findings.refuse(at.clone(), rule);
            }
            places.check(cluster, &at, findings);
        }
    }
}

/// Checks whether regionalized private endpoints can be disabled: not with more than one private endpoint in more than
/// one region, nor with more than one in one region and one in another.
///
/// # Errors
///
/// [`RuleError::RegionalModeInUse`] with the endpoints of each region; [`RuleError::Unknown`] for an unknown project.
pub fn may_disable_regional_mode(desired: &Desired, project: &ProjectId) -> Result<(), RuleError> {
    let Some(project) = desired.projects.iter().find(|known| known.id == *project) else {
        return Err(RuleError::Unknown { what: "project", id: project.to_string() });
    };
    let spread = spread(&Survey::of(desired), project);
    if needs_regional_mode(&spread) { Err(RuleError::RegionalModeInUse(spread)) } else { Ok(()) }
}

/// The number of a project's private endpoints in each region.
fn spread<'a>(survey: &Survey<'a>, project: &'a Project) -> Vec<(Region, usize)> {
    let count =
        |service: &EndpointService| survey.endpoints_of(&service.id).iter().filter(|endpoint| counts(endpoint)).count();
    let mut regions: BTreeMap<Region, usize> = BTreeMap::new();
    for service in survey.services_of(project) {
        *regions.entry(service.region.clone()).or_default() += count(service);
    }
    regions.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Whether there are several endpoints in one region and others elsewhere, which requires regional mode.
fn needs_regional_mode(spread: &[(Region, usize)]) -> bool {
    spread.len() > 1 && spread.iter().any(|(_, count)| *count > 1)
}

fn check_spread<'a>(survey: &Survey<'a>, project: &'a Project, findings: &mut Findings) {
    let spread = spread(survey, project);
    let at = || Location::Project(project.id.clone());
    if !project.regionalized && needs_regional_mode(&spread) {
        findings.refuse(at(), RuleError::EndpointSpread(spread.clone()));
    }
    if project.regionalized {
        for cluster in project.clusters.iter().filter(|cluster| !cluster.is_sharded()) {
            let at = Location::Cluster(project.id.clone(), cluster.name.clone());
            findings.refuse(at, RuleError::RegionalModeWithReplicaSet);
        }
    }
    if !spread.is_empty() {
        for cluster in project.clusters.iter().filter(|cluster| matches!(cluster.tier, Tier::Shared(_))) {
            let at = Location::Cluster(project.id.clone(), cluster.name.clone());
            findings.refuse(at, RuleError::SharedTier(cluster.tier));
        }
    }
}

fn check_services<'a>(survey: &Survey<'a>, held: &PortAllocations, project: &'a Project, findings: &mut Findings) {
    let mut regions = BTreeSet::new();
    for service in &project.services {
        if !regions.insert(&service.region) {
            let rule = RuleError::ServiceExistsForRegion(service.region.clone());
            findings.refuse(Location::Project(project.id.clone()), rule);
        }
        let idle_timeout = service.attributes.idle_timeout;
        if service.remote_regions.contains(&service.region) {
            let rule = RuleError::RemoteRegionIsOwn(service.region.clone());
            findings.refuse(Location::Service(service.id.clone()), rule);
        }
        // AWS PrivateLink, *Share your services*: no cross-region access with a custom TCP idle time-out.
        if !service.remote_regions.is_empty() && idle_timeout != Attributes::default().idle_timeout {
            let rule = format!(
                "cross-region access is not supported for a load balancer with an idle time-out of its own, here {} s; leave \
                 it at AWS's 350 s, or take the supported remote regions away",
                idle_timeout.as_secs()
            );
            findings.refuse(Location::Service(service.id.clone()), rule);
        }
        // AWS PrivateLink, *Share your services*, IPv6 support: the service's VPC and subnets have IPv6 networks.
        let has_ipv6 = service.cidrs.iter().any(|net| net.addr().is_ipv6());
        if service.ip_address_types.has(IpFamily::Ipv6) && !has_ipv6 {
            let rule =
                "it supports IPv6 and none of its networks is IPv6; add its VPC's to `cidrs`, as `2001:db8:1::/56`";
            findings.refuse(Location::Service(service.id.clone()), rule.to_owned());
        }
        let most = Cloud::maximum_target_limit(service.region.cloud());
        if service.target_limit > most {
            let rule = RuleError::LimitTooHigh { limit: service.target_limit, most };
            findings.refuse(Location::Service(service.id.clone()), rule);
        }
    }
    check_google_regions(survey, project, findings);
    for service in survey.services_of(project) {
        let targets = survey.targets.get(&service.id).map_or(&[][..], Vec::as_slice);
        check_limit(project, service, targets, findings);
        check_paused(survey, held, project, service, findings);
        check_one_way(survey, service, targets, findings);
        check_proxy_sources(survey, service, findings);
    }
}

/// With nodes in several regions of Google Cloud the limit is lower.
fn check_google_regions<'a>(survey: &Survey<'a>, project: &'a Project, findings: &mut Findings) {
    let google = survey.services_of(project).filter(|service| service.region.cloud() == Some(Cloud::Gcp));
    let counts = google.map(|service| survey.targets.get(&service.id).map_or(0, Vec::len));
    let counts: Vec<usize> = counts.filter(|count| *count > 0).collect();
    let all: usize = counts.iter().sum();
    if counts.len() > 1 && all > GOOGLE_REGIONS_LIMIT {
        let rule = format!(
            "{all} addressable targets over several Google Cloud regions are more than the limit of \
             {GOOGLE_REGIONS_LIMIT}; use additional projects"
        );
        findings.refuse(Location::Project(project.id.clone()), rule);
    }
}

fn check_limit(project: &Project, service: &EndpointService, targets: &[Addressable<'_>], findings: &mut Findings) {
    if targets.len() <= service.target_limit {
        return;
    }
    let mut slots: Vec<(ClusterName, TargetKind, usize)> = Vec::new();
    for target in targets {
        match slots.iter_mut().find(|(name, kind, _)| *name == target.cluster.name && *kind == target.kind) {
            Some((_, _, count)) => *count += 1,
            None => slots.push((target.cluster.name.clone(), target.kind, 1)),
        }
    }
    let region = service.region.clone();
    let limit = TargetLimit { region, limit: service.target_limit, count: targets.len(), slots };
    findings.refuse(Location::Project(project.id.clone()), limit);
}

/// A load balancer accepts PROXY headers only from these sources: a host on the service's side among them could claim
/// to be a client of the VPC.
fn check_proxy_sources(survey: &Survey<'_>, service: &EndpointService, findings: &mut Findings) {
    let at = || Location::Service(service.id.clone());
    let clusters = || survey.desired.projects.iter().flat_map(|project| &project.clusters);
    for source in service.attributes.proxy_sources.iter() {
        let overlaps = |net: &&IpNet| net.contains(source) || source.contains(*net);
        let network = survey.providers.values().flat_map(|provider| provider.cidrs().iter()).find(overlaps);
        let addresses =
            clusters().flat_map(Cluster::addresses).filter_map(|address| address.at(&survey.desired.resolved));
        let target = || addresses.map(|address| address.ip()).find(|ip| source.contains(ip));
        if let Some(other) = network.copied().or_else(|| target().map(IpNet::from)) {
            let rule = format!(
                "`proxy_protocol_sources` holds `{source}`, which overlaps `{other}` of the service's side; a target could \
                 then pass for a client of the VPC. Name the load balancer's own addresses alone"
            );
            findings.refuse(at(), rule);
        }
    }
}

/// Checks that the service's networks do not contain the gateway's own addresses, as clients from there are refused.
fn check_own_addresses(survey: &Survey<'_>, findings: &mut Findings) {
    for (id, provider) in &survey.providers {
        let held = |own: &&SocketAddr| provider.cidrs().contains(own.ip());
        if let Some(address) = survey.desired.own_addresses.iter().find(held) {
            let rule = format!(
                "its networks hold {address}, where the gateway itself answers, and clients on the service's side are \
                 refused; put the targets, or the gateway's own address, elsewhere"
            );
            findings.refuse(Location::Service((*id).clone()), rule);
        }
    }
}

/// Refuses the first endpoint of a region while a cluster with nodes there is paused. An endpoint with an index was
/// accepted before, and further endpoints are allowed.
fn check_paused(
    survey: &Survey<'_>,
    held: &PortAllocations,
    project: &Project,
    service: &EndpointService,
    findings: &mut Findings,
) {
    let endpoints = survey.endpoints_of(&service.id);
    if endpoints.iter().any(|endpoint| held.indexes.contains_key(&endpoint.id)) {
        return;
    }
    let Some(first) = endpoints.iter().find(|endpoint| counts(endpoint)) else { return };
    let paused: Vec<ClusterName> = project
        .clusters
        .iter()
        .filter(|cluster| cluster.paused && cluster.regions().contains(&service.region))
        .map(|cluster| cluster.name.clone())
        .collect();
    if !paused.is_empty() {
        let rule = RuleError::PausedCluster { region: service.region.clone(), paused };
        findings.refuse(Location::Endpoint(first.id.clone()), rule);
    }
}

/// Adds a notice about processes that do not count as the service's side; nothing else is wrong with them.
fn check_one_way(survey: &Survey<'_>, service: &EndpointService, targets: &[Addressable<'_>], findings: &mut Findings) {
    let outside =
        |address: SocketAddr| !service.cidrs.contains(address.ip()) && !survey.is_service_side_alone(address.ip());
    let strays: Vec<String> = targets
        .iter()
        .flat_map(|target| target.processes.iter().map(move |process| (target, process)))
        .filter_map(|(target, process)| Some((target, process, process.address.filter(|address| outside(*address))?)))
        .map(|(target, process, address)| format!("{}/{} ({address})", target.cluster.name, process.name))
        .collect();
    if !strays.is_empty() {
        findings.note(
            &Location::Service(service.id.clone()),
            format_args!(
                "targets outside its networks are not recognised as the service's side when they open connections: {}",
                strays.join(", ")
            ),
        );
    }
}

fn check_cluster(survey: &Survey<'_>, project: &Project, cluster: &Cluster, at: &Location, findings: &mut Findings) {
    if cluster.nodes.is_empty() {
        findings.refuse(at.clone(), "the cluster has no nodes; give it one at least".to_owned());
    }
    let optimized = is_optimized(project, cluster);
    let connectors = cluster.bi_connectors.iter().map(|connector| connector.name.as_str());
    let nodes = cluster.nodes.iter().map(|node| node.name.as_str());
    let reserved = optimized.then_some("lb");
    distinct("member", nodes.chain(connectors).chain(reserved), |_| at.clone(), findings);
    if !optimized && matches!(cluster.kind, ClusterKind::Sharded { optimized: true }) {
        findings.note(
            at,
            "it has nodes in several regions and regionalized private endpoints are off, so it has no optimized \
             connection string and each of its mongos takes a port",
        );
    }
    if let Err(rule) = ClusterHosts::of(cluster).check(project) {
        findings.refuse(at.clone(), rule);
    }
    for node in cluster.nodes.iter().filter(|node| node.public_address.is_some()) {
        if survey.service_in(project, &node.zone.region()).is_none() {
            findings.note(
                at,
                format_args!(
                    "the project has no endpoint service in {}, so nothing listens on the public address of `{}`",
                    node.zone.region(),
                    node.name
                ),
            );
        }
    }
}

/// The users of addresses.
struct UsedAddresses<'a> {
    survey: &'a Survey<'a>,
    /// Endpoints' addresses, where the gateway listens on every port of a target.
    endpoints: BTreeMap<IpAddr, &'a VpceId>,
    /// Public addresses, with their users.
    public: BTreeMap<SocketAddr, String>,
    /// Addresses of targets: cluster and process.
    targets: BTreeMap<SocketAddr, (&'a ClusterName, &'a str)>,
    /// All public addresses, to find targets at one of them.
    wanted: BTreeSet<SocketAddr>,
}

impl<'a> UsedAddresses<'a> {
    fn of(survey: &'a Survey<'a>) -> Self {
        let endpoints = survey.endpoints.values().flatten();
        let nodes = survey.desired.projects.iter().flat_map(|project| &project.clusters).flat_map(|c| &c.nodes);
        let apps = survey.desired.apps.iter();
        Self {
            survey,
            endpoints: endpoints.flat_map(|e| e.addresses.iter().map(|address| (address.ip, &e.id))).collect(),
            public: apps.clone().map(|app| (app.public_address, format!("app {}", app.id))).collect(),
            targets: BTreeMap::new(),
            wanted: nodes.filter_map(|n| n.public_address).chain(apps.map(|app| app.public_address)).collect(),
        }
    }

    /// Apps may share a public address, as they differ by name.
    fn check_apps(&self, desired: &Desired, findings: &mut Findings) {
        for app in &desired.apps {
            if let Some(endpoint) = self.endpoints.get(&app.public_address.ip()) {
                let rule = public_address_taken(&app.id, app.public_address, &format!("endpoint {endpoint}"));
                findings.refuse(Location::App(app.id.clone()), rule);
            }
        }
    }

    fn check(&mut self, cluster: &'a Cluster, at: &Location, findings: &mut Findings) {
        let nodes = cluster.nodes.iter().map(|node| (&node.name, &node.address));
        let connectors = cluster.bi_connectors.iter().map(|connector| (&connector.name, &connector.address));
        for (name, given) in nodes.chain(connectors) {
            let Some(address) = given.at(&self.survey.desired.resolved) else { continue };
            let target = || match given.host() {
                Some(host) => format!("{}/{name} ({host})", cluster.name),
                None => format!("{}/{name}", cluster.name),
            };
            if is_unusable(address) {
                findings.refuse(at.clone(), no_address(&target(), address));
            } else if self.endpoints.contains_key(&address.ip())
                || self.wanted.contains(&address)
                || self.survey.own_address_at(address).is_some()
            {
                let target = target();
                let rule =
                    format!("`{target}` is at {address}, where the gateway itself listens; flows would go round");
                findings.refuse(at.clone(), rule);
            } else if given.host().is_some() && self.survey.is_consumer_side(address.ip()) {
                let rule = format!(
                    "`{}` is at {address}, which is in a consumer's network; host names may lead to servers only. Change \
                     what the name leads to, or write the server's `address`",
                    target()
                );
                findings.refuse(at.clone(), rule);
            } else if let Some((other_cluster, process)) = self.targets.get(&address) {
                let rule = format!(
                    "`{}` is at {address}, and so is `{other_cluster}/{process}`; two targets cannot be at one address",
                    target()
                );
                findings.refuse(at.clone(), rule);
            } else {
                self.targets.insert(address, (&cluster.name, name));
            }
        }
        for node in &cluster.nodes {
            let Some(address) = node.public_address else { continue };
            let what = format!("{}/{}", cluster.name, node.name);
            if is_unusable(address) {
                findings.refuse(at.clone(), no_address(&what, address));
            } else if let Some(endpoint) = self.endpoints.get(&address.ip()) {
                findings.refuse(at.clone(), public_address_taken(&what, address, &format!("endpoint {endpoint}")));
            } else if let Some(by) = self.public.get(&address) {
                findings.refuse(at.clone(), public_address_taken(&what, address, by));
            } else {
                self.public.insert(address, format!("`{what}`"));
            }
        }
    }
}

/// The message for an address that cannot be used for connecting or binding.
fn no_address(what: &str, address: SocketAddr) -> String {
    format!("`{what}` is at {address}; write an address and a port of which neither is zero")
}

fn public_address_taken(what: impl Display, address: SocketAddr, by: &str) -> String {
    format!("the public address {address} of `{what}` is taken by {by}")
}

/// Whether the address can't be used for connecting or binding.
fn is_unusable(address: SocketAddr) -> bool {
    address.ip().is_unspecified() || address.port() == 0
}
