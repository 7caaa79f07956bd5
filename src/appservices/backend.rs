//! Connections to backends, and the pool that keeps them for later requests.
//!
//! Not hyper-util's legacy client: its pool's key is the request's URI, which over HTTP/2 is also the `:authority` that
//! the backend sees, so it would open a connection to the same backend for each name and port that clients write. It
//! has no place for the other parts of this pool's key (the listener; the client, with PROXY protocol), and requires
//! `Send` bodies.
//!
//! Each worker has its own pool. A connection is returned when its response has ended, and reused only once hyper
//! reports it as ready, which it is when the request's body has ended too. A connection that is not ready is skipped,
//! never waited for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{self, HeaderValue};
use hyper::rt::{Executor, Read, Write};
use hyper::{Request, Response, Uri, Version};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::options::AppLimits;
use super::request_body::RequestBody;
use super::socket::HttpSocket;
use crate::data::connect::{LegOptions, connect};
use crate::data::descriptors::SpareSocket;
use crate::data::proxy_protocol;
use crate::model::{BackendScheme, BackendUrl, ConnectError};

/// Maximum number of idle connections to one backend; more are closed.
const MAX_IDLE: usize = 256;

/// Maximum number of header fields in a backend's response.
const MAX_FIELDS: usize = 512;

/// Requests that share an HTTP/2 connection, at most, whatever the backend allows.
const MAX_STREAMS: u32 = 100;

/// The window for response data that a client does not read. The connection's window is that of all its streams, so
/// unread responses never delay another one.
const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// How often to check whether a backend's SETTINGS have arrived; hyper wakes no task when they do.
const SETTINGS_POLL: Duration = Duration::from_millis(1);

/// Why a backend gave no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    /// It could not be reached.
    #[error("failed to connect to backend {backend} ({}): {source}", .kind.label())]
    Unreachable { backend: String, kind: ConnectError, source: io::Error },
    /// Connecting or responding took too long.
    #[error("backend {backend} took longer than {limit:?} to {what}")]
    TimedOut { backend: String, limit: Duration, what: &'static str },
    /// It closed the connection before its response, or the response is not valid HTTP.
    #[error("backend {backend} gave no valid response: {source}")]
    Broken { backend: String, source: hyper::Error },
    /// It does not support, or did not do, what the request needs.
    #[error("backend {backend} {what}")]
    Unsupported { backend: String, what: &'static str },
}

impl BackendError {
    /// Whether the client gets 504 rather than 502.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. }) || matches!(self, Self::Unreachable { kind: ConnectError::TimedOut, .. })
    }
}

/// The backend of a request.
#[derive(Debug, Clone)]
pub(crate) struct BackendDestination {
    pub(crate) url: Arc<BackendUrl>,
    /// The listener that received the request. Each has its own connections, so requests from the internet share none
    /// with those of a VPC, and unread responses to clients of a lost zone do not use up another listener's HTTP/2
    /// window.
    pub(crate) listener: SocketAddr,
    /// The PROXY protocol header, if it is enabled, with the number of the client's connection.
    pub(crate) proxy: Option<(u64, [u8; proxy_protocol::HEADER_LEN])>,
}

impl BackendDestination {
    fn key(&self) -> PoolKey {
        let client = self.proxy.as_ref().map_or(0, |(client, _)| *client);
        PoolKey { url: Arc::clone(&self.url), listener: self.listener, client }
    }
}

/// Connections with equal keys are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PoolKey {
    url: Arc<BackendUrl>,
    listener: SocketAddr,
    client: u64,
}

