//! The pace of lifecycles.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How quickly resources that the APIs created change state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// In fractions of a second: every state can be observed, and the wait is not noticeable.
    #[default]
    Fast,
    /// As long as the real services take.
    Realistic,
    /// Not automatically.
    Frozen,
}
