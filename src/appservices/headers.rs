//! What a backend is told of a request, and what it is not. Pure.
//!
//! Headers that belong to one connection stay on it (RFC 9110 §7.6.1). Whatever a client says of its own origin is taken
//! away, then the gateway says it: by `X-Forwarded-*` and `Forwarded`, and by two headers of its own that name the place
//! and the endpoint.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::model::{Origin, VpceId};

/// Where a request comes from: `vpc`, `peered`, `on_premises` or `public`.
pub const ORIGIN: HeaderName = HeaderName::from_static("x-plgw-origin");
/// The interface endpoint that a request came through; absent on the public path.
pub const ENDPOINT: HeaderName = HeaderName::from_static("x-plgw-vpc-endpoint");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Belong to one connection: RFC 9110 §7.6.1, RFC 9113 §8.2.2, and what is in use besides.
const HOP_BY_HOP: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "alt-svc",
];

/// Names by which proxies and content networks say where a request came from or what it was for, besides
/// `X-Forwarded-…`; and `Proxy`, which some backends take for a setting of theirs.
const CLAIMS: [&str; 17] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "true-client-ip",
    "x-cluster-client-ip",
    "x-originating-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-original-url",
    "x-original-host",
    "x-rewrite-url",
    "x-host",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-envoy-external-address",
    "proxy",
];

/// Prefixes of such names.
const CLAIM_PREFIXES: [&str; 4] = ["x-forwarded", "x-plgw-", "x-amzn-vpce", "x-amzn-source"];

/// Who asks, as the gateway knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) origin: Origin,
    pub(crate) endpoint: Option<&'a VpceId>,
    pub(crate) source: IpAddr,
    /// The address that the request came to.
    pub(crate) door: SocketAddr,
    /// Host and port as the client wrote them.
    pub(crate) authority: &'a HeaderValue,
}

/// Removes what belongs to the connection that a message came on.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let mut listed: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        let tokens = value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
        listed.extend(tokens.filter_map(|token| HeaderName::from_bytes(token).ok()));
    }
    for name in listed {
        headers.remove(name);
    }
    // A message has few fields and seldom one of these: comparing is cheaper than looking each of them up.
    let bound: Vec<HeaderName> = headers.keys().filter(|name| HOP_BY_HOP.contains(&name.as_str())).cloned().collect();
    for name in bound {
        headers.remove(name);
    }
}

/// What a backend is told of a client, written out.
#[derive(Debug)]
pub(crate) struct Said {
    authority: HeaderValue,
    origin: Origin,
    client: HeaderValue,
    forwarded: HeaderValue,
}

impl Said {
    /// Written for this request.
    pub(crate) fn new(asker: &Asker<'_>) -> Self {
        let mut client = String::with_capacity(40);
        // Writing into a string can't fail; so below.
        let _ = write!(client, "{}", asker.source);
        let mut forwarded = String::with_capacity(128);
        let _ = match asker.source {
            IpAddr::V4(ip) => write!(forwarded, "for={ip}"),
            IpAddr::V6(ip) => write!(forwarded, "for=\"[{ip}]\""),
        };
        let _ = write!(forwarded, ";by=\"{}\";host=\"", asker.door);
        forwarded.push_str(asker.authority.to_str().unwrap_or_default());
        forwarded.push_str("\";proto=https");
        Self {
            authority: asker.authority.clone(),
            origin: asker.origin,
            client: text(&client),
            forwarded: text(&forwarded),
        }
    }

    /// Whether it holds for this request of the same connection, whose two addresses are the same.
    pub(crate) fn is_of(&self, asker: &Asker<'_>) -> bool {
        self.origin == asker.origin && self.authority == *asker.authority
    }
}

