//! The provider's side: endpoint services and their private endpoints, regional mode, limits, access lists, clusters.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::super::inventory::{
    ClusterProfile, ClusterRecord, ClusterState, Pair, ProjectProfile, ProjectRecord, Registration, ServiceRecord,
    ServiceState,
};
use super::ec2::hosts;
use super::{Draft, EditError, ResourceKind, new_id_of, random, random_hex};
use crate::model::{
    CidrSet, Cloud, Cluster, ClusterKind, ClusterName, ConnectionLimit, EndpointService, EndpointState, IpAddressType,
    Label, Naming, Node, PortRange, ProjectId, Region, Tier, VpceId, VpceServiceId,
};
use crate::plan::{RuleError, may_disable_regional_mode};

/// Parameters of a new cluster.
#[derive(Debug, Clone)]
pub struct NewCluster {
    /// Its name.
    pub name: ClusterName,
    /// Sharded, or a replica set.
    pub sharded: bool,
    /// Its size class.
    pub tier: Tier,
    /// Its other attributes.
    pub profile: ClusterProfile,
    /// Number of nodes by region: `mongod`s, or the `mongos` of a sharded cluster.
    pub regions: Vec<(Region, usize)>,
    /// The addresses of its nodes, in the order of the regions; a node without one gets an address on which nothing
    /// listens.
    pub backends: Vec<SocketAddr>,
}

/// Limits to change; `None`: unchanged.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewLimits {
    /// Addressable targets per region.
    pub targets_per_region: Option<usize>,
    /// Flows per process.
    pub flows_per_target: Option<usize>,
    /// Bandwidth of one endpoint address in each direction, in bytes per second; `Some(None)`: no cap.
    pub bandwidth_cap: Option<Option<u64>>,
}

