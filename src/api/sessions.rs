//! Issued tokens: sessions of App Services, service accounts of Atlas. They are in memory: after a restart clients log
//! in again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::text::random_hex;

/// App Services: validity of an access token, 30 minutes. Source: the Admin API's description.
pub(super) const ACCESS_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// App Services: validity of a refresh token, 60 days.
pub(super) const REFRESH_LIFETIME: Duration = Duration::from_secs(60 * 24 * 3600);

/// Maximum number of tokens; beyond it, the one that expires first is dropped.
const MAX_TOKENS: usize = 10_000;

/// The purpose of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenUse {
    /// App Services requests.
    Access,
    /// New access tokens.
    Refresh,
    /// Atlas requests.
    Atlas,
}

/// Tokens by their digest, so that a look-up does not compare secrets byte by byte.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Digest, Token>>);

type Digest = [u8; 32];

#[derive(Debug)]
struct Token {
    purpose: TokenUse,
    until: Instant,
    /// The session, identified by its first token.
    session: Digest,
}

impl Sessions {
    /// Issues a token, for a new session or for that of another token.
    pub(super) fn open(&self, purpose: TokenUse, lifetime: Duration, of: Option<&str>) -> String {
        let token = random_hex(32);
        let now = Instant::now();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, token| token.until > now);
        if tokens.len() >= MAX_TOKENS
            && let Some(first) = tokens.iter().min_by_key(|(_, token)| token.until).map(|(key, _)| *key)
        {
            tokens.remove(&first);
        }
        let key = digest(&token);
        let session = of.and_then(|of| tokens.get(&digest(of))).map_or(key, |of| of.session);
        tokens.insert(key, Token { purpose, until: now + lifetime, session });
        token
    }

    /// Whether `token` was issued for `purpose` and is valid.
    pub(super) fn is_valid(&self, token: &str, purpose: TokenUse) -> bool {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&digest(token)).is_some_and(|token| token.purpose == purpose && token.until > Instant::now())
    }

    /// Ends a token's session, with all its tokens.
    pub(super) fn close(&self, token: &str) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Token { session, .. }) = tokens.remove(&digest(token)) {
            tokens.retain(|_, token| token.session != session);
        }
    }
}

fn digest(token: &str) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}
