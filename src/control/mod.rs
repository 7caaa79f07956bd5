//! Owns the desired state and everything that must outlive the process.
//!
//! [`Control`] is the handle: a request for a change is answered when the change has been applied or refused. One task
//! handles every change in the same way (`owner`). [`store`] keeps acknowledged changes through any crash; `saved`
//! writes to it, and `shared` and `follow` let several gateways write to one store; `gateways` decides which of them
//! lives and serves which zone. [`health`] probes targets and reports changes.

mod chain;
mod config_base;
pub mod draft;
pub mod events;
mod faults;
mod figures;
mod follow;
mod gateways;
pub mod health;
mod holder;
pub mod inventory;
mod lifecycle;
mod metrics;
mod node_names;
mod overrides;
mod owner;
mod plane;
mod saved;
mod saved_error;
mod shared;
#[cfg(test)]
mod shared_tests;
pub mod store;
mod zones;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::chain::chain;
use self::config_base::ConfigBase;
use self::draft::{Draft, EditError};
use self::events::EventLog;
pub use self::gateways::{ClaimView, GatewayParts, GatewayState, GatewayView, GatewaysView};
use self::gateways::{GatewaysHandle, MembershipTask};
use self::health::{HealthProber, Probe};
use self::holder::Holder;
pub use self::holder::HostLock;
use self::inventory::{ApiResources, Inventory, Timestamp};
use self::metrics::ControlMetrics;
pub use self::node_names::NodeName;
use self::node_names::{NodeNames, ResolveRequest};
use self::overrides::OperatorOverrides;
pub use self::overrides::{FaultOrigin, FaultRecord, ZonalShift};
pub use self::owner::{ChangeError, Moved, Refused};
use self::owner::{Command, Owner};
pub use self::plane::Plane;
use self::saved::SavedState;
pub use self::saved_error::SavedError;
use self::shared::Shared;
pub use self::shared::SharedStatus;
use self::store::StateStore;
pub use crate::model::Pace;
use crate::model::{Desired, Fault, GatewayId, ListenerPort, TargetId, VpceServiceId, Zone};
use crate::plan::{Generation, PortAllocations, Snapshot};

/// The port allocations of an earlier process, read from `store` without changing it.
/// # Errors
///
/// [`SavedError`] when a value can't be read.
pub async fn held(store: Arc<dyn StateStore>) -> Result<PortAllocations, SavedError> {
    Ok(SavedState::load(store, None).await?.1.held)
}

/// The same, and adds the saved faults, shifts and deregistrations to `desired`.
///
/// # Errors
///
/// [`SavedError`] when a value can't be read.
pub async fn load_with_overrides(
    store: Arc<dyn StateStore>,
    desired: &mut Desired,
) -> Result<PortAllocations, SavedError> {
    let (_, loaded) = SavedState::load(store, None).await?;
    loaded.overrides.over(&desired.faults.clone(), Timestamp::now()).apply_to(desired);
    Ok(loaded.held)
}

/// The parts that control is built from.
pub struct ControlParts<P> {
    /// Carries changes out.
    pub plane: Arc<P>,
    /// Publishes snapshots; holds an empty one at first.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Stores the state.
    pub store: Arc<dyn StateStore>,
    /// This gateway's id among those that share the store; only one process may have it. `None`: the store is not
    /// shared.
    pub gateway: Option<GatewayId>,
    /// This gateway's settings for sharing the state.
    pub gateway_parts: GatewayParts,
    /// Probes targets.
    pub probe: Arc<dyn Probe>,
    /// The name servers for nodes' host names; empty: the machine's.
    pub name_servers: Vec<std::net::SocketAddr>,
    /// The metrics recorder.
    pub recorder: Arc<dyn ::metrics::Recorder + Send + Sync>,
    /// How long the old port of a moved target still accepts.
    pub move_grace: Duration,
    /// The pace of lifecycles, unless an operator set another one.
    pub pace: Pace,
    /// Stops the owner and the drains.
    pub stop: CancellationToken,
}

