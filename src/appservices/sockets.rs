//! WebSockets that are open, as whoever lists and ends flows sees them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use dashmap::DashMap;

use crate::data::FlowView;
use crate::model::{FlowId, Origin};

/// Tells a WebSocket's id from a TCP flow's: both count from 1 in each of their workers.
const WEBSOCKET: u64 = 1 << 63;
/// Where the worker's number begins in an id.
const WORKER_SHIFT: u32 = 44;

/// What is known of a WebSocket when it comes about.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Where the client is.
    pub(crate) origin: Origin,
    /// The endpoint that it came through, or `public`.
    pub(crate) endpoint: String,
    /// The app.
    pub(crate) app: String,
    /// Where the backend is, as the app's URL has it.
    pub(crate) backend: String,
}

/// An open WebSocket. Written by its own worker; read by whoever lists flows.
#[derive(Debug)]
pub(crate) struct Socket {
    id: FlowId,
    client: SocketAddr,
    door: SocketAddr,
    facts: Facts,
    opened: SystemTime,
    to_backend: AtomicU64,
    to_client: AtomicU64,
}

impl Socket {
    /// Bytes that the backend took. By the socket's own worker only.
    #[inline]
    pub(crate) fn add_to_backend(&self, n: usize) {
        self.to_backend.store(self.bytes_to_backend() + n as u64, Ordering::Relaxed);
    }

    /// Bytes that the client took. By the socket's own worker only.
    #[inline]
    pub(crate) fn add_to_client(&self, n: usize) {
        self.to_client.store(self.bytes_to_client() + n as u64, Ordering::Relaxed);
    }

    pub(crate) fn bytes_to_backend(&self) -> u64 {
        self.to_backend.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_to_client(&self) -> u64 {
        self.to_client.load(Ordering::Relaxed)
    }

    fn view(&self) -> FlowView {
        FlowView {
            id: self.id,
            protocol: "websocket",
            client: self.client,
            origin: self.facts.origin,
            endpoint: self.facts.endpoint.clone(),
            listener: self.door,
            target: self.facts.app.clone(),
            member: self.facts.backend.clone(),
            target_address: self.facts.backend.parse().ok(),
            age_seconds: self.opened.elapsed().map_or(0.0, |age| age.as_secs_f64()),
            bytes_to_target: self.bytes_to_backend(),
            bytes_to_client: self.bytes_to_client(),
            faults: Vec::new(),
        }
    }
}

/// Every open WebSocket by its id.
#[derive(Debug, Default)]
pub(crate) struct Sockets(DashMap<FlowId, Arc<Socket>>);

impl Sockets {
    /// Enters the one that its worker knows as `live`.
    pub(crate) fn enter(&self, live: u64, client: SocketAddr, door: SocketAddr, facts: Facts) -> Arc<Socket> {
        let id = FlowId(WEBSOCKET | live);
        let (to_backend, to_client) = (AtomicU64::new(0), AtomicU64::new(0));
        let socket = Socket { id, client, door, facts, opened: SystemTime::now(), to_backend, to_client };
        let socket = Arc::new(socket);
        self.0.insert(id, Arc::clone(&socket));
        socket
    }

    pub(crate) fn leave(&self, socket: &Socket) {
        self.0.remove(&socket.id);
    }

    pub(crate) fn views(&self) -> Vec<FlowView> {
        self.0.iter().map(|entry| entry.value().view()).collect()
    }

    /// Which worker has it, from 0, and what that knows it as; `None`: there is none.
    pub(crate) fn find(&self, id: FlowId) -> Option<(usize, u64)> {
        let live = self.0.contains_key(&id).then_some(id.0 & !WEBSOCKET)?;
        let worker = usize::try_from(live >> WORKER_SHIFT).ok()?.checked_sub(1)?;
        Some((worker, live))
    }
}
