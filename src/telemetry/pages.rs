//! The metrics listener's pages: `/metrics`, `/healthz`, `/readyz`.
//!
//! They are served on control's runtime, so that a scrape does not delay flows, and stop last, so that a drain can be
//! observed. Health and readiness are queried through functions, to avoid a dependency on the modules that know them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use metrics::{Counter, counter, describe_counter, with_local_recorder};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::registry::{CONTENT_TYPE as METRICS_TYPE, Registry};
use crate::http::{self, ConnectionRefusal, Hosts, RejectedRequest, Reply, Site};
use crate::limits::Refusals;

const REFUSED: &str = "plgw_exporter_refused_connections_total";
const REQUESTS: &str = "plgw_exporter_requests_total";

/// Whether a source is on the service's side and must not connect (one-way).
pub type SourceFilter = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Returns the current status, called for each request.
pub type StatusFn = Arc<dyn Fn() -> PageStatus + Send + Sync>;

/// The response of `/healthz` or `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageStatus {
    /// Whether the HTTP status is 200 or 503.
    pub ok: bool,
    /// The JSON body.
    pub json: String,
}

impl PageStatus {
    /// A status with the body `body`.
    #[must_use]
    pub fn new(ok: bool, body: &impl Serialize) -> Self {
        let json = serde_json::to_string(body).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
        Self { ok, json }
    }
}

/// The pages of one gateway.
pub struct Pages {
    registry: Registry,
    healthy: StatusFn,
    ready: StatusFn,
    service_side: SourceFilter,
    refused: [Counter; ConnectionRefusal::ALL.len()],
}

impl Pages {
    /// Creates pages with the metrics of `registry`; `healthy` answers `/healthz` and `ready` answers `/readyz`.
    #[must_use]
    pub fn new(registry: Registry, healthy: StatusFn, ready: StatusFn, service_side: SourceFilter) -> Self {
        let refused = with_local_recorder(registry.recorder(), || {
            describe_counter!(REFUSED, "Connections to the metrics port closed unanswered, by reason.");
            describe_counter!(REQUESTS, "Requests to the metrics port, by path and status.");
            ConnectionRefusal::ALL.map(|reason| counter!(REFUSED, "reason" => reason.label()))
        });
        Self { registry, healthy, ready, service_side, refused }
    }

    /// Serves a bound listener until `stop` is cancelled, then finishes responses in progress. Refused connections are
    /// counted in `refusals`.
    pub async fn serve(self, listener: TcpListener, refusals: Arc<Refusals>, stop: CancellationToken) {
        http::serve(Arc::new(self), listener, None, refusals, stop).await;
    }

