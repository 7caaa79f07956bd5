//! Counters of the hot path: one shard per worker, written by that worker only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Histogram;

use crate::model::{FlowEnd, Refusal};

/// A counter with a single writer: adding is a load and a store, without a locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds `n`. Only the worker that owns the shard may call this.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The current value.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one worker for one listener, aligned so that two workers never share a cache line.
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
    /// RSTs from clients, forwarded to the target.
    pub(crate) client_resets: Count,
    /// RSTs from targets, forwarded to the client.
    pub(crate) target_resets: Count,
    /// RSTs that the gateway itself generated.
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

/// Totals of an endpoint in a zone, over all its series. They include removed targets, so that the counters never
/// decrease.
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

/// Identifies a listener's series; stable across port moves.
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
    /// Endpoint and zone, which identify at most one address.
    pub(crate) fn address(&self) -> (String, String) {
        (self.endpoint.clone(), self.zone.clone())
    }
}

/// The metrics of one listener: a shard per worker, and histograms.
#[derive(Debug)]
pub(crate) struct Series {
    /// The subject of the series.
    pub(crate) key: SeriesKey,
    /// Seconds until the target accepted a new flow's connection.
    pub(crate) connect_time: Histogram,
    /// Seconds from a flow's admission to the first byte that its client received.
    pub(crate) first_byte: Histogram,
    /// Duration of flows in seconds.
    pub(crate) duration: Histogram,
    /// Payload bytes of flows, both directions.
    pub(crate) bytes: Histogram,
    shards: Box<[Shard]>,
}

impl Series {
    /// Creates a series with a shard for each of `workers` workers.
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

    /// The number of open flows. `closed` is read first, so that a flow that ends meanwhile cannot make the result
    /// negative.
    pub(crate) fn open_flows(&self) -> u64 {
        let closed = self.sum(|shard| shard.closed.iter().map(Count::get).sum());
        self.sum(|shard| shard.opened.get()).saturating_sub(closed)
    }
}

/// Traffic since the start.
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
