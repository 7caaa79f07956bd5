//! Serverless instances and Online Archives: instances, and the private endpoints of both.

use std::net::SocketAddr;

use super::super::inventory::{
    ArchiveEndpoint, ClusterState, Pair, Reservation, ServerlessEndpoint, ServerlessRecord, derived_id, mongos,
};
use super::{Draft, EditError, ResourceKind, random, random_hex};
use crate::model::{ClusterName, EndpointState, Label, ProjectId, Region, VpceId};

impl Draft {
    /// Creates a serverless instance. Without `backends` it gets an address on which nothing listens.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`] when the project has an instance with this name.
    pub fn create_serverless(
        &mut self,
        project: &ProjectId,
        name: ClusterName,
        region: Region,
        mut backends: Vec<SocketAddr>,
    ) -> Result<(), EditError> {
        self.project_mut(project)?;
        let key = Pair(project.clone(), name.clone());
        if self.inventory.serverless.contains_key(&key) || self.inventory.clusters.contains_key(&key) {
            return Err(ResourceKind::Serverless.exists(name));
        }
        if backends.is_empty() {
            backends.push(SocketAddr::new(self.idle_address(project, &region, &[])?, 27016));
        }
        let label: Label = random(5, b"abcdefghijklmnopqrstuvwxyz0123456789")
            .parse()
            .map_err(|_| EditError::Invalid("no label could be made".to_owned()))?;
        let cluster = mongos(name, label, &region, &backends)
            .ok_or_else(|| EditError::Invalid(format!("{region} has no zone a")))?;
        let record = ServerlessRecord {
            home: derived_id(&format!("serverless/{key}")),
            cluster,
            region,
            state: ClusterState::Creating,
            since: self.now,
            created: self.now,
            endpoint: None,
        };
        self.inventory.serverless.insert(key, record);
        Ok(())
    }

    /// Starts the removal of a serverless instance.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`]; [`EditError::InUse`] while it has a private endpoint.
    pub fn delete_serverless(&mut self, project: &ProjectId, name: &ClusterName) -> Result<(), EditError> {
        let now = self.now;
        let record = self.serverless_mut(project, name)?;
        if let Some(endpoint) = &record.endpoint {
            return Err(ResourceKind::Serverless.in_use(name, format!("private endpoint {}", endpoint.id)));
        }
        if record.state != ClusterState::Deleting {
            (record.state, record.since) = (ClusterState::Deleting, now);
        }
        Ok(())
    }

    fn serverless_mut(&mut self, project: &ProjectId, name: &ClusterName) -> Result<&mut ServerlessRecord, EditError> {
        self.project_mut(project)?;
        self.inventory
            .serverless
            .get_mut(&Pair(project.clone(), name.clone()))
            .ok_or_else(|| ResourceKind::Serverless.missing(name))
    }

    /// Starts the creation of a serverless instance's private endpoint, with the service first. Returns its id.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`] when the instance has one.
    pub fn reserve(&mut self, project: &ProjectId, name: &ClusterName, comment: String) -> Result<String, EditError> {
        let region = self.serverless_mut(project, name)?.region.clone();
        let (service, now) = (self.new_service(project, region), self.now);
        let record = self.serverless_mut(project, name)?;
        if let Some(own) = &record.endpoint {
            return Err(ResourceKind::PrivateEndpoint.exists(&own.id));
        }
        let endpoint = ServerlessEndpoint {
            id: random_hex(24),
            comment,
            service,
            state: Reservation::ReservationRequested,
            since: now,
            claimed: None,
            error: None,
        };
        Ok(record.endpoint.insert(endpoint).id.clone())
    }

    fn reservation(
        &mut self,
        project: &ProjectId,
        name: &ClusterName,
        id: &str,
    ) -> Result<&mut ServerlessEndpoint, EditError> {
        let own = self.serverless_mut(project, name)?.endpoint.as_mut();
        own.filter(|own| own.id == id).ok_or_else(|| ResourceKind::PrivateEndpoint.missing(id))
    }

