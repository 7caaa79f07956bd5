//! The interface of the data plane for control.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::model::DrainReason;
use crate::plan::{Changes, Listener, MemberRemoval, Snapshot};

/// Carries out the changes of a snapshot. `app` implements it, so that control does not depend on the data plane.
pub trait Plane: Send + Sync + 'static {
    /// Bound sockets that do not listen yet. Dropping them undoes the bind.
    type Bound: Send;
    /// The flows that were open on an address when it was closed.
    type Open: Send;

    /// Binds the listeners that `changes` opens; returns a message for each address that can't be bound.
    fn bind(&self, changes: &Changes, snapshot: &Arc<Snapshot>) -> (Self::Bound, BTreeMap<SocketAddr, String>);

    /// Starts listening and accepting on bound sockets. Completes when new connections are accepted.
    fn open(&self, bound: Self::Bound, snapshot: &Arc<Snapshot>) -> impl Future<Output = ()> + Send;

    /// Applies the new routes to new flows, and closes what the snapshot no longer has besides listeners.
    fn retarget(&self, changes: &Changes, snapshot: &Arc<Snapshot>) -> impl Future<Output = ()> + Send;

    /// Stops accepting at the address of `listener`; completes when its sockets are closed. Returns the open flows of
    /// its target.
    fn close(&self, listener: &Arc<Listener>) -> impl Future<Output = Self::Open> + Send;

    /// Drains the flows of a member that left its group; completes when they have ended or the time limit passes.
    /// Called after [`retarget`](Self::retarget), so no new flow starts there.
    fn leave(&self, leave: MemberRemoval) -> impl Future<Output = ()> + Send {
        let _ = leave;
        std::future::ready(())
    }

    /// Waits for flows to end, at most for `delay`; then cuts the rest, if `cut` gives a reason.
    fn drain(&self, open: Self::Open, delay: Duration, cut: Option<DrainReason>) -> impl Future<Output = ()> + Send;
}
