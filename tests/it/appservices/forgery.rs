//! Nothing that a client sends makes it another client, or its request another request.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Client, Http, Tls, raw, tcp, tls};
use super::lab::*;
use super::recorder::Recorder;
use plgw::appservices::AppOptions;

const OTHER: &str = "other-fghij";
const SECRET: &str = "/api/client/v2.0/app/myapp-abcde/functions/call";

/// Two apps at the same public address with a backend each: the first restricted, the second open to all clients.
struct Two {
    lab: Lab,
    secret: Recorder,
    open: Recorder,
}

impl Two {
    async fn start() -> Self {
        let (secret, open) = (Recorder::start().await, Recorder::start().await);
        let url = open.url.clone();
        let lab = Lab::start_with(&secret.url, AppOptions::default(), move |desired| {
            let mut other = another(&desired.apps[0], OTHER, &url);
            other.allow_non_vpc_requests = true;
            desired.apps.push(other);
        })
        .await;
        Self { lab, secret, open }
    }

    /// Sends `bytes` from the internet, and returns what is answered until the gateway closes or is silent;
    /// `is_answered`: something is.
    async fn send(&self, bytes: &[u8], is_answered: bool) -> String {
        let mut io = tls(&self.lab, INTERNET, PUBLIC, HOST, &[b"http/1.1"]).await.expect("TLS");
        io.write_all(bytes).await.expect("written");
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        // An answer ends with silence, as the connection may stay open.
        let silence = Duration::from_millis(300);
        let mut limit = if is_answered { Duration::from_secs(20) } else { silence };
        while let Ok(Ok(n)) = tokio::time::timeout(limit, io.read(&mut buffer)).await {
            if n == 0 {
                break;
            }
            said.extend_from_slice(&buffer[..n]);
            limit = silence;
        }
        String::from_utf8_lossy(&said).into_owned()
    }
}

#[tokio::test]
async fn headers_that_claim_an_origin_are_ignored_and_removed() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    let forged = [
        ("x-forwarded-for", "127.0.0.9"),
        ("x-forwarded-for", "127.0.0.10"),
        ("x_forwarded_for", "127.0.0.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "elsewhere"),
        ("forwarded", "for=127.0.0.9;host=elsewhere"),
        ("x-real-ip", "127.0.0.9"),
        ("x-plgw-origin", "vpc"),
        ("x_plgw_origin", "vpc"),
        ("x-plgw-vpc-endpoint", "vpce-0357a1c6e8b2d4f90"),
        ("x-amzn-vpce-id", "vpce-0357a1c6e8b2d4f90"),
        ("true-client-ip", "127.0.0.9"),
        ("connection", "x-plgw-origin, x-forwarded-for, host"),
    ];
    let send = async |lab: &Lab| {
        let mut client = Client::connect(lab, Http::One, INTERNET, PUBLIC).await;
        let request = forged.iter().fold(client.request("GET", SECRET), |r, (name, value)| r.header(*name, *value));
        client.send(request.body(Full::default()).expect("a request")).await.expect("an answer").status
    };
    assert_eq!(send(&lab).await, 404);
    assert!(backend.asked().is_empty());
    lab.allow_non_vpc_requests(true).await;
    assert_eq!(send(&lab).await, 200);
    let asked = backend.only();
    let texts: Vec<_> = asked.headers.values().map(|value| value.to_str().expect("text")).collect();
    assert!(!texts.iter().any(|text| text.contains("127.0.0.") || text.contains("elsewhere") || *text == "vpc"));
    assert_eq!(asked.headers.get_all("x-plgw-origin").iter().collect::<Vec<_>>(), ["public"]);
    assert_eq!(asked.headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), [INTERNET]);
    assert!(!asked.headers.contains_key("x-plgw-vpc-endpoint"));
}

