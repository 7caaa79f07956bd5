//! A request with its body, and responses.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_ignored::Path;

use super::unique_keys::UniqueKeys;
pub(super) use crate::http::Reply;

/// A request with its body.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The path and the query as sent.
    pub(super) target: String,
    /// The path as sent.
    pub(super) path: String,
    /// The path's segments, decoded.
    pub(super) segments: Vec<String>,
    /// The query's pairs, decoded.
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The client's address.
    pub(super) from: SocketAddr,
}

impl Call {
    /// The segments as `&str`, for matching.
    pub(super) fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// The first value of a query parameter.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Parses the body as JSON; an empty one is `{}`. An object with a duplicate key is refused.
    ///
    /// # Errors
    ///
    /// The parse error.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice::<UniqueKeys>(self.bytes())
            .and_then(|UniqueKeys| serde_json::from_slice(self.bytes()))
            .map_err(|error| format!("the body is not what is expected: {error}"))
    }

    /// Parses the body as JSON, an empty one as `{}`; also returns the paths (`endpoints[0].name`) of fields that `T`
    /// does not have, at any depth.
    pub(super) fn json_with_unknown<T: DeserializeOwned>(&self) -> Result<(T, Vec<String>), serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(self.bytes());
        let mut unknown = Vec::new();
        let body = serde_ignored::deserialize(&mut reader, |path| unknown.push(json_path(&path)))?;
        reader.end()?;
        Ok((body, unknown))
    }

    fn bytes(&self) -> &[u8] {
        if self.body.is_empty() { b"{}" } else { self.body.as_ref() }
    }
}

/// `replicationSpecs[0].regionConfigs`
fn json_path(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", json_path(parent)),
        Path::Map { parent, key } => match json_path(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => json_path(parent),
    }
}

/// The decoded segments of a path, without empty ones.
pub(super) fn segments(path: &str) -> Vec<String> {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts.map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
}

/// The pairs of a query string or a form.
pub(super) fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

/// A JSON response, ending in a newline for terminals.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    let mut text = serde_json::to_vec(body).expect("views have text keys and no failing serializers");
    text.push(b'\n');
    bytes(status, "application/json", text)
}

/// A response without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}

/// A response with this content type.
pub(super) fn bytes(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    set(&mut reply, CONTENT_TYPE, content_type);
    reply
}

/// Sets a header, unless the value is invalid in a header.
pub(super) fn set(reply: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

/// Adds the headers of every response: no content sniffing by browsers, and no caching unless the response allows it.
pub(super) fn finish(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    reply
}

/// An error of `/v1`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Problem<'a> {
    pub(super) code: &'a str,
    pub(super) message: String,
}

/// An error response of `/v1`.
pub(super) fn problem(status: StatusCode, code: &str, message: impl Into<String>) -> Reply {
    json(status, &Problem { code, message: message.into() })
}
