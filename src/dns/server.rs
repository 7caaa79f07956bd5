//! The running server: UDP, TCP, and its shutdown.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_server::Server;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::handler::Handler;
use super::{DnsError, DnsMetrics, DnsSockets, tcp};
use crate::config::DnsSettings;
use crate::plan::Snapshot;

/// A running DNS server for UDP and TCP, which answers from the latest snapshot.
#[derive(Debug)]
pub struct DnsServer {
    addresses: Vec<SocketAddr>,
    tasks: JoinSet<Result<(), DnsError>>,
    /// Stops the tasks when the server is dropped.
    _stop: DropGuard,
}

impl DnsServer {
    /// Serves `sockets` until `stop` is cancelled, on the current tokio runtime. Each answer is based on the latest
    /// snapshot.
    ///
    /// # Errors
    ///
    /// [`DnsError::ForwardsToItself`] when an upstream resolver is one of the sockets.
    pub fn start(
        sockets: DnsSockets,
        options: DnsSettings,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        metrics: DnsMetrics,
        stop: &CancellationToken,
    ) -> Result<Self, DnsError> {
        let DnsSockets { udp, tcp } = sockets;
        let of_udp = udp.iter().map(tokio::net::UdpSocket::local_addr);
        let of_tcp = tcp.iter().map(tokio::net::TcpListener::local_addr);
        let mut addresses: Vec<_> = of_udp.chain(of_tcp).filter_map(Result::ok).collect();
        addresses.dedup();
        if let Some(own) = options.forward.iter().find(|upstream| addresses.iter().any(|own| reaches(**upstream, *own)))
        {
            return Err(DnsError::ForwardsToItself(*own));
        }

        let stop = stop.child_token();
        let handler = Handler::new(options, metrics, snapshots);
        let mut tasks = JoinSet::new();
        let mut server = Server::new(handler.clone());
        for socket in udp {
            server.register_socket(socket);
        }
        tasks.spawn(serve_udp(server, stop.clone()));
        for listener in tcp {
            tasks.spawn(tcp::serve(listener, handler.clone(), stop.clone()));
        }
        let stopped = stop.clone();
        tasks.spawn(async move {
            stopped.run_until_cancelled(handler.probe_for_loops()).await;
            Ok(())
        });
        Ok(Self { addresses, tasks, _stop: stop.drop_guard() })
    }

    /// The listening addresses, each once.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until the server has stopped: at once when one of its sockets failed, otherwise after `stop` was cancelled
    /// and every connection has ended.
    ///
    /// # Errors
    ///
    /// [`DnsError::Stopped`] when a socket failed. Without DNS no client can find the gateway, so callers should end
    /// too.
    ///
    /// # Panics
    ///
    /// If one of the server's tasks panicked.
    pub async fn stopped(mut self) -> Result<(), DnsError> {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) => {
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
        Ok(())
    }
}

async fn serve_udp(mut server: Server<Handler>, stop: CancellationToken) -> Result<(), DnsError> {
    tokio::select! {
        () = stop.cancelled() => server.shutdown_gracefully().await,
        ended = server.block_until_done() => ended,
    }
    .map_err(DnsError::Stopped)
}

/// Whether packets to `upstream` arrive at a socket bound to `own`.
fn reaches(upstream: SocketAddr, own: SocketAddr) -> bool {
    // An address can be bound if it belongs to this host.
    let is_local = || std::net::UdpSocket::bind((upstream.ip(), 0)).is_ok();
    upstream.port() == own.port()
        && (upstream.ip() == own.ip() || upstream.ip().is_unspecified() || own.ip().is_unspecified() && is_local())
}
