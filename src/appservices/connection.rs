//! One client's connection: admission, TLS, HTTP.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::backend::Local;
use super::client_io::ClientIo;
use super::live::{Live, Order};
use super::metrics::endpoint_type;
use super::request::answer;
use super::worker::Worker;
use crate::data::admission::admit_private;
use crate::model::{Refusal, WireLook};
use crate::plan::{Door, DoorWay};

/// The fields that hyper takes in a head unless it is told otherwise.
const HYPERS_HEADERS: usize = 100;

/// How long TLS' own end may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Takes a connection that was accepted, or lets it see why not.
pub(crate) fn take(worker: &Rc<Worker>, address: SocketAddr, client: TcpStream, peer: SocketAddr) {
    let apps = worker.apps();
    let Some(door) = apps.doors.get(&address) else {
        // Between the snapshot and the closing of the socket.
        return reset(&client);
    };
    let endpoint = endpoint_type(door);
    match admit(worker, door, peer) {
        Ok(()) if worker.open_here() < worker.options.limits.connections => {
            worker.metrics.connection(endpoint);
            let (live, slot) = worker.enter(peer, address, false);
            let guard = Guard { worker: Rc::clone(worker), live, slot };
            tokio::task::spawn_local(serve(guard, client));
        }
        Ok(()) => {
            worker.metrics.refused(endpoint, "connection_limit");
            reset(&client);
        }
        Err(refusal) => {
            worker.metrics.refused(endpoint, refusal.label());
            tracing::info!(
                target: "access",
                { client.addr = %peer, endpoint.id = door.label(), refusal = refusal.label() },
                "connection refused"
            );
            refuse(worker, client, refusal);
        }
    }
}

/// Whether a connection is let through: as for flows, and on the public path everybody but the service's side.
fn admit(worker: &Worker, door: &Door, peer: SocketAddr) -> Result<(), Refusal> {
    let source = peer.ip().to_canonical();
    let service_side = worker.service_side();
    match &door.way {
        DoorWay::Private { gate, .. } => admit_private(gate, door.address, source, &service_side).map(|_| ()),
        DoorWay::Public if service_side.contains(source) => Err(Refusal::OneWay),
        DoorWay::Public => Ok(()),
    }
}

fn reset(client: &TcpStream) {
    // Fails only on a socket that is gone already.
    let _ = client.set_zero_linger();
}

/// Lets a refused client see what AWS would show it: no answer, for as long as there is room to hold it.
fn refuse(worker: &Rc<Worker>, mut client: TcpStream, refusal: Refusal) {
    if refusal.look() == WireLook::Reset || worker.held.get() >= worker.options.held_refusals {
        return reset(&client);
    }
    worker.held.set(worker.held.get() + 1);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let mut sink = [0; 512];
        let forget = async { while matches!(client.read(&mut sink).await, Ok(n) if n > 0) {} };
        let _ = timeout(worker.options.hold_time, forget).await;
        reset(&client);
        worker.held.set(worker.held.get() - 1);
    });
}

/// An open connection, known to its worker until it is dropped.
struct Guard {
    worker: Rc<Worker>,
    live: Rc<Live>,
    slot: usize,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.worker.options.proxy_protocol {
            self.worker.backends.forget(self.live.id);
        }
        self.worker.leave(self.slot);
    }
}

async fn serve(guard: Guard, client: TcpStream) {
    let Guard { worker, live, .. } = &guard;
    let limits = &worker.options.limits;
    let accepting = TlsAcceptor::from(std::sync::Arc::clone(&worker.server)).accept(client);
    // Boxed, as it is large: a connection's task keeps room for the largest of its parts as long as it lasts.
    let Ok(Ok(tls)) = Box::pin(timeout(limits.handshake, accepting)).await else {
        worker.metrics.handshake_failed();
        return;
    };
    live.touch();
    let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let mut io = ClientIo::new(tls, std::sync::Arc::clone(&live.socket));
    let service = service_fn({
        let (worker, live) = (Rc::clone(worker), Rc::clone(live));
        // Boxed: hyper moves the future of a request about.
        move |request| Box::pin(answer(Rc::clone(&worker), Rc::clone(&live), request))
    });
    if is_h2 {
        live.set_h2();
        let mut builder = http2::Builder::new(Local);
        builder
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
            .enable_connect_protocol();
        let mut connection = Box::pin(builder.serve_connection(TokioIo::new(io), service));
        drive(live, &mut connection, false).await;
        return;
    }
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits.header_size).header_read_timeout(None);
    // Told of a number, even its own, hyper makes room for that many fields with every head.
    if limits.headers != HYPERS_HEADERS {
        builder.max_headers(limits.headers);
    }
    // What HTTP keeps, some 16 KiB of buffers, is there only while a client asks: of one that is silent, TLS stays.
    loop {
        let mut connection = Box::pin(builder.serve_connection(TokioIo::new(io), &service).with_upgrades());
        if drive(live, &mut connection, true).await == Driven::Over {
            return;
        }
        let Some(parts) = Pin::into_inner(connection).into_parts() else { return };
        io = parts.io.into_inner();
        io.put_back(parts.read_buf);
        let comes = poll_fn(|cx| match live.order(cx) {
            Order::None => io.poll_comes(cx).map(|()| true),
            // There is nothing to be finished.
            Order::Finish | Order::Cut(_) => Poll::Ready(false),
        });
        if !comes.await {
            close(io).await;
            return;
        }
    }
}

/// Says by TLS that nothing more comes.
async fn close(mut io: ClientIo) {
    // A client that is gone needs no goodbye; one that doesn't take it gets none.
    let _ = timeout(GOODBYE, io.shutdown()).await;
}

/// A connection that can be asked to finish.
trait Finish: Future {
    fn finish(self: Pin<&mut Self>);
}

impl<S, B> Finish for http1::UpgradeableConnection<TokioIo<ClientIo>, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, B> Finish for http2::Connection<TokioIo<ClientIo>, S, Local>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Local: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// How serving went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driven {
    /// The client went, or the connection was told to end.
    Over,
    /// Nothing moves: it may be laid down.
    Rests,
}

/// Serves until the client goes, or it is told to end; `rests`: or until it may be laid down.
async fn drive(live: &Live, connection: &mut Pin<Box<impl Finish>>, rests: bool) -> Driven {
    let mut asked = false;
    poll_fn(|cx: &mut Context<'_>| {
        let order = live.order(cx);
        match order {
            Order::None => {}
            Order::Finish if asked => {}
            Order::Finish => {
                asked = true;
                connection.as_mut().finish();
            }
            // Dropped as it is.
            Order::Cut(_) => return Poll::Ready(Driven::Over),
        }
        // What goes wrong on a client's connection is the client's.
        match connection.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(Driven::Over),
            Poll::Pending if rests && order == Order::None && live.may_rest() => Poll::Ready(Driven::Rests),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
