//! The admin listener's connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::call::{Call, Reply, finish, pairs, problem, segments};
use super::guard;
use super::route::route;

/// How long a client may take to send a request's head, or to send the next one on a kept connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take to send a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a request's body. The largest request there is, a cluster with a hundred nodes, needs a third of it.
pub(super) const BODY_LIMIT: usize = 64 * 1024;

/// Bytes of a request's head, with its query.
const HEAD_LIMIT: usize = 32 * 1024;

/// How long an answer that is under way may take once the process stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Connections at once: a hundred parallel writers fit; one above it is closed unanswered.
const CONNECTION_LIMIT: usize = 256;

/// First and longest wait after a failed accept (no descriptor left, most likely).
const ACCEPT_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    let connections = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    let tasks = TaskTracker::new();
    let mut wait = ACCEPT_WAIT.0;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                wait = ACCEPT_WAIT.0;
                admit(&shared, &connections, &tasks, stream, from, &stop);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, wait_ms = wait.as_millis(), "admin: cannot accept");
                let _ = stop.run_until_cancelled(sleep(wait)).await;
                wait = (wait * 2).min(ACCEPT_WAIT.1);
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Whether an accept failed for the connection alone, which is over then.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Whether nothing may be answered to `from`.
fn is_service_side(shared: &Shared, from: SocketAddr) -> bool {
    shared.control.snapshot().service_side.contains(from.ip().to_canonical())
}

/// Why a connection ends without an answer: its source lies on the service's side by now.
#[derive(Debug, thiserror::Error)]
#[error("the source lies on the service's side")]
struct OneWay;

fn admit(
    shared: &Arc<Shared>,
    connections: &Arc<Semaphore>,
    tasks: &TaskTracker,
    stream: TcpStream,
    from: SocketAddr,
    stop: &CancellationToken,
) {
    if is_service_side(shared, from) {
        shared.metrics.refused_source.increment(1);
        tracing::debug!(client.addr = %from, "admin: connection from the service's side refused");
        return;
    }
    let Ok(permit) = Arc::clone(connections).try_acquire_owned() else {
        shared.metrics.refused_limit.increment(1);
        tracing::debug!(client.addr = %from, "admin: connection above the limit refused");
        return;
    };
    let Ok(local) = stream.local_addr() else { return };
    let (shared, stop) = (Arc::clone(shared), stop.clone());
    tasks.spawn(async move {
        serve_connection(stream, shared, from, local.ip(), stop).await;
        drop(permit);
    });
}

async fn serve_connection(
    stream: TcpStream,
    shared: Arc<Shared>,
    from: SocketAddr,
    local: IpAddr,
    stop: CancellationToken,
) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            // Asked again for each request: a reload may have put the source of a kept connection there.
            if is_service_side(&shared, from) { Err(OneWay) } else { Ok(answer(&shared, request, from, local).await) }
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_LIMIT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = sleep(STOP_GRACE) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin: connection ended early");
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>, from: SocketAddr, local: IpAddr) -> Reply {
    if let Err(suspicion) = guard::check(request.headers(), local) {
        tracing::warn!(client.addr = %from, reason = %suspicion, "admin: request refused");
        shared.metrics.answered("refused", StatusCode::FORBIDDEN);
        return finish(problem(StatusCode::FORBIDDEN, "forbidden", suspicion.to_string()));
    }
    match read(request, from).await {
        Ok(call) => finish(route(shared, call).await),
        Err((status, code, message)) => {
            shared.metrics.answered("refused", status);
            finish(problem(status, code, message))
        }
    }
}

/// Reads a request whole.
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
        segments: segments(&path),
        path,
        query: pairs(head.uri.query().unwrap_or_default().as_bytes()),
        headers: head.headers,
        body,
        from,
    })
}
