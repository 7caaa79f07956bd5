//! WebSockets: both sides are upgraded, then the relay that carries TCP flows carries these bytes.
//!
//! A client asks by RFC 6455 over HTTP/1.1 or by an extended CONNECT over HTTP/2 (RFC 8441), a backend is asked by
//! whichever it speaks; the four ways to join them differ in heads alone.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::client_io::ClientIo;
use super::headers::strip_hop_by_hop;
use super::live::{Live, Order};
use super::metrics::WebSocketSeries;
use super::sockets::{Facts, Socket};
use super::worker::Worker;
use crate::data::leg::Streamed;
use crate::data::relay::{Failed, Meter, Relay};
use crate::model::{BackendScheme, Side};

const KEY: HeaderName = header::SEC_WEBSOCKET_KEY;
const ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;

/// How a client asks for a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Knock {
    /// By `Upgrade`, with this key.
    Http1(HeaderValue),
    /// By extended CONNECT.
    Http2,
}

/// How a request asks for a WebSocket; `None` when it asks for something else, or not as it should.
pub(crate) fn knock<B>(request: &Request<B>) -> Option<Knock> {
    let headers = request.headers();
    if request.version() == Version::HTTP_2 {
        let protocol = request.extensions().get::<Protocol>()?;
        let fits = *request.method() == Method::CONNECT && protocol.as_str().eq_ignore_ascii_case("websocket");
        return fits.then_some(Knock::Http2);
    }
    let fits = *request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(headers, &header::UPGRADE, "websocket")
        && has_token(headers, &header::CONNECTION, "upgrade");
    if !fits {
        return None;
    }
    headers.get(KEY).cloned().map(Knock::Http1)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// Makes a request, whose headers are those for the backend already, ask for a WebSocket; the result is the key that the
/// backend has to answer, where it is asked by one.
pub(crate) fn ask<B>(request: &mut Request<B>, knock: &Knock, scheme: BackendScheme) -> Option<HeaderValue> {
    if scheme == BackendScheme::H2c {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        request.headers_mut().remove(KEY);
        return None;
    }
    *request.method_mut() = Method::GET;
    let key = match knock {
        Knock::Http1(key) => key.clone(),
        Knock::Http2 => HeaderValue::from_str(&generate_key()).expect("base64 is visible ASCII"),
    };
    let headers = request.headers_mut();
    headers.insert(KEY, key.clone());
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    Some(key)
}

/// Whether the backend agreed; an answer to another key is no agreement.
pub(crate) fn is_agreed<B>(answer: &Response<B>, key: Option<&HeaderValue>) -> bool {
    let Some(key) = key else { return answer.status().is_success() };
    answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && has_token(answer.headers(), &header::UPGRADE, "websocket")
        && answer.headers().get(ACCEPT).is_some_and(|accept| accept == derive_accept_key(key.as_bytes()).as_str())
}

/// The head that tells the client of the agreement.
pub(crate) fn agree<B>(answer: &Response<Incoming>, knock: &Knock, body: B) -> Response<B> {
    let mut told = Response::new(body);
    *told.headers_mut() = answer.headers().clone();
    let headers = told.headers_mut();
    strip_hop_by_hop(headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(ACCEPT);
    match knock {
        Knock::Http1(key) => {
            let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is visible ASCII");
            headers.insert(ACCEPT, accept);
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            *told.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        Knock::Http2 => *told.status_mut() = StatusCode::OK,
    }
    told
}

/// How a WebSocket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Completed,
    Failed { side: Side, reset: bool },
    Cut(super::live::Cut),
    NeverUp,
}

impl End {
    fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed { side: Side::Client, reset: true } => "client_reset",
            Self::Failed { side: Side::Target, reset: true } => "backend_reset",
            Self::Failed { side: Side::Client, reset: false } => "client_failed",
            Self::Failed { side: Side::Target, reset: false } => "backend_failed",
            Self::Cut(cut) => cut.label(),
            Self::NeverUp => "never_up",
        }
    }
}

