//! Rewrites the response to the location call, so that it leads back through the gateway. Pure.
//!
//! An SDK first calls `…/app/{app}/location` and uses the host names of the response from then on. A backend returns
//! its own names; the client gets the names that it used instead, so it stays on the private path. Source:
//! `realm-core`, `object-store/sync/app.cpp`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::path::{PathClass, Route};
use crate::model::DnsName;

/// Maximum size of a response that is rewritten; a real one has about 200 bytes.
pub(crate) const MAX_REWRITTEN_SIZE: usize = 64 << 10;

const DOMAIN: &str = "services.cloud.mongodb.com";

/// Whether a path is an app's location call.
pub(crate) fn is_location(path: &str, route: &Route<'_>) -> bool {
    let last = path.strip_suffix("/location").or_else(|| path.strip_suffix("/location/"));
    route.class == PathClass::ClientHttp
        && route.app.is_some_and(|app| last.and_then(|rest| rest.strip_suffix(app)).is_some_and(|r| r.ends_with('/')))
}

/// The response with the names that the client used: `host` (without port) and `authority` (with the port, if it had
/// one). `hosts` are the app's names. `None` when it is not a response to a location call.
pub(crate) fn rewrite(answer: &[u8], host: &str, authority: &str, hosts: &BTreeSet<DnsName>) -> Option<Vec<u8>> {
    let mut answer: Map<String, Value> = serde_json::from_slice(answer).ok()?;
    let port = authority.strip_prefix(host).unwrap_or_default();
    let mut put = |field: &str, replace: &dyn Fn(&str) -> String| {
        if let Some(Value::String(url)) = answer.get_mut(field) {
            *url = replace(url);
        }
    };
    let websocket = |url: &str| format!("wss://{}{port}", websocket_host(url, host, hosts));
    put("hostname", &|_| format!("https://{authority}"));
    put("ws_hostname", &websocket);
    put("sync_route", &|url| {
        let path = after_authority(url);
        format!("{}{path}", websocket(url))
    });
    serde_json::to_vec(&answer).ok()
}

/// The backend's spelling, if it is one of the app's; otherwise the one that SDKs derive themselves.
fn websocket_host(url: &str, host: &str, hosts: &BTreeSet<DnsName>) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let named = authority.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let is_websocket = |name: &str| name.starts_with("ws.") || name.contains(".ws.");
    if is_websocket(&named) && hosts.contains(named.as_str()) {
        return named;
    }
    match host.strip_suffix(DOMAIN) {
        Some(front) if !is_websocket(host) => format!("{front}ws.{DOMAIN}"),
        _ => host.to_owned(),
    }
}

fn after_authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |at| &rest[at..])
}

/// The URL that replaces a redirect to the backend itself; `None` for a redirect to elsewhere.
pub(crate) fn redirect(location: &str, backend: &str, authority: &str) -> Option<String> {
    let rest = location.strip_prefix("http://").or_else(|| location.strip_prefix("https://"))?;
    let path = rest.strip_prefix(backend)?;
    (path.is_empty() || path.starts_with(['/', '?'])).then(|| format!("https://{authority}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "us-east-1.aws.services.cloud.mongodb.com";
    const SDK: &str = "us-east-1.aws.ws.services.cloud.mongodb.com";
    const DOCS: &str = "ws.us-east-1.aws.services.cloud.mongodb.com";

    fn told(answer: &str, authority: &str) -> Value {
        let hosts = [HOST, SDK, DOCS].iter().map(|name| name.parse().expect("a name")).collect();
        let answer = rewrite(answer.as_bytes(), HOST, authority, &hosts).expect("rewritten");
        serde_json::from_slice(&answer).expect("JSON")
    }

    /// B14.
    #[test]
    fn an_sdk_gets_the_names_that_it_used() {
        let backend = r#"{"deployment_model":"LOCAL","location":"US-VA","hostname":"http://127.1.0.31:9080",
            "ws_hostname":"ws://127.1.0.31:9080","sync_route":"ws://127.1.0.31:9080/api/client/v2.0/app/a-aaaaa/realm-sync"}"#;
        let told = told(backend, &format!("{HOST}:8443"));
        assert_eq!(told["hostname"], format!("https://{HOST}:8443"));
        assert_eq!(told["ws_hostname"], format!("wss://{SDK}:8443"));
        assert_eq!(told["sync_route"], format!("wss://{SDK}:8443/api/client/v2.0/app/a-aaaaa/realm-sync"));
        assert_eq!(told["location"], "US-VA");
    }

    /// B14.
    #[test]
    fn either_websocket_spelling_of_the_backend_is_kept() {
        for name in [SDK, DOCS] {
            let told = told(&format!(r#"{{"hostname":"https://x","ws_hostname":"wss://{name}"}}"#), HOST);
            assert_eq!(told["ws_hostname"], format!("wss://{name}"));
            assert_eq!(told["hostname"], format!("https://{HOST}"));
            assert!(told.get("sync_route").is_none(), "nothing is made up");
        }
    }

    #[test]
    fn responses_without_a_location_are_not_changed() {
        assert_eq!(rewrite(b"[1]", HOST, HOST, &BTreeSet::new()), None);
        assert_eq!(rewrite(b"<html>", HOST, HOST, &BTreeSet::new()), None);
    }

    #[test]
    fn a_redirect_to_the_backend_leads_back_through_the_gateway() {
        let told = |location| redirect(location, "127.1.0.31:9080", "a:8443");
        assert_eq!(told("http://127.1.0.31:9080/x?y").as_deref(), Some("https://a:8443/x?y"));
        assert_eq!(told("http://127.1.0.31:90801/x"), None);
        assert_eq!(told("/x"), None);
        assert_eq!(told("https://elsewhere/x"), None);
    }
}
