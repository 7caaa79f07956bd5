//! How quickly the lives of what the APIs make go on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How quickly the lives of what the APIs make go on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// In fractions of a second: every state can be seen, and the wait is not noticed.
    #[default]
    Fast,
    /// As long as the real services take.
    Realistic,
    /// Not by themselves.
    Frozen,
}
