//! Endpoint services on Azure and Google Cloud.

use std::collections::BTreeMap;

use super::super::inventory::{ElsewhereEndpoint, ElsewhereService, ServiceState};
use super::{Draft, EditError, Kind, random_hex};
use crate::model::{Cloud, EndpointService, IpAddressType, PortRange, ProjectId, Region};
use crate::plan::RuleError;

impl Draft {
    /// Begins to make an endpoint service elsewhere. Its id.
    ///
    /// # Errors
    ///
    /// [`RuleError::ServiceExistsForRegion`] for a second one in a region.
    pub fn create_elsewhere(&mut self, project: &ProjectId, cloud: Cloud, region: Region) -> Result<String, EditError> {
        self.project_mut(project)?;
        let name = region.atlas();
        let same = |s: &ElsewhereService| s.project == *project && s.cloud == cloud && s.region == name;
        if self.inventory.elsewhere.values().any(same) {
            return Err(RuleError::ServiceExistsForRegion(region).into());
        }
        let id = random_hex(24);
        let planned = EndpointService {
            id: id.parse().map_err(|_| EditError::Invalid("no id could be made".to_owned()))?,
            cidrs: self.service_networks(project, &region),
            region,
            remote_regions: Vec::new(),
            ip_address_types: IpAddressType::default(),
            source_addresses: Vec::new(),
            ports: PortRange::atlas(),
            target_limit: Cloud::target_limit(Some(cloud)),
            attributes: Cloud::attributes(Some(cloud)),
        };
        let service = ElsewhereService {
            project: project.clone(),
            cloud,
            region: name,
            port_mapping: cloud == Cloud::Gcp,
            state: ServiceState::Initiating,
            since: self.now,
            endpoints: BTreeMap::new(),
            error: None,
            service: Some(planned),
        };
        self.inventory.elsewhere.insert(id.clone(), service);
        Ok(id)
    }

    fn elsewhere_mut(&mut self, id: &str) -> Result<&mut ElsewhereService, EditError> {
        let missing = || EditError::Missing { what: Kind::Service, id: id.to_owned() };
        self.inventory.elsewhere.get_mut(id).ok_or_else(missing)
    }

    /// Begins to remove an endpoint service elsewhere, with its private endpoints.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn delete_elsewhere(&mut self, id: &str) -> Result<(), EditError> {
        let now = self.now;
        let service = self.elsewhere_mut(id)?;
        if service.state != ServiceState::Deleting {
            (service.state, service.since) = (ServiceState::Deleting, now);
        }
        Ok(())
    }

    /// Adds a private endpoint to a service elsewhere.
    ///
    /// # Errors
    ///
    /// [`EditError::WrongState`] before the service stands; [`EditError::Exists`]; [`EditError::Spread`].
    pub fn register_elsewhere(
        &mut self,
        id: &str,
        endpoint: String,
        mut new: ElsewhereEndpoint,
    ) -> Result<(), EditError> {
        new.since = self.now;
        let service = self.elsewhere_mut(id)?;
        if service.state != ServiceState::Available {
            let state = service.state.label().to_owned();
            return Err(EditError::WrongState { what: Kind::Service, id: id.to_owned(), state, wanted: "AVAILABLE" });
        }
        if service.endpoints.contains_key(&endpoint) {
            return Err(EditError::Exists { what: Kind::PrivateEndpoint, id: endpoint });
        }
        let (project, place) = (service.project.clone(), format!("{} {}", service.cloud.label(), service.region));
        self.check_spread(&project, &place)?;
        self.elsewhere_mut(id)?.endpoints.insert(endpoint, new);
        Ok(())
    }

    /// Begins to remove a private endpoint from a service elsewhere.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn unregister_elsewhere(&mut self, id: &str, endpoint: &str) -> Result<(), EditError> {
        let now = self.now;
        let missing = || EditError::Missing { what: Kind::PrivateEndpoint, id: endpoint.to_owned() };
        let own = self.elsewhere_mut(id)?.endpoints.get_mut(endpoint).ok_or_else(missing)?;
        if own.state != ServiceState::Deleting {
            (own.state, own.since) = (ServiceState::Deleting, now);
        }
        Ok(())
    }

    /// Whether one more private endpoint may stand at `place`, with those of every provider counted. Within AWS the plan
    /// has the rule; across providers only this knows all. Source: Atlas, "this limitation applies across cloud
    /// providers".
    pub(super) fn check_spread(&mut self, project: &ProjectId, place: &str) -> Result<(), EditError> {
        if self.project_mut(project)?.regionalized {
            return Ok(());
        }
        let inventory = &self.inventory;
        let mut places: BTreeMap<String, usize> = BTreeMap::from([(place.to_owned(), 1)]);
        let elsewhere = inventory.elsewhere.values().filter(|service| service.project == *project);
        for service in elsewhere {
            *places.entry(format!("{} {}", service.cloud.label(), service.region)).or_default() +=
                service.endpoints.len();
        }
        for (key, registration) in &inventory.registrations {
            let service = inventory.services.get(&key.0).filter(|service| service.project == *project);
            if let Some(service) = service.filter(|_| registration.error.is_none() && !registration.deleting) {
                *places.entry(format!("AWS {}", service.service.region.atlas())).or_default() += 1;
            }
        }
        places.retain(|_, count| *count > 0);
        let only_aws = places.keys().all(|place| place.starts_with("AWS "));
        if !only_aws && places.len() > 1 && places.values().any(|count| *count > 1) {
            let words: Vec<_> = places.iter().map(|(place, count)| format!("{count} in {place}")).collect();
            return Err(EditError::Spread(words.join(", ")));
        }
        Ok(())
    }
}
