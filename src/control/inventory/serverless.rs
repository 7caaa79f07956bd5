//! Serverless instances with their one private endpoint each, and the private endpoints of Online Archives.
//!
//! For the plan each is a separate project: a cluster behind a load balancer of its own. Atlas shows them under the
//! project that they belong to, with separate API calls.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::state::Timestamp;
use super::{ClusterState, Inventory};
use crate::model::{
    Attributes, CidrSet, Cluster, ClusterKind, ClusterName, ConnectionLimit, DEFAULT_TARGET_LIMIT, EndpointService,
    IpAddressType, Label, Naming, Node, PortRange, Project, ProjectId, Region, Tier, VpceId, VpceServiceId, Zone,
    derived_digits,
};

/// A serverless instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerlessRecord {
    /// Its processes: `mongos` behind one optimized string.
    pub cluster: Cluster,
    /// Its project in the plan.
    pub home: ProjectId,
    /// Its region.
    pub region: Region,
    /// Its state.
    pub state: ClusterState,
    /// When it entered its state.
    pub since: Timestamp,
    /// When it was created.
    pub created: Timestamp,
    /// Its private endpoint.
    pub endpoint: Option<ServerlessEndpoint>,
}

/// The private endpoint of a serverless instance: an endpoint service, and later the interface endpoint connected to
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerlessEndpoint {
    /// Its id in Atlas.
    pub id: String,
    /// A comment.
    pub comment: String,
    /// The service to connect to.
    pub service: EndpointService,
    /// The state of the service.
    pub state: Reservation,
    /// When it entered its state, or when the interface endpoint was set.
    pub since: Timestamp,
    /// The interface endpoint.
    pub claimed: Option<VpceId>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The state of the service of a serverless instance's private endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reservation {
    /// The service is being created.
    ReservationRequested,
    /// The service is available.
    Reserved,
    /// Being removed.
    Deleting,
}

impl ServerlessRecord {
    /// The service, once interface endpoints may connect to it.
    pub(super) fn service(&self) -> Option<&EndpointService> {
        let own = self.endpoint.as_ref().filter(|own| own.state == Reservation::Reserved);
        own.map(|own| &own.service)
    }

    /// Its project in the plan.
    pub(super) fn project(&self, access_list: &CidrSet) -> Project {
        Project {
            id: self.home.clone(),
            name: format!("serverless {}", self.cluster.name),
            regionalized: false,
            access_list: access_list.clone(),
            clusters: vec![self.cluster.clone()],
            services: self.service().cloned().into_iter().collect(),
        }
    }
}

/// An interface endpoint that a project uses for its Online Archives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveEndpoint {
    /// A comment.
    pub comment: String,
    /// The endpoint's region and DNS name, if given.
    pub customer: Option<(Region, String)>,
    /// When it was added.
    pub since: Timestamp,
    /// Whether it is being removed.
    pub deleting: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// The addresses of its region's archives.
    pub backends: Vec<SocketAddr>,
}

/// The endpoint services of Online Archives: one per region, shared by all customers. Source: Atlas, *Set Up a Private
/// Endpoint for a Federated Database Instance*.
pub const ARCHIVE_SERVICES: [(&str, &str); 11] = [
    ("us-east-1", "vpce-svc-00e311695874992b4"),
    ("us-west-2", "vpce-svc-09d86b19e59d1b4bb"),
    ("eu-west-1", "vpce-svc-0824460b72e1a420e"),
    ("eu-west-2", "vpce-svc-052f1840aa0c4f1f9"),
    ("eu-central-1", "vpce-svc-0ac8ce91871138c0d"),
    ("sa-east-1", "vpce-svc-0b56e75e8cdf50044"),
    ("ap-southeast-2", "vpce-svc-036f1de74d761706e"),
    ("ap-south-1", "vpce-svc-03eb8a541f96d356d"),
    ("ca-central-1", "vpce-svc-08564bb8ccae8ba64"),
    ("ap-northeast-1", "vpce-svc-0b63834ecd618a332"),
    ("ap-southeast-1", "vpce-svc-07728d2dfd2860efb"),
];

