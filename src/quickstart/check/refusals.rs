//! Checks that nobody gets in who should not.

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
use super::places::Places;
use super::{Bench, Outcome};
use crate::plan::{DoorWay, Gate};

/// How long no answer counts as none. Whoever is let in is answered within a millisecond or two; that nobody is let in
/// late shows in the count of refusals, which the metrics check reads.
const NO_ANSWER: Duration = Duration::from_millis(400);

/// What is said to a port that ought not to answer.
#[derive(Debug, Clone, Copy)]
enum Speech {
    /// A TLS greeting: what lies behind would answer it, with its own greeting or an alert.
    Tls,
    /// An HTTP request.
    Http,
}

/// Nothing on the service's side can open a connection to any port of the gateway (A2).
pub(super) async fn one_way(bench: Arc<Bench>, places: Arc<Places>) -> Outcome {
    let flows = bench.snapshot.listeners.keys().chain(bench.snapshot.apps.doors.keys());
    let flows = flows.map(|address| (*address, Speech::Tls));
    let own = [bench.metrics, bench.admin].into_iter().flatten().map(|address| (address, Speech::Http));
    let ports: Vec<(SocketAddr, Speech)> = flows.chain(own).collect();
    try_join_all(ports.iter().map(|(to, speech)| unanswered(&bench, places.service, *to, *speech))).await?;
    Ok(format!("{} ports answer nothing to {}, which is on the service's side", ports.len(), places.service))
}

/// Whoever is on the internet can't use the private path, nor the public one without being on the list (A3, A15).
pub(super) async fn origin(bench: Arc<Bench>, places: Arc<Places>) -> Outcome {
    let listeners = bench.snapshot.listeners.values();
    let (private, public): (Vec<_>, Vec<_>) =
        listeners.partition(|listener| matches!(listener.gate, Gate::Endpoint(_)));
    let doors = bench.snapshot.apps.doors.values().filter(|door| matches!(door.way, DoorWay::Private { .. }));
    let private = private.iter().map(|listener| listener.address).chain(doors.map(|door| door.address));
    let private = private.map(|address| (address, places.listed));
    let public = public.iter().map(|listener| (listener.address, places.unlisted));
    let tries: Vec<(SocketAddr, IpAddr)> = private.chain(public).collect();
    try_join_all(tries.iter().map(|(to, source)| unanswered(&bench, *source, *to, Speech::Tls))).await?;
    Ok(format!(
        "the private path answers nothing to {}, the standard path nothing to {}, which is not on the list",
        places.listed, places.unlisted
    ))
}

/// Expects no byte from `to`: a refused client waits, or is cut off.
async fn unanswered(bench: &Bench, source: IpAddr, to: SocketAddr, speech: Speech) -> Result<(), String> {
    match timeout(NO_ANSWER, greet(bench, source, to, speech)).await {
        // Dropped.
        Err(_) => Ok(()),
        Ok(Ok(())) => Err(format!("{to} answered {source}")),
        Ok(Err(error)) if is_silence(&error, speech) => Ok(()),
        Ok(Err(error)) => Err(format!("{to} from {source}: {error}")),
    }
}

/// Whether the error says that no byte came.
fn is_silence(error: &io::Error, speech: Speech) -> bool {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => true,
        // A service of the gateway's own may be off; a listener of the plan may not.
        io::ErrorKind::ConnectionRefused => matches!(speech, Speech::Http),
        _ => false,
    }
}

/// `Ok` when anything at all was answered.
async fn greet(bench: &Bench, source: IpAddr, to: SocketAddr, speech: Speech) -> io::Result<()> {
    let mut stream = connect(Some(source), to).await?;
    match speech {
        Speech::Tls => {
            let tls = TlsConnector::from(Arc::clone(&bench.tls));
            match tls.connect(ServerName::from(to.ip()), stream).await {
                // An alert, or a certificate for something else: an answer.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(()),
                greeted => greeted.map(drop),
            }
        }
        Speech::Http => {
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await?;
            stream.read_u8().await.map(drop)
        }
    }
}
