//! The part of the config that gateways with a shared state have in common: the inventory and the faults.
//!
//! The store has it as JSON, in records like those of API resources. Two configs are compared by meaning, so a version
//! that writes more fields does not treat an old config as a different one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::inventory::{ConfigOnly, Inventory};
use super::saved_error::SavedError;
use super::store::json;
use crate::model::{Desired, Fault};

/// The key of the shared config, a [`ConfigBase`].
pub(super) const CONFIG: &str = "config/inventory";

/// The part of a config that all gateways with a shared state have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ConfigBase {
    pub(super) inventory: Inventory,
    pub(super) faults: BTreeMap<String, Arc<Fault>>,
}

#[derive(Serialize, Deserialize)]
struct Published {
    /// Records by key, in the form of those that the APIs create.
    resources: BTreeMap<String, Box<RawValue>>,
    fixed: ConfigOnly,
    faults: BTreeMap<String, Arc<Fault>>,
}

impl ConfigBase {
    pub(super) fn of(config: &Desired) -> Self {
        Self { inventory: Inventory::from_config(config), faults: config.faults.clone() }
    }

    pub(super) fn publish(&self) -> Bytes {
        let raw = |json: Vec<u8>| serde_json::from_slice(&json).expect("records are JSON");
        let resources = self.inventory.resources(&Inventory::default());
        let resources = resources.into_iter().map(|(key, json)| (key, raw(json))).collect();
        let published = Published { resources, fixed: self.inventory.fixed.clone(), faults: self.faults.clone() };
        json(&published).into()
    }

    /// Reads a config that another gateway published.
    ///
    /// # Errors
    ///
    /// [`SavedError::Value`] when this version can't read it.
    pub(super) fn read(published: &[u8]) -> Result<Self, SavedError> {
        let wrong = |source| SavedError::Value { key: CONFIG.to_owned(), source };
        let Published { resources, fixed, faults } = serde_json::from_slice(published).map_err(wrong)?;
        let resources = resources.into_iter().map(|(key, value)| (key, value.get().as_bytes().to_vec())).collect();
        let inventory = Inventory { fixed, ..Inventory::default() }.with(&resources)?;
        Ok(Self { inventory, faults })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn every_config_is_read_as_it_was_published() {
        let scenarios = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/scenarios");
        let mut count = 0;
        for entry in std::fs::read_dir(scenarios).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let base = ConfigBase::of(&config::load(&path).expect("a config").desired);
                let published = base.publish();
                assert!(ConfigBase::read(&published).expect("readable") == base, "{}", path.display());
                assert_eq!(published, base.publish());
                count += 1;
            }
        }
        assert!(count > 3, "{count} scenarios");
    }

    #[test]
    fn fields_of_a_later_version_make_no_other_config() {
        let base = ConfigBase::of(&config::quickstart().desired);
        let mut json: serde_json::Value = serde_json::from_slice(&base.publish()).expect("JSON");
        json["later"] = 1.into();
        let records = json["resources"].as_object_mut().expect("records");
        records.values_mut().for_each(|record| record["later"] = 1.into());
        assert!(ConfigBase::read(json.to_string().as_bytes()).expect("readable") == base);
    }
}
