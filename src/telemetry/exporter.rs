//! The HTTP page for machines: `/metrics`, `/healthz`, `/readyz`.
//!
//! It runs on control's runtime, so a scrape costs no flow, and stops last, so that a drain can be watched. What is ready
//! and what is well it asks through functions: the rooms that know are no business of this one.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::Counter;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::registry::{self, Metric, Registry};

/// How long a client may take to send a request's head. Scrapers send theirs at once; who doesn't holds a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be used: then it ends after the answer that is under way.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);

/// How long an answer that is under way may take once its connection is to end.
const CONNECTION_GRACE: Duration = Duration::from_secs(5);

/// Connections at once. A few scrapers, probes and people need no more; one above it is closed unanswered.
const CONNECTION_LIMIT: usize = 64;

/// First and longest wait after a failed accept (no descriptor left, most likely).
const ACCEPT_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

const REFUSED: Metric = Metric::new(
    "plgw_exporter_refused_connections_total",
    "Connections to the metrics port closed unanswered, by reason",
);
const REQUESTS: Metric =
    Metric::new("plgw_exporter_requests_total", "Requests to the metrics port, by path and status");

/// Whether a source may connect; the service's side may not (one-way).
pub type SourceFilter = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Asks a room how it is, at the moment of a request.
pub type StatusFn = Arc<dyn Fn() -> Status + Send + Sync>;

/// An answer of `/healthz` or `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// 200 or 503.
    pub ok: bool,
    /// The body, JSON.
    pub json: String,
}

impl Status {
    /// The status whose body is `body`.
    #[must_use]
    pub fn new(ok: bool, body: &impl Serialize) -> Self {
        let json = serde_json::to_string(body).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
        Self { ok, json }
    }
}

/// Serves one already bound listener.
pub struct Exporter {
    pages: Arc<Pages>,
    refused_source: Counter,
    refused_limit: Counter,
    connections: Arc<Semaphore>,
}

struct Pages {
    registry: Registry,
    healthy: StatusFn,
    ready: StatusFn,
    allowed: SourceFilter,
}

/// Why a connection ends without an answer: its source lies on the service's side by now.
#[derive(Debug, thiserror::Error)]
#[error("the source lies on the service's side")]
struct OneWay;

impl Exporter {
    /// An exporter of `registry` that asks `healthy` for `/healthz` and `ready` for `/readyz`, and lets sources in that
    /// `allowed` lets in.
    #[must_use]
    pub fn new(registry: Registry, healthy: StatusFn, ready: StatusFn, allowed: SourceFilter) -> Self {
        Self {
            refused_source: registry.counter(&REFUSED, &[("reason", "one_way")]),
            refused_limit: registry.counter(&REFUSED, &[("reason", "connection_limit")]),
            connections: Arc::new(Semaphore::new(CONNECTION_LIMIT)),
            pages: Arc::new(Pages { registry, healthy, ready, allowed }),
        }
    }

    /// Serves until `stop` is cancelled, then lets answers that are under way end.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
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
                    self.admit(&tasks, stream, from, &stop);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, wait_ms = wait.as_millis(), "metrics: cannot accept");
                    let _ = stop.run_until_cancelled(sleep(wait)).await;
                    wait = (wait * 2).min(ACCEPT_WAIT.1);
                }
            }
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
    }

    fn admit(&self, tasks: &TaskTracker, stream: TcpStream, from: SocketAddr, stop: &CancellationToken) {
        if !(self.pages.allowed)(from.ip().to_canonical()) {
            self.refused_source.increment(1);
            tracing::debug!(client.addr = %from, "metrics: connection from the service's side refused");
            return;
        }
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            self.refused_limit.increment(1);
            tracing::debug!(client.addr = %from, "metrics: connection above the limit refused");
            return;
        };
        let (pages, stop) = (Arc::clone(&self.pages), stop.clone());
        tasks.spawn(async move {
            serve_connection(stream, from, pages, stop).await;
            drop(permit);
        });
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

/// Whether an accept failed for the connection alone, which is over then.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

async fn serve_connection(stream: TcpStream, from: SocketAddr, pages: Arc<Pages>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        // Asked again for each request: a reload may have put the source of a kept connection on the service's side.
        let response = (pages.allowed)(from.ip().to_canonical()).then(|| pages.answer(&request)).ok_or(OneWay);
        async move { response }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { () = stop.cancelled() => {}, () = sleep(CONNECTION_LIFETIME) => {} } } => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = sleep(CONNECTION_GRACE) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "metrics: connection ended early");
    }
}

impl Pages {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        // Unknown paths share a label: whoever connects must not be able to make metrics.
        let path = match request.uri().path() {
            path @ ("/metrics" | "/healthz" | "/readyz") => path,
            _ => "other",
        };
        let response = match (path, request.method()) {
            ("other", _) => text(StatusCode::NOT_FOUND, "not found; there are /metrics, /healthz and /readyz\n"),
            (_, method) if method != Method::GET && method != Method::HEAD => {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            ("/metrics", _) => page(StatusCode::OK, registry::CONTENT_TYPE, self.registry.render()),
            ("/healthz", _) => status((self.healthy)()),
            _ => status((self.ready)()),
        };
        self.registry.counter(&REQUESTS, &[("path", path), ("status", response.status().as_str())]).increment(1);
        response
    }
}

fn status(status: Status) -> Response<Full<Bytes>> {
    let code = if status.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    page(code, "application/json", status.json + "\n")
}

fn text(code: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    page(code, "text/plain; charset=utf-8", body)
}

