//! What a listener needs at hand for each new flow.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{mpsc, watch};

use super::counters::Series;
use super::fault::LiveFault;
use super::shape::Bucket;
use crate::plan::Listener;

/// Where new flows of a listener go, and where they count.
#[derive(Debug)]
pub(crate) struct Route {
    /// The listener as the snapshot has it.
    pub(crate) listener: Arc<Listener>,
    /// Where it counts.
    pub(crate) series: Arc<Series>,
    /// Flows that each member carries, over all workers and listeners.
    pub(crate) flows_of_members: Arc<[Arc<AtomicUsize>]>,
    /// Faults that new flows may get.
    pub(crate) faults: Vec<LiveFault>,
    /// What its address may carry: to targets, to clients.
    pub(crate) cap: Option<[Arc<Bucket>; 2]>,
}

impl Route {
    /// Whether a connection from `peer` starts with a PROXY protocol header of a load balancer in front of this one.
    pub(crate) fn expects_header(&self, peer: IpAddr) -> bool {
        let sources = &self.listener.group.proxy_sources;
        !sources.is_empty() && sources.contains(peer.to_canonical())
    }

    /// A member's address, for the family of the targets.
    pub(crate) fn any_target(&self) -> Option<SocketAddr> {
        self.listener.group.members.first().map(|member| member.address)
    }
}

/// The present route of a listener, as its task and the connections that are not admitted yet see it.
#[derive(Debug)]
pub(crate) struct Routes {
    /// Closed when the listener is to close.
    ///
    /// A flow is in the table before the borrow ends under which it was admitted. So once a new route is in place, no flow
    /// joins the one before.
    pub(crate) current: watch::Receiver<Arc<Route>>,
    /// The listener is closed once every copy of this is dropped.
    #[expect(dead_code, reason = "its drop is what it is for")]
    pub(crate) open: mpsc::Sender<Infallible>,
}
