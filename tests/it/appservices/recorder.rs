//! A backend that records its requests and acts by their paths.
//!
//! `…/echo` returns the body, `…/stall` never answers, `…/reset` resets the stream or closes the connection, `…/half`
//! ends early, `…/slow` waits to be released, `…/big` is large, `…/location` and `…/realm-sync` behave as in App Services; anything else gets `ok`.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The requests to the backend.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) uri: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) version: hyper::Version,
}

/// How the backend listens.
#[derive(Clone, Default)]
pub(super) struct Manner {
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// HTTP/2 without being asked by ALPN.
    pub h2c: bool,
    /// Expects a PROXY header of this length and keeps it.
    pub(super) proxy_header: usize,
}

pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    pub(super) url: String,
    pub(super) shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) asked: Mutex<Vec<Asked>>,
    pub(super) connections: Mutex<usize>,
    pub(super) proxy_headers: Mutex<Vec<Vec<u8>>>,
    /// Releases requests to `/slow`.
    pub(super) release: Notify,
    /// Signals a request.
    pub(super) came: Notify,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorder {
    pub(super) async fn start() -> Self {
        Self::start_as(Manner::default()).await
    }

    pub(super) async fn start_as(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.1.0.31:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let scheme = if manner.h2c {
            "h2c"
        } else if manner.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let accepting = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                *accepting.connections.lock().expect("no panic") += 1;
                tokio::spawn(serve(client, manner.clone(), Arc::clone(&accepting)));
            }
        });
        Self { address, url: format!("{scheme}://{address}"), shared, task }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("no panic").clone()
    }

    /// The only request that there was since the last call.
    pub(super) fn only(&self) -> Asked {
        let mut asked = std::mem::take(&mut *self.shared.asked.lock().expect("no panic"));
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    pub(super) fn connections(&self) -> usize {
        *self.shared.connections.lock().expect("no panic")
    }
}

async fn serve(mut client: TcpStream, manner: Manner, shared: Arc<Shared>) {
    if manner.proxy_header > 0 {
        let mut header = vec![0; manner.proxy_header];
        if client.read_exact(&mut header).await.is_err() {
            return;
        }
        shared.proxy_headers.lock().expect("no panic").push(header);
    }
    match manner.tls {
        Some(config) => {
            let Ok(tls) = TlsAcceptor::from(config).accept(client).await else { return };
            let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            speak(tls, is_h2, shared).await;
        }
        None => speak(client, manner.h2c, shared).await,
    }
}

async fn speak<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: T, is_h2: bool, shared: Arc<Shared>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    // An error on a connection shows at its other end.
    if is_h2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let _ = builder.enable_connect_protocol().serve_connection(TokioIo::new(io), service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(io), service).with_upgrades().await;
    }
}

type Answered = Result<Response<BoxBody<Bytes, std::io::Error>>, std::io::Error>;

async fn answer(mut request: Request<Incoming>, shared: Arc<Shared>) -> Answered {
    let path = request.uri().path().to_owned();
    let note = |request: &Request<()>, body: Bytes| {
        shared.asked.lock().expect("no panic").push(Asked {
            method: request.method().clone(),
            uri: request.uri().to_string(),
            headers: request.headers().clone(),
            body,
            version: request.version(),
        });
    };
    if path.ends_with("/realm-sync") {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let request = Request::from_parts(parts, ());
        note(&request, Bytes::new());
        return Ok(websocket(&request, upgrade));
    }
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, ());
    if path.ends_with("/echo-stream") {
        note(&request, Bytes::new());
        return Ok(Response::new(body.map_err(std::io::Error::other).boxed()));
    }
    shared.came.notify_one();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    note(&request, body.clone());
    let own = |bytes: Bytes| Full::new(bytes).map_err(|never| match never {}).boxed();
    let last = path.rsplit('/').next().unwrap_or_default();
    Ok(match last {
        "echo" => Response::new(own(body)),
        "stall" => std::future::pending().await,
        "reset" => return Err(std::io::Error::other("reset")),
        "half" => Response::new(HalfBody(0).boxed()),
        "slow" => {
            shared.release.notified().await;
            Response::new(own("slow".into()))
        }
        "big" => Response::new(own(vec![b'x'; 8 << 20].into())),
        "hop" => Response::builder()
            .header("connection", "x-private, keep-alive")
            .header("x-private", "1")
            .header("keep-alive", "timeout=5")
            .header("alt-svc", "h3=\":443\"")
            .header("x-kept", "1")
            .body(own("ok".into()))
            .expect("an answer"),
        "redirect" => Response::builder()
            .status(StatusCode::FOUND)
            .header(
                "location",
                format!("http://{}/elsewhere", request.headers()["x-test-backend"].to_str().expect("text")),
            )
            .body(own(Bytes::new()))
            .expect("an answer"),
        "location" => {
            let text = r#"{"deployment_model":"LOCAL","location":"US-VA","hostname":"http://127.1.0.31:9080","ws_hostname":"ws://127.1.0.31:9080"}"#;
            Response::builder().header("content-type", "application/json").body(own(text.into())).expect("an answer")
        }
        _ => Response::new(own("ok".into())),
    })
}

/// Agrees to a WebSocket that echoes messages.
fn websocket(request: &Request<()>, upgrade: hyper::upgrade::OnUpgrade) -> Response<BoxBody<Bytes, std::io::Error>> {
    let empty = || Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
    let is_h2 = *request.method() == Method::CONNECT;
    let key = request.headers().get("sec-websocket-key");
    if !is_h2 && key.is_none() || request.uri().query().is_some_and(|query| query.contains("refuse")) {
        let mut refused = Response::new(Full::new(Bytes::from("no token")).map_err(|never| match never {}).boxed());
        *refused.status_mut() = StatusCode::UNAUTHORIZED;
        return refused;
    }
    tokio::spawn(async move {
        let Ok(io) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || socket.send(message).await.is_err() {
                break;
            }
        }
        let _ = socket.close(None).await;
    });
    let mut response = Response::builder();
    if let Some(first) = request.headers().get("sec-websocket-protocol").and_then(|value| value.to_str().ok()) {
        response = response.header("sec-websocket-protocol", first.split(',').next().unwrap_or_default().trim());
    }
    if !is_h2 {
        let accept = key.map(|key| derive_accept_key(key.as_bytes())).unwrap_or_default();
        response = response
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("upgrade", "websocket")
            .header("connection", "upgrade")
            .header("sec-websocket-accept", accept);
    }
    response.body(empty()).expect("an answer")
}

/// Sends a part and fails.
struct HalfBody(usize);

impl Body for HalfBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0 += 1;
        match self.0 {
            1 => Poll::Ready(Some(Ok(Frame::data("half".into())))),
            // Once more round, so that the first half is on its way.
            2 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Some(Err(std::io::Error::other("broken off")))),
        }
    }
}
