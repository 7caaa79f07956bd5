//! The Atlas Administration API, v2 and its v1.0 twins: `/api/atlas/…`. Source: the OpenAPI description, and recorded
//! traffic where the two differ.

mod archives;
mod clouds;
mod cluster_request;
mod clusters;
mod errors;
mod named_strings;
mod orgs;
mod process_args;
mod profile;
mod project;
mod serverless;
mod services;
mod users;
mod v1;

use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::errors::AtlasError;
use super::ApiState;
use super::call::{Call, Reply, bytes};
use super::openapi::query;
use crate::model::ProjectId;

/// The version of the media type if the request names none.
const DEFAULT_VERSION: &str = "2023-01-01";

/// The preview version of the media type.
const PREVIEW: &str = "preview";

/// A status and a body.
type AtlasResult = Result<(StatusCode, Value), AtlasError>;

/// A request for a project.
struct AtlasRequest<'a> {
    shared: &'a ApiState,
    call: &'a Call,
    project: ProjectId,
}

impl AtlasRequest<'_> {
    /// Parses the body; an invalid one is the client's error.
    fn body<T: DeserializeOwned>(&self) -> Result<T, AtlasError> {
        body(self.call)
    }

    /// Whether the request is for the first version of the API.
    fn is_v1(&self) -> bool {
        is_v1(self.call)
    }

    /// A page of a list in Atlas' envelope.
    fn page(&self, all: Vec<Value>) -> Value {
        page(self.call, all)
    }
}

/// A page of a list in Atlas' envelope.
fn page(call: &Call, all: Vec<Value>) -> Value {
    let (page, size) = page_number_and_size(call);
    let total = all.len();
    let results = slice(call, all);
    let links = json!([{ "href": format!("{}?pageNum={page}&itemsPerPage={size}", call.path), "rel": "self" }]);
    if matches!(call.query("includeCount"), Some("false" | "0")) {
        return json!({ "links": links, "results": results });
    }
    json!({ "links": links, "results": results, "totalCount": total })
}

