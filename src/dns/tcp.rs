//! Questions over connections (RFC 7766): several on one, answered as they are ready.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::DnsError;
use super::server::{Adapter, Reaction, Transport, Views};

/// Connections held at once, over each socket; later ones wait in the kernel's queue until one ends.
pub(super) const MAXIMUM_CONNECTIONS: usize = 128;

/// Connections that one address may hold at once; more are reset, so that one that says nothing leaves room for others.
pub(super) const MAXIMUM_PER_SOURCE: usize = 64;

/// Connections that all sources together may hold to which every question is refused.
const MAXIMUM_REFUSED: usize = 8;

/// What they are counted under.
const REFUSED_SOURCES: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// How long a connection may go without a whole question: a few seconds (RFC 7766 §6.2.3), or to take an answer.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Questions of one connection that may be upstream at once; until one returns, no more are read.
const MAXIMUM_PENDING: usize = 32;

/// Answers are gathered up to this many bytes and written at once.
const GATHER_BYTES: usize = 64 * 1024;

/// How long accepting pauses after an error such as a full table of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until `stop`; each is served by a task on `tracker`.
pub(super) async fn serve(
    listener: TcpListener,
    adapter: Arc<Adapter>,
    mut views: Views,
    tracker: TaskTracker,
    stop: CancellationToken,
) -> Result<(), DnsError> {
    let places = Arc::new(Semaphore::new(MAXIMUM_CONNECTIONS));
    let sources = Sources::default();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, source)) => {
                // Whoever is refused shares a few places: enough to be told so, too few to be in anybody's way.
                let refused = views.latest().refused.contains(source.ip());
                let (bucket, most) =
                    if refused { (REFUSED_SOURCES, MAXIMUM_REFUSED) } else { (source.ip(), MAXIMUM_PER_SOURCE) };
                let held = Held::of(&sources, bucket);
                if held.count() > most {
                    // Fails only on a socket that is gone already.
                    let _ = stream.set_zero_linger();
                    continue;
                }
                let (adapter, views, stop, tasks) =
                    (Arc::clone(&adapter), views.clone(), stop.clone(), tracker.clone());
                tracker.spawn(async move {
                    let connection = Connection { source, adapter, views, tasks };
                    tokio::select! {
                        () = stop.cancelled() => {}
                        ended = connection.serve(stream) => if let Err(error) = ended {
                            tracing::debug!(client.addr = %source, %error, "DNS connection ended");
                        }
                    }
                    drop((place, held));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a DNS connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// How many connections each address holds.
type Sources = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// One of them; given back when it is dropped.
struct Held {
    sources: Sources,
    source: IpAddr,
}

impl Held {
    fn of(sources: &Sources, source: IpAddr) -> Self {
        *sources.lock().unwrap_or_else(PoisonError::into_inner).entry(source).or_default() += 1;
        Self { sources: Arc::clone(sources), source }
    }

    fn count(&self) -> usize {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).get(&self.source).copied().unwrap_or_default()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

struct Connection {
    source: SocketAddr,
    adapter: Arc<Adapter>,
    views: Views,
    tasks: TaskTracker,
}

impl Connection {
    /// Answers until the client is done or silent for too long.
    async fn serve(mut self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.split();
        let (returned, mut returns) = mpsc::channel::<Vec<u8>>(MAXIMUM_PENDING);
        let mut inbox = BytesMut::with_capacity(2048);
        let mut outbox = Vec::new();
        let mut pending = 0;
        let mut reading = true;
        let mut deadline = Instant::now() + IDLE_TIMEOUT;
        while reading || pending > 0 {
            tokio::select! {
                read = timeout_at(deadline, reader.read_buf(&mut inbox)), if reading && pending < MAXIMUM_PENDING => {
                    match read {
                        Ok(read) => reading = read? > 0,
                        // Silent; but answers that are on their way are still delivered.
                        Err(_) => reading = false,
                    }
                }
                Some(reply) = returns.recv() => {
                    pending -= 1;
                    deadline = Instant::now() + IDLE_TIMEOUT;
                    outbox.extend_from_slice(&reply);
                }
            }
            while pending < MAXIMUM_PENDING
                && let Some(message) = take_message(&mut inbox)
            {
                deadline = Instant::now() + IDLE_TIMEOUT;
                let start = outbox.len();
                outbox.extend_from_slice(&[0; 2]);
                match self.adapter.react(&message, self.source, Transport::Tcp, self.views.latest(), &mut outbox) {
                    Reaction::Silence => outbox.truncate(start),
                    Reaction::Reply => set_length(&mut outbox[start..]),
                    Reaction::Forward(forwarding) => {
                        outbox.truncate(start);
                        pending += 1;
                        let (adapter, returned) = (Arc::clone(&self.adapter), returned.clone());
                        self.tasks.spawn(async move {
                            let mut reply = vec![0; 2];
                            tokio::select! {
                                () = returned.closed() => return,
                                () = adapter.finish(*forwarding, &mut reply) => {}
                            }
                            set_length(&mut reply);
                            // The connection may have ended meanwhile; then nobody waits.
                            let _ = returned.send(reply).await;
                        });
                    }
                }
                if outbox.len() >= GATHER_BYTES {
                    flush(&mut writer, &mut outbox).await?;
                }
            }
            flush(&mut writer, &mut outbox).await?;
        }
        writer.shutdown().await
    }
}

/// The next whole message, without its length.
fn take_message(inbox: &mut BytesMut) -> Option<BytesMut> {
    let length = usize::from(u16::from_be_bytes([*inbox.first()?, *inbox.get(1)?]));
    if inbox.len() < 2 + length {
        inbox.reserve(2 + length - inbox.len());
        return None;
    }
    inbox.advance(2);
    Some(inbox.split_to(length))
}

/// Writes the length of the message that follows into its two first bytes.
fn set_length(framed: &mut [u8]) {
    let length = u16::try_from(framed.len() - 2).expect("a message is encoded into 65,535 bytes at most");
    framed[..2].copy_from_slice(&length.to_be_bytes());
}

async fn flush(writer: &mut (impl AsyncWriteExt + Unpin), outbox: &mut Vec<u8>) -> io::Result<()> {
    if !outbox.is_empty() {
        timeout(IDLE_TIMEOUT, writer.write_all(outbox)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        outbox.clear();
    }
    Ok(())
}
