//! The header fields of a request to a backend. Pure.
//!
//! Hop-by-hop fields are not forwarded (RFC 9110 §7.6.1). Fields by which a client claims an address are removed; the
//! gateway writes its own: `X-Forwarded-*` and `Forwarded`, and two fields that name the origin and the endpoint.

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

/// Prefixes of fields by which proxies and CDNs describe the origin or the target of a request; `x-plgw-` is the
/// gateway's own.
const ORIGIN_PREFIXES: [&str; 22] = [
    "x-plgw-",
    "x-amzn-vpce",
    "x-amzn-source",
    "x-original-",
    "x-rewrite-",
    "x-azure-",
    "x-appengine-",
    "x-envoy-",
    "x-akamai-",
    "x-vercel-",
    "x-sucuri-",
    "x-proxy",
    "cf-",
    "cloudfront-",
    "fastly-",
    "fly-",
    "akamai-",
    "ali-cdn-",
    "incap-",
    "proxy",
    "wl-proxy-",
    "x-coming-from",
];

/// Last words of field names that contain an address: `X-Client-IP`, `X-Azure-ClientIP`.
const ADDRESS_ENDS: [&str; 12] = [
    "clientip",
    "realip",
    "remoteip",
    "userip",
    "sourceip",
    "srcip",
    "socketip",
    "peerip",
    "proxyip",
    "originip",
    "trueip",
    "ipaddress",
];

/// Number of fields that [`to_backend`] may add to the client's, including `Via` and those of the framing.
const OWN_FIELDS: usize = 12;

/// The client of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForwardedClient<'a> {
    pub(crate) origin: Origin,
    pub(crate) endpoint: Option<&'a VpceId>,
    pub(crate) source: IpAddr,
    /// The address that the client connected to.
    pub(crate) listener: SocketAddr,
    /// Host and port as written by the client.
    pub(crate) authority: &'a HeaderValue,
}

/// Whether a comma-separated field contains this token.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// Removes the fields that apply to one connection only.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip(headers, |name| is_hop_by_hop(name.as_str()));
}

/// Removes the fields that `Connection` lists, and those whose names are `unwanted`.
fn strip(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let mut listed: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        let tokens = value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
        listed.extend(tokens.filter_map(|token| HeaderName::from_bytes(token).ok()));
    }
    for name in listed {
        headers.remove(name);
    }
    // A message has few fields, and rarely one of these, so comparing is cheaper than lookups.
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// Whether a field applies to one connection only: RFC 9110 §7.6.1, RFC 9113 §8.2.2, and others in use.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "expect"
            | "alt-svc"
    )
}

/// The fields that describe a request's client, formatted.
#[derive(Debug)]
pub(crate) struct ForwardedFields {
    authority: HeaderValue,
    origin: Origin,
    client: HeaderValue,
    forwarded: HeaderValue,
    port: HeaderValue,
    endpoint: Option<HeaderValue>,
}

impl ForwardedFields {
    pub(crate) fn new(sender: &ForwardedClient<'_>) -> Self {
        let mut client = String::with_capacity(40);
        // Writing to a string can't fail; the same below.
        let _ = write!(client, "{}", sender.source);
        let mut forwarded = String::with_capacity(128);
        let _ = match sender.source {
            IpAddr::V4(ip) => write!(forwarded, "for={ip}"),
            IpAddr::V6(ip) => write!(forwarded, "for=\"[{ip}]\""),
        };
        let _ = write!(forwarded, ";by=\"{}\";host=\"", sender.listener);
        forwarded.push_str(sender.authority.to_str().unwrap_or_default());
        forwarded.push_str("\";proto=https");
        Self {
            authority: sender.authority.clone(),
            origin: sender.origin,
            client: text(&client),
            forwarded: text(&forwarded),
            port: HeaderValue::from(sender.listener.port()),
            endpoint: sender.endpoint.map(|endpoint| text(endpoint.as_str())),
        }
    }

