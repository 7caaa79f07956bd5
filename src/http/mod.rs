//! The HTTP server of the gateway's own listeners, admin and metrics: which connections are taken, how many, for how long,
//! and which requests are refused before a site sees them.
//!
//! hyper serves each connection. The limit over all connections is kept here: hyper-util's `GracefulShutdown` ends every
//! connection, and cannot choose one that is idle.

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

pub(crate) use self::guard::{Hosts, Suspicion};
use crate::limits::{Connection, Connections, Refusals, Shares, budget};
use crate::model::DnsName;

/// How long a client may take to send a request's head, or to send the next one on a kept connection.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that only trusted sources may have: the operator's own, and probes on the same machine.
const RESERVED: usize = 8;

/// Bytes of a request's head, with its query.
const HEAD_LIMIT: usize = 32 * 1024;

/// How long an answer that is under way may take once its connection is to end.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// First and longest wait after a failed accept (no descriptor left, most likely).
const ACCEPT_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// An answer.
pub(crate) type Reply = Response<Full<Bytes>>;

/// Why a connection is closed unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its source lies on the service's side.
    OneWay,
    /// Too many connections are open, none of them idle.
    ConnectionLimit,
}

impl Refused {
    /// Every reason, in the order of its number.
    pub(crate) const ALL: [Self; 2] = [Self::OneWay, Self::ConnectionLimit];

    /// Its label in metrics and logs.
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
    /// What clients at a local address are shown; `None`: nothing, as no certificate can be had.
    pub(crate) at: Arc<dyn Fn(IpAddr) -> Option<Arc<ServerConfig>> + Send + Sync>,
    /// Host names that requests may have besides the [`Hosts`] of the site. Over TLS alone: a name that was rebound to this
    /// address proves nothing, and a certificate does.
    pub(crate) names: Arc<BTreeSet<DnsName>>,
}

/// What is served on a listener.
pub(crate) trait Site: Send + Sync + 'static {
    /// The listener's name in log lines.
    const NAME: &'static str;

    /// Connections at once: a number, and a part of the process' descriptors; the smaller one counts.
    const CONNECTION_LIMIT: usize;
    const DESCRIPTOR_PART: usize;

    /// The Host headers that requests may have.
    const HOSTS: Hosts;

    /// Whether a source lies on the service's side, and so gets no answer (one-way). Asked again for each request: a reload
    /// may have put the source of a kept connection there.
    fn is_service_side(&self, source: IpAddr) -> bool;

    /// Whether connections of a source are kept while others have to make place: loopback's are, the operator's own.
    fn is_trusted(&self, source: IpAddr) -> bool {
        source.is_loopback()
    }

    /// Counts a connection that is closed unanswered.
    fn count_refused(&self, reason: Refused);

    /// The answer to a request that [`guard`] refuses.
    fn forbidden(&self, suspicion: Suspicion) -> Reply;

    /// A request that was read.
    type Call: Send;

    /// Reads any other request; while it does so the connection counts as idle, as a client may take its time to send.
    ///
    /// # Errors
    ///
    /// The answer to one that can't be read.
    fn read(
        &self,
        request: Request<Incoming>,
        from: SocketAddr,
    ) -> impl Future<Output = Result<Self::Call, Reply>> + Send;

    /// The answer.
    fn answer(self: Arc<Self>, call: Self::Call) -> impl Future<Output = Reply> + Send;
}

/// Serves `site` on a bound listener, over `tls` where there is one, until `stop` is cancelled, then lets
/// answers that are under way end.
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

/// Whether an accept failed for the connection alone, which is over then.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

fn admit<S: Site>(site: &S, connections: &Arc<Connections>, source: IpAddr) -> Result<Connection, Refused> {
    if site.is_service_side(source) {
        return Err(Refused::OneWay);
    }
    connections.admit(source, site.is_trusted(source)).ok_or(Refused::ConnectionLimit)
}

/// Why a connection ends without an answer: its source lies on the service's side by now.
#[derive(Debug, thiserror::Error)]
#[error("the source lies on the service's side")]
struct OneWay;

async fn serve_connection<S: Site>(
    site: Arc<S>,
    stream: TcpStream,
    tls: Option<Tls>,
    from: SocketAddr,
    connection: Connection,
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
            if let Err(suspicion) = guard::check(request.headers(), local, S::HOSTS, &names, scheme) {
                tracing::debug!(listener = S::NAME, client.addr = %from, reason = %suspicion, "request refused");
                return Ok(site.forbidden(suspicion));
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
            // An idle connection that makes place ends at once: with half a head it would wait for the rest.
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
