//! Faults that befall flows: which ones a new flow gets, and the relay of a flow that has some.
//!
//! Decided once, when a flow starts. A flow without a fault takes another way through the code and pays nothing.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::flow::Guard;
use super::relay::Relay;
use super::shape::{Bucket, Lateness, Shape, ShapedLeg};
use super::table::Order;
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

/// Relays as [`flow`](super::flow) does, with what is wrong.
pub(crate) async fn relay(
    guard: &Guard,
    client: &mut TcpStream,
    target: &mut TcpStream,
    plight: &Plight,
) -> (FlowEnd, [bool; 2]) {
    let ([from_client, from_target], doom) = plight.shapes();
    let mut relay = Relay::new();
    let mut thawed = false;
    let far = Instant::now() + std::time::Duration::from_secs(86_400 * 365);
    let mut ending = Box::pin(sleep_until(doom.reset_at.into_iter().chain(doom.deaf_at).min().unwrap_or(far)));
    let end = {
        let mut client = ShapedLeg::new(client, from_client);
        let mut target = ShapedLeg::new(target, from_target);
        poll_fn(|cx| {
            match guard.order() {
                Order::None => {
                    if std::mem::take(&mut thawed) {
                        guard.look_again();
                    }
                }
                Order::Cut(reason) => return Poll::Ready(Some(FlowEnd::Drained(reason))),
                Order::Frozen => {
                    thawed = true;
                    return Poll::Pending;
                }
                Order::Expire if guard.is_over() => return Poll::Ready(Some(FlowEnd::Idle)),
                Order::Expire => guard.go_on(),
            }
            if ending.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            let moved = relay.poll(cx, &mut client, &mut target, guard.tools(), guard);
            if doom.budget.as_ref().is_some_and(|budget| budget.get() == 0) {
                return Poll::Ready(Some(FlowEnd::Drained(DrainReason::Fault)));
            }
            moved.map(|done| {
                Some(match done {
                    Ok(()) => FlowEnd::Completed,
                    Err(failed) => FlowEnd::Failed { side: failed.side, reset: failed.is_reset() },
                })
            })
        })
        .await
    };
    let end = match end {
        Some(end) => end,
        None if doom.reset_at.is_some_and(|at| at <= Instant::now()) => FlowEnd::Drained(DrainReason::Fault),
        None => half_open(guard, client, target).await,
    };
    (end, relay.finished())
}

/// The target's side is gone; the client's goes on as if nothing were, until the client or an order ends it.
async fn half_open(guard: &Guard, client: &mut TcpStream, target: &mut TcpStream) -> FlowEnd {
    // The target is told that it is over, as by a host that cleans up behind a peer that vanished.
    let _ = target.set_zero_linger();
    let _ = rustix::net::shutdown(&*target, rustix::net::Shutdown::Both);
    let mut sink = vec![0; 16 << 10];
    poll_fn(|cx| {
        loop {
            match guard.order() {
                Order::None => {}
                Order::Cut(reason) => return Poll::Ready(FlowEnd::Drained(reason)),
                Order::Frozen => return Poll::Pending,
                Order::Expire if guard.is_over() => return Poll::Ready(FlowEnd::Idle),
                Order::Expire => guard.go_on(),
            }
            let mut buffer = tokio::io::ReadBuf::new(&mut sink);
            match tokio::io::AsyncRead::poll_read(std::pin::Pin::new(&mut *client), cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(FlowEnd::Completed),
                Poll::Ready(Ok(())) => guard.stir(),
                Poll::Ready(Err(_)) => {
                    return Poll::Ready(FlowEnd::Failed { side: crate::model::Side::Client, reset: true });
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}
