//! Checks that unauthorized clients are refused.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::client::connect;
use super::client_addresses::ClientAddresses;
use super::{CheckContext, CheckResult};
use crate::plan::{AppListenerKind, ListenerAccess};

/// How long to wait for a response before a connection counts as refused. Admitted clients get a response within a few
/// milliseconds; the metrics check compares the number of refusals, which reveals late admissions.
const NO_ANSWER: Duration = Duration::from_millis(400);

/// The bytes sent to a port that should not respond.
#[derive(Debug, Clone, Copy)]
enum Greeting {
    /// A TLS ClientHello, to which a target responds with a ServerHello or an alert.
    Tls,
    /// An HTTP request.
    Http,
}

/// Nothing on the service's side can open a connection to any port of the gateway (A2).
pub(super) async fn one_way(context: Arc<CheckContext>, clients: Arc<ClientAddresses>) -> CheckResult {
    let flows = context.snapshot.listeners.keys().chain(context.snapshot.apps.listeners.keys());
    let flows = flows.map(|address| (*address, Greeting::Tls));
    let own = [context.metrics, context.admin].into_iter().flatten().map(|address| (address, Greeting::Http));
    let ports: Vec<(SocketAddr, Greeting)> = flows.chain(own).collect();
    try_join_all(ports.iter().map(|(to, greeting)| unanswered(&context, clients.service, *to, *greeting))).await?;
    Ok(format!("{} ports answer nothing to {}, which is on the service's side", ports.len(), clients.service))
}

/// Clients on the internet can use neither the private path, nor the public path without being on the access list (A3,
/// A15).
pub(super) async fn origin(context: Arc<CheckContext>, clients: Arc<ClientAddresses>) -> CheckResult {
    let listeners = context.snapshot.listeners.values();
    let (private, public): (Vec<_>, Vec<_>) =
        listeners.partition(|listener| matches!(listener.access, ListenerAccess::Endpoint(_)));
    let listeners = context
        .snapshot
        .apps
        .listeners
        .values()
        .filter(|listener| matches!(listener.kind, AppListenerKind::Private { .. }));
    let private = private.iter().map(|listener| listener.address).chain(listeners.map(|listener| listener.address));
    let private = private.map(|address| (address, clients.listed));
    let public = public.iter().map(|listener| (listener.address, clients.unlisted));
    let tries: Vec<(SocketAddr, IpAddr)> = private.chain(public).collect();
    try_join_all(tries.iter().map(|(to, source)| unanswered(&context, *source, *to, Greeting::Tls))).await?;
    Ok(format!(
        "the private path answers nothing to {}, the standard path nothing to {}, which is not on the list",
        clients.listed, clients.unlisted
    ))
}

/// Expects no byte from `to`: a refused client gets no response, or is reset.
async fn unanswered(context: &CheckContext, source: IpAddr, to: SocketAddr, greeting: Greeting) -> Result<(), String> {
    match timeout(NO_ANSWER, greet(context, source, to, greeting)).await {
        // Blackholed.
        Err(_) => Ok(()),
        Ok(Ok(())) => Err(format!("{to} answered {source}")),
        Ok(Err(error)) if is_silence(&error, greeting) => Ok(()),
        Ok(Err(error)) => Err(format!("{to} from {source}: {error}")),
    }
}

/// Whether the error means that no byte was received.
fn is_silence(error: &io::Error, greeting: Greeting) -> bool {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => true,
        // The gateway's own services may be disabled; the listeners of the plan may not.
        io::ErrorKind::ConnectionRefused => matches!(greeting, Greeting::Http),
        _ => false,
    }
}

/// `Ok` if any response was received.
async fn greet(context: &CheckContext, source: IpAddr, to: SocketAddr, greeting: Greeting) -> io::Result<()> {
    let mut stream = connect(Some(source), to).await?;
    match greeting {
        Greeting::Tls => {
            let tls = TlsConnector::from(Arc::clone(&context.tls));
            match tls.connect(ServerName::from(to.ip()), stream).await {
                // An alert or an unexpected certificate is a response too.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(()),
                greeted => greeted.map(drop),
            }
        }
        Greeting::Http => {
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await?;
            stream.read_u8().await.map(drop)
        }
    }
}
