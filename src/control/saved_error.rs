//! Why the saved state can't be read or written.

use super::store::{Entry, StoreError};
use crate::model::GatewayId;

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
    /// Another process serves as this gateway.
    #[error(
        "gateway id `{id}` is taken: another process serves as it{admin}; stop that one, or set another `gateway.id` here; an id \
         is free {seconds} s after its process has gone"
    )]
    Taken {
        /// The id.
        id: GatewayId,
        /// Where the other process can be asked, as the rest of a sentence.
        admin: String,
        /// How long an id is held for a process that says nothing, in seconds.
        seconds: u64,
    },
    /// A later version of the program wrote the shared state in a way that this one would misread.
    #[error(
        "gateway `{by}` wrote the shared state in format {format}, and this version of the program reads formats up to {known}; \
         upgrade this gateway; until then it changes nothing, and what is in force here stays"
    )]
    Newer {
        /// Who wrote it.
        by: GatewayId,
        /// Its format.
        format: u32,
        /// The latest format that this version reads.
        known: u32,
    },
    /// A change that other gateways would not see whole.
    #[error(
        "the change writes {keys} keys, and gateways that share a state take {most} at most in one change; make it in smaller \
         steps; nothing was changed"
    )]
    TooManyKeys {
        /// What it writes and removes.
        keys: usize,
        /// The most.
        most: usize,
    },
    /// What another gateway saved is not in force here, so no change can be made on it.
    #[error("this gateway cannot put in force what another gateway changed, so nothing was changed: {reason}")]
    NotFollowed {
        /// Why.
        reason: String,
    },
    /// What another gateway saved can't be in force here.
    #[error(
        "this gateway plans the shared state otherwise than the gateway that saved it; run the same version of the program \
         on all of them"
    )]
    Diverged,
    /// The store went back: it was restored from a copy, or its keys were deleted.
    #[error(
        "the state store lacks changes that this gateway has seen (its latest is change {found}, this gateway has change \
         {seen}): it was restored from an older copy, or its keys were deleted; what is in force stays, and restarting the \
         gateway takes over what the store has"
    )]
    Lost {
        /// The latest change that was seen.
        seen: u64,
        /// The latest that is there; 0: none.
        found: u64,
    },
}

impl SavedError {
    /// Reads an entry's value.
    ///
    /// # Errors
    ///
    /// [`SavedError::Value`] when it is not what this version writes.
    pub(super) fn read<T: serde::de::DeserializeOwned>(entry: &Entry) -> Result<T, Self> {
        serde_json::from_slice(&entry.value)
            .map_err(|source| Self::Value { key: entry.key.as_str().to_owned(), source })
    }
}
