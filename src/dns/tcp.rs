//! Questions over connections (RFC 7766).
//!
//! The library's own accept loop (`Server::register_listener`) takes any number of connections, so accepting and the
//! limits are here; framing, parsing and writing are the library's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_server::net::tcp::TcpStream as Messages;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandle};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::handler::Handler;
use super::{DnsError, ViewKind};

/// Connections that one source address may hold at once over one listener.
pub(super) const MAXIMUM_PER_SOURCE: usize = 32;

/// How long a connection may go without a whole question (RFC 7766 §6.2.3: a few seconds), or without taking an answer.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long accepting pauses after an error such as a full table of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Replies that may wait for one connection's socket; questions are answered one after the other.
const REPLY_BUFFER: usize = 4;

/// Connections that all sources of a view may hold at once over one listener. Each view has its own places, so that
/// public clients cannot take those of VPC clients; sources without a view get no answer but REFUSED.
pub(super) const fn maximum_connections(view: ViewKind) -> usize {
    match view {
        ViewKind::Vpc => 128,
        ViewKind::Public => 32,
        ViewKind::None => 8,
    }
}

/// Accepts connections until `stop`.
pub(super) async fn serve(listener: TcpListener, handler: Handler, stop: CancellationToken) -> Result<(), DnsError> {
    let open = Arc::new(OpenConnections::default());
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, source)) => {
                let place = open.insert(source.ip(), handler.view_of(source));
                let handler = handler.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = place.connection.closed.cancelled() => {}
                        ended = connection(stream, source, handler, &place) => if let Err(error) = ended {
                            tracing::debug!(client.addr = %source, %error, "DNS connection ended");
                        }
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a DNS connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers until the client closes, is idle for too long, or sends what cannot be parsed, such as an empty message.
async fn connection(stream: TcpStream, source: SocketAddr, handler: Handler, place: &Place) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut messages, replies) =
        Messages::from_stream_with_buffer_size(AsyncIoTokioAsStd(stream), source, REPLY_BUFFER);
    while let Some(message) = timeout_at(place.deadline(), messages.next()).await? {
        let (message, _) = message?.into_parts();
        let Ok(request) = Request::from_bytes(message, source, Protocol::Tcp) else {
            handler.count_malformed();
            return Err(io::ErrorKind::InvalidData.into());
        };
        place.mark_active();
        let replies = ResponseHandle::new(source, replies.clone(), Protocol::Tcp);
        handler.handle_request::<_, TokioTime>(&request, replies).await;
        place.mark_active();
    }
    Ok(())
}

/// The connections of one listener.
#[derive(Debug, Default)]
struct OpenConnections(Mutex<Vec<Arc<OpenConnection>>>);

#[derive(Debug)]
struct OpenConnection {
    source: IpAddr,
    view: ViewKind,
    /// When it was accepted, or last had a question or an answer.
    active: Mutex<Instant>,
    /// Cancelled when another connection takes its place.
    closed: CancellationToken,
}

impl OpenConnections {
    /// Makes a place for a connection. When its source or its view has none left, the longest idle connection of the same
    /// source or view is closed (RFC 7766 §6.2.3).
    fn insert(self: &Arc<Self>, source: IpAddr, view: ViewKind) -> Place {
        let (active, closed) = (Mutex::new(Instant::now()), CancellationToken::new());
        let connection = Arc::new(OpenConnection { source, view, active, closed });
        let mut open = lock(&self.0);
        close_longest_idle(&mut open, MAXIMUM_PER_SOURCE, |other| other.source == source);
        close_longest_idle(&mut open, maximum_connections(view), |other| other.view == view);
        open.push(Arc::clone(&connection));
        Place { open: Arc::clone(self), connection }
    }
}

/// Closes the longest idle of the connections that `competes` holds for, if there are `maximum` of them.
fn close_longest_idle(open: &mut Vec<Arc<OpenConnection>>, maximum: usize, competes: impl Fn(&OpenConnection) -> bool) {
    let competing = || open.iter().enumerate().filter(|(_, other)| competes(other));
    if competing().count() < maximum {
        return;
    }
    if let Some((index, _)) = competing().min_by_key(|(_, other)| *lock(&other.active)) {
        open.swap_remove(index).closed.cancel();
    }
}

/// A connection's place among the open ones; freed when it is dropped.
struct Place {
    open: Arc<OpenConnections>,
    connection: Arc<OpenConnection>,
}

impl Place {
    /// When the connection has been idle for too long.
    fn deadline(&self) -> Instant {
        *lock(&self.connection.active) + IDLE_TIMEOUT
    }

    fn mark_active(&self) {
        *lock(&self.connection.active) = Instant::now();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.open.0).retain(|other| !Arc::ptr_eq(other, &self.connection));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