impl Draft {
    /// A project, to be changed.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn project_mut(&mut self, id: &ProjectId) -> Result<&mut ProjectRecord, EditError> {
        self.inventory.projects.get_mut(id).ok_or_else(|| ResourceKind::Project.missing(id))
    }

    /// Creates a project.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`] when another project has the name.
    pub fn create_project(&mut self, name: String, profile: ProjectProfile) -> Result<ProjectId, EditError> {
        if self.inventory.projects.values().any(|project| project.name == name) {
            return Err(ResourceKind::Project.exists(&name));
        }
        let id: ProjectId = random_hex(24).parse().map_err(|_| EditError::Invalid("no id could be made".to_owned()))?;
        let record = ProjectRecord {
            name,
            regionalized: false,
            access_list: CidrSet::default(),
            comments: BTreeMap::new(),
            target_limit: None,
        };
        self.inventory.projects.insert(id.clone(), record);
        self.inventory.project_profiles.insert(id.clone(), profile);
        Ok(id)
    }

    /// Removes a project.
    ///
    /// # Errors
    ///
    /// [`EditError::InUse`] while it has endpoint services, clusters, serverless instances or apps.
    pub fn delete_project(&mut self, id: &ProjectId) -> Result<(), EditError> {
        self.project_mut(id)?;
        let inventory = &self.inventory;
        let cluster = inventory.clusters.keys().find(|key| key.0 == *id).map(|key| format!("cluster {}", key.1));
        let instance = inventory.serverless.keys().find(|key| key.0 == *id).map(|key| format!("cluster {}", key.1));
        let app = inventory.apps.values().find(|app| app.project == *id).map(|app| format!("app {}", app.id));
        let service = inventory.project_services().any(|service| service.project == *id);
        let by = service.then(|| "endpoint services".to_owned()).or(cluster).or(instance).or(app);
        if let Some(by) = by {
            return Err(ResourceKind::Project.in_use(id, by));
        }
        self.inventory.projects.remove(id);
        self.inventory.project_profiles.remove(id);
        self.inventory.users.retain(|key, _| key.0 != *id);
        self.inventory.archives.retain(|key, _| key.0 != *id);
        Ok(())
    }

    /// A project's service that is not being removed.
    pub(super) fn service_mut(&mut self, id: &VpceServiceId) -> Result<&mut ServiceRecord, EditError> {
        self.inventory.project_service_mut(id).ok_or_else(|| ResourceKind::Service.missing(id))
    }

    /// Starts the creation of an endpoint service.
    ///
    /// # Errors
    ///
    /// [`RuleError::ServiceExistsForRegion`] if the region has one, in any state.
    pub fn create_service(
        &mut self,
        project: &ProjectId,
        region: Region,
        remote_regions: Vec<Region>,
    ) -> Result<VpceServiceId, EditError> {
        self.project_mut(project)?;
        if self.inventory.project_services().any(|s| s.project == *project && s.service.region == region) {
            return Err(RuleError::ServiceExistsForRegion(region).into());
        }
        check_remote(&region, &remote_regions)?;
        let service = EndpointService { remote_regions, ..self.new_service(project, region) };
        let id = service.id.clone();
        let (state, since) = (ServiceState::Initiating, self.now);
        self.inventory.add_service(ServiceRecord { project: project.clone(), service, state, since, error: None });
        Ok(id)
    }

    /// A new endpoint service with an unused id.
    pub(super) fn new_service(&self, project: &ProjectId, region: Region) -> EndpointService {
        let cloud = region.cloud();
        let (prefix, digits) = if cloud.is_some() { ("", 24) } else { ("vpce-svc-", 17) };
        EndpointService {
            id: new_id_of(prefix, digits, |id| self.inventory.has_service(id)),
            cidrs: self.service_networks(project, &region),
            region,
            remote_regions: Vec::new(),
            ip_address_types: IpAddressType::default(),
            source_addresses: Vec::new(),
            ports: PortRange::atlas(),
            target_limit: Cloud::target_limit(cloud),
            attributes: Cloud::attributes(cloud),
        }
    }

    /// The networks of a new service's VPC: those of existing services, otherwise the addresses of the nodes, without
    /// the machine's own, which operators use.
    pub(super) fn service_networks(&self, project: &ProjectId, region: &Region) -> CidrSet {
        let mut nets: Vec<IpNet> = self.inventory.service_networks().iter().copied().collect();
        if nets.is_empty() {
            let clusters = self.inventory.clusters.iter().filter(|(key, _)| key.0 == *project);
            let nodes = clusters.flat_map(|(_, record)| &record.cluster.nodes).filter(|n| n.zone.region() == *region);
            let addresses = nodes.filter_map(|node| Some(node.address.fixed()?.ip()));
            let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            nets.extend(addresses.filter(|ip| !own.contains(ip)).map(IpNet::from));
        }
        nets.into_iter().collect()
    }

    /// Sets the other regions whose VPCs may have new endpoints. Existing endpoints stay. An available service is
    /// `INITIATING` for a while, and continues to work.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`]; [`RuleError::RemoteRegionIsOwn`]; [`EditError::WrongState`] while it is being removed.
    pub fn set_remote_regions(&mut self, id: &VpceServiceId, regions: Vec<Region>) -> Result<(), EditError> {
        let now = self.now;
        let record = self.service_mut(id)?;
        if record.state == ServiceState::Deleting {
            return Err(ResourceKind::Service.in_state(id, record.state.label(), "AVAILABLE"));
        }
        check_remote(&record.service.region, &regions)?;
        record.service.remote_regions = regions;
        if record.state.is_connectable() {
            (record.state, record.since) = (ServiceState::Updating, now);
        }
        Ok(())
    }

    /// Starts the removal of an endpoint service and its private endpoints.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn delete_service(&mut self, id: &VpceServiceId) -> Result<(), EditError> {
        let now = self.now;
        let record = self.service_mut(id)?;
        if record.state != ServiceState::Deleting {
            (record.state, record.since) = (ServiceState::Deleting, now);
        }
        for (_, registration) in self.inventory.registrations.iter_mut().filter(|(key, _)| key.0 == *id) {
            (registration.deleting, registration.since) = (true, now);
        }
        for (_, own) in self.inventory.cloud_endpoints.iter_mut().filter(|(key, _)| key.0 == *id) {
            (own.state, own.since) = (ServiceState::Deleting, now);
        }
        let has_endpoints = self.inventory.registrations.keys().any(|key| key.0 == *id)
            || self.inventory.cloud_endpoints_of(id).next().is_some();
        if has_endpoints {
            self.inventory.update_clusters(id, now);
        }
        Ok(())
    }

    /// Adds an interface endpoint to a service. It may not exist on AWS yet.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`] if it was added before and has not failed; [`EditError::WrongState`] unless the service is
    /// available.
    pub fn register(&mut self, service: &VpceServiceId, endpoint: &VpceId) -> Result<(), EditError> {
        let now = self.now;
        let record = self.service_mut(service)?.clone();
        if !record.state.is_connectable() {
            return Err(ResourceKind::Service.in_state(service, record.state.label(), "AVAILABLE"));
        }
        let key = Pair(service.clone(), endpoint.clone());
        let known = self.inventory.registrations.get(&key);
        let failed = |id: &VpceId| {
            let state = self.inventory.endpoints.get(id).map(|record| record.endpoint.state);
            matches!(state, Some(EndpointState::Failed | EndpointState::Rejected))
        };
        if known.is_some_and(|known| known.deleting || (known.error.is_none() && !failed(endpoint))) {
            return Err(ResourceKind::PrivateEndpoint.exists(endpoint));
        }
        self.check_spread(&record.project, &record.service.region)?;
        let mut registration = Registration { since: now, deleting: false, error: None };
        let known = self.inventory.endpoints.get(endpoint);
        let region = known.and_then(|known| self.inventory.region_of(&known.endpoint)).cloned();
        let unsupported = region.filter(|region| !record.service.supports(region));
        if let Some(record) = self.inventory.endpoints.get_mut(endpoint) {
            if record.endpoint.service.service() != service {
                registration.error = Some(format!(
                    "Interface endpoint {endpoint} leads to {}, which is not this endpoint service. Click \"Edit\" to fix \
                     the problem.",
                    record.endpoint.service
                ));
            } else if let Some(region) = unsupported {
                registration.error = Some(format!(
                    "Interface endpoint {endpoint} lies in {}, which is not one of the accepted endpoint regions. Add it to \
                     supportedRemoteRegions, and click \"Edit\" to try again.",
                    region.atlas()
                ));
            } else {
                // An endpoint that does not exist on AWS yet is connected once it does.
                record.acceptance_requested(now);
                self.inventory.update_clusters(service, now);
            }
        }
        self.inventory.registrations.insert(key, registration);
        Ok(())
    }

    /// Starts the removal of an interface endpoint from a service.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn unregister(&mut self, service: &VpceServiceId, endpoint: &VpceId) -> Result<(), EditError> {
        let now = self.now;
        let key = Pair(service.clone(), endpoint.clone());
        let registration = self
            .inventory
            .registrations
            .get_mut(&key)
            .ok_or_else(|| ResourceKind::PrivateEndpoint.missing(endpoint))?;
        if !registration.deleting {
            (registration.deleting, registration.since) = (true, now);
            if let Some(record) = self.inventory.endpoints.get_mut(endpoint)
                && record.endpoint.state != EndpointState::Deleting
            {
                (record.endpoint.state, record.since) = (EndpointState::Rejected, now);
                record.accepted = false;
            }
            self.inventory.update_clusters(service, now);
        }
        Ok(())
    }

    /// Enables or disables regionalized private endpoints.
    ///
    /// # Errors
    ///
    /// [`RuleError::RegionalModeInUse`] when it can't be disabled; the plan checks whether it can be enabled.
    pub fn set_regionalized(&mut self, project: &ProjectId, on: bool) -> Result<(), EditError> {
        self.project_mut(project)?;
        if !on {
            may_disable_regional_mode(&self.inventory.desired(), project)?;
        }
        self.project_mut(project)?.regionalized = on;
        Ok(())
    }

    /// Sets limits of one endpoint service, or of all.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn set_limits(&mut self, service: Option<&VpceServiceId>, limits: NewLimits) -> Result<(), EditError> {
        let all = || self.inventory.project_services().map(|record| record.service.id.clone()).collect();
        let services: Vec<VpceServiceId> = service.map_or_else(all, |service| vec![service.clone()]);
        for id in &services {
            let record = self.service_mut(id)?;
            let attributes = &mut record.service.attributes;
            attributes.flows_per_target = limits.flows_per_target.unwrap_or(attributes.flows_per_target);
            attributes.bandwidth_cap = limits.bandwidth_cap.unwrap_or(attributes.bandwidth_cap);
            if let Some(limit) = limits.targets_per_region {
                // A limit of the project takes precedence over each service's.
                record.service.target_limit = limit;
                let project = record.project.clone();
                if record.service.region.cloud().is_none() {
                    let of_project = &mut self.project_mut(&project)?.target_limit;
                    *of_project = of_project.map(|_| limit);
                }
            }
        }
        Ok(())
    }

    /// Adds networks to a project's IP access list; an existing entry gets the new comment.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn allow(&mut self, project: &ProjectId, entries: &[(IpNet, String)]) -> Result<(), EditError> {
        let record = self.project_mut(project)?;
        for (net, comment) in entries {
            if !record.access_list.iter().any(|known| known == net) {
                record.access_list = record.access_list.iter().copied().chain([*net]).collect();
            }
            record.comments.insert(net.to_string(), comment.clone());
        }
        Ok(())
    }

    /// Removes a network from a project's IP access list.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn disallow(&mut self, project: &ProjectId, net: IpNet) -> Result<(), EditError> {
        let record = self.project_mut(project)?;
        if !record.access_list.iter().any(|known| *known == net) {
            return Err(ResourceKind::AccessEntry.missing(net));
        }
        record.access_list = record.access_list.iter().copied().filter(|known| *known != net).collect();
        record.comments.remove(&net.to_string());
        Ok(())
    }

    /// Creates a cluster.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`]; the plan refuses a cluster that can't be placed.
    pub fn create_cluster(&mut self, project: &ProjectId, new: NewCluster) -> Result<(), EditError> {
        self.project_mut(project)?;
        let key = Pair(project.clone(), new.name.clone());
        if self.inventory.clusters.contains_key(&key) || self.inventory.serverless.contains_key(&key) {
            return Err(ResourceKind::Cluster.exists(&new.name));
        }
        let mut nodes: Vec<Node> = Vec::new();
        let mut backends = new.backends.iter().copied();
        for (region, count) in &new.regions {
            for _ in 0..*count {
                let name = if new.sharded {
                    format!("mongos-{:02}", nodes.len())
                } else {
                    format!("shard-00-{:02}", nodes.len())
                };
                let zone = region.zones().nth(nodes.len() % 3);
                let zone = zone.ok_or_else(|| EditError::Invalid(format!("{region} has fewer than three zones")))?;
                let port = if new.sharded { 27016 } else { 27017 };
                let address = match backends.next() {
                    Some(address) => address,
                    None => SocketAddr::new(self.idle_address(project, region, &nodes)?, port),
                };
                nodes.push(Node { name, zone, address: address.into(), public_address: None });
            }
        }
        let kind = if new.sharded {
            ClusterKind::Sharded { optimized: new.regions.iter().all(|(region, _)| region.cloud().is_none()) }
        } else {
            ClusterKind::ReplicaSet {
                set_name: format!("atlas-{}-shard-0", random(6, b"abcdefghjkmnpqrstuvwxyz0123456789")),
            }
        };
        let cluster = Cluster {
            name: new.name,
            label: self.label(project),
            naming: Naming::Dot,
            kind,
            tier: new.tier,
            connection_limit: ConnectionLimit::Tier,
            paused: false,
            nodes,
            bi_connectors: Vec::new(),
        };
        let record = ClusterRecord { cluster, state: ClusterState::Creating, since: self.now, created: Some(self.now) };
        self.inventory.forget_cluster(&key);
        if new.profile != ClusterProfile::default() {
            self.inventory.cluster_profiles.insert(key.clone(), new.profile);
        }
        self.inventory.clusters.insert(key, record);
        Ok(())
    }

    /// The label in the host names of a project's clusters: the existing one in dot form, or a new one.
    fn label(&self, project: &ProjectId) -> Label {
        let mut own = self.inventory.clusters.iter().filter(|(key, _)| key.0 == *project);
        let known = own.find(|(_, record)| record.cluster.naming == Naming::Dot);
        known.map_or_else(
            || random(5, b"abcdefghijklmnopqrstuvwxyz0123456789").parse().expect("five letters and digits are a label"),
            |(_, record)| record.cluster.label.clone(),
        )
    }

    /// An unused address in a service's network, from its upper half, where configs don't place nodes.
    pub(super) fn idle_address(&self, project: &ProjectId, region: &Region, own: &[Node]) -> Result<IpAddr, EditError> {
        let taken: Vec<IpAddr> = self
            .inventory
            .clusters
            .values()
            .flat_map(|record| &record.cluster.nodes)
            .chain(self.inventory.serverless.values().flat_map(|record| &record.cluster.nodes))
            .chain(own)
            .filter_map(|node| Some(node.address.fixed()?.ip()))
            .collect();
        let nets = self.service_networks(project, region);
        let widest = nets.iter().filter_map(|net| if let IpNet::V4(net) = net { Some(*net) } else { None });
        let half = widest.min_by_key(ipnet::Ipv4Net::prefix_len).and_then(|net| net.subnets(net.prefix_len() + 1).ok());
        let upper = half.and_then(Iterator::last);
        upper.and_then(|net| hosts(net).map(IpAddr::V4).find(|ip| !taken.contains(ip))).ok_or_else(|| {
            EditError::Invalid(format!(
                "the nodes in {region} have no address: name them in `labBackends` or in the tag `plgw-backends`, as \
                 `127.1.0.11:27017 127.1.0.12:27017`"
            ))
        })
    }

    /// Starts the removal of a cluster: its targets are deregistered.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`]; [`EditError::InUse`] while termination protection is enabled.
    pub fn delete_cluster(&mut self, project: &ProjectId, name: &ClusterName) -> Result<(), EditError> {
        let now = self.now;
        let profile = self.inventory.cluster_profiles.get(&Pair(project.clone(), name.clone()));
        if profile.is_some_and(|own| own.fields.get("terminationProtectionEnabled") == Some(&true.into())) {
            return Err(ResourceKind::Cluster.in_use(name, "its termination protection"));
        }
        let record = self.cluster_mut(project, name)?;
        if record.state != ClusterState::Deleting {
            (record.state, record.since) = (ClusterState::Deleting, now);
        }
        Ok(())
    }

    pub(super) fn cluster_mut(
        &mut self,
        project: &ProjectId,
        name: &ClusterName,
    ) -> Result<&mut ClusterRecord, EditError> {
        self.project_mut(project)?;
        self.inventory
            .clusters
            .get_mut(&Pair(project.clone(), name.clone()))
            .ok_or_else(|| ResourceKind::Cluster.missing(name))
    }
}

fn check_remote(own: &Region, regions: &[Region]) -> Result<(), EditError> {
    if regions.contains(own) { Err(RuleError::RemoteRegionIsOwn(own.clone()).into()) } else { Ok(()) }
}