#[tokio::test]
async fn a_host_is_given_once_without_ambiguity_and_belongs_to_the_address() {
    let Two { lab, secret, open } = Two::start().await;
    let path = format!("/api/client/v2.0/app/{OTHER}/functions/call");
    let west = "us-west-2.aws.services.cloud.mongodb.com";
    for (line, hosts, expected) in [
        (path.clone(), vec![HOST], "200"),
        (path.clone(), vec!["US-EAST-1.aws.services.cloud.MongoDB.com.:1"], "200"),
        (format!("https://{HOST}{path}"), vec![HOST], "200"),
        (format!("https://{HOST}{path}"), vec![], "200"),
        (path.clone(), vec![], "400"),
        (path.clone(), vec![HOST, HOST], "400"),
        (path.clone(), vec![HOST, west], "400"),
        (format!("https://{HOST}{path}"), vec![west], "400"),
        (format!("https://{west}{path}"), vec![HOST], "400"),
        (format!("http://{HOST}{path}"), vec![HOST], "400"),
        (format!("https://vpc@{HOST}{path}"), vec![HOST], "400"),
        (path.clone(), vec!["user@us-east-1.aws.services.cloud.mongodb.com"], "400"),
        (path.clone(), vec!["us-east-1.aws.services.cloud.mongodb.com:80a"], "400"),
        (path.clone(), vec![""], "400"),
        (path.clone(), vec![west], "421"),
        (path.clone(), vec![GENERAL], "421"),
        (path.clone(), vec!["localhost"], "421"),
        (format!("https://{west}{path}"), vec![west], "421"),
    ] {
        let fields: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        let request = format!("GET {line} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
        let said = raw(&lab, INTERNET, PUBLIC, request.as_bytes(), |_| false).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {expected} ")), "{line} {hosts:?}: {said}");
    }
    assert_eq!((secret.asked().len(), open.asked().len()), (0, 4));
    assert!(open.asked().iter().all(|asked| asked.uri == path), "origin form, whatever the client's form");
}

#[tokio::test]
async fn a_path_that_a_backend_could_read_as_anothers_is_refused() {
    let two = Two::start().await;
    for path in [
        format!("/api/client/v2.0/app/{OTHER}/../myapp-abcde/functions/call"),
        format!("/api/client/v2.0/app/{OTHER}/%2e%2e/myapp-abcde/functions/call"),
        format!("/api/client/v2.0/app/{OTHER}/..%2fmyapp-abcde/functions/call"),
        format!("/api/client/v2.0/app/{OTHER}/%252e%252e/myapp-abcde/functions/call"),
        format!("/api/client/v2.0/app/{OTHER}%2f..%2fmyapp-abcde/functions/call"),
        format!("/api/client/v2.0/app/{OTHER}/..;/myapp-abcde/functions/call"),
        format!("//api/client/v2.0/app/{OTHER}/functions/call"),
        format!("/api/client/v2.0/app/{OTHER}/./functions/call"),
        "*".to_owned(),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let said = two.send(request.as_bytes(), true).await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{path}: {said}");
    }
    assert!(two.secret.asked().is_empty() && two.open.asked().is_empty());
}

/// Every request here hides another one for the restricted app, or tries to make gateway and backend disagree on where
/// it ends. The expectation: what the gateway says first (empty: it just closes), and how many requests the open app's
/// backend may get.
#[tokio::test]
async fn no_request_is_smuggled() {
    let two = Two::start().await;
    let hidden = format!("GET {SECRET} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let n = hidden.len();
    let chunk = format!("{n:x}\r\n{hidden}\r\n0\r\n\r\n");
    let with = |fields: &str, body: &str| {
        format!("POST /api/client/v2.0/app/{OTHER}/echo HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n\r\n{body}")
    };
    let chunked = "Transfer-Encoding: chunked";
    let cases: Vec<(&str, String, &str, usize)> = vec![
        // Well-formed, for comparison: the hidden request is payload.
        ("a length", with(&format!("Content-Length: {n}"), &hidden), "200", 1),
        ("chunks", with(chunked, &chunk), "200", 1),
        // Both: chunked counts (RFC 9112 §6.3), and the length goes no further.
        ("length, then chunked", with(&format!("Content-Length: 4\r\n{chunked}"), &chunk), "200", 1),
        ("chunked, then length", with(&format!("{chunked}\r\nContent-Length: 4"), &chunk), "200", 1),
        ("equal lengths", with(&format!("Content-Length: {n}\r\nContent-Length: {n}"), &hidden), "200", 1),
        ("unequal lengths", with(&format!("Content-Length: {n}\r\nContent-Length: 0"), &hidden), "400", 0),
        ("a list of lengths", with(&format!("Content-Length: {n}, 0"), &hidden), "400", 0),
        ("a length with a sign", with(&format!("Content-Length: +{n}"), &hidden), "400", 0),
        ("a negative length", with("Content-Length: -1", &hidden), "400", 0),
        ("a length in hex", with(&format!("Content-Length: 0x{n:x}"), &hidden), "400", 0),
        ("an endless length", with("Content-Length: 99999999999999999999999", &hidden), "400", 0),
        ("a space before the colon", with("Transfer-Encoding : chunked", &chunk), "400", 0),
        ("a length with a space before the colon", with(&format!("Content-Length : {n}"), &hidden), "400", 0),
        ("another coding", with("Transfer-Encoding: xchunked", &chunk), "400", 0),
        ("chunked, then another", with("Transfer-Encoding: chunked, identity", &chunk), "400", 0),
        ("another, then chunked", with("Transfer-Encoding: gzip, chunked", &chunk), "400", 0),
        ("chunked twice", with(&format!("{chunked}\r\n{chunked}"), &chunk), "400", 0),
        ("identity on a line of its own", with(&format!("{chunked}\r\nTransfer-Encoding: identity"), &chunk), "400", 0),
        ("a quoted coding", with("Transfer-Encoding: \"chunked\"", &chunk), "400", 0),
        ("a vertical tab", with("Transfer-Encoding: \x0bchunked", &chunk), "400", 0),
        ("a folded line", with("X-A: b\r\n Transfer-Encoding: chunked", &chunk), "400", 0),
        ("a folded coding", with("Transfer-Encoding:\r\n chunked", &chunk), "400", 0),
        ("a line that starts with a space", format!("GET / HTTP/1.1\r\n Host: {HOST}\r\n\r\n"), "400", 0),
        ("a bare CR in a value", with("X-A: b\rTransfer-Encoding: chunked", &chunk), "400", 0),
        ("a NUL in a value", with("X-A: b\0c", ""), "400", 0),
        ("a NUL in a name", with("X-A\0: b", ""), "400", 0),
        ("no name", with(": b", ""), "400", 0),
        ("HTTP/1.0 with chunks", chunk_in_1_0(&chunk), "400", 0),
        ("HTTP/3.0 in text", format!("GET / HTTP/3.0\r\nHost: {HOST}\r\n\r\n"), "400", 0),
        ("HTTP/0.9", format!("GET /api/client/v2.0/app/{OTHER}/echo\r\n\r\n"), "400", 0),
        ("a chunk's size that wraps around", with(chunked, &format!("1{n:016x}\r\n{hidden}\r\n0\r\n\r\n")), "", 0),
        ("a chunk's size with a sign", with(chunked, &format!("+{n:x}\r\n{hidden}\r\n0\r\n\r\n")), "", 0),
        ("a chunk's size with 0x", with(chunked, &format!("0x{n:x}\r\n{hidden}\r\n0\r\n\r\n")), "", 0),
        ("a bare LF after a chunk's size", with(chunked, &format!("{n:x}\n{hidden}\r\n0\r\n\r\n")), "", 0),
        ("a bare LF in a chunk's extension", with(chunked, &format!("2;\n{hidden}\r\n0\r\n\r\n")), "", 0),
        ("a chunk longer than it says", with(chunked, &format!("1\r\n{hidden}\r\n0\r\n\r\n")), "", 0),
        // Lines that end in a bare LF are lines (RFC 9112 §2.2), for the length of the body too.
        (
            "bare LFs",
            format!("POST /api/client/v2.0/app/{OTHER}/echo HTTP/1.1\nHost: {HOST}\nContent-Length: {n}\n\n{hidden}"),
            "200",
            1,
        ),
        // A body that is too short for its length is never complete, so it is no request.
        ("a length that is too long", with("Content-Length: 10000", &hidden), "", 0),
        // A second request on the connection is handled as a separate request.
        ("a length that is too short", with("Content-Length: 0", &hidden), "200", 1),
        ("an end of chunks that comes early", with(chunked, &format!("0\r\n\r\n{hidden}")), "200", 1),
    ];
    for (what, bytes, first, reached) in cases {
        let said = two.send(bytes.as_bytes(), !first.is_empty()).await;
        let open = std::mem::take(&mut *two.open.shared.asked.lock().expect("no panic"));
        assert!(two.secret.asked().is_empty(), "{what} reached the restricted app");
        assert_eq!(open.len(), reached, "{what}: {said}");
        if first.is_empty() {
            assert!(!said.starts_with("HTTP/1.1 2"), "{what}: {said}");
        } else {
            assert!(said.starts_with(&format!("HTTP/1.1 {first} ")), "{what}: {said}");
        }
        for asked in open {
            assert_eq!(asked.uri, format!("/api/client/v2.0/app/{OTHER}/echo"), "{what}");
            assert!(asked.body.is_empty() || asked.body == hidden, "{what}: {:?}", asked.body);
            assert!(!(asked.headers.contains_key("transfer-encoding") && asked.headers.contains_key("content-length")));
        }
        // Any other answer is a refusal of the bytes behind the first request.
        for later in said.match_indices("HTTP/1.1 ").skip(1) {
            assert!(said[later.0..].starts_with("HTTP/1.1 4"), "{what}: {said}");
        }
    }
}

fn chunk_in_1_0(chunk: &str) -> String {
    format!(
        "POST /api/client/v2.0/app/{OTHER}/echo HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
    )
}

#[tokio::test]
async fn an_upgrade_to_anything_but_a_websocket_is_not_passed_on() {
    let two = Two::start().await;
    let fields = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA";
    let said = two
        .send(
            format!("GET /api/client/v2.0/app/{OTHER}/x HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n\r\n").as_bytes(),
            true,
        )
        .await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    let asked = two.open.only();
    for name in ["upgrade", "connection", "http2-settings"] {
        assert!(!asked.headers.contains_key(name), "{name}");
    }
    for method in ["CONNECT", "TRACE", "TRACK"] {
        let target =
            if method == "CONNECT" { format!("{HOST}:443") } else { format!("/api/client/v2.0/app/{OTHER}/x") };
        let said = two.send(format!("{method} {target} HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").as_bytes(), true).await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{method}: {said}");
    }
    assert!(two.open.asked().is_empty());
}

#[tokio::test]
async fn trailers_are_not_passed_on() {
    let two = Two::start().await;
    let said = two
        .send(
            format!(
                "POST /api/client/v2.0/app/{OTHER}/echo HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\
                 Trailer: X-Plgw-Origin\r\n\r\n2\r\nhi\r\n0\r\nX-Plgw-Origin: vpc\r\n\r\n"
            )
            .as_bytes(),
            true,
        )
        .await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("hi"), "{said}");
    let asked = two.open.only();
    assert_eq!(asked.headers.get_all("x-plgw-origin").iter().collect::<Vec<_>>(), ["public"]);
    assert!(!asked.headers.contains_key("trailer"));
}

/// A PROXY header in front of the TLS handshake is no handshake, from whomever it comes.
#[tokio::test]
async fn a_proxy_header_from_a_client_has_no_effect() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let (client, listener) = ("127.0.0.9:5".parse().expect("an address"), lab.at(GENERAL));
    let endpoint = "vpce-0357a1c6e8b2d4f90".parse().expect("an id");
    let second = plgw::data::proxy_protocol::encode(client, listener, Some(&endpoint));
    for header in [b"PROXY TCP4 127.0.0.9 127.0.30.195 5 443\r\n".as_slice(), &second] {
        let mut tcp = tcp(&lab, INTERNET, PUBLIC).await;
        tcp.write_all(header).await.expect("written");
        let mut said = Vec::new();
        // An alert or a reset, and then nothing.
        let _ = tokio::time::timeout(Duration::from_secs(5), tcp.read_to_end(&mut said)).await.expect("closed at once");
        assert!(said.first().is_none_or(|kind| *kind == 21), "an alert at most: {said:?}");
    }
    lab.expect_metric(&["plgw_app_tls_failures_total"], 2.0).await;
}