    /// Changes the private endpoint of a serverless instance: sets the interface endpoint, or the comment.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`]; [`EditError::WrongState`] before the service is available, and for a second interface
    /// endpoint.
    pub fn claim(
        &mut self,
        project: &ProjectId,
        name: &ClusterName,
        id: &str,
        comment: Option<String>,
        endpoint: Option<VpceId>,
    ) -> Result<(), EditError> {
        let now = self.now;
        let own = self.reservation(project, name, id)?;
        if let Some(comment) = comment {
            own.comment = comment;
        }
        let Some(endpoint) = endpoint.filter(|wanted| own.claimed.as_ref() != Some(wanted) || own.error.is_some())
        else {
            return Ok(());
        };
        let wrong = |state| ResourceKind::PrivateEndpoint.in_state(id, state, "RESERVED");
        match own.state {
            Reservation::Reserved if own.claimed.is_some() && own.error.is_none() => return Err(wrong("in use")),
            Reservation::Reserved => {}
            Reservation::ReservationRequested => return Err(wrong("RESERVATION_REQUESTED")),
            Reservation::Deleting => return Err(wrong("DELETING")),
        }
        (own.claimed, own.since, own.error) = (Some(endpoint.clone()), now, None);
        let service = own.service.id.clone();
        if let Some(record) = self.inventory.endpoints.get_mut(&endpoint) {
            if *record.endpoint.service.service() != service {
                let error = format!(
                    "Interface endpoint {endpoint} leads to {}, which is not this endpoint service.",
                    record.endpoint.service
                );
                self.reservation(project, name, id)?.error = Some(error);
            } else {
                record.acceptance_requested(now);
            }
        }
        Ok(())
    }

    /// Starts the removal of a serverless instance's private endpoint.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn release(&mut self, project: &ProjectId, name: &ClusterName, id: &str) -> Result<(), EditError> {
        let now = self.now;
        let own = self.reservation(project, name, id)?;
        if own.state != Reservation::Deleting {
            (own.state, own.since) = (Reservation::Deleting, now);
        }
        Ok(())
    }

    /// Adds an interface endpoint for a project's Online Archives; an existing one gets the new comment.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an unknown project.
    pub fn add_archive_endpoint(
        &mut self,
        project: &ProjectId,
        endpoint: &VpceId,
        comment: Option<String>,
        customer: Option<(Region, String)>,
        backends: Vec<SocketAddr>,
    ) -> Result<(), EditError> {
        self.project_mut(project)?;
        let now = self.now;
        let new = ArchiveEndpoint {
            comment: String::new(),
            customer: None,
            since: now,
            deleting: false,
            error: None,
            backends: Vec::new(),
        };
        let key = Pair(project.clone(), endpoint.clone());
        let record = self.inventory.archives.entry(key).or_insert(new);
        record.comment = comment.unwrap_or_else(|| std::mem::take(&mut record.comment));
        record.customer = customer.or_else(|| record.customer.take());
        if !backends.is_empty() {
            record.backends = backends;
        }
        if record.error.take().is_some() {
            record.since = now;
        }
        if let Some(known) = self.inventory.endpoints.get_mut(endpoint) {
            if super::super::inventory::archive_region(known.endpoint.service.service()).is_some() {
                known.acceptance_requested(now);
            } else {
                record.error = Some(format!(
                    "Interface endpoint {endpoint} leads to {}, which is no endpoint service of Online Archives.",
                    known.endpoint.service
                ));
            }
        }
        Ok(())
    }

    /// Starts the removal of an interface endpoint from a project's Online Archives.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn remove_archive_endpoint(&mut self, project: &ProjectId, endpoint: &VpceId) -> Result<(), EditError> {
        let now = self.now;
        let key = Pair(project.clone(), endpoint.clone());
        let record =
            self.inventory.archives.get_mut(&key).ok_or_else(|| ResourceKind::PrivateEndpoint.missing(endpoint))?;
        if !record.deleting {
            (record.deleting, record.since) = (true, now);
            if let Some(known) = self.inventory.endpoints.get_mut(endpoint)
                && known.endpoint.state != EndpointState::Deleting
            {
                (known.endpoint.state, known.since, known.accepted) = (EndpointState::Rejected, now, false);
            }
        }
        Ok(())
    }
}
