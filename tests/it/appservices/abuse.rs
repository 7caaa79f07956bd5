//! Clients that take too much or too long, and those beside them.

use std::time::Duration;

use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::client::{Client, Http, get, raw, tls};
use super::forgery::{frame, frames, headers, preface};
use super::lab::*;
use super::recorder::Recorder;
use plgw::appservices::{AppLimits, AppOptions};

const CALL: &str = "/api/client/v2.0/app/myapp-abcde/functions/call";

/// Limits short enough to wait for.
fn short() -> AppOptions {
    let limits = AppLimits {
        handshake: Duration::from_millis(400),
        header_time: Duration::from_millis(400),
        idle: Duration::from_millis(400),
        body_idle: Duration::from_millis(400),
        ..AppLimits::default()
    };
    AppOptions { limits, ..AppOptions::default() }
}

#[tokio::test]
async fn an_endless_head_closes_the_connection() {
    let backend = Recorder::start().await;
    let limits = AppLimits { idle: Duration::from_secs(60), ..short().limits };
    let lab = Lab::start_with(&backend.url, AppOptions { limits, ..short() }, |_| {}).await;
    let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
    let started = Instant::now();
    let dripping = async {
        io.write_all(format!("GET {CALL} HTTP/1.1\r\n").as_bytes()).await?;
        for n in 0.. {
            io.write_all(format!("X-{n}: a\r\n").as_bytes()).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<(), std::io::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(5), dripping).await.expect("cut in time").expect_err("cut");
    assert!(started.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn connections_without_a_handshake_or_a_request_are_closed() {
    let backend = Recorder::start().await;
    let lab = Lab::start_with(&backend.url, short(), |_| {}).await;
    let mut silent = super::client::tcp(&lab, VPC, GENERAL).await;
    let mut nothing = Vec::new();
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut io = tls(&lab, VPC, GENERAL, HOST, &[alpn]).await.expect("TLS");
        if alpn == b"h2" {
            io.write_all(&preface()).await.expect("written");
        }
        let closing = async { while io.read_u8().await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(5), closing).await.expect("closed in time");
    }
    let closed = silent.read_to_end(&mut nothing);
    let _ = tokio::time::timeout(Duration::from_secs(5), closed).await.expect("closed in time");
    lab.expect_metric(&["plgw_app_tls_failures_total"], 1.0).await;
}

#[tokio::test]
async fn a_body_that_stalls_gets_408_and_a_client_that_reads_nothing_is_cut() {
    let backend = Recorder::start().await;
    let lab = Lab::start_with(&backend.url, short(), |_| {}).await;
    let head = format!("POST {CALL} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nhalf");
    let said = raw(&lab, VPC, GENERAL, head.as_bytes(), |_| false).await;
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("the request's body stalled"), "{said}");

    let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
    let ask = format!("GET /api/client/v2.0/app/myapp-abcde/big HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    io.write_all(ask.as_bytes()).await.expect("written");
    let deadline = Instant::now() + Duration::from_secs(10);
    while lab.front.open_count() > 0 {
        assert!(Instant::now() < deadline, "still open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut said = Vec::new();
    let end = io.read_to_end(&mut said).await.expect_err("reset: nothing lingers for a client that does not read");
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(said.len() < 8 << 20, "8 MiB were not kept for it");
}

#[tokio::test]
async fn heads_that_are_too_large_get_431() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let long = format!("GET {CALL} HTTP/1.1\r\nHost: {HOST}\r\nX-Long: {}\r\n\r\n", "a".repeat(40 << 10));
    let many: String = (0..200).map(|n| format!("X-{n}: a\r\n")).collect();
    let many = format!("GET {CALL} HTTP/1.1\r\nHost: {HOST}\r\n{many}\r\n");
    for head in [long, many] {
        let said = raw(&lab, VPC, GENERAL, head.as_bytes(), |_| false).await;
        assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    }
    let mut client = Client::connect(&lab, Http::Two, VPC, GENERAL).await;
    let request = client.request("GET", CALL).header("x-long", "a".repeat(40 << 10));
    let refused = client.send(request.body(Full::default()).expect("a request")).await;
    assert!(refused.map_or(true, |answer| answer.status == 431));
    assert!(backend.asked().is_empty());
    assert_eq!(get(&lab, Http::Two, VPC, GENERAL, CALL).await.status, 200);
}

/// The first byte comes back before the last is sent: nothing is gathered.
#[tokio::test]
async fn bodies_stream_both_ways() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
    let head = format!(
        "POST /api/client/v2.0/app/myapp-abcde/echo-stream HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    io.write_all(head.as_bytes()).await.expect("written");
    let mut said = String::new();
    for word in ["first", "second", "third"] {
        io.write_all(format!("{:x}\r\n{word}\r\n", word.len()).as_bytes()).await.expect("written");
        let mut buffer = [0; 1024];
        while !said.contains(word) {
            let n = tokio::time::timeout(Duration::from_secs(5), io.read(&mut buffer)).await.expect("in time");
            said.push_str(&String::from_utf8_lossy(&buffer[..n.expect("an answer")]));
        }
    }
    io.write_all(b"0\r\n\r\n").await.expect("written");
}

/// A client may have 100 requests in flight on an HTTP/2 connection; the settings say so.
#[tokio::test]
async fn concurrent_streams_are_limited() {
    const MAX_CONCURRENT_STREAMS: [u8; 6] = [0, 3, 0, 0, 0, 100];
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"h2"]).await.expect("TLS");
    let stall = headers_for("/api/client/v2.0/app/myapp-abcde/stall");
    let mut sent = preface();
    for n in 0..150_u32 {
        sent.extend(headers(2 * n + 1, &stall, true));
    }
    io.write_all(&sent).await.expect("written");
    let mut head = [0; 9];
    io.read_exact(&mut head).await.expect("SETTINGS");
    let mut settings = vec![0; usize::from(head[2])];
    io.read_exact(&mut settings).await.expect("SETTINGS");
    assert!(settings.chunks(6).any(|setting| setting == MAX_CONCURRENT_STREAMS), "{settings:?}");
    let mut refused = 0;
    while refused < 50 {
        let seen = frames(&mut io, |kind, _| kind == 3).await;
        assert!(!seen.is_empty(), "closed after {refused}");
        refused += 1;
    }
    // The others are at the backend, each on a separate connection.
    let deadline = Instant::now() + Duration::from_secs(10);
    while backend.connections() < 100 {
        assert!(Instant::now() < deadline, "{}", backend.connections());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(backend.connections(), 100);
}

fn headers_for(path: &str) -> [(&'static str, &str); 4] {
    [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", path)]
}

/// CVE-2023-44487: requests that are taken back at once end the connection long before they are many.
#[tokio::test]
async fn a_rapid_reset_ends_the_connection() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let stall = headers_for("/api/client/v2.0/app/myapp-abcde/stall");
    // In one go, and one by one, so that each request is taken up before it is taken back.
    for batch in [1000, 1] {
        let before = backend.connections();
        let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"h2"]).await.expect("TLS");
        io.write_all(&preface()).await.expect("written");
        let mut next = 0..1000_u32;
        let flood = async {
            loop {
                let mut sent = Vec::new();
                for n in next.by_ref().take(batch) {
                    sent.extend(headers(2 * n + 1, &stall, true));
                    sent.extend(frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes()));
                }
                if sent.is_empty() || io.write_all(&sent).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            frames(&mut io, |kind, _| kind == 7).await
        };
        tokio::time::timeout(Duration::from_secs(20), flood).await.expect("ended in time");
        let reached = backend.connections() - before;
        assert!(reached <= 250, "{reached} requests reached the backend");
        assert_eq!(get(&lab, Http::Two, VPC, GENERAL, CALL).await.status, 200, "others are served");
    }
}

/// Slow clients cost a fast one nothing that it would notice.
#[tokio::test]
async fn a_thousand_slow_clients_do_not_slow_a_fast_one() {
    let backend = Recorder::start().await;
    // Slow enough to be there to the end, however long it takes to connect them all.
    let limits = AppLimits {
        header_time: Duration::from_secs(600),
        body_idle: Duration::from_secs(600),
        ..AppLimits::default()
    };
    let lab = Lab::start_with(&backend.url, AppOptions { limits, ..AppOptions::default() }, |_| {}).await;
    let mut fast = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    let alone = fifty_requests(&mut fast).await;
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = descriptors.maximum.unwrap_or(65_536).min(65_536);
    let wanted = rustix::process::Rlimit { current: Some(most), maximum: descriptors.maximum };
    // Where it is refused, there are as many as there can be.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted);
    let slow = if most >= 4096 { 1000 } else { 200 };
    let mut clients = Vec::new();
    for n in 0..slow {
        let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
        let head = format!("POST {CALL} HTTP/1.1\r\nHost: {HOST}\r\n");
        // Half of them hang in a head, half in a body.
        let rest = if n % 2 == 0 { "X-Slow: " } else { "Content-Length: 100\r\n\r\nx" };
        io.write_all(format!("{head}{rest}").as_bytes()).await.expect("written");
        clients.push(io);
    }
    // Other load on this machine slows both; blocking by slow clients would cost many times more.
    let beside = fifty_requests(&mut fast).await;
    assert!(beside < alone * 10 + Duration::from_secs(1), "{alone:?} alone, {beside:?} beside {slow} slow clients");
    assert!(lab.front.open_count() > slow);
}

async fn fifty_requests(client: &mut Client) -> Duration {
    let started = Instant::now();
    for _ in 0..50 {
        assert_eq!(client.get(CALL).await.status, 200);
    }
    started.elapsed()
}

/// Past the limit, new connections are reset and open ones continue.
#[tokio::test]
async fn connections_past_the_limit_are_reset() {
    let backend = Recorder::start().await;
    let limits = AppLimits { connections: 3, ..AppLimits::default() };
    let lab = Lab::start_with(&backend.url, AppOptions { limits, ..AppOptions::default() }, |_| {}).await;
    let mut first = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    let _second = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    let _third = Client::connect(&lab, Http::One, VPC, GENERAL).await;
    let mut fourth = tokio::net::TcpStream::connect(lab.at(GENERAL)).await;
    if let Ok(fourth) = &mut fourth {
        // The kernel had accepted it already.
        fourth.read_u8().await.expect_err("reset");
    }
    assert_eq!(first.get(CALL).await.status, 200);
    assert_eq!(lab.metric(&["plgw_app_refused_connections_total", "connection_limit"]), Some(1.0));
}

#[tokio::test]
async fn an_idle_connection_resumes() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let silence = || tokio::time::sleep(Duration::from_millis(100));
    let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
    let mut buffer = vec![0; 4096];
    let ask = format!("GET {CALL} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    // Whole, in two pieces of a head, and two at once: silent before each.
    let (first, last) = ask.split_at(ask.len() / 2);
    let twice = ask.repeat(2);
    for (pieces, answers) in [(vec![ask.as_str()], 1), (vec![first, last], 1), (vec![&twice], 2), (vec![&ask], 1)] {
        for piece in pieces {
            silence().await;
            io.write_all(piece.as_bytes()).await.expect("written");
        }
        let mut said = String::new();
        while said.matches("HTTP/1.1 200 OK").count() < answers {
            let n = io.read(&mut buffer).await.expect("an answer");
            assert!(n > 0, "closed after {said}");
            said.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }
    assert_eq!(backend.asked().len(), 5);

    let mut io = tls(&lab, VPC, SYNC, WS_SDK, &[b"http/1.1"]).await.expect("TLS");
    silence().await;
    let ask = format!(
        "GET /api/client/v2.0/app/myapp-abcde/realm-sync HTTP/1.1\r\nHost: {WS_SDK}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    io.write_all(ask.as_bytes()).await.expect("written");
    let n = io.read(&mut buffer).await.expect("an answer");
    assert!(buffer[..n].starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&buffer[..n]));
}
