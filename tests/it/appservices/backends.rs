//! Backends: kept connections, HTTP/2 and TLS, and those that fail.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::client::{Client, Http, get, raw, tls};
use super::lab::*;
use super::recorder::{Manner, Recorder};
use plgw::appservices::{AppLimits, AppOptions};
use plgw::data::proxy_protocol;
use plgw::tls::LabCa;

const CALL: &str = "/api/client/v2.0/app/myapp-abcde/functions/call";

fn quick() -> AppOptions {
    let limits =
        AppLimits { connect: Duration::from_millis(300), answer: Duration::from_millis(300), ..AppLimits::default() };
    AppOptions { limits, ..AppOptions::default() }
}

#[tokio::test]
async fn connections_to_a_backend_are_reused_for_any_client() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    for http in [Http::One, Http::Two, Http::One] {
        let mut client = Client::connect(&lab, http, VPC, GENERAL).await;
        for body in ["", "a body"] {
            let path = "/api/client/v2.0/app/myapp-abcde/echo";
            let request = client.request("POST", path).body(Full::from(body)).expect("a request");
            assert_eq!(client.send(request).await.expect("an answer").body, body);
        }
    }
    assert_eq!((backend.asked().len(), backend.connections()), (6, 1));
}

/// A kept connection that the backend has closed costs the client nothing.
#[tokio::test]
async fn a_request_is_sent_again_where_its_connection_was_closed_before_it() {
    let listener = TcpListener::bind("127.1.0.31:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        // Every connection answers once, with the request's head, and closes without a word when it is asked again.
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                if let Ok(n @ 1..) = client.read(&mut head).await {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n");
                    let _ = client.write_all(&[answer.as_bytes(), &head[..n]].concat()).await;
                    let _ = client.read(&mut head).await;
                }
            });
        }
    });
    let lab = Lab::start(&url).await;
    let mut client = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    let first = client.get(CALL).await;
    assert!(first.body.contains("x-plgw-origin: vpc\r\n"), "{}", first.body);
    for _ in 0..4 {
        let again = client.get(CALL).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
    }
    // A request that is not idempotent is not repeated.
    let post = client.request("POST", CALL).body(Full::from("once")).expect("a request");
    assert_eq!(client.send(post).await.expect("an answer").status, 502);
}

