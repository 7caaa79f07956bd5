//! A replica set of stand-in nodes.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::horizon::{Horizons, Membership};
use super::node::{Node, Port, Role, SetFacts};
use super::store::{Carried, Store};
use crate::standin::StandinError;
use crate::standin::server::{BoundSocket, Server};

/// What a stand-in replica set is to be.
#[derive(Debug, Clone)]
pub struct ReplicaSetSpec {
    /// Its name, `Cluster0-shard-0-shard-0`.
    pub set_name: String,
    /// Where its nodes listen; port 0: any free one. The first becomes primary.
    pub nodes: Vec<SocketAddr>,
    /// The certificate that they show; without one they speak plainly, and know no horizons.
    pub tls: Option<Arc<ServerConfig>>,
    /// Every connection must start with a PROXY header, as on a `mongod`'s `proxyPort`.
    pub proxied: bool,
    /// The addresses that clients are told by the host name they dial. Every change is told to all who watch.
    pub horizons: watch::Receiver<Horizons>,
}

/// A running replica set. Dropped, it stops.
///
/// All nodes share one store, so a write is on every node at once.
#[derive(Debug)]
pub struct ReplicaSet {
    facts: Arc<SetFacts>,
    store: Arc<Store>,
    port: Port,
    membership: Arc<watch::Sender<Membership>>,
    nodes: Vec<Option<Server>>,
    _follower: DropGuard,
}

impl ReplicaSet {
    /// Binds every node and starts serving.
    ///
    /// # Errors
    ///
    /// [`StandinError::Bind`] for the first address that can't be had; nothing then runs.
    pub async fn start(spec: ReplicaSetSpec) -> Result<Self, StandinError> {
        let mut bound = Vec::new();
        for (index, address) in spec.nodes.iter().enumerate() {
            bound.push(BoundSocket::bind(&node_name(&spec.set_name, index), *address).await?);
        }
        let facts = Arc::new(SetFacts { name: spec.set_name, nodes: bound.iter().map(BoundSocket::address).collect() });
        let mut horizons = spec.horizons;
        let membership = Arc::new(watch::Sender::new(Membership {
            counter: 1,
            term: 1,
            primary: (!bound.is_empty()).then_some(0),
            horizons: horizons.borrow_and_update().clone(),
        }));
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(follow(horizons, membership.clone())));
        let mut set = Self {
            facts,
            store: Arc::default(),
            port: Port { tls: spec.tls, proxied: spec.proxied },
            membership,
            nodes: Vec::new(),
            _follower: stop.drop_guard(),
        };
        for (index, socket) in bound.into_iter().enumerate() {
            set.nodes.push(Some(set.serve(index, socket)));
        }
        Ok(set)
    }

    /// Where the nodes listen, in their order.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.facts.nodes
    }

    /// The set's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// What it has carried so far.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.store.counters.read()
    }

    /// Which node takes writes; `None` while none runs.
    #[must_use]
    pub fn primary(&self) -> Option<usize> {
        self.membership.borrow().primary
    }

    /// Makes the node at `index` primary; the others become secondaries, and all who watch are told.
    ///
    /// # Errors
    ///
    /// [`StandinError::NoNode`] when there is none, or it does not run.
    pub fn elect(&self, index: usize) -> Result<(), StandinError> {
        if self.nodes.get(index).is_none_or(Option::is_none) {
            return Err(StandinError::NoNode { index, count: self.nodes.len() });
        }
        self.install(Some(index));
        Ok(())
    }

    /// Stops the node at `index`: its port is closed, its connections end. Of the others the first becomes primary when
    /// it was.
    pub async fn stop_node(&mut self, index: usize) {
        let Some(server) = self.nodes.get_mut(index).and_then(Option::take) else {
            return;
        };
        server.stop().await;
        if self.primary() == Some(index) {
            self.install(self.nodes.iter().position(Option::is_some));
        }
    }

    /// Starts the node at `index` again, on its own address, as a new process.
    ///
    /// # Errors
    ///
    /// [`StandinError`] when there is no such node, or its address is taken by now.
    pub async fn start_node(&mut self, index: usize) -> Result<(), StandinError> {
        let address = self.facts.nodes.get(index);
        let address = *address.ok_or(StandinError::NoNode { index, count: self.facts.nodes.len() })?;
        if self.nodes[index].is_none() {
            let socket = BoundSocket::bind(&node_name(&self.facts.name, index), address).await?;
            self.nodes[index] = Some(self.serve(index, socket));
        }
        if self.primary().is_none() {
            self.install(Some(index));
        }
        Ok(())
    }

    /// Stops every node, and waits until all connections are closed.
    pub async fn stop(mut self) {
        for server in self.nodes.iter_mut().filter_map(Option::take) {
            server.stop().await;
        }
    }

    fn install(&self, primary: Option<usize>) {
        self.membership.send_modify(|membership| {
            membership.counter += 1;
            membership.term += 1;
            membership.primary = primary;
        });
    }

    fn serve(&self, index: usize, socket: BoundSocket) -> Server {
        let role = Role::Member { set: self.facts.clone(), index };
        let node = Arc::new(Node::new(role, self.store.clone(), self.membership.subscribe()));
        let port = self.port.clone();
        socket.serve(move |stream, peer| node.clone().serve(stream, peer, port.clone()))
    }
}

/// Takes every change of the horizons over into the set's state.
async fn follow(mut horizons: watch::Receiver<Horizons>, membership: Arc<watch::Sender<Membership>>) {
    while horizons.changed().await.is_ok() {
        let now = horizons.borrow_and_update().clone();
        membership.send_if_modified(|membership| {
            if membership.horizons == now {
                return false;
            }
            membership.counter += 1;
            membership.horizons = now;
            true
        });
    }
}

fn node_name(set: &str, index: usize) -> String {
    format!("node {index} of {set}")
}
