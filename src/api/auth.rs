//! Authentication, if credentials are configured; each API has its own scheme. Without credentials every client that
//! the listener accepts is authorized.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::WWW_AUTHENTICATE;
use ring::hmac;
use tokio::time::Instant;

use super::call::{Call, Reply, bytes, set};
use super::digest::{DigestCheck, Digests};
use super::ec2::failure;
use super::sessions::{Sessions, TokenUse};
use super::signature::{self, Unsigned, not_validated};
use super::text::random_hex;
use crate::control::inventory::Timestamp;
use crate::limits::source_of;

/// Maximum number of wrong attempts of a source within [`ATTEMPT_WINDOW`] that get the usual response; further ones get
/// 429. Correct credentials are always accepted: an attacker must not lock out the owner, who may share its address.
const ATTEMPT_LIMIT: u32 = 20;
const ATTEMPT_WINDOW: Duration = Duration::from_secs(60);

/// Sources that are counted separately; all others share one count.
const MAX_SOURCES: usize = 1024;

/// How long a source with correct credentials counts as trusted.
const TRUSTED_PERIOD: Duration = Duration::from_secs(3600);

/// The credentials of a caller: one pair for every vendor's API, one token for `/v1`.
#[derive(Clone)]
pub struct Credentials {
    /// The API key's public half, the service account's id, the AWS access key id.
    pub public_key: String,
    /// The API key's private half, the service account's secret, the AWS secret access key.
    pub private_key: String,
    /// The bearer token of `/v1`.
    pub token: String,
}

impl Credentials {
    /// Reads the credentials from the environment: `PLGW_ADMIN_PUBLIC_KEY` and `PLGW_ADMIN_PRIVATE_KEY`, and
    /// `PLGW_ADMIN_TOKEN` for `/v1` (by default the private key). `None` when none is set. Secrets are kept out of
    /// files.
    ///
    /// # Errors
    ///
    /// The missing variables, when only some are set: setting one shows the intent to require credentials.
    pub fn from_env() -> Result<Option<Self>, String> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let keys = ["PLGW_ADMIN_PUBLIC_KEY", "PLGW_ADMIN_PRIVATE_KEY"];
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let token = get("PLGW_ADMIN_TOKEN");
        match (keys.map(get), token) {
            ([Some(public_key), Some(private_key)], token) => {
                let token = token.unwrap_or_else(|| private_key.clone());
                Ok(Some(Self { public_key, private_key, token }))
            }
            ([None, None], None) => Ok(None),
            ([public, private], _) => {
                let missing: Vec<_> = keys
                    .into_iter()
                    .zip([public, private])
                    .filter(|(_, key)| key.is_none())
                    .map(|(name, _)| name)
                    .collect();
                let missing = missing.join(" and ");
                Err(format!(
                    "some of its credentials are set, but not {missing}; set both keys, or none of them and no token"
                ))
            }
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

/// Checks every request.
#[derive(Debug)]
pub(super) struct Auth {
    credentials: Option<Credentials>,
    /// For comparing secrets; random for each process.
    key: hmac::Key,
    digests: Digests,
    attempts: Mutex<Attempts>,
}

/// The authentication scheme of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// A bearer token: `/v1`.
    Token,
    /// Digest, or a service account's bearer token: Atlas.
    Atlas,
    /// Signature version 4: EC2.
    Signature,
}

/// Why a request is not authorized.
#[derive(Debug)]
enum Denied {
    /// No credentials, or malformed ones, which do not count as an attempt.
    Unproven(Option<super::ec2::Ec2Error>),
    /// A digest with an expired nonce.
    Stale,
    /// Wrong credentials.
    Wrong,
}

/// The result of checking a pair of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyCheck {
    Right,
    Wrong,
    /// Wrong, after too many wrong attempts.
    TooMany,
}

