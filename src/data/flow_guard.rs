//! Accounting of one flow: its opening and its end are each counted exactly once.

use std::rc::Rc;
use std::sync::Arc;

use super::context::WorkerContext;
use super::relay::Meter;
use super::table::FlowRecord;
use super::target_select::TargetSlot;
use super::{counters, flow_log_events};
use crate::model::{ConnectError, DrainReason, FlowEnd, Side};

/// An open flow: in the table, counted as opened. Closing or dropping it removes it from the table, counts it as
/// closed, and logs it, exactly once.
#[derive(Debug)]
pub(crate) struct FlowGuard {
    pub(crate) ctx: Rc<WorkerContext>,
    pub(crate) record: Arc<FlowRecord>,
    /// `None` once closed.
    slot: Option<TargetSlot>,
}

impl FlowGuard {
    pub(crate) fn open(ctx: Rc<WorkerContext>, record: FlowRecord, slot: TargetSlot) -> Self {
        let record = Arc::new(record);
        let shard = record.series.shard(ctx.index);
        shard.opened.add(1);
        if record.listener.group.fails_open(&record.listener.zone) {
            shard.unhealthy_routing.add(1);
        }
        ctx.state.table.insert(&record);
        ctx.state.sources.add(record.client.ip());
        Self { ctx, record, slot: Some(slot) }
    }

    /// The worker's counters for the flow's listener.
    pub(crate) fn shard(&self) -> &counters::Shard {
        self.record.series.shard(self.ctx.index)
    }

    /// A meter for the bytes of one poll.
    pub(crate) fn meter(&self) -> FlowMeter<'_> {
        FlowMeter { record: &self.record, shard: self.shard(), tick: self.ctx.clock.tick() }
    }

    /// Records the end; only the first call has an effect.
    pub(crate) fn close(&mut self, end: FlowEnd) {
        if self.slot.take().is_none() {
            return;
        }
        self.count(end);
        let record = &self.record;
        self.ctx.state.table.remove(record.id);
        self.ctx.state.sources.remove(record.client.ip());
        self.ctx.state.flow_ended();
        let age = record.opened.elapsed().unwrap_or_default();
        record.series.duration.record(age.as_secs_f64());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a bucket is chosen by it, and flows carry less than 2^52 bytes"
        )]
        record.series.bytes.record((record.bytes_to_target() + record.bytes_to_client()) as f64);
        if let Some(log) = &self.ctx.state.flow_log {
            log.ended(flow_log_events::ended(record, age, self.ctx.diag.as_ref(), end));
        }
        let member = record.member();
        tracing::info!(
                    target: "access",
        {            flow.id = %record.id,
                    client.addr = %record.client,
                    origin = record.origin.label(),
                    endpoint.id = record.listener.access.label(),
                    listener.port = record.listener.address.port(),
                    target.id = %record.listener.group.target,
                    target.addr = %member.address,
                    bytes.to_target = record.bytes_to_target(),
                    bytes.to_client = record.bytes_to_client(),
                    duration_ms = age.as_millis(),
                    end = end.label(),
                    detail = end.detail() },
                    "flow closed"
                );
    }

    fn count(&self, end: FlowEnd) {
        let shard = self.shard();
        shard.close(end);
        match end {
            FlowEnd::Failed { side: Side::Client, reset: true } => shard.client_resets.add(1),
            FlowEnd::Failed { side: Side::Target, reset: true } => shard.target_resets.add(1),
            FlowEnd::Unreachable(ConnectError::Refused) => shard.target_resets.add(1),
            FlowEnd::Unreachable(ConnectError::PortAllocation) => shard.port_allocation_errors.add(1),
            FlowEnd::Drained(_) | FlowEnd::Unreachable(_) => shard.gateway_resets.add(1),
            FlowEnd::Completed | FlowEnd::Idle | FlowEnd::Failed { .. } => {}
        }
    }
}

impl Drop for FlowGuard {
    fn drop(&mut self) {
        // Dropped without an end: the process stops, or the task panicked.
        self.close(FlowEnd::Drained(DrainReason::Shutdown));
    }
}

/// Counts the bytes that a flow relays in one poll of its task.
pub(crate) struct FlowMeter<'f> {
    record: &'f FlowRecord,
    shard: &'f counters::Shard,
    tick: u32,
}

impl FlowMeter<'_> {
    /// Runs once per flow, so it is kept off the hot path.
    #[cold]
    fn note_first_byte(&self) {
        let age = self.record.opened.elapsed().unwrap_or_default();
        self.record.series.first_byte.record(age.as_secs_f64());
    }
}

impl Meter for FlowMeter<'_> {
    #[inline]
    fn to_target(&self, n: usize) {
        self.record.add_to_target(n as u64);
        self.shard.to_target.add(n as u64);
        self.record.mark_active(self.tick);
    }

    #[inline]
    fn to_client(&self, n: usize) {
        if self.record.add_to_client(n as u64) == 0 && n > 0 {
            self.note_first_byte();
        }
        self.shard.to_client.add(n as u64);
        self.record.mark_active(self.tick);
    }
}
