//! The accept loop of a stand-in.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StandinError;

/// Delay after a failed accept, to avoid a busy loop when descriptors are exhausted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket and its connections. Dropping it closes all of them.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

/// A bound socket that does not accept yet.
pub(super) struct BoundSocket {
    listener: TcpListener,
    address: SocketAddr,
}

impl BoundSocket {
    /// Binds `address` (port 0: any free one).
    pub(super) async fn bind(what: &str, address: SocketAddr) -> Result<Self, StandinError> {
        let failed = |source| StandinError::Bind { what: what.to_owned(), address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it is bound.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves every connection by `serve`, in its own task.
    pub(super) fn serve<S, F>(self, serve: S) -> Server
    where
        S: Fn(TcpStream, SocketAddr) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accepting = accept(self.listener, serve, cancel.clone(), tasks.clone());
        tasks.spawn(cancel.clone().run_until_cancelled_owned(accepting));
        Server { address: self.address, cancel, tasks }
    }
}

impl Server {
    /// Binds and serves.
    pub(super) async fn start<S, F>(what: &str, address: SocketAddr, serve: S) -> Result<Self, StandinError>
    where
        S: Fn(TcpStream, SocketAddr) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Ok(BoundSocket::bind(what, address).await?.serve(serve))
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the socket and all connections, and waits until they are closed.
    pub(super) async fn stop(self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

async fn accept<S, F>(listener: TcpListener, serve: S, cancel: CancellationToken, tasks: TaskTracker)
where
    S: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Responses are small and should be sent at once.
                let _ = stream.set_nodelay(true);
                let connection = Box::pin(serve(stream, peer));
                let cancel = cancel.clone();
                tasks.spawn(async move {
                    cancel.run_until_cancelled(connection).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "stand-in failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
