//! Which front a request is for, by its path.

use std::sync::Arc;

use hyper::{Method, StatusCode};

use super::Shared;
use super::call::{Call, Reply, problem};
use super::{ec2, v1};

pub(super) async fn route(shared: &Arc<Shared>, call: Call) -> Reply {
    let (front, reply) = match call.segments.first().map(String::as_str) {
        Some("v1") => ("v1", v1::answer(shared, &call).await),
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
