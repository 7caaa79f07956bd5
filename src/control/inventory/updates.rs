//! Clusters that add or remove endpoints.

use super::{EndpointRecord, Inventory, Pair, ServiceState, Timestamp};
use crate::model::{ClusterName, ProjectId, Region, VpceServiceId};

impl Inventory {
    /// Marks the clusters of the service's region as `UPDATING` while they add or remove an endpoint.
    pub(in crate::control) fn update_clusters(&mut self, service: &VpceServiceId, now: Timestamp) {
        let Some(record) = self.project_service(service) else { return };
        let (project, region) = (&record.project, &record.service.region);
        let here = self.clusters.iter().filter(|(key, record)| {
            key.0 == *project && !record.cluster.paused && record.cluster.regions().contains(region)
        });
        let keys: Vec<_> = here.map(|(key, _)| key.clone()).collect();
        self.updates.extend(keys.into_iter().map(|key| (key, now)));
    }

    /// Whether an endpoint in a region of the cluster is changing state, so that its update can't end.
    pub(in crate::control) fn endpoints_change(&self, Pair(project, name): &Pair<ProjectId, ClusterName>) -> bool {
        let regions: Vec<Region> = self
            .clusters
            .get(&Pair(project.clone(), name.clone()))
            .map(|record| record.cluster.regions())
            .unwrap_or_default();
        let is_own = |service: &VpceServiceId| {
            let own = self.project_service(service);
            own.is_some_and(|own| own.project == *project && regions.contains(&own.service.region))
        };
        let on_aws = self.registrations.iter().any(|(key, registration)| {
            let joins = self.endpoints.get(&key.1).is_some_and(EndpointRecord::is_connecting);
            is_own(&key.0) && (registration.deleting || (registration.error.is_none() && joins))
        });
        let changes = |state| matches!(state, ServiceState::Initiating | ServiceState::Deleting);
        on_aws || self.cloud_endpoints.iter().any(|(key, own)| is_own(&key.0) && changes(own.state))
    }

    /// Removes the attributes of a removed project or cluster.
    pub(in crate::control) fn forget_cluster(&mut self, key: &Pair<ProjectId, ClusterName>) {
        self.cluster_profiles.remove(key);
        self.updates.remove(key);
        self.named_strings.retain(|own, record| own.0 != key.0 || record.cluster != key.1);
    }
}
