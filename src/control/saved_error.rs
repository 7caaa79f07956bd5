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
    /// A later version of the program wrote the shared state in a format that this version does not read.
    #[error(
        "gateway `{by}` wrote the shared state in format {format}, and this version of the program reads formats up to {known}; \
         upgrade this gateway; until then it makes no changes, and its current state stays in force"
    )]
    Newer {
        /// The gateway that wrote it.
        by: GatewayId,
        /// Its format.
        format: u32,
        /// The latest format that this version reads.
        known: u32,
    },
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
    /// Another gateway's change can't be applied here.
    #[error(
        "this gateway makes another plan of the shared state than the gateway that saved it; run the same version of the \
         program on all of them"
    )]
    Diverged,
    /// The store has lost changes: it was restored from a backup, or its keys were deleted.
    #[error(
        "the state store lacks changes that this gateway has seen (its latest is change {found}, this gateway has change \
         {seen}): it was restored from an older copy, or its keys were deleted; the current state stays in force; \
         restarting the gateway loads the state from the store"
    )]
    Lost {
        /// The latest change that this gateway has seen.
        seen: u64,
        /// The latest change in the store; 0: none.
        found: u64,
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
