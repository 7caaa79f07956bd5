//! The flow table: every flow that is open, with what it carried so far.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use dashmap::DashMap;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::counters::Series;
use super::fault::FlowFaults;
use super::route::Route;
use crate::model::{DrainReason, FlowId, Origin};
use crate::plan::{Listener, Member};

/// A flow as the table holds it. Its counts are written by the flow's own worker, its orders by any thread.
#[derive(Debug)]
pub(crate) struct FlowRecord {
    pub(crate) id: FlowId,
    pub(crate) client: SocketAddr,
    pub(crate) origin: Origin,
    /// The route it started with, and keeps.
    pub(crate) listener: Arc<Listener>,
    /// Which member of the group it goes to.
    member: u16,
    pub(crate) opened: SystemTime,
    /// Faults and the bandwidth cap that it is under.
    pub(crate) faults: Option<Arc<FlowFaults>>,
    pub(crate) series: Arc<Series>,
    to_target: AtomicU64,
    to_client: AtomicU64,
    /// The worker's tick at which it was active last.
    last_active: AtomicU32,
    /// Ticks of silence that it may last.
    idle_timeout: AtomicU32,
    /// Ticks of silence after which it is checked.
    check_interval: AtomicU32,
    order: AtomicU8,
    /// How often an order was given or taken back.
    changes: AtomicU32,
    changed: Notify,
}

/// What a flow is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Go on.
    None,
    /// End if it has been silent for too long.
    CheckIdle,
    /// Move nothing until it is thawed.
    Freeze,
    /// End now.
    End(DrainReason),
    /// Panic.
    #[cfg(test)]
    Panic,
}

/// The order to freeze as a byte.
const FREEZE: u8 = u8::MAX;
#[cfg(test)]
const PANIC: u8 = u8::MAX - 1;
/// Orders as a byte: 0 none, 1 check for silence, then these.
const REASONS: [DrainReason; 7] = [
    DrainReason::Fault,
    DrainReason::Deregistered,
    DrainReason::Unhealthy,
    DrainReason::Moved,
    DrainReason::EndpointRemoved,
    DrainReason::Killed,
    DrainReason::Shutdown,
];

impl FlowRecord {
    pub(crate) fn new(
        id: FlowId,
        client: SocketAddr,
        origin: Origin,
        route: &Route,
        member: usize,
        tick: u32,
        faults: Option<Arc<FlowFaults>>,
    ) -> Self {
        Self {
            id,
            client,
            origin,
            listener: Arc::clone(&route.listener),
            member: u16::try_from(member).unwrap_or(u16::MAX),
            opened: SystemTime::now(),
            faults,
            series: Arc::clone(&route.series),
            to_target: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            last_active: AtomicU32::new(tick),
            idle_timeout: AtomicU32::new(u32::MAX),
            check_interval: AtomicU32::new(u32::MAX),
            order: AtomicU8::new(0),
            changes: AtomicU32::new(0),
            changed: Notify::new(),
        }
    }

    /// Notes bytes that the target took. The flow's own worker only.
    #[inline]
    pub(crate) fn add_to_target(&self, n: u64) {
        self.to_target.store(self.to_target.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// Notes bytes that the client took, and returns how many it had taken before. The flow's own worker only.
    #[inline]
    pub(crate) fn add_to_client(&self, n: u64) -> u64 {
        let before = self.to_client.load(Ordering::Relaxed);
        self.to_client.store(before + n, Ordering::Relaxed);
        before
    }

    /// Bytes written to the target.
    pub(crate) fn bytes_to_target(&self) -> u64 {
        self.to_target.load(Ordering::Relaxed)
    }

    /// Bytes written to the client.
    pub(crate) fn bytes_to_client(&self) -> u64 {
        self.to_client.load(Ordering::Relaxed)
    }

    /// Notes that it was active at `tick`.
    #[inline]
    pub(crate) fn mark_active(&self, tick: u32) {
        self.last_active.store(tick, Ordering::Relaxed);
    }

    /// Lets it be silent for `timeout` ticks from `tick` on, with a check every `interval` ticks.
    pub(crate) fn start_idle_timeout(&self, tick: u32, timeout: u32, interval: u32) {
        self.mark_active(tick);
        self.check_interval.store(interval, Ordering::Relaxed);
        self.idle_timeout.store(timeout, Ordering::Relaxed);
    }

    /// The tick from which on it has been silent for too long.
    pub(crate) fn idle_deadline(&self) -> u32 {
        self.last_active().saturating_add(self.idle_timeout.load(Ordering::Relaxed))
    }

    /// The process that it goes to.
    pub(crate) fn member(&self) -> &Member {
        &self.listener.group.members[usize::from(self.member)]
    }

    /// The tick at which it was active last.
    pub(crate) fn last_active(&self) -> u32 {
        self.last_active.load(Ordering::Relaxed)
    }

    /// The tick at which it is to be checked, if it stays silent until then.
    pub(crate) fn next_check(&self, now: u32) -> u32 {
        let (active, interval) = (self.last_active(), self.check_interval.load(Ordering::Relaxed).max(1));
        let next = active.saturating_add((now.saturating_sub(active) / interval + 1).saturating_mul(interval));
        next.min(self.idle_deadline())
    }

    /// Whether it has been silent for long enough to be checked.
    pub(crate) fn is_silent(&self, now: u32) -> bool {
        now >= self.last_active().saturating_add(self.check_interval.load(Ordering::Relaxed)).min(self.idle_deadline())
    }

    /// Orders it to do something; an earlier order to end stands.
    pub(crate) fn give(&self, order: Order) {
        let byte = match order {
            Order::None => return,
            Order::CheckIdle => 1,
            Order::Freeze => FREEZE,
            #[cfg(test)]
            Order::Panic => PANIC,
            Order::End(reason) => {
                2 + REASONS.iter().position(|other| *other == reason).map_or(0, |at| u8::try_from(at).unwrap_or(0))
            }
        };
        let overrides = |present| match order {
            Order::CheckIdle => present == 0,
            _ => present < 2 || present == FREEZE,
        };
        let update = |present| overrides(present).then_some(byte);
        if self.order.fetch_update(Ordering::AcqRel, Ordering::Acquire, update).is_ok() {
            self.notify();
        }
    }

    /// The present order.
    #[inline]
    pub(crate) fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::None,
            1 => Order::CheckIdle,
            FREEZE => Order::Freeze,
            #[cfg(test)]
            PANIC => panic!("as asked"),
            byte => Order::End(REASONS[usize::from(byte) - 2]),
        }
    }

