//! Private endpoint connection strings that are created by name.

use std::collections::BTreeSet;

use super::super::inventory::{NAMED_STRINGS_SETTING, NamedStringsRecord, Pair, StringsStatus};
use super::{Draft, EditError, ResourceKind, random};
use crate::model::{ClusterKind, ClusterName, ProjectId, Tier, VpceId};
use crate::plan::RuleError;

/// The alphabet of a slug; no dash, which ends the slug in a host name.
const SLUG_LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Parameters of new connection strings.
#[derive(Debug, Clone)]
pub struct NewStrings {
    /// Their name.
    pub name: String,
    /// The endpoints that they use.
    pub endpoints: Vec<VpceId>,
    /// Whether they are load-balanced.
    pub optimized: bool,
}

impl Draft {
    /// Creates connection strings, `PENDING` at first, with the 24-digit `id`.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for the cluster, [`EditError::Conflict`] unless the project opted in, [`EditError::Rule`]
    /// for a shared tier, [`EditError::Invalid`] for endpoints that can't be used and for an unsupported mode.
    pub fn create_strings(
        &mut self,
        project: &ProjectId,
        cluster: &ClusterName,
        id: String,
        new: NewStrings,
    ) -> Result<(), EditError> {
        let regionalized = self.project_mut(project)?.regionalized;
        if self.project_profile(project)?.settings.get(NAMED_STRINGS_SETTING) != Some(&true) {
            return Err(EditError::Conflict(format!(
                "the project has not opted in to these connection strings: set {NAMED_STRINGS_SETTING} to true in its \
                 settings, in version preview of the API"
            )));
        }
        let own = &self.cluster_mut(project, cluster)?.cluster;
        if matches!(own.tier, Tier::Shared(_)) {
            return Err(RuleError::SharedTier(own.tier).into());
        }
        let is_optimized =
            own.kind == ClusterKind::Sharded { optimized: true } && (regionalized || own.regions().len() <= 1);
        if new.optimized != is_optimized {
            let is = if is_optimized { "has" } else { "has no" };
            return Err(EditError::Invalid(format!(
                "optimizedModeEnabled has to be {is_optimized}: cluster {cluster} {is} optimized connection strings, and \
                 its endpoints listen on the ports of that mode alone"
            )));
        }
        self.check_chosen(project, &new.endpoints, new.optimized)?;
        let slugs = self.inventory.named_strings.iter().filter(|(key, _)| key.0 == *project);
        let taken: BTreeSet<&str> = slugs.map(|(_, record)| record.slug.as_str()).collect();
        let slug = std::iter::repeat_with(|| random(8, SLUG_LETTERS)).find(|slug| !taken.contains(slug.as_str()));
        let record = NamedStringsRecord {
            cluster: cluster.clone(),
            name: new.name,
            slug: slug.expect("the iterator has no end"),
            endpoints: new.endpoints,
            optimized: new.optimized,
            published: None,
            status: StringsStatus::Pending,
            created: self.now,
            updated: self.now,
            error: None,
        };
        self.inventory.named_strings.insert(Pair(project.clone(), id), record);
        Ok(())
    }

    /// Changes connection strings, which become `PENDING`; the published ones stay until the change is complete.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`]; [`EditError::Invalid`] for endpoints that can't be used.
    pub fn change_strings(
        &mut self,
        project: &ProjectId,
        cluster: &ClusterName,
        id: &str,
        name: Option<String>,
        endpoints: Option<Vec<VpceId>>,
    ) -> Result<(), EditError> {
        let optimized = self.strings_mut(project, cluster, id)?.optimized;
        if let Some(endpoints) = &endpoints {
            self.check_chosen(project, endpoints, optimized)?;
        }
        let now = self.now;
        let record = self.strings_mut(project, cluster, id)?;
        if let Some(name) = name {
            record.name = name;
        }
        if let Some(endpoints) = endpoints {
            record.endpoints = endpoints;
        }
        (record.status, record.updated, record.error) = (StringsStatus::Pending, now, None);
        Ok(())
    }

    /// Removes connection strings and their DNS names.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn delete_strings(&mut self, project: &ProjectId, cluster: &ClusterName, id: &str) -> Result<(), EditError> {
        self.strings_mut(project, cluster, id)?;
        self.inventory.named_strings.remove(&Pair(project.clone(), id.to_owned()));
        Ok(())
    }

    fn strings_mut(
        &mut self,
        project: &ProjectId,
        cluster: &ClusterName,
        id: &str,
    ) -> Result<&mut NamedStringsRecord, EditError> {
        self.cluster_mut(project, cluster)?;
        let record = self.inventory.named_strings.get_mut(&Pair(project.clone(), id.to_owned()));
        record.filter(|record| record.cluster == *cluster).ok_or_else(|| ResourceKind::ConnectionString.missing(id))
    }

    /// Requires at least one endpoint of the project, at most one per region, and exactly one for load-balanced
    /// strings: drivers accept a single host with `loadBalanced` (MongoDB specifications, *Load Balancer Support*).
    fn check_chosen(&self, project: &ProjectId, chosen: &[VpceId], optimized: bool) -> Result<(), EditError> {
        let wrong = |why: String| Err(EditError::Invalid(format!("privateEndpointIds {why}")));
        if chosen.is_empty() {
            return wrong("is empty; name at least one private endpoint of the project".to_owned());
        }
        let (mut ids, mut regions) = (BTreeSet::new(), BTreeSet::new());
        for id in chosen {
            let Some(region) = self.inventory.private_endpoint_region(project, id) else {
                return wrong(format!("names {id}, which is no AWS private endpoint of the project"));
            };
            if !ids.insert(id) {
                return wrong(format!("names {id} twice"));
            }
            if !regions.insert(region) {
                return wrong(format!("names several private endpoints in {}; choose one a region", region.atlas()));
            }
        }
        if optimized && chosen.len() > 1 {
            return wrong("names several private endpoints; an optimized string leads through one".to_owned());
        }
        Ok(())
    }
}
