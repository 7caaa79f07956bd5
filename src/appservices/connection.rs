//! One client's connection: admission, TLS, HTTP.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
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
    let Ok(Ok(tls)) = timeout(limits.handshake, accepting).await else {
        worker.metrics.handshake_failed();
        return;
    };
    live.touch();
    let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(ClientIo::new(tls, std::sync::Arc::clone(&live.socket)));
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
        drive(live, builder.serve_connection(io, service)).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.max_headers(limits.headers).max_header_size(limits.header_size).header_read_timeout(None);
        drive(live, builder.serve_connection(io, service).with_upgrades()).await;
    }
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

/// Serves until the client goes, or it is told to end.
async fn drive(live: &Live, connection: impl Finish) {
    let mut connection = pin!(connection);
    let mut asked = false;
    poll_fn(|cx: &mut Context<'_>| {
        match live.order(cx) {
            Order::None => {}
            Order::Finish if asked => {}
            Order::Finish => {
                asked = true;
                connection.as_mut().finish();
            }
            // Dropped as it is.
            Order::Cut(_) => return Poll::Ready(()),
        }
        // What goes wrong on a client's connection is the client's.
        connection.as_mut().poll(cx).map(|_| ())
    })
    .await;
}
