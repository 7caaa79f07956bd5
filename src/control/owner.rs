//! The task that owns the desired state. Every change is a message to it and takes the same steps: desired state, plan,
//! bind, save, open, publish, retarget, close.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::chain::chain;
use super::config_base::ConfigBase;
use super::draft::{Draft, EditError};
use super::events::{EventKind, EventLog, Severity};
use super::gateways::serving::{Served, Serving};
use super::health::{HealthEvent, HealthProber, HealthReason, MemberKey, ProbedMember};
use super::inventory::{ApiResources, Inventory, Timestamp};
use super::lifecycle::{self, DueTransition};
use super::metrics::ControlMetrics;
use super::overrides::{FaultRecord, OperatorOverrides};
use super::plane::Plane;
use super::saved::SavedState;
use super::saved_error::SavedError;
use super::shared::SharedStatus;
use super::store::{Entry, StoreError};
use crate::model::{
    ConnectError, Desired, DnsName, DrainReason, Fault, GatewayId, Health, ListenerPort, Pace, TargetId, TargetState,
    VpceServiceId, Zone,
};
use crate::plan::{
    Changes, Generation, Listener, ListenerAccess, MemberRemoval, PlanErrors, PortAllocations, Snapshot, TargetView,
    ZoneView, compile, diff,
};

/// Why a change was refused. A refused change has no effect.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The plan refuses it.
    #[error(transparent)]
    Plan(#[from] PlanErrors),
    /// The requested edit is not possible.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A socket can't be bound.
    #[error("{}", .0.join("\n"))]
    Bind(Vec<String>),
    /// It can't be saved.
    #[error("cannot save the change")]
    Save(#[from] SavedError),
    /// The config is invalid.
    #[error("{0}")]
    Config(String),
    /// An operator's command is refused, with the reason as text.
    #[error("{1}")]
    Refused(Refused, String),
    /// The process is stopping.
    #[error("the gateway is stopping")]
    Stopping,
}

/// Why an operator's command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no such target.
    NoSuchTarget,
    /// More than one load balancer has a target of this name.
    AmbiguousTarget,
    /// There is no such fault.
    NoSuchFault,
    /// A fault is invalid.
    BadFault,
    /// There is no such zone.
    NoSuchZone,
    /// Traffic is already shifted away from another zone.
    ShiftedAlready,
    /// There is no such gateway among those that share the state.
    NoSuchGateway,
    /// A gateway can't be forgotten while it may live.
    GatewayLives,
}

impl ChangeError {
    /// The error that no gateway of this name shares the state.
    pub(super) fn no_such_gateway(gateway: &GatewayId) -> Self {
        let text = format!("there is no gateway `{gateway}`; `plgw gateways list` lists those that share this state");
        Self::Refused(Refused::NoSuchGateway, text)
    }

    /// The error that there is no fault `name`; lists those of `known`.
    pub(crate) fn no_such_fault<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<_> = known.collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Self::Refused(Refused::NoSuchFault, format!("there is no fault `{name}`; set are: {known}"))
    }

    /// Whether the change may have been saved although it is not in force: [`StoreError::OutcomeUnknown`].
    pub(crate) fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::Save(SavedError::Store(StoreError::OutcomeUnknown { .. })))
    }

    /// Whether it writes more keys than one change may: [`SavedError::TooManyKeys`].
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Self::Save(SavedError::TooManyKeys { .. }))
    }

    /// Whether another writer committed first.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Save(SavedError::Store(StoreError::Conflict { .. })))
    }
}

/// Delay before a failed transition is retried.
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(1);

/// How often a change is repeated on another gateway's state before it is refused.
pub(super) const MAX_REPLAYS: usize = 5;

/// Makes a change on the latest state, and repeats it if another gateway that shares the state committed first.
macro_rules! replayed {
    ($owner:ident, $change:expr) => {{
        let mut replays = 0;
        loop {
            if let Err(error) = $owner.catch_up().await {
                break Err(error);
            }
            match $change.await {
                Err(error) if $owner.lost_race(&error) && replays < MAX_REPLAYS => replays += 1,
                outcome => break outcome,
            }
        }
    }};
}
pub(super) use replayed;

/// A change of the inventory, with its result.
pub(super) type Edit = Box<dyn Fn(&mut Draft) -> Result<Box<dyn Any + Send>, EditError> + Send + Sync>;