impl From<Failed> for End {
    fn from(failed: Failed) -> Self {
        Self::Failed { side: failed.side, reset: failed.is_reset() }
    }
}

/// Counts a WebSocket as open until it is dropped.
struct Open {
    worker: Rc<Worker>,
    live: Rc<Live>,
    slot: usize,
    series: WebSocketSeries,
    end: Cell<End>,
    socket: Arc<Socket>,
}

impl Meter for Open {
    #[inline]
    fn to_target(&self, n: usize) {
        self.socket.add_to_backend(n);
        self.live.touch();
    }

    #[inline]
    fn to_client(&self, n: usize) {
        self.socket.add_to_client(n);
        self.live.touch();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let end = self.end.get();
        self.series.open.decrement(1);
        let (to_backend, to_client) = (self.socket.bytes_to_backend(), self.socket.bytes_to_client());
        self.series.to_backend.increment(to_backend);
        self.series.to_client.increment(to_client);
        self.worker.sockets.leave(&self.socket);
        self.worker.metrics.websocket_closed(&self.series, end.label());
        self.worker.leave(self.slot);
        tracing::info!(
            target: "access",
            { app.id = self.series.app(),
              endpoint.type = self.series.endpoint(),
              client.addr = %self.live.peer,
              door = %self.live.door,
              bytes.to_backend = to_backend,
              bytes.to_client = to_client,
              end = end.label() },
            "websocket closed"
        );
    }
}

/// Starts relaying once both sides are upgraded.
pub(crate) fn start(
    worker: &Rc<Worker>,
    connection: &Live,
    facts: Facts,
    series: WebSocketSeries,
    client: OnUpgrade,
    backend: OnUpgrade,
) {
    series.opened.increment(1);
    series.open.increment(1);
    let (live, slot) = worker.enter(connection.peer, connection.door, true);
    let socket = worker.sockets.enter(live.id, connection.peer, connection.door, facts);
    let open = Open { worker: Rc::clone(worker), live, slot, series, end: Cell::new(End::NeverUp), socket };
    tokio::task::spawn_local(run(open, client, backend));
}

async fn run(open: Open, client: OnUpgrade, backend: OnUpgrade) {
    let up = async { tokio::try_join!(client, backend) };
    let Ok(Ok((client, backend))) = tokio::time::timeout(open.worker.options.limits.connect, up).await else { return };
    let [mut client, mut backend] = [client, backend].map(|side| Streamed(UpgradedLeg::from(side)));
    let mut relay = Relay::new();
    let end = poll_fn(|cx| match open.live.order(cx) {
        Order::Cut(cut) => Poll::Ready(End::Cut(cut)),
        // A WebSocket is at hand for as long as it lasts.
        Order::None | Order::Finish => relay
            .poll(cx, &mut client, &mut backend, &open.worker.tools, &open)
            .map(|done| done.map_or_else(End::from, |()| End::Completed)),
    })
    .await;
    open.end.set(end);
    if end != End::Completed {
        client.0.reset();
        backend.0.reset();
    }
}

/// One side of a WebSocket.
enum UpgradedLeg {
    /// A client by HTTP/1.1: without hyper's layers in between.
    Client(ClientIo),
    /// A backend by HTTP/1.1 without TLS.
    Plain(TcpStream, Bytes),
    /// An HTTP/2 stream, or a backend by TLS.
    Other(TokioIo<Upgraded>),
}

impl From<Upgraded> for UpgradedLeg {
    fn from(upgraded: Upgraded) -> Self {
        let upgraded = match upgraded.downcast::<TokioIo<ClientIo>>() {
            Ok(parts) => {
                let mut io = parts.io.into_inner();
                io.put_back(parts.read_buf);
                return Self::Client(io);
            }
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
    /// Lets the peer see RST, as where a flow breaks off.
    fn reset(&self) {
        // Fails only on a socket that is gone already.
        let _ = match self {
            Self::Client(io) => io.tcp().set_zero_linger(),
            Self::Plain(io, _) => io.set_zero_linger(),
            Self::Other(_) => Ok(()),
        };
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