#[tokio::test]
async fn http2_requests_for_other_hosts_on_one_connection_are_checked_separately() {
    let Two { lab, secret, open } = Two::start().await;
    let mut client = Client::connect(&lab, Http::Two, INTERNET, PUBLIC).await;
    let path = format!("/api/client/v2.0/app/{OTHER}/x");
    let mut ask = async |uri: String, host: Option<&str>| {
        let request = Request::get(uri);
        let request = host.into_iter().fold(request, |request, host| request.header("host", host));
        client
            .send(request.body(Full::<Bytes>::default()).expect("a request"))
            .await
            .expect("an answer")
            .status
            .as_u16()
    };
    assert_eq!(ask(format!("https://{HOST}{path}"), None).await, 200);
    assert_eq!(ask(format!("https://{WS_SDK}{path}"), None).await, 200);
    assert_eq!(ask(format!("https://{HOST}{SECRET}"), None).await, 404);
    assert_eq!(ask(format!("https://us-west-2.aws.services.cloud.mongodb.com{path}"), None).await, 421);
    assert_eq!(ask(format!("http://{HOST}{path}"), None).await, 400, ":scheme");
    assert_eq!(ask(format!("https://{HOST}{path}"), Some(WS_SDK)).await, 400, "Host beside :authority");
    assert_eq!(ask(format!("https://{HOST}{path}"), Some(HOST)).await, 200);
    assert_eq!((secret.asked().len(), open.asked().len()), (0, 3));
}

