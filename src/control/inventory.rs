//! All objects: those of the config, and those that the APIs created or changed.
//!
//! An [`Inventory`] starts with the config's objects, one record each. Changes by the APIs are saved as the difference
//! from the config: one key of the state store per object, `resources/KIND/ID`, whose value is the current record, or
//! empty for a removed object of the config. So a reload changes only what the config names, and changes of different
//! objects never conflict.

mod atlas;
mod cloud_networks;
mod clouds;
mod named_strings;
mod security_rules;
mod serverless;
mod state;
mod updates;
mod vpc;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::atlas::{
    ClusterProfile, DatabaseUser, NAMED_STRINGS_SETTING, NamedStringsRecord, ProjectProfile, StringsStatus,
};
pub use self::clouds::{CloudEndpoint, CloudEndpointKey};
pub use self::security_rules::{Protocol, RulePeer, RuleRecord, RuleTerms};
pub use self::serverless::{
    ARCHIVE_SERVICES, ArchiveEndpoint, Reservation, ServerlessEndpoint, ServerlessRecord, archive_region,
};
pub(super) use self::serverless::{derived_id, mongos};
pub use self::state::{ServiceState, Tags, Timestamp};
pub use self::vpc::{SubnetAttributes, VpcRecord, ipv6_association_of};
use super::saved_error::SavedError;
use super::store::{Entry, json};
use crate::model::{
    App, CidrSet, Cluster, ClusterName, Desired, EndpointService, EndpointState, InterfaceEndpoint, IpAddressType,
    Project, ProjectId, Region, VpcId, VpceId, VpceServiceId, Zone,
};

/// The prefix of the keys of objects that the APIs created or changed.
pub(super) const RESOURCES: &str = "resources/";

/// An interface endpoint with its EC2 attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The endpoint, with its state.
    pub endpoint: InterfaceEndpoint,
    /// When it was created; `None`: by the config.
    pub created: Option<Timestamp>,
    /// When it entered its state.
    pub since: Timestamp,
    /// Whether the service's owner accepted it.
    pub accepted: bool,
    /// Its tags.
    pub tags: Tags,
    /// Its policy document; `None`: everything is allowed.
    pub policy: Option<String>,
    /// Whether private DNS names are enabled.
    pub private_dns: bool,
    /// The client token of its creation, and the request's fingerprint.
    pub token: Option<(String, String)>,
    /// Why it failed or was rejected.
    pub error: Option<String>,
}

/// An endpoint service of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// The owning project.
    pub project: ProjectId,
    /// The service.
    pub service: EndpointService,
    /// Its state.
    pub state: ServiceState,
    /// When it entered its state.
    pub since: Timestamp,
    /// Why it failed.
    pub error: Option<String>,
}

/// An endpoint that was added to a service on the provider's side, whether or not it exists on AWS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// When it was added, or when the endpoint disappeared.
    pub since: Timestamp,
    /// Whether it is being removed.
    pub deleting: bool,
    /// Why it failed.
    pub error: Option<String>,
}

/// A project without its clusters and services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRecord {
    /// Its name.
    pub name: String,
    /// Whether regionalized private endpoints are enabled.
    pub regionalized: bool,
    /// The IP access list of the public path.
    pub access_list: CidrSet,
    /// Comments on its entries, by network.
    pub comments: BTreeMap<String, String>,
    /// The limit of addressable targets per region, if it was changed.
    pub target_limit: Option<usize>,
}

/// The state of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClusterState {
    /// `IDLE`.
    Idle,
    /// Being created.
    Creating,
    /// Being changed.
    Updating,
    /// Being removed.
    Deleting,
}

impl ClusterState {
    /// Atlas' name of the state.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "IDLE",
            Self::Creating => "CREATING",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
        }
    }
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// The cluster.
    pub cluster: Cluster,
    /// Its state.
    pub state: ClusterState,
    /// When it entered its state.
    pub since: Timestamp,
    /// When it was created; `None`: by the config.
    pub created: Option<Timestamp>,
}

/// Two ids as one key: `FIRST/SECOND`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pair<A, B>(pub A, pub B);

impl<A: fmt::Display, B: fmt::Display> fmt::Display for Pair<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

impl<A: FromStr, B: FromStr> FromStr for Pair<A, B> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('/')
            .and_then(|(first, second)| Some(Self(first.parse().ok()?, second.parse().ok()?)))
            .ok_or_else(|| format!("`{text}` is not two ids"))
    }
}

