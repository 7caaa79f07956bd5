//! Faults that befall flows: which ones a new flow gets, and the relay of a flow that has some.
//!
//! Decided once, when a flow starts. A flow without a fault takes another way through the code and pays nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::relay::{Meter, Relay, Tools};
use super::shape::{Bucket, Lateness, Shape, Shaped, ShapedLeg, poll_until};
use super::socket::Socket;
use crate::model::{DrainReason, Fault, FaultDirection, FaultKind, FlowEnd, Refusal};

/// A fault at a listener.
#[derive(Debug, Clone)]
pub(crate) struct LiveFault {
    pub(crate) fault: Arc<Fault>,
    /// Flows that it could have struck since it was set: the next one's number.
    pub(crate) seen: Arc<AtomicU64>,
    /// Flows that it struck; counted on when it is set again.
    pub(crate) struck: Arc<AtomicU64>,
}

impl LiveFault {
    /// The lot of the next flow, if the fault strikes it.
    fn strike(&self) -> Option<Struck> {
        let n = self.seen.fetch_add(1, Ordering::Relaxed);
        if !self.fault.share.holds(self.fault.lot(n)) {
            return None;
        }
        self.struck.fetch_add(1, Ordering::Relaxed);
        Some(Struck { fault: Arc::clone(&self.fault), lot: self.fault.lot(!n) })
    }
}

/// A fault that struck a flow, with the flow's own random number.
#[derive(Debug)]
pub(crate) struct Struck {
    fault: Arc<Fault>,
    lot: u64,
}

/// What is wrong with one flow.
#[derive(Debug, Default)]
pub(crate) struct Plight {
    struck: Vec<Struck>,
    /// The bandwidth cap of the endpoint's address: to the target, to the client.
    pub(crate) cap: Option<[Arc<Bucket>; 2]>,
}

impl Plight {
    /// What befalls the next flow.
    ///
    /// # Errors
    ///
    /// The refusal, when a fault lets it come to nothing.
    pub(crate) fn draw(faults: &[LiveFault]) -> Result<Self, Refusal> {
        let struck: Vec<_> = faults.iter().filter_map(LiveFault::strike).collect();
        for Struck { fault, .. } in &struck {
            match fault.kind {
                FaultKind::Refuse => return Err(Refusal::FaultReset),
                FaultKind::BlackHole => return Err(Refusal::FaultDropped),
                _ => {}
            }
        }
        Ok(Self { struck, cap: None })
    }

    /// The faults' names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.struck.iter().map(|struck| struck.fault.name.clone()).collect()
    }

    /// Whether the flow needs this file's relay at all.
    pub(crate) fn is_nothing(&self) -> bool {
        self.struck.is_empty() && self.cap.is_none()
    }

    /// The shapes of the client's and of the target's leg, and when and how the flow is to end.
    fn shapes(&self) -> ([Shape; 2], Doom) {
        let mut shapes = [Shape::default(), Shape::default()];
        let mut doom = Doom::default();
        if let Some(cap) = &self.cap {
            for (shape, bucket) in shapes.iter_mut().zip(cap) {
                shape.buckets.push(Arc::clone(bucket));
            }
        }
        for Struck { fault, lot } in &self.struck {
            let ways = |direction: FaultDirection| match direction {
                FaultDirection::Both => [true, true],
                FaultDirection::ToTarget => [true, false],
                FaultDirection::ToClient => [false, true],
            };
            let soon = |time| Instant::now() + time;
            match &fault.kind {
                FaultKind::Latency { delay, jitter, direction } => {
                    for (at, shape) in shapes.iter_mut().enumerate().filter(|(at, _)| ways(*direction)[*at]) {
                        shape.lateness = Some(Lateness::new(*delay, *jitter, lot.rotate_left(at as u32 * 32)));
                    }
                }
                FaultKind::Bandwidth { bytes_per_second, direction } => {
                    for (_, shape) in shapes.iter_mut().enumerate().filter(|(at, _)| ways(*direction)[*at]) {
                        shape.buckets.push(Arc::new(Bucket::new(*bytes_per_second)));
                    }
                }
                FaultKind::Reset { bytes, time } => {
                    if let Some(bytes) = bytes {
                        let budget = Rc::new(Cell::new(*bytes));
                        shapes.iter_mut().for_each(|shape| shape.budget = Some(Rc::clone(&budget)));
                        doom.budget = Some(budget);
                    }
                    doom.reset_at = time.map(soon).into_iter().chain(doom.reset_at).min();
                }
                FaultKind::HalfOpen { time } => {
                    doom.deaf_at = Some(soon(*time)).into_iter().chain(doom.deaf_at).min();
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
        (shapes, doom)
    }
}

/// How a flow is to end before its time.
#[derive(Debug, Default)]
struct Doom {
    reset_at: Option<Instant>,
    budget: Option<Rc<Cell<u64>>>,
    /// When the target's side is gone.
    deaf_at: Option<Instant>,
}

/// The relay of a flow with which something is wrong.
#[derive(Debug)]
pub(crate) struct FaultyRelay {
    from_client: Shaped,
    from_target: Shaped,
    doom: Doom,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It ended.
    Ended(FlowEnd),
    /// The target's side is gone; the client's goes on as if nothing were.
    HalfOpen,
}

impl FaultyRelay {
    /// Nothing moved yet; the faults' times begin now.
    pub(crate) fn new(plight: &Plight) -> Self {
        let ([from_client, from_target], doom) = plight.shapes();
        Self { from_client: Shaped::new(from_client), from_target: Shaped::new(from_target), doom }
    }

    /// Moves what can be moved. `wake_at` is when to poll again even if nothing comes.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        relay: &mut Relay,
        sides: [&mut Socket; 2],
        tools: &Tools,
        meter: &impl Meter,
        wake_at: &Cell<Option<Instant>>,
    ) -> Poll<Fate> {
        let Doom { reset_at, budget, deaf_at } = &self.doom;
        if let Some(at) = reset_at
            && poll_until(wake_at, *at).is_ready()
        {
            return Poll::Ready(Fate::Ended(FlowEnd::Drained(DrainReason::Fault)));
        }
        if let Some(at) = deaf_at
            && poll_until(wake_at, *at).is_ready()
        {
            return Poll::Ready(Fate::HalfOpen);
        }
        let [client, target] = sides;
        let mut client = ShapedLeg { socket: client, shaped: &mut self.from_client, wake_at };
        let mut target = ShapedLeg { socket: target, shaped: &mut self.from_target, wake_at };
        let moved = relay.poll(cx, &mut client, &mut target, tools, meter);
        if budget.as_ref().is_some_and(|budget| budget.get() == 0) {
            return Poll::Ready(Fate::Ended(FlowEnd::Drained(DrainReason::Fault)));
        }
        moved.map(|done| Fate::Ended(done.map_or_else(|failed| failed.as_end(), |()| FlowEnd::Completed)))
    }
}

/// The target is told that it is over, as by a host that cleans up behind a peer that vanished.
pub(crate) fn leave_target(target: &Socket) {
    target.reset();
    // Fails only on a socket that is gone already.
    let _ = rustix::net::shutdown(target, rustix::net::Shutdown::Both);
}