    /// Waits until the order may have changed since it was read last. For the flow's own task.
    pub(crate) fn order_changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Takes back an order to freeze.
    pub(crate) fn thaw(&self) {
        if self.order.compare_exchange(FREEZE, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.notify();
        }
    }

    fn notify(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }

    /// How often an order was given or taken back: while it stays, so does the order, but for one that the flow took back.
    #[inline]
    pub(crate) fn order_changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// Takes back an order to check for silence.
    pub(crate) fn checked(&self) {
        let _ = self.order.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// A flow for people and the API.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FlowView {
    /// Its id, in hex.
    pub id: FlowId,
    /// `tcp`, or `websocket` through the HTTP front end of App Services.
    #[schemars(extend("enum" = ["tcp", "websocket"]))]
    pub protocol: &'static str,
    /// The client's address.
    pub client: SocketAddr,
    /// Where the client is.
    pub origin: Origin,
    /// The endpoint that it came through, or `public`.
    pub endpoint: String,
    /// The address and port that it came to.
    pub listener: SocketAddr,
    /// The addressable target; the app of a WebSocket.
    pub target: String,
    /// The member of the target group; the backend of an app.
    pub member: String,
    /// The member's address; `None`: its backend has a name alone.
    pub target_address: Option<SocketAddr>,
    /// Seconds since it was opened.
    pub age_seconds: f64,
    /// Bytes written to the target.
    pub bytes_to_target: u64,
    /// Bytes written to the client.
    pub bytes_to_client: u64,
    /// Faults that affect it, by name.
    pub faults: Vec<String>,
}

impl From<&FlowRecord> for FlowView {
    fn from(record: &FlowRecord) -> Self {
        let member = record.member();
        Self {
            id: record.id,
            protocol: "tcp",
            client: record.client,
            origin: record.origin,
            endpoint: record.listener.gate.label().to_owned(),
            listener: record.listener.address,
            target: record.listener.group.target.to_string(),
            member: member.name.clone(),
            target_address: Some(member.address),
            age_seconds: record.opened.elapsed().map_or(0.0, |age| age.as_secs_f64()),
            bytes_to_target: record.bytes_to_target(),
            bytes_to_client: record.bytes_to_client(),
            faults: record.faults.as_deref().map(FlowFaults::names).unwrap_or_default(),
        }
    }
}

/// Every open flow by its id.
#[derive(Debug, Default)]
pub(crate) struct FlowTable {
    flows: DashMap<FlowId, Arc<FlowRecord>>,
}

impl FlowTable {
    pub(crate) fn insert(&self, record: &Arc<FlowRecord>) {
        self.flows.insert(record.id, Arc::clone(record));
    }

    pub(crate) fn remove(&self, id: FlowId) {
        self.flows.remove(&id);
    }

    pub(crate) fn get(&self, id: FlowId) -> Option<Arc<FlowRecord>> {
        self.flows.get(&id).map(|entry| Arc::clone(entry.value()))
    }

    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// The flows for which `wanted` holds.
    pub(crate) fn select(&self, wanted: impl Fn(&FlowRecord) -> bool) -> Vec<Arc<FlowRecord>> {
        self.flows.iter().filter(|entry| wanted(entry.value())).map(|entry| Arc::clone(entry.value())).collect()
    }
}
