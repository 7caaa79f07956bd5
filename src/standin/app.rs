//! An App Services backend: echoes requests and WebSockets, and answers the `location` call of device SDKs.
//!
//! HTTP/1.1 and HTTP/2 (h2c with prior knowledge). SDKs make the `location` call first
//! (`realm-core`, `app.cpp`); the response for an unknown app is App Services'.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::server::Server;
use super::{NAME, StandinError};
use crate::model::AppId;

/// Time limit for the head of a request.
const GREETING_LIMIT: Duration = Duration::from_secs(30);

/// Apps by their client app id.
pub type KnownApps = BTreeMap<AppId, AppLocation>;

/// The response to an SDK's `location` call.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AppLocation {
    /// `LOCAL` or `GLOBAL`.
    pub deployment_model: String,
    /// App Services' name of the region: `US-VA`.
    pub location: String,
    /// Base URL for requests from then on.
    pub hostname: String,
    /// Base URL for Sync from then on.
    pub ws_hostname: String,
}

/// Counts of a stand-in App Services backend since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct AppCounts {
    /// Requests answered, of any kind.
    pub requests: u64,
    /// WebSockets opened.
    pub websockets: u64,
    /// WebSocket messages sent back.
    pub messages: u64,
}

/// A running App Services backend. Dropping it stops it.
#[derive(Debug)]
pub struct AppBackend {
    server: Server,
    shared: Arc<AppState>,
}