/// Runs hyper's tasks on the current worker.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// An idle HTTP/1.1 connection.
struct IdleConnection {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

/// An HTTP/2 connection.
struct Multiplexed {
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Streams>,
}

/// The streams of an HTTP/2 connection.
struct Streams {
    open: Cell<usize>,
    /// The backend's limit.
    max: Cell<usize>,
    /// When the last one ended.
    since: Cell<Instant>,
}

/// Counts a stream as open until it is dropped.
struct StreamGuard(Rc<Streams>);

impl StreamGuard {
    fn new(streams: &Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        Self(Rc::clone(streams))
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.since.set(Instant::now());
    }
}

/// A worker's connections to backends.
pub(crate) struct Backends {
    idle: RefCell<BTreeMap<PoolKey, Vec<IdleConnection>>>,
    multiplexed: RefCell<BTreeMap<PoolKey, Vec<Multiplexed>>>,
    tls: Arc<ClientConfig>,
    tls_http1: Arc<ClientConfig>,
    limits: AppLimits,
    leg: LegOptions,
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backends").finish_non_exhaustive()
    }
}

/// A connection, or a stream of one, in use by a request.
pub(crate) struct BackendLease(LeaseKind);

enum LeaseKind {
    Http1 {
        pool: Weak<Backends>,
        key: PoolKey,
        sender: http1::SendRequest<RequestBody>,
    },
    /// Held for its `Drop`.
    Http2(#[expect(dead_code, reason = "counts a stream until it is dropped")] StreamGuard),
}

impl fmt::Debug for BackendLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

impl BackendLease {
    /// Returns the connection to the pool; to be called when the response has ended.
    pub(crate) fn give_back(self) {
        let LeaseKind::Http1 { pool, key, sender } = self.0 else { return };
        let Some(pool) = pool.upgrade() else { return };
        if sender.is_closed() {
            return;
        }
        let mut idle = pool.idle.borrow_mut();
        let idle = idle.entry(key).or_default();
        if idle.len() < MAX_IDLE {
            idle.push(IdleConnection { sender, since: Instant::now() });
        }
    }
}

enum RequestSender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>, StreamGuard),
}

