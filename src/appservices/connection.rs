//! One client's connection: admission, TLS, HTTP.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::activity::{Activity, Expired};
use super::client::ClientConnection;
use super::client_io::{Batched, ClientIo};
use super::context::{HttpWorkerContext, ListenerEnd};
use super::metrics::endpoint_type;
use super::outage::Outage;
use super::request::{answer, record_library_refusal};
use super::socket::HttpSocket;
use crate::data::admission::admit_private;
use crate::data::descriptors::SpareSocket;
use crate::model::{Refusal, RefusalMode};
use crate::plan::{AppListener, AppListenerKind};

/// How long an idle HTTP/2 connection may take to end after GOAWAY.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// A listening address.
pub(crate) struct HttpListener {
    pub(crate) address: SocketAddr,
    pub(crate) tls: TlsAcceptor,
    pub(crate) end: ListenerEnd,
    pub(crate) outage: Rc<Outage>,
}

/// Serves an accepted connection, or refuses it. `spare` is for its first connection to a backend.
pub(crate) fn accept(
    context: &Rc<HttpWorkerContext>,
    listener: &Rc<HttpListener>,
    client: TcpStream,
    peer: SocketAddr,
    spare: SpareSocket,
) {
    let Some(app_listener) = context.app_listener(listener.address) else {
        // The snapshot no longer has this listener, and its socket is about to close.
        return reset(&client);
    };
    let endpoint = endpoint_type(&app_listener);
    match admit(context, &app_listener, peer) {
        Ok(()) if !context.sources.has_capacity(peer.ip()) => {
            context.metrics.refused(endpoint, Refusal::SourceLimit.label());
            reset(&client);
        }
        Ok(()) if context.connections.get() < context.options.limits.connections => {
            context.metrics.connection(endpoint);
            let open = OpenConnectionGuard::new(context, peer.ip());
            let serving = Box::pin(serve(open, Rc::clone(listener), client, peer, spare));
            let outage = Rc::clone(&listener.outage);
            let serving = context.open.track_future(async move { outage.suspend(serving).await });
            tokio::task::spawn_local(serving);
        }
        Ok(()) => {
            context.left_over.keep(Some(spare));
            context.metrics.refused(endpoint, "connection_limit");
            reset(&client);
        }
        Err(refusal) => {
            context.left_over.keep(Some(spare));
            context.metrics.refused(endpoint, refusal.label());
            if context.refusals.is_first("app_services", peer.ip(), refusal.label(), app_listener.label()) {
                tracing::info!(
                    target: "access",
                    { client.addr = %peer, endpoint.id = app_listener.label(), refusal = refusal.label() },
                    "connection refused"
                );
            }
            refuse(context, client, peer.ip(), refusal);
        }
    }
}

/// Admits or refuses a connection, with the same checks as for flows. The public path refuses only the service's side.
fn admit(context: &HttpWorkerContext, app_listener: &AppListener, peer: SocketAddr) -> Result<(), Refusal> {
    let source = peer.ip().to_canonical();
    let service_side = context.service_side();
    if app_listener.lease.is_over(|| tokio::time::Instant::now().into_std()) {
        return Err(Refusal::ClaimLost);
    }
    match &app_listener.kind {
        AppListenerKind::Private { access, .. } => {
            admit_private(access, app_listener.address, source, &service_side).map(|_| ())
        }
        AppListenerKind::Public if service_side.contains(source) => Err(Refusal::OneWay),
        AppListenerKind::Public => Ok(()),
    }
}

fn reset(client: &TcpStream) {
    // Fails only on a socket that is already closed.
    let _ = client.set_zero_linger();
}

/// Ends a refused connection as AWS does. Where AWS drops packets, it is held unanswered, while the limit of held
/// connections allows.
fn refuse(context: &Rc<HttpWorkerContext>, mut client: TcpStream, source: IpAddr, refusal: Refusal) {
    let held = match refusal.mode() {
        RefusalMode::Reset | RefusalMode::Closed => None,
        RefusalMode::Dropped => context.held.admit(source, false),
    };
    let Some(held) = held else { return reset(&client) };
    let hold_time = context.options.hold_time;
    tokio::task::spawn_local(async move {
        let mut sink = [0; 512];
        let discard = async { while matches!(client.read(&mut sink).await, Ok(n) if n > 0) {} };
        tokio::select! {
            () = held.evicted() => {}
            _ = timeout(hold_time, discard) => {}
        }
        reset(&client);
    });
}