/// HTTP leaves the body of an answer to HEAD out by itself, and keeps its length.
fn page(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;

    struct Bench {
        address: SocketAddr,
        registry: Registry,
        ready: Arc<AtomicBool>,
        stop: CancellationToken,
        serving: JoinHandle<()>,
    }

    impl Bench {
        async fn start() -> Self {
            Self::start_with(Arc::new(|_| true)).await
        }

        async fn start_with(allowed: SourceFilter) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (registry, ready) = (Registry::new(), Arc::new(AtomicBool::new(true)));
            let asked = Arc::clone(&ready);
            let readyz: StatusFn = Arc::new(move || {
                let ready = asked.load(Ordering::Relaxed);
                Status::new(ready, &serde_json::json!({ "ready": ready }))
            });
            let healthz: StatusFn = Arc::new(|| Status::new(true, &"well"));
            let stop = CancellationToken::new();
            let exporter = Exporter::new(registry.clone(), healthz, readyz, allowed);
            let serving = tokio::spawn(exporter.serve(listener, stop.clone()));
            Self { address, registry, ready, stop, serving }
        }

        /// Sends a request and reads to the end of the connection: head and body.
        async fn request(&self, line: &str) -> (String, String) {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("{line} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            (head.to_lowercase(), body.to_owned())
        }
    }

    #[tokio::test]
    async fn metrics_are_a_prometheus_page() {
        let bench = Bench::start().await;
        let (head, body) = bench.request("GET /metrics").await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        assert!(body.contains("# TYPE plgw_build_info gauge\n"), "{body}");
        let (_, body) = bench.request("GET /metrics?name=x").await;
        assert!(body.contains("plgw_exporter_requests_total{path=\"/metrics\",status=\"200\"} 1\n"), "{body}");
    }

    #[tokio::test]
    async fn head_has_the_head_alone() {
        let bench = Bench::start().await;
        let (head, body) = bench.request("HEAD /metrics").await;
        assert!(head.starts_with("http/1.1 200") && head.contains("content-length: "), "{head}");
        assert_eq!(body, "");
    }

    #[tokio::test]
    async fn readiness_is_200_or_503_with_its_detail_and_health_is_apart() {
        let bench = Bench::start().await;
        let (head, body) = bench.request("GET /readyz").await;
        assert!(head.starts_with("http/1.1 200") && head.contains("application/json"), "{head}");
        assert_eq!(body, "{\"ready\":true}\n");
        bench.ready.store(false, Ordering::Relaxed);
        let (head, body) = bench.request("GET /readyz").await;
        assert!(head.starts_with("http/1.1 503"), "{head}");
        assert_eq!(body, "{\"ready\":false}\n");
        assert!(bench.request("GET /healthz").await.0.starts_with("http/1.1 200"));
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_told_so() {
        let bench = Bench::start().await;
        assert!(bench.request("GET /").await.0.starts_with("http/1.1 404"));
        assert!(bench.request("GET /metrics/x").await.0.starts_with("http/1.1 404"));
        let (head, _) = bench.request("POST /metrics").await;
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
        assert!(bench.registry.render().contains("plgw_exporter_requests_total{path=\"other\",status=\"404\"} 2\n"));
    }

    #[tokio::test]
    async fn a_source_on_the_services_side_gets_no_byte_and_is_counted() {
        let bench = Bench::start_with(Arc::new(|source| source != IpAddr::from([127, 1, 0, 11]))).await;
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.1.0.11:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(bench.address).await.unwrap();
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, b"");
        let (_, body) = bench.request("GET /metrics").await;
        assert!(body.contains("plgw_exporter_refused_connections_total{reason=\"one_way\"} 1\n"), "{body}");
    }

    #[tokio::test]
    async fn a_client_that_never_ends_its_head_is_let_go() {
        // The head of a real socket's request and a paused clock: the clock jumps once the bytes are read.
        let bench = Bench::start().await;
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ").await.unwrap();
        bench.request("GET /healthz").await;
        tokio::time::pause();
        let before = tokio::time::Instant::now();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(before.elapsed() <= HEAD_TIMEOUT + Duration::from_secs(1), "{:?}", before.elapsed());
        assert!(!String::from_utf8_lossy(&answer).contains("200"));
    }

    #[tokio::test]
    async fn connections_above_the_limit_are_closed_and_the_others_served() {
        let bench = Bench::start().await;
        let mut held = Vec::new();
        for _ in 0..CONNECTION_LIMIT {
            held.push(TcpStream::connect(bench.address).await.unwrap());
        }
        let mut above = TcpStream::connect(bench.address).await.unwrap();
        assert_eq!(above.read(&mut [0; 1]).await.unwrap(), 0);
        held[0].write_all(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        held[0].read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let refused = "plgw_exporter_refused_connections_total{reason=\"connection_limit\"} 1\n";
        assert!(bench.registry.render().contains(refused));
    }

    #[tokio::test]
    async fn noise_disturbs_nobody() {
        let bench = Bench::start().await;
        for noise in [&b"\x16\x03\x01\x02\x00"[..], b"\r\n\r\n\r\n", b"GET\r\n\r\n", &[0xff; 300]] {
            let mut stream = TcpStream::connect(bench.address).await.unwrap();
            stream.write_all(noise).await.unwrap();
            stream.shutdown().await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        assert!(bench.request("GET /healthz").await.0.starts_with("http/1.1 200"));
    }

    #[tokio::test]
    async fn stopping_closes_the_listener_and_idle_connections() {
        let bench = Bench::start().await;
        let mut idle = TcpStream::connect(bench.address).await.unwrap();
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n").await.unwrap();
        idle.read_exact(&mut [0; 12]).await.unwrap();
        bench.stop.cancel();
        idle.read_to_end(&mut Vec::new()).await.expect("an orderly end");
        bench.serving.await.unwrap();
        let error = TcpStream::connect(bench.address).await.expect_err("closed");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
