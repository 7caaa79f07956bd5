//! A node, and how it serves a connection: PROXY protocol header, TLS, then commands until the client disconnects.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Document, doc};
use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::batch::Cursors;
use super::command::{self, ClientInfo};
use super::election::MemberRole;
use super::error::CommandError;
use super::hello::{self, Hello};
use super::member::{SetMember, SetMemberState};
use super::proxied::{NoHeader, take_header};
use super::store::Store;
use super::wire::{self, Form, Request, WireError};
use crate::model::DnsName;

/// Time limit for the PROXY protocol header, and for the TLS handshake.
const GREETING_LIMIT: Duration = Duration::from_secs(10);

/// A `mongod` or `mongos`.
#[derive(Debug)]
pub(super) struct StandInNode {
    /// Its kind.
    pub(super) role: Role,
    /// The process id in `topologyVersion`, and the service id behind a load balancer.
    pub(super) process: ObjectId,
    /// The member's state; a `mongos` has one that never changes.
    pub(super) state: watch::Receiver<SetMemberState>,
    /// Its data, which it shares with the others.
    pub(super) store: Store,
    /// Its own cursors.
    pub(super) cursors: Cursors,
    /// The number of the last connection.
    pub(super) connections: AtomicI32,
    /// Open connections.
    pub(super) open_connections: AtomicI32,
    /// Since when it runs.
    pub(super) started: Instant,
}

/// The kind of a node.
#[derive(Debug)]
pub(super) enum Role {
    /// A member of a replica set.
    Member(Arc<SetMember>),
    /// A router of a sharded cluster.
    Mongos,
}

/// A port of a node.
#[derive(Debug, Clone)]
pub(super) struct Port {
    /// The TLS configuration; `None`: no TLS.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Whether it requires a PROXY protocol header (`loadBalancerPort` of a `mongos`, `proxyPort` of a `mongod`).
    pub(super) proxied: bool,
}