/// RFC 9110 §9.2.2: no retry of a failed retry, however many connections are kept.
#[tokio::test]
async fn a_request_is_retried_only_once() {
    for h2c in [true, false] {
        let backend = Recorder::start_as(Manner { h2c, ..Manner::default() }).await;
        let lab = Lab::start_with(&backend.url, quick(), |_| {}).await;
        let slow = || get(&lab, Http::One, VPC, GENERAL, "/api/client/v2.0/app/myapp-abcde/slow");
        let release = async {
            while backend.connections() < if h2c { 1 } else { 3 } {
                tokio::task::yield_now().await;
            }
            loop {
                backend.shared.release.notify_waiters();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = async { tokio::join!(slow(), slow(), slow()) } => {}
            () = release => {}
        }
        backend.shared.asked.lock().expect("no panic").clear();
        let mut client = Client::connect(&lab, Http::One, VPC, GENERAL).await;
        for (method, times) in [("GET", 2), ("DELETE", 2), ("POST", 1)] {
            let request = client.request(method, "/api/client/v2.0/app/myapp-abcde/reset");
            let request = request.body(Full::default()).expect("a request");
            assert_eq!(client.send(request).await.expect("an answer").status, 502, "{method}, h2c: {h2c}");
            let asked = std::mem::take(&mut *backend.shared.asked.lock().expect("no panic"));
            assert_eq!(asked.len(), times, "{method}, h2c: {h2c}");
        }
        assert_eq!(client.get(CALL).await.status, 200);
    }
}

#[tokio::test]
async fn a_backend_that_refuses_breaks_off_or_stalls_gives_502_or_504() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start_with(&backend.url, quick(), |_| {}).await;
    let mut client = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    let stalled = client.get("/api/client/v2.0/app/myapp-abcde/stall").await;
    assert_eq!(stalled.status, 504);
    assert_eq!(stalled.json()["error"], "the app's backend did not answer in time");
    // Broken off in the middle: the client must not take it for the whole.
    let ask = format!("GET /api/client/v2.0/app/myapp-abcde/half HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let said = raw(&lab, VPC, GENERAL, ask.as_bytes(), |_| false).await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("half") && !said.contains("\r\n0\r\n"), "{said}");

    let refusing = std::net::TcpListener::bind("127.1.0.31:0").and_then(|l| l.local_addr()).expect("a port");
    lab.change(|desired| desired.apps[0].backend = format!("http://{refusing}")).await;
    let refused = client.get(CALL).await;
    assert_eq!(refused.status, 502);
    assert_eq!(refused.json()["error"], "the app's backend cannot be reached");

    let resetting = TcpListener::bind("127.1.0.31:0").await.expect("a free port");
    let address = resetting.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((client, _)) = resetting.accept().await {
            client.set_zero_linger().expect("set");
        }
    });
    lab.change(|desired| desired.apps[0].backend = format!("http://{address}")).await;
    assert_eq!(client.get(CALL).await.status, 502);

    let garbage = TcpListener::bind("127.1.0.31:0").await.expect("a free port");
    let address = garbage.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = garbage.accept().await {
            let _ = client.write_all(b"SSH-2.0-OpenSSH\r\n").await;
        }
    });
    lab.change(|desired| desired.apps[0].backend = format!("http://{address}")).await;
    assert_eq!(client.get(CALL).await.status, 502);
    let served = ["plgw_app_requests_total", "verdict=\"served\"", "status=\"5xx\""];
    assert_eq!(lab.metric(&served), Some(4.0));
    lab.change(|desired| desired.apps[0].backend = backend.url.clone()).await;
    assert_eq!(client.get(CALL).await.status, 200, "the same client connection");
}

#[tokio::test]
async fn requests_reach_http2_and_tls_backends() {
    let h2c = Recorder::start_as(Manner { h2c: true, ..Manner::default() }).await;
    let lab = Lab::start(&h2c.url).await;
    for http in [Http::One, Http::Two] {
        let answer = get(&lab, http, VPC, GENERAL, CALL).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"));
        let asked = h2c.only();
        assert_eq!((asked.version, asked.headers["x-plgw-origin"].to_str().expect("text")), (Version::HTTP_2, "vpc"));
        assert_eq!(asked.uri, format!("http://{HOST}:{}{CALL}", lab.port));
    }
    assert_eq!(h2c.connections(), 1);

    for (alpn, version) in [(&b"h2"[..], Version::HTTP_2), (b"http/1.1", Version::HTTP_11)] {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = Arc::new(LabCa::open_or_create(dir.path()).expect("a CA"));
        let identity = ca.issue(&[], &["127.1.0.31".parse().expect("an address")]).expect("issued");
        let config = identity.server_config(&[alpn]).expect("a configuration");
        let backend = Recorder::start_as(Manner { tls: Some(config), ..Manner::default() }).await;
        let lab = Lab::start_under(dir, ca, &backend.url, AppOptions::default(), |_| {}).await;
        for http in [Http::One, Http::Two] {
            assert_eq!(get(&lab, http, VPC, GENERAL, CALL).await.status, 200);
            assert_eq!(backend.only().version, version);
        }
        assert_eq!(backend.connections(), 1);
        // A certificate of another CA is not taken.
        let stranger = Lab::start(&backend.url).await;
        assert_eq!(get(&stranger, Http::One, VPC, GENERAL, CALL).await.status, 502);
    }
}

