//! Routes a request to an API by its path.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::ALLOW;

use super::ApiState;
use super::auth::Scheme;
use super::call::{Call, Reply, bytes, empty, json, problem, set};
use super::openapi::DESCRIPTION;
use super::{appservices, atlas, console, ec2, oauth, routes, v1};

pub(super) async fn route(shared: &Arc<ApiState>, mut call: Call) -> Reply {
    if let Some(scheme) = scheme(&call)
        && let Some(reply) = shared.auth.check(&call, scheme, &shared.sessions)
    {
        shared.metrics.answered("unauthorized", reply.status());
        return reply;
    }
    let known = routes::check(&call);
    let (front, reply) = match call.segments.first().map(String::as_str) {
        Some("v1") => ("v1", if known.is_ok() { v1::answer(shared, &call).await } else { missing(&call, &known) }),
        Some("api") if below(&call, &["atlas"]) => {
            let trimmed = Call { segments: call.segments[1..].to_vec(), ..call };
            let reply = match &known {
                Ok(template) => atlas::answer(shared, &trimmed, template).await,
                Err(allowed) => atlas::unknown(&trimmed, allowed),
            };
            call = trimmed;
            ("atlas", reply)
        }
        Some("api") if below(&call, &["admin", "v3.0"]) => {
            let reply = match &known {
                Ok(template) => appservices::answer(shared, &call, template).await,
                Err(allowed) => appservices::unknown(&call, allowed),
            };
            ("app_services", reply)
        }
        Some("api") if below(&call, &["oauth"]) && known.is_ok() => ("oauth", oauth::answer(shared, &call)),
        // The caller's address, for its entry in an access list.
        Some("api") if below(&call, &["private", "ipinfo"]) => match &known {
            Ok(_) => ("atlas", json(StatusCode::OK, &atlas::ip_info(&call))),
            Err(_) => ("none", missing(&call, &known)),
        },
        // Usage telemetry of the `atlas` command line: accepted and discarded, so that the command does not retry.
        Some("api") if below(&call, &["private"]) => ("telemetry", empty(StatusCode::NO_CONTENT)),
        Some("console") | None if console::is_for(&call) => ("console", console::answer(&call)),
        Some("openapi.json") if known.is_ok() => {
            ("openapi", bytes(StatusCode::OK, "application/json", DESCRIPTION.clone()))
        }
        None if known.is_ok() => ("ec2", ec2::answer(shared, &call).await),
        _ => ("none", missing(&call, &known)),
    };
    let reply = allow(reply, &known);
    tracing::info!(
        target: "admin",
        {
            client.addr = %call.from,
            client.agent = call.header("user-agent").unwrap_or_default(),
            front,
            method = %call.method,
            path = call.path,
            status = reply.status().as_u16(),
        },
        "request answered"
    );
    shared.metrics.answered(front, reply.status());
    reply
}

/// The response for a path of no API.
fn missing(call: &Call, known: &Result<&str, String>) -> Reply {
    match known {
        Err(allowed) if !allowed.is_empty() => {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("use {allowed} here"))
        }
        _ => problem(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at `{}`", call.path)),
    }
}

/// Adds the `Allow` header to a 405. Source: RFC 9110, section 15.5.6.
fn allow(mut reply: Reply, known: &Result<&str, String>) -> Reply {
    if let (StatusCode::METHOD_NOT_ALLOWED, Err(allowed)) = (reply.status(), known)
        && !reply.headers().contains_key(ALLOW)
        && !allowed.is_empty()
    {
        set(&mut reply, ALLOW, allowed);
    }
    reply
}

/// Whether the path below `api` starts with these segments. Routing and authentication both use this function: two
/// interpretations of a path could bypass the check.
fn below(call: &Call, parts: &[&str]) -> bool {
    call.segments.get(1..=parts.len()).is_some_and(|segments| segments.iter().eq(parts))
}

/// The authentication scheme of a request; `None` if its API authenticates itself.
fn scheme(call: &Call) -> Option<Scheme> {
    match call.segments.first().map(String::as_str) {
        // The console is a static page; it requests its data from `/v1` with the token.
        Some("console") | None if console::is_for(call) => None,
        None => Some(Scheme::Signature),
        // By the segments that `route` uses: `/api//atlas` and `/api/%61tlas` are this API too.
        Some("api") if below(call, &["atlas"]) => Some(Scheme::Atlas),
        // It reveals only what is in the sources.
        Some("openapi.json") => None,
        Some("api") => None,
        Some(_) => Some(Scheme::Token),
    }
}
