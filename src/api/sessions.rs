//! Tokens that were given out: App Services' sessions, Atlas' service accounts. In memory: a restart ends them, and
//! clients log in again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::text::random_hex;

/// App Services: an access token lasts 30 minutes. Source: the Admin API's description.
pub(super) const ACCESS_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// App Services: a refresh token lasts 60 days.
pub(super) const REFRESH_LIFETIME: Duration = Duration::from_secs(60 * 24 * 3600);

/// Tokens at once; above it the one that ends first goes.
const MOST: usize = 10_000;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// App Services requests.
    Access,
    /// New access tokens.
    Refresh,
    /// Atlas requests.
    Atlas,
}

/// Tokens by their digest, so that looking one up compares no secret byte by byte.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], (Use, Instant)>>);

impl Sessions {
    /// A new token.
    pub(super) fn open(&self, purpose: Use, lifetime: Duration) -> String {
        let token = random_hex(32);
        let now = Instant::now();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, (_, until)| *until > now);
        if tokens.len() >= MOST
            && let Some(first) = tokens.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| *key)
        {
            tokens.remove(&first);
        }
        tokens.insert(digest(&token), (purpose, now + lifetime));
        token
    }

    /// Whether `token` was given out for `purpose` and holds.
    pub(super) fn holds(&self, token: &str, purpose: Use) -> bool {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&digest(token)).is_some_and(|(known, until)| *known == purpose && *until > Instant::now())
    }

    /// Ends a token.
    pub(super) fn close(&self, token: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest(token));
    }
}

fn digest(token: &str) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}