impl Auth {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, random_hex(32).as_bytes());
        Self { credentials, digests: Digests::new(key.clone()), key, attempts: Mutex::default() }
    }

    /// Checks a pair of keys; without configured credentials any pair is accepted.
    pub(super) fn pair(&self, from: IpAddr, public: &str, private: &str) -> KeyCheck {
        let Some(known) = &self.credentials else { return KeyCheck::Right };
        if same(&self.key, public, &known.public_key) & same(&self.key, private, &known.private_key) {
            self.attempts().right(from);
            return KeyCheck::Right;
        }
        if self.attempts().wrong(from) { KeyCheck::TooMany } else { KeyCheck::Wrong }
    }

    /// Whether a source has recently sent correct credentials.
    pub(super) fn is_known(&self, from: IpAddr) -> bool {
        self.attempts().known.get(&from).is_some_and(|at| at.elapsed() < TRUSTED_PERIOD)
    }

    /// Checks a request; returns a response if it is refused.
    pub(super) fn check(&self, call: &Call, scheme: Scheme, sessions: &Sessions) -> Option<Reply> {
        let known = self.credentials.as_ref()?;
        let from = call.from.ip();
        match self.verdict(call, scheme, sessions, known) {
            Ok(()) => {
                self.attempts().right(from);
                None
            }
            Err(Denied::Wrong) if self.attempts().wrong(from) => Some(too_many(call, scheme)),
            Err(denied) => Some(self.challenge(from, scheme, denied)),
        }
    }

    fn verdict(&self, call: &Call, scheme: Scheme, sessions: &Sessions, known: &Credentials) -> Result<(), Denied> {
        let given = call.header("authorization").unwrap_or_default();
        if given.is_empty() {
            return Err(Denied::Unproven(None));
        }
        let is_right = match scheme {
            Scheme::Token => with_scheme(given, "Bearer").is_some_and(|token| same(&self.key, token, &known.token)),
            Scheme::Atlas => match (with_scheme(given, "Bearer"), with_scheme(given, "Digest")) {
                (Some(token), _) => sessions.is_valid(token, TokenUse::Atlas),
                (_, Some(fields)) => match self.digests.check(call, fields, known) {
                    DigestCheck::Stale => return Err(Denied::Stale),
                    digested => digested == DigestCheck::Right,
                },
                _ => false,
            },
            Scheme::Signature => match with_scheme(given, "AWS4-HMAC-SHA256") {
                Some(fields) => match signature::check(call, fields, known, &self.key, Timestamp::now()) {
                    Err(Unsigned::Malformed(refusal)) => return Err(Denied::Unproven(Some(refusal))),
                    checked => checked.is_ok(),
                },
                None => false,
            },
        };
        if is_right { Ok(()) } else { Err(Denied::Wrong) }
    }

    fn challenge(&self, from: IpAddr, scheme: Scheme, denied: Denied) -> Reply {
        let status = StatusCode::UNAUTHORIZED;
        match scheme {
            Scheme::Token => {
                let body = r#"{"code":"unauthorized","message":"send the admin token: Authorization: Bearer …"}"#;
                let mut reply = bytes(status, "application/json", body);
                set(&mut reply, WWW_AUTHENTICATE, "Bearer");
                reply
            }
            Scheme::Atlas => {
                let body = r#"{"error":401,"reason":"Unauthorized","detail":"You are not authorized for this resource.","errorCode":"UNEXPECTED_ERROR"}"#;
                let mut reply = bytes(status, "application/json", body);
                let challenge = self.digests.challenge(from, matches!(denied, Denied::Stale));
                set(&mut reply, WWW_AUTHENTICATE, &challenge);
                reply
            }
            Scheme::Signature => {
                let refusal = match denied {
                    Denied::Unproven(Some(refusal)) => refusal,
                    _ => not_validated(),
                };
                bytes(refusal.status, "text/xml;charset=UTF-8", failure(&refusal))
            }
        }
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Recent attempts by source.
#[derive(Debug, Default)]
struct Attempts {
    /// Wrong attempts, with the time of the first in the window; `None`: sources beyond the limit.
    wrong: HashMap<Option<IpAddr>, (u32, Instant)>,
    /// Times of correct attempts.
    known: HashMap<IpAddr, Instant>,
}

impl Attempts {
    /// Counts a wrong attempt; returns whether there were too many.
    fn wrong(&mut self, from: IpAddr) -> bool {
        let from = source_of(from);
        if self.wrong.len() >= MAX_SOURCES && !self.wrong.contains_key(&Some(from)) {
            self.wrong.retain(|_, (_, since)| since.elapsed() < ATTEMPT_WINDOW);
        }
        let is_counted = self.wrong.len() < MAX_SOURCES || self.wrong.contains_key(&Some(from));
        let (count, since) = self.wrong.entry(is_counted.then_some(from)).or_insert_with(|| (0, Instant::now()));
        if since.elapsed() >= ATTEMPT_WINDOW {
            (*count, *since) = (0, Instant::now());
        }
        *count += 1;
        *count > ATTEMPT_LIMIT
    }

    fn right(&mut self, from: IpAddr) {
        if self.known.len() >= MAX_SOURCES && !self.known.contains_key(&from) {
            self.known.retain(|_, at| at.elapsed() < TRUSTED_PERIOD);
        }
        if self.known.len() < MAX_SOURCES || self.known.contains_key(&from) {
            self.known.insert(from, Instant::now());
        }
    }
}

/// The part of an Authorization header after `scheme`. Scheme names are case-insensitive. Source: RFC 9110, section
/// 11.1.
pub(super) fn with_scheme<'a>(authorization: &'a str, scheme: &str) -> Option<&'a str> {
    let (given, rest) = authorization.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim_start())
}

