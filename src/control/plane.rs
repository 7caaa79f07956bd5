//! The data plane as control sees it.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::model::DrainReason;
use crate::plan::{Changes, Listener, MemberRemoval, Snapshot};

/// Carries out the changes of a snapshot. `app` implements it, so that control does not depend on the data plane.
pub trait Plane: Send + Sync + 'static {
    /// Sockets that are bound and do not listen yet; dropped, they are closed and nothing has happened.
    type Bound: Send;
    /// What was open on an address when it was closed.
    type Open: Send;

    /// Binds what can be had of whatever `changes` opens; and a sentence for every address that can't be had.
    fn bind(&self, changes: &Changes, snapshot: &Arc<Snapshot>) -> (Self::Bound, BTreeMap<SocketAddr, String>);

    /// Listens and accepts on what was bound. Done when new connections are taken.
    fn open(&self, bound: Self::Bound, snapshot: &Arc<Snapshot>) -> impl Future<Output = ()> + Send;

    /// New flows take the new routes; what the snapshot no longer has beside listeners is closed.
    fn retarget(&self, changes: &Changes, snapshot: &Arc<Snapshot>) -> impl Future<Output = ()> + Send;

    /// Accepts no more at the address of `listener`; done when its sockets are closed. What is open is that of its target.
    fn close(&self, listener: &Arc<Listener>) -> impl Future<Output = Self::Open> + Send;

    /// Lets the flows of a member end that left its group; done when they have ended or their time is over. Called after
    /// [`retarget`](Self::retarget), so no flow starts there any more.
    fn leave(&self, leave: MemberRemoval) -> impl Future<Output = ()> + Send {
        let _ = leave;
        std::future::ready(())
    }

    /// Waits for flows to end, at most for `delay`; cuts what is left then, if `cut` gives the reason.
    fn drain(&self, open: Self::Open, delay: Duration, cut: Option<DrainReason>) -> impl Future<Output = ()> + Send;
}
