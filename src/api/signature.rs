//! AWS Signature Version 4, verified as by AWS. Sources: AWS, *Signature Version 4* and its *Troubleshooting* page;
//! error codes and messages: Amazon EC2 API Reference, *Error codes*.
//!
//! Written by hand: `aws-sigv4` signs, but does not verify.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{DATE, HOST};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::{digest, hmac};
use time::PrimitiveDateTime;
use time::macros::format_description;

use super::auth::{Credentials, same};
use super::call::Call;
use super::ec2::Ec2Error;
use super::text::iso8601;
use crate::control::inventory::Timestamp;

/// Maximum difference of a signature's time from the gateway's. Source: EC2, `RequestExpired`.
const SKEW: Duration = Duration::from_secs(15 * 60);

/// Characters that are encoded in a signed query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Why a request is not authorized.
#[derive(Debug)]
pub(super) enum Unsigned {
    /// Malformed, so it does not count as an attempt.
    Malformed(Ec2Error),
    /// Wrong keys.
    Wrong,
}

/// The parts of `Authorization`.
struct Authorization<'a> {
    access: &'a str,
    /// The credential without the access key: `20260810/us-east-1/ec2/aws4_request`.
    scope: &'a str,
    /// The scope's parts.
    scoped: [&'a str; 4],
    signed: &'a str,
    signature: &'a str,
}

/// Verifies the signature of a request at `now`; `fields` is the header's content after the scheme, `key` is for
/// comparing.
///
/// # Errors
///
/// [`Unsigned`], with AWS's response.
pub(super) fn check(
    call: &Call,
    fields: &str,
    known: &Credentials,
    key: &hmac::Key,
    now: Timestamp,
) -> Result<(), Unsigned> {
    let given = parse(fields, call).map_err(Unsigned::Malformed)?;
    let date = check_time(&given, call, now).map_err(Unsigned::Malformed)?;
    let headers = canonical_headers(&given, call).map_err(Unsigned::Malformed)?;
    let request = format!(
        "{}\n/\n{}\n{headers}\n{}\n{}",
        call.method,
        canonical_query(call),
        given.signed,
        sha256_hex(&call.body)
    );
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{}\n{}", given.scope, sha256_hex(request.as_bytes()));
    let start = format!("AWS4{}", known.private_key).into_bytes();
    let signing = given.scoped.iter().fold(start, |key, part| sign(&key, part.as_bytes()));
    let expected = hex::encode(sign(&signing, text.as_bytes()));
    if same(key, given.access, &known.public_key) & same(key, given.signature, &expected) {
        Ok(())
    } else {
        Err(Unsigned::Wrong)
    }
}

/// EC2's error for unknown keys, and for a request without any.
pub(super) fn not_validated() -> Ec2Error {
    let mut refusal = Ec2Error::new("AuthFailure", "AWS was not able to validate the provided access credentials");
    refusal.status = StatusCode::UNAUTHORIZED;
    refusal
}

fn incomplete(message: impl Into<String>) -> Ec2Error {
    Ec2Error::new("IncompleteSignature", message)
}

fn mismatch(message: impl Into<String>) -> Ec2Error {
    let mut refusal = Ec2Error::new("SignatureDoesNotMatch", message);
    refusal.status = StatusCode::FORBIDDEN;
    refusal
}

fn parse<'a>(fields: &'a str, call: &Call) -> Result<Authorization<'a>, Ec2Error> {
    let mut found: [Option<&str>; 3] = [None; 3];
    let names = ["Credential", "SignedHeaders", "Signature"];
    for part in fields.split(',').map(str::trim) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let place = names.iter().position(|known| *known == name).map(|at| &mut found[at]);
        match place {
            Some(place @ None) => *place = Some(value),
            _ => return Err(incomplete(format!("'{part}' is no valid key=value pair of the Authorization header"))),
        }
    }
    let mut missing: Vec<String> = names
        .iter()
        .zip(found)
        .filter(|(_, value)| value.is_none_or(str::is_empty))
        .map(|(name, _)| format!("Authorization header requires '{name}' parameter."))
        .collect();
    if call.headers.get("x-amz-date").or(call.headers.get(DATE)).is_none() {
        let either = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.";
        missing.push(either.to_owned());
    }
    let [Some(credential), Some(signed), Some(signature)] = found else { return Err(incomplete(missing.join(" "))) };
    if !missing.is_empty() {
        return Err(incomplete(missing.join(" ")));
    }
    let parts: Vec<&str> = credential.split('/').collect();
    let [access, day, region, service, term] = parts[..] else {
        return Err(incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got: \
             '{credential}'"
        )));
    };
    if !["ec2", "iam", "sts"].contains(&service) {
        return Err(mismatch("Credential should be scoped to correct service: 'ec2'."));
    }
    if term != "aws4_request" {
        return Err(mismatch(format!(
            "Credential should be scoped with a valid terminator: 'aws4_request', not '{term}'."
        )));
    }
    if region.is_empty() {
        return Err(mismatch("Credential should be scoped to a valid region."));
    }
    let scope = &credential[access.len() + 1..];
    Ok(Authorization { access, scope, scoped: [day, region, service, term], signed, signature })
}

