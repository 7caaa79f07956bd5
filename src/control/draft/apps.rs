//! App Services apps: private endpoints and settings.

use super::super::inventory::Inventory;
use super::{Draft, EditError, ResourceKind};
use crate::model::{App, AppEndpoint, AppId, EndpointState, VpceId};

impl Draft {
    /// An app, to be changed.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn app_mut(&mut self, id: &AppId) -> Result<&mut App, EditError> {
        self.inventory.apps.get_mut(id.as_str()).ok_or_else(|| ResourceKind::App.missing(id))
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
            return Err(ResourceKind::PrivateEndpoint.exists(id));
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
        let own = own.ok_or_else(|| ResourceKind::PrivateEndpoint.missing(old))?;
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
            return Err(ResourceKind::PrivateEndpoint.missing(endpoint));
        }
        self.forget_deleted();
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
        _ => Err(ResourceKind::Endpoint.missing(id)),
    }
}