/// Compares two texts in constant time.
pub(super) fn same(key: &hmac::Key, given: &str, known: &str) -> bool {
    let tag = hmac::sign(key, known.as_bytes());
    hmac::verify(key, given.as_bytes(), tag.as_ref()).is_ok()
}

/// The 429 response, in the API's format.
fn too_many(call: &Call, scheme: Scheme) -> Reply {
    match scheme {
        Scheme::Token => {
            let body = r#"{"code":"too_many_attempts","message":"too many wrong attempts; wait a minute"}"#;
            bytes(StatusCode::TOO_MANY_REQUESTS, "application/json", body)
        }
        Scheme::Atlas => super::atlas::too_many(call),
        Scheme::Signature => {
            let mut refusal =
                super::ec2::Ec2Error::new("RequestLimitExceeded", "Too many wrong attempts; wait a minute.");
            refusal.status = StatusCode::TOO_MANY_REQUESTS;
            bytes(refusal.status, "text/xml;charset=UTF-8", failure(&refusal))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_credentials_is_a_mistake_and_does_not_disable_authentication() {
        let read = |set: &[&str]| Credentials::read(|name| set.contains(&name).then(|| format!("the {name}")));
        let (public, private, token) = ("PLGW_ADMIN_PUBLIC_KEY", "PLGW_ADMIN_PRIVATE_KEY", "PLGW_ADMIN_TOKEN");
        assert!(read(&[]).expect("none is fine").is_none());
        let both = read(&[public, private]).expect("complete").expect("set");
        assert_eq!(both.token, both.private_key);
        let all = read(&[public, private, token]).expect("complete").expect("set");
        assert_eq!(all.token, "the PLGW_ADMIN_TOKEN");
        for (set, missing) in [
            (&[token][..], "PLGW_ADMIN_PUBLIC_KEY and PLGW_ADMIN_PRIVATE_KEY"),
            (&[public], "PLGW_ADMIN_PRIVATE_KEY"),
            (&[private, token], "PLGW_ADMIN_PUBLIC_KEY"),
        ] {
            let error = read(set).expect_err("half of them");
            assert!(error.contains(&format!("but not {missing};")), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_of_wrong_attempts_can_be_switched_off_by_no_number_of_sources() {
        let mut attempts = Attempts::default();
        let source = |n: u32| IpAddr::V4((0x0a00_0000 + n).into());
        for n in 0..2 * MAX_SOURCES as u32 {
            attempts.wrong(source(n));
        }
        assert!(attempts.wrong(source(1_000_000)), "those without a count of their own share one");
        assert!(!attempts.wrong(source(0)), "one with its own has had two");
        assert!(attempts.wrong.len() <= MAX_SOURCES + 1);
        tokio::time::advance(ATTEMPT_WINDOW).await;
        assert!(!attempts.wrong(source(1_000_000)), "a minute later");
    }
}