#[cfg(test)]
impl<P> ControlParts<P> {
    /// For tests: a gateway without shared state, whose probes never complete and which has no delays, so that only the
    /// test changes anything.
    pub(crate) fn for_test(plane: Arc<P>, store: Arc<dyn StateStore>) -> Self {
        Self {
            plane,
            snapshots: watch::Sender::new(Arc::default()),
            store,
            gateway: None,
            gateway_parts: GatewayParts::default(),
            probe: Arc::new(health::PendingProbe),
            name_servers: Vec::new(),
            recorder: Arc::new(::metrics::NoopRecorder),
            move_grace: Duration::ZERO,
            pace: Pace::Fast,
            stop: CancellationToken::new(),
        }
    }
}

/// The handle to the task that owns the desired state. Clones are the same handle.
#[derive(Clone)]
pub struct Control {
    commands: mpsc::UnboundedSender<Command>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    problem: watch::Receiver<Option<String>>,
    inventories: watch::Receiver<Arc<Inventory>>,
    pace: watch::Receiver<Pace>,
    published_overrides: watch::Receiver<Arc<OperatorOverrides>>,
    draining: watch::Receiver<Vec<(VpceServiceId, ListenerPort)>>,
    store_problem: watch::Receiver<Option<String>>,
    shared_status: watch::Receiver<SharedStatus>,
    events: EventLog,
    failed_dials: mpsc::UnboundedSender<std::net::SocketAddr>,
    gateways: Option<GatewaysHandle>,
    resolve_requests: mpsc::Sender<ResolveRequest>,
    node_names: watch::Receiver<Vec<NodeName>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Applies `desired` to the state of an earlier process, and starts the owner on `tracker`.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] when the state can't be read, the plan refuses it, or a socket can't be bound; everything is
    /// undone.
    pub async fn start<P: Plane>(
        parts: ControlParts<P>,
        desired: Desired,
        tracker: &TaskTracker,
    ) -> Result<Self, ChangeError> {
        let shared = match &parts.gateway {
            Some(id) => {
                let own = &parts.gateway_parts;
                let holder = Holder::new(own.admin.clone(), own.lock.clone());
                Some(Shared::join(&*parts.store, id.clone(), holder).await?)
            }
            None => None,
        };
        let (saved, loaded) = SavedState::load(Arc::clone(&parts.store), shared).await?;
        let (commands, received) = mpsc::unbounded_channel();
        let (snapshots, snapshots_seen) = (parts.snapshots.clone(), parts.snapshots.subscribe());
        let (inventories, inventories_seen) = watch::channel(Arc::new(Inventory::default()));
        let (pace, pace_seen) = watch::channel(loaded.overrides.pace.unwrap_or(parts.pace));
        let (published_overrides, published_overrides_seen) = watch::channel(Arc::default());
        let (status, problem) = watch::channel(None);
        let (published_draining, draining) = watch::channel(Vec::new());
        let (store_problem, events) = (saved.problem.subscribe(), EventLog::default());
        let (shared_status, shared_status_seen) = watch::channel(SharedStatus::default());
        let (health, health_results) = mpsc::unbounded_channel();
        let (prober, probing) = HealthProber::new(parts.probe, health, parts.stop.clone());
        let failed_dials = prober.failed_dials();
        tracker.spawn(probing);
        let metrics = ControlMetrics::new(Arc::clone(&parts.recorder));
        let mut member = match &parts.gateway {
            Some(id) => {
                let (store, own) = (Arc::clone(&parts.store), parts.gateway_parts.clone());
                Some(Box::pin(MembershipTask::join(store, id.clone(), own, Arc::clone(&parts.recorder))).await)
            }
            None => None,
        };
        let serving = member.as_ref().map(MembershipTask::serving).unwrap_or_default();
        let mut names = NodeNames::new(parts.name_servers, events.clone());
        let node_names = names.published();
        names.ask(desired.host_names()).await;
        let mut owner = Owner {
            plane: parts.plane,
            desired: Desired {
                own_addresses: desired.own_addresses.clone(),
                own_names: desired.own_names.clone(),
                served_anywhere: serving.served_claims(),
                served_here: serving.here.clone(),
                ..Desired::default()
            },
            config: ConfigBase::default(),
            inventory: Arc::new(Inventory::default()),
            resources: ApiResources::new(),
            file: None,
            unbound: std::collections::BTreeMap::new(),
            is_taken: false,
            shared_status,
            overrides: OperatorOverrides::default(),
            published_overrides,
            epoch: 0,
            inventories,
            configured_pace: parts.pace,
            pace,
            not_before: tokio::time::Instant::now(),
            held: PortAllocations::default(),
            saved,
            snapshots,
            prober,
            metrics,
            status,
            events: events.clone(),
            published_draining,
            commands: commands.clone(),
            move_grace: parts.move_grace,
            drains: tracker.clone(),
            stop: parts.stop,
            leaving: std::collections::BTreeMap::new(),
            draining: HashMap::new(),
            retiring: HashMap::new(),
        };
        let served = match Box::pin(owner.start_serving(ConfigBase::of(&desired), loaded, serving)).await {
            Ok(served) => served,
            Err(error) => {
                if let Some(member) = &mut member {
                    member.leave().await;
                }
                return Err(error);
            }
        };
        if let Some((id, shared)) = parts.gateway.zip(owner.saved.shared()) {
            let ((holder, at), left) = (shared.holder(), parts.gateway_parts.left);
            tracker.spawn(holder::hold(Arc::clone(&parts.store), id, holder, at, left));
            let status = owner.shared_status.clone();
            tracker.spawn(follow::watch(parts.store, commands.clone(), status, owner.stop.clone()));
        }
        owner.metrics.config_applied();
        let (resolve_requests, to_learn) = mpsc::channel(1);
        let (inventories, stop) = (owner.inventories.subscribe(), owner.stop.clone());
        tracker.spawn(owner.run(received, health_results));
        // As a separate change: a wrong name must not keep the gateway from starting.
        names.submit_answers(&commands).await;
        tracker.spawn(names.run(inventories, commands.clone(), to_learn, stop));
        let gateways = member.map(|member| member.start(served, commands.clone(), tracker));
        Ok(Self {
            commands,
            snapshots: snapshots_seen,
            problem,
            inventories: inventories_seen,
            pace: pace_seen,
            published_overrides: published_overrides_seen,
            draining,
            store_problem,
            shared_status: shared_status_seen,
            events,
            failed_dials,
            gateways,
            resolve_requests,
            node_names,
        })
    }

    /// The current snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Waits until the owner has ended after a stop was requested: no listener is opened any more.
    pub async fn ended(&self) {
        let mut snapshots = self.snapshots.clone();
        while snapshots.changed().await.is_ok() {}
    }

    /// A receiver of published snapshots.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Why the last reload was refused; `None` when it was applied.
    #[must_use]
    pub fn last_problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.clone()
    }

    /// Recent events.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Ports that are no longer assigned and whose flows still drain, with their load balancers.
    #[must_use]
    pub fn draining_ports(&self) -> Vec<(VpceServiceId, ListenerPort)> {
        self.draining.borrow().clone()
    }

    /// Why the last change could not be saved; `None` when it was.
    #[must_use]
    pub fn store_problem(&self) -> Option<String> {
        self.store_problem.borrow().clone()
    }

    /// This gateway's access to the shared state.
    #[must_use]
    pub fn shared_status(&self) -> watch::Receiver<SharedStatus> {
        self.shared_status.clone()
    }

    /// The host names of nodes, with their addresses.
    #[must_use]
    pub fn node_names(&self) -> Vec<NodeName> {
        self.node_names.borrow().clone()
    }

    /// The gateways that share the state; `None`: the state is not shared.
    #[must_use]
    pub fn gateways(&self) -> Option<Arc<GatewaysView>> {
        self.gateways.as_ref().map(GatewaysHandle::view)
    }

    /// Removes a gateway that is gone: its claims are free, and no port waits for it any more. Returns the number of
    /// those ports.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Refused`], or why it can't be saved.
    pub async fn forget_gateway(&self, gateway: GatewayId) -> Result<usize, ChangeError> {
        let Some(gateways) = &self.gateways else { return Err(ChangeError::no_such_gateway(&gateway)) };
        let was_registered = gateways.forget(gateway.clone()).await?;
        match self.ask(|reply| Command::Forget { gateway, reply }).await {
            Err(ChangeError::Refused(Refused::NoSuchGateway, _)) if was_registered => Ok(0),
            outcome => outcome,
        }
    }

    /// Releases this gateway's claims, so that others can take them at once. To be called when no listener is open.
    pub async fn leave_gateways(&self) {
        if let Some(gateways) = &self.gateways {
            gateways.leave().await;
        }
    }

    /// Replaces the inventory: all or nothing. Its host names are resolved first. An `Err` in `inventory` is a config
    /// that can't be read; it is recorded as a refused reload.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; the current snapshot stays.
    pub async fn replace_inventory(&self, inventory: Result<Desired, String>) -> Result<Generation, ChangeError> {
        let names = inventory.as_ref().map(Desired::host_names).unwrap_or_default();
        if !names.is_empty() {
            let (reply, learned) = oneshot::channel();
            // Fails only if the process is stopping, which the owner reports.
            if self.resolve_requests.send((names, reply)).await.is_ok() {
                let _ = learned.await;
            }
        }
        self.ask(|reply| Command::Inventory { desired: Box::new(inventory), reply }).await
    }

    /// Moves `target` to `port`, or to the lowest free one, as a cluster change on Atlas does. The new port is open and
    /// in DNS before this returns; the old one drains.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; the target keeps its port.
    pub async fn move_target(
        &self,
        target: TargetId,
        service: Option<VpceServiceId>,
        port: Option<ListenerPort>,
    ) -> Result<Moved, ChangeError> {
        self.ask(|reply| Command::Move { target, service, port, reply }).await
    }

    /// The inventory: objects of the config and of the APIs.
    #[must_use]
    pub fn inventory(&self) -> Arc<Inventory> {
        Arc::clone(&self.inventories.borrow())
    }

    /// Changes the inventory. `edit` runs in the owner's task, on a copy, and again if another gateway that shares the
    /// state was first. If it, the plan or a bind fails, nothing is changed.
    ///
    /// # Errors
    ///
    /// [`ChangeError`].
    ///
    /// # Panics
    ///
    /// Never: the owner returns the result of `edit`.
    pub async fn edit<T: Send + 'static>(
        &self,
        edit: impl FnOnce(&mut Draft) -> Result<T, EditError> + Clone + Send + Sync + 'static,
    ) -> Result<T, ChangeError> {
        let edit: owner::Edit = Box::new(move |draft| Ok(Box::new(edit.clone()(draft)?)));
        let answer = self.ask(|reply| Command::Edit { edit, reply }).await?;
        Ok(*answer.downcast().expect("the owner hands back what the edit gave"))
    }

    /// The pace of lifecycles.
    #[must_use]
    pub fn pace(&self) -> Pace {
        *self.pace.borrow()
    }

    /// Sets the pace of lifecycles; it outlives a restart.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; the pace is unchanged.
    pub async fn set_pace(&self, pace: Pace) -> Result<(), ChangeError> {
        self.ask(|reply| Command::SetPace { pace, reply }).await
    }

    /// Executes the next transition now, whatever the pace; returns whether there was one.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Stopping`].
    pub async fn push(&self) -> Result<bool, ChangeError> {
        self.ask(|reply| Command::Push { reply }).await
    }

    /// Reports the result of an external probe: whether a zone's endpoint addresses answer clients. Addresses that do
    /// not are removed from DNS, unless none would be left. Nothing else changes.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn set_zone_silent(&self, zone: Zone, silent: bool) -> Result<Generation, ChangeError> {
        self.ask(|reply| Command::Silent { zone, silent, reply }).await
    }

    /// Sets a fault, replacing one of the same name. It begins and ends at its own times, and outlives the process.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn set_fault(&self, fault: Fault) -> Result<FaultRecord, ChangeError> {
        self.ask(|reply| Command::SetFault { fault, replace: true, reply }).await
    }

    /// Adds a fault whose name is not in use; one without a name gets one.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn add_fault(&self, fault: Fault) -> Result<FaultRecord, ChangeError> {
        self.ask(|reply| Command::SetFault { fault, replace: false, reply }).await
    }

    /// Clears a fault. Flows that it already affects keep it. A cleared fault of the config stays cleared until the
    /// config changes it.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn clear_fault(&self, name: String) -> Result<(), ChangeError> {
        self.ask(|reply| Command::ClearFaults { name: Some(name), reply }).await.map(|_| ())
    }

    /// Clears all faults; returns their number.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn clear_faults(&self) -> Result<usize, ChangeError> {
        self.ask(|reply| Command::ClearFaults { name: None, reply }).await
    }

    /// Faults that have begun or will begin, by name.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultRecord> {
        self.published_overrides.borrow().faults.values().cloned().collect()
    }

    /// Shifts traffic away from a zone: its addresses are removed from DNS, and its targets get no new flows; open
    /// flows continue. `service`: only on that load balancer. One zone per load balancer at a time (*Zonal shift*).
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn shift_zone(&self, zone: Zone, service: Option<VpceServiceId>) -> Result<Generation, ChangeError> {
        self.ask(|reply| Command::Shift { service, zone, away: true, lasts: None, reply }).await
    }

    /// The same with an expiry.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn shift_zone_for(
        &self,
        zone: Zone,
        service: Option<VpceServiceId>,
        lasts: Duration,
    ) -> Result<Generation, ChangeError> {
        self.ask(|reply| Command::Shift { service, zone, away: true, lasts: Some(lasts), reply }).await
    }

    /// Ends a zonal shift.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn end_zonal_shift(&self, zone: Zone, service: Option<VpceServiceId>) -> Result<Generation, ChangeError> {
        self.ask(|reply| Command::Shift { service, zone, away: false, lasts: None, reply }).await
    }

    /// The active zonal shifts, in order of load balancer and zone.
    #[must_use]
    pub fn shifts(&self) -> Vec<ZonalShift> {
        self.published_overrides.borrow().shifts.values().cloned().collect()
    }

    /// Deregisters a target's processes, or only `member`: no new flows, open ones drain (NLB's `DeregisterTargets`).
    /// Returns the processes.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn deregister(
        &self,
        target: TargetId,
        service: Option<VpceServiceId>,
        member: Option<String>,
    ) -> Result<Vec<String>, ChangeError> {
        self.ask(|reply| Command::Register { target, service, member, registered: false, reply }).await
    }

    /// Undoes [`deregister`](Self::deregister): the member starts again as `initial`.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn register(
        &self,
        target: TargetId,
        service: Option<VpceServiceId>,
        member: Option<String>,
    ) -> Result<Vec<String>, ChangeError> {
        self.ask(|reply| Command::Register { target, service, member, registered: true, reply }).await
    }

    /// Reports that a connection to `address` failed: its members get a reach probe at once.
    pub fn report_failed_dial(&self, address: std::net::SocketAddr) {
        // The prober ends with the process.
        let _ = self.failed_dials.send(address);
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, ChangeError>>) -> Command,
    ) -> Result<T, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| ChangeError::Stopping)?;
        answer.await.map_err(|_| ChangeError::Stopping)?
    }
}
