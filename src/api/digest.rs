//! HTTP digest authentication: MD5 with `qop="auth"`, as Atlas requires. Source: RFC 7616.
//!
//! No maintained crate verifies digests (`digest_auth` and `http-auth` answer challenges). A nonce is signed and needs
//! no memory; only the used counts of nonces with a correct response are remembered.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use ring::hmac;

use super::auth::{Credentials, same};
use super::call::Call;
use crate::control::inventory::Timestamp;

/// Atlas' realm.
const REALM: &str = "MMS Public API";

/// Validity of a nonce.
const LIFETIME: Duration = Duration::from_secs(300);

/// Maximum number of nonces whose counts are remembered; the oldest ones become invalid.
const MAX_NONCES: usize = 10_000;

/// The result of checking a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DigestCheck {
    Right,
    /// Correct, but the nonce is too old, of another address or process, or its count was used before. The client
    /// retries with the new nonce, without asking its user.
    Stale,
    Wrong,
}

/// When a nonce was created, in milliseconds since 1970, and its number.
type NonceId = (u64, u64);

/// Issues nonces and checks digests.
#[derive(Debug)]
pub(super) struct Digests {
    /// Signs nonces; random for each process.
    key: hmac::Key,
    made: AtomicU64,
    used: Mutex<UsedNonces>,
}

#[derive(Debug, Default)]
struct UsedNonces {
    counts: BTreeMap<NonceId, Counts>,
    /// Nonces up to this one are invalid, as their counts were dropped.
    forgotten: NonceId,
}

/// The used counts of a nonce: the bits of `seen` are those from `highest` downwards, older ones count as used. The
/// highest alone would not suffice, as parallel requests may arrive in another order.
#[derive(Debug, Default)]
struct Counts {
    highest: u32,
    seen: u64,
}

impl Counts {
    /// Whether `count` is used for the first time.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            self.seen = self.seen.checked_shl(count - self.highest).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let bit = 1_u64.checked_shl(self.highest - count).unwrap_or(0);
        let is_new = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        is_new
    }
}

impl Digests {
    pub(super) fn new(key: hmac::Key) -> Self {
        Self { key, made: AtomicU64::new(1), used: Mutex::default() }
    }

    /// The challenge for a client at `from`.
    pub(super) fn challenge(&self, from: IpAddr, stale: bool) -> String {
        let nonce = self.nonce((Timestamp::now().0, self.made.fetch_add(1, Ordering::Relaxed)), from);
        format!("Digest realm=\"{REALM}\", domain=\"\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\", stale={stale}")
    }

    /// A signed nonce for one source address.
    fn nonce(&self, (at, number): NonceId, from: IpAddr) -> String {
        let tag = hmac::sign(&self.key, format!("{at}:{number}:{from}").as_bytes());
        STANDARD.encode(format!("{at}:{number}:{}", hex::encode(tag.as_ref())))
    }

    /// The id of a nonce that was issued to `from`; `None` for any other text.
    fn id_of(&self, nonce: &str, from: IpAddr) -> Option<NonceId> {
        let text = String::from_utf8(STANDARD.decode(nonce).ok()?).ok()?;
        let mut parts = text.split(':');
        let id = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        same(&self.key, nonce, &self.nonce(id, from)).then_some(id)
    }

    /// Checks the credentials of a request; `fields` is the header's content after the scheme.
    pub(super) fn check(&self, call: &Call, fields: &str, known: &Credentials) -> DigestCheck {
        let Some(fields) = parse(fields) else { return DigestCheck::Wrong };
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let count = u32::from_str_radix(field("nc"), 16).ok().filter(|_| field("nc").len() == 8);
        let Some(count) = count.filter(|count| *count > 0) else { return DigestCheck::Wrong };
        let is_asked_for = field("realm") == REALM
            && (fields.get("algorithm").is_none_or(|algorithm| algorithm.eq_ignore_ascii_case("MD5")))
            && field("qop") == "auth"
            && field("uri") == call.target
            && !field("cnonce").is_empty()
            && fields.get("userhash").is_none_or(|hashed| hashed.eq_ignore_ascii_case("false"));
        let (nonce, nc, cnonce) = (field("nonce"), field("nc"), field("cnonce"));
        let first = md5_hex(&format!("{}:{REALM}:{}", known.public_key, known.private_key));
        let second = md5_hex(&format!("{}:{}", call.method, call.target));
        let expected = md5_hex(&format!("{first}:{nonce}:{nc}:{cnonce}:auth:{second}"));
        let is_right = same(&self.key, field("username"), &known.public_key)
            & same(&self.key, &field("response").to_ascii_lowercase(), &expected);
        if !is_asked_for || !is_right {
            return DigestCheck::Wrong;
        }
        match self.id_of(nonce, call.from.ip()) {
            Some(id) if self.take(id, count, Timestamp::now()) => DigestCheck::Right,
            _ => DigestCheck::Stale,
        }
    }

    /// Records the use of a count; false if the nonce or the count may not be used.
    fn take(&self, id: NonceId, count: u32, now: Timestamp) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |id: NonceId| Timestamp(id.0).plus(LIFETIME) < now;
        if is_over(id) || id <= used.forgotten {
            return false;
        }
        while let Some(oldest) = used.counts.first_entry()
            && (is_over(*oldest.key()) || used.counts.len() >= MAX_NONCES)
        {
            used.forgotten = used.counts.pop_first().map_or(used.forgotten, |(id, _)| id);
        }
        id > used.forgotten && used.counts.entry(id).or_default().take(count)
    }
}

