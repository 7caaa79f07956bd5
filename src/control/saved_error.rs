//! Why the saved state can't be read or written.

use super::store::{Entry, StoreError};
use crate::model::GatewayId;

/// Why the saved state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The store failed, or another writer changed what this process holds.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value has another form than this version writes.
    #[error("the saved value at `{key}` can't be read; it was not written by this version, and is left as it is")]
    Value {
        /// Its key.
        key: String,
        /// The parse error.
        #[source]
        source: serde_json::Error,
    },
    /// Another process serves as this gateway.
    #[error(
        "gateway id `{id}` is taken: another process serves as it{admin}; stop that one, or set another `gateway.id` here; an id \
         is free {seconds} s after its process has gone"
    )]
    Taken {
        /// The id.
        id: GatewayId,
        /// How to reach the other process, as the end of the sentence.
        admin: String,
        /// Seconds after which the id of a silent process is free.
        seconds: u64,
    },
    /// The stored state cannot be applied here: a later version wrote it, gateways plan it differently, or it is older.
    #[error("{0}")]
    Unusable(String),
    /// The change is too large for one commit, so other gateways would see half of it.
    #[error(
        "the change writes {keys} keys, and gateways that share a state accept at most {most} in one change; split it; \
         nothing was changed"
    )]
    TooManyKeys {
        /// The number of keys that it writes and removes.
        keys: usize,
        /// The limit.
        most: usize,
    },
    /// Another gateway's change could not be applied here, so no change can be made on top of it.
    #[error("this gateway cannot apply a change of another gateway, so nothing was changed: {reason}")]
    NotFollowed {
        /// The reason.
        reason: String,
    },
}

impl SavedError {
    /// Parses an entry's value.
    ///
    /// # Errors
    ///
    /// [`SavedError::Value`] when it has another form than this version writes.
    pub(super) fn read<T: serde::de::DeserializeOwned>(entry: &Entry) -> Result<T, Self> {
        serde_json::from_slice(&entry.value)
            .map_err(|source| Self::Value { key: entry.key.as_str().to_owned(), source })
    }
}
