//! The flow table: every open flow with its byte counts.

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
use super::route::ListenerRoute;
use crate::model::{DrainReason, FlowId, Origin};
use crate::plan::{Listener, Member};

/// An open flow. Its counters are written by the flow's own worker, its order by any thread.
#[derive(Debug)]
pub(crate) struct FlowRecord {
    pub(crate) id: FlowId,
    pub(crate) client: SocketAddr,
    pub(crate) origin: Origin,
    /// The listener at admission; not changed by a reload.
    pub(crate) listener: Arc<Listener>,
    /// Index of its member in the target group.
    member: u16,
    pub(crate) opened: SystemTime,
    /// Its faults and bandwidth cap.
    pub(crate) faults: Option<Arc<FlowFaults>>,
    pub(crate) series: Arc<Series>,
    to_target: AtomicU64,
    to_client: AtomicU64,
    /// The worker's tick of the last activity.
    last_active: AtomicU32,
    /// Idle time-out in ticks.
    idle_timeout: AtomicU32,
    /// Ticks of silence between two checks.
    check_interval: AtomicU32,
    order: AtomicU8,
    /// The number of times that an order was set or withdrawn.
    changes: AtomicU32,
    changed: Notify,
}

/// A command to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowOrder {
    /// Continue.
    None,
    /// End if the idle time-out has passed.
    CheckIdle,
    /// Relay nothing until thawed.
    Freeze,
    /// End now.
    End(DrainReason),
    /// Panic.
    #[cfg(test)]
    Panic,
}

/// [`FlowOrder::Freeze`] as a byte.
const FREEZE: u8 = u8::MAX;
#[cfg(test)]
const PANIC: u8 = u8::MAX - 1;
/// Orders to end, as bytes from 2 on; 0 is no order, 1 is [`FlowOrder::CheckIdle`].
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
        route: &ListenerRoute,
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

    /// Counts bytes written to the target. For the flow's own worker only.
    #[inline]
    pub(crate) fn add_to_target(&self, n: u64) {
        self.to_target.store(self.to_target.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// Counts bytes written to the client, and returns the previous count. For the flow's own worker only.
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

    /// Records activity at `tick`.
    #[inline]
    pub(crate) fn mark_active(&self, tick: u32) {
        self.last_active.store(tick, Ordering::Relaxed);
    }

    /// Starts an idle time-out of `timeout` ticks at `tick`, with a check every `interval` ticks.
    pub(crate) fn start_idle_timeout(&self, tick: u32, timeout: u32, interval: u32) {
        self.mark_active(tick);
        self.check_interval.store(interval, Ordering::Relaxed);
        self.idle_timeout.store(timeout, Ordering::Relaxed);
    }

    /// The tick at which the idle time-out passes.
    pub(crate) fn idle_deadline(&self) -> u32 {
        self.last_active().saturating_add(self.idle_timeout.load(Ordering::Relaxed))
    }

    /// The member that it is connected to.
    pub(crate) fn member(&self) -> &Member {
        &self.listener.group.members[usize::from(self.member)]
    }

    /// The tick of the last activity.
    pub(crate) fn last_active(&self) -> u32 {
        self.last_active.load(Ordering::Relaxed)
    }

    /// The tick of the next check, if it stays silent until then.
    pub(crate) fn next_check(&self, now: u32) -> u32 {
        let (active, interval) = (self.last_active(), self.check_interval.load(Ordering::Relaxed).max(1));
        let next = active.saturating_add((now.saturating_sub(active) / interval + 1).saturating_mul(interval));
        next.min(self.idle_deadline())
    }

    /// Whether a check is due.
    pub(crate) fn is_silent(&self, now: u32) -> bool {
        now >= self.last_active().saturating_add(self.check_interval.load(Ordering::Relaxed)).min(self.idle_deadline())
    }

    /// Sets an order. An earlier order to end is not replaced.
    pub(crate) fn set_order(&self, order: FlowOrder) {
        let byte = match order {
            FlowOrder::None => return,
            FlowOrder::CheckIdle => 1,
            FlowOrder::Freeze => FREEZE,
            #[cfg(test)]
            FlowOrder::Panic => PANIC,
            FlowOrder::End(reason) => {
                2 + REASONS.iter().position(|other| *other == reason).map_or(0, |at| u8::try_from(at).unwrap_or(0))
            }
        };
        let overrides = |present| match order {
            FlowOrder::CheckIdle => present == 0,
            _ => present < 2 || present == FREEZE,
        };
        let update = |present| overrides(present).then_some(byte);
        if self.order.fetch_update(Ordering::AcqRel, Ordering::Acquire, update).is_ok() {
            self.notify();
        }
    }

    /// The current order.
    #[inline]
    pub(crate) fn order(&self) -> FlowOrder {
        match self.order.load(Ordering::Acquire) {
            0 => FlowOrder::None,
            1 => FlowOrder::CheckIdle,
            FREEZE => FlowOrder::Freeze,
            #[cfg(test)]
            PANIC => panic!("as asked"),
            byte => FlowOrder::End(REASONS[usize::from(byte) - 2]),
        }
    }

    /// Waits until the order may have changed. For the flow's own task.
    pub(crate) fn order_changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Withdraws [`FlowOrder::Freeze`].
    pub(crate) fn thaw(&self) {
        if self.order.compare_exchange(FREEZE, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.notify();
        }
    }

    fn notify(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }

    /// The number of times that an order was set or withdrawn. While it is unchanged, so is the order, unless the flow
    /// itself has withdrawn it.
    #[inline]
    pub(crate) fn order_changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// Withdraws [`FlowOrder::CheckIdle`].
    pub(crate) fn checked(&self) {
        let _ = self.order.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// A flow as the API and the CLI show it.
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
            endpoint: record.listener.access.label().to_owned(),
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

    /// The flows for which `wanted` returns true.
    pub(crate) fn select(&self, wanted: impl Fn(&FlowRecord) -> bool) -> Vec<Arc<FlowRecord>> {
        self.flows.iter().filter(|entry| wanted(entry.value())).map(|entry| Arc::clone(entry.value())).collect()
    }
}