    fn count(&self, path: &'static str, status: StatusCode) {
        let status = status.as_str().to_owned();
        with_local_recorder(self.registry.recorder(), || counter!(REQUESTS, "path" => path, "status" => status))
            .increment(1);
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

impl Site for Pages {
    const NAME: &'static str = "metrics";

    /// Enough for a few scrapers, probes and users.
    const CONNECTION_LIMIT: usize = 64;

    const DESCRIPTOR_PART: usize = 64;

    const HOSTS: Hosts = Hosts::OwnAddressOrShortName;

    fn is_service_side(&self, source: IpAddr) -> bool {
        (self.service_side)(source)
    }

    fn count_refused(&self, reason: ConnectionRefusal) {
        self.refused[reason as usize].increment(1);
    }

    fn forbidden(&self, rejected: RejectedRequest) -> Reply {
        self.count("refused", StatusCode::FORBIDDEN);
        text(StatusCode::FORBIDDEN, format!("{rejected}\n"))
    }

    type Call = Request<Incoming>;

    async fn read(&self, request: Request<Incoming>, _: SocketAddr) -> Result<Request<Incoming>, Reply> {
        Ok(request)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        // Unknown paths share a label, so that a client cannot create series.
        let path = match request.uri().path() {
            "/metrics" => "/metrics",
            "/healthz" => "/healthz",
            "/readyz" => "/readyz",
            _ => "other",
        };
        let response = match (path, request.method()) {
            ("other", _) => text(StatusCode::NOT_FOUND, "not found; there are /metrics, /healthz and /readyz\n"),
            (_, method) if method != Method::GET && method != Method::HEAD => {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            ("/metrics", _) => page(StatusCode::OK, METRICS_TYPE, self.registry.render()),
            ("/healthz", _) => status((self.healthy)()),
            _ => status((self.ready)()),
        };
        self.count(path, response.status());
        response
    }
}

fn status(status: PageStatus) -> Reply {
    let code = if status.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    page(code, "application/json", status.json + "\n")
}

fn text(code: StatusCode, body: impl Into<Bytes>) -> Reply {
    page(code, "text/plain; charset=utf-8", body)
}

/// Builds a response. hyper omits the body for HEAD and keeps its length.
fn page(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    struct TestPages {
        address: SocketAddr,
        registry: Registry,
        ready: Arc<AtomicBool>,
        stop: CancellationToken,
    }

    impl TestPages {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (registry, ready) = (Registry::new(), Arc::new(AtomicBool::new(true)));
            let asked = Arc::clone(&ready);
            let readyz: StatusFn = Arc::new(move || {
                let ready = asked.load(Ordering::Relaxed);
                PageStatus::new(ready, &serde_json::json!({ "ready": ready }))
            });
            let healthz: StatusFn = Arc::new(|| PageStatus::new(true, &"well"));
            let service_side: SourceFilter = Arc::new(|source| source == IpAddr::from([127, 1, 0, 11]));
            let stop = CancellationToken::new();
            let pages = Pages::new(registry.clone(), healthz, readyz, service_side);
            tokio::spawn(pages.serve(listener, Arc::default(), stop.clone()));
            Self { address, registry, ready, stop }
        }

        /// Sends a request and reads to the end of the connection: head and body.
        async fn request(&self, line: &str) -> (String, String) {
            self.request_to("gateway", line).await
        }

        async fn request_to(&self, host: &str, line: &str) -> (String, String) {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            (head.to_lowercase(), body.to_owned())
        }
    }

    impl Drop for TestPages {
        fn drop(&mut self) {
            self.stop.cancel();
        }
    }

    #[tokio::test]
    async fn metrics_are_a_prometheus_page() {
        let fixture = TestPages::start().await;
        let (head, body) = fixture.request("GET /metrics").await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        assert!(body.contains("# TYPE plgw_build_info gauge\n"), "{body}");
        let (_, body) = fixture.request("GET /metrics?name=x").await;
        assert!(body.contains("plgw_exporter_requests_total{path=\"/metrics\",status=\"200\"} 1\n"), "{body}");
    }

    #[tokio::test]
    async fn head_requests_get_no_body() {
        let (head, body) = TestPages::start().await.request("HEAD /metrics").await;
        assert!(head.starts_with("http/1.1 200") && head.contains("content-length: "), "{head}");
        assert_eq!(body, "");
    }

    #[tokio::test]
    async fn readiness_is_200_or_503_with_its_detail_and_health_is_apart() {
        let fixture = TestPages::start().await;
        let (head, body) = fixture.request("GET /readyz").await;
        assert!(head.starts_with("http/1.1 200") && head.contains("application/json"), "{head}");
        assert_eq!(body, "{\"ready\":true}\n");
        fixture.ready.store(false, Ordering::Relaxed);
        let (head, body) = fixture.request("GET /readyz").await;
        assert!(head.starts_with("http/1.1 503"), "{head}");
        assert_eq!(body, "{\"ready\":false}\n");
        assert!(fixture.request("GET /healthz").await.0.starts_with("http/1.1 200"));
    }

    #[tokio::test]
    async fn other_paths_and_methods_get_404_and_405() {
        let fixture = TestPages::start().await;
        assert!(fixture.request("GET /").await.0.starts_with("http/1.1 404"));
        assert!(fixture.request("GET /metrics/x").await.0.starts_with("http/1.1 404"));
        let (head, _) = fixture.request("POST /metrics").await;
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
        assert!(fixture.registry.render().contains("plgw_exporter_requests_total{path=\"other\",status=\"404\"} 2\n"));
    }

    #[tokio::test]
    async fn a_rebound_name_reads_nothing() {
        let fixture = TestPages::start().await;
        for path in ["/metrics", "/healthz", "/readyz"] {
            let (head, body) = fixture.request_to("attacker.example:9464", &format!("GET {path}")).await;
            assert!(head.starts_with("http/1.1 403") && !body.contains("plgw"), "{head} {body}");
        }
        let counted = "plgw_exporter_requests_total{path=\"refused\",status=\"403\"} 3\n";
        assert!(fixture.registry.render().contains(counted));
    }

    #[tokio::test]
    async fn refused_connections_are_counted_by_reason() {
        let fixture = TestPages::start().await;
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.1.0.11:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(fixture.address).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        let page = fixture.request("GET /metrics").await.1;
        for line in [
            "plgw_exporter_refused_connections_total{reason=\"one_way\"} 1",
            "plgw_exporter_refused_connections_total{reason=\"connection_limit\"} 0",
        ] {
            assert!(page.lines().any(|other| other == line), "{line} is not in {page}");
        }
    }

    /// Kubernetes restarts a container that fails its liveness probe.
    #[tokio::test]
    async fn health_is_answered_whatever_number_of_idle_connections_one_source_holds() {
        let fixture = TestPages::start().await;
        let mut idle = Vec::new();
        for _ in 0..Pages::CONNECTION_LIMIT + 16 {
            idle.push(TcpStream::connect(fixture.address).await.unwrap());
        }
        for _ in 0..3 {
            assert!(fixture.request("GET /healthz").await.0.starts_with("http/1.1 200"));
        }
    }
}
