//! Why the saved state can't be read or written.

use super::store::StoreError;

/// Why the saved state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The store failed, or another writer changed what this process holds.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value is not what this version writes.
    #[error("the saved value at `{key}` can't be read; it was not written by this version, and is left as it is")]
    Value {
        /// Where.
        key: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}
