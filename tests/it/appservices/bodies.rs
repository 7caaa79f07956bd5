//! A request is over when its body and its response are: early answers, unfinished and malformed bodies, slow streams.

use std::time::Duration;

use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Client, Http, Tls, get, raw, tls};
use super::forgery::{frame, frames, headers, preface};
use super::lab::*;
use super::raw_backend::RawBackend;
use super::recorder::Recorder;
use plgw::appservices::{AppLimits, AppOptions};

const CALL: &str = "/api/client/v2.0/app/myapp-abcde/functions/call";
const ECHO: &str = "/api/client/v2.0/app/myapp-abcde/echo";
const EARLY: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";

const RST_STREAM: u8 = 3;

/// Reads until the gateway has said `text`, and returns all that it said.
async fn until(io: &mut Tls, text: &str) -> String {
    let mut said = String::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while !said.contains(text) {
            let n = io.read(&mut buffer).await.expect("an answer");
            assert!(n > 0, "closed after {said:?}");
            said.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reading).await.expect("an answer in time");
    said
}

/// RFC 9112 §9.3: whatever follows an early answer is body, however late it comes, or nothing.
#[tokio::test]
async fn bytes_after_an_early_answer_are_never_a_request() {
    let backend = RawBackend::answering(EARLY).await;
    let lab = Lab::start(&backend.url).await;
    let hidden = format!("GET {CALL} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let chunked = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    let length = format!("Content-Length: {}", hidden.len());
    for (framing, rest) in [(length.as_str(), &hidden), ("Transfer-Encoding: chunked", &chunked), (&length, &chunked)] {
        let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
        let head = format!("POST {CALL} HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n");
        io.write_all(head.as_bytes()).await.expect("written");
        let said = until(&mut io, "\r\n\r\nno").await;
        assert!(said.starts_with("HTTP/1.1 401 ") && said.contains("connection: close"), "{said}");
        // The gateway reads on for a while, so this is taken; it may have closed just before.
        let _ = io.write_all(rest.as_bytes()).await;
        let mut more = Vec::new();
        let _ = io.read_to_end(&mut more).await;
        assert!(more.is_empty(), "{}", String::from_utf8_lossy(&more));
    }
    assert_eq!(lab.metric(&["plgw_app_requests_total", "verdict=\"served\""]), Some(3.0));
    let heads: usize = backend.received().iter().map(|all| all.matches("x-plgw-origin").count()).sum();
    assert_eq!(heads, 3, "{:?}", backend.received());
}

/// A connection to a backend is not reused while a request's body is incomplete.
#[tokio::test]
async fn a_body_pending_to_a_backend_blocks_no_other_client() {
    let backend = RawBackend::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let lab = Lab::start(&backend.url).await;
    let post = [(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", CALL)];
    let mut owing = Vec::new();
    for _ in 0..2 {
        let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"h2"]).await.expect("TLS");
        io.write_all(&[preface(), headers(1, &post, false)].concat()).await.expect("written");
        frames(&mut io, |kind, stream| (kind, stream) == (0, 1)).await;
        // A byte of the body, as a sign of life.
        io.write_all(&frame(0, 0, 1, b"x")).await.expect("written");
        owing.push(io);
    }
    for http in [Http::One, Http::Two] {
        for _ in 0..5 {
            let asked = tokio::time::timeout(Duration::from_secs(2), get(&lab, http, VPC, GENERAL, CALL)).await;
            assert_eq!(asked.expect("not stopped").status, 200);
        }
    }
    drop(owing);
}

/// Requests of two listeners share no connection: over it, a VPC's could be taken for a public one, and a lost zone could
/// hold up the other.
#[tokio::test]
async fn two_listeners_share_no_connection_to_a_backend() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    lab.allow_non_vpc_requests(true).await;
    for (from, to) in
        [(VPC, GENERAL), (INTERNET, PUBLIC), (VPC, GENERAL_B), (PEERED, GENERAL), (INTERNET, PUBLIC), (VPC, GENERAL_B)]
    {
        assert_eq!(get(&lab, Http::One, from, to, CALL).await.status, 200);
    }
    assert_eq!(backend.connections(), 3);
}

/// RFC 9112 §6: the framing of a body does not depend on the method.
#[tokio::test]
async fn a_body_without_a_length_reaches_the_backend_whatever_the_method() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PUT", "PATCH"] {
        let chunked = format!(
            "{method} {ECHO} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n"
        );
        let said = raw(&lab, VPC, GENERAL, chunked.as_bytes(), |_| false).await;
        assert!(said.starts_with("HTTP/1.1 200 "), "{method}: {said}");
        assert_eq!(backend.only().body, "hello", "{method} by HTTP/1.1");

        let fields = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", ECHO)];
        let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"h2"]).await.expect("TLS");
        let sent = [preface(), headers(1, &fields, false), frame(0, 1, 1, b"hello")].concat();
        io.write_all(&sent).await.expect("written");
        let seen = frames(&mut io, |kind, stream| (kind, stream) == (1, 1)).await;
        assert_eq!(seen.last(), Some(&(1, 1)), "{method} by HTTP/2");
        assert_eq!(backend.only().body, "hello", "{method} by HTTP/2");
    }
}