/// The request's time in ISO 8601's basic format, if it matches the scope and is within [`SKEW`].
fn check_time(given: &Authorization, call: &Call, now: Timestamp) -> Result<String, Ec2Error> {
    let text = call.header("x-amz-date").or(call.header("date")).unwrap_or_default();
    let at = basic_time(text).or_else(|| {
        // `Date` may also be in HTTP's format.
        let at = httpdate::parse_http_date(text).ok().filter(|_| call.headers.get("x-amz-date").is_none())?;
        let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Timestamp(u64::try_from(since.as_millis()).ok()?))
    });
    let Some(at) = at else {
        let form = "Date must be in ISO-8601 'basic format'. Got";
        return Err(incomplete(format!("{form} '{text}'. See http://en.wikipedia.org/wiki/ISO_8601")));
    };
    let date = iso8601(at, false).replace(['-', ':'], "");
    let day = given.scoped[0];
    if day != &date[..8] {
        return Err(mismatch(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{day}' != '{}', \
             from '{date}'.",
            &date[..8]
        )));
    }
    if now.0.abs_diff(at.0) > u64::try_from(SKEW.as_millis()).unwrap_or(u64::MAX) {
        return Err(Ec2Error::new("RequestExpired", "Request has expired."));
    }
    Ok(date)
}

/// Parses exactly the format `20260810T093000Z`.
fn basic_time(text: &str) -> Option<Timestamp> {
    let form = format_description!("[year][month][day]T[hour][minute][second]Z");
    let at = PrimitiveDateTime::parse(text, form).ok().filter(|_| text.len() == 16)?;
    let seconds = u64::try_from(at.assume_utc().unix_timestamp()).ok()?;
    Some(Timestamp(seconds * 1000))
}