/// All share one HTTP/2 connection to the backend, and its window.
#[tokio::test]
async fn clients_that_do_not_read_delay_no_other_client_of_an_http2_backend() {
    let backend = Recorder::start_as(Manner { h2c: true, ..Manner::default() }).await;
    let lab = Lab::start(&backend.url).await;
    let path = "/api/client/v2.0/app/myapp-abcde/big";
    let mut silent = VecDeque::new();
    // Most of them leave: together they held more than the connection's window.
    for _ in 0..150 {
        let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
        io.write_all(format!("GET {path} HTTP/1.1\r\nHost: {HOST}:{}\r\n\r\n", lab.port).as_bytes())
            .await
            .expect("sent");
        io.read_u8().await.expect("the response has begun");
        silent.push_back(io);
        if silent.len() > 12 {
            silent.pop_front();
        }
    }
    for _ in 0..2 {
        assert_eq!(get(&lab, Http::One, VPC, GENERAL, path).await.body.len(), 8 << 20);
    }
    assert_eq!(backend.connections(), 1);
}

/// With PROXY protocol, a backend learns client and endpoint on the connection itself, and clients share none.
#[tokio::test]
async fn a_backend_can_receive_the_client_address_by_proxy_protocol() {
    let backend = Recorder::start_as(Manner { proxy_header: proxy_protocol::HEADER_LEN, ..Manner::default() }).await;
    let options = AppOptions { proxy_protocol: true, ..AppOptions::default() };
    let lab = Lab::start_with(&backend.url, options, |desired| desired.apps[0].allow_non_vpc_requests = true).await;
    for (from, to) in [(VPC, GENERAL), (PEERED, GENERAL), (INTERNET, PUBLIC)] {
        let mut client = Client::connect(&lab, Http::One, from, to).await;
        for _ in 0..2 {
            assert_eq!(client.get(CALL).await.status, 200);
        }
    }
    let headers = backend.shared.proxy_headers.lock().expect("no panic").clone();
    assert_eq!(headers.len(), 3, "one connection a client");
    for (header, (from, endpoint)) in headers.iter().zip([(VPC, true), (PEERED, true), (INTERNET, false)]) {
        let source: std::net::Ipv4Addr = from.parse().expect("an address");
        assert_eq!(header[16..20], source.octets());
        let text = String::from_utf8_lossy(header);
        assert_eq!(text.contains("vpce-0357a1c6e8b2d4f90"), endpoint, "{from}");
    }
}

#[tokio::test]
async fn a_backends_fields_for_the_gateway_are_not_forwarded() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    for http in [Http::One, Http::Two] {
        let answer = get(&lab, http, VPC, GENERAL, "/api/client/v2.0/app/myapp-abcde/hop").await;
        for name in ["x-private", "keep-alive", "alt-svc", "connection"] {
            assert!(!answer.headers.contains_key(name), "{name}");
        }
        assert_eq!(answer.headers["x-kept"], "1");
    }
    let mut client = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    let request = client.request("GET", "/api/client/v2.0/app/myapp-abcde/redirect");
    let request = request.header("x-test-backend", backend.address.to_string()).body(Full::default());
    let answer = client.send(request.expect("a request")).await.expect("an answer");
    assert_eq!(answer.headers["location"], format!("https://{HOST}:{}/elsewhere", lab.port));
}

/// A client that goes away takes its request with it.
#[tokio::test]
async fn a_client_that_leaves_ends_its_request_at_the_backend() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
    let ask = format!("GET /api/client/v2.0/app/myapp-abcde/slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    io.write_all(ask.as_bytes()).await.expect("written");
    backend.shared.came.notified().await;
    drop(io);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while lab.front.open_count() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The connection was not given back in the middle of an answer.
    backend.shared.release.notify_one();
    assert_eq!(get(&lab, Http::One, VPC, GENERAL, CALL).await.body, "ok");
    assert_eq!(backend.connections(), 2);
}

/// A stop answers open requests and closes the rest within the grace period.
#[tokio::test]
async fn a_stop_finishes_open_requests() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let mut client = Client::connect(&lab, Http::Two, VPC, GENERAL).await;
    let stalled = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    let slow = tokio::spawn(async move { client.get("/api/client/v2.0/app/myapp-abcde/slow").await.status });
    backend.shared.came.notified().await;
    let address = lab.at(GENERAL);
    let releasing = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        backend.shared.release.notify_one();
    };
    let stopping = lab.front.stop(Duration::from_secs(5));
    tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(stopping, releasing) }).await.expect("stopped");
    assert_eq!(slow.await.expect("answered"), 200);
    drop(stalled);
}
