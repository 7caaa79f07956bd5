//! Private endpoints on Azure and Google Cloud.

use std::collections::BTreeMap;

use super::super::inventory::{CloudEndpoint, CloudEndpointKey, ServiceState};
use super::{Draft, EditError, ResourceKind};
use crate::model::{ProjectId, Region};

impl Draft {
    /// Adds a private endpoint to a service on Azure or Google Cloud. A failed one is retried with the new parameters.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`]; [`EditError::WrongState`] unless the service is available; [`EditError::Exists`] if it
    /// exists and has not failed; [`EditError::Spread`].
    pub fn register_cloud_endpoint(&mut self, key: CloudEndpointKey, new: CloudEndpoint) -> Result<(), EditError> {
        let now = self.now;
        let record = self.service_mut(&key.0)?;
        if !record.state.is_connectable() {
            return Err(ResourceKind::Service.in_state(&key.0, record.state.label(), "AVAILABLE"));
        }
        let (project, region) = (record.project.clone(), record.service.region.clone());
        if self.inventory.cloud_endpoints.get(&key).is_some_and(|known| known.state != ServiceState::Failed) {
            return Err(ResourceKind::PrivateEndpoint.exists(&key.1));
        }
        self.check_spread(&project, &region)?;
        self.inventory.update_clusters(&key.0, now);
        self.inventory.cloud_endpoints.insert(key, CloudEndpoint { since: now, ..new });
        Ok(())
    }

    /// Starts the removal of a private endpoint from a service on Azure or Google Cloud.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn unregister_cloud_endpoint(&mut self, key: &CloudEndpointKey) -> Result<(), EditError> {
        let now = self.now;
        let own =
            self.inventory.cloud_endpoints.get_mut(key).ok_or_else(|| ResourceKind::PrivateEndpoint.missing(&key.1))?;
        if own.state != ServiceState::Deleting {
            (own.state, own.since) = (ServiceState::Deleting, now);
            self.inventory.update_clusters(&key.0, now);
        }
        Ok(())
    }

    /// Checks whether a project may have one more private endpoint in `region`, counting those of every provider. The
    /// plan has this rule too, but only for connected endpoints. Source: Atlas, "this limitation applies across cloud
    /// providers".
    pub(super) fn check_spread(&mut self, project: &ProjectId, region: &Region) -> Result<(), EditError> {
        if self.project_mut(project)?.regionalized {
            return Ok(());
        }
        let inventory = &self.inventory;
        let registered = inventory.registrations.iter().filter(|(_, own)| own.error.is_none() && !own.deleting);
        let connected = |own: &CloudEndpoint| !matches!(own.state, ServiceState::Failed | ServiceState::Deleting);
        let in_clouds = inventory.cloud_endpoints.iter().filter(|(_, own)| connected(own));
        let services = registered.map(|(key, _)| &key.0).chain(in_clouds.map(|(key, _)| &key.0));
        let own = services.filter_map(|id| inventory.project_service(id)).filter(|record| record.project == *project);
        let mut regions: BTreeMap<&Region, usize> = BTreeMap::from([(region, 1)]);
        for record in own {
            *regions.entry(&record.service.region).or_default() += 1;
        }
        let only_aws = regions.keys().all(|region| region.cloud().is_none());
        if !only_aws && regions.len() > 1 && regions.values().any(|count| *count > 1) {
            let place =
                |(region, count): (&&Region, &usize)| format!("{count} in {} {}", region.provider(), region.atlas());
            return Err(EditError::Spread(regions.iter().map(place).collect::<Vec<_>>().join(", ")));
        }
        Ok(())
    }
}
