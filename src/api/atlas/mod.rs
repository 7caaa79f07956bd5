//! The Atlas Administration API, v2 and its v1.0 twins: `/api/atlas/…`. Source: the OpenAPI description, and recorded
//! traffic where the two differ.

mod clusters;
mod errors;
mod project;
mod services;

use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::errors::Refusal;
use super::Shared;
use super::call::{Call, Reply, bytes};
use crate::model::ProjectId;

/// The version of the media type when the request names none.
const DEFAULT_VERSION: &str = "2023-01-01";

/// A status and a body.
type Outcome = Result<(StatusCode, Value), Refusal>;

/// One request about one project.
struct Request<'a> {
    shared: &'a Shared,
    call: &'a Call,
    project: ProjectId,
}

impl Request<'_> {
    /// The body; what is wrong with it is the caller's error.
    fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        self.call.json().map_err(|message| Refusal::new(400, "INVALID_JSON", message))
    }

    /// A page of a list, as Atlas wraps it.
    fn page(&self, all: Vec<Value>) -> Value {
        let number = |name: &str, default: usize, most: usize| {
            let wanted = self.call.query(name).and_then(|text| text.parse().ok());
            wanted.unwrap_or(default).clamp(1, most)
        };
        let (page, size) = (number("pageNum", 1, usize::MAX / 1000), number("itemsPerPage", 100, 500));
        let total = all.len();
        let results: Vec<Value> = all.into_iter().skip((page - 1) * size).take(size).collect();
        let links =
            json!([{ "href": format!("{}?pageNum={page}&itemsPerPage={size}", self.call.path), "rel": "self" }]);
        json!({ "links": links, "results": results, "totalCount": total })
    }
}

pub(super) async fn answer(shared: &Arc<Shared>, call: &Call) -> Reply {
    let outcome = act(shared, call).await;
    let (status, body) = outcome.unwrap_or_else(|refusal| refusal.body());
    reply(call, status, body)
}

async fn act(shared: &Shared, call: &Call) -> Outcome {
    let segments = call.segments();
    let path = match segments.get(2..) {
        Some(["groups"]) if call.method == Method::GET => return Ok(project::list(shared, call)),
        Some(["groups", id, rest @ ..]) => (*id, rest),
        _ => return Err(Refusal::no_resource(call)),
    };
    let (id, rest) = path;
    let parse = |_| Refusal::path(call, "groupId", id);
    let project: ProjectId = id.parse().map_err(parse)?;
    if !shared.control.inventory().projects.contains_key(&project) {
        return Err(Refusal::no_group(id));
    }
    let request = Request { shared, call, project };
    match (&call.method, rest) {
        (&Method::GET, []) => Ok(project::describe(&request)),
        (_, ["privateEndpoint", "regionalMode"]) => project::regional_mode(&request).await,
        (_, ["privateEndpoint", rest @ ..]) => services::answer(&request, rest).await,
        (_, ["clusters", rest @ ..]) => clusters::answer(&request, rest).await,
        (_, ["limits", rest @ ..]) => project::limits(&request, rest).await,
        (_, ["accessList", rest @ ..]) => project::access_list(&request, rest).await,
        _ => Err(Refusal::no_resource(call)),
    }
}

fn reply(call: &Call, status: StatusCode, body: Value) -> Reply {
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

/// The media type of the answer: the version that was asked for, or plain JSON on v1.0.
fn content_type(call: &Call) -> String {
    if call.segments.get(1).is_some_and(|version| version == "v1.0") {
        return "application/json;charset=utf-8".to_owned();
    }
    let version = call.header("accept").and_then(|accept| {
        let (_, rest) = accept.split_once("application/vnd.atlas.")?;
        let date = rest.split('+').next()?;
        let fits = date.len() == 10 && date.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        fits.then(|| date.to_owned())
    });
    format!("application/vnd.atlas.{}+json;charset=utf-8", version.unwrap_or_else(|| DEFAULT_VERSION.to_owned()))
}
