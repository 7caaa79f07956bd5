//! The console: a web page over `/v1`, compiled into the binary, without a build step or external resources.
//!
//! The files are the same for every client and contain no data of the gateway: the page requests it from `/v1`, with
//! the token that its user enters. So the files need no credentials.

use std::sync::LazyLock;

use hyper::header::{ALLOW, CACHE_CONTROL, ETAG, HeaderName, IF_NONE_MATCH};
use hyper::{Method, StatusCode};
use ring::digest::{SHA256, digest};

use super::call::{Call, Reply, bytes, empty, problem, set};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The page may run and show only its own files and request `/v1`. No inline script or style, no text that becomes
/// markup (Trusted Types), no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// The headers of every file: the policy, and equivalents of its parts for older browsers.
const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), clipboard-write=(self)"),
];

/// A file of the page.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset { name: $name, content_type: $content_type, text: include_str!($name) }
    };
}

/// The first one is the page itself.
static ASSETS: &[Asset] = &[
    asset!("index.html", HTML),
    asset!("console.css", CSS),
    asset!("icon.svg", SVG),
    asset!("theme.js", JS),
    asset!("main.js", JS),
    asset!("v1.js", JS),
    asset!("dom.js", JS),
    asset!("format.js", JS),
    asset!("sparkline.js", JS),
    asset!("notices.js", JS),
    asset!("overview.js", JS),
    asset!("endpoints.js", JS),
    asset!("targets.js", JS),
    asset!("strings.js", JS),
    asset!("apps.js", JS),
    asset!("table.js", JS),
    asset!("topology.js", JS),
    asset!("events.js", JS),
    asset!("standins.js", JS),
    asset!("flows.js", JS),
    asset!("faults.js", JS),
    asset!("zones.js", JS),
    asset!("gateways.js", JS),
    asset!("limits.js", JS),
];

/// Entity tags of [`ASSETS`], derived from their content.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |asset: &Asset| format!("\"{}\"", hex::encode(&digest(&SHA256, asset.text.as_bytes()).as_ref()[..12]));
    ASSETS.iter().map(tag).collect()
});

/// Whether a request is for the page or one of its files. `POST /` and `GET /?Action=…` are EC2's.
pub(super) fn is_for(call: &Call) -> bool {
    match call.segments().as_slice() {
        [] => matches!(call.method, Method::GET | Method::HEAD) && call.query("Action").is_none(),
        ["console", ..] => true,
        _ => false,
    }
}

pub(super) fn answer(call: &Call) -> Reply {
    let name = match call.segments().as_slice() {
        [] | ["console"] => "index.html",
        ["console", name] => name,
        _ => "",
    };
    let Some(at) = ASSETS.iter().position(|asset| asset.name == name) else {
        return problem(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at `{}`", call.path));
    };
    if !matches!(call.method, Method::GET | Method::HEAD) {
        let mut reply = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "use GET, HEAD here");
        set(&mut reply, ALLOW, "GET, HEAD");
        return reply;
    }
    let (asset, tag) = (&ASSETS[at], &TAGS[at]);
    let mut reply = if is_known(call, tag) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        bytes(StatusCode::OK, asset.content_type, asset.text)
    };
    // Cached but always revalidated, so that after an upgrade no file is older than the others.
    set(&mut reply, CACHE_CONTROL, "no-cache");
    set(&mut reply, ETAG, tag);
    for (name, value) in HEADERS {
        set(&mut reply, HeaderName::from_static(name), value);
    }
    reply
}

/// Whether the client already has the file with this tag (RFC 9110, 13.1.2: weak comparison).
fn is_known(call: &Call, tag: &str) -> bool {
    let known = call.headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|tags| tags.split(',')).map(str::trim).any(|known| {
        let known = known.strip_prefix("W/").unwrap_or(known);
        known == "*" || known == tag
    })
}

#[cfg(test)]
mod tests;