    /// Whether it is valid for this request of the same connection, whose two addresses are the same. A reload may give
    /// the listener's address to another endpoint.
    pub(crate) fn is_valid_for(&self, sender: &ForwardedClient<'_>) -> bool {
        let endpoint = self.endpoint.as_ref().map(HeaderValue::as_bytes);
        self.origin == sender.origin
            && self.authority == *sender.authority
            && endpoint == sender.endpoint.map(|endpoint| endpoint.as_str().as_bytes())
    }
}

/// Turns a client's headers into those for the backend. `fields` is [`ForwardedFields::new`] of `sender`.
pub(crate) fn to_backend(headers: &mut HeaderMap, sender: &ForwardedClient<'_>, fields: &ForwardedFields) {
    // The one transfer parameter that is not specific to the client's connection: trailers are accepted.
    let takes_trailers = has_token(headers, &header::TE, "trailers");
    strip(headers, |name| *name == header::TRAILER || is_hop_by_hop(name.as_str()) || is_spoofable(name.as_str()));
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    join_cookies(headers);
    headers.reserve(OWN_FIELDS);
    headers.insert(header::HOST, sender.authority.clone());
    headers.insert(ORIGIN, HeaderValue::from_static(sender.origin.label()));
    if let Some(endpoint) = &fields.endpoint {
        headers.insert(ENDPOINT, endpoint.clone());
    }
    headers.insert(FORWARDED_FOR, fields.client.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(FORWARDED_HOST, sender.authority.clone());
    headers.insert(FORWARDED_PORT, fields.port.clone());
    headers.insert(header::FORWARDED, fields.forwarded.clone());
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("addresses, ids and names of hosts are visible ASCII")
}

/// Whether a field claims a client address, or has a name that a backend might confuse with another: CGI, WSGI and many
/// frameworks replace every character except letters and digits by `_` (nginx and Apache drop such names too).
fn is_spoofable(name: &str) -> bool {
    let is_plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    !is_plain(name) || is_origin_field(name)
}

/// Whether a lower-case name describes the origin or the target of a request.
fn is_origin_field(name: &str) -> bool {
    if ORIGIN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name == "x-host" {
        return true;
    }
    let (mut has_peer, mut has_claimed) = (false, false);
    for word in name.split('-') {
        has_peer |= names_peer(word);
        has_claimed |= matches!(word, "addr" | "address" | "ipaddr" | "host" | "hostname" | "port");
        if word.starts_with("forward")
            || matches!(word, "remote" | "ip" | "ips" | "ip4" | "ip6" | "ipv4" | "ipv6")
            || ADDRESS_ENDS.iter().any(|end| word.ends_with(end))
        {
            return true;
        }
    }
    has_peer && has_claimed
}

/// Whether a word denotes a peer, so that the rest of the field's name may be a claim about it.
fn names_peer(word: &str) -> bool {
    matches!(
        word,
        "client"
            | "real"
            | "source"
            | "src"
            | "peer"
            | "viewer"
            | "originating"
            | "external"
            | "user"
            | "visitor"
            | "true"
            | "connecting"
            | "cluster"
            | "backend"
    )
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
        let sender = ForwardedClient {
            origin: Origin::Peered,
            endpoint: Some(&endpoint),
            source: "127.3.0.9".parse().expect("an address"),
            listener: "127.0.30.195:8443".parse().expect("an address"),
            authority: &HeaderValue::from_static("us-east-1.aws.services.cloud.mongodb.com:8443"),
        };
        to_backend(&mut headers, &sender, &ForwardedFields::new(&sender));
        headers
    }

    #[test]
    fn hop_by_hop_fields_are_not_forwarded() {
        let headers = sent(&[
            ("connection", "close, X-Private , upgrade"),
            ("connection", "x-more"),
            ("x-private", "1"),
            ("x-more", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
            ("proxy-authorization", "Basic x"),
            ("accept", "*/*"),
        ]);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).filter(|name| !is_origin_field(name)).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "host", "te"]);
        assert_eq!(headers["te"], "trailers", "what its backend may do for it beyond the connection");
    }

    #[test]
    fn a_client_cannot_choose_its_origin() {
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
