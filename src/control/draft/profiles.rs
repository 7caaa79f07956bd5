//! Attributes of projects and clusters that Atlas' API writes and the plan does not need, and database users.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::inventory::{DatabaseUser, NAMED_STRINGS_SETTING, Pair, ProjectProfile, Tags};
use super::{Draft, EditError, ResourceKind};
use crate::model::{ClusterName, ProjectId, Tier};

/// A change of a cluster; `None` and missing fields are unchanged.
#[derive(Debug, Default, Clone)]
pub struct ClusterChange {
    /// Whether it is paused.
    pub paused: Option<bool>,
    /// Its tier.
    pub tier: Option<Tier>,
    /// Stored fields.
    pub fields: Vec<(String, Value)>,
    /// Stored advanced configuration; null restores the default.
    pub process_args: Vec<(String, Value)>,
}

impl Draft {
    /// The stored attributes of a project.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn project_profile(&mut self, project: &ProjectId) -> Result<&mut ProjectProfile, EditError> {
        self.project_mut(project)?;
        Ok(self.inventory.project_profiles.entry(project.clone()).or_default())
    }

    /// Changes settings of a project; returns the stored ones.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`]; [`EditError::Conflict`] for opting out of a feature in use.
    pub fn change_settings(
        &mut self,
        project: &ProjectId,
        settings: BTreeMap<String, bool>,
    ) -> Result<&BTreeMap<String, bool>, EditError> {
        let has_strings = self.inventory.named_strings.keys().any(|key| key.0 == *project);
        if has_strings && settings.get(NAMED_STRINGS_SETTING) == Some(&false) {
            return Err(EditError::Conflict(format!(
                "{NAMED_STRINGS_SETTING} stays on while the project has such connection strings: delete them first"
            )));
        }
        let kept = &mut self.project_profile(project)?.settings;
        kept.extend(settings);
        Ok(kept)
    }

    /// Changes a project's name, its tags, or both.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`]; [`EditError::Exists`] when another project has the name.
    pub fn change_project(
        &mut self,
        project: &ProjectId,
        name: Option<String>,
        tags: Option<Tags>,
    ) -> Result<(), EditError> {
        if let Some(name) = name {
            let mut others = self.inventory.projects.iter().filter(|(id, _)| *id != project);
            if others.any(|(_, other)| other.name == name) {
                return Err(ResourceKind::Project.exists(&name));
            }
            self.project_mut(project)?.name = name;
        }
        if let Some(tags) = tags {
            self.project_profile(project)?.tags = tags;
        }
        Ok(())
    }

    /// Changes a cluster, which becomes `UPDATING`.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`]; the plan refuses a tier that does not support the cluster's features.
    pub fn change_cluster(
        &mut self,
        project: &ProjectId,
        name: &ClusterName,
        change: ClusterChange,
    ) -> Result<(), EditError> {
        let record = self.cluster_mut(project, name)?;
        let before = record.clone();
        record.cluster.tier = change.tier.unwrap_or(record.cluster.tier);
        record.cluster.paused = change.paused.unwrap_or(record.cluster.paused);
        let mut changed = *record != before;
        let key = Pair(project.clone(), name.clone());
        let profile = self.inventory.cluster_profiles.entry(key.clone()).or_default();
        let before = profile.clone();
        profile.fields.extend(change.fields);
        for (name, value) in change.process_args {
            if value.is_null() {
                profile.process_args.remove(&name);
            } else {
                profile.process_args.insert(name, value);
            }
        }
        changed |= *profile != before;
        if changed {
            self.inventory.updates.insert(key, self.now);
        }
        Ok(())
    }

    /// Creates a database user.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`] when the database has a user with this name.
    pub fn create_user(&mut self, project: &ProjectId, id: String, user: DatabaseUser) -> Result<(), EditError> {
        self.project_mut(project)?;
        let key = Pair(project.clone(), id);
        if self.inventory.users.contains_key(&key) {
            return Err(ResourceKind::DatabaseUser.exists(&key.1));
        }
        self.inventory.users.insert(key, user);
        Ok(())
    }

    /// A database user for modification.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn user_mut(&mut self, project: &ProjectId, id: &str) -> Result<&mut DatabaseUser, EditError> {
        self.inventory
            .users
            .get_mut(&Pair(project.clone(), id.to_owned()))
            .ok_or_else(|| ResourceKind::DatabaseUser.missing(id))
    }

    /// Removes a database user.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn delete_user(&mut self, project: &ProjectId, id: &str) -> Result<(), EditError> {
        self.user_mut(project, id)?;
        self.inventory.users.remove(&Pair(project.clone(), id.to_owned()));
        Ok(())
    }
}
