//! The `mongos` of a stand-in sharded cluster.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::watch;

use super::member::SetMemberState;
use super::node::{Port, Role, StandInNode};
use super::store::{StandInCounts, Store};
use crate::standin::StandinError;
use crate::standin::server::Server;

/// The configuration of the routers of a stand-in sharded cluster.
#[derive(Debug, Clone)]
pub struct MongosSpec {
    /// The ports of each.
    pub nodes: Vec<MongosAddresses>,
    /// The TLS configuration; `None`: no TLS.
    pub tls: Option<Arc<ServerConfig>>,
}

/// The ports of one `mongos`; port 0: any free one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MongosAddresses {
    /// For direct clients.
    pub direct: Option<SocketAddr>,
    /// For a load balancer (`loadBalancerPort`): a connection without a PROXY protocol header is closed.
    pub load_balanced: Option<SocketAddr>,
}

/// The running routers of one cluster, over one store. Dropping them stops them.
#[derive(Debug)]
pub struct Mongos {
    store: Store,
    addresses: Vec<MongosAddresses>,
    servers: Vec<Server>,
    /// Kept open so that a `hello` that waits for a change keeps waiting.
    _state: watch::Sender<SetMemberState>,
}

impl Mongos {
    /// Binds every port and starts serving.
    ///
    /// # Errors
    ///
    /// [`StandinError::Bind`] for the first address that is not available; nothing is left running.
    pub async fn start(spec: MongosSpec) -> Result<Self, StandinError> {
        let store = Store::default();
        let state = watch::Sender::new(SetMemberState::default());
        let (mut addresses, mut servers) = (Vec::new(), Vec::new());
        for (index, wanted) in spec.nodes.iter().enumerate() {
            let node = Arc::new(StandInNode::new(Role::Mongos, store.clone(), state.subscribe()));
            let mut bound = MongosAddresses::default();
            for (address, proxied) in [(wanted.direct, false), (wanted.load_balanced, true)] {
                let Some(address) = address else {
                    continue;
                };
                let (node, port) = (node.clone(), Port { tls: spec.tls.clone(), proxied });
                let serve = move |stream, peer| node.clone().serve(stream, peer, port.clone());
                let server = Server::start(&format!("mongos {index}"), address, serve).await?;
                let place = if proxied { &mut bound.load_balanced } else { &mut bound.direct };
                *place = Some(server.address());
                servers.push(server);
            }
            addresses.push(bound);
        }
        Ok(Self { store, addresses, servers, _state: state })
    }

    /// The addresses of each router.
    #[must_use]
    pub fn addresses(&self) -> &[MongosAddresses] {
        &self.addresses
    }

    /// The counts of all routers together.
    #[must_use]
    pub fn carried(&self) -> StandInCounts {
        *self.store.counts()
    }

    /// Stops all routers and waits until all connections are closed.
    pub async fn stop(self) {
        for server in self.servers {
            server.stop().await;
        }
    }
}
