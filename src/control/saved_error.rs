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
    /// The gateways that share the store run with another config.
    #[error(
        "the gateways that share this state run with another config; reload this gateway with the same config, or make its \
         config the one of all by `plgw reload` on each"
    )]
    OtherConfig,
    /// What another gateway saved can't be in force here.
    #[error(
        "this gateway plans the shared state otherwise than the gateway that saved it; run the same version of the program \
         on all of them"
    )]
    Diverged,
    /// The store went back: it was restored from a copy, or its keys were deleted.
    #[error(
        "the state store has change {found} as its latest and this gateway has seen change {seen}: it was restored from an \
         older copy, or its keys were deleted; what is in force stays, and restarting the gateway takes over what the store \
         has"
    )]
    Lost {
        /// The latest change that was seen.
        seen: u64,
        /// The latest that is there; 0: none.
        found: u64,
    },
}