/// Parses the parameters of a digest, `name=value` or `name="value"`, separated by commas. `None` if they are malformed
/// or one is duplicated.
fn parse(text: &str) -> Option<HashMap<String, String>> {
    let (mut fields, mut rest) = (HashMap::new(), text.trim_start());
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let value;
        (value, rest) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (token, rest) = after.split_at(after.find(',').unwrap_or(after.len()));
                (token.trim().to_owned(), rest)
            }
        };
        if fields.insert(name.trim().to_ascii_lowercase(), value).is_some() {
            return None;
        }
        rest = rest.trim_start();
        rest = if rest.is_empty() { rest } else { rest.strip_prefix(',')?.trim_start() };
    }
    Some(fields)
}

/// Splits a quoted string from the rest. Source: RFC 9110, section 5.6.4.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn md5_hex(text: &str) -> String {
    hex::encode(Md5::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Method;

    const HERE: [u8; 4] = [10, 0, 0, 1];

    fn known() -> Credentials {
        let text = str::to_owned;
        Credentials { public_key: text("public"), private_key: text("private"), token: text("token") }
    }

    fn digests() -> Digests {
        Digests::new(hmac::Key::new(hmac::HMAC_SHA256, b"key"))
    }

    fn call(target: &str, from: [u8; 4]) -> Call {
        Call {
            method: Method::GET,
            target: target.to_owned(),
            path: target.split('?').next().unwrap_or_default().to_owned(),
            segments: Vec::new(),
            query: Vec::new(),
            headers: hyper::HeaderMap::new(),
            body: bytes::Bytes::new(),
            from: (from, 50_000).into(),
        }
    }

    fn nonce(digests: &Digests) -> String {
        let challenge = digests.challenge(HERE.into(), false);
        parse(challenge.strip_prefix("Digest ").expect("a digest")).expect("its fields")["nonce"].clone()
    }

    /// A correct response for `/groups?a=1,2`, modified by `change`.
    fn answer(nonce: &str, nc: &str, change: impl Fn(String) -> String) -> String {
        let (first, second) = (md5_hex("public:MMS Public API:private"), md5_hex("GET:/groups?a=1,2"));
        let response = md5_hex(&format!("{first}:{nonce}:{nc}:c:auth:{second}"));
        change(format!(
            "username=\"public\", realm=\"MMS Public API\", nonce=\"{nonce}\", uri=\"/groups?a=1,2\", cnonce=\"c\", \
             nc={nc}, qop=auth, response=\"{response}\", algorithm=MD5"
        ))
    }

    #[test]
    fn each_count_of_a_nonce_is_right_once_in_whatever_order_they_arrive() {
        let (digests, call) = (digests(), call("/groups?a=1,2", HERE));
        let nonce = nonce(&digests);
        let check = |nc: &str| digests.check(&call, &answer(&nonce, nc, |text| text), &known());
        for nc in ["00000001", "00000003", "00000002", "00000041"] {
            assert_eq!(check(nc), DigestCheck::Right, "{nc}");
            assert_eq!(check(nc), DigestCheck::Stale, "{nc} again");
        }
        assert_eq!(check("00000001"), DigestCheck::Stale, "too long ago to know");
        assert_eq!(check("00000000"), DigestCheck::Wrong);
    }

    #[test]
    fn a_digest_holds_for_its_address_target_realm_algorithm_and_quality_alone() {
        let digests = digests();
        let nonce = nonce(&digests);
        let check = |target: &str, from: [u8; 4], change: &dyn Fn(String) -> String| {
            digests.check(&call(target, from), &answer(&nonce, "00000001", change), &known())
        };
        let same = |text: String| text;
        assert_eq!(check("/groups?a=1,2", [10, 0, 0, 2], &same), DigestCheck::Stale, "replayed from another address");
        for target in ["/groups", "/groups?a=1,3", "/groups/?a=1,2"] {
            assert_eq!(check(target, HERE, &same), DigestCheck::Wrong, "{target}");
        }
        for (from, to) in [
            ("realm=\"MMS Public API\"", "realm=\"other\""),
            ("algorithm=MD5", "algorithm=MD5-sess"),
            ("qop=auth", "qop=auth-int"),
            ("qop=auth, ", ""),
            ("nc=00000001", "nc=1"),
            ("nc=00000001", "nc=00000002"),
            ("cnonce=\"c\"", "cnonce=\"\""),
            ("username=\"public\"", "username=\"other\""),
            ("algorithm=MD5", "userhash=true"),
            ("algorithm=MD5", "nc=00000001"),
            ("uri=\"/groups?a=1,2\"", "uri=\"/groups\""),
        ] {
            let change = |text: String| text.replacen(from, to, 1);
            assert_eq!(check("/groups?a=1,2", HERE, &change), DigestCheck::Wrong, "{from} -> {to}");
        }
        assert_eq!(check("/groups?a=1,2", HERE, &same), DigestCheck::Right, "none of these used the count up");
    }

    #[test]
    fn a_nonce_ends_with_its_time_or_when_its_counts_are_forgotten() {
        let digests = digests();
        let made = Timestamp(1_000_000);
        assert!(digests.take((made.0, 1), 1, made));
        assert!(!digests.take((made.0, 1), 2, made.plus(LIFETIME * 2)));
        for number in 2..MAX_NONCES as u64 + 3 {
            assert!(digests.take((made.0, number), 1, made));
        }
        assert!(!digests.take((made.0, 2), 2, made), "its counts are forgotten, and so is it");
        assert!(digests.used.lock().expect("no panic").counts.len() <= MAX_NONCES);
    }

    #[test]
    fn a_malformed_list_of_parameters_is_refused() {
        for text in ["a", "a=\"b", "a=\"b\" c=d", "a=b, a=c", "a=\"\\"] {
            assert!(parse(text).is_none(), "{text}");
        }
        assert_eq!(parse(r#"A = "x\"y,z" ,b=c"#).expect("two")["a"], "x\"y,z");
    }
}