/// The region of the Online Archives' service with this id.
#[must_use]
pub fn archive_region(id: &VpceServiceId) -> Option<Region> {
    let (region, _) = ARCHIVE_SERVICES.iter().find(|(_, known)| *known == id.as_str())?;
    region.parse().ok()
}

/// 24 hex digits derived from a text.
pub(in super::super) fn derived_id(text: &str) -> ProjectId {
    derived_digits(text)[..24].parse().expect("24 hex digits are a project's id")
}

impl Inventory {
    /// The projects in the plan of serverless instances and Online Archives.
    pub(super) fn hidden_projects(&self) -> Vec<Project> {
        let instances = self.serverless.iter().filter(|(_, record)| record.state != ClusterState::Deleting);
        let instances = instances.map(|(key, record)| {
            let list = self.projects.get(&key.0).map(|project| project.access_list.clone());
            record.project(&list.unwrap_or_default())
        });
        instances.chain(self.archive_projects()).collect()
    }

    /// One project for every region with an interface endpoint to the Online Archives' service.
    fn archive_projects(&self) -> impl Iterator<Item = Project> + '_ {
        ARCHIVE_SERVICES.iter().filter_map(|(region, id)| {
            let (region, id): (Region, VpceServiceId) = (region.parse().ok()?, id.parse().ok()?);
            let used = self.endpoints.values().any(|record| *record.endpoint.service.service() == id);
            used.then(|| self.archive_project(region, id))
        })
    }

    fn archive_project(&self, region: Region, id: VpceServiceId) -> Project {
        let home = derived_id(&format!("online-archives/{region}"));
        let leads_there =
            |vpce: &VpceId| self.endpoints.get(vpce).is_some_and(|record| *record.endpoint.service.service() == id);
        let backends = self.archives.iter().filter(|(key, _)| leads_there(&key.1));
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in backends.flat_map(|(_, record)| &record.backends) {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        let name: ClusterName = "online-archive".parse().expect("letters and a hyphen are a name");
        let label: Label = home.as_str()[..5].parse().expect("five hex digits are a label");
        let clusters = mongos(name, label, &region, &addresses).filter(|cluster| !cluster.nodes.is_empty());
        let service = EndpointService {
            id,
            cidrs: self.service_networks(),
            region,
            remote_regions: Vec::new(),
            ip_address_types: IpAddressType::default(),
            source_addresses: Vec::new(),
            // Federated database instances listen on MongoDB's default port.
            ports: PortRange::new(27017, 65535).expect("27017 to 65535 is a range"),
            target_limit: DEFAULT_TARGET_LIMIT,
            attributes: Attributes::default(),
        };
        Project {
            id: home,
            name: "online archives".to_owned(),
            regionalized: false,
            access_list: CidrSet::default(),
            clusters: clusters.into_iter().collect(),
            services: vec![service],
        }
    }

    /// The networks of all endpoint services' VPCs.
    pub(in super::super) fn service_networks(&self) -> CidrSet {
        let mut nets = Vec::new();
        let own = self.project_services().flat_map(|record| record.service.cidrs.iter());
        for net in own.chain(self.fixed.app_services.iter().flat_map(|service| service.cidrs.iter())) {
            if !nets.contains(net) {
                nets.push(*net);
            }
        }
        nets.into_iter().collect()
    }
}

/// A sharded cluster behind one optimized string. `None` when the region has no zone `a`, which does not occur.
pub(in super::super) fn mongos(
    name: ClusterName,
    label: Label,
    region: &Region,
    addresses: &[SocketAddr],
) -> Option<Cluster> {
    let zone: Zone = format!("{region}a").parse().ok()?;
    let nodes = addresses.iter().enumerate().map(|(n, address)| Node {
        name: format!("mongos-{n:02}"),
        zone: zone.clone(),
        address: (*address).into(),
        public_address: None,
    });
    Some(Cluster {
        name,
        label,
        naming: Naming::Dot,
        kind: ClusterKind::Sharded { optimized: true },
        tier: Tier::Dedicated(10),
        connection_limit: ConnectionLimit::None,
        paused: false,
        nodes: nodes.collect(),
        bi_connectors: Vec::new(),
    })
}
