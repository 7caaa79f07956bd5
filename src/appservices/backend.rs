//! Connections to backends, kept for the requests that come next.
//!
//! Every worker has its own: HTTP/1.1 connections lie ready until they are used again or grow old, HTTP/2 connections are
//! shared. A connection that says by PROXY protocol who the client is serves that client's connection alone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{self, HeaderValue};
use hyper::rt::{Executor, Read, Write};
use hyper::{Method, Request, Response, Uri, Version};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::body::AskBody;
use super::options::AppLimits;
use crate::data::connect::{LegOptions, connect};
use crate::data::proxy_protocol;
use crate::model::{BackendScheme, BackendUrl, ConnectError};

/// Connections that lie ready for one backend, at most; more are closed.
const MOST_IDLE: usize = 256;

/// How often it is looked whether a backend's settings have come, until they have.
const LOOK: Duration = Duration::from_millis(1);

/// Why a backend gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendFault {
    /// It can't be reached.
    #[error("cannot connect to backend {backend} ({}): {source}", .kind.label())]
    Unreachable { backend: String, kind: ConnectError, source: io::Error },
    /// It took too long to be connected to, or to answer.
    #[error("backend {backend} took longer than {limit:?} to {what}")]
    TimedOut { backend: String, limit: Duration, what: &'static str },
    /// It broke off, or what it says is no HTTP.
    #[error("backend {backend} broke off: {source}")]
    Broken { backend: String, source: hyper::Error },
    /// It doesn't do what was asked of it.
    #[error("backend {backend} {what}")]
    Unfit { backend: String, what: &'static str },
}

impl BackendFault {
    /// Whether it is a matter of time: 504, else 502.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. }) || matches!(self, Self::Unreachable { kind: ConnectError::TimedOut, .. })
    }
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) url: Arc<BackendUrl>,
    /// Who the client is, where backends are told by PROXY protocol; with the number of its connection.
    pub(crate) proxy: Option<(u64, [u8; proxy_protocol::HEADER_LEN])>,
}

impl Destination {
    fn key(&self) -> Key {
        Key { url: Arc::clone(&self.url), client: self.proxy.as_ref().map_or(0, |(client, _)| *client) }
    }
}

/// Which connections are alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    url: Arc<BackendUrl>,
    client: u64,
}

/// Runs hyper's tasks on the worker that they came up on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local;

impl<F> Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

struct Ready {
    sender: http1::SendRequest<AskBody>,
    since: Instant,
}

