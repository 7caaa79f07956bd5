//! Faults of flows: which faults a new flow gets, and their effects.
//!
//! They are chosen once, when a flow starts. Flows without faults bypass this module.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::shape::{Bucket, Latency, TrafficShape};
use crate::model::{Fault, FaultDirection, FaultKind, Refusal};

/// A fault that is active on a listener, with its counters.
#[derive(Debug, Clone)]
pub(crate) struct LiveFault {
    pub(crate) fault: Arc<Fault>,
    /// Flows considered since the fault was set; the next flow's sequence number.
    pub(crate) seen: Arc<AtomicU64>,
    /// Flows affected; kept when the fault is set again.
    pub(crate) affected: Arc<AtomicU64>,
}

impl LiveFault {
    /// Decides by the fault's share whether the next flow gets it.
    fn draw(&self) -> Option<FlowFault> {
        let n = self.seen.fetch_add(1, Ordering::Relaxed);
        if !self.fault.share.includes(self.fault.random_for(n)) {
            return None;
        }
        self.affected.fetch_add(1, Ordering::Relaxed);
        Some(FlowFault { fault: Arc::clone(&self.fault), lot: self.fault.random_for(!n) })
    }
}

/// A fault of one flow, with the flow's random number.
#[derive(Debug)]
struct FlowFault {
    fault: Arc<Fault>,
    lot: u64,
}

/// The faults and the bandwidth cap of one flow.
#[derive(Debug, Default)]
pub(crate) struct FlowFaults {
    faults: Vec<FlowFault>,
    /// The bandwidth cap of the endpoint's address: to the target, to the client.
    cap: Option<[Arc<Bucket>; 2]>,
}

impl FlowFaults {
    /// Chooses the faults of the next flow; `None` without any, the usual case.
    ///
    /// # Errors
    ///
    /// The refusal, when a fault refuses the connection.
    pub(crate) fn draw(faults: &[LiveFault], cap: Option<&[Arc<Bucket>; 2]>) -> Result<Option<Arc<Self>>, Refusal> {
        if faults.is_empty() && cap.is_none() {
            return Ok(None);
        }
        let faults: Vec<_> = faults.iter().filter_map(LiveFault::draw).collect();
        for FlowFault { fault, .. } in &faults {
            match fault.kind {
                FaultKind::Refuse {} => return Err(Refusal::FaultReset),
                FaultKind::BlackHole {} => return Err(Refusal::FaultDropped),
                _ => {}
            }
        }
        Ok((!faults.is_empty() || cap.is_some()).then(|| Arc::new(Self { faults, cap: cap.cloned() })))
    }

    /// The faults' names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.faults.iter().map(|fault| fault.fault.name.clone()).collect()
    }

    /// The traffic shapes of the client's and the target's leg, and the flow's scheduled end. Delays count from now.
    pub(crate) fn shapes(&self) -> ([TrafficShape; 2], ScheduledEnd) {
        let mut shapes = [TrafficShape::default(), TrafficShape::default()];
        let mut end = ScheduledEnd::default();
        if let Some(cap) = &self.cap {
            for (shape, bucket) in shapes.iter_mut().zip(cap) {
                shape.buckets.push(Arc::clone(bucket));
            }
        }
        for FlowFault { fault, lot } in &self.faults {
            let sides = |direction: FaultDirection| match direction {
                FaultDirection::Both => [true, true],
                FaultDirection::ToTarget => [true, false],
                FaultDirection::ToClient => [false, true],
            };
            let soon = |time| Instant::now() + time;
            match &fault.kind {
                FaultKind::Latency { delay, jitter, direction } => {
                    for (at, shape) in shapes.iter_mut().enumerate().filter(|(at, _)| sides(*direction)[*at]) {
                        shape.latency = Some(Latency::new(*delay, *jitter, lot.rotate_left(at as u32 * 32)));
                    }
                }
                FaultKind::Bandwidth { bytes_per_second, direction } => {
                    for (_, shape) in shapes.iter_mut().enumerate().filter(|(at, _)| sides(*direction)[*at]) {
                        shape.buckets.push(Arc::new(Bucket::new(*bytes_per_second)));
                    }
                }
                FaultKind::Reset { bytes, time } => {
                    if let Some(bytes) = bytes {
                        let budget = Rc::new(Cell::new(*bytes));
                        shapes.iter_mut().for_each(|shape| shape.budget = Some(Rc::clone(&budget)));
                        end.budget = Some(budget);
                    }
                    end.reset_at = time.map(soon).into_iter().chain(end.reset_at).min();
                }
                FaultKind::HalfOpen { time } => {
                    end.half_open_at = Some(soon(*time)).into_iter().chain(end.half_open_at).min();
                }
                FaultKind::SlowClose { delay } => shapes.iter_mut().for_each(|shape| shape.slow_close = Some(*delay)),
                FaultKind::BlackHole {}
                | FaultKind::Refuse {}
                | FaultKind::ZoneOutage {}
                | FaultKind::TargetDown { .. }
                | FaultKind::PortMove { .. }
                | FaultKind::DnsFailure { .. } => {}
            }
        }
        (shapes, end)
    }
}

/// A premature end that faults schedule.
#[derive(Debug, Default)]
pub(crate) struct ScheduledEnd {
    pub(crate) reset_at: Option<Instant>,
    /// Bytes that may still be relayed; the flow is reset after the last.
    pub(crate) budget: Option<Rc<Cell<u64>>>,
    /// When the target's side disappears.
    pub(crate) half_open_at: Option<Instant>,
}
