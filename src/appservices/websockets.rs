//! The table of open WebSockets, for the API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use dashmap::DashMap;
use tokio_util::sync::CancellationToken;

use crate::data::FlowView;
use crate::model::{FlowId, Origin};

/// Distinguishes a WebSocket's id from a TCP flow's: both count from 1 on each worker.
const WEBSOCKET: u64 = 1 << 63;

/// A WebSocket's attributes besides its addresses.
#[derive(Debug)]
pub(crate) struct WebSocketInfo {
    pub(crate) origin: Origin,
    /// The endpoint that it came through, or `public`.
    pub(crate) endpoint: String,
    pub(crate) app: String,
    /// The backend's host and port, as the app's URL has it.
    pub(crate) backend: String,
}

/// An open WebSocket. Only its own worker writes to it.
#[derive(Debug)]
pub(crate) struct WebSocket {
    id: FlowId,
    client: SocketAddr,
    listener: SocketAddr,
    info: WebSocketInfo,
    opened: SystemTime,
    to_backend: AtomicU64,
    to_client: AtomicU64,
    /// Cancelled to end it.
    pub(crate) killed: CancellationToken,
}

impl WebSocket {
    /// Counts bytes written to the backend. For the WebSocket's own worker only.
    #[inline]
    pub(crate) fn add_to_backend(&self, n: usize) {
        self.to_backend.store(self.bytes_to_backend() + n as u64, Ordering::Relaxed);
    }

    /// Counts bytes written to the client. For the WebSocket's own worker only.
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
            origin: self.info.origin,
            endpoint: self.info.endpoint.clone(),
            listener: self.listener,
            target: self.info.app.clone(),
            member: self.info.backend.clone(),
            target_address: self.info.backend.parse().ok(),
            age_seconds: self.opened.elapsed().map_or(0.0, |age| age.as_secs_f64()),
            bytes_to_target: self.bytes_to_backend(),
            bytes_to_client: self.bytes_to_client(),
            faults: Vec::new(),
        }
    }
}

/// Every open WebSocket by its id.
#[derive(Debug, Default)]
pub(crate) struct WebSockets(DashMap<FlowId, Arc<WebSocket>>);

impl WebSockets {
    /// Adds a WebSocket; `number` is unique in this process.
    pub(crate) fn insert(
        &self,
        number: u64,
        client: SocketAddr,
        listener: SocketAddr,
        info: WebSocketInfo,
    ) -> Arc<WebSocket> {
        let id = FlowId(WEBSOCKET | number);
        let (to_backend, to_client) = (AtomicU64::new(0), AtomicU64::new(0));
        let (opened, killed) = (SystemTime::now(), CancellationToken::new());
        let socket = Arc::new(WebSocket { id, client, listener, info, opened, to_backend, to_client, killed });
        self.0.insert(id, Arc::clone(&socket));
        socket
    }

    pub(crate) fn remove(&self, socket: &WebSocket) {
        self.0.remove(&socket.id);
    }

    pub(crate) fn views(&self) -> Vec<FlowView> {
        self.0.iter().map(|entry| entry.value().view()).collect()
    }

    /// Ends a WebSocket; false if there is none with this id.
    pub(crate) fn kill(&self, id: FlowId) -> bool {
        let socket = self.0.get(&id);
        socket.inspect(|socket| socket.killed.cancel()).is_some()
    }
}
