//! An operation of `/v1`: its route, its summary and its handler, whose types define the request and the response.

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{V1Error, V1Result, bad};
use crate::api::ApiState;
use crate::api::call::{Call, Reply, empty, json};

/// A request to an operation.
pub(super) struct OperationRequest {
    pub(super) shared: Arc<ApiState>,
    call: Call,
    template: &'static str,
}

impl OperationRequest {
    /// The value of the path parameter `{name}`.
    pub(super) fn part(&self, name: &str) -> &str {
        let mut parts = self.template.split('/').filter(|part| !part.is_empty()).zip(&self.call.segments);
        let found =
            parts.find(|(part, _)| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) == Some(name));
        found.map(|(_, text)| text).expect("a handler asks for what its own template has")
    }

    /// The first value of a query parameter.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.call.query(name)
    }
}

/// A response type of handlers.
pub(super) trait OperationResponse {
    const STATUS: StatusCode = StatusCode::OK;
    /// The schema of the body; `None`: there is no body.
    const SCHEMA: Option<fn(&mut SchemaGenerator) -> Schema>;
    fn reply(self) -> Reply;
}

impl<T: Serialize + JsonSchema> OperationResponse for T {
    const SCHEMA: Option<fn(&mut SchemaGenerator) -> Schema> = Some(SchemaGenerator::subschema_for::<T>);

    fn reply(self) -> Reply {
        json(Self::STATUS, &self)
    }
}

/// The response to a creation.
pub(super) struct Created<T>(pub(super) T);

impl<T: Serialize + JsonSchema> OperationResponse for Created<T> {
    const STATUS: StatusCode = StatusCode::CREATED;
    const SCHEMA: Option<fn(&mut SchemaGenerator) -> Schema> = Some(SchemaGenerator::subschema_for::<T>);

    fn reply(self) -> Reply {
        json(Self::STATUS, &self.0)
    }
}

/// The response without a body.
pub(super) struct NoContent;

impl OperationResponse for NoContent {
    const STATUS: StatusCode = StatusCode::NO_CONTENT;
    const SCHEMA: Option<fn(&mut SchemaGenerator) -> Schema> = None;

    fn reply(self) -> Reply {
        empty(Self::STATUS)
    }
}

type RouteHandler = Box<dyn Fn(OperationRequest) -> BoxFuture<'static, V1Result> + Send + Sync>;

/// An operation of `/v1`.
pub(in crate::api) struct Operation {
    pub(in crate::api) method: Method,
    pub(in crate::api) path: &'static str,
    /// Its name in the OpenAPI description.
    pub(in crate::api) id: &'static str,
    pub(in crate::api) summary: &'static str,
    /// The query parameters that it reads.
    pub(in crate::api) query: &'static [&'static str],
    /// The status codes of its refusals, besides those that every operation has.
    pub(in crate::api) refusals: &'static [u16],
    pub(in crate::api) body: Option<fn(&mut SchemaGenerator) -> Schema>,
    pub(in crate::api) status: StatusCode,
    pub(in crate::api) answer: Option<fn(&mut SchemaGenerator) -> Schema>,
    handler: RouteHandler,
}

impl Operation {
    /// An operation without a request body.
    pub(super) fn new<A, F>(
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: fn(OperationRequest) -> F,
    ) -> Self
    where
        A: OperationResponse,
        F: Future<Output = Result<A, V1Error>> + Send + 'static,
    {
        let handler: RouteHandler =
            Box::new(move |request| handler(request).map(|answer| answer.map(A::reply)).boxed());
        let refusals: &[u16] = if method == Method::GET { &[400] } else { &[400, 404, 409, 503] };
        let (status, answer) = (A::STATUS, A::SCHEMA);
        Self { method, path, id, summary, query: &[], refusals, body: None, status, answer, handler }
    }

    /// An operation with a request body.
    pub(super) fn with_body<B, A, F>(
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: fn(OperationRequest, B) -> F,
    ) -> Self
    where
        B: DeserializeOwned + JsonSchema + 'static,
        A: OperationResponse + 'static,
        F: Future<Output = Result<A, V1Error>> + Send + 'static,
    {
        let parse: RouteHandler = Box::new(move |request| match request.call.json::<B>() {
            Ok(body) => handler(request, body).map(|answer| answer.map(A::reply)).boxed(),
            Err(problem) => std::future::ready(Err(bad(problem))).boxed(),
        });
        let (body, status, answer) =
            (Some(SchemaGenerator::subschema_for::<B> as fn(&mut _) -> _), A::STATUS, A::SCHEMA);
        let refusals = &[400, 404, 409, 503];
        Self { method, path, id, summary, query: &[], refusals, body, status, answer, handler: parse }
    }

    /// Sets the query parameters that it reads.
    pub(super) fn query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }

    /// Sets the status codes of its refusals, if they differ from the default.
    pub(super) fn refusals(self, refusals: &'static [u16]) -> Self {
        Self { refusals, ..self }
    }

    pub(super) async fn answer(&self, shared: &Arc<ApiState>, call: &Call) -> V1Result {
        if let Some((name, _)) = call.query.iter().find(|(name, _)| !self.query.contains(&name.as_str())) {
            let known =
                if self.query.is_empty() { "none".to_owned() } else { format!("`{}`", self.query.join("`, `")) };
            return Err(bad(format!("there is no query parameter `{name}` here; there is: {known}")));
        }
        let names = || call.query.iter().map(|(name, _)| name);
        if let Some(name) = names().enumerate().find_map(|(n, name)| names().take(n).find(|other| *other == name)) {
            return Err(bad(format!("the query parameter `{name}` is given twice; write it once")));
        }
        // The body of a GET has no meaning (RFC 9110 §9.3.1).
        let has_no_body = self.body.is_none() && self.method != Method::GET;
        if has_no_body && call.json::<Map<String, Value>>().ok().is_none_or(|body| !body.is_empty()) {
            return Err(bad("this operation has no body; leave it empty".to_owned()));
        }
        let request = OperationRequest { shared: Arc::clone(shared), call: call.clone(), template: self.path };
        (self.handler)(request).await
    }
}