/// A worker's connections to backends.
pub(crate) struct Backends {
    ready: RefCell<HashMap<Key, Vec<Ready>>>,
    shared: RefCell<HashMap<Key, http2::SendRequest<AskBody>>>,
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

/// A connection in use.
pub(crate) struct Lease {
    pool: Weak<Backends>,
    key: Key,
    sender: http1::SendRequest<AskBody>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Lease {
    /// The answer was taken to its end: the connection is free again.
    pub(crate) fn give_back(self) {
        let Some(pool) = self.pool.upgrade() else { return };
        if self.sender.is_closed() {
            return;
        }
        let mut ready = pool.ready.borrow_mut();
        let ready = ready.entry(self.key).or_default();
        if ready.len() < MOST_IDLE {
            ready.push(Ready { sender: self.sender, since: Instant::now() });
        }
    }
}

enum Sender {
    Http1(http1::SendRequest<AskBody>),
    Http2(http2::SendRequest<AskBody>),
}

impl Backends {
    /// No connection yet. `tls` is what `https` backends are checked with; it offers no protocols of its own.
    pub(crate) fn new(tls: &Arc<ClientConfig>, limits: AppLimits, leg: LegOptions) -> Rc<Self> {
        let offering = |protocols: &[&[u8]]| {
            let mut config = ClientConfig::clone(tls);
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        Rc::new(Self {
            ready: RefCell::default(),
            shared: RefCell::default(),
            tls: offering(&[b"h2", b"http/1.1"]),
            tls_http1: offering(&[b"http/1.1"]),
            limits,
            leg,
        })
    }

    /// Sends a request, on a connection that lies ready or on a new one. Its URI is path and query; `authority` is the
    /// host that the client asked for.
    pub(crate) async fn send(
        self: &Rc<Self>,
        to: &Destination,
        mut request: Request<AskBody>,
        authority: &HeaderValue,
    ) -> Result<(Response<Incoming>, Option<Lease>), BackendFault> {
        let key = to.key();
        loop {
            let (sender, reused) = match self.take(&key) {
                Some(sender) => (sender, true),
                None => (self.connect(to, &key).await?, false),
            };
            // A connection that lay ready may have been closed at the very moment. What may be repeated is.
            let spare =
                (reused && request.body().is_empty() && is_repeatable(request.method())).then(|| copy(&request));
            let failed = match sender {
                Sender::Http1(mut sender) => {
                    if sender.ready().await.is_err() && reused {
                        continue;
                    }
                    for_http1(&mut request, authority);
                    match sender.try_send_request(request).await {
                        Ok(answer) => {
                            let lease = Lease { pool: Rc::downgrade(self), key, sender };
                            return Ok((answer, Some(lease)));
                        }
                        Err(error) => error,
                    }
                }
                Sender::Http2(mut sender) => {
                    if sender.ready().await.is_err() && reused {
                        self.shared.borrow_mut().remove(&key);
                        continue;
                    }
                    for_http2(&mut request, &to.url, authority)?;
                    match sender.try_send_request(request).await {
                        Ok(answer) => return Ok((answer, None)),
                        Err(error) => error,
                    }
                }
            };
            let mut failed = failed;
            match failed.take_message().or(spare) {
                Some(again) if reused => request = again,
                _ => return Err(BackendFault::Broken { backend: to.url.to_string(), source: failed.into_error() }),
            }
        }
    }

    /// Sends a request that asks to become a WebSocket, on a connection of its own.
    pub(crate) async fn send_upgrade(
        &self,
        to: &Destination,
        mut request: Request<AskBody>,
        authority: &HeaderValue,
    ) -> Result<Response<Incoming>, BackendFault> {
        let broken = |source| BackendFault::Broken { backend: to.url.to_string(), source };
        let tcp = self.dial(to).await?;
        if to.url.scheme == BackendScheme::H2c {
            let (mut sender, connection) =
                http2::Builder::new(Local).handshake(TokioIo::new(tcp)).await.map_err(broken)?;
            // Its settings say whether it does WebSockets over HTTP/2 (RFC 8441 §3).
            let (told, settings) = oneshot::channel();
            tokio::task::spawn_local(async move {
                let (mut connection, mut told) = (pin!(connection), Some(told));
                // hyper wakes nobody when settings come: it has to be looked for.
                let mut look = tokio::time::interval(LOOK);
                poll_fn(|cx| {
                    let over = connection.as_mut().poll(cx);
                    while told.is_some() && look.poll_tick(cx).is_ready() {
                        if connection.is_extended_connect_protocol_enabled()
                            && let Some(told) = told.take()
                        {
                            // Whoever asked may have given up.
                            let _ = told.send(());
                        }
                    }
                    over
                })
                .await
            });
            for_http2(&mut request, &to.url, authority)?;
            if !matches!(timeout(self.limits.connect, settings).await, Ok(Ok(()))) {
                let what = "does no WebSockets over HTTP/2 (SETTINGS_ENABLE_CONNECT_PROTOCOL)";
                return Err(BackendFault::Unfit { backend: to.url.to_string(), what });
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

    /// Closes what has lain ready for too long, and forgets what is closed.
    pub(crate) fn sweep(&self) {
        let oldest = Instant::now() - self.limits.backend_idle;
        self.ready.borrow_mut().retain(|_, ready| {
            ready.retain(|ready| ready.since > oldest && !ready.sender.is_closed());
            !ready.is_empty()
        });
        self.shared.borrow_mut().retain(|_, sender| !sender.is_closed());
    }

    /// Closes the connections that were one client's own.
    pub(crate) fn forget(&self, client: u64) {
        self.ready.borrow_mut().retain(|key, _| key.client != client);
        self.shared.borrow_mut().retain(|key, _| key.client != client);
    }

    fn take(&self, key: &Key) -> Option<Sender> {
        if let Some(sender) = self.shared.borrow().get(key).filter(|sender| !sender.is_closed()) {
            return Some(Sender::Http2(sender.clone()));
        }
        let mut all = self.ready.borrow_mut();
        let ready = all.get_mut(key)?;
        while let Some(candidate) = ready.pop() {
            if !candidate.sender.is_closed() && candidate.since.elapsed() < self.limits.backend_idle {
                return Some(Sender::Http1(candidate.sender));
            }
        }
        None
    }

    async fn connect(&self, to: &Destination, key: &Key) -> Result<Sender, BackendFault> {
        let broken = |source| BackendFault::Broken { backend: to.url.to_string(), source };
        let tcp = self.dial(to).await?;
        match to.url.scheme {
            BackendScheme::Http => {
                let sender = open_http1(TokioIo::new(tcp)).await.map_err(broken)?;
                Ok(Sender::Http1(sender))
            }
            BackendScheme::H2c => self.open_http2(TokioIo::new(tcp), key).await.map_err(broken),
            BackendScheme::Https => {
                let tls = self.handshake(to, &self.tls, tcp).await?;
                if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                    self.open_http2(TokioIo::new(tls), key).await.map_err(broken)
                } else {
                    Ok(Sender::Http1(open_http1(TokioIo::new(tls)).await.map_err(broken)?))
                }
            }
        }
    }

    async fn open_http2<T>(&self, io: T, key: &Key) -> hyper::Result<Sender>
    where
        T: Read + Write + Unpin + 'static,
    {
        let (sender, connection) = http2::Builder::new(Local).handshake(io).await?;
        tokio::task::spawn_local(connection);
        self.shared.borrow_mut().insert(key.clone(), sender.clone());
        Ok(Sender::Http2(sender))
    }

    /// A TCP connection, with the PROXY header already on it.
    async fn dial(&self, to: &Destination) -> Result<TcpStream, BackendFault> {
        let url = &to.url;
        let limit = self.limits.connect;
        let reach = async {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in resolve(url).await? {
                match connect(address, &self.leg).await {
                    Ok(mut tcp) => {
                        // It is kept for later requests.
                        self.leg.keep_alive(&SockRef::from(&tcp));
                        if let Some((_, header)) = &to.proxy {
                            tcp.write_all(header).await?;
                        }
                        return Ok(tcp);
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
                Err(BackendFault::Unreachable { backend: url.to_string(), kind, source })
            }
            Err(_) => Err(BackendFault::TimedOut { backend: url.to_string(), limit, what: "be connected to" }),
        }
    }

    async fn handshake(
        &self,
        to: &Destination,
        config: &Arc<ClientConfig>,
        tcp: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, BackendFault> {
        let backend = || to.url.to_string();
        let name = ServerName::try_from(to.url.host.clone())
            .map_err(|_| BackendFault::Unfit { backend: backend(), what: "has a name that no certificate can have" })?;
        let limit = self.limits.connect;
        match timeout(limit, TlsConnector::from(Arc::clone(config)).connect(name, tcp)).await {
            Ok(Ok(tls)) => Ok(tls),
            Ok(Err(source)) => {
                Err(BackendFault::Unreachable { backend: backend(), kind: ConnectError::from(&source), source })
            }
            Err(_) => Err(BackendFault::TimedOut { backend: backend(), limit, what: "shake hands by TLS" }),
        }
    }
}

/// HTTP/1.1 wants path and query alone, and a `Host`.
fn for_http1(request: &mut Request<AskBody>, authority: &HeaderValue) {
    if request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        request.headers_mut().insert(header::HOST, authority.clone());
    }
    *request.version_mut() = Version::HTTP_11;
}

/// HTTP/2 wants scheme and authority in the URI, and no `Host`.
fn for_http2(request: &mut Request<AskBody>, url: &BackendUrl, authority: &HeaderValue) -> Result<(), BackendFault> {
    let scheme = if url.scheme == BackendScheme::Https { "https" } else { "http" };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme(scheme).authority(authority.as_bytes()).path_and_query(path).build();
    *request.uri_mut() =
        uri.map_err(|_| BackendFault::Unfit { backend: url.to_string(), what: "cannot be asked for that host" })?;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(header::HOST);
    Ok(())
}

async fn open_http1<T>(io: T) -> hyper::Result<http1::SendRequest<AskBody>>
where
    T: Read + Write + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(io).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn send_http1_upgrade<T>(io: T, request: Request<AskBody>) -> hyper::Result<Response<Incoming>>
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

/// Methods that may be sent twice with the effect of once (RFC 9110 §9.2.2).
fn is_repeatable(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// The same request once more; it has no body.
fn copy(request: &Request<AskBody>) -> Request<AskBody> {
    let mut again = Request::new(AskBody::Empty);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    again
}
