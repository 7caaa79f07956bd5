//! Calls of the first version for private endpoints on AWS, before other providers were supported; the deprecated
//! `atlas privateEndpoints create|list|…` commands still use them.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::services::{self, is_id};
use super::{AtlasError, AtlasRequest, AtlasResult};

/// Whether a path below `privateEndpoint` is one of these calls.
pub(super) fn is_first_version_call(rest: &[&str]) -> bool {
    match rest {
        [] => true,
        [id] | [id, "interfaceEndpoints", ..] => {
            !matches!(*id, "AWS" | "AZURE" | "GCP" | "endpointService" | "serverless")
        }
        _ => false,
    }
}

pub(super) async fn answer(request: &AtlasRequest<'_>, rest: &[&str]) -> AtlasResult {
    if !request.is_v1() {
        return Err(AtlasError::no_resource(request.call));
    }
    let of = |id: &str| if is_id(id) { Ok(()) } else { Err(AtlasError::path(request.call, "id", id)) };
    match (&request.call.method, rest) {
        (&Method::GET, []) => {
            let (status, list) = services::list(request);
            let all = list.as_array().cloned().unwrap_or_default();
            Ok((status, all.into_iter().map(old).collect()))
        }
        (&Method::POST, []) => services::create(request).await.map(|(status, body)| (status, old(body))),
        (&Method::GET, [id]) => {
            of(id)?;
            services::describe(request, id).map(|(status, body)| (status, old(body)))
        }
        (&Method::DELETE, [id]) => services::delete(request, id).await,
        (&Method::POST, [id, "interfaceEndpoints"]) => services::register(request, id).await.map(plain),
        (&Method::GET, [id, "interfaceEndpoints", endpoint]) => {
            services::describe_endpoint(request, id, endpoint).map(plain)
        }
        (&Method::DELETE, [id, "interfaceEndpoints", endpoint]) => services::unregister(request, id, endpoint).await,
        _ => Err(AtlasError::no_resource(request.call)),
    }
}

/// A service in the first version's format.
fn old(body: Value) -> Value {
    json!({
        "endpointServiceName": body["endpointServiceName"],
        "errorMessage": body["errorMessage"],
        "id": body["id"],
        "interfaceEndpoints": body["interfaceEndpoints"],
        "providerName": "AWS",
        "region": body["regionName"],
        "status": body["status"],
    })
}

/// An endpoint in the first version's format.
fn plain((status, mut body): (StatusCode, Value)) -> (StatusCode, Value) {
    if let Some(fields) = body.as_object_mut() {
        fields.remove("cloudProvider");
    }
    (status, body)
}