/// All objects by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// VPCs with their subnets and groups.
    pub vpcs: BTreeMap<VpcId, VpcRecord>,
    /// Interface endpoints.
    pub endpoints: BTreeMap<VpceId, EndpointRecord>,
    /// Projects.
    pub projects: BTreeMap<ProjectId, ProjectRecord>,
    /// Their clusters.
    pub clusters: BTreeMap<Pair<ProjectId, ClusterName>, ClusterRecord>,
    /// Their endpoint services on AWS.
    pub services: BTreeMap<VpceServiceId, ServiceRecord>,
    /// Endpoints that were added to the services of projects.
    pub registrations: BTreeMap<Pair<VpceServiceId, VpceId>, Registration>,
    /// App Services apps.
    pub apps: BTreeMap<String, App>,
    /// Serverless instances of projects.
    pub serverless: BTreeMap<Pair<ProjectId, ClusterName>, ServerlessRecord>,
    /// Interface endpoints that projects use for their Online Archives.
    pub archives: BTreeMap<Pair<ProjectId, VpceId>, ArchiveEndpoint>,
    /// Projects' endpoint services on Azure and Google Cloud.
    pub cloud_services: BTreeMap<VpceServiceId, ServiceRecord>,
    /// Private endpoints that were added to those.
    pub cloud_endpoints: BTreeMap<CloudEndpointKey, CloudEndpoint>,
    /// Attributes of projects in Atlas' API.
    pub project_profiles: BTreeMap<ProjectId, ProjectProfile>,
    /// Attributes of clusters in Atlas' API.
    pub cluster_profiles: BTreeMap<Pair<ProjectId, ClusterName>, ClusterProfile>,
    /// Clusters that are adding or removing endpoints, and since when. Kept apart from the cluster's record, so that
    /// the config's cluster stays the config's.
    pub updates: BTreeMap<Pair<ProjectId, ClusterName>, Timestamp>,
    /// Database users of projects, by `DATABASE/NAME`.
    pub users: BTreeMap<Pair<ProjectId, String>, DatabaseUser>,
    /// Connection strings that were created by name, by project and id.
    pub named_strings: BTreeMap<Pair<ProjectId, String>, NamedStringsRecord>,
    /// Objects that only the config can declare.
    pub fixed: ConfigOnly,
}

/// Objects that only the config can declare.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigOnly {
    /// App Services' endpoint services.
    pub app_services: Vec<crate::model::AppService>,
    /// The consumers' networks in Azure and Google Cloud.
    pub networks: BTreeMap<VpcId, crate::model::Vpc>,
    /// Private hosted zones.
    pub private_zones: Vec<crate::model::PrivateZone>,
    /// The order of projects in the config.
    order: Vec<ProjectId>,
    /// The order of clusters in the config.
    cluster_order: Vec<Pair<ProjectId, ClusterName>>,
    /// The order of apps in the config.
    app_order: Vec<String>,
}

/// Objects that the APIs created or changed: values of the state store by key. An empty value marks a removed object.
pub(super) type ApiResources = BTreeMap<String, Vec<u8>>;

impl Inventory {
    /// The host names of the clusters' processes.
    pub(super) fn host_names(&self) -> std::collections::BTreeSet<crate::model::DnsName> {
        self.clusters.values().flat_map(|record| record.cluster.host_names()).cloned().collect()
    }

    /// The inventory of a config.
    #[must_use]
    pub fn from_config(desired: &Desired) -> Self {
        let mut inventory = Self::default();
        for (id, vpc) in &desired.vpcs {
            if id.cloud().is_some() {
                inventory.fixed.networks.insert(id.clone(), vpc.clone());
            } else {
                inventory.vpcs.insert(id.clone(), VpcRecord::new(vpc.clone()));
            }
        }
        for project in &desired.projects {
            inventory.add_project(project);
        }
        for (id, endpoint) in &desired.endpoints {
            if id.cloud().is_some() {
                inventory.cloud_endpoints.extend(CloudEndpoint::of_config(endpoint));
                continue;
            }
            let service = endpoint.service.service();
            if inventory.services.contains_key(service) {
                let registration = Registration { since: Timestamp::default(), deleting: false, error: None };
                inventory.registrations.insert(Pair(service.clone(), id.clone()), registration);
            }
            inventory.endpoints.insert(id.clone(), EndpointRecord::of_config(endpoint));
        }
        for app in &desired.apps {
            inventory.apps.insert(app.id.to_string(), app.clone());
            inventory.fixed.app_order.push(app.id.to_string());
        }
        inventory.fixed.app_services.clone_from(&desired.app_services);
        inventory.fixed.private_zones.clone_from(&desired.private_zones);
        inventory
    }

