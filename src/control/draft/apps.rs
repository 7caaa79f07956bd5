//! App Services apps: private endpoints and settings.

use super::super::inventory::Inventory;
use super::{Draft, EditError, ResourceKind};
use crate::model::{App, AppEndpoint, AppId, DeploymentModel, EndpointState, Region, VpceId};

impl Draft {
    fn app_mut(&mut self, id: &AppId) -> Result<&mut App, EditError> {
        let missing = || EditError::Missing { what: ResourceKind::App, id: id.to_string() };
        self.inventory.apps.get_mut(id.as_str()).ok_or_else(missing)
    }

    /// Adds a private endpoint to an app. It must exist on AWS.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`] if the app has it; [`EditError::Missing`] if it does not exist.
    pub fn add_app_endpoint(&mut self, app: &AppId, endpoint: AppEndpoint) -> Result<(), EditError> {
        known(&self.inventory, &endpoint.endpoint)?;
        let now = self.now;
        let id = endpoint.endpoint.clone();
        let app = self.app_mut(app)?;
        if app.endpoints.iter().any(|own| own.endpoint == id) {
            return Err(EditError::Exists { what: ResourceKind::PrivateEndpoint, id: id.to_string() });
        }
        app.endpoints.push(endpoint);
        if let Some(record) = self.inventory.endpoints.get_mut(&id)
            && record.endpoint.state == EndpointState::PendingAcceptance
        {
            record.since = now;
        }
        Ok(())
    }

    /// Replaces a private endpoint of an app. Its kind can't change.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`]; [`EditError::Invalid`] for another kind.
    pub fn change_app_endpoint(&mut self, app: &AppId, old: &VpceId, new: AppEndpoint) -> Result<(), EditError> {
        known(&self.inventory, &new.endpoint)?;
        let own = self.app_mut(app)?.endpoints.iter_mut().find(|own| own.endpoint == *old);
        let own = own.ok_or_else(|| EditError::Missing { what: ResourceKind::PrivateEndpoint, id: old.to_string() })?;
        if own.kind != new.kind {
            return Err(EditError::Invalid(
                "endpoint_type cannot be changed; delete the private endpoint and create \
                                           another"
                    .to_owned(),
            ));
        }
        *own = new;
        self.forget_deleted();
        Ok(())
    }

    /// Removes a private endpoint from an app.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn remove_app_endpoint(&mut self, app: &AppId, endpoint: &VpceId) -> Result<(), EditError> {
        let app = self.app_mut(app)?;
        let before = app.endpoints.len();
        app.endpoints.retain(|own| own.endpoint != *endpoint);
        if app.endpoints.len() == before {
            return Err(EditError::Missing { what: ResourceKind::PrivateEndpoint, id: endpoint.to_string() });
        }
        self.forget_deleted();
        Ok(())
    }

    /// Sets whether requests from outside the VPC are allowed.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn set_non_vpc(&mut self, app: &AppId, allow: bool) -> Result<(), EditError> {
        self.app_mut(app)?.allow_non_vpc_requests = allow;
        Ok(())
    }

    /// Moves an app to another region or deployment model.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn deploy(&mut self, app: &AppId, model: DeploymentModel, region: Region) -> Result<(), EditError> {
        let app = self.app_mut(app)?;
        (app.deployment, app.region) = (model, region);
        Ok(())
    }

    /// Enables or disables connections over the wire protocol.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn set_wire_protocol(&mut self, app: &AppId, on: bool) -> Result<(), EditError> {
        self.app_mut(app)?.wire_protocol = on;
        Ok(())
    }

    /// Removes deleted endpoints that no app uses any more.
    fn forget_deleted(&mut self) {
        let named: Vec<VpceId> = self.inventory.app_endpoints().cloned().collect();
        self.inventory
            .endpoints
            .retain(|id, record| record.endpoint.state != EndpointState::Deleted || named.contains(id));
    }
}

fn known(inventory: &Inventory, id: &VpceId) -> Result<(), EditError> {
    match inventory.endpoints.get(id) {
        Some(record) if record.endpoint.state != EndpointState::Deleted => Ok(()),
        _ => Err(EditError::Missing { what: ResourceKind::Endpoint, id: id.to_string() }),
    }
}