/// Counts a connection as open until it is dropped.
struct OpenConnectionGuard {
    context: Rc<HttpWorkerContext>,
    source: IpAddr,
    number: u64,
}

impl OpenConnectionGuard {
    fn new(context: &Rc<HttpWorkerContext>, source: IpAddr) -> Self {
        context.connections.set(context.connections.get() + 1);
        context.sources.add(source);
        Self { context: Rc::clone(context), source, number: context.next_number() }
    }
}

impl Drop for OpenConnectionGuard {
    fn drop(&mut self) {
        self.context.connections.set(self.context.connections.get() - 1);
        self.context.sources.remove(self.source);
        if self.context.options.proxy_protocol {
            self.context.backends.close_client(self.number);
        }
    }
}

/// Serves a connection from its TLS handshake to its end.
async fn serve(
    open: OpenConnectionGuard,
    listener: Rc<HttpListener>,
    client: TcpStream,
    peer: SocketAddr,
    spare: SpareSocket,
) {
    let context = &open.context;
    let limits = &context.options.limits;
    let handshake = timeout(limits.handshake, listener.tls.accept(HttpSocket::from(client)));
    // Boxed: a task has the size of its largest part for as long as it lives.
    let Some(handshake) = Box::pin(listener.end.closing.run_until_cancelled(handshake)).await else { return };
    let Ok(Ok(tls)) = handshake else {
        context.metrics.handshake_failed();
        return;
    };
    let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let connection = Rc::new(ClientConnection {
        id: open.number,
        peer,
        listener: listener.address,
        is_h2,
        activity: Activity::new(),
        spare: RefCell::new(Some(spare)),
        forwarded: RefCell::default(),
        closing: Cell::new(false),
        cut: listener.end.cut.clone(),
        outage: Rc::clone(&listener.outage),
        resets: limits.resets,
        abuse: Notify::new(),
        answered: Cell::default(),
        cancelled: Cell::default(),
    });
    let io = ClientIo::new(tls, Arc::clone(&connection.activity), is_h2);
    let service = service_fn(|request| {
        // Both boxed: hyper moves the request's future, and the request is moved between futures.
        Box::pin(answer(Rc::clone(context), Rc::clone(&connection), Box::new(request)))
    });
    if is_h2 {
        let io = Batched::new(io);
        let http = pin!(context.http2.serve_connection(TokioIo::new(io.clone()), service));
        drive(context, &connection, &listener.end, http, |http| http.graceful_shutdown(), |cx| io.poll_send(cx)).await;
    } else {
        let http = pin!(context.http1.serve_connection(TokioIo::new(io), service).with_upgrades());
        let flush = |_: &mut Context<'_>| Poll::Ready(Ok(()));
        drive(context, &connection, &listener.end, http, |http| http.graceful_shutdown(), flush).await;
    }
}

/// Serves HTTP until the client closes, the listener ends or a limit is reached.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    context: &HttpWorkerContext,
    connection: &ClientConnection,
    listener: &ListenerEnd,
    mut http: Pin<&mut C>,
    shut_down: impl Fn(Pin<&mut C>),
    flush: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
) {
    loop {
        tokio::select! {
            biased;
            ended = serving(http.as_mut(), &flush) => {
                if let Err(error) = ended {
                    record_library_refusal(context, connection, &error);
                }
                return;
            }
            () = listener.closing.cancelled(), if !connection.closing.get() => {
                connection.closing.set(true);
                shut_down(http.as_mut());
            }
            // A connection that is cut was closing before.
            () = listener.cut.cancelled(), if connection.closing.get() => return,
            () = connection.abuse.notified(), if connection.is_h2 => return,
            expired = connection.activity.expired(&context.options.limits, connection.is_h2) => {
                if expired == Expired::Slow {
                    connection.activity.close_by_reset();
                    return;
                }
                shut_down(http.as_mut());
                // Errors on an idle connection are the client's.
                let _ = timeout(GOAWAY_TIMEOUT, serving(http.as_mut(), &flush)).await;
                return;
            }
        }
    }
}

/// Polls HTTP and sends what it wrote; returns when the connection ends.
async fn serving<C: Future<Output = hyper::Result<()>>>(
    mut http: Pin<&mut C>,
    flush: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
) -> hyper::Result<()> {
    poll_fn(|cx| match http.as_mut().poll(cx) {
        Poll::Pending if matches!(flush(cx), Poll::Ready(Err(_))) => Poll::Ready(Ok(())),
        polled => polled,
    })
    .await
}
