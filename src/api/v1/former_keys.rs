//! Bodies with keys of earlier versions are accepted; a notice in the response and in the log names the current key.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A body that had other keys in an earlier version.
pub(super) trait FormerKeys: DeserializeOwned + JsonSchema {
    /// Renames former keys and converts their values; returns a notice for each.
    fn rename(body: &mut Value) -> Vec<String>;
}

/// A body, and the notices about its keys. Its schema has the current keys only.
pub(super) struct Renamed<B> {
    pub(super) body: B,
    pub(super) notices: Vec<String>,
}

impl<'de, B: FormerKeys> Deserialize<'de> for Renamed<B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let notices = B::rename(&mut value);
        let body = serde_json::from_value(value).map_err(D::Error::custom)?;
        notices.iter().for_each(|notice| tracing::warn!(notice, "request notice"));
        Ok(Self { body, notices })
    }
}

impl<B: FormerKeys> JsonSchema for Renamed<B> {
    fn schema_name() -> Cow<'static, str> {
        B::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        B::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        B::json_schema(generator)
    }
}
