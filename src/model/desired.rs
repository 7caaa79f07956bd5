//! The desired state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{
    App, AppService, Fault, Health, InterfaceEndpoint, ListenerPort, PrivateZone, Project, TargetId, Vpc, VpcId,
    VpceId, VpceServiceId,
};

/// The desired state: the config's inventory, the APIs' objects, health results and operators' commands.
///
/// The input of `plan::compile`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// VPCs by id.
    pub vpcs: BTreeMap<VpcId, Vpc>,
    /// Interface endpoints by id.
    pub endpoints: BTreeMap<VpceId, InterfaceEndpoint>,
    /// Projects with their clusters and endpoint services.
    pub projects: Vec<Project>,
    /// Connection strings of clusters that were created by name.
    pub named_strings: Vec<super::NamedStrings>,
    /// Apps.
    pub apps: Vec<App>,
    /// Endpoint services of App Services, at most one per region and kind. The `service` of every interface endpoint is
    /// one of these or a project's.
    pub app_services: Vec<AppService>,
    /// The consumers' private hosted zones.
    pub private_zones: Vec<PrivateZone>,
    /// Ports that an operator requested, by load balancer and target. A target keeps the port after the request is removed.
    pub moves: BTreeMap<(VpceServiceId, TargetId), ListenerPort>,
    /// Health by load balancer, target and member name; others are `initial`.
    pub health: BTreeMap<(VpceServiceId, TargetId, String), Health>,
    /// Deregistered members that drain, with their addresses, by load balancer, target and member name.
    pub draining: BTreeMap<(VpceServiceId, TargetId, String), (super::Zone, std::net::SocketAddr)>,
    /// Faults by name: active and scheduled ones.
    pub faults: BTreeMap<String, Arc<Fault>>,
    /// Processes that an operator deregistered, by load balancer, target and member name: they drain, and get no new
    /// flow.
    pub deregistered: BTreeSet<(VpceServiceId, TargetId, String)>,
    /// Zones that an operator shifted traffic away from, by load balancer.
    pub shifted_zones: BTreeSet<(VpceServiceId, super::Zone)>,
    /// Zones whose endpoint addresses were found not to answer clients, although their targets are healthy: they are
    /// removed from DNS, and nothing else changes.
    pub silent_zones: BTreeSet<super::Zone>,
    /// If several gateways share the state: the claims that this one serves, with their leases; `None`: it serves all
    /// addresses.
    pub served_here: Option<BTreeMap<super::ClaimId, super::Lease>>,
    /// The claims that any of those gateways serves; `None`: all. The addresses of other zones are removed from DNS.
    pub served_anywhere: Option<BTreeSet<super::ClaimId>>,
    /// The gateway's own listening addresses besides endpoints and public addresses: DNS, metrics, the admin API.
    pub own_addresses: BTreeSet<std::net::SocketAddr>,
    /// Host names of the gateway's own APIs, with their address.
    pub own_names: BTreeMap<super::DnsName, IpAddr>,
    /// The addresses of nodes' host names; a node whose name is missing gets no connections.
    pub resolved: BTreeMap<super::DnsName, IpAddr>,
}

impl Desired {
    /// The host names of its clusters' processes.
    #[must_use]
    pub fn host_names(&self) -> BTreeSet<super::DnsName> {
        let clusters = self.projects.iter().flat_map(|project| &project.clusters);
        clusters.flat_map(super::Cluster::host_names).cloned().collect()
    }
}

impl Desired {
    /// The lease of a claim that this gateway serves; `None`: it does not serve it.
    #[must_use]
    pub fn lease(&self, claim: &str) -> Option<super::Lease> {
        match &self.served_here {
            None => Some(super::Lease::default()),
            Some(claims) => claims.get(claim).cloned(),
        }
    }
}
