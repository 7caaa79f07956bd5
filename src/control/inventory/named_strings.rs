//! Private endpoint connection strings that were created by name, `privateEndpointConnectionStrings` of Atlas' API.

use super::{EndpointRecord, Inventory, NamedStringsRecord, Pair};
use crate::model::{EndpointState, NamedStrings, ProjectId, Region, VpceId};

impl Inventory {
    /// The published strings.
    pub(super) fn published_strings(&self) -> impl Iterator<Item = NamedStrings> + '_ {
        self.named_strings.iter().filter_map(|(Pair(project, _), record)| {
            let endpoints = record.published.clone()?;
            let (project, cluster, slug) = (project.clone(), record.cluster.clone(), record.slug.clone());
            Some(NamedStrings { project, cluster, slug, endpoints })
        })
    }

    /// Whether a chosen endpoint is changing state, so that the strings can't be computed yet.
    pub(in crate::control) fn chosen_endpoints_change(&self, record: &NamedStringsRecord) -> bool {
        record.endpoints.iter().filter_map(|id| self.endpoints.get(id)).any(EndpointRecord::is_connecting)
    }

    /// Why strings can't be published.
    pub(in crate::control) fn why_unpublished(
        &self,
        project: &ProjectId,
        record: &NamedStringsRecord,
    ) -> Option<String> {
        let gone = record.endpoints.iter().find(|id| self.private_endpoint_region(project, id).is_none());
        if let Some(id) = gone {
            return Some(format!("Private endpoint {id} was removed; choose others in privateEndpointIds."));
        }
        let cluster = self.clusters.get(&Pair(project.clone(), record.cluster.clone()))?;
        let regions = cluster.cluster.regions();
        let leads = |id: &VpceId| {
            self.private_endpoint_region(project, id).is_some_and(|region| regions.contains(region))
                && self.endpoints.get(id).is_some_and(|own| own.endpoint.state == EndpointState::Available)
        };
        if record.endpoints.iter().any(leads) {
            return None;
        }
        let names = regions.iter().map(Region::as_str).collect::<Vec<_>>().join(", ");
        Some(format!(
            "None of the private endpoints is available in a region of the cluster ({names}); choose one there in \
             privateEndpointIds."
        ))
    }

    /// The region of a project's private endpoint; `None` if its services have no such endpoint.
    pub(in crate::control) fn private_endpoint_region(&self, project: &ProjectId, id: &VpceId) -> Option<&Region> {
        let here = self.registrations.iter().filter(|(key, registration)| key.1 == *id && !registration.deleting);
        let services = here.filter_map(|(key, _)| self.services.get(&key.0));
        services.into_iter().find(|own| own.project == *project).map(|own| &own.service.region)
    }
}
