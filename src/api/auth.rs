//! Who may ask, once credentials are set: each front checks them in its own way. Without any, everybody whom the listener
//! lets in may.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::WWW_AUTHENTICATE;
use md5::{Digest, Md5};
use ring::{digest, hmac};
use tokio::time::Instant;

use super::call::{Call, Reply, bytes, set};
use super::ec2::failure;
use super::sessions::{Sessions, Use};
use super::text::random_hex;
use crate::control::inventory::Timestamp;

/// Atlas' realm.
const REALM: &str = "MMS Public API";

/// How long a digest nonce may be used.
const NONCE_LIFETIME: Duration = Duration::from_secs(300);

/// How far a signature's time may lie from the gateway's. Source: AWS, *Signature Version 4*.
const SIGNATURE_SKEW: Duration = Duration::from_secs(15 * 60);

/// Wrong attempts that a source has in [`FAILURE_WINDOW`]; above it nothing is looked at.
const FAILURE_LIMIT: u32 = 20;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// Sources whose wrong attempts are remembered.
const FAILURE_SOURCES: usize = 1024;

/// What a caller must know: one pair for every vendor's front, one token for `/v1`.
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
    /// The credentials that the environment names: `PLGW_ADMIN_PUBLIC_KEY` and `PLGW_ADMIN_PRIVATE_KEY`, and
    /// `PLGW_ADMIN_TOKEN` for `/v1` (else the private key). `None` when none is set: a secret stays out of files.
    ///
    /// # Errors
    ///
    /// What is missing, when some are set: whoever sets one means the API to be closed.
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

/// The check of every request.
#[derive(Debug)]
pub(super) struct Auth {
    credentials: Option<Credentials>,
    /// Signs nonces; the process' own.
    key: hmac::Key,
    failures: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

/// Which way a front checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// A bearer token: `/v1`.
    Token,
    /// Digest, or a service account's bearer token: Atlas.
    Atlas,
    /// Signature version 4: EC2.
    Signature,
}

impl Auth {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, random_hex(32).as_bytes());
        Self { credentials, key, failures: Mutex::default() }
    }

    /// Whether a pair is the configured one; any pair is without one.
    pub(super) fn is_pair(&self, from: IpAddr, public: &str, private: &str) -> bool {
        let Some(known) = &self.credentials else { return true };
        let right = !self.is_shut(from) & self.same(public, &known.public_key) & self.same(private, &known.private_key);
        if !right {
            self.count(from);
        }
        right
    }

    /// Lets a request through, or answers it.
    pub(super) fn check(&self, call: &Call, scheme: Scheme, sessions: &Sessions) -> Option<Reply> {
        let known = self.credentials.as_ref()?;
        let from = call.from.ip();
        if self.is_shut(from) {
            return Some(too_many(call, scheme));
        }
        let given = call.header("authorization").unwrap_or_default();
        let mut stale = false;
        let right = match scheme {
            Scheme::Token => given.strip_prefix("Bearer ").is_some_and(|token| self.same(token, &known.token)),
            Scheme::Atlas => match given.strip_prefix("Bearer ") {
                Some(token) => sessions.holds(token, Use::Atlas),
                None => match given.strip_prefix("Digest ").map(|fields| self.digest(call, fields, known)) {
                    Some(Digested::Right) => true,
                    Some(Digested::Stale) => {
                        stale = true;
                        false
                    }
                    Some(Digested::Wrong) | None => false,
                },
            },
            Scheme::Signature => self.is_signed(call, given, known).unwrap_or(false),
        };
        if right {
            return None;
        }
        // A digest client's first try has no header, and is no attempt; nor is one that is right but late.
        if !given.is_empty() && !stale {
            self.count(from);
        }
        Some(self.challenge(scheme, stale))
    }

    fn challenge(&self, scheme: Scheme, stale: bool) -> Reply {
        let status = hyper::StatusCode::UNAUTHORIZED;
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
                let challenge = format!(
                    "Digest realm=\"{REALM}\", domain=\"\", nonce=\"{}\", algorithm=MD5, qop=\"auth\", stale={stale}",
                    self.nonce(Timestamp::now())
                );
                set(&mut reply, WWW_AUTHENTICATE, &challenge);
                reply
            }
            Scheme::Signature => {
                let mut refusal = super::ec2::Refusal::new(
                    "AuthFailure",
                    "AWS was not able to validate the provided access credentials",
                );
                refusal.status = status;
                bytes(status, "text/xml;charset=UTF-8", failure(&refusal))
            }
        }
    }

    /// A nonce that says when it was made, signed so that nobody else makes one.
    fn nonce(&self, at: Timestamp) -> String {
        let time = at.0.to_string();
        let tag = hmac::sign(&self.key, time.as_bytes());
        STANDARD.encode(format!("{time}:{}", hex::encode(tag.as_ref())))
    }

    /// When one of this process' nonces was made; `None` for any other text.
    fn made_at(&self, nonce: &str) -> Option<Timestamp> {
        let text = String::from_utf8(STANDARD.decode(nonce).ok()?).ok()?;
        let at = text.split_once(':')?.0.parse().map(Timestamp).ok()?;
        self.same(nonce, &self.nonce(at)).then_some(at)
    }

    /// RFC 2617 with `qop=auth`, or without one.
    fn digest(&self, call: &Call, fields: &str, known: &Credentials) -> Digested {
        let fields = fields_of(fields);
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let uri = field("uri");
        let Some(at) = self.made_at(field("nonce")).filter(|_| uri.split('?').next() == Some(call.path.as_str()))
        else {
            return Digested::Wrong;
        };
        let first = md5_hex(&format!("{}:{REALM}:{}", known.public_key, known.private_key));
        let second = md5_hex(&format!("{}:{uri}", call.method));
        let expected = match field("qop") {
            "" => md5_hex(&format!("{first}:{}:{second}", field("nonce"))),
            qop => md5_hex(&format!("{first}:{}:{}:{}:{qop}:{second}", field("nonce"), field("nc"), field("cnonce"))),
        };
        match self.same(field("username"), &known.public_key) & self.same(field("response"), &expected) {
            true if at.plus(NONCE_LIFETIME) >= Timestamp::now() => Digested::Right,
            true => Digested::Stale,
            false => Digested::Wrong,
        }
    }

    /// Signature version 4 over the request as it came. `None` when a part is missing.
    fn is_signed(&self, call: &Call, given: &str, known: &Credentials) -> Option<bool> {
        let fields = given.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let field = |name: &str| fields.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        let (credential, signed, signature) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
        let (access, scope) = credential.split_once('/')?;
        let date = call.header("x-amz-date")?;
        let mut parts = scope.split('/');
        let (day, region, service, end) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if !date.starts_with(day) || service != "ec2" || end != "aws4_request" || !is_near(date) {
            return Some(false);
        }
        let headers: String = signed
            .split(';')
            .map(|name| {
                let value = call.header(name).unwrap_or_default();
                format!("{name}:{}\n", value.split_whitespace().collect::<Vec<_>>().join(" "))
            })
            .collect();
        let request =
            format!("{}\n/\n{}\n{headers}\n{signed}\n{}", call.method, canonical_query(call), sha256_hex(&call.body));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256_hex(request.as_bytes()));
        let start = format!("AWS4{}", known.private_key);
        let key = [day, region, service, end].iter().fold(start.into_bytes(), |key, part| sign(&key, part.as_bytes()));
        let expected = hex::encode(sign(&key, text.as_bytes()));
        Some(self.same(access, &known.public_key) & self.same(signature, &expected))
    }

    /// Whether two texts are the same, in a time that says nothing of where they differ.
    fn same(&self, given: &str, known: &str) -> bool {
        let tag = hmac::sign(&self.key, known.as_bytes());
        hmac::verify(&self.key, given.as_bytes(), tag.as_ref()).is_ok()
    }

    /// Whether a source has guessed wrong so often that nothing of it is looked at for a while.
    pub(super) fn is_shut(&self, from: IpAddr) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&from).is_some_and(|(count, since)| *count >= FAILURE_LIMIT && since.elapsed() < FAILURE_WINDOW)
    }

    fn count(&self, from: IpAddr) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= FAILURE_SOURCES {
            failures.retain(|_, (_, since)| since.elapsed() < FAILURE_WINDOW);
        }
        if failures.len() < FAILURE_SOURCES || failures.contains_key(&from) {
            let entry = failures.entry(from).or_insert_with(|| (0, Instant::now()));
            if entry.1.elapsed() >= FAILURE_WINDOW {
                *entry = (0, Instant::now());
            }
            entry.0 += 1;
        }
    }
}

