//! WebSockets: B2, B3 for upgrades, B14.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::ext::Protocol;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use tokio_tungstenite::tungstenite::{Error, http::Response};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::client::{Client, Http, Tls, raw, tls};
use super::lab::*;
use super::recorder::{Manner, Recorder};
use plgw::appservices::AppOptions;
use plgw::tls::LabCa;

const PATH: &str = "/api/client/v2.0/app/myapp-abcde/realm-sync";
const PROTOCOL: &str = "com.mongodb.realm-query-sync#14";

pub(super) type Socket = WebSocketStream<Tls>;
pub(super) type Opened = Result<(Socket, Response<Option<Vec<u8>>>), Error>;

pub(super) async fn open(lab: &Lab, from: &str, to: &str, host: &str, query: &str) -> Opened {
    let io = tls(lab, from, to, host, &[b"http/1.1"]).await.expect("TLS");
    let mut request = format!("wss://{host}:{}{PATH}?{query}", lab.port).into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", PROTOCOL.parse().expect("a value"));
    request.headers_mut().insert("x-forwarded-for", "127.0.0.66".parse().expect("a value"));
    client_async(request, io).await
}

pub(super) async fn says_back(socket: &mut Socket) {
    for message in [Message::text("hello"), Message::binary(vec![7; 300_000]), Message::text("")] {
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(socket.next().await.expect("a message").expect("whole"), message);
    }
}

fn status_of(result: Opened) -> u16 {
    match result {
        Ok((_, response)) => response.status().as_u16(),
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

/// B2, B14: by both spellings of the host.
#[tokio::test]
async fn sync_through_a_sync_endpoint_reaches_the_app_until_one_side_closes() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    for (host, from) in [(WS_SDK, VPC), (WS_DOCS, PEERED), (WS_SDK, ON_PREMISES)] {
        let (mut socket, response) = open(&lab, from, SYNC, host, "baas_at=token").await.expect("a WebSocket");
        assert_eq!(response.headers()["sec-websocket-protocol"], PROTOCOL);
        lab.expect_metric(&["plgw_app_websockets_open", "app=\"myapp-abcde\"", "endpoint=\"sync\""], 1.0).await;
        says_back(&mut socket).await;
        let asked = backend.only();
        assert_eq!(asked.headers["x-plgw-vpc-endpoint"], "vpce-0468b2d7f9c3e5a01");
        assert_eq!(asked.headers["x-forwarded-for"], from);
        assert_eq!(asked.uri, format!("{PATH}?baas_at=token"));
        socket.close(None).await.expect("closed");
        while socket.next().await.is_some() {}
        drop(socket);
        lab.expect_metric(&["plgw_app_websockets_open", "endpoint=\"sync\""], 0.0).await;
    }
    lab.expect_metric(&["plgw_app_websockets_closed_total", "end=\"completed\""], 3.0).await;
    assert!(lab.metric(&["plgw_app_websocket_bytes_total", "to_backend"]).is_some_and(|bytes| bytes > 900_000.0));
}

#[tokio::test]
async fn an_open_websocket_is_listed_with_the_flows_and_ended_by_command() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    assert!(lab.front.websockets().is_empty());
    let (mut spared, _) = open(&lab, PEERED, SYNC, WS_SDK, "").await.expect("a WebSocket");
    let (mut socket, _) = open(&lab, VPC, SYNC, WS_SDK, "").await.expect("a WebSocket");
    says_back(&mut socket).await;
    let listed = lab.front.websockets();
    let view = listed.iter().find(|view| view.client.ip().to_string() == VPC).expect("it is listed");
    assert_eq!((view.protocol, view.target.as_str(), view.origin.label()), ("websocket", APP, "vpc"));
    assert_eq!((view.endpoint.as_str(), view.listener), ("vpce-0468b2d7f9c3e5a01", lab.at(SYNC)));
    assert!(view.bytes_to_target > 300_000 && view.bytes_to_client > 300_000, "{view:?}");
    assert_eq!(view.target_address.map(|address| address.to_string()).as_deref(), backend.url.strip_prefix("http://"));

    assert!(lab.front.kill(view.id));
    assert!(socket.next().await.is_none_or(|end| end.is_err()), "it breaks off");
    lab.expect_metric(&["plgw_app_websockets_closed_total", "end=\"killed\""], 1.0).await;
    assert!(!lab.front.kill(view.id), "it is gone");
    says_back(&mut spared).await;
    assert_eq!(lab.front.websockets().len(), 1);
}

