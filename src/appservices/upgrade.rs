//! WebSockets: both sides are upgraded, then the relay of TCP flows moves their bytes.
//!
//! A client opens one by RFC 6455 over HTTP/1.1 or by an extended CONNECT over HTTP/2 (RFC 8441), and the gateway uses
//! the version that the backend speaks. The four combinations differ only in their heads.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

use super::client::ClientConnection;
use super::client_io::ClientIo;
use super::context::HttpWorkerContext;
use super::headers::{has_token, strip_hop_by_hop};
use super::metrics::WebSocketSeries;
use super::outage::Outage;
use super::websockets::{WebSocket, WebSocketInfo};
use crate::data::leg::Streamed;
use crate::data::relay::{Meter, Relay, RelayError};
use crate::model::{BackendScheme, Side};

const KEY: HeaderName = header::SEC_WEBSOCKET_KEY;
const ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;

/// The form of a client's WebSocket request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UpgradeRequest {
    /// `Upgrade`, with this key.
    Http1(HeaderValue),
    /// Extended CONNECT.
    Http2,
}

impl UpgradeRequest {
    /// `None` when the request is not a valid WebSocket request.
    pub(crate) fn read<B>(request: &Request<B>) -> Option<Self> {
        let headers = request.headers();
        if request.version() == Version::HTTP_2 {
            let protocol = request.extensions().get::<Protocol>()?;
            let fits = *request.method() == Method::CONNECT && protocol.as_str().eq_ignore_ascii_case("websocket");
            return fits.then_some(Self::Http2);
        }
        let fits = *request.method() == Method::GET
            && request.version() == Version::HTTP_11
            && has_token(headers, &header::UPGRADE, "websocket")
            && has_token(headers, &header::CONNECTION, "upgrade");
        if !fits {
            return None;
        }
        headers.get(KEY).cloned().map(Self::Http1)
    }
}

/// Turns a request that already has the backend's headers into a WebSocket request. Returns the key that an HTTP/1.1
/// backend has to confirm.
pub(crate) fn into_backend_request<B>(
    request: &mut Request<B>,
    upgrade: &UpgradeRequest,
    scheme: BackendScheme,
) -> Option<HeaderValue> {
    // It has no body, whatever length the client declared.
    request.headers_mut().remove(header::CONTENT_LENGTH);
    if scheme == BackendScheme::H2c {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        request.headers_mut().remove(KEY);
        return None;
    }
    *request.method_mut() = Method::GET;
    let key = match upgrade {
        UpgradeRequest::Http1(key) => key.clone(),
        UpgradeRequest::Http2 => HeaderValue::from_str(&generate_key()).expect("base64 is visible ASCII"),
    };
    let headers = request.headers_mut();
    headers.insert(KEY, key.clone());
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    Some(key)
}

/// Whether the backend accepted. A confirmation of another key is not one.
pub(crate) fn is_accepted<B>(answer: &Response<B>, key: Option<&HeaderValue>) -> bool {
    let Some(key) = key else { return answer.status().is_success() };
    answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && has_token(answer.headers(), &header::UPGRADE, "websocket")
        && answer.headers().get(ACCEPT).is_some_and(|accept| accept == derive_accept_key(key.as_bytes()).as_str())
}

/// The client's response after the backend accepted.
pub(crate) fn client_response<B>(answer: &Response<Incoming>, upgrade: &UpgradeRequest, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.headers_mut() = answer.headers().clone();
    let headers = response.headers_mut();
    strip_hop_by_hop(headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(ACCEPT);
    match upgrade {
        UpgradeRequest::Http1(key) => {
            let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is visible ASCII");
            headers.insert(ACCEPT, accept);
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        UpgradeRequest::Http2 => *response.status_mut() = StatusCode::OK,
    }
    response
}

/// How a WebSocket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UpgradeEnd {
    Completed,
    Failed {
        side: Side,
        reset: bool,
    },
    /// Idle for too long.
    Idle,
    /// Its listener was closed.
    Drained,
    /// Ended by an operator.
    Killed,
    NeverUp,
}

impl UpgradeEnd {
    fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed { side: Side::Client, reset: true } => "client_reset",
            Self::Failed { side: Side::Target, reset: true } => "backend_reset",
            Self::Failed { side: Side::Client, reset: false } => "client_failed",
            Self::Failed { side: Side::Target, reset: false } => "backend_failed",
            Self::Idle => "idle",
            Self::Drained => "drained",
            Self::Killed => "killed",
            Self::NeverUp => "never_up",
        }
    }
}

impl From<RelayError> for UpgradeEnd {
    fn from(failed: RelayError) -> Self {
        Self::Failed { side: failed.side, reset: failed.is_reset() }
    }
}

/// Counts a WebSocket as open until it is dropped.
struct OpenWebSocket {
    context: Rc<HttpWorkerContext>,
    client: SocketAddr,
    listener: SocketAddr,
    series: WebSocketSeries,
    end: Cell<UpgradeEnd>,
    last_active: Cell<Instant>,
    socket: Arc<WebSocket>,
}

impl OpenWebSocket {
    /// Waits for the idle timeout to pass without traffic.
    async fn idle(&self) {
        let limit = self.context.options.websocket_idle;
        while self.last_active.get().elapsed() < limit {
            tokio::time::sleep_until(self.last_active.get() + limit).await;
        }
    }
}

impl Meter for OpenWebSocket {
    #[inline]
    fn to_target(&self, n: usize) {
        self.socket.add_to_backend(n);
        self.last_active.set(Instant::now());
    }