/// What a digest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digested {
    Right,
    /// Right, on a nonce that is too old: the client asks again with the new one, without its user.
    Stale,
    Wrong,
}

/// The answer to a source that guesses, in its front's shape.
fn too_many(call: &Call, scheme: Scheme) -> Reply {
    match scheme {
        Scheme::Token => {
            let body = r#"{"code":"too_many_attempts","message":"too many wrong attempts; wait a minute"}"#;
            bytes(hyper::StatusCode::TOO_MANY_REQUESTS, "application/json", body)
        }
        Scheme::Atlas => super::atlas::too_many(call),
        Scheme::Signature => {
            let mut refusal =
                super::ec2::Refusal::new("RequestLimitExceeded", "Too many wrong attempts; wait a minute.");
            refusal.status = hyper::StatusCode::TOO_MANY_REQUESTS;
            bytes(refusal.status, "text/xml;charset=UTF-8", failure(&refusal))
        }
    }
}

/// The `name="value"` pairs of a digest header.
fn fields_of(text: &str) -> HashMap<String, String> {
    let pair = |part: &str| {
        let (name, value) = part.trim().split_once('=')?;
        Some((name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
    };
    text.split(',').filter_map(pair).collect()
}

fn canonical_query(call: &Call) -> String {
    let encode = |text: &str| {
        text.bytes()
            .map(|b| match b {
                b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect::<String>()
    };
    let mut pairs: Vec<String> = call.query.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
    pairs.sort();
    pairs.join("&")
}

/// Whether a signature's time, `20260810T093000Z`, is near the gateway's.
fn is_near(date: &str) -> bool {
    let now = Timestamp::now();
    let text = |moment: Timestamp| super::text::iso8601(moment, false).replace(['-', ':'], "");
    let early = Timestamp(now.0.saturating_sub(u64::try_from(SIGNATURE_SKEW.as_millis()).unwrap_or(0)));
    // The form sorts as the times do.
    date.len() == 16 && text(early).as_str() <= date && date <= text(now.plus(SIGNATURE_SKEW)).as_str()
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn md5_hex(text: &str) -> String {
    hex::encode(Md5::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_credentials_is_a_mistake_and_not_an_open_door() {
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
}
