//! Owns the desired state and what must outlive the process.
//!
//! [`Control`] is the handle: a request for a change is answered when the change is in force or was refused.
//! Behind it one task takes every change the same way (`owner`). [`store`] keeps what is acknowledged through any
//! crash; `saved` writes it, and `shared` and `follow` let several gateways write one; `gateways` says which of them lives and
//! serves which zone. [`health`] probes targets and says
//! what changed.

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
use self::gateways::{Gateways, Member};
use self::health::{HealthProber, Probe};
use self::holder::Holder;
pub use self::holder::HostLock;
use self::inventory::{ApiResources, Inventory, Timestamp};
use self::metrics::ControlMetrics;
pub use self::node_names::NodeName;
use self::node_names::{Learn, NodeNames};
use self::overrides::OperatorOverrides;
pub use self::overrides::{FaultOrigin, FaultRecord, Shift};
pub use self::owner::{ChangeError, Moved};
use self::owner::{Command, Owner};
pub use self::plane::Plane;
use self::saved::Saved;
pub use self::saved_error::SavedError;
use self::shared::Shared;
pub use self::shared::SharedStatus;
use self::store::StateStore;
pub use crate::model::Pace;
use crate::model::{Desired, Fault, GatewayId, ListenerPort, TargetId, VpceServiceId, Zone};
use crate::plan::{Generation, PortAllocations, Snapshot};

/// What an earlier process held, as `store` has it: for those who only look.
///
/// # Errors
///
/// [`SavedError`] when a value can't be read.
pub async fn held(store: Arc<dyn StateStore>) -> Result<PortAllocations, SavedError> {
    Ok(Saved::load(store, None).await?.1.held)
}

/// The same, and puts the saved faults, shifts and deregistrations into `desired`.
///
/// # Errors
///
/// [`SavedError`] when a value can't be read.
pub async fn recall(store: Arc<dyn StateStore>, desired: &mut Desired) -> Result<PortAllocations, SavedError> {
    let (_, loaded) = Saved::load(store, None).await?;
    loaded.overrides.over(&desired.faults.clone(), Timestamp::now()).apply_to(desired);
    Ok(loaded.held)
}

/// What control is built on.
pub struct ControlParts<P> {
    /// What carries changes out.
    pub plane: Arc<P>,
    /// Where snapshots are published; holds an empty one.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Where the state is stored.
    pub store: Arc<dyn StateStore>,
    /// This gateway's name among those that share the store, which no other process may have; `None`: the store is its alone.
    pub gateway: Option<GatewayId>,
    /// What it says of itself to them.
    pub gateway_parts: GatewayParts,
    /// How targets are probed.
    pub probe: Arc<dyn Probe>,
    /// The name servers that are asked for nodes' host names; empty: the machine's.
    pub name_servers: Vec<std::net::SocketAddr>,
    /// Where it counts.
    pub recorder: Arc<dyn ::metrics::Recorder + Send + Sync>,
    /// How long the old port of a moved target still accepts.
    pub move_grace: Duration,
    /// How quickly lifecycles proceed, unless an operator set another pace.
    pub pace: Pace,
    /// Ends the owner and the drains.
    pub stop: CancellationToken,
}

