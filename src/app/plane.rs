//! The data plane in control's words.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use crate::api::FlowsView;
use crate::control::{Plane, chain};
use crate::data::{Bound, Carried, DataPlane, FlowView, OpenFlows};
use crate::model::{DrainReason, FlowId};
use crate::plan::{Changes, Snapshot};

/// Carries out changes on the data plane, and lists and ends its flows.
#[derive(Debug)]
pub(super) struct Flows {
    data: Arc<DataPlane>,
    /// Addresses that are open: those of the snapshot and those whose port still accepts for a moment after a move.
    open: Mutex<std::collections::BTreeSet<SocketAddr>>,
}

impl Flows {
    pub(super) fn new(data: DataPlane) -> Self {
        Self { data: Arc::new(data), open: Mutex::default() }
    }

    pub(super) fn list(&self) -> Vec<FlowView> {
        self.data.flows()
    }

    pub(super) fn kill(&self, id: FlowId) -> bool {
        self.data.kill(id)
    }

    pub(super) fn carried(&self) -> Carried {
        self.data.carried()
    }

    pub(super) fn publish_metrics(&self) {
        self.data.publish_metrics();
    }

    /// Closes every listener, waits for flows to end within `grace`, and resets the rest.
    pub(super) async fn drain_all(&self, grace: Duration) {
        let addresses = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        join_all(addresses.into_iter().map(|address| self.data.close(address))).await;
        // Flows of listeners that closed earlier drain with the rest.
        self.data.drain(self.data.all_open(), grace, Some(DrainReason::Shutdown)).await;
    }

    /// Ends the workers.
    pub(super) fn stop(&self) {
        self.data.stop();
    }
}

impl FlowsView for Flows {
    fn flows(&self) -> Vec<FlowView> {
        self.list()
    }

    fn kill(&self, id: FlowId) -> bool {
        self.kill(id)
    }

    fn carried(&self) -> Carried {
        self.carried()
    }
}

impl Plane for Flows {
    type Bound = Bound;
    type Open = OpenFlows;

    fn bind(&self, changes: &Changes, _snapshot: &Arc<Snapshot>) -> Result<Bound, Vec<String>> {
        self.data.bind(&changes.open).map_err(|errors| errors.iter().map(|error| chain(error)).collect())
    }

    async fn open(&self, bound: Bound, snapshot: &Arc<Snapshot>) {
        self.data.refuse_service_side(&snapshot.service_side);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).extend(bound.addresses());
        self.data.open(bound).await;
    }

    fn retarget(&self, changes: &Changes, _snapshot: &Arc<Snapshot>) {
        for listener in &changes.retarget {
            self.data.retarget(listener);
        }
    }

    async fn close(&self, address: SocketAddr) -> OpenFlows {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        self.data.close(address).await
    }

    async fn drain(&self, open: OpenFlows, delay: Duration, cut: Option<DrainReason>) {
        self.data.drain(open, delay, cut).await;
    }
}