/// Why a connection was closed before the client closed it.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("the PROXY protocol header timed out")]
    HeaderLate,
    #[error("no PROXY protocol header")]
    Header(#[source] NoHeader),
    #[error("the TLS handshake timed out")]
    TlsLate,
    #[error("the TLS handshake failed")]
    Tls(#[source] std::io::Error),
    #[error("the client did not set loadBalanced on a load balancer's port")]
    LoadBalancerSupport,
    #[error("the connection failed")]
    Wire(#[from] WireError),
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
}

/// A connection after the handshakes, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}
type Wire = BufReader<Pin<Box<dyn Stream>>>;

impl StandInNode {
    pub(super) fn new(role: Role, store: Store, state: watch::Receiver<SetMemberState>) -> Self {
        Self {
            role,
            process: ObjectId::new(),
            state,
            store,
            cursors: Cursors::default(),
            connections: AtomicI32::new(0),
            open_connections: AtomicI32::new(0),
            started: Instant::now(),
        }
    }

    /// Whether it currently accepts writes.
    pub(super) fn is_writable(&self) -> bool {
        matches!(self.role, Role::Mongos) || self.state.borrow().role == MemberRole::Primary
    }

    /// Its own name: its address in a set.
    pub(super) fn name(&self) -> String {
        match &self.role {
            Role::Member(member) => member.set.nodes[member.index].to_string(),
            Role::Mongos => "mongos".to_owned(),
        }
    }

    /// Its state's version, as drivers compare it.
    pub(super) fn topology_version(&self, counter: i64) -> Document {
        doc! { "processId": self.process, "counter": counter }
    }

    /// Serves one connection to its end. A protocol violation closes only this connection.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, port: Port) {
        let open = ConnectionGuard::new(&self);
        // Closing without sending a byte is not an error, as health checks do it.
        if let Err(closed) = self.handshake_and_serve(stream, peer, port, open.number).await {
            tracing::debug!(
                peer = %peer,
                node = %self.name(),
                error = &closed as &dyn std::error::Error,
                "stand-in closed a connection"
            );
        }
        self.cursors.disconnect(open.number);
    }

    async fn handshake_and_serve(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        port: Port,
        connection: i32,
    ) -> Result<(), Closed> {
        let mut client =
            ClientInfo { connection, source: peer, sni: None, proxied: port.proxied, vpce: None, load_balanced: false };
        if port.proxied {
            let header = timeout(GREETING_LIMIT, take_header(&mut stream)).await.map_err(|_| Closed::HeaderLate)?;
            let header = header.map_err(Closed::Header)?;
            client.source = header.source.unwrap_or(peer);
            client.vpce = header.vpce;
        }
        let stream: Pin<Box<dyn Stream>> = match port.tls {
            None => Box::pin(stream),
            Some(config) => {
                let accepting = TlsAcceptor::from(config).accept(stream);
                let stream = timeout(GREETING_LIMIT, accepting).await.map_err(|_| Closed::TlsLate)?;
                let stream = stream.map_err(Closed::Tls)?;
                client.sni = stream.get_ref().1.server_name().and_then(|name| name.parse::<DnsName>().ok());
                Box::pin(stream)
            }
        };
        self.serve_commands(BufReader::new(stream), client).await
    }

    async fn serve_commands(&self, mut wire: Wire, mut client: ClientInfo) -> Result<(), Closed> {
        let mut ids = 0..;
        let mut next_id = move || ids.next().unwrap_or(0);
        let mut first = true;
        while let Some(message) = wire::read(&mut wire).await? {
            let request = wire::parse(&message)?;
            if std::mem::take(&mut first) {
                self.store.counts().connections += 1;
            }
            let name = request.body.keys().next().map_or("", String::as_str);
            if hello::is_hello(name) {
                self.answer_hello(&mut wire, &mut client, &request, &mut next_id).await?;
                continue;
            }
            let reply = match request.form {
                Form::Query => command::unsupported_query(name),
                Form::Msg { .. } => tokio::select! {
                    biased;
                    reply = command::run(self, &client, &request.body) => reply,
                    () = client_gone(&mut wire) => return Ok(()),
                },
            };
            if !matches!(request.form, Form::Msg { unacknowledged: true, .. }) {
                send(&mut wire, request.form, next_id(), request.id, false, &reply).await?;
            } else if command::is_not_primary(&reply) {
                // An unacknowledged write has no reply to report the refusal in.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers `hello` at once, or when the state differs from the one that the client knows. A client that accepts
    /// several replies gets one on every change and after every wait, until it closes the connection.
    async fn answer_hello(
        &self,
        wire: &mut Wire,
        client: &mut ClientInfo,
        request: &Request,
        next_id: &mut impl FnMut() -> i32,
    ) -> Result<(), Closed> {
        let exhaust = matches!(request.form, Form::Msg { exhaust: true, .. });
        let mut response_to = request.id;
        let refuse = |error: CommandError| error.reply();
        let mut hello = match Hello::parse(&request.body) {
            Ok(hello) => hello,
            Err(error) => return send(wire, request.form, next_id(), response_to, false, &refuse(error)).await,
        };
        client.load_balanced |= client.proxied && hello.load_balanced;
        if let Some(error) = hello.refused_by_load_balancing(self, client) {
            send(wire, request.form, next_id(), response_to, false, &refuse(error)).await?;
            return Err(Closed::LoadBalancerSupport);
        }
        loop {
            match self.wait_for_change(wire, &hello).await {
                Ok(WaitEnd::Over) => {}
                Ok(WaitEnd::ClientGone) => return Ok(()),
                Err(error) => return send(wire, request.form, next_id(), response_to, false, &refuse(error)).await,
            }
            let state = self.state.borrow().clone();
            let reply = hello.reply(self, client, &state);
            let more = exhaust && hello.awaits.is_some();
            let id = next_id();
            send(wire, request.form, id, response_to, more, &reply).await?;
            if !more {
                return Ok(());
            }
            response_to = id;
            hello = hello.with_known_state(self, state.counter);
        }
    }

    /// Waits for a change of state, at most as long as the client requested, and watches for the client's disconnect.
    async fn wait_for_change(&self, wire: &mut Wire, hello: &Hello) -> Result<WaitEnd, CommandError> {
        let Some(awaits) = hello.awaits else {
            return Ok(WaitEnd::Over);
        };
        let mut states = self.state.clone();
        let counter = states.borrow_and_update().counter;
        if !awaits.is_current(self, counter)? {
            return Ok(WaitEnd::Over);
        }
        let deadline = Instant::now() + awaits.longest;
        let waiting = timeout_at(deadline, async {
            if states.wait_for(|now| now.counter != counter).await.is_err() {
                // The sender is dropped: no more changes.
                std::future::pending::<()>().await;
            }
        });
        tokio::pin!(waiting);
        let arrived = tokio::select! {
            _ = &mut waiting => return Ok(WaitEnd::Over),
            arrived = wire.fill_buf() => arrived.is_ok_and(|bytes| !bytes.is_empty()),
        };
        if !arrived {
            return Ok(WaitEnd::ClientGone);
        }
        // Requests sent during the wait are read after the reply.
        let _ = waiting.await;
        Ok(WaitEnd::Over)
    }
}

/// How a wait for a change ended.
enum WaitEnd {
    /// With a change, or after the maximum wait.
    Over,
    /// The client closed the connection.
    ClientGone,
}

/// Completes when the client closes the connection. Requests sent meanwhile remain unread.
async fn client_gone(wire: &mut Wire) {
    if wire.fill_buf().await.is_ok_and(|bytes| !bytes.is_empty()) {
        std::future::pending().await
    }
}

async fn send(
    wire: &mut Wire,
    form: Form,
    id: i32,
    response_to: i32,
    more: bool,
    reply: &Document,
) -> Result<(), Closed> {
    let bytes = wire::reply(form, id, response_to, more, reply)?;
    wire.write_all(&bytes).await?;
    Ok(wire.flush().await?)
}

/// Counts a connection while it is open.
struct ConnectionGuard<'a> {
    node: &'a StandInNode,
    number: i32,
}

impl<'a> ConnectionGuard<'a> {
    fn new(node: &'a StandInNode) -> Self {
        node.open_connections.fetch_add(1, Ordering::Relaxed);
        Self { node, number: node.connections.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for ConnectionGuard<'_> {
    fn drop(&mut self) {
        self.node.open_connections.fetch_sub(1, Ordering::Relaxed);
    }
}
