//! Questions as datagrams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::DnsError;
use super::server::{Adapter, Reaction, Transport, Views};

/// Longer than any question; what is longer is cut by the kernel and then malformed.
const PACKET_BYTES: usize = 4096;

/// Datagrams answered between two looks at the rest of the world.
const BATCH: usize = 64;

/// How long a failing socket is left alone, so that a lasting failure does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers datagrams until `stop`. Local answers are sent from here; forwarded ones by tasks on `tracker`.
pub(super) async fn serve(
    socket: UdpSocket,
    adapter: Arc<Adapter>,
    mut views: Views,
    tracker: TaskTracker,
    stop: CancellationToken,
) -> Result<(), DnsError> {
    let address = socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    let socket = Arc::new(socket);
    let mut packet = vec![0; PACKET_BYTES];
    let mut reply = Vec::with_capacity(PACKET_BYTES);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            ready = socket.readable() => ready.map_err(|source| DnsError::Stopped { address, transport: "UDP", source })?,
        }
        for _ in 0..BATCH {
            let (length, source) = match socket.try_recv_from(&mut packet) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!(dns.addr = %address, %error, "cannot receive DNS questions");
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
            };
            reply.clear();
            match adapter.react(&packet[..length], source, Transport::Udp, views.latest(), &mut reply) {
                Reaction::Silence => {}
                Reaction::Reply => send(&socket, &reply, source).await,
                Reaction::Forward(forwarding) => {
                    let (adapter, socket, stop) = (Arc::clone(&adapter), Arc::clone(&socket), stop.clone());
                    tracker.spawn(async move {
                        let mut reply = Vec::new();
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = adapter.finish(*forwarding, &mut reply) => send(&socket, &reply, source).await,
                        }
                    });
                }
            }
        }
        // A flood must not keep the other tasks of this thread from running.
        tokio::task::consume_budget().await;
    }
}

/// Sends a reply. One that cannot be sent is lost, as datagrams are: the client asks again.
async fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    let sent = match socket.try_send_to(reply, to) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.send_to(reply, to).await,
        sent => sent,
    };
    if let Err(error) = sent {
        tracing::debug!(client.addr = %to, %error, "cannot send a DNS answer");
    }
}
