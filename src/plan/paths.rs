//! Determines which endpoints reach which cluster, and by which names.

use std::collections::{BTreeMap, BTreeSet};

use super::TargetKind;
use super::error::{Findings, Location, RuleError};
use super::port_allocations::PortAllocations;
use super::strings::{ClusterHosts, Paths, PrivateHost, PrivatePath};
use super::survey::{Survey, is_available};
use super::targets::is_optimized;
use crate::model::{
    Cloud, Cluster, ClusterName, ListenerPort, NamedStrings, Project, Region, Tier, VpceId, VpceServiceId,
};

/// The paths to every cluster, in the order of projects and clusters.
pub(super) fn paths<'a>(survey: &Survey<'a>, held: &PortAllocations, findings: &mut Findings) -> Vec<Paths<'a>> {
    let mut all = Vec::new();
    for project in &survey.desired.projects {
        let regions: BTreeMap<&Region, BalancerStrings<'a>> = survey
            .services_of(project)
            .map(|service| (&service.region, BalancerStrings::of(survey, held, &service.id)))
            .collect();
        for cluster in &project.clusters {
            let at = || Location::Cluster(project.id.clone(), cluster.name.clone());
            let named = survey.desired.named_strings.iter();
            let named = named.filter(|named| named.project == project.id && named.cluster == cluster.name);
            let found = to_cluster(project, cluster, &regions, named);
            let Some(found) = findings.take(at, found) else { continue };
            if let (Some(reason), true) = (&found.unavailable, is_partly_reached(cluster, &regions)) {
                findings.note(&at(), reason);
            }
            all.push(found);
        }
    }
    all
}

/// The inputs of connection strings from one load balancer.
struct BalancerStrings<'a> {
    /// Its available endpoints with their N, in order of N.
    endpoints: Vec<(u16, &'a VpceId)>,
    /// The ports of a cluster's `mongod`s or `mongos`, by the cluster's name, in target order.
    ports: BTreeMap<&'a ClusterName, Vec<ListenerPort>>,
}

impl<'a> BalancerStrings<'a> {
    fn of(survey: &Survey<'a>, held: &PortAllocations, service: &VpceServiceId) -> Self {
        let available = survey.endpoints_of(service).iter().filter(|endpoint| is_available(endpoint));
        let numbered = available.filter_map(|endpoint| Some((*held.indexes.get(&endpoint.id)?, &endpoint.id)));
        let mut endpoints: Vec<_> = numbered.collect();
        endpoints.sort();
        let mut ports: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let ledger = held.ledgers.get(service);
        let targets = survey.targets.get(service).into_iter().flatten();
        for target in targets.filter(|target| target.kind != TargetKind::BiConnector) {
            if let Some(port) = ledger.and_then(|ledger| ledger.port(&target.id)) {
                ports.entry(&target.cluster.name).or_default().push(port);
            }
        }
        Self { endpoints, ports }
    }

    fn ports_of(&self, cluster: &Cluster) -> Vec<ListenerPort> {
        self.ports.get(&cluster.name).cloned().unwrap_or_default()
    }
}

/// The regions of the cluster without an available endpoint.
fn missing(cluster: &Cluster, regions: &BTreeMap<&Region, BalancerStrings<'_>>) -> Vec<Region> {
    let reached = |region: &Region| regions.get(region).is_some_and(|reach| !reach.endpoints.is_empty());
    cluster.regions().into_iter().filter(|region| !reached(region)).collect()
}

/// Whether only some of its regions can be reached, which Atlas reports as an error.
fn is_partly_reached(cluster: &Cluster, regions: &BTreeMap<&Region, BalancerStrings<'_>>) -> bool {
    let missing = missing(cluster, regions).len();
    missing > 0 && missing < cluster.regions().len()
}

fn to_cluster<'a>(
    project: &'a Project,
    cluster: &'a Cluster,
    regions: &BTreeMap<&Region, BalancerStrings<'a>>,
    named: impl Iterator<Item = &'a NamedStrings>,
) -> Result<Paths<'a>, RuleError> {
    let hosts = ClusterHosts::of(cluster);
    let unavailable = why_unavailable(cluster, regions);
    let mut private =
        if unavailable.is_some() { Vec::new() } else { private_paths(project, cluster, &hosts, regions)? };
    for named in named {
        private.extend(named_path(project, cluster, &hosts, regions, named)?);
    }
    let mut nodes = cluster
        .nodes
        .iter()
        .map(|node| hosts.node(&node.name).map(|name| (name, node)))
        .collect::<Result<Vec<_>, _>>()?;
    nodes.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    Ok(Paths {
        project: &project.id,
        cluster,
        zone: hosts.zone()?,
        standard: hosts.standard()?,
        nodes,
        private,
        unavailable,
    })
}