/// A message to the owner.
pub(super) enum Command {
    /// Change the inventory.
    Edit { edit: Edit, reply: oneshot::Sender<Result<Box<dyn Any + Send>, ChangeError>> },
    /// Set the pace of lifecycles.
    SetPace { pace: Pace, reply: oneshot::Sender<Result<(), ChangeError>> },
    /// Execute the next transition now; the reply says whether there was one.
    Push { reply: oneshot::Sender<Result<bool, ChangeError>> },
    /// Replace the inventory.
    Inventory { desired: Box<Result<Desired, String>>, reply: oneshot::Sender<Result<Generation, ChangeError>> },
    /// Move a target to another port.
    Move {
        target: TargetId,
        service: Option<VpceServiceId>,
        port: Option<ListenerPort>,
        reply: oneshot::Sender<Result<Moved, ChangeError>>,
    },
    /// Start or end a zonal shift.
    Shift {
        service: Option<VpceServiceId>,
        zone: Zone,
        away: bool,
        /// The duration; `None`: until it is ended.
        lasts: Option<Duration>,
        reply: oneshot::Sender<Result<Generation, ChangeError>>,
    },
    /// A zonal shift expires.
    ShiftEnds { service: VpceServiceId, zone: Zone, epoch: u64 },
    /// Deregister or register processes; the reply names them.
    Register {
        target: TargetId,
        service: Option<VpceServiceId>,
        member: Option<String>,
        registered: bool,
        reply: oneshot::Sender<Result<Vec<String>, ChangeError>>,
    },
    /// A zone's addresses stopped answering, or answer again.
    Silent { zone: Zone, silent: bool, reply: oneshot::Sender<Result<Generation, ChangeError>> },
    /// Set a fault; `replace`: also if the name is in use.
    SetFault { fault: Fault, replace: bool, reply: oneshot::Sender<Result<FaultRecord, ChangeError>> },
    /// Clear a fault, or all faults; the reply is their number.
    ClearFaults { name: Option<String>, reply: oneshot::Sender<Result<usize, ChangeError>> },
    /// A fault begins, acts or ends.
    FaultDue { name: String, epoch: u64, due: FaultPhase },
    /// Apply the shared state at this head; the reply says whether that succeeded.
    Follow { head: Option<Entry>, done: oneshot::Sender<bool> },
    /// Serve exactly these claims; DNS answers with the addresses that any gateway serves.
    Serve { serving: Serving, reply: oneshot::Sender<Served> },
    /// Stop waiting for a gateway that is gone; the reply is the number of its ports.
    Forget { gateway: GatewayId, reply: oneshot::Sender<Result<usize, ChangeError>> },
    /// Apply the addresses of nodes' host names.
    Resolved { addresses: BTreeMap<DnsName, IpAddr>, reply: oneshot::Sender<Result<Generation, ChangeError>> },
    /// The draining interval of an unhealthy member has ended.
    StillUnhealthy(MemberKey),
    /// A deregistered member has drained.
    Left(MemberKey),
    /// A closed listener has drained.
    Drained(VpceServiceId, ListenerPort),
}

/// The source of a change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Decision<'a> {
    /// This gateway: the change is saved, and refused if a listener can't be bound.
    Own,
    /// The claims of gateways, which are stored separately: nothing is saved; refused if a listener can't be bound.
    Claims,
    /// Another gateway, with these ports: nothing is saved, and failed binds are retried.
    Elsewhere(&'a PortAllocations),
}

/// The phase of a fault that is due.
#[derive(Debug, Clone, Copy)]
pub(super) enum FaultPhase {
    Begin,
    End,
}

/// A completed port move.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Moved {
    /// The target.
    pub target: TargetId,
    /// Its load balancer.
    pub service: VpceServiceId,
    /// The old port, which drains.
    pub from: ListenerPort,
    /// The new port.
    pub to: ListenerPort,
}

/// A listener that is about to close: the old port of a moved target accepts for a while longer.
pub(super) struct RetiringListener {
    listener: Arc<Listener>,
    /// Cancelled to close it at once.
    close_now: CancellationToken,
    is_closed: watch::Receiver<bool>,
}

/// The owner's state.
pub(super) struct Owner<P: Plane> {
    pub(super) plane: Arc<P>,
    pub(super) desired: Desired,
    /// The config.
    pub(super) config: ConfigBase,
    /// The inventory.
    pub(super) inventory: Arc<Inventory>,
    /// The difference between the two, in its saved form.
    pub(super) resources: ApiResources,
    /// The config of the file, if several gateways share the state and its config.
    pub(super) file: Option<ConfigBase>,
    /// Listeners of another gateway's change that can't be bound here, and why.
    pub(super) unbound: BTreeMap<SocketAddr, String>,
    /// Whether another process serves as this gateway.
    pub(super) is_taken: bool,
    pub(super) shared_status: watch::Sender<SharedStatus>,
    /// Operators' overrides, and the config's faults.
    pub(super) overrides: OperatorOverrides,
    /// The overrides for readers.
    pub(super) published_overrides: watch::Sender<Arc<OperatorOverrides>>,
    /// The latest epoch of a fault's or a shift's timers.
    pub(super) epoch: u64,
    /// Publishes the inventory.
    pub(super) inventories: watch::Sender<Arc<Inventory>>,
    /// The pace of the config.
    pub(super) configured_pace: Pace,
    pub(super) pace: watch::Sender<Pace>,
    /// No transition before this time, after a failed one.
    pub(super) not_before: tokio::time::Instant,
    pub(super) held: PortAllocations,
    pub(super) saved: SavedState,
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(super) prober: HealthProber,
    pub(super) metrics: ControlMetrics,
    pub(super) status: watch::Sender<Option<String>>,
    pub(super) events: EventLog,
    /// The keys of `draining`, for readers.
    pub(super) published_draining: watch::Sender<Vec<(VpceServiceId, ListenerPort)>>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) move_grace: Duration,
    pub(super) drains: TaskTracker,
    pub(super) stop: CancellationToken,
    /// Removed targets whose ports still drain.
    pub(super) leaving: BTreeMap<(VpceServiceId, ListenerPort), TargetView>,
    /// Closed listeners that still drain, by port.
    pub(super) draining: HashMap<(VpceServiceId, ListenerPort), usize>,
    /// Listeners that are no longer in the snapshot, by address, until they are closed.
    pub(super) retiring: HashMap<SocketAddr, RetiringListener>,
}