    fn add_project(&mut self, project: &Project) {
        let record = ProjectRecord {
            name: project.name.clone(),
            regionalized: project.regionalized,
            access_list: project.access_list.clone(),
            comments: BTreeMap::new(),
            target_limit: None,
        };
        self.projects.insert(project.id.clone(), record);
        self.fixed.order.push(project.id.clone());
        for cluster in &project.clusters {
            let key = Pair(project.id.clone(), cluster.name.clone());
            self.fixed.cluster_order.push(key.clone());
            let (state, since) = (ClusterState::Idle, Timestamp::default());
            self.clusters.insert(key, ClusterRecord { cluster: cluster.clone(), state, since, created: None });
        }
        for service in &project.services {
            self.add_service(ServiceRecord {
                project: project.id.clone(),
                service: service.clone(),
                state: ServiceState::Available,
                since: Timestamp::default(),
                error: None,
            });
        }
    }

    /// The input of the plan: without objects that are being created or removed, and without endpoints to unavailable
    /// services.
    #[must_use]
    pub fn desired(&self) -> Desired {
        let mut desired = Desired {
            vpcs: self.vpcs.iter().map(|(id, record)| (id.clone(), record.planned_vpc())).collect(),
            app_services: self.fixed.app_services.clone(),
            private_zones: self.fixed.private_zones.clone(),
            named_strings: self.published_strings().collect(),
            ..Desired::default()
        };
        desired.vpcs.extend(self.fixed.networks.clone());
        let in_clouds = self.planned_cloud_endpoints();
        desired.endpoints.extend(in_clouds.map(|endpoint| (endpoint.id.clone(), endpoint)));
        for (id, record) in ordered(&self.projects, &self.fixed.order) {
            desired.projects.push(self.project(id, record));
        }
        desired.projects.extend(self.hidden_projects());
        for (_, app) in ordered(&self.apps, &self.fixed.app_order) {
            desired.apps.push(app.clone());
        }
        for (id, record) in &self.endpoints {
            if self.has_available_service(&record.endpoint) {
                let registered = record.created.is_none() || self.is_registered(&record.endpoint);
                desired.endpoints.insert(id.clone(), InterfaceEndpoint { registered, ..record.endpoint.clone() });
            }
        }
        for zone in &mut desired.private_zones {
            zone.records.retain(|record| match record {
                crate::model::ZoneRecord::Alias { endpoint, .. } => desired.endpoints.contains_key(endpoint),
                _ => true,
            });
        }
        desired
    }

    fn project(&self, id: &ProjectId, record: &ProjectRecord) -> Project {
        let clusters = ordered(&self.clusters, &self.fixed.cluster_order)
            .filter(|(key, record)| key.0 == *id && record.state != ClusterState::Deleting);
        let services = self.project_services().filter(|s| s.project == *id && s.state.is_connectable());
        let limited = |service: &EndpointService| {
            // Atlas' project limit is that of AWS.
            let of_project = record.target_limit.filter(|_| service.region.cloud().is_none());
            EndpointService { target_limit: of_project.unwrap_or(service.target_limit), ..service.clone() }
        };
        Project {
            id: id.clone(),
            name: record.name.clone(),
            regionalized: record.regionalized,
            access_list: record.access_list.clone(),
            clusters: clusters.map(|(_, record)| record.cluster.clone()).collect(),
            services: services.map(|record| limited(&record.service)).collect(),
        }
    }

    /// The endpoint services of projects, on every provider.
    pub fn project_services(&self) -> impl Iterator<Item = &ServiceRecord> {
        self.services.values().chain(self.cloud_services.values())
    }

    /// A project's endpoint service, on any cloud.
    #[must_use]
    pub fn project_service(&self, id: &VpceServiceId) -> Option<&ServiceRecord> {
        self.services.get(id).or_else(|| self.cloud_services.get(id))
    }

    pub(super) fn project_service_mut(&mut self, id: &VpceServiceId) -> Option<&mut ServiceRecord> {
        self.services.get_mut(id).or_else(|| self.cloud_services.get_mut(id))
    }

    /// Adds a project's endpoint service.
    pub(super) fn add_service(&mut self, record: ServiceRecord) {
        let on_aws = record.service.region.cloud().is_none();
        let services = if on_aws { &mut self.services } else { &mut self.cloud_services };
        services.insert(record.service.id.clone(), record);
    }

    /// Whether an endpoint's service is available.
    #[must_use]
    pub fn has_available_service(&self, endpoint: &InterfaceEndpoint) -> bool {
        self.service_region(endpoint.service.service()).as_ref() == Some(endpoint.service.region())
    }

