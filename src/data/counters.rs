//! Numbers that the hot path adds to: one shard per worker, written by that worker alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Histogram;

use crate::model::{FlowEnd, Refusal};

/// A count with one writer: adding is a load and a store, no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds `n`. Only the shard's own worker may call this.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The count as last written.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counted for one listener. Aligned so that two workers never write to one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Shard {
    /// Flows admitted.
    pub(crate) opened: Count,
    /// Flows ended, in the order of [`FlowEnd::LABELS`].
    pub(crate) closed: [Count; FlowEnd::LABELS.len()],
    /// Payload bytes written to the target.
    pub(crate) to_target: Count,
    /// Payload bytes written to the client.
    pub(crate) to_client: Count,
    /// RSTs that came from the client and were passed on.
    pub(crate) client_resets: Count,
    /// RSTs that came from the target and were passed on.
    pub(crate) target_resets: Count,
    /// RSTs of the gateway's own making.
    pub(crate) gateway_resets: Count,
    /// Connections refused, in the order of [`Refusal::ALL`].
    pub(crate) refused: [Count; Refusal::ALL.len()],
    /// Flows for which no source port was free.
    pub(crate) port_allocation_errors: Count,
    /// Flows admitted while their group failed open.
    pub(crate) unhealthy_routing: Count,
}

impl Shard {
    /// Counts an end.
    pub(crate) fn close(&self, end: FlowEnd) {
        if let Some(at) = FlowEnd::LABELS.iter().position(|label| *label == end.label()) {
            self.closed[at].add(1);
        }
    }

    /// Counts a refusal.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        if let Some(at) = Refusal::ALL.iter().position(|other| *other == refusal) {
            self.refused[at].add(1);
        }
    }
}

/// What an endpoint counts in a zone over all of its series, those of targets that are gone included: a counter never falls.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressTotals {
    pub(crate) client_resets: u64,
    pub(crate) target_resets: u64,
    pub(crate) gateway_resets: u64,
    /// In the order of [`Refusal::ALL`].
    pub(crate) refused: [u64; Refusal::ALL.len()],
    pub(crate) port_allocation_errors: u64,
    pub(crate) unhealthy_routing: u64,
}

impl AddressTotals {
    /// Adds what `series` counted.
    pub(crate) fn add(&mut self, series: &Series) {
        for shard in &series.shards {
            self.client_resets += shard.client_resets.get();
            self.target_resets += shard.target_resets.get();
            self.gateway_resets += shard.gateway_resets.get();
            for (sum, count) in self.refused.iter_mut().zip(&shard.refused) {
                *sum += count.get();
            }
            self.port_allocation_errors += shard.port_allocation_errors.get();
            self.unhealthy_routing += shard.unhealthy_routing.get();
        }
    }
}

/// Which series a listener counts into: stays when the listener's port moves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SeriesKey {
    /// The endpoint's id, or `public`.
    pub(crate) endpoint: String,
    /// The zone of the listener's address.
    pub(crate) zone: String,
    /// The addressable target.
    pub(crate) target: String,
}

impl SeriesKey {
    /// The endpoint and the zone: at most one address.
    pub(crate) fn address(&self) -> (String, String) {
        (self.endpoint.clone(), self.zone.clone())
    }
}

/// A series' shards, one a worker.
#[derive(Debug)]
pub(crate) struct Series {
    /// What it counts for.
    pub(crate) key: SeriesKey,
    /// Seconds that the target took to accept a new flow's connection.
    pub(crate) connect_time: Histogram,
    /// Seconds from a flow's admission until its client had the first byte of its target.
    pub(crate) first_byte: Histogram,
    /// Seconds that flows lasted.
    pub(crate) duration: Histogram,
    /// Payload bytes of flows, both ways.
    pub(crate) bytes: Histogram,
    shards: Box<[Shard]>,
}

impl Series {
    /// Shards for `workers` workers.
    pub(crate) fn new(
        key: SeriesKey,
        [connect_time, first_byte, duration, bytes]: [Histogram; 4],
        workers: usize,
    ) -> Arc<Self> {
        let shards = (0..workers).map(|_| Shard::default()).collect();
        Arc::new(Self { key, connect_time, first_byte, duration, bytes, shards })
    }

    /// The shard that `worker` writes.
    #[inline]
    pub(crate) fn shard(&self, worker: usize) -> &Shard {
        &self.shards[worker]
    }

    /// The sum of `pick` over the workers.
    pub(crate) fn sum(&self, pick: impl Fn(&Shard) -> u64) -> u64 {
        self.shards.iter().map(pick).fold(0, u64::wrapping_add)
    }

    /// Flows that are open now. The closed side is read first, so a flow that ends meanwhile can't make it negative.
    pub(crate) fn open_flows(&self) -> u64 {
        let closed = self.sum(|shard| shard.closed.iter().map(Count::get).sum());
        self.sum(|shard| shard.opened.get()).saturating_sub(closed)
    }
}

/// What was carried since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Carried {
    /// Flows admitted.
    pub flows: u64,
    /// Connections refused.
    pub refused: u64,
    /// Payload bytes written to targets.
    pub bytes_to_target: u64,
    /// Payload bytes written to clients.
    pub bytes_to_client: u64,
}

impl Carried {
    /// Adds what `series` counted.
    pub(super) fn add(&mut self, series: &Series) {
        self.flows += series.sum(|shard| shard.opened.get());
        self.bytes_to_target += series.sum(|shard| shard.to_target.get());
        self.bytes_to_client += series.sum(|shard| shard.to_client.get());
        self.refused += series.sum(|shard| shard.refused.iter().map(Count::get).sum());
    }
}