impl Backends {
    /// Creates an empty pool. `tls` verifies `https` backends; it offers no ALPN protocols.
    pub(crate) fn new(tls: &Arc<ClientConfig>, limits: AppLimits, leg: LegOptions) -> Rc<Self> {
        let offering = |protocols: &[&[u8]]| {
            let mut config = ClientConfig::clone(tls);
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        Rc::new(Self {
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            tls: offering(&[b"h2", b"http/1.1"]),
            tls_http1: offering(&[b"http/1.1"]),
            limits,
            leg,
        })
    }

    /// Sends a request on an idle connection, or on a new one that uses `spare`. The request's URI is path and query;
    /// `again` recreates it if it may be sent twice; `authority` is the host that the client requested.
    ///
    /// A request that fails on an idle connection, which the backend may be closing at the same moment, is repeated: if
    /// nothing was sent, on any connection; otherwise once, on a new one, as other idle connections may be closed too
    /// (RFC 9110 §9.2.2: no retry of a failed retry).
    pub(crate) async fn send(
        self: &Rc<Self>,
        to: &BackendDestination,
        mut request: Box<Request<RequestBody>>,
        again: Option<impl Fn() -> Request<RequestBody>>,
        authority: &HeaderValue,
        spare: &RefCell<Option<SpareSocket>>,
    ) -> Result<(Response<Incoming>, BackendLease), BackendError> {
        let key = to.key();
        let mut repeated = false;
        loop {
            let kept = if repeated { None } else { self.take(&key) };
            let (sender, reused) = match kept {
                Some(sender) => (sender, true),
                // Boxed: usually an idle connection exists, and every request's future is moved.
                None => (Box::pin(self.connect(to, &key, spare)).await?, false),
            };
            let mut failed = match sender {
                RequestSender::Http1(mut sender) => {
                    for_http1(&mut request, authority);
                    match sender.try_send_request(*request).await {
                        Ok(response) => {
                            return Ok((
                                response,
                                BackendLease(LeaseKind::Http1 { pool: Rc::downgrade(self), key, sender }),
                            ));
                        }
                        Err(error) => error,
                    }
                }
                RequestSender::Http2(mut sender, stream) => {
                    for_http2(&mut request, &to.url, authority)?;
                    match sender.try_send_request(*request).await {
                        Ok(response) => return Ok((response, BackendLease(LeaseKind::Http2(stream)))),
                        Err(error) => error,
                    }
                }
            };
            let next = failed.take_message().or_else(|| {
                repeated = true;
                again.as_ref().map(|again| again())
            });
            match next {
                Some(next) if reused => {
                    if repeated {
                        // Otherwise a connection whose streams all fail would stay the first, and each failure would
                        // add another.
                        self.multiplexed.borrow_mut().remove(&key);
                    }
                    *request = next;
                }
                _ => return Err(BackendError::Broken { backend: to.url.to_string(), source: failed.into_error() }),
            }
        }
    }

    /// Sends an upgrade request for a WebSocket, on a separate connection.
    pub(crate) async fn send_upgrade(
        &self,
        to: &BackendDestination,
        mut request: Request<RequestBody>,
        authority: &HeaderValue,
        spare: &RefCell<Option<SpareSocket>>,
    ) -> Result<Response<Incoming>, BackendError> {
        let broken = |source| BackendError::Broken { backend: to.url.to_string(), source };
        let tcp = self.dial(to, spare).await?;
        if to.url.scheme == BackendScheme::H2c {
            let (mut sender, connection) =
                http2::Builder::new(LocalExecutor).handshake(TokioIo::new(tcp)).await.map_err(broken)?;
            // The backend's SETTINGS say whether it supports WebSockets over HTTP/2 (RFC 8441 §3).
            let (enabled, settings) = oneshot::channel();
            tokio::task::spawn_local(async move {
                let (mut connection, mut enabled) = (pin!(connection), Some(enabled));
                let mut look = tokio::time::interval(SETTINGS_POLL);
                poll_fn(|cx| {
                    let over = connection.as_mut().poll(cx);
                    while enabled.is_some() && look.poll_tick(cx).is_ready() {
                        if connection.is_extended_connect_protocol_enabled()
                            && let Some(enabled) = enabled.take()
                        {
                            // Fails if the request was dropped.
                            let _ = enabled.send(());
                        }
                    }
                    over
                })
                .await
            });
            for_http2(&mut request, &to.url, authority)?;
            if !matches!(timeout(self.limits.connect, settings).await, Ok(Ok(()))) {
                let what = "does not support WebSockets over HTTP/2 (SETTINGS_ENABLE_CONNECT_PROTOCOL)";
                return Err(BackendError::Unsupported { backend: to.url.to_string(), what });
            }
            sender.ready().await.map_err(broken)?;
            return sender.send_request(request).await.map_err(broken);
        }
        for_http1(&mut request, authority);
        if to.url.scheme == BackendScheme::Https {
            let tls = self.handshake(to, &self.tls_http1, tcp).await?;
            send_http1_upgrade(TokioIo::new(tls), request).await.map_err(broken)
        } else {
            send_http1_upgrade(TokioIo::new(tcp), request).await.map_err(broken)
        }
    }

    /// Closes connections that were idle for too long, and removes closed ones.
    pub(crate) fn sweep(&self) {
        let limit = self.limits.backend_idle;
        self.idle.borrow_mut().retain(|_, idle| {
            idle.retain(|idle| idle.since.elapsed() < limit && !idle.sender.is_closed());
            !idle.is_empty()
        });
        self.multiplexed.borrow_mut().retain(|_, connections| {
            connections.retain(|Multiplexed { sender, streams }| {
                !sender.is_closed() && (streams.open.get() > 0 || streams.since.get().elapsed() < limit)
            });
            !connections.is_empty()
        });
    }

    /// Closes idle HTTP/1.1 connections, as clients need their descriptors.
    pub(crate) fn close_idle(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Closes the connections that belong to one client.
    pub(crate) fn close_client(&self, client: u64) {
        self.idle.borrow_mut().retain(|key, _| key.client != client);
        self.multiplexed.borrow_mut().retain(|key, _| key.client != client);
    }

    /// A connection that can send a request now, if there is one.
    fn take(&self, key: &PoolKey) -> Option<RequestSender> {
        if let Some(connections) = self.multiplexed.borrow().get(key) {
            let has_room = |found: &&Multiplexed| {
                let max = found.streams.max.get().min(MAX_STREAMS as usize);
                !found.sender.is_closed() && found.streams.open.get() < max
            };
            if let Some(found) = connections.iter().find(has_room) {
                return Some(RequestSender::Http2(found.sender.clone(), StreamGuard::new(&found.streams)));
            }
        }
        let mut all = self.idle.borrow_mut();
        let idle = all.get_mut(key)?;
        // The latest first: most are open and ready, so the others need not be checked.
        for at in (0..idle.len()).rev() {
            let IdleConnection { sender, since } = &idle[at];
            if sender.is_ready() && since.elapsed() < self.limits.backend_idle {
                return Some(RequestSender::Http1(idle.remove(at).sender));
            }
            if sender.is_closed() {
                idle.remove(at);
            }
        }
        None
    }

    async fn connect(
        &self,
        to: &BackendDestination,
        key: &PoolKey,
        spare: &RefCell<Option<SpareSocket>>,
    ) -> Result<RequestSender, BackendError> {
        let broken = |source| BackendError::Broken { backend: to.url.to_string(), source };
        let tcp = self.dial(to, spare).await?;
        match to.url.scheme {
            BackendScheme::Http => Ok(RequestSender::Http1(open_http1(tcp).await.map_err(broken)?)),
            BackendScheme::H2c => self.open_http2(TokioIo::new(tcp), key).await.map_err(broken),
            BackendScheme::Https => {
                let tls = self.handshake(to, &self.tls, tcp).await?;
                if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                    self.open_http2(TokioIo::new(tls), key).await.map_err(broken)
                } else {
                    Ok(RequestSender::Http1(open_http1(tls).await.map_err(broken)?))
                }
            }
        }
    }

    async fn open_http2<T>(&self, io: T, key: &PoolKey) -> hyper::Result<RequestSender>
    where
        T: Read + Write + Unpin + 'static,
    {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(io).await?;
        let max = Cell::new(connection.current_max_send_streams());
        let streams = Rc::new(Streams { open: Cell::new(0), max, since: Cell::new(Instant::now()) });
        let noting = Rc::clone(&streams);
        tokio::task::spawn_local(async move {
            let mut connection = pin!(connection);
            poll_fn(|cx| {
                let over = connection.as_mut().poll(cx);
                noting.max.set(connection.current_max_send_streams());
                over
            })
            .await
        });
        let stream = StreamGuard::new(&streams);
        let multiplexed = Multiplexed { sender: sender.clone(), streams };
        self.multiplexed.borrow_mut().entry(key.clone()).or_default().push(multiplexed);
        Ok(RequestSender::Http2(sender, stream))
    }

    /// Opens a TCP connection and sends the PROXY header.
    async fn dial(
        &self,
        to: &BackendDestination,
        spare: &RefCell<Option<SpareSocket>>,
    ) -> Result<HttpSocket, BackendError> {
        let url = &to.url;
        let limit = self.limits.connect;
        let reach = async {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in resolve(url).await? {
                match connect(address, &self.leg, spare.take()).await {
                    Ok(mut tcp) => {
                        // Keepalive, as the connection is kept for later requests.
                        self.leg.keep_alive(&SockRef::from(&tcp));
                        if let Some((_, header)) = &to.proxy {
                            tcp.write_all(header).await?;
                        }
                        return Ok(HttpSocket::from(tcp));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        match timeout(limit, reach).await {
            Ok(Ok(tcp)) => Ok(tcp),
            Ok(Err(source)) => {
                let kind = ConnectError::from(&source);
                Err(BackendError::Unreachable { backend: url.to_string(), kind, source })
            }
            Err(_) => Err(BackendError::TimedOut { backend: url.to_string(), limit, what: "be connected to" }),
        }
    }

    async fn handshake(
        &self,
        to: &BackendDestination,
        config: &Arc<ClientConfig>,
        tcp: HttpSocket,
    ) -> Result<tokio_rustls::client::TlsStream<HttpSocket>, BackendError> {
        let backend = || to.url.to_string();
        let name = ServerName::try_from(to.url.host.clone()).map_err(|_| BackendError::Unsupported {
            backend: backend(),
            what: "has a name that no certificate can be for",
        })?;
        let limit = self.limits.connect;
        match timeout(limit, TlsConnector::from(Arc::clone(config)).connect(name, tcp)).await {
            Ok(Ok(tls)) => Ok(tls),
            Ok(Err(source)) => {
                Err(BackendError::Unreachable { backend: backend(), kind: ConnectError::from(&source), source })
            }
            Err(_) => Err(BackendError::TimedOut { backend: backend(), limit, what: "complete the TLS handshake" }),
        }
    }
}

/// HTTP/1.1 has path and query in its request line, and a `Host`. The framing is set explicitly: by default hyper sends
/// no body of unknown length with GET and HEAD, but framing does not depend on the method (RFC 9112 §6).
fn for_http1(request: &mut Request<RequestBody>, authority: &HeaderValue) {
    if request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        request.headers_mut().insert(header::HOST, authority.clone());
    }
    *request.version_mut() = Version::HTTP_11;
    if !request.body().is_empty() && !request.headers().contains_key(header::CONTENT_LENGTH) {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if request.headers().contains_key(header::TE) {
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("TE"));
    }
}

/// HTTP/2 has scheme and authority in the URI, and no `Host`.
fn for_http2(
    request: &mut Request<RequestBody>,
    url: &BackendUrl,
    authority: &HeaderValue,
) -> Result<(), BackendError> {
    let scheme = if url.scheme == BackendScheme::Https { "https" } else { "http" };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme(scheme).authority(authority.as_bytes()).path_and_query(path).build();
    *request.uri_mut() =
        uri.map_err(|_| BackendError::Unsupported { backend: url.to_string(), what: "cannot be asked for that host" })?;
    *request.version_mut() = Version::HTTP_2;
    for name in [header::HOST, header::TRANSFER_ENCODING, header::CONNECTION] {
        request.headers_mut().remove(name);
    }
    Ok(())
}

async fn open_http1<T>(io: T) -> hyper::Result<http1::SendRequest<RequestBody>>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let io = TokioIo::new(IgnoreWriteErrors { io, write_failed: false });
    let (mut sender, connection) = http1::Builder::new().max_headers(MAX_FIELDS).handshake(io).await?;
    tokio::task::spawn_local(connection);
    sender.ready().await?;
    Ok(sender)
}

/// Reads a connection to its end although the backend accepts no more bytes: it may have responded and closed before it
/// read the request's body. Later writes are discarded.
struct IgnoreWriteErrors<T> {
    io: T,
    write_failed: bool,
}

impl<T: AsyncRead + Unpin> AsyncRead for IgnoreWriteErrors<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T> IgnoreWriteErrors<T> {
    /// The result of a write of `n` bytes, with errors replaced by `instead`.
    fn ignore_error<R>(&mut self, result: Poll<io::Result<R>>, instead: R) -> Poll<io::Result<R>> {
        match result {
            Poll::Ready(Err(_)) => {
                self.write_failed = true;
                Poll::Ready(Ok(instead))
            }
            result => result,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for IgnoreWriteErrors<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_failed {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.ignore_error(result, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        if self.write_failed {
            return Poll::Ready(Ok(all));
        }
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.ignore_error(result, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_failed {
            return Poll::Ready(Ok(()));
        }
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.ignore_error(result, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

async fn send_http1_upgrade<T>(io: T, request: Request<RequestBody>) -> hyper::Result<Response<Incoming>>
where
    T: Read + Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(io).await?;
    tokio::task::spawn_local(connection.with_upgrades());
    sender.send_request(request).await
}

async fn resolve(url: &BackendUrl) -> io::Result<Vec<SocketAddr>> {
    match url.host.parse::<IpAddr>() {
        Ok(ip) => Ok(vec![SocketAddr::new(ip, url.port.get())]),
        Err(_) => Ok(tokio::net::lookup_host((url.host.as_str(), url.port.get())).await?.collect()),
    }
}
