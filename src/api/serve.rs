//! Serves the admin listener: reads each request and routes it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio::time::timeout;

use super::ApiState;
use super::call::{Call, Reply, finish, pairs, problem, segments};
use super::route::route;
use crate::http::{ConnectionRefusal, Hosts, RejectedRequest, Site};

/// Time limit for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a request's body. The largest real request, a cluster with a hundred nodes, needs a third of it.
pub(super) const BODY_LIMIT: usize = 64 * 1024;

impl Site for ApiState {
    const NAME: &'static str = "admin";

    /// Twice the number of a hundred parallel writers.
    const CONNECTION_LIMIT: usize = 256;

    const DESCRIPTOR_PART: usize = 16;

    const HOSTS: Hosts = Hosts::Own;

    fn is_service_side(&self, source: IpAddr) -> bool {
        self.control.snapshot().service_side.contains(source)
    }

    fn count_refused(&self, reason: ConnectionRefusal) {
        self.metrics.refused(reason);
    }

    fn forbidden(&self, rejected: RejectedRequest) -> Reply {
        self.metrics.answered("refused", StatusCode::FORBIDDEN);
        finish(problem(StatusCode::FORBIDDEN, "forbidden", rejected.to_string()))
    }

    /// Loopback, and sources that have recently sent correct credentials.
    fn is_trusted(&self, source: IpAddr) -> bool {
        source.is_loopback() || self.auth.is_known(source)
    }

    type Call = Call;

    async fn read(&self, request: Request<Incoming>, from: SocketAddr) -> Result<Call, Reply> {
        read(request, from).await.map_err(|(status, code, message)| {
            self.metrics.answered("refused", status);
            finish(problem(status, code, message))
        })
    }

    async fn answer(self: Arc<Self>, call: Call) -> Reply {
        finish(route(&self, call).await)
    }
}

/// Reads a request with its body.
async fn read(request: Request<Incoming>, from: SocketAddr) -> Result<Call, (StatusCode, &'static str, String)> {
    let (head, body) = request.into_parts();
    let body = match timeout(BODY_TIMEOUT, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is longer than {BODY_LIMIT} bytes");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
        }
        Ok(Err(_)) => return Err((StatusCode::BAD_REQUEST, "bad_request", "the body ended early".to_owned())),
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "too_slow", "the body took too long".to_owned())),
    };
    let path = head.uri.path().to_owned();
    Ok(Call {
        method: head.method,
        target: head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        segments: segments(&path),
        path,
        query: pairs(head.uri.query().unwrap_or_default().as_bytes()),
        headers: head.headers,
        body,
        from,
    })
}