/// Makes a client's headers those that the backend gets; `said` is what [`Said::new`] makes of `asker`.
pub(crate) fn to_backend(headers: &mut HeaderMap, asker: &Asker<'_>, said: &Said) {
    strip_hop_by_hop(headers);
    strip_claims(headers);
    join_cookies(headers);
    headers.insert(header::HOST, asker.authority.clone());
    headers.insert(ORIGIN, HeaderValue::from_static(asker.origin.label()));
    if let Some(endpoint) = asker.endpoint {
        headers.insert(ENDPOINT, text(endpoint.as_str()));
    }
    headers.insert(FORWARDED_FOR, said.client.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(FORWARDED_HOST, asker.authority.clone());
    headers.insert(FORWARDED_PORT, HeaderValue::from(asker.door.port()));
    headers.insert(header::FORWARDED, said.forwarded.clone());
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("addresses, ids and names of hosts are visible ASCII")
}

/// Removes what the client says of where it comes from. `_` counts as `-`: many backends can't tell them apart.
fn strip_claims(headers: &mut HeaderMap) {
    let is_claim = |name: &HeaderName| {
        let name = name.as_str();
        if name.contains('_') { is_claim(&name.replace('_', "-")) } else { is_claim(name) }
    };
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name)).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

fn is_claim(name: &str) -> bool {
    // Nearly every header is settled by its first letter.
    matches!(name.as_bytes().first(), Some(b'x' | b'f' | b'c' | b't' | b'p'))
        && (CLAIMS.contains(&name) || CLAIM_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

/// HTTP/2 may split cookies over several fields; HTTP/1.1 has one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        let endpoint: VpceId = "vpce-0a000000000000001".parse().expect("an id");
        let asker = Asker {
            origin: Origin::Peered,
            endpoint: Some(&endpoint),
            source: "127.3.0.9".parse().expect("an address"),
            door: "127.0.30.195:8443".parse().expect("an address"),
            authority: &HeaderValue::from_static("us-east-1.aws.services.cloud.mongodb.com:8443"),
        };
        to_backend(&mut headers, &asker, &Said::new(&asker));
        headers
    }

    #[test]
    fn what_belongs_to_a_connection_stays_on_it() {
        let headers = sent(&[
            ("connection", "close, X-Private , upgrade"),
            ("connection", "x-more"),
            ("x-private", "1"),
            ("x-more", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
            ("proxy-authorization", "Basic x"),
            ("accept", "*/*"),
        ]);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).filter(|name| !is_claim(name)).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "host"]);
    }

    #[test]
    fn a_client_cannot_say_where_it_comes_from() {
        let forged = [
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Anything",
            "X_Forwarded_For",
            "Forwarded",
            "X-Plgw-Origin",
            "X-Plgw_Vpc-Endpoint",
            "X-Real-IP",
            "True-Client-IP",
            "Client-IP",
            "CF-Connecting-IP",
            "X-Original-URL",
            "Proxy",
        ];
        let fields: Vec<_> = forged.iter().map(|name| (*name, "127.0.0.66")).collect();
        let headers = sent(&fields);
        assert!(headers.values().all(|value| value != "127.0.0.66"), "{headers:?}");
        assert_eq!(headers[ORIGIN], "peered");
        assert_eq!(headers[ENDPOINT], "vpce-0a000000000000001");
        assert_eq!(headers["x-forwarded-for"], "127.3.0.9");
        assert_eq!(
            headers["forwarded"],
            "for=127.3.0.9;by=\"127.0.30.195:8443\";host=\"us-east-1.aws.services.cloud.mongodb.com:8443\";proto=https"
        );
    }

    #[test]
    fn a_client_cannot_have_the_gateways_headers_taken_away() {
        let headers = sent(&[("connection", "x-plgw-origin, host, x-forwarded-for"), ("host", "elsewhere")]);
        assert_eq!(headers[ORIGIN], "peered");
        assert_eq!(headers["x-forwarded-for"], "127.3.0.9");
        assert_eq!(headers["host"], "us-east-1.aws.services.cloud.mongodb.com:8443");
    }

    #[test]
    fn crumbs_become_one_cookie() {
        let headers = sent(&[("cookie", "a=1"), ("cookie", "b=2")]);
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
