//! The HTTP server of the admin and the metrics listener: connection limits, time-outs, and the checks of a request
//! before a [`Site`] handles it.
//!
//! hyper serves each connection. The limit over all connections is implemented here, as hyper-util's `GracefulShutdown`
//! can only end every connection, not one that is idle.

mod guard;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::guard::{Hosts, RejectedRequest};
use crate::limits::{ConnectionSlot, Connections, Refusals, Shares, budget};
use crate::model::DnsName;

/// Time limit for a request's head, also for the next one on a persistent connection.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections reserved for trusted sources: the operator, and probes on the same machine.
const RESERVED: usize = 8;

/// Maximum size of a request's head in bytes.
const HEAD_LIMIT: usize = 32 * 1024;

/// Time limit for a response in progress when its connection must end.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// First and longest delay after a failed accept, usually for lack of descriptors.
const ACCEPT_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A response.
pub(crate) type Reply = Response<Full<Bytes>>;

/// Why a connection is closed without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionRefusal {
    /// Its source is on the service's side.
    OneWay,
    /// Too many connections are open, none of them idle.
    ConnectionLimit,
}

impl ConnectionRefusal {
    /// All reasons in declaration order.
    pub(crate) const ALL: [Self; 2] = [Self::OneWay, Self::ConnectionLimit];

    /// The label in metrics and logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::OneWay => "one_way",
            Self::ConnectionLimit => "connection_limit",
        }
    }
}

/// A listener's TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    /// The configuration for connections to a local address; `None` without a certificate.
    pub(crate) at: Arc<dyn Fn(IpAddr) -> Option<Arc<ServerConfig>> + Send + Sync>,
    /// Allowed host names besides the [`Hosts`] of the site. Only with TLS, where the certificate protects against a
    /// rebound name.
    pub(crate) names: Arc<BTreeSet<DnsName>>,
}

/// A service on a listener.
pub(crate) trait Site: Send + Sync + 'static {
    /// The listener's name in log lines.
    const NAME: &'static str;

    /// Maximum number of connections, further limited to 1/`DESCRIPTOR_PART` of the process' descriptors.
    const CONNECTION_LIMIT: usize;
    const DESCRIPTOR_PART: usize;

    /// The allowed Host headers.
    const HOSTS: Hosts;

    /// Whether a source is on the service's side and therefore gets no response (one-way). Checked for each request, as
    /// a reload may change the result for a persistent connection.
    fn is_service_side(&self, source: IpAddr) -> bool;

    /// Whether a source may use the reserved connections: loopback, that is the operator.
    fn is_trusted(&self, source: IpAddr) -> bool {
        source.is_loopback()
    }

    /// Counts a connection that is closed without a response.
    fn count_refused(&self, reason: ConnectionRefusal);

    /// The response to a request that [`guard`] refuses.
    fn forbidden(&self, rejected: RejectedRequest) -> Reply;

    /// A parsed request.
    type Call: Send;

    /// Reads a request. Meanwhile the connection counts as idle, as a client may send slowly.
    ///
    /// # Errors
    ///
    /// The response to a request that cannot be read.
    fn read(
        &self,
        request: Request<Incoming>,
        from: SocketAddr,
    ) -> impl Future<Output = Result<Self::Call, Reply>> + Send;

    /// Handles a request.
    fn answer(self: Arc<Self>, call: Self::Call) -> impl Future<Output = Reply> + Send;
}

/// Serves `site` on a bound listener, with `tls` if given, until `stop` is cancelled; then finishes responses in
/// progress.
pub(crate) async fn serve<S: Site>(
    site: Arc<S>,
    listener: TcpListener,
    tls: Option<Tls>,
    refusals: Arc<Refusals>,
    stop: CancellationToken,
) {
    let limit = budget::share(S::DESCRIPTOR_PART, S::CONNECTION_LIMIT);
    let connections =
        Connections::new(Shares { limit, per_source: limit.div_ceil(2), reserved: RESERVED.min(limit / 4) });
    let tasks = TaskTracker::new();
    let mut wait = ACCEPT_WAIT.0;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                wait = ACCEPT_WAIT.0;
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                match admit(&*site, &connections, from.ip()) {
                    Ok(connection) => {
                        let serving =
                            serve_connection(Arc::clone(&site), stream, tls.clone(), from, connection, stop.clone());
                        tasks.spawn(serving);
                    }
                    Err(reason) => {
                        site.count_refused(reason);
                        let reason = reason.label();
                        if refusals.is_first(S::NAME, from.ip(), reason, "") {
                            tracing::info!(listener = S::NAME, client.addr = %from, reason, "connection refused");
                        }
                    }
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(listener = S::NAME, %error, wait_ms = wait.as_millis(), "failed to accept a connection");
                let _ = stop.run_until_cancelled(sleep(wait)).await;
                wait = (wait * 2).min(ACCEPT_WAIT.1);
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Whether an accept error concerns only one connection, so that accepting continues.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

fn admit<S: Site>(
    site: &S,
    connections: &Arc<Connections>,
    source: IpAddr,
) -> Result<ConnectionSlot, ConnectionRefusal> {
    if site.is_service_side(source) {
        return Err(ConnectionRefusal::OneWay);
    }
    connections.admit(source, site.is_trusted(source)).ok_or(ConnectionRefusal::ConnectionLimit)
}

/// Ends a connection without a response: its source is now on the service's side.
#[derive(Debug, thiserror::Error)]
#[error("the source is on the service's side")]
struct OneWay;

async fn serve_connection<S: Site>(
    site: Arc<S>,
    stream: TcpStream,
    tls: Option<Tls>,
    from: SocketAddr,
    connection: ConnectionSlot,
    stop: CancellationToken,
) {
    let Ok(local) = stream.local_addr() else { return };
    let (connection, local) = (&connection, local.ip().to_canonical());
    let (scheme, names) = match &tls {
        Some(tls) => ("https://", Arc::clone(&tls.names)),
        None => ("http://", Arc::default()),
    };
    let stream = match tls {
        None => Either::Left(stream),
        Some(tls) => {
            let Some(config) = (tls.at)(local) else { return };
            tokio::select! {
                () = stop.cancelled() => return,
                () = connection.evicted() => return,
                shaken = timeout(HEAD_TIMEOUT, TlsAcceptor::from(config).accept(stream)) => match shaken {
                    Ok(Ok(stream)) => Either::Right(Box::new(stream)),
                    Ok(Err(_)) | Err(_) => return,
                },
            }
        }
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let (site, names) = (Arc::clone(&site), Arc::clone(&names));
        async move {
            if site.is_service_side(from.ip()) {
                return Err(OneWay);
            }
            if let Err(rejected) = guard::check(request.headers(), local, S::HOSTS, &names, scheme) {
                tracing::debug!(listener = S::NAME, client.addr = %from, reason = %rejected, "request refused");
                return Ok(site.forbidden(rejected));
            }
            Ok(match site.read(request, from).await {
                Ok(call) => {
                    let _busy = connection.busy();
                    site.answer(call).await
                }
                Err(reply) => reply,
            })
        }
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_LIMIT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = async { tokio::select! { () = stop.cancelled() => {}, () = connection.evicted() => {} } } => {
            served.as_mut().graceful_shutdown();
            // An evicted idle connection ends at once; with an incomplete head, it would otherwise wait for the rest.
            let is_evicted = !stop.is_cancelled() && connection.is_idle();
            let grace = if is_evicted { Duration::ZERO } else { STOP_GRACE };
            timeout(grace, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(listener = S::NAME, %error, "connection ended early");
    }
}

#[cfg(test)]
mod tests;