/// B3, B4.
#[tokio::test]
async fn upgrades_from_outside_get_404_while_the_app_is_restricted() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    assert_eq!(status_of(open(&lab, INTERNET, PUBLIC, WS_SDK, "").await), 404);
    assert!(backend.asked().is_empty());
    lab.allow_non_vpc_requests(true).await;
    let (mut socket, _) = open(&lab, INTERNET, PUBLIC, WS_SDK, "").await.expect("a WebSocket");
    says_back(&mut socket).await;
    // Reinstated, it ends no connection.
    lab.allow_non_vpc_requests(false).await;
    assert_eq!(status_of(open(&lab, INTERNET, PUBLIC, WS_SDK, "").await), 404);
    says_back(&mut socket).await;
}

#[tokio::test]
async fn a_backends_refusal_of_a_websocket_is_passed_on() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let Err(Error::Http(response)) = open(&lab, VPC, SYNC, WS_SDK, "refuse").await else { panic!("refused") };
    assert_eq!(response.status(), 401);
}

/// RFC 8441: by extended CONNECT over HTTP/2.
#[tokio::test]
async fn a_websocket_over_http2_reaches_the_app() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    over_http2(&lab).await;
    let asked = backend.only();
    assert_eq!((asked.method, asked.headers["upgrade"].to_str().expect("text")), (Method::GET, "websocket"));
}

async fn over_http2(lab: &Lab) {
    let mut client = Client::connect(lab, Http::Two, VPC, SYNC).await;
    // A client must have received the settings before it sends an extended CONNECT.
    assert_eq!(client.get("/").await.status, 404);
    let Client::Http2(sender, _) = &mut client else { unreachable!("it is HTTP/2") };
    let mut request = Request::connect(format!("https://{WS_SDK}:{}{PATH}", lab.port));
    request = request.header("sec-websocket-version", "13").header("sec-websocket-protocol", PROTOCOL);
    let request = request.extension(Protocol::from_static("websocket")).body(Full::default()).expect("a request");
    let mut response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], PROTOCOL);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let io = TokioIo::new(hyper::upgrade::on(&mut response).await.expect("upgraded"));
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    for message in [Message::text("hello"), Message::binary(vec![7; 300_000])] {
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(socket.next().await.expect("a message").expect("whole"), message);
    }
    socket.close(None).await.expect("closed");
    drop(socket);
    lab.expect_metric(&["plgw_app_websockets_open", "endpoint=\"sync\""], 0.0).await;
}

#[tokio::test]
async fn websockets_reach_backends_by_http2_and_by_tls() {
    let backend = Recorder::start_as(Manner { h2c: true, ..Manner::default() }).await;
    let lab = Lab::start(&backend.url).await;
    let (mut socket, _) = open(&lab, VPC, SYNC, WS_SDK, "").await.expect("a WebSocket");
    says_back(&mut socket).await;
    assert_eq!(backend.only().method, Method::CONNECT);
    drop(socket);
    over_http2(&lab).await;

    let dir = tempfile::tempdir().expect("a directory");
    let ca = Arc::new(LabCa::open_or_create(dir.path()).expect("a CA"));
    let identity = ca.issue(&[], &["127.1.0.31".parse().expect("an address")]).expect("issued");
    let tls = identity.server_config(&[b"h2", b"http/1.1"]).expect("a configuration");
    let backend = Recorder::start_as(Manner { tls: Some(tls), ..Manner::default() }).await;
    let lab = Lab::start_under(dir, ca, &backend.url, AppOptions::default(), |_| {}).await;
    let (mut socket, _) = open(&lab, VPC, SYNC, WS_SDK, "").await.expect("a WebSocket");
    says_back(&mut socket).await;
    drop(socket);
    over_http2(&lab).await;
}

