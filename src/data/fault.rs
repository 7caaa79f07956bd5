//! Which faults a new flow gets, and what they do to it.
//!
//! Decided once, when a flow starts. A flow without a fault never comes here and pays nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::shape::{Bucket, Lateness, Shape};
use crate::model::{Fault, FaultDirection, FaultKind, Refusal};

/// A fault at a listener.
#[derive(Debug, Clone)]
pub(crate) struct LiveFault {
    pub(crate) fault: Arc<Fault>,
    /// Flows that it could have affected since it was set: the next one's number.
    pub(crate) seen: Arc<AtomicU64>,
    /// Flows that it affected; counted on when it is set again.
    pub(crate) affected: Arc<AtomicU64>,
}

impl LiveFault {
    /// Whether the next flow gets the fault, by the fault's share.
    fn draw(&self) -> Option<FlowFault> {
        let n = self.seen.fetch_add(1, Ordering::Relaxed);
        if !self.fault.share.holds(self.fault.lot(n)) {
            return None;
        }
        self.affected.fetch_add(1, Ordering::Relaxed);
        Some(FlowFault { fault: Arc::clone(&self.fault), lot: self.fault.lot(!n) })
    }
}

/// A fault of a flow, with the flow's own random number.
#[derive(Debug)]
struct FlowFault {
    fault: Arc<Fault>,
    lot: u64,
}

/// The faults of one flow, and the bandwidth cap that it is under.
#[derive(Debug, Default)]
pub(crate) struct FlowFaults {
    faults: Vec<FlowFault>,
    /// The bandwidth cap of the endpoint's address: to the target, to the client.
    cap: Option<[Arc<Bucket>; 2]>,
}

impl FlowFaults {
    /// What the next flow gets; `None`: nothing, as most.
    ///
    /// # Errors
    ///
    /// The refusal, when a fault lets the connection come to nothing.
    pub(crate) fn draw(faults: &[LiveFault], cap: Option<&[Arc<Bucket>; 2]>) -> Result<Option<Arc<Self>>, Refusal> {
        if faults.is_empty() && cap.is_none() {
            return Ok(None);
        }
        let faults: Vec<_> = faults.iter().filter_map(LiveFault::draw).collect();
        for FlowFault { fault, .. } in &faults {
            match fault.kind {
                FaultKind::Refuse => return Err(Refusal::FaultReset),
                FaultKind::BlackHole => return Err(Refusal::FaultDropped),
                _ => {}
            }
        }
        Ok((!faults.is_empty() || cap.is_some()).then(|| Arc::new(Self { faults, cap: cap.cloned() })))
    }

    /// The faults' names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.faults.iter().map(|fault| fault.fault.name.clone()).collect()
    }

    /// The shapes of the client's and of the target's leg, and when and how the flow is to end. Times begin now.
    pub(crate) fn shapes(&self) -> ([Shape; 2], ScheduledEnd) {
        let mut shapes = [Shape::default(), Shape::default()];
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
                        shape.lateness = Some(Lateness::new(*delay, *jitter, lot.rotate_left(at as u32 * 32)));
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
                FaultKind::BlackHole
                | FaultKind::Refuse
                | FaultKind::ZoneOutage
                | FaultKind::TargetDown { .. }
                | FaultKind::PortMove { .. }
                | FaultKind::DnsFailure { .. } => {}
            }
        }
        (shapes, end)
    }
}

/// How a flow is to end before its time.
#[derive(Debug, Default)]
pub(crate) struct ScheduledEnd {
    pub(crate) reset_at: Option<Instant>,
    /// Bytes that it may still move; it is reset after the last.
    pub(crate) budget: Option<Rc<Cell<u64>>>,
    /// When the target's side is gone.
    pub(crate) half_open_at: Option<Instant>,
}
