//! The flow table: every flow that is open, with what it carried so far.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use dashmap::DashMap;
use schemars::JsonSchema;
use serde::Serialize;

use super::counters::Series;
use crate::model::{DrainReason, FlowId, Origin};
use crate::plan::{Listener, Member};

/// A flow as the table holds it. Written by the flow's own worker; read by whoever lists flows.
#[derive(Debug)]
pub(crate) struct FlowRecord {
    pub(crate) id: FlowId,
    pub(crate) client: SocketAddr,
    pub(crate) origin: Origin,
    /// The route it started with, and keeps.
    pub(crate) listener: Arc<Listener>,
    /// Which member of the group it goes to.
    pub(crate) member: u16,
    pub(crate) worker: u16,
    /// Where its worker finds it.
    pub(crate) slot: AtomicU32,
    pub(crate) opened: SystemTime,
    /// Faults that befell it, by name.
    pub(crate) faults: Vec<String>,
    pub(crate) series: Arc<Series>,
    to_target: AtomicU64,
    to_client: AtomicU64,
    /// The worker's tick at which bytes last moved.
    last_active: AtomicU32,
    /// Ticks of silence that it may last.
    patience: AtomicU32,
    /// Ticks of silence after which it is looked at.
    step: AtomicU32,
    order: AtomicU8,
}

/// What a flow has been told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Go on.
    None,
    /// It has been silent for a while, or its patience is over.
    Expire,
    /// Move nothing until it is taken back.
    Frozen,
    /// End now.
    Cut(DrainReason),
}

/// The order to stand still as a byte.
const FROZEN: u8 = u8::MAX;
/// Orders as a byte: 0 none, 1 expire, then the reasons.
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
    #[expect(clippy::too_many_arguments, reason = "one place builds it, and each value is a field")]
    pub(crate) fn new(
        id: FlowId,
        client: SocketAddr,
        origin: Origin,
        listener: Arc<Listener>,
        member: u16,
        worker: u16,
        series: Arc<Series>,
        tick: u32,
        patience: u32,
        faults: Vec<String>,
    ) -> Self {
        Self {
            id,
            client,
            origin,
            listener,
            member,
            worker,
            slot: AtomicU32::new(u32::MAX),
            opened: SystemTime::now(),
            faults,
            series,
            to_target: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            last_active: AtomicU32::new(tick),
            patience: AtomicU32::new(patience),
            step: AtomicU32::new(patience),
            order: AtomicU8::new(0),
        }
    }

    /// Notes bytes that the target took. The flow's own worker only.
    #[inline]
    pub(crate) fn add_to_target(&self, n: u64) {
        self.to_target.store(self.to_target.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// Notes bytes that the client took. The flow's own worker only.
    #[inline]
    pub(crate) fn add_to_client(&self, n: u64) {
        self.to_client.store(self.to_client.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// Bytes written to the target.
    pub(crate) fn bytes_to_target(&self) -> u64 {
        self.to_target.load(Ordering::Relaxed)
    }

    /// Bytes written to the client.
    pub(crate) fn bytes_to_client(&self) -> u64 {
        self.to_client.load(Ordering::Relaxed)
    }

    /// Notes that something moved at `tick`.
    #[inline]
    pub(crate) fn touch(&self, tick: u32) {
        self.last_active.store(tick, Ordering::Relaxed);
    }

    /// Lets it be silent for `ticks` from `tick` on, and looks after it every `step` ticks.
    pub(crate) fn wait_for(&self, tick: u32, ticks: u32, step: u32) {
        self.touch(tick);
        self.step.store(step, Ordering::Relaxed);
        self.patience.store(ticks, Ordering::Relaxed);
    }

    /// The tick after which it has been silent for too long.
    pub(crate) fn deadline(&self) -> u32 {
        self.last_active.load(Ordering::Relaxed).saturating_add(self.patience.load(Ordering::Relaxed))
    }

    /// The process that it goes to.
    pub(crate) fn member(&self) -> &Member {
        &self.listener.group.members[usize::from(self.member)]
    }

    /// The tick at which something moved last.
    pub(crate) fn last_active(&self) -> u32 {
        self.last_active.load(Ordering::Relaxed)
    }

    /// The tick at which it is to be looked at, if nothing moves until then.
    pub(crate) fn next_look(&self, now: u32) -> u32 {
        let (active, step) = (self.last_active(), self.step.load(Ordering::Relaxed).max(1));
        active.saturating_add((now.saturating_sub(active) / step + 1).saturating_mul(step)).min(self.deadline())
    }

    /// Whether it has been silent for long enough to be looked at.
    pub(crate) fn is_silent(&self, now: u32) -> bool {
        now >= self.last_active().saturating_add(self.step.load(Ordering::Relaxed)).min(self.deadline())
    }

    /// Tells it to do something; an earlier order to end stands.
    pub(crate) fn tell(&self, order: Order) {
        let byte = match order {
            Order::None => return,
            Order::Expire => 1,
            Order::Frozen => FROZEN,
            Order::Cut(reason) => {
                2 + REASONS.iter().position(|other| *other == reason).map_or(0, |at| u8::try_from(at).unwrap_or(0))
            }
        };
        let overrides = |held| match order {
            Order::Expire => held == 0,
            _ => held < 2 || held == FROZEN,
        };
        let _ = self.order.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| overrides(held).then_some(byte));
    }

    /// What it has been told.
    #[inline]
    pub(crate) fn order(&self) -> Order {
        match self.order.load(Ordering::Relaxed) {
            0 => Order::None,
            1 => Order::Expire,
            FROZEN => Order::Frozen,
            byte => Order::Cut(REASONS[usize::from(byte) - 2]),
        }
    }

    /// Takes back an order to stand still; true when there was one.
    pub(crate) fn thaw(&self) -> bool {
        self.order.compare_exchange(FROZEN, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Takes back an order to expire.
    pub(crate) fn clear_expire(&self) {
        let _ = self.order.compare_exchange(1, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// A flow as people look at it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FlowView {
    /// Its id, in hex.
    pub id: FlowId,
    /// `tcp`, or `websocket` through the App Services front.
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
    /// The member's address; `None`: its backend is known by name alone.
    pub target_address: Option<SocketAddr>,
    /// Seconds since it was opened.
    pub age_seconds: f64,
    /// Bytes written to the target.
    pub bytes_to_target: u64,
    /// Bytes written to the client.
    pub bytes_to_client: u64,
    /// Faults that befell it, by name.
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
            faults: record.faults.clone(),
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