    #[inline]
    fn to_client(&self, n: usize) {
        self.socket.add_to_client(n);
        self.last_active.set(Instant::now());
    }
}

impl Drop for OpenWebSocket {
    fn drop(&mut self) {
        let end = self.end.get();
        self.series.open.decrement(1);
        let (to_backend, to_client) = (self.socket.bytes_to_backend(), self.socket.bytes_to_client());
        self.series.to_backend.increment(to_backend);
        self.series.to_client.increment(to_client);
        self.context.websockets.remove(&self.socket);
        self.context.metrics.websocket_closed(&self.series, end.label());
        tracing::info!(
            target: "access",
            { app.id = self.series.app(),
              endpoint.type = self.series.endpoint(),
              client.addr = %self.client,
              listener.addr = %self.listener,
              bytes.to_backend = to_backend,
              bytes.to_client = to_client,
              end = end.label() },
            "websocket closed"
        );
    }
}

/// Starts the relay once both sides are upgraded.
pub(crate) fn start(
    context: &Rc<HttpWorkerContext>,
    connection: &ClientConnection,
    info: WebSocketInfo,
    series: WebSocketSeries,
    client: OnUpgrade,
    backend: OnUpgrade,
) {
    series.opened.increment(1);
    series.open.increment(1);
    let (peer, listener) = (connection.peer, connection.listener);
    let socket = context.websockets.insert(context.next_number(), peer, listener, info);
    let open = OpenWebSocket {
        context: Rc::clone(context),
        client: peer,
        listener,
        series,
        end: Cell::new(UpgradeEnd::NeverUp),
        last_active: Cell::new(Instant::now()),
        socket,
    };
    let running = run(open, Rc::clone(&connection.outage), connection.cut.clone(), client, backend);
    tokio::task::spawn_local(context.open.track_future(running));
}

/// Serves a WebSocket to its end. A zone outage suspends it, and it can still be ended then.
async fn run(open: OpenWebSocket, outage: Rc<Outage>, cut: CancellationToken, client: OnUpgrade, backend: OnUpgrade) {
    let up =
        pin!(tokio::time::timeout(open.context.options.limits.connect, async { tokio::try_join!(client, backend) }));
    let up = open.socket.killed.run_until_cancelled(outage.suspend(up)).await;
    let Some(Ok(Ok((client, backend)))) = up else { return };
    let [mut client, mut backend] = [client, backend].map(|side| Streamed(UpgradedLeg::from(side)));
    let mut relay = Relay::new();
    let idle = pin!(open.idle());
    let end = tokio::select! {
        biased;
        done = outage.suspend(poll_fn(|cx| relay.poll(cx, &mut client, &mut backend, &open.context.tools, &open))) => {
            done.map_or_else(UpgradeEnd::from, |()| UpgradeEnd::Completed)
        }
        () = cut.cancelled() => UpgradeEnd::Drained,
        () = open.socket.killed.cancelled() => UpgradeEnd::Killed,
        () = outage.suspend(idle) => UpgradeEnd::Idle,
    };
    open.end.set(end);
    if end != UpgradeEnd::Completed {
        client.0.reset();
        backend.0.reset();
    }
}

/// One side of a WebSocket.
enum UpgradedLeg {
    /// A client over HTTP/1.1, without hyper's layers in between.
    Client(ClientIo),
    /// A backend over HTTP/1.1 without TLS.
    Plain(TcpStream, Bytes),
    /// An HTTP/2 stream, or a backend over TLS.
    Other(TokioIo<Upgraded>),
}

impl From<Upgraded> for UpgradedLeg {
    fn from(upgraded: Upgraded) -> Self {
        let upgraded = match upgraded.downcast::<TokioIo<ClientIo>>() {
            Ok(parts) => return Self::Client(parts.io.into_inner().into_websocket(parts.read_buf)),
            Err(upgraded) => upgraded,
        };
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => {
                // Even an empty one would keep the buffer that it is a part of.
                let before = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf };
                Self::Plain(parts.io.into_inner(), before)
            }
            Err(upgraded) => Self::Other(TokioIo::new(upgraded)),
        }
    }
}

impl UpgradedLeg {
    /// Makes the close send RST, as for a flow that fails.
    fn reset(&self) {
        match self {
            Self::Client(io) => io.reset(),
            Self::Plain(io, _) => {
                // Fails only on a socket that is already closed.
                let _ = io.set_zero_linger();
            }
            Self::Other(_) => {}
        }
    }
}

impl AsyncRead for UpgradedLeg {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Self::Plain(_, before) = &mut *self
            && !before.is_empty()
        {
            let n = before.len().min(buffer.remaining());
            buffer.put_slice(&before[..n]);
            before.advance(n);
            if before.is_empty() {
                *before = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        match &mut *self {
            Self::Client(io) => Pin::new(io).poll_read(cx, buffer),
            Self::Plain(io, _) => Pin::new(io).poll_read(cx, buffer),
            Self::Other(io) => Pin::new(io).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for UpgradedLeg {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Client(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Plain(io, _) => Pin::new(io).poll_write(cx, bytes),
            Self::Other(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Client(io) => Pin::new(io).poll_flush(cx),
            Self::Plain(io, _) => Pin::new(io).poll_flush(cx),
            Self::Other(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Client(io) => Pin::new(io).poll_shutdown(cx),
            Self::Plain(io, _) => Pin::new(io).poll_shutdown(cx),
            Self::Other(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
