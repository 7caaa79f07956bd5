//! A replica set of stand-in nodes, whose members can be stopped, started and isolated.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::election::{Election, MemberRole, Timing};
use super::horizon::Horizons;
use super::member::{Link, SetMember, SetState};
use super::node::{Port, Role, StandInNode};
use super::store::{StandInCounts, Store};
use crate::model::StandInState;
use crate::standin::StandinError;
use crate::standin::server::{BoundSocket, Server};

/// The configuration of a stand-in replica set.
#[derive(Debug, Clone)]
pub struct ReplicaSetSpec {
    /// Its name, for example `Cluster0-shard-0-shard-0`.
    pub set_name: String,
    /// Where its nodes listen; port 0: any free one. The first becomes primary.
    pub nodes: Vec<SocketAddr>,
    /// The TLS configuration; `None`: no TLS, and so no horizons.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether every connection must start with a PROXY protocol header, as on a `mongod`'s `proxyPort`.
    pub proxied: bool,
    /// The members' addresses by the host name that a client connects to. Clients that wait for a change are notified.
    pub horizons: watch::Receiver<Horizons>,
    /// Heartbeat interval and election time-out.
    pub timing: Timing,
}

/// A running replica set. Dropping it stops it.
///
/// A write is immediately on every node that the primary reaches, and is acknowledged once its write concern is met.
/// Writes of an isolated member are rolled back if another primary was elected meanwhile.
#[derive(Debug)]
pub struct ReplicaSet {
    set: Arc<SetState>,
    port: Port,
    horizons: watch::Receiver<Horizons>,
    /// Terms and votes, kept while a member is stopped.
    elections: Vec<Arc<Mutex<Election>>>,
    running: Mutex<Vec<Option<RunningMember>>>,
}

/// A member that runs.
#[derive(Debug)]
struct RunningMember {
    member: Arc<SetMember>,
    clients: Server,
    peers: Server,
    _work: AbortOnDropHandle<()>,
}

/// A member's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its address for clients.
    pub address: SocketAddr,
    /// Its role.
    pub state: StandInState,
    /// Whether it is isolated from the other members.
    pub isolated: bool,
}

impl ReplicaSet {
    /// Binds every node and starts serving.
    ///
    /// # Errors
    ///
    /// [`StandinError::Bind`] for the first address that is not available; nothing is left running.
    pub async fn start(spec: ReplicaSetSpec) -> Result<Self, StandinError> {
        let mut bound = Vec::new();
        for (index, address) in spec.nodes.iter().enumerate() {
            bound.push(BoundSocket::bind(&node_name(&spec.set_name, index), *address).await?);
        }
        let nodes: Vec<SocketAddr> = bound.iter().map(BoundSocket::address).collect();
        let (count, now) = (nodes.len(), Instant::now());
        let elections = (0..count).map(|me| Arc::new(Mutex::new(Election::new(me, count, spec.timing, now)))).collect();
        let links = watch::Sender::new(vec![Link::default(); count]);
        let replica_set = Self {
            set: Arc::new(SetState { name: spec.set_name, nodes, timing: spec.timing, links, store: Store::default() }),
            port: Port { tls: spec.tls, proxied: spec.proxied },
            horizons: spec.horizons,
            elections,
            running: Mutex::new((0..count).map(|_| None).collect()),
        };
        for (index, socket) in bound.into_iter().enumerate() {
            replica_set.run(index, socket).await?;
        }
        Ok(replica_set)
    }