#[cfg(test)]
impl<P> ControlParts<P> {
    /// A separate gateway whose probes never end, that counts nothing and waits for nothing: so only the test changes anything.
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
    gateways: Option<Gateways>,
    learn: mpsc::Sender<Learn>,
    node_names: watch::Receiver<Vec<NodeName>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Applies `desired` on what an earlier process held, and starts the owner on `tracker`.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] when the state can't be read, the plan forbids it, or a socket can't be had; nothing is left.
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
        let (saved, loaded) = Saved::load(Arc::clone(&parts.store), shared).await?;
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
                Some(Box::pin(Member::join(store, id.clone(), own, Arc::clone(&parts.recorder))).await)
            }
            None => None,
        };
        let serving = member.as_ref().map(Member::serving).unwrap_or_default();
        let mut names = NodeNames::new(parts.name_servers, events.clone());
        let node_names = names.published();
        names.ask(desired.host_names()).await;
        let mut owner = Owner {
            plane: parts.plane,
            desired: Desired {
                own_addresses: desired.own_addresses.clone(),
                own_names: desired.own_names.clone(),
                served_anywhere: serving.anywhere(),
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
        owner.metrics.took_over();
        let (learn, to_learn) = mpsc::channel(1);
        let (inventories, stop) = (owner.inventories.subscribe(), owner.stop.clone());
        tracker.spawn(owner.run(received, health_results));
        // As a separate change: a wrong name must not keep the gateway from starting.
        names.put_in_force(&commands).await;
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
            learn,
            node_names,
        })
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Waits until the owner has ended, after the stop was asked for: nothing opens a listener any more.
    pub async fn ended(&self) {
        let mut snapshots = self.snapshots.clone();
        while snapshots.changed().await.is_ok() {}
    }

    /// Snapshots as they come into force.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Why the last reload was refused; `None` when it was applied.
    #[must_use]
    pub fn last_problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.clone()
    }

    /// What happened lately.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Ports that were given up and whose flows still drain, with their load balancers.
    #[must_use]
    pub fn draining_ports(&self) -> Vec<(VpceServiceId, ListenerPort)> {
        self.draining.borrow().clone()
    }

    /// Why the state store did not take the last change; `None` when it did.
    #[must_use]
    pub fn store_problem(&self) -> Option<String> {
        self.store_problem.borrow().clone()
    }

    /// This gateway's access to the state that it shares with others.
    #[must_use]
    pub fn shared_status(&self) -> watch::Receiver<SharedStatus> {
        self.shared_status.clone()
    }

    /// The host names of nodes, and where they lead.
    #[must_use]
    pub fn node_names(&self) -> Vec<NodeName> {
        self.node_names.borrow().clone()
    }

    /// The gateways that share the state; `None`: the state is this one's alone.
    #[must_use]
    pub fn gateways(&self) -> Option<Arc<GatewaysView>> {
        self.gateways.as_ref().map(Gateways::view)
    }

    /// Gives up for good a gateway that is gone: its claims are free, and no port waits for it any more. For how many ports
    /// that was.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoSuchGateway`], [`ChangeError::GatewayLives`], or why it can't be saved.
    pub async fn forget_gateway(&self, gateway: GatewayId) -> Result<usize, ChangeError> {
        let Some(gateways) = &self.gateways else { return Err(ChangeError::NoSuchGateway { gateway }) };
        let was_registered = gateways.forget(gateway.clone()).await?;
        match self.ask(|reply| Command::Forget { gateway, reply }).await {
            Err(ChangeError::NoSuchGateway { .. }) if was_registered => Ok(0),
            outcome => outcome,
        }
    }

    /// Gives up this gateway's claims, once nothing listens any more, so that others may have them at once.
    pub async fn leave_gateways(&self) {
        if let Some(gateways) = &self.gateways {
            gateways.leave().await;
        }
    }

    /// Replaces the inventory: all or nothing. Its host names are resolved first. `Err` in `inventory` is a config that can't be read, and is recorded as
    /// a refused reload.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; the snapshot in force stays.
    pub async fn replace_inventory(&self, inventory: Result<Desired, String>) -> Result<Generation, ChangeError> {
        let names = inventory.as_ref().map(Desired::host_names).unwrap_or_default();
        if !names.is_empty() {
            let (reply, learned) = oneshot::channel();
            // Without an answer the process stops, and the owner says so.
            if self.learn.send((names, reply)).await.is_ok() {
                let _ = learned.await;
            }
        }
        self.ask(|reply| Command::Inventory { desired: Box::new(inventory), reply }).await
    }

    /// Gives `target` the port `port`, or the lowest free one: what a cluster change does on Atlas. The new port is open
    /// and in DNS before this returns; the old one drains.
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

    /// What there is: what the config names, and what the APIs made or changed.
    #[must_use]
    pub fn inventory(&self) -> Arc<Inventory> {
        Arc::clone(&self.inventories.borrow())
    }

    /// Changes what there is. `edit` runs in the owner's task, on a copy, and again where another gateway that shares the
    /// state was first; when it, the plan, or a socket refuses, nothing
    /// has happened.
    ///
    /// # Errors
    ///
    /// [`ChangeError`].
    ///
    /// # Panics
    ///
    /// Never: the owner hands back what `edit` gave.
    pub async fn edit<T: Send + 'static>(
        &self,
        edit: impl FnOnce(&mut Draft) -> Result<T, EditError> + Clone + Send + Sync + 'static,
    ) -> Result<T, ChangeError> {
        let edit: owner::Edit = Box::new(move |draft| Ok(Box::new(edit.clone()(draft)?)));
        let answer = self.ask(|reply| Command::Edit { edit, reply }).await?;
        Ok(*answer.downcast().expect("the owner hands back what the edit gave"))
    }

    /// How quickly the lives of what the APIs make go on.
    #[must_use]
    pub fn pace(&self) -> Pace {
        *self.pace.borrow()
    }

    /// Sets how quickly lives go on, from now on and after a restart.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; it stays as it was.
    pub async fn set_pace(&self, pace: Pace) -> Result<(), ChangeError> {
        self.ask(|reply| Command::SetPace { pace, reply }).await
    }

    /// Lets the next transition happen now, whatever the pace; whether there was one.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Stopping`].
    pub async fn push(&self) -> Result<bool, ChangeError> {
        self.ask(|reply| Command::Push { reply }).await
    }

    /// Reports the result of a probe from outside: whether a zone's endpoint addresses answer clients. Those that do not
    /// leave DNS, unless that leaves none. Nothing else changes.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn set_zone_silent(&self, zone: Zone, silent: bool) -> Result<Generation, ChangeError> {
        self.ask(|reply| Command::Silent { zone, silent, reply }).await
    }

    /// Sets a fault, or another one under its name. It begins and ends by its own times, and outlives the process.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn set_fault(&self, fault: Fault) -> Result<FaultRecord, ChangeError> {
        self.ask(|reply| Command::SetFault { fault, replace: true, reply }).await
    }

    /// Sets a fault whose name is not taken; one without a name gets one.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn add_fault(&self, fault: Fault) -> Result<FaultRecord, ChangeError> {
        self.ask(|reply| Command::SetFault { fault, replace: false, reply }).await
    }

    /// Takes a fault back. Flows that it befell keep it. One of the config's stays away until the config has another.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn clear_fault(&self, name: String) -> Result<(), ChangeError> {
        self.ask(|reply| Command::ClearFaults { name: Some(name), reply }).await.map(|_| ())
    }

    /// Takes all faults back; how many there were.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn clear_faults(&self) -> Result<usize, ChangeError> {
        self.ask(|reply| Command::ClearFaults { name: None, reply }).await
    }

    /// The faults that have begun or are to begin, by name.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultRecord> {
        self.published_overrides.borrow().faults.values().cloned().collect()
    }

    /// Shifts away from a zone: its addresses leave DNS, and its targets get no new flows; open ones run on. `service`:
    /// on that load balancer alone. One zone of a load balancer at a time (*Zonal shift*).
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing changes.
    pub async fn shift_zone(&self, zone: Zone, service: Option<VpceServiceId>) -> Result<Generation, ChangeError> {
        self.ask(|reply| Command::Shift { service, zone, away: true, lasts: None, reply }).await
    }

    /// The same for a time: it ends by itself.
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

    /// The zonal shifts in force, in order of load balancer and zone.
    #[must_use]
    pub fn shifts(&self) -> Vec<Shift> {
        self.published_overrides.borrow().shifts.values().cloned().collect()
    }

    /// Takes a target's processes, or `member` alone, out of its group: no new flows, open ones drain (NLB's
    /// `DeregisterTargets`). Who they are.
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

    /// Undoes [`deregister`](Self::deregister): the member starts again, as `initial`.
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

    /// Reports that a connection to `address` failed: the members there get a reach probe at once.
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
