//! DNS over TCP (RFC 7766).
//!
//! The library's accept loop (`Server::register_listener`) has no limit of connections, so accepting and limits are
//! here; framing, parsing and writing are the library's.

use std::io;
use std::net::SocketAddr;
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
use crate::limits::{ConnectionSlot, Connections, Shares, budget};

/// Maximum number of connections of one source address over one listener.
pub(super) const MAXIMUM_PER_SOURCE: usize = 32;

/// How long a connection may go without a complete question (RFC 7766 §6.2.3: a few seconds), or without reading an
/// answer.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause of accepting after an error such as a full descriptor table.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Replies that may wait for one connection's socket; questions are answered sequentially.
const REPLY_BUFFER: usize = 4;

/// Maximum number of connections of all sources of a view over one listener. Each view has a separate limit, so that
/// public clients cannot displace VPC clients; sources without a view get only REFUSED. The limits are lower if the
/// process has few descriptors: 1/64 of them, 1/256 and 1/512.
pub(super) const fn maximum_connections(view: ViewKind) -> usize {
    match view {
        ViewKind::Vpc => 128,
        ViewKind::Public => 32,
        ViewKind::None => 8,
    }
}

/// Accepts connections until `stop`.
pub(super) async fn serve(listener: TcpListener, handler: Handler, stop: CancellationToken) -> Result<(), DnsError> {
    let open = [(ViewKind::Vpc, 64), (ViewKind::Public, 256), (ViewKind::None, 512)].map(|(view, part)| {
        let limit = budget::share(part, maximum_connections(view));
        Connections::new(Shares { limit, per_source: limit.min(MAXIMUM_PER_SOURCE), reserved: 0 })
    });
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
                // At the limit of its source or its view, the connection of the same source or view that has been idle
                // for longest is closed (RFC 7766 §6.2.3).
                let Some(place) = open[handler.view_of(source) as usize].admit(source.ip(), false) else { continue };
                let handler = handler.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = place.evicted() => {}
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

/// Answers until the client closes, is idle for too long, or sends something unparsable, such as an empty message.
async fn connection(stream: TcpStream, source: SocketAddr, handler: Handler, place: &ConnectionSlot) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut messages, replies) =
        Messages::from_stream_with_buffer_size(AsyncIoTokioAsStd(stream), source, REPLY_BUFFER);
    let mut active = Instant::now();
    while let Some(message) = timeout_at(active + IDLE_TIMEOUT, messages.next()).await? {
        let (message, _) = message?.into_parts();
        let Ok(request) = Request::from_bytes(message, source, Protocol::Tcp) else {
            handler.count_malformed();
            return Err(io::ErrorKind::InvalidData.into());
        };
        place.mark_active();
        let replies = ResponseHandle::new(source, replies.clone(), Protocol::Tcp);
        handler.handle_request::<_, TokioTime>(&request, replies).await;
        place.mark_active();
        active = Instant::now();
    }
    Ok(())
}
