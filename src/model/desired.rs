//! What is wanted, from wherever it was said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{
    App, AppService, Fault, Health, InterfaceEndpoint, ListenerPort, PrivateZone, Project, TargetId, Vpc, VpcId,
    VpceId, VpceServiceId,
};

/// Everything that is wanted: the config's inventory, what the APIs made, health results and operators' commands.
///
/// `plan::compile` turns it into a snapshot; nothing else does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// VPCs by id.
    pub vpcs: BTreeMap<VpcId, Vpc>,
    /// Interface endpoints by id.
    pub endpoints: BTreeMap<VpceId, InterfaceEndpoint>,
    /// Projects with their clusters and endpoint services.
    pub projects: Vec<Project>,
    /// Connection strings of their clusters that were made by name.
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
    /// Health by load balancer, target and member name; what is not listed is `initial`.
    pub health: BTreeMap<(VpceServiceId, TargetId, String), Health>,
    /// Deregistered members that drain: their addresses, by load balancer, target and member name.
    pub draining: BTreeMap<(VpceServiceId, TargetId, String), (super::Zone, std::net::SocketAddr)>,
    /// Faults by name: those that have begun, and those that are to begin.
    pub faults: BTreeMap<String, Arc<Fault>>,
    /// Processes that an operator took out of their groups, by load balancer, target and member name: they get no new
    /// flow, and drain.
    pub deregistered: BTreeSet<(VpceServiceId, TargetId, String)>,
    /// Zones that an operator shifted away from, by load balancer.
    pub shifted_zones: BTreeSet<(VpceServiceId, super::Zone)>,
    /// Zones whose endpoint addresses were found not to answer clients, though all behind them is well: they leave DNS,
    /// and nothing else changes.
    pub silent_zones: BTreeSet<super::Zone>,
    /// Where several gateways share the state: the claims whose addresses this one listens at, with their leases; `None`: it
    /// listens at all addresses.
    pub served_here: Option<BTreeMap<super::ClaimId, super::Lease>>,
    /// The claims that any of those gateways serves; `None`: nothing is known to be without one. The addresses of other zones
    /// leave DNS.
    pub served_anywhere: Option<BTreeSet<super::ClaimId>>,
    /// Where the gateway itself answers beside endpoints and public addresses: DNS, metrics, the admin API.
    pub own_addresses: BTreeSet<std::net::SocketAddr>,
    /// Host names of the gateway's own APIs, and the address that they lead to.
    pub own_names: BTreeMap<super::DnsName, IpAddr>,
    /// What the host names of nodes lead to; a node whose name is not there gets no connections.
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
    /// The lease under which this gateway listens at the addresses of a claim; `None`: it does not listen there.
    #[must_use]
    pub fn lease(&self, claim: &str) -> Option<super::Lease> {
        match &self.served_here {
            None => Some(super::Lease::default()),
            Some(claims) => claims.get(claim).cloned(),
        }
    }
}