    /// The region of the AWS endpoint service with this id; `None` if there is none.
    #[must_use]
    pub fn service_region(&self, id: &VpceServiceId) -> Option<Region> {
        let of_project = self.services.get(id).filter(|service| service.state.is_connectable());
        let of_app = self.fixed.app_services.iter().find(|service| service.id == *id);
        let mut instances = self.serverless.values().filter(|record| record.state != ClusterState::Deleting);
        of_project
            .map(|service| service.service.region.clone())
            .or_else(|| of_app.map(|service| service.region.clone()))
            .or_else(|| {
                instances.find(|r| r.service().is_some_and(|own| own.id == *id)).map(|record| record.region.clone())
            })
            .or_else(|| archive_region(id))
    }

    /// Whether VPCs in `region` may have new endpoints to a service. Only projects' services support other regions than
    /// their own.
    #[must_use]
    pub fn supports(&self, service: &VpceServiceId, region: &Region) -> bool {
        self.services.get(service).is_some_and(|record| record.service.supports(region))
            || self.service_region(service).as_ref() == Some(region)
    }

    /// The address families that a service supports. Services other than projects' are IPv4 only.
    #[must_use]
    pub fn ip_address_types(&self, service: &VpceServiceId) -> IpAddressType {
        self.services.get(service).map(|record| record.service.ip_address_types).unwrap_or_default()
    }

    /// The region of an endpoint's VPC.
    #[must_use]
    pub fn region_of(&self, endpoint: &InterfaceEndpoint) -> Option<&Region> {
        self.vpcs.get(&endpoint.vpc).map(|record| &record.vpc.region)
    }

    /// The region of a consumer's resource with this id: a VPC, a resource in a VPC, or an interface endpoint.
    #[must_use]
    pub fn region_of_resource(&self, id: &str) -> Option<&Region> {
        let home = self.vpcs.values().find(|record| record.has_resource(id)).map(|record| &record.vpc.region);
        home.or_else(|| self.region_of(&self.endpoints.get(&id.parse().ok()?)?.endpoint))
    }

    /// The availability zones of an endpoint service: the first three of its region, and those of its nodes.
    #[must_use]
    pub fn service_zones(&self, id: &VpceServiceId) -> Vec<Zone> {
        let Some(region) = self.service_region(id) else { return Vec::new() };
        let project = self.services.get(id).map(|record| &record.project);
        let clusters = self.clusters.iter().filter(|(key, _)| Some(&key.0) == project);
        let nodes = clusters.flat_map(|(_, record)| record.cluster.nodes.iter().map(|node| node.zone.clone()));
        let mut zones: Vec<Zone> = region.zones().take(3).chain(nodes.filter(|zone| zone.region() == region)).collect();
        zones.sort();
        zones.dedup();
        zones
    }

    /// Whether an endpoint service has this id.
    pub(super) fn has_service(&self, id: &VpceServiceId) -> bool {
        self.project_service(id).is_some()
            || self.fixed.app_services.iter().any(|service| service.id == *id)
            || self.serverless.values().any(|record| record.endpoint.as_ref().is_some_and(|own| own.service.id == *id))
            || archive_region(id).is_some()
    }

    /// Whether the service's owner has added an endpoint.
    #[must_use]
    pub fn is_registered(&self, endpoint: &InterfaceEndpoint) -> bool {
        let key = Pair(endpoint.service.service().clone(), endpoint.id.clone());
        let of_project = self.registrations.get(&key).is_some_and(|r| !r.deleting && r.error.is_none());
        let of_instance = |record: &ServerlessRecord| {
            let own = record.endpoint.as_ref().filter(|own| own.state == Reservation::Reserved && own.error.is_none());
            own.is_some_and(|own| own.claimed.as_ref() == Some(&endpoint.id) && own.service.id == key.0)
        };
        let of_archives = archive_region(&key.0).is_some()
            && self
                .archives
                .iter()
                .any(|(own, record)| own.1 == endpoint.id && !record.deleting && record.error.is_none());
        of_project
            || of_archives
            || self.serverless.values().any(of_instance)
            || self.app_endpoints().any(|id| *id == endpoint.id)
    }

    /// The endpoints of apps.
    pub(super) fn app_endpoints(&self) -> impl Iterator<Item = &VpceId> {
        self.apps.values().flat_map(|app| &app.endpoints).map(|registered| &registered.endpoint)
    }