/// Neither side's slowness loses or reorders a byte.
#[tokio::test]
async fn a_slow_reader_gets_every_byte() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let (socket, _) = open(&lab, VPC, SYNC, WS_SDK, "").await.expect("a WebSocket");
    let (mut send, mut receive) = socket.split();
    let messages = 200_u32;
    let sending = tokio::spawn(async move {
        for n in 0..messages {
            let mut bytes = vec![0; 60_000];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            send.send(Message::binary(bytes)).await.expect("sent");
        }
        send
    });
    // Nothing is read until both directions are full.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for n in 0..messages {
        let message = receive.next().await.expect("a message").expect("whole").into_data();
        assert_eq!((message.len(), &message[..4]), (60_000, n.to_be_bytes().as_slice()));
    }
    drop(sending.await.expect("all sent"));
}

#[tokio::test]
async fn a_silent_websocket_is_reset_after_its_idle_timeout() {
    let backend = Recorder::start().await;
    let options = AppOptions { websocket_idle: Duration::from_millis(200), ..AppOptions::default() };
    let lab = Lab::start_with(&backend.url, options, |_| {}).await;
    let (mut socket, _) = open(&lab, VPC, SYNC, WS_SDK, "").await.expect("a WebSocket");
    says_back(&mut socket).await;
    let end = tokio::time::timeout(Duration::from_secs(5), socket.next()).await.expect("in time");
    assert!(matches!(end, Some(Err(Error::Io(_))) | None), "{end:?}");
    lab.expect_metric(&["plgw_app_websockets_closed_total", "end=\"idle\""], 1.0).await;
}

#[tokio::test]
async fn websockets_of_a_removed_endpoint_last_until_the_delay_ends() {
    let backend = Recorder::start().await;
    let options = AppOptions { drain: Duration::from_millis(300), ..AppOptions::default() };
    let mut lab = Lab::start_with(&backend.url, options, |_| {}).await;
    let (mut socket, _) = open(&lab, VPC, SYNC, WS_SDK, "").await.expect("a WebSocket");
    lab.change(|desired| desired.apps[0].endpoints.truncate(1)).await;
    says_back(&mut socket).await;
    let end = tokio::time::timeout(Duration::from_secs(5), socket.next()).await.expect("in time");
    assert!(matches!(end, Some(Err(Error::Io(_))) | None), "{end:?}");
    lab.expect_metric(&["plgw_app_websockets_closed_total", "end=\"drained\""], 1.0).await;
}

/// An upgrade that the backend doesn't agree to by the right key is no upgrade.
#[tokio::test]
async fn a_backend_with_a_wrong_accept_key_is_a_bad_gateway() {
    let listener = tokio::net::TcpListener::bind("127.1.0.31:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let task = tokio::spawn(async move {
        let (mut backend, _) = listener.accept().await.expect("a connection");
        let mut head = vec![0; 4096];
        let _ = backend.read(&mut head).await.expect("a head");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";
        backend.write_all(answer.as_bytes()).await.expect("written");
    });
    let lab = Lab::start(&url).await;
    assert_eq!(status_of(open(&lab, VPC, SYNC, WS_SDK, "").await), 502);
    task.await.expect("asked once");
}

/// Without a key, or on another path, an upgrade is an ordinary request.
#[tokio::test]
async fn only_a_whole_upgrade_on_the_sync_path_becomes_a_websocket() {
    let backend = Recorder::start().await;
    let lab = Lab::start(&backend.url).await;
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
    let ask = async |to: &str, path: &str, fields: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {WS_SDK}\r\n{fields}\r\n\r\n");
        raw(&lab, VPC, to, request.as_bytes(), |said| said.contains("\r\n\r\n")).await
    };
    let said = ask(SYNC, PATH, fields).await;
    assert!(said.starts_with("HTTP/1.1 401 "), "{said}");
    let key = format!("{fields}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==");
    let said = ask(GENERAL, "/api/client/v2.0/app/myapp-abcde/functions/call", &key).await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert!(backend.asked().iter().all(|asked| !asked.headers.contains_key("upgrade")));
}