impl AppBackend {
    /// Serves `apps` at `address` (port 0: any free one), with their responses to the `location` call.
    ///
    /// # Errors
    ///
    /// [`StandinError::Bind`] when the address is not available.
    pub async fn start(address: SocketAddr, apps: KnownApps) -> Result<Self, StandinError> {
        let shared = Arc::new(AppState { apps, counts: Mutex::default() });
        let serving = shared.clone();
        let serve = move |stream, peer| serve(serving.clone(), stream, peer);
        Ok(Self { server: Server::start("app backend", address, serve).await?, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The counts since the start.
    #[must_use]
    pub fn carried(&self) -> AppCounts {
        *self.shared.counts()
    }

    /// Stops it, and waits until all connections are closed.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

#[derive(Debug)]
struct AppState {
    apps: KnownApps,
    counts: Mutex<AppCounts>,
}

impl AppState {
    fn counts(&self) -> MutexGuard<'_, AppCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type AppReply = Response<Full<Bytes>>;

/// Serves one connection to its end.
async fn serve(shared: Arc<AppState>, stream: TcpStream, peer: SocketAddr) {
    // An upgraded connection continues in this task, so that it ends with the others when the stand-in stops.
    let upgraded = Arc::new(Mutex::new(None::<OnUpgrade>));
    let service = service_fn(|request| answer(shared.clone(), upgraded.clone(), peer, request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(GREETING_LIMIT);
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%peer, %error, "stand-in closed a connection");
    }
    let upgrade = upgraded.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(upgrade) = upgrade
        && let Ok(stream) = upgrade.await
    {
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
        echo_messages(&shared, stream).await;
    }
}

async fn answer(
    shared: Arc<AppState>,
    upgraded: Arc<Mutex<Option<OnUpgrade>>>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<AppReply, Infallible> {
    shared.counts().requests += 1;
    let path = request.uri().path().to_owned();
    let client_call = path.strip_prefix("/api/client/v2.0/app/").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
    if let Some((id, call)) = client_call {
        let Some(location) = id.parse::<AppId>().ok().and_then(|id| shared.apps.get(&id)) else {
            let error = json!({ "error": format!("cannot find app using Client App ID '{id}'") });
            return Ok(reply(StatusCode::NOT_FOUND, &error));
        };
        if call == "location" && request.method() == Method::GET {
            return Ok(reply(StatusCode::OK, &json!(location)));
        }
    }
    if wants_websocket(request.headers()) {
        let response = open_websocket(request.headers());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            *upgraded.lock().unwrap_or_else(PoisonError::into_inner) = Some(hyper::upgrade::on(&mut request));
            shared.counts().websockets += 1;
        }
        return Ok(response);
    }
    if client_call.is_some_and(|(_, call)| call == "realm-sync") {
        let error = json!({ "error": "realm-sync is a WebSocket: send Upgrade: websocket" });
        return Ok(with(reply(StatusCode::UPGRADE_REQUIRED, &error), header::UPGRADE, "websocket"));
    }
    Ok(echo(peer, request).await)
}

/// Describes the request as JSON. The body is counted, not kept.
async fn echo(peer: SocketAddr, mut request: Request<Incoming>) -> AppReply {
    let mut body_bytes = 0_u64;
    while let Some(frame) = request.body_mut().frame().await {
        match frame {
            Ok(frame) => body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Err(error) => {
                let error = json!({ "error": format!("cannot read the request's body: {error}") });
                return reply(StatusCode::BAD_REQUEST, &error);
            }
        }
    }
    let mut headers = Map::new();
    for name in request.headers().keys() {
        let values = request.headers().get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        headers.insert(name.to_string(), Value::String(values.collect::<Vec<_>>().join(", ")));
    }
    let seen = json!({
        "stand_in": NAME,
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "query": request.uri().query(),
        "host": request.uri().authority().map(ToString::to_string),
        "version": format!("{:?}", request.version()),
        "headers": headers,
        "body_bytes": body_bytes,
        "peer": peer.to_string(),
    });
    reply(StatusCode::OK, &seen)
}

async fn echo_messages<S: AsyncRead + AsyncWrite + Unpin>(shared: &AppState, mut stream: WebSocketStream<S>) {
    // Reading the stream also answers pings and confirms a close.
    while let Some(Ok(message)) = stream.next().await {
        if message.is_text() || message.is_binary() {
            if stream.send(message).await.is_err() {
                return;
            }
            shared.counts().messages += 1;
        }
    }
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, header::UPGRADE, "websocket") && has_token(headers, header::CONNECTION, "upgrade")
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// The response that opens a WebSocket (RFC 6455 section 4.2.2), with the first of the offered subprotocols; or a
/// refusal.
fn open_websocket(headers: &HeaderMap) -> AppReply {
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let error = json!({ "error": "WebSocket version 13 is served" });
        return with(reply(StatusCode::UPGRADE_REQUIRED, &error), header::SEC_WEBSOCKET_VERSION, "13");
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return reply(StatusCode::BAD_REQUEST, &json!({ "error": "a WebSocket request without Sec-WebSocket-Key" }));
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response = with(response, header::CONNECTION, "Upgrade");
    response = with(response, header::UPGRADE, "websocket");
    response = with(response, header::SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes()));
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|offered| offered.to_str().ok());
    if let Some(first) = offered.and_then(|offered| offered.split(',').next()) {
        response = with(response, header::SEC_WEBSOCKET_PROTOCOL, first.trim());
    }
    response
}

fn reply(status: StatusCode, body: &Value) -> AppReply {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    with(response, header::CONTENT_TYPE, "application/json")
}

fn with(mut response: AppReply, name: header::HeaderName, value: &str) -> AppReply {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use hyper::client::conn::{http1, http2};
    use tokio_tungstenite::client_async;
    use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest};

    use super::*;

    const ID: &str = "myapp-abcde";

    fn location() -> AppLocation {
        AppLocation {
            deployment_model: "LOCAL".into(),
            location: "US-VA".into(),
            hostname: "https://us-east-1.aws.services.cloud.mongodb.com".into(),
            ws_hostname: "wss://ws.us-east-1.aws.services.cloud.mongodb.com".into(),
        }
    }

    async fn backend() -> AppBackend {
        let apps = KnownApps::from([(ID.parse().unwrap(), location())]);
        AppBackend::start("127.0.0.1:0".parse().unwrap(), apps).await.expect("a backend")
    }

    async fn body(response: Response<Incoming>) -> (StatusCode, Value) {
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    async fn ask(app: &AppBackend, request: Request<Full<Bytes>>) -> (StatusCode, Value) {
        let stream = TcpStream::connect(app.address()).await.expect("a connection");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        body(sender.send_request(request).await.expect("a response")).await
    }

    fn get(path: &str) -> Request<Full<Bytes>> {
        Request::get(path).header("host", "us-east-1.aws.services.cloud.mongodb.com").body(Full::default()).unwrap()
    }

    #[tokio::test]
    async fn a_request_comes_back_as_it_arrived() {
        let app = backend().await;
        let path = format!("/api/client/v2.0/app/{ID}/functions/call?x=1");
        let request = Request::post(&path).header("host", "h").header("x-tag", "a").header("x-tag", "b");
        let (status, seen) = ask(&app, request.body(Full::from(vec![b'x'; 100_000])).unwrap()).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(seen["method"], "POST");
        assert_eq!(seen["path"], format!("/api/client/v2.0/app/{ID}/functions/call"));
        assert_eq!(seen["query"], "x=1");
        assert_eq!(seen["headers"]["x-tag"], "a, b");
        assert_eq!(seen["body_bytes"], 100_000);
        assert_eq!(seen["stand_in"], NAME);
        assert_eq!(app.carried().requests, 1);
    }

    #[tokio::test]
    async fn the_location_call_has_the_host_names() {
        let app = backend().await;
        let path = format!("/api/client/v2.0/app/{ID}/location");
        assert_eq!(ask(&app, get(&path)).await, (StatusCode::OK, json!(location())));
    }

    #[tokio::test]
    async fn an_unknown_app_is_not_found_by_its_id() {
        let app = backend().await;
        for id in ["other-abcde", "nonsense"] {
            let (status, body) = ask(&app, get(&format!("/api/client/v2.0/app/{id}/location"))).await;
            assert_eq!(status, StatusCode::NOT_FOUND);
            assert_eq!(body, json!({ "error": format!("cannot find app using Client App ID '{id}'") }));
        }
    }

    #[tokio::test]
    async fn http_2_is_served_with_prior_knowledge() {
        let app = backend().await;
        let stream = TcpStream::connect(app.address()).await.expect("a connection");
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = Request::get("http://h.net/some/where").body(Full::<Bytes>::default()).unwrap();
        let (status, seen) = body(sender.send_request(request).await.expect("a response")).await;
        assert_eq!((status, seen["version"].as_str()), (StatusCode::OK, Some("HTTP/2.0")));
        assert_eq!(seen["host"], "h.net");
    }

    #[tokio::test]
    async fn sync_messages_come_back_until_the_client_closes() {
        let app = backend().await;
        let stream = TcpStream::connect(app.address()).await.expect("a connection");
        let url = format!("ws://ws.us-east-1.aws.services.cloud.mongodb.com/api/client/v2.0/app/{ID}/realm-sync");
        let mut request = url.into_client_request().unwrap();
        let offered = HeaderValue::from_static("com.mongodb.realm-query-sync#14, com.mongodb.realm-query-sync#13");
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
        let (mut socket, response) = client_async(request, stream).await.expect("a WebSocket");
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_PROTOCOL], "com.mongodb.realm-query-sync#14");
        for message in [Message::text("hello"), Message::binary(vec![7; 70_000])] {
            socket.send(message.clone()).await.expect("sent");
            assert_eq!(socket.next().await.expect("open").expect("a message"), message);
        }
        socket.close(None).await.expect("closed");
        while let Some(Ok(message)) = socket.next().await {
            assert!(message.is_close(), "{message}");
        }
        assert_eq!(app.carried(), AppCounts { requests: 1, websockets: 1, messages: 2 });
        app.stop().await;
    }

    #[tokio::test]
    async fn upgrades_that_cannot_be_are_refused() {
        let app = backend().await;
        let upgrade = |path: &str, version: &str| {
            let request = get(path).into_parts().0;
            let mut request = Request::from_parts(request, Full::default());
            for (name, value) in
                [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-version", version)]
            {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            request
        };
        assert_eq!(ask(&app, upgrade("/anywhere", "13")).await.0, StatusCode::BAD_REQUEST);
        assert_eq!(ask(&app, upgrade("/anywhere", "8")).await.0, StatusCode::UPGRADE_REQUIRED);
        let sync = format!("/api/client/v2.0/app/{ID}/realm-sync");
        assert_eq!(ask(&app, get(&sync)).await.0, StatusCode::UPGRADE_REQUIRED);
        let stream = TcpStream::connect(app.address()).await.expect("a connection");
        let refused = client_async("ws://h/api/client/v2.0/app/other-abcde/realm-sync", stream).await;
        assert!(matches!(refused, Err(Error::Http(response)) if response.status() == StatusCode::NOT_FOUND));
    }

    #[tokio::test]
    async fn stopping_ends_open_websockets() {
        let app = backend().await;
        let stream = TcpStream::connect(app.address()).await.expect("a connection");
        let (mut socket, _) = client_async("ws://h/anywhere", stream).await.expect("a WebSocket");
        socket.send(Message::text("x")).await.expect("sent");
        assert!(socket.next().await.is_some_and(|message| message.is_ok()));
        app.stop().await;
        assert!(matches!(socket.next().await, None | Some(Err(_))));
    }
}
