//! Applies control's changes to the data plane and the App Services front end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use super::PortWatch;
use super::front_end::OnDemandFrontEnd;
use crate::api::FlowsView;
use crate::appservices::BoundListeners;
use crate::control::{Plane, chain};
use crate::data::{BoundSockets, Carried, DataPlane, FlowView, OpenFlows};
use crate::model::{DrainReason, FlowId, TargetId, VpceServiceId};
use crate::plan::{AppsView, Changes, Listener, MemberRemoval, Snapshot};
use crate::tls::TlsError;

/// Applies changes to the data plane, and lists and ends its flows.
pub(super) struct GatewayFlows {
    data: DataPlane,
    front_end: OnDemandFrontEnd,
    /// Open addresses: those of the snapshot, and those of moved targets whose old port still accepts.
    open: Mutex<BTreeSet<SocketAddr>>,
    /// Addresses on which the App Services front end listens.
    app_listeners: Mutex<BTreeSet<SocketAddr>>,
    watch: Option<PortWatch>,
}

impl GatewayFlows {
    pub(super) fn new(data: DataPlane, front_end: OnDemandFrontEnd, watch: Option<PortWatch>) -> Self {
        Self { data, front_end, open: Mutex::default(), app_listeners: Mutex::default(), watch }
    }

    /// Sends the open ports to the watcher, if there is one.
    fn notify_ports(&self) {
        let Some(watch) = &self.watch else { return };
        let app_listeners = self.app_listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        watch(&open.union(&app_listeners).copied().collect());
    }

    /// The flows of MongoDB's ports.
    pub(super) fn data(&self) -> &DataPlane {
        &self.data
    }

    /// Reloads the certificates of the apps; the old ones stay if a file is invalid.
    pub(super) fn reload_certificates(&self) -> Result<(), TlsError> {
        self.front_end.reload_certificates()
    }

    /// Closes every listener, waits for flows to end within `grace`, and resets the rest.
    pub(super) async fn drain_all(&self, grace: Duration) {
        tokio::join!(self.front_end.stop(grace), self.drain_flows(grace));
    }

    /// Accepts no more connections; open ones continue.
    pub(super) async fn close_listeners(&self) {
        let none = AppsView::default();
        tokio::join!(self.front_end.retire(&none), self.close_flow_listeners());
    }

    async fn close_flow_listeners(&self) {
        let addresses = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        join_all(addresses.into_iter().map(|address| self.data.shut(address))).await;
    }

    async fn drain_flows(&self, grace: Duration) {
        self.close_flow_listeners().await;
        // Flows of listeners that closed earlier drain with the rest.
        self.data.drain(self.data.all_open(), grace, Some(DrainReason::Shutdown)).await;
    }
}

impl FlowsView for GatewayFlows {
    fn flows(&self) -> Vec<FlowView> {
        let mut flows = self.data.flows();
        let mut sockets = self.front_end.websockets();
        sockets.sort_by_key(|socket| socket.id);
        flows.extend(sockets);
        flows
    }

    /// WebSockets included: as many as are listed.
    fn open_flows(&self) -> usize {
        self.data.open_flows() + self.front_end.websockets().len()
    }

    fn kill(&self, id: FlowId) -> bool {
        self.data.kill(id) || self.front_end.kill(id)
    }

    fn carried(&self) -> Carried {
        self.data.carried()
    }

    fn carried_by_target(&self) -> BTreeMap<String, Carried> {
        self.data.carried_by_target()
    }

    fn affected_flows(&self) -> BTreeMap<String, u64> {
        self.data.affected_flows()
    }

    fn flows_by_member(&self) -> BTreeMap<(VpceServiceId, TargetId, String), usize> {
        self.data.flows_by_member()
    }

    fn flow_log_problem(&self) -> Option<String> {
        self.data.flow_log_problem()
    }
}

impl Plane for GatewayFlows {
    type Bound = (BoundSockets, Option<BoundListeners>);
    type Open = OpenFlows;

    fn bind(&self, changes: &Changes, snapshot: &Arc<Snapshot>) -> (Self::Bound, BTreeMap<SocketAddr, String>) {
        let (mut bound, mut unbound) = (BoundSockets::default(), BTreeMap::new());
        for listener in &changes.open {
            match self.data.bind(std::slice::from_ref(listener)) {
                Ok(one) => bound.extend(one),
                Err(errors) => unbound.extend(errors.iter().map(|error| (listener.address, chain(error)))),
            }
        }
        let app_listeners = self.front_end.bind(&snapshot.apps).unwrap_or_else(|errors| {
            // The front end binds all of its listeners or none.
            let address = snapshot.apps.listeners.keys().next().copied();
            unbound.insert(address.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into()), errors.join("\n"));
            None
        });
        ((bound, app_listeners), unbound)
    }

    async fn open(&self, (bound, app_listeners): Self::Bound, snapshot: &Arc<Snapshot>) {
        self.data.refuse_service_side(&snapshot.service_side);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).extend(bound.addresses());
        self.app_listeners.lock().unwrap_or_else(PoisonError::into_inner).extend(snapshot.apps.listeners.keys());
        self.notify_ports();
        self.data.open(bound).await;
        self.front_end.open(app_listeners, snapshot).await;
    }

    async fn retarget(&self, changes: &Changes, snapshot: &Arc<Snapshot>) {
        self.data.retarget(&changes.retarget);
        self.front_end.retire(&snapshot.apps).await;
        let mut app_listeners = self.app_listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let before = app_listeners.len();
        app_listeners.retain(|address| snapshot.apps.listeners.contains_key(address));
        let fewer = app_listeners.len() < before;
        drop(app_listeners);
        if fewer {
            self.notify_ports();
        }
    }

    async fn close(&self, listener: &Arc<Listener>) -> OpenFlows {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&listener.address);
        let flows = self.data.close(listener).await;
        self.notify_ports();
        flows
    }

    async fn leave(&self, leave: MemberRemoval) {
        let open = self.data.flows_to(&leave.service, &leave.target, &leave.member).await;
        self.data.drain(open, leave.delay, leave.cut.then_some(leave.reason)).await;
    }

    async fn drain(&self, open: OpenFlows, delay: Duration, cut: Option<DrainReason>) {
        self.data.drain(open, delay, cut).await;
    }
}
