//! Which front a request is for, by its path.

use std::sync::Arc;

use hyper::{Method, StatusCode};

use super::Shared;
use super::auth::Scheme;
use super::call::{Call, Reply, empty, problem};
use super::{appservices, atlas, console, ec2, oauth, v1};

pub(super) async fn route(shared: &Arc<Shared>, mut call: Call) -> Reply {
    if let Some(scheme) = scheme(&call)
        && let Some(reply) = shared.auth.check(&call, scheme, &shared.sessions)
    {
        shared.metrics.answered("unauthorized", reply.status());
        return reply;
    }
    let (front, reply) = match call.segments.first().map(String::as_str) {
        Some("v1") => ("v1", v1::answer(shared, &call).await),
        Some("api") if call.segments.get(1).is_some_and(|part| part == "atlas") => {
            let trimmed = Call { segments: call.segments[1..].to_vec(), ..call };
            let reply = atlas::answer(shared, &trimmed).await;
            call = trimmed;
            ("atlas", reply)
        }
        Some("api") if call.path.starts_with("/api/admin/v3.0/") => {
            ("app_services", appservices::answer(shared, &call).await)
        }
        Some("api") if call.path.starts_with("/api/oauth/") => ("oauth", oauth::answer(shared, &call)),
        // What the `atlas` command says of its own use; nobody wants it here.
        Some("api") if call.path.starts_with("/api/private/") => ("telemetry", empty(StatusCode::NO_CONTENT)),
        Some("console") | None if console::is_for(&call) => ("console", console::answer(&call)),
        None if call.method == Method::POST => ("ec2", ec2::answer(shared, &call).await),
        _ => ("none", problem(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at `{}`", call.path))),
    };
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

/// How a request's front checks who asks; `None` where the front does so itself.
fn scheme(call: &Call) -> Option<Scheme> {
    match call.segments.first().map(String::as_str) {
        // A page without anything of the gateway's in it: what it shows it asks `/v1` for, with the token.
        Some("console") | None if console::is_for(call) => None,
        None => Some(Scheme::Signature),
        Some("api") if call.path.starts_with("/api/atlas/") => Some(Scheme::Atlas),
        Some("api") => None,
        Some(_) => Some(Scheme::Token),
    }
}