/// A backend that answers before it has read the body, and closes: its answer is passed on, not 502.
#[tokio::test]
async fn an_early_answer_of_a_backend_that_closes_is_passed_on() {
    let too_large = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge";
    let backend = RawBackend::answering_and_closing(too_large).await;
    let lab = Lab::start(&backend.url).await;
    let body = vec![b'x'; 1 << 20];
    for http in [Http::One, Http::Two] {
        for n in 0..20 {
            let mut client = Client::connect(&lab, http, VPC, GENERAL).await;
            let post = client.request("POST", CALL).body(Full::from(body.clone())).expect("a request");
            let answer = client.send(post).await.unwrap_or_else(|error| panic!("{http:?} {n}: {error:?}"));
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (413, "large"), "{http:?} {n}");
        }
    }
}

/// RFC 9112 §9.6: the gateway's own refusal of an upload is not lost by a reset.
#[tokio::test]
async fn a_refusal_of_an_upload_reaches_a_client_that_sends_all_of_it_first() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let body = vec![b'x'; 4 << 20];
    for framing in [format!("Content-Length: {}", body.len()), "Transfer-Encoding: chunked".to_owned()] {
        for _ in 0..5 {
            let head = format!("POST {CALL} HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n");
            let mut bytes = head.into_bytes();
            if framing.starts_with("Transfer") {
                bytes.extend(format!("{:x}\r\n", body.len()).bytes());
            }
            bytes.extend(&body);
            let said = raw(&lab, INTERNET, PUBLIC, &bytes, |_| false).await;
            assert!(said.starts_with("HTTP/1.1 404 ") && said.contains("cannot find app"), "{said}");
        }
    }
    for _ in 0..5 {
        let mut client = Client::connect(&lab, Http::Two, INTERNET, PUBLIC).await;
        let post = client.request("POST", CALL).body(Full::from(body.clone())).expect("a request");
        assert_eq!(client.send(post).await.expect("an answer").status, 404);
        assert_eq!(client.get(CALL).await.status, 404, "on the same connection");
    }
    assert!(backend.asked().is_empty());
}

/// A malformed body is a malformed request: answered, logged and counted, as one whose head the library refuses.
#[tokio::test]
async fn malformed_requests_get_400_and_are_counted() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let chunks = [
        "5x\r\nhello\r\n0\r\n\r\n",
        "zz\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5;a=\nb\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
    ];
    let mut expected = 0.0;
    for (from, to, served) in [(VPC, GENERAL, true), (INTERNET, PUBLIC, false)] {
        for chunk in chunks {
            let request = format!("POST {ECHO} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
            let said = raw(&lab, from, to, request.as_bytes(), |_| false).await;
            assert!(
                said.starts_with("HTTP/1.1 400 ") && said.contains("connection: close"),
                "{served} {chunk:?}: {said}"
            );
            expected += 1.0;
        }
    }
    let counted = |endpoint| {
        lab.metric(&["plgw_app_requests_total", "app=\"none\"", endpoint, "verdict=\"malformed\"", "status=\"4xx\""])
    };
    assert_eq!(counted("general").unwrap_or_default() + counted("public").unwrap_or_default(), expected);
    let long = "a".repeat(40 << 10);
    for (head, status) in [
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400),
        ("G\u{1}ET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: +1\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Long: {long}\r\n\r\n"), 431),
    ] {
        let said = raw(&lab, VPC, GENERAL, head.as_bytes(), |_| false).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        expected += 1.0;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while counted("general").unwrap_or_default() + counted("public").unwrap_or_default() < expected {
        assert!(tokio::time::Instant::now() < deadline, "{}", lab.registry.render());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(backend.asked().is_empty());
}

/// The limit is per stream: an unread stream ends, and others of the connection continue.
#[tokio::test]
async fn an_unread_http2_stream_is_reset_and_others_continue() {
    let backend = Recorder::start().await;
    let limits = AppLimits { body_idle: Duration::from_millis(400), ..AppLimits::default() };
    let lab = Lab::start_with(&backend.url, AppOptions { limits, ..AppOptions::default() }, |_| {}).await;
    let big = "/api/client/v2.0/app/myapp-abcde/big";
    let fields = |path| [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", path)];
    let mut io = tls(&lab, VPC, GENERAL, HOST, &[b"h2"]).await.expect("TLS");
    // Windows of 64 KiB of which none is given back: the answer has 8 MiB. The connection's is widened.
    let window = frame(8, 0, 0, &(16_u32 << 20).to_be_bytes());
    io.write_all(&[preface(), window, headers(1, &fields(big), true)].concat()).await.expect("written");
    let seen = frames(&mut io, |kind, stream| (kind, stream) == (RST_STREAM, 1)).await;
    assert_eq!(seen.last(), Some(&(RST_STREAM, 1)), "{seen:?}");
    io.write_all(&headers(3, &fields(CALL), true)).await.expect("written");
    let seen = frames(&mut io, |kind, stream| (kind, stream) == (0, 3)).await;
    assert_eq!(seen.last(), Some(&(0, 3)), "{seen:?}");
}

/// After an early answer the stream is reset without an error (RFC 9113 §8.1), once the client had time to read it.
#[tokio::test]
async fn an_early_answer_over_http2_is_complete_and_the_connection_continues() {
    let backend = RawBackend::answering(EARLY).await;
    let lab = Lab::start(&backend.url).await;
    let mut client = Client::connect(&lab, Http::Two, VPC, GENERAL).await;
    for _ in 0..5 {
        let post = client.request("POST", CALL).body(Full::from(vec![b'x'; 2 << 20])).expect("a request");
        let answer = client.send(post).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (401, "no"));
    }
    assert_eq!(lab.metric(&["plgw_app_connections_total"]), Some(1.0));
}