impl<P: Plane> Owner<P> {
    /// Handles commands and health results until the process stops.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut health: mpsc::UnboundedReceiver<HealthEvent>,
    ) {
        let stop = self.stop.clone();
        loop {
            let due =
                if self.is_store_unreachable() { None } else { lifecycle::next(&self.inventory, *self.pace.borrow()) };
            let wait = due.as_ref().map(|(at, _)| Duration::from_millis(at.0.saturating_sub(Timestamp::now().0)));
            let not_before = self.not_before;
            let its_time = async move {
                match wait {
                    Some(wait) => tokio::time::sleep_until((tokio::time::Instant::now() + wait).max(not_before)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(command) = commands.recv() => {
                    self.handle(command).await;
                    if self.is_taken {
                        return;
                    }
                }
                () = its_time => if let Some((_, due)) = due {
                    // A failed transition is logged, and due again.
                    let _ = self.advance(&due).await;
                },
                Some(event) = health.recv() => {
                    let mut events = vec![event];
                    while let Ok(event) = health.try_recv() {
                        events.push(event);
                    }
                    self.observe(events).await;
                }
            }
        }
    }

    async fn handle(&mut self, command: Command) {
        // The caller may be gone; the change stays.
        match command {
            due @ (Command::FaultDue { .. } | Command::ShiftEnds { .. }) if self.is_store_unreachable() => {
                self.send_after(RETRY_DELAY, due)
            }
            Command::Inventory { desired, reply } => {
                let outcome = self.replace_inventory(*desired).await;
                let _ = reply.send(outcome);
            }
            Command::Edit { edit, reply } => {
                let _ = reply.send(replayed!(self, self.edit(&edit)));
            }
            Command::SetPace { pace, reply } => {
                let _ = reply.send(replayed!(self, self.set_pace(pace)));
            }
            Command::Push { reply } => {
                let _ = reply.send(replayed!(self, self.push()));
            }
            Command::Move { target, service, port, reply } => {
                let _ = reply.send(replayed!(self, self.move_target(&target, service.as_ref(), port)));
            }
            Command::Shift { service, zone, away, lasts, reply } => {
                let _ = reply.send(replayed!(self, self.shift(service.clone(), zone.clone(), away, lasts)));
            }
            Command::ShiftEnds { service, zone, epoch } => self.shift_ends(service, zone, epoch).await,
            Command::Register { target, service, member, registered, reply } => {
                let made = replayed!(self, self.register(target.clone(), service.clone(), member.clone(), registered));
                let _ = reply.send(made);
            }
            Command::Silent { zone, silent, reply } => {
                let mut desired = self.desired.clone();
                let _ = if silent { desired.silent_zones.insert(zone) } else { desired.silent_zones.remove(&zone) };
                let _ = reply.send(self.apply(desired).await);
            }
            Command::Resolved { addresses, reply } => {
                let _ = reply.send(replayed!(self, self.resolved(&addresses)));
            }
            Command::SetFault { fault, replace, reply } => {
                let _ = reply.send(replayed!(self, self.set_fault(fault.clone(), replace)));
            }
            Command::ClearFaults { name, reply } => {
                let _ = reply.send(replayed!(self, self.clear_faults(name.clone())));
            }
            Command::Follow { head, done } => {
                let outcome = self.follow(head).await;
                let _ = done.send(outcome);
            }
            Command::Serve { serving, reply } => {
                let _ = reply.send(self.serve(serving).await);
            }
            Command::Forget { gateway, reply } => {
                let _ = reply.send(replayed!(self, self.forget(&gateway)));
            }
            Command::FaultDue { name, epoch, due } => self.fault_due(name, epoch, due).await,
            Command::StillUnhealthy(key) => self.still_unhealthy(key).await,
            Command::Left(MemberKey { service, target, member }) => {
                let mut desired = self.desired.clone();
                if desired.draining.remove(&(service, target, member)).is_some() {
                    self.apply_or_log(desired).await;
                }
            }
            Command::Drained(service, port) => self.drained(service, port).await,
        }
    }

    /// Replaces the inventory, keeping overrides and health.
    async fn replace_inventory(&mut self, inventory: Result<Desired, String>) -> Result<Generation, ChangeError> {
        let outcome = match inventory {
            Ok(desired) => self.reload(&desired).await,
            Err(problems) => Err(ChangeError::Config(problems)),
        };
        self.metrics.reloaded(outcome.is_ok());
        match &outcome {
            Ok(generation) => {
                tracing::info!(generation = generation.0, "config reloaded");
                let message = format!("the config was reloaded; generation {} is in force", generation.0);
                self.events.record(EventKind::Reload, Severity::Info, "", message);
                self.status.send_replace(None);
            }
            Err(error) => {
                let reason = chain(error);
                tracing::error!(reason, "config refused; the snapshot in force stays");
                let message = format!("the config was refused, the former one stays in force: {reason}");
                self.events.record(EventKind::Reload, Severity::Warning, "", message);
                self.status.send_replace(Some(reason));
            }
        }
        outcome
    }

    /// Applies a config below the API's changes.
    pub(super) async fn rebase(&mut self, config: ConfigBase) -> Result<Generation, ChangeError> {
        let inventory = config.inventory.clone().with(&self.resources)?;
        let overrides = self.overrides.clone().over(&config.faults, Timestamp::now());
        let before = (std::mem::replace(&mut self.config, config), std::mem::replace(&mut self.overrides, overrides));
        let outcome = self.apply_inventory(inventory, true).await;
        if outcome.is_err() {
            (self.config, self.overrides) = before;
            return outcome;
        }
        self.start_clocks();
        outcome
    }

    /// Changes the inventory: all or nothing.
    async fn edit(&mut self, edit: &Edit) -> Result<Box<dyn Any + Send>, ChangeError> {
        let mut draft = Draft { inventory: (*self.inventory).clone(), now: Timestamp::now() };
        let answer = edit(&mut draft)?;
        if draft.inventory != *self.inventory {
            self.apply_inventory(draft.inventory, false).await?;
        }
        Ok(answer)
    }

    /// Executes the next transition; returns whether there was one.
    async fn push(&mut self) -> Result<bool, ChangeError> {
        match lifecycle::next_pushed(&self.inventory) {
            Some(due) => self.advance(&due).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Executes a transition. If that is refused, the object is marked as failed. An error means that neither could be
    /// saved: nothing is changed, and the transition is due again.
    async fn advance(&mut self, due: &DueTransition) -> Result<(), ChangeError> {
        let now = Timestamp::now();
        let mut inventory = (*self.inventory).clone();
        lifecycle::execute(&mut inventory, due, now);
        let Err(error) = self.apply_inventory(inventory, false).await else { return Ok(()) };
        let reason = chain(&error);
        tracing::warn!(?due, reason, "failed to execute a transition");
        let mut inventory = (*self.inventory).clone();
        lifecycle::fail(&mut inventory, due, &reason, now);
        let lasting = !matches!(error, ChangeError::Save(_));
        if lasting && self.apply_inventory(inventory, false).await.is_ok() {
            return Ok(());
        }
        self.not_before = tokio::time::Instant::now() + RETRY_DELAY;
        Err(error)
    }

    /// Applies `inventory`. If the plan does not depend on the change, it is only saved and published.
    async fn apply_inventory(&mut self, inventory: Inventory, always: bool) -> Result<Generation, ChangeError> {
        let mut desired = self.desired_of(&inventory);
        let mut overrides = self.overrides.clone();
        overrides.forget_absent(&desired);
        overrides.apply_to(&mut desired);
        let resources = inventory.resources(&self.config.inventory);
        let before =
            (std::mem::replace(&mut self.resources, resources), std::mem::replace(&mut self.overrides, overrides));
        let outcome = if always || desired != self.desired {
            self.apply(desired).await.map(drop)
        } else {
            self.saved.save(&self.held, &self.resources, &self.overrides).await.map_err(ChangeError::Save)
        };
        if let Err(error) = outcome {
            (self.resources, self.overrides) = before;
            return Err(error);
        }
        self.publish_overrides();
        self.inventory = Arc::new(inventory);
        self.inventories.send_replace(Arc::clone(&self.inventory));
        Ok(self.snapshots.borrow().generation)
    }

    /// The desired state for `inventory`, with this gateway's own health and draining members.
    pub(super) fn desired_of(&self, inventory: &Inventory) -> Desired {
        let mut desired = inventory.desired();
        desired.health = self.desired.health.clone();
        desired.silent_zones = self.desired.silent_zones.clone();
        desired.served_here.clone_from(&self.desired.served_here);
        desired.served_anywhere.clone_from(&self.desired.served_anywhere);
        desired.own_addresses = self.desired.own_addresses.clone();
        desired.own_names = self.desired.own_names.clone();
        desired.resolved = self.desired.resolved.clone();
        desired.draining = self.desired.draining.clone();
        desired
    }

    /// Applies the addresses of nodes' host names.
    async fn resolved(&mut self, addresses: &BTreeMap<DnsName, IpAddr>) -> Result<Generation, ChangeError> {
        if *addresses == self.desired.resolved {
            return Ok(self.snapshots.borrow().generation);
        }
        self.apply(Desired { resolved: addresses.clone(), ..self.desired.clone() }).await
    }

    pub(super) async fn move_target(
        &mut self,
        target: &TargetId,
        service: Option<&VpceServiceId>,
        port: Option<ListenerPort>,
    ) -> Result<Moved, ChangeError> {
        let view = self.find(target, service)?;
        let (service, from) = (view.service, view.port);
        let to = port.or_else(|| self.free_port(&service));
        let to =
            to.ok_or_else(|| EditError::Conflict(format!("no port of {service} is free; `{target}` keeps {from}")))?;
        if to == from {
            return Err(EditError::Conflict(format!("target `{target}` has port {from} already")).into());
        }
        let mut desired = self.desired.clone();
        desired.moves.insert((service.clone(), target.clone()), to);
        self.apply(desired).await?;
        // From here on the ledger has the port.
        self.desired.moves.clear();
        tracing::info!(target.id = %target, from = from.get(), to = to.get(), "target moved to another port");
        let message = format!("{target} moved from port {from} to port {to}; port {from} drains");
        self.events.record(EventKind::Move, Severity::Info, target.as_str(), message);
        Ok(Moved { target: target.clone(), service, from, to })
    }

    /// The target with this name; an error if there are several.
    pub(super) fn find(&self, target: &TargetId, service: Option<&VpceServiceId>) -> Result<TargetView, ChangeError> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let fits = |view: &&TargetView| view.id == *target && service.is_none_or(|wanted| view.service == *wanted);
        let found: Vec<_> = snapshot.targets.iter().filter(fits).collect();
        match found.as_slice() {
            [view] => Ok((*view).clone()),
            [] => {
                let on = service.map(|service| format!(" on {service}")).unwrap_or_default();
                let text = format!("there is no target `{target}`{on}; `plgw plan` lists the targets");
                Err(ChangeError::Refused(Refused::NoSuchTarget, text))
            }
            several => {
                let services: Vec<_> = several.iter().map(|view| view.service.as_str()).collect();
                let services = services.join(" and ");
                let text = format!("target `{target}` is on {services}; name the load balancer on which to move it");
                Err(ChangeError::Refused(Refused::AmbiguousTarget, text))
            }
        }
    }

    /// The lowest port of the load balancer that is neither assigned nor draining.
    fn free_port(&self, service: &VpceServiceId) -> Option<ListenerPort> {
        let range = self
            .desired
            .projects
            .iter()
            .flat_map(|project| &project.services)
            .find(|candidate| candidate.id == *service)?
            .ports;
        let ledger = self.held.ledgers.get(service)?;
        let taken: std::collections::BTreeSet<_> =
            ledger.ports().map(|(_, port)| port).chain(ledger.draining()).collect();
        range.ports().find(|port| !taken.contains(port))
    }

    async fn observe(&mut self, events: Vec<HealthEvent>) {
        let mut desired = self.desired.clone();
        for event in events {
            let key = (event.key.service.clone(), event.key.target.clone(), event.key.member.clone());
            let before = desired.health.get(&key).map(|health| health.state);
            self.log_health(&event, before);
            let mut state = event.state;
            if state == TargetState::Unhealthy
                && let Some(interval) = self.draining_interval(&event.key.service)
            {
                if before == Some(TargetState::Unhealthy) {
                    // Its interval has already ended.
                } else {
                    state = TargetState::UnhealthyDraining;
                    if before != Some(state) {
                        self.send_after(interval, Command::StillUnhealthy(event.key.clone()));
                    }
                }
            }
            desired.health.insert(key, Health { state, reach: event.reach });
        }
        self.apply_or_log(desired).await;
    }

    /// Logs a health change once. A change of reach alone, as by the first failed check, is not one.
    fn log_health(&self, event: &HealthEvent, before: Option<TargetState>) {
        let HealthEvent { key, address, state, reason, cause, reach } = event;
        let (reach, cause) = (reach.map(ConnectError::label), cause.map(ConnectError::label));
        // The draining interval is part of being unhealthy.
        let is_same = before == Some(*state)
            || (before == Some(TargetState::UnhealthyDraining) && *state == TargetState::Unhealthy)
            || (before.is_none() && *state == TargetState::Initial);
        if is_same {
            tracing::debug!(
                service.id = %key.service, target.id = %key.target, target.member = key.member, target.addr = %address, reach,
                "target reach changed"
            );
            return;
        }
        tracing::info!(
            service.id = %key.service, target.id = %key.target, target.member = key.member, target.addr = %address,
            state = state.label(), reason = reason.map(HealthReason::code), cause, reach, "target health changed"
        );
        let severity = if *state == TargetState::Unhealthy { Severity::Warning } else { Severity::Info };
        let why = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        let message = format!("{} of {} at {address} is {}{why}", key.member, key.target, state.label());
        self.events.record(EventKind::Health, severity, key.target.as_str(), message);
    }

    /// Records changes of zones and endpoints.
    fn record_changes(&self, old: &Snapshot, new: &Snapshot) {
        for view in &new.zones {
            let before = old.zones.iter().find(|zone| zone.service == view.service && zone.zone == view.zone);
            let is_in_dns = |zone: &ZoneView| zone.addresses.iter().any(|address| address.in_dns);
            let Some(before) = before.filter(|before| is_in_dns(before) != is_in_dns(view)) else { continue };
            let (severity, what) = match is_in_dns(view) {
                true => (Severity::Info, "are in DNS again".to_owned()),
                false => (Severity::Warning, format!("left DNS{}", view.reason().unwrap_or_default())),
            };
            let message = format!("the addresses of {} in {} {what}", view.service, before.zone);
            self.events.record(EventKind::Zone, severity, view.zone.as_str(), message);
        }
        for (id, access) in &new.endpoints {
            let before = old.endpoints.get(id).map(|access| access.state);
            if before.is_some_and(|before| before != access.state) {
                let message = format!("endpoint {id} is {}", access.state.label());
                self.events.record(EventKind::Endpoint, Severity::Info, id.as_str(), message);
            }
        }
    }

    /// How long an unhealthy member of the load balancer is `unhealthy.draining`; `None`: it never is.
    fn draining_interval(&self, service: &VpceServiceId) -> Option<Duration> {
        let services = self.desired.projects.iter().flat_map(|project| &project.services);
        let attributes = &services.into_iter().find(|candidate| candidate.id == *service)?.attributes;
        let interval = attributes.unhealthy_draining_interval;
        (!attributes.terminate_on_unhealthy && !interval.is_zero()).then_some(interval)
    }

    /// Sends a command to this task after a delay.
    pub(super) fn send_after(&self, after: Duration, command: Command) {
        let (commands, stop) = (self.commands.clone(), self.stop.clone());
        self.drains.spawn(async move {
            if stop.run_until_cancelled(tokio::time::sleep(after)).await.is_some() {
                // The owner is gone only if the process is stopping.
                let _ = commands.send(command);
            }
        });
    }

    async fn still_unhealthy(&mut self, key: MemberKey) {
        let mut desired = self.desired.clone();
        let health = desired.health.get_mut(&(key.service, key.target, key.member));
        if let Some(health) = health.filter(|health| health.state == TargetState::UnhealthyDraining) {
            health.state = TargetState::Unhealthy;
            self.apply_or_log(desired).await;
        }
    }

    /// Applies a change without a caller; errors are logged.
    pub(super) async fn apply_or_log(&mut self, desired: Desired) {
        if let Err(error) = self.apply(desired).await {
            tracing::error!(reason = chain(&error), "failed to apply a change of health");
        }
    }

    /// Applies `overrides`: all or nothing.
    pub(super) async fn set_overrides(&mut self, overrides: OperatorOverrides) -> Result<Generation, ChangeError> {
        let mut desired = self.desired.clone();
        overrides.apply_to(&mut desired);
        let before = std::mem::replace(&mut self.overrides, overrides);
        let outcome = if desired == self.desired {
            let saved = self.saved.save(&self.held, &self.resources, &self.overrides).await;
            saved.map(|()| self.snapshots.borrow().generation).map_err(ChangeError::Save)
        } else {
            self.apply(desired).await
        };
        match &outcome {
            Ok(_) => self.publish_overrides(),
            Err(_) => self.overrides = before,
        }
        outcome
    }

    /// The same without a caller; false when it must be retried.
    pub(super) async fn set_overrides_or_log(&mut self, overrides: OperatorOverrides) -> bool {
        let outcome = self.set_overrides(overrides).await;
        if let Err(error) = &outcome {
            tracing::error!(reason = chain(error), "failed to apply a due change; retrying");
        }
        outcome.is_ok()
    }

    async fn set_pace(&mut self, pace: Pace) -> Result<(), ChangeError> {
        let mut overrides = self.overrides.clone();
        // Gateways that share the state may have another fault in their configs.
        let is_shared = self.saved.gateway().is_some();
        overrides.pace = (is_shared || pace != self.configured_pace).then_some(pace);
        self.set_overrides(overrides).await.map(drop)
    }

    async fn drained(&mut self, service: VpceServiceId, port: ListenerPort) {
        let key = (service, port);
        let left = self.draining.get(&key).copied().unwrap_or(1) - 1;
        if left > 0 {
            self.draining.insert(key, left);
            return;
        }
        self.draining.remove(&key);
        self.publish_draining();
        self.release_idle_ports().await;
        if self.leaving.remove(&key).is_some() {
            // Removes it from the snapshot.
            self.apply_or_log(self.desired.clone()).await;
        }
    }

    /// Applies a change of this gateway; every change passes through here.
    pub(super) async fn apply(&mut self, desired: Desired) -> Result<Generation, ChangeError> {
        self.apply_decided(desired, Decision::Own).await
    }

    /// The same for a decision that is not saved again.
    pub(super) async fn apply_decided(
        &mut self,
        desired: Desired,
        decision: Decision<'_>,
    ) -> Result<Generation, ChangeError> {
        let old = Arc::clone(&self.snapshots.borrow());
        let generation = Generation(old.generation.0 + 1);
        let before = if let Decision::Elsewhere(held) = decision { held } else { &self.held };
        let (mut snapshot, mut held) = compile(&desired, before, generation)?;
        let mut changes = diff(&old, &snapshot);
        let mut desired = desired;
        if keep_draining(&mut desired, &changes) {
            (snapshot, held) = compile(&desired, before, generation)?;
            changes = diff(&old, &snapshot);
        }
        self.saved.wait_for_known(&mut held);
        if !matches!(decision, Decision::Own) && *before != held {
            let reason = "this gateway makes another plan of the shared state than the gateway that saved it; run the same \
                          version of the program on all of them";
            return Err(SavedError::Unusable(reason.to_owned()).into());
        }
        let leaving = self.leaving(&old, &snapshot, &changes);
        snapshot.leaving = leaving.values().cloned().collect();
        let mut snapshot = Arc::new(snapshot);
        self.close_retiring(&changes).await;
        let (bound, unbound) = self.plane.bind(&changes, &snapshot);
        // Another gateway's decision stays, so the rest of it is applied here.
        let is_elsewhere = matches!(decision, Decision::Elsewhere(_));
        let may_fail = |address: &SocketAddr| is_elsewhere || self.unbound.contains_key(address);
        if unbound.keys().any(|address| !may_fail(address)) {
            return Err(ChangeError::Bind(unbound.into_values().collect()));
        }
        if !unbound.is_empty() {
            Arc::make_mut(&mut snapshot).listeners.retain(|address, _| !unbound.contains_key(address));
        }
        if matches!(decision, Decision::Own) {
            self.saved.save(&held, &self.resources, &self.overrides).await?;
        }
        self.held = held;
        self.desired = desired;
        self.unbound = unbound;
        self.leaving = leaving;
        self.plane.open(bound, &snapshot).await;
        self.metrics.published(&snapshot, &self.desired);
        self.snapshots.send_replace(Arc::clone(&snapshot));
        self.record_changes(&old, &snapshot);
        self.plane.retarget(&changes, &snapshot).await;
        self.prober.set(probed(&self.desired, &snapshot));
        self.forget_absent_members(&snapshot);
        self.update_retiring_access(&snapshot).await;
        self.retire(&old, &changes);
        self.drain_removed(&changes);
        self.release_idle_ports().await;
        for notice in snapshot.notices.iter().filter(|notice| !old.notices.contains(notice)) {
            tracing::warn!("{notice}");
        }
        Ok(generation)
    }

    /// The targets that `snapshot` no longer has and whose ports drain: ports that were closed with their target, not
    /// with their endpoint, and that no other target has.
    fn leaving(
        &self,
        old: &Snapshot,
        snapshot: &Snapshot,
        changes: &Changes,
    ) -> BTreeMap<(VpceServiceId, ListenerPort), TargetView> {
        let is_there = |view: &TargetView| {
            snapshot.targets.iter().any(|other| other.service == view.service && other.id == view.id)
        };
        let closes = |view: &TargetView| {
            changes.close.iter().filter_map(|(address, _)| old.listeners.get(address)).any(|listener| {
                let group = &listener.group;
                matches!(listener.access, ListenerAccess::Endpoint(_))
                    && group.service == view.service
                    && group.target == view.id
            })
        };
        let gone = old.targets.iter().filter(|view| !is_there(view) && closes(view)).map(|view| {
            let mut view = view.clone();
            view.state = TargetState::Draining;
            view.members.iter_mut().for_each(|member| member.state = TargetState::Draining);
            ((view.service.clone(), view.port), view)
        });
        self.leaving.clone().into_iter().chain(gone).collect()
    }

    /// Closes retiring listeners at addresses that are about to be opened.
    async fn close_retiring(&mut self, changes: &Changes) {
        self.retiring.retain(|_, retiring| !*retiring.is_closed.borrow());
        for listener in &changes.open {
            if let Some(mut retiring) = self.retiring.remove(&listener.address) {
                retiring.close_now.cancel();
                // The sender is dropped without a value only if the process is stopping.
                let _ = retiring.is_closed.wait_for(|closed| *closed).await;
            }
        }
    }

    /// Applies an endpoint's current access rules to the retiring ports of moved targets.
    async fn update_retiring_access(&mut self, snapshot: &Arc<Snapshot>) {
        let mut changes = Changes::default();
        for retiring in self.retiring.values_mut() {
            let ListenerAccess::Endpoint(before) = &retiring.listener.access else { continue };
            match snapshot.endpoints.get(&before.id) {
                Some(access) if access == before => {}
                Some(access) => {
                    let mut listener = Listener::clone(&retiring.listener);
                    listener.access = ListenerAccess::Endpoint(Arc::clone(access));
                    retiring.listener = Arc::new(listener);
                    changes.retarget.push(Arc::clone(&retiring.listener));
                }
                None => retiring.close_now.cancel(),
            }
        }
        if !changes.retarget.is_empty() {
            self.plane.retarget(&changes, snapshot).await;
        }
    }

    /// Drops the health of removed members, so that a member that returns starts as `initial`.
    fn forget_absent_members(&mut self, snapshot: &Snapshot) {
        let present: std::collections::BTreeSet<_> = snapshot
            .listeners
            .values()
            .flat_map(|listener| {
                let group = &listener.group;
                group.members.iter().map(|member| (&group.service, &group.target, member.name.as_str()))
            })
            .collect();
        self.desired
            .health
            .retain(|(service, target, member), _| present.contains(&(service, target, member.as_str())));
    }

    /// Releases unassigned ports that this process does not have open: their flows have ended, or nothing listened on
    /// them (a paused cluster, no endpoint). Other gateways that share the ledger release them for themselves.
    pub(super) async fn release_idle_ports(&mut self) {
        if self.is_store_unreachable() {
            return;
        }
        let mut held = self.held.clone();
        let is_idle = |(service, port): &(&VpceServiceId, ListenerPort)| {
            !self.draining.contains_key(&((*service).clone(), *port))
        };
        if let Some(gateway) = self.saved.gateway() {
            for (service, port) in self.held.waiting_for(gateway).filter(is_idle) {
                held.acknowledge(gateway, service, port);
            }
        } else {
            for (service, port) in self.held.draining().filter(is_idle) {
                held.release(service, port);
            }
        }
        if held != self.held {
            self.keep(held).await;
        }
    }

    /// Saves released ports.
    async fn keep(&mut self, held: PortAllocations) {
        match self.saved.save(&held, &self.resources, &self.overrides).await {
            Ok(()) => self.held = held,
            // Another gateway's change will be followed first, and the ports are released after it.
            Err(SavedError::Store(StoreError::Conflict { .. })) if self.saved.gateway().is_some() => {
                tracing::debug!("ports are released after another gateway's change");
            }
            // The ports stay reserved: better to have fewer ports than to assign one twice.
            Err(error) => tracing::error!(reason = chain(&error), "failed to release ports"),
        }
    }

    /// Drains the flows of members that left a group, or ends them.
    fn drain_removed(&self, changes: &Changes) {
        for leave in changes.leave.iter().cloned() {
            let key = MemberKey {
                service: leave.service.clone(),
                target: leave.target.clone(),
                member: leave.member.name.clone(),
            };
            let (plane, commands, stop) = (Arc::clone(&self.plane), self.commands.clone(), self.stop.clone());
            let reason = leave.reason;
            self.drains.spawn(async move {
                let parted = stop.run_until_cancelled(plane.leave(leave)).await;
                if parted.is_some() && reason == DrainReason::Deregistered {
                    // The owner is gone only if the process is stopping.
                    let _ = commands.send(Command::Left(key));
                }
            });
        }
    }

    /// Closes listeners that are not in the new snapshot, and drains them. A moved target's old port accepts for a
    /// while longer, for clients that have just resolved it.
    fn retire(&mut self, old: &Snapshot, changes: &Changes) {
        for (address, reason) in &changes.close {
            let Some(listener) = old.listeners.get(address) else { continue };
            let group = &listener.group;
            // The ports of public addresses are not in a ledger.
            let key = match (&listener.access, ListenerPort::try_from(address.port())) {
                (ListenerAccess::Endpoint(_), Ok(port)) => Some((group.service.clone(), port)),
                _ => None,
            };
            if let Some(key) = &key {
                *self.draining.entry(key.clone()).or_default() += 1;
            }
            let grace = if *reason == DrainReason::Moved { self.move_grace } else { Duration::ZERO };
            let cut = match reason {
                // Its flows continue; only new ones may belong to another gateway.
                DrainReason::ClaimLost => None,
                DrainReason::Deregistered if !group.terminate_on_deregistration => None,
                reason => Some(*reason),
            };
            let (plane, commands) = (Arc::clone(&self.plane), self.commands.clone());
            let (closing, delay) = (Arc::clone(listener), group.deregistration_delay);
            let (close_now, (closed, is_closed)) = (CancellationToken::new(), watch::channel(false));
            let retiring = RetiringListener { listener: Arc::clone(listener), close_now: close_now.clone(), is_closed };
            self.retiring.insert(*address, retiring);
            let work = async move {
                let _ = tokio::time::timeout(grace, close_now.cancelled()).await;
                let open = plane.close(&closing).await;
                closed.send_replace(true);
                plane.drain(open, delay, cut).await;
                if let Some((service, port)) = key {
                    // The owner is gone only if the process is stopping.
                    let _ = commands.send(Command::Drained(service, port));
                }
            };
            let stop = self.stop.clone();
            self.drains.spawn(async move {
                stop.run_until_cancelled(work).await;
            });
        }
        self.publish_draining();
    }

    fn publish_draining(&self) {
        let mut ports: Vec<_> = self.draining.keys().cloned().collect();
        ports.sort();
        self.published_draining.send_replace(ports);
    }
}

/// Keeps members that have just left a remaining group as draining.
fn keep_draining(desired: &mut Desired, changes: &Changes) -> bool {
    let deregistered = changes.leave.iter().filter(|leave| leave.reason == DrainReason::Deregistered);
    let before = desired.draining.len();
    for MemberRemoval { service, target, member, .. } in deregistered {
        let key = (service.clone(), target.clone(), member.name.clone());
        desired.draining.insert(key, (member.zone.clone(), member.address));
    }
    desired.draining.len() > before
}

/// Every process behind a listener, once.
fn probed(desired: &Desired, snapshot: &Snapshot) -> Vec<ProbedMember> {
    let services: HashMap<_, _> =
        desired.projects.iter().flat_map(|project| &project.services).map(|service| (&service.id, service)).collect();
    let mut groups: HashMap<(&VpceServiceId, &TargetId), _> = HashMap::new();
    for listener in snapshot.listeners.values() {
        groups.insert((&listener.group.service, &listener.group.target), &listener.group);
    }
    groups
        .into_values()
        .filter_map(|group| Some((group, services.get(&group.service)?)))
        .flat_map(|(group, service)| {
            let probed = group
                .members
                .iter()
                .filter(|member| !matches!(member.state, TargetState::Draining | TargetState::Unused));
            probed.map(move |member| ProbedMember {
                key: MemberKey {
                    service: group.service.clone(),
                    target: group.target.clone(),
                    member: member.name.clone(),
                },
                address: member.address,
                source: service.source_addresses.first().copied(),
                proxy_protocol: group.proxy_protocol,
                check: service.attributes.health_check.clone(),
                fault: member.faulted.then_some(member.reach).flatten(),
            })
        })
        .collect()
}
