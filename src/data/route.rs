//! The data that a listener needs for each new flow.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{mpsc, watch};

use super::counters::Series;
use super::fault::LiveFault;
use super::shape::Bucket;
use crate::plan::Listener;

/// Where new flows of a listener go, and where they are counted.
#[derive(Debug)]
pub(crate) struct ListenerRoute {
    /// The listener of the snapshot.
    pub(crate) listener: Arc<Listener>,
    /// The listener's metrics.
    pub(crate) series: Arc<Series>,
    /// Open flows of each member, over all workers and listeners.
    pub(crate) flows_of_members: Arc<[Arc<AtomicUsize>]>,
    /// Faults that new flows may get.
    pub(crate) faults: Vec<LiveFault>,
    /// The bandwidth cap of its address: to targets, to clients.
    pub(crate) cap: Option<[Arc<Bucket>; 2]>,
}

impl ListenerRoute {
    /// Whether `peer` is a load balancer in front of this one, whose connections start with a PROXY protocol header.
    pub(crate) fn expects_header(&self, peer: IpAddr) -> bool {
        let sources = &self.listener.group.proxy_sources;
        !sources.is_empty() && sources.contains(peer.to_canonical())
    }

    /// The address of some member, which gives the targets' address family.
    pub(crate) fn any_target(&self) -> Option<SocketAddr> {
        self.listener.group.members.first().map(|member| member.address)
    }
}

/// The current route of a listener, shared by its accept task and the connections that are not admitted yet.
#[derive(Debug)]
pub(crate) struct RouteWatch {
    /// The sender is dropped to close the listener.
    ///
    /// A flow is admitted and inserted into the table under one borrow. So once a new route is sent, no flow takes an
    /// earlier one.
    pub(crate) current: watch::Receiver<Arc<ListenerRoute>>,
    /// The listener is closed once every copy of this is dropped.
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) open: mpsc::Sender<Infallible>,
}