    /// This inventory with the objects that the APIs created or changed.
    ///
    /// # Errors
    ///
    /// [`SavedError::Value`] for a key or a value that this version doesn't write.
    pub(super) fn with(mut self, resources: &ApiResources) -> Result<Self, SavedError> {
        for (key, value) in resources {
            let wrong = |error: String| SavedError::Value { key: key.clone(), source: serde::de::Error::custom(error) };
            let (kind, id) = key
                .strip_prefix(RESOURCES)
                .and_then(|rest| rest.split_once('/'))
                .ok_or_else(|| wrong("not KIND/ID".to_owned()))?;
            self.put(kind, id, value).map_err(wrong)?;
        }
        // Earlier versions saved the rules in the groups.
        self.vpcs.values_mut().for_each(VpcRecord::adopt_rules);
        Ok(self)
    }
}

/// Every saved kind of object, with its map.
macro_rules! saved_kinds {
    ($($kind:literal => $objects:ident,)*) => {
        impl Inventory {
            /// The difference from `base`, in its saved form.
            pub(super) fn resources(&self, base: &Self) -> ApiResources {
                let mut resources = ApiResources::new();
                $(differ($kind, &base.$objects, &self.$objects, &mut resources);)*
                resources
            }

            /// Reads a saved object.
            fn put(&mut self, kind: &str, id: &str, value: &[u8]) -> Result<(), String> {
                match kind {
                    $($kind => put(&mut self.$objects, id, value),)*
                    _ => Err(format!("there are no objects of kind `{kind}`")),
                }
            }
        }
    };
}

saved_kinds! {
    "vpc" => vpcs,
    "endpoint" => endpoints,
    "project" => projects,
    "cluster" => clusters,
    "service" => services,
    "registration" => registrations,
    "app" => apps,
    "serverless" => serverless,
    "archive" => archives,
    "cloud-service" => cloud_services,
    "cloud-endpoint" => cloud_endpoints,
    "project-profile" => project_profiles,
    "cluster-profile" => cluster_profiles,
    "update" => updates,
    "user" => users,
    "connection-string" => named_strings,
}

impl EndpointRecord {
    /// Whether its state ends by itself; a state given by the config does not.
    pub(super) fn is_transient(&self) -> bool {
        self.created.is_some() || self.since != Timestamp::default()
    }

    /// Whether it is being connected.
    pub(super) fn is_connecting(&self) -> bool {
        self.is_transient() && matches!(self.endpoint.state, EndpointState::PendingAcceptance | EndpointState::Pending)
    }

    /// Records that acceptance was requested from the service's owner, possibly again.
    pub(super) fn acceptance_requested(&mut self, now: Timestamp) {
        match self.endpoint.state {
            EndpointState::Failed | EndpointState::Rejected => {
                self.endpoint.state = EndpointState::PendingAcceptance;
                (self.since, self.error) = (now, None);
            }
            EndpointState::PendingAcceptance => self.since = now,
            _ => {}
        }
    }

    fn of_config(endpoint: &InterfaceEndpoint) -> Self {
        Self {
            endpoint: endpoint.clone(),
            created: None,
            since: Timestamp::default(),
            accepted: endpoint.state == EndpointState::Available,
            tags: Tags::new(),
            policy: None,
            private_dns: false,
            token: None,
            error: None,
        }
    }
}

/// The values of `map`: first those that `order` lists, in its order, then the others by key.
fn ordered<'a, K: Ord, V>(map: &'a BTreeMap<K, V>, order: &'a [K]) -> impl Iterator<Item = (&'a K, &'a V)> {
    let first = order.iter().filter_map(|key| map.get_key_value(key));
    first.chain(map.iter().filter(|(key, _)| !order.contains(key)))
}

fn differ<K: Ord + fmt::Display, V: PartialEq + Serialize>(
    kind: &str,
    base: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
    resources: &mut ApiResources,
) {
    for (key, value) in now.iter().filter(|(key, value)| base.get(*key) != Some(*value)) {
        resources.insert(format!("{RESOURCES}{kind}/{key}"), json(value));
    }
    for key in base.keys().filter(|key| !now.contains_key(*key)) {
        resources.insert(format!("{RESOURCES}{kind}/{key}"), Vec::new());
    }
}

fn put<K: Ord + FromStr, V: DeserializeOwned>(map: &mut BTreeMap<K, V>, id: &str, value: &[u8]) -> Result<(), String> {
    let id: K = id.parse().map_err(|_| format!("`{id}` is not such an id"))?;
    if value.is_empty() {
        map.remove(&id);
    } else {
        map.insert(id, serde_json::from_slice(value).map_err(|error| error.to_string())?);
    }
    Ok(())
}

/// The saved objects among the entries of the store.
pub(super) fn resources_of(entries: &[Entry]) -> ApiResources {
    entries.iter().map(|entry| (entry.key.as_str().to_owned(), entry.value.to_vec())).collect()
}