/// A HEADERS frame with fields as they are: literal, not indexed, not Huffman-coded (RFC 7541 §6.2.2).
pub(super) fn headers(stream: u32, fields: &[(&str, &str)], end: bool) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "one byte of length");
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(1, 4 | u8::from(end), stream, &block)
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The preface of a client, and empty SETTINGS.
pub(super) fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat()
}

/// Reads frames until one is wanted or the connection ends; gives their kinds with their streams.
pub(super) async fn frames(io: &mut Tls, wanted: impl Fn(u8, u32) -> bool) -> Vec<(u8, u32)> {
    let mut seen = Vec::new();
    let reading = async {
        let mut head = [0; 9];
        while io.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length];
            if io.read_exact(&mut payload).await.is_err() {
                return;
            }
            seen.push((head[3], stream));
            if wanted(head[3], stream) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("frames in time");
    seen
}

#[tokio::test]
async fn malformed_http2_heads_reach_no_backend() {
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    let Two { lab, secret, open } = Two::start().await;
    let path = format!("/api/client/v2.0/app/{OTHER}/x");
    let good = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", path.as_str())];
    let with = |more: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
        good.iter().copied().chain(more.iter().copied()).collect()
    };
    let without = |name: &str| -> Vec<(&str, &str)> { good.iter().filter(|(n, _)| *n != name).copied().collect() };
    let after: Vec<(&str, &str)> = [("x-a", "b")].into_iter().chain(good).collect();
    for (what, fields) in [
        ("two paths", with(&[(":path", SECRET)])),
        ("two authorities", with(&[(":authority", "elsewhere")])),
        ("two methods", with(&[(":method", "POST")])),
        ("an unknown pseudo-header", with(&[(":origin", "vpc")])),
        ("a pseudo-header of answers", with(&[(":status", "200")])),
        ("pseudo-headers last", after),
        ("no path", without(":path")),
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("a connection's header", with(&[("connection", "x-plgw-origin")])),
        ("a transfer coding", with(&[("transfer-encoding", "chunked")])),
        ("an upgrade", with(&[("upgrade", "websocket")])),
        ("upper case", with(&[("X-Plgw-Origin", "vpc")])),
        ("a line end in a value", with(&[("x-a", "b\r\nx-plgw-origin: vpc")])),
        ("a NUL in a value", with(&[("x-a", "b\0")])),
        ("a space in a name", with(&[("x a", "b")])),
        ("a length without a body", with(&[("content-length", "5")])),
    ] {
        let mut io = tls(&lab, INTERNET, PUBLIC, HOST, &[b"h2"]).await.expect("TLS");
        let sent = [preface(), headers(1, &fields, true)].concat();
        io.write_all(&sent).await.expect("written");
        let seen = frames(&mut io, |kind, stream| (kind, stream) == (RST_STREAM, 1) || kind == GOAWAY).await;
        let last = seen.last().copied();
        assert!(matches!(last, Some((RST_STREAM, 1) | (GOAWAY, 0))), "{what}: {seen:?}");
        assert!(open.asked().is_empty() && secret.asked().is_empty(), "{what}");
    }
    // A body that isn't as long as it was said to be.
    let post = [(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", path.as_str())];
    for (length, body) in [("2", "hidden"), ("20", "hidden")] {
        let fields: Vec<_> = post.iter().copied().chain([("content-length", length)]).collect();
        let mut io = tls(&lab, INTERNET, PUBLIC, HOST, &[b"h2"]).await.expect("TLS");
        let sent = [preface(), headers(1, &fields, false), frame(0, 1, 1, body.as_bytes())].concat();
        io.write_all(&sent).await.expect("written");
        frames(&mut io, |kind, stream| (kind, stream) == (RST_STREAM, 1) || kind == GOAWAY).await;
        assert!(open.asked().is_empty(), "{length}");
    }
    // Well-formed, for comparison: an answer comes.
    let mut io = tls(&lab, INTERNET, PUBLIC, HOST, &[b"h2"]).await.expect("TLS");
    io.write_all(&[preface(), headers(1, &good, true)].concat()).await.expect("written");
    let seen = frames(&mut io, |kind, stream| (kind, stream) == (1, 1)).await;
    assert_eq!((seen.last(), open.asked().len()), (Some(&(1, 1)), 1));
}

/// B13: the gateway is no way out. Neither the backend nor a client can make it connect to another host.
#[tokio::test]
async fn the_gateway_connects_only_to_the_apps_backend() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    lab.allow_non_vpc_requests(true).await;
    let world = tokio::net::TcpListener::bind("127.9.0.77:0").await.expect("bound");
    let there = world.local_addr().expect("an address");

    // A trigger's request to an HTTP service, as it would be sent to a proxy: the app's side gets no answer at all.
    for to in [GENERAL, SYNC, PUBLIC] {
        let mut client = tcp(&lab, SERVICE_SIDE, to).await;
        client
            .write_all(format!("CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n\r\n").as_bytes())
            .await
            .expect("written");
        let silence = tokio::time::timeout(Duration::from_millis(200), client.read_u8()).await;
        assert!(!matches!(silence, Ok(Ok(_))), "an answer from {to}");
    }
    // The only possible answer is a refusal.
    let requests = [
        format!("CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n\r\n"),
        format!("CONNECT {there} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("GET http://{there}{SECRET} HTTP/1.1\r\nHost: {there}\r\n\r\n"),
        format!("GET https://{there}{SECRET} HTTP/1.1\r\nHost: {there}\r\n\r\n"),
        format!("GET {SECRET} HTTP/1.1\r\nHost: {there}\r\n\r\n"),
    ];
    for (from, to) in [(VPC, GENERAL), (VPC, SYNC), (INTERNET, PUBLIC)] {
        for request in &requests {
            let said = raw(&lab, from, to, request.as_bytes(), |said| said.contains("\r\n\r\n")).await;
            assert!(said.starts_with("HTTP/1.1 400 ") || said.starts_with("HTTP/1.1 421 "), "{request}: {said}");
        }
    }
    let called = tokio::time::timeout(Duration::from_millis(100), world.accept()).await;
    assert!(called.is_err(), "the gateway called {there}");
    assert!(backend.asked().is_empty(), "nor did the app's backend hear of it");
}