/// `pageNum` and `itemsPerPage`, already validated by [`check_query`].
fn page_number_and_size(call: &Call) -> (usize, usize) {
    let number = |name: &str, default: usize| call.query(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    (number("pageNum", 1), number("itemsPerPage", 100))
}

/// The requested part of a list.
fn slice(call: &Call, all: Vec<Value>) -> Vec<Value> {
    let (page, size) = page_number_and_size(call);
    all.into_iter().skip((page - 1).saturating_mul(size)).take(size).collect()
}

/// Parses a body as JSON; an empty one is `{}`. Fields that `T` does not have, at any depth, are refused, so that no
/// part of a request is silently ignored.
fn body<T: DeserializeOwned>(call: &Call) -> Result<T, AtlasError> {
    let (body, unknown) = call.json_with_unknown().map_err(|error| AtlasError::body_error(&error))?;
    if unknown.is_empty() { Ok(body) } else { Err(AtlasError::unknown(unknown)) }
}

fn is_v1(call: &Call) -> bool {
    call.segments.iter().skip_while(|part| *part != "atlas").nth(1).is_some_and(|version| version.starts_with("v1."))
}

/// The response to an unknown route.
pub(super) fn unknown(call: &Call, allowed: &str) -> Reply {
    let refusal = if allowed.is_empty() { AtlasError::no_resource(call) } else { AtlasError::method(call) };
    let (status, body) = refusal.body();
    reply(call, status, body)
}

/// The caller's address, as in `/api/private/ipinfo`.
pub(super) fn ip_info(call: &Call) -> Value {
    json!({ "currentIpv4Address": call.from.ip().to_canonical() })
}

/// The response to a source with too many wrong attempts.
pub(super) fn too_many(call: &Call) -> Reply {
    let detail = "Too many wrong attempts; wait a minute.";
    let (status, body) = AtlasError::new(429, "RATE_LIMITED", detail).body();
    reply(call, status, body)
}

/// Handles a request for the route `template`.
pub(super) async fn answer(shared: &Arc<ApiState>, call: &Call, template: &str) -> Reply {
    let outcome = match check_query(call, template) {
        Ok(()) => act(shared, call).await,
        Err(refusal) => Err(refusal),
    };
    let (status, mut body) = outcome.unwrap_or_else(|refusal| refusal.body());
    // Lists without an envelope accept the parameters of pages too, which clients send.
    if let Value::Array(all) = &mut body
        && (call.query("pageNum").is_some() || call.query("itemsPerPage").is_some())
    {
        *all = slice(call, std::mem::take(all));
    }
    reply(call, status, body)
}

/// Refuses unknown query parameters, and invalid values.
fn check_query(call: &Call, template: &str) -> Result<(), AtlasError> {
    let known = query(template, &call.method);
    for (name, value) in &call.query {
        let fits = known.contains(&name.as_str())
            && match name.as_str() {
                "pageNum" => value.parse::<usize>().is_ok_and(|number| number >= 1),
                "itemsPerPage" => value.parse().is_ok_and(|number: usize| (1..=500).contains(&number)),
                "envelope" | "pretty" | "includeCount" => matches!(value.as_str(), "true" | "false" | "1" | "0"),
                _ => true,
            };
        if !fits {
            let detail = format!("Invalid query parameter {name} specified.");
            return Err(AtlasError::new(400, "INVALID_QUERY_PARAMETER", detail).with([name]));
        }
        // Clusters have no backups, and projects no owners.
        if name == "projectOwnerId" || name == "retainBackups" && value != "false" {
            return Err(cluster_request::unsupported(name, "leave it out"));
        }
    }
    Ok(())
}

async fn act(shared: &ApiState, call: &Call) -> AtlasResult {
    let segments = call.segments();
    let rest = segments.get(2..).unwrap_or_default();
    let (id, rest) = match (&call.method, rest) {
        (&Method::GET, ["groups"]) => return Ok(project::list(shared, call)),
        (&Method::POST, ["groups"]) => return project::create(shared, call).await,
        (&Method::GET, ["groups", "byName", name]) => return project::by_name(shared, name),
        (_, ["groups", id, rest @ ..]) => (*id, rest),
        (&Method::GET, ["orgs" | "clusters", ..]) => return orgs::answer(shared, call, rest),
        _ => return Err(AtlasError::no_resource(call)),
    };
    let parse = |_| AtlasError::path(call, "groupId", id);
    let project: ProjectId = id.parse().map_err(parse)?;
    if !shared.control.inventory().projects.contains_key(&project) {
        return Err(AtlasError::no_group(id));
    }
    let request = AtlasRequest { shared, call, project };
    match (&call.method, rest) {
        (&Method::GET, []) => Ok(project::describe(&request)),
        (&Method::PATCH, []) => project::change(&request).await,
        (&Method::DELETE, []) => project::delete(&request).await,
        (_, ["privateEndpoint", "regionalMode"]) => project::regional_mode(&request).await,
        (_, ["privateEndpoint", "serverless", "instance", name, "endpoint", rest @ ..]) => {
            serverless::endpoints(&request, name, rest).await
        }
        (_, ["privateEndpoint", rest @ ..]) if v1::is_first_version_call(rest) => v1::answer(&request, rest).await,
        (_, ["privateEndpoint", rest @ ..]) => services::answer(&request, rest).await,
        (_, ["privateNetworkSettings", "endpointIds", rest @ ..]) => archives::answer(&request, rest).await,
        (_, ["serverless", rest @ ..]) => serverless::instances(&request, rest).await,
        (_, ["clusters", name, "privateEndpointConnectionStrings", rest @ ..]) => {
            named_strings::answer(&request, name, rest).await
        }
        (_, ["clusters", rest @ ..]) => clusters::answer(&request, rest).await,
        (_, ["limits", rest @ ..]) => project::limits(&request, rest).await,
        (_, ["accessList", rest @ ..]) => project::access_list(&request, rest).await,
        // The first version's older name of the same resource.
        (_, ["whitelist", rest @ ..]) if request.is_v1() => project::access_list(&request, rest).await,
        (_, ["databaseUsers", rest @ ..]) => users::answer(&request, rest).await,
        (
            _,
            [
                "settings" | "managedSlowMs" | "teams" | "users" | "ipAddresses" | "containers" | "flexClusters"
                | "alerts",
                ..,
            ],
        ) => profile::answer(&request, rest).await,
        _ => Err(AtlasError::no_resource(call)),
    }
}

fn reply(call: &Call, status: StatusCode, body: Value) -> Reply {
    if status == StatusCode::NO_CONTENT {
        return super::call::empty(status);
    }
    let asked = |name: &str| matches!(call.query(name), Some("true" | "1"));
    let (status, body) = if asked("envelope") {
        (StatusCode::OK, json!({ "status": status.as_u16(), "content": body }))
    } else {
        (status, body)
    };
    let text = if asked("pretty") { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
    let text = text.unwrap_or_else(|_| "{}".to_owned());
    bytes(status, &content_type(call), text)
}

/// The media type of the response: the requested version, or plain JSON on v1.0.
fn content_type(call: &Call) -> String {
    if is_v1(call) {
        return "application/json;charset=utf-8".to_owned();
    }
    let is_date = |text: &str| text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let version = asked_version(call).filter(|version| is_date(version) || *version == PREVIEW);
    format!("application/vnd.atlas.{}+json;charset=utf-8", version.unwrap_or(DEFAULT_VERSION))
}

/// The version in `Accept`, if there is one: a date or [`PREVIEW`].
fn asked_version(call: &Call) -> Option<&str> {
    let (_, rest) = call.header("accept")?.split_once("application/vnd.atlas.")?;
    rest.split('+').next()
}