/// The signed headers with their values, one per line, if all required ones are signed.
fn canonical_headers(given: &Authorization, call: &Call) -> Result<String, Ec2Error> {
    let names: Vec<&str> = given.signed.split(';').collect();
    if !names.is_sorted_by(|a, b| a < b) || names.iter().any(|name| *name != name.to_ascii_lowercase()) {
        return Err(mismatch("SignedHeaders must be in lower case, sorted, and each there once."));
    }
    let dated = if call.headers.contains_key("x-amz-date") { "x-amz-date" } else { "date" };
    let amazons = call.headers.keys().map(hyper::header::HeaderName::as_str).filter(|name| name.starts_with("x-amz-"));
    for needed in [HOST.as_str(), dated].into_iter().chain(amazons) {
        if !names.contains(&needed) {
            return Err(mismatch(format!("'{needed}' must be a 'SignedHeader' in the AWS Authorization.")));
        }
    }
    let mut lines = String::new();
    for name in names {
        let mut values = Vec::new();
        for value in call.headers.get_all(name) {
            let value = value.to_str().map_err(|_| mismatch(format!("the header '{name}' is not text")))?;
            values.push(value.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        if values.is_empty() {
            return Err(mismatch(format!("the signed header '{name}' is not in the request")));
        }
        lines += &format!("{name}:{}\n", values.join(","));
    }
    Ok(lines)
}

fn canonical_query(call: &Call) -> String {
    let encode = |text| utf8_percent_encode(text, ENCODED).to_string();
    let mut pairs: Vec<_> = call.query.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::{HeaderMap, Method};

    /// 2026-08-10 09:30.
    const NOW: Timestamp = Timestamp(1_786_354_200_000);
    const SCOPE: &str = "20260810/us-east-1/ec2/aws4_request";

    fn known() -> Credentials {
        let text = str::to_owned;
        Credentials { public_key: text("AKID"), private_key: text("secret"), token: text("token") }
    }

    fn call(headers: &[(&'static str, &str)]) -> Call {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        Call {
            method: Method::POST,
            target: "/".to_owned(),
            path: "/".to_owned(),
            segments: Vec::new(),
            query: Vec::new(),
            headers: map,
            body: "Action=DescribeVpcs".into(),
            from: ([127, 0, 0, 1], 50_000).into(),
        }
    }

    /// The parameters with a correct signature for `scope` and `names`.
    fn signed(call: &Call, scope: &str, names: &str) -> String {
        let lines: String =
            names.split(';').map(|name| format!("{name}:{}\n", call.header(name).unwrap_or_default())).collect();
        let request = format!("POST\n/\n\n{lines}\n{names}\n{}", sha256_hex(&call.body));
        let date = call.header("x-amz-date").unwrap_or_default();
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256_hex(request.as_bytes()));
        let key = scope.split('/').fold(b"AWS4secret".to_vec(), |key, part| sign(&key, part.as_bytes()));
        let signature = hex::encode(sign(&key, text.as_bytes()));
        format!("Credential=AKID/{scope}, SignedHeaders={names}, Signature={signature}")
    }

    fn outcome(call: &Call, fields: &str) -> &'static str {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        match check(call, fields, &known(), &key, NOW) {
            Ok(()) => "ok",
            Err(Unsigned::Malformed(refusal)) => refusal.code,
            Err(Unsigned::Wrong) => not_validated().code,
        }
    }

    fn at(date: &str) -> Call {
        call(&[("host", "localhost:8474"), ("x-amz-date", date)])
    }

    #[test]
    fn host_and_date_and_every_header_of_amazons_must_be_signed() {
        let near = at("20260810T093000Z");
        assert_eq!(outcome(&near, &signed(&near, SCOPE, "host;x-amz-date")), "ok");
        for names in ["host", "x-amz-date", "x-amz-date;host", "Host;x-amz-date", "host;host;x-amz-date"] {
            assert_eq!(outcome(&near, &signed(&near, SCOPE, names)), "SignatureDoesNotMatch", "{names}");
        }
        assert_eq!(outcome(&near, &signed(&near, SCOPE, "host;x-absent;x-amz-date")), "SignatureDoesNotMatch");
        let token = call(&[("host", "a"), ("x-amz-date", "20260810T093000Z"), ("x-amz-security-token", "t")]);
        assert_eq!(outcome(&token, &signed(&token, SCOPE, "host;x-amz-date")), "SignatureDoesNotMatch");
        assert_eq!(outcome(&token, &signed(&token, SCOPE, "host;x-amz-date;x-amz-security-token")), "ok");
    }

    #[test]
    fn the_scopes_day_is_the_dates_and_the_date_is_near() {
        let names = "host;x-amz-date";
        let near = at("20260810T093000Z");
        for day in ["2", "20", "20260811", "", "2026081", "20260810T"] {
            let scope = SCOPE.replace("20260810", day);
            assert_eq!(outcome(&near, &signed(&near, &scope, names)), "SignatureDoesNotMatch", "{day}");
        }
        for scope in [SCOPE.replace("ec2", "s3"), SCOPE.replace("aws4", "aws5"), SCOPE.replace("us-east-1", "")] {
            assert_eq!(outcome(&near, &signed(&near, &scope, names)), "SignatureDoesNotMatch", "{scope}");
        }
        for (date, expected) in [
            ("20260810T091500Z", "ok"),
            ("20260810T094500Z", "ok"),
            ("20260810T091459Z", "RequestExpired"),
            ("20260810T094501Z", "RequestExpired"),
            ("20260810T09xx00Z", "IncompleteSignature"),
            ("20260810T256000Z", "IncompleteSignature"),
            ("20260231T093000Z", "IncompleteSignature"),
            ("20260810 093000Z", "IncompleteSignature"),
            ("20260810T093000", "IncompleteSignature"),
            ("2026-08-10T09:30:00Z", "IncompleteSignature"),
        ] {
            assert_eq!(outcome(&at(date), &signed(&at(date), SCOPE, names)), expected, "{date}");
        }
    }

    #[test]
    fn an_incomplete_header_is_reported_and_wrong_keys_are_not_validated() {
        let near = at("20260810T093000Z");
        let right = signed(&near, SCOPE, "host;x-amz-date");
        for fields in
            ["", "Credential=a", "Signature=x", &right.replace("Signature=", "Sig="), &format!("{right}, a=b")]
        {
            assert_eq!(outcome(&near, fields), "IncompleteSignature", "{fields}");
        }
        assert_eq!(outcome(&near, &right.replace("/us-east-1", "")), "IncompleteSignature");
        assert_eq!(outcome(&near, &format!("{right}, {right}")), "IncompleteSignature");
        assert_eq!(outcome(&call(&[("host", "a")]), &right), "IncompleteSignature");
        assert_eq!(outcome(&near, &right.replace("AKID", "OTHER")), "AuthFailure");
        let last = right.chars().last().expect("a digit");
        let other = if last == '0' { "1" } else { "0" };
        assert_eq!(outcome(&near, &format!("{}{other}", &right[..right.len() - 1])), "AuthFailure");
    }
}