    /// Where the nodes listen, in their order.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.set.nodes
    }

    /// The set's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.set.name
    }

    /// The counts since the start.
    #[must_use]
    pub fn carried(&self) -> StandInCounts {
        *self.set.store.counts()
    }

    /// The index of the primary, if any. Of two in a partitioned set, the one with the newer term.
    #[must_use]
    pub fn primary(&self) -> Option<usize> {
        let running = self.running();
        let states = running.iter().enumerate().filter_map(|(index, member)| {
            let state = member.as_ref()?.member.states().borrow().clone();
            (state.role == MemberRole::Primary).then_some((state.term, index))
        });
        states.max().map(|(_, index)| index)
    }

    /// The members in the nodes' order.
    #[must_use]
    pub fn members(&self) -> Vec<MemberStatus> {
        let running = self.running();
        let links = self.set.links.borrow();
        let states = running.iter().map(|running| match running.as_ref().map(|it| it.member.states().borrow().role) {
            None => StandInState::Down,
            Some(MemberRole::Primary) => StandInState::Primary,
            Some(_) => StandInState::Secondary,
        });
        let members = states.zip(links.iter()).zip(&self.set.nodes);
        members
            .map(|((state, link), address)| MemberStatus { address: *address, state, isolated: link.isolated })
            .collect()
    }

    /// Stops the node at `index` as a crash would: its port and connections are closed, without a hand-over.
    ///
    /// # Errors
    ///
    /// [`StandinError::NoNode`] when there is none.
    pub async fn stop_node(&self, index: usize) -> Result<(), StandinError> {
        self.check(index)?;
        let stopped = self.running()[index].take();
        self.set.links.send_modify(|links| links[index].address = None);
        if let Some(stopped) = stopped {
            stopped.peers.stop().await;
            stopped.clients.stop().await;
        }
        Ok(())
    }

    /// Starts the node at `index` again, on its own address, as a new process. It is a secondary at first.
    ///
    /// # Errors
    ///
    /// [`StandinError`] when there is no such node, or its address is taken by now.
    pub async fn start_node(&self, index: usize) -> Result<(), StandinError> {
        self.check(index)?;
        if self.running()[index].is_some() {
            return Ok(());
        }
        let socket = BoundSocket::bind(&node_name(&self.set.name, index), self.set.nodes[index]).await?;
        self.elections[index].lock().unwrap_or_else(PoisonError::into_inner).restart(Instant::now());
        self.run(index, socket).await
    }

    /// Isolates the node at `index` from the other members, or reconnects it. Its clients' connections are not
    /// affected.
    ///
    /// # Errors
    ///
    /// [`StandinError::NoNode`] when there is none.
    pub fn isolate_node(&self, index: usize, isolated: bool) -> Result<(), StandinError> {
        self.check(index)?;
        self.set.links.send_if_modified(|links| {
            let changed = links[index].isolated != isolated;
            let store = self.set.store.of(index);
            // Before writes wait for the isolated member, or reach the reconnected one.
            match isolated {
                true if changed => store.fork(),
                false if changed => store.join(),
                _ => {}
            }
            links[index].isolated = isolated;
            changed
        });
        Ok(())
    }

    /// The primary steps down for `period`, and hands over to another member.
    ///
    /// # Errors
    ///
    /// [`StandinError::StepDown`] when there is no primary, or no other member that could take over.
    pub async fn step_down(&self, period: Duration) -> Result<(), StandinError> {
        let refused = |reason: String| StandinError::StepDown { set: self.set.name.clone(), reason };
        let primary = self.primary().ok_or_else(|| refused("it has no primary".to_owned()))?;
        let member = self.running()[primary].as_ref().map(|running| Arc::clone(&running.member));
        let member = member.ok_or_else(|| refused("its primary was stopped".to_owned()))?;
        member
            .hand_over(period, Duration::ZERO, false)
            .await
            .map(drop)
            .map_err(|error| refused(error.message().to_owned()))
    }

    /// Stops every node, and waits until all connections are closed.
    pub async fn stop(&self) {
        for index in 0..self.set.nodes.len() {
            let _ = self.stop_node(index).await;
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Vec<Option<RunningMember>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, index: usize) -> Result<(), StandinError> {
        let count = self.set.nodes.len();
        if index < count { Ok(()) } else { Err(StandinError::NoNode { index, count }) }
    }

    /// Serves clients and members.
    async fn run(&self, index: usize, socket: BoundSocket) -> Result<(), StandinError> {
        let mut horizons = self.horizons.clone();
        let now = horizons.borrow_and_update().clone();
        let member = Arc::new(SetMember::new(self.set.clone(), index, self.elections[index].clone(), now));
        let peers = {
            let member = member.clone();
            let any_port = SocketAddr::new(self.set.nodes[index].ip(), 0);
            let what = format!("heartbeat port of {}", node_name(&self.set.name, index));
            Server::start(&what, any_port, move |stream, _| member.clone().answer(stream)).await?
        };
        self.set.links.send_modify(|links| links[index].address = Some(peers.address()));
        let node = Arc::new(StandInNode::new(Role::Member(member.clone()), self.set.store.of(index), member.states()));
        let port = self.port.clone();
        let clients = socket.serve(move |stream, peer| node.clone().serve(stream, peer, port.clone()));
        let (working, follower) = (member.clone(), member.clone());
        let work = tokio::spawn(async move {
            tokio::join!(working.run(), async {
                while horizons.changed().await.is_ok() {
                    follower.set_horizons(&horizons.borrow_and_update());
                }
            });
        });
        let running = RunningMember { member, clients, peers, _work: AbortOnDropHandle::new(work) };
        self.running()[index] = Some(running);
        Ok(())
    }
}

fn node_name(set: &str, index: usize) -> String {
    format!("node {index} of {set}")
}