fn why_unavailable(cluster: &Cluster, regions: &BTreeMap<&Region, BalancerStrings<'_>>) -> Option<String> {
    if let Tier::Shared(_) = cluster.tier {
        return Some(format!("private endpoints are not available for {} clusters", cluster.tier.name()));
    }
    let missing = missing(cluster, regions);
    if missing.is_empty() {
        return None;
    }
    let names = missing.iter().map(Region::as_str).collect::<Vec<_>>().join(", ");
    Some(if cluster.regions().len() > 1 {
        let clouds: BTreeSet<_> = cluster.regions().iter().map(Region::cloud).collect();
        let products: Vec<&str> =
            clouds.into_iter().map(|cloud| cloud.map_or("AWS PrivateLink", Cloud::product)).collect();
        format!(
            "there is no available private endpoint in {names}; {} must be active in all regions into which a \
             multi-region cluster is deployed",
            products.join(" and ")
        )
    } else {
        format!("there is no available private endpoint in {names}")
    })
}

/// One path per endpoint for a cluster in a single region, and in regionalized mode, where each endpoint reaches its
/// own region's `mongos`; otherwise a single path over all regions, with N = 0 regardless of the endpoints' own N.
fn private_paths<'a>(
    project: &Project,
    cluster: &'a Cluster,
    hosts: &ClusterHosts<'_>,
    reaches: &BTreeMap<&Region, BalancerStrings<'a>>,
) -> Result<Vec<PrivatePath<'a>>, RuleError> {
    let optimized = is_optimized(project, cluster);
    let regions = cluster.regions();
    let host = |index, endpoint, region: &Region, reach: &BalancerStrings<'_>| {
        let (name, ports) = (hosts.private_host(index, region)?, reach.ports_of(cluster));
        Ok::<_, RuleError>(PrivateHost { name, endpoint, region: region.clone(), ports })
    };
    let reached = regions.iter().filter_map(|region| Some((region, reaches.get(region)?)));
    if regions.len() > 1 && !project.regionalized {
        let firsts = reached.filter_map(|(region, reach)| Some((region, reach, reach.endpoints.first()?.1)));
        let spread = firsts.map(|(region, reach, endpoint)| host(0, endpoint, region, reach));
        let spread = spread.collect::<Result<Vec<_>, _>>()?;
        return Ok(vec![PrivatePath {
            slug: None,
            name: hosts.private(0, None, optimized)?,
            optimized,
            hosts: spread,
        }]);
    }
    let mut paths = Vec::new();
    for (region, reach) in reached {
        let named = (regions.len() > 1).then_some(region);
        for (index, endpoint) in &reach.endpoints {
            let name = hosts.private(*index, named, optimized)?;
            paths.push(PrivatePath {
                slug: None,
                name,
                optimized,
                hosts: vec![host(*index, *endpoint, region, reach)?],
            });
        }
    }
    Ok(paths)
}

/// The path of strings that were created by name: the chosen endpoints, in those regions of the cluster where one of
/// them is available. `None` if there is none.
fn named_path<'a>(
    project: &Project,
    cluster: &Cluster,
    hosts: &ClusterHosts<'_>,
    reaches: &BTreeMap<&Region, BalancerStrings<'a>>,
    named: &'a NamedStrings,
) -> Result<Option<PrivatePath<'a>>, RuleError> {
    let optimized = is_optimized(project, cluster);
    let mut spread = Vec::new();
    for region in cluster.regions() {
        let Some(reach) = reaches.get(&region) else { continue };
        let chosen = reach.endpoints.iter().find(|(_, id)| named.endpoints.contains(id));
        let (Some((_, endpoint)), ports) = (chosen, reach.ports_of(cluster)) else { continue };
        let name = hosts.named_host(&named.slug, &region)?;
        spread.push(PrivateHost { name, endpoint, region, ports });
    }
    if spread.is_empty() {
        return Ok(None);
    }
    let name = hosts.named(&named.slug, optimized)?;
    Ok(Some(PrivatePath { slug: Some(&named.slug), name, optimized, hosts: spread }))
}
