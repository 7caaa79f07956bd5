//! The relay of a flow that has faults.

use std::task::Poll;

use super::fault::FlowFaults;
use super::flow_guard::FlowGuard;
use super::relay::{Relay, ResetWatch};
use super::shape::{ShapedLeg, ShaperState, poll_until};
use super::socket::Socket;
use crate::model::{DrainReason, FlowEnd};

/// The result of [`relay_with_faults`].
#[derive(Debug)]
pub(crate) enum FaultyEnd {
    /// The flow ended.
    Ended(FlowEnd),
    /// The target's side is gone; the client's side stays open.
    HalfOpen,
}

/// Relays until the flow ends or a fault ends it. The faults' delays count from now.
pub(crate) async fn relay_with_faults(
    flow: &FlowGuard,
    relay: &mut Relay,
    [client, target]: [&Socket; 2],
    faults: &FlowFaults,
) -> FaultyEnd {
    let ([from_client, from_target], end) = faults.shapes();
    let (mut from_client, mut from_target) = (ShaperState::new(from_client), ShaperState::new(from_target));
    let mut resets = ResetWatch::new([client, target]);
    flow.ctx
        .clock
        .poll_with_wake_ups(|cx, wake_at| {
            if end.reset_at.is_some_and(|at| poll_until(wake_at, at).is_ready()) {
                return Poll::Ready(FaultyEnd::Ended(FlowEnd::Drained(DrainReason::Fault)));
            }
            if end.half_open_at.is_some_and(|at| poll_until(wake_at, at).is_ready()) {
                return Poll::Ready(FaultyEnd::HalfOpen);
            }
            let mut client = ShapedLeg { socket: client, shaped: &mut from_client, wake_at };
            let mut target = ShapedLeg { socket: target, shaped: &mut from_target, wake_at };
            let moved = relay.poll(cx, &mut client, &mut target, &flow.ctx.buffers, &flow.meter());
            if end.budget.as_ref().is_some_and(|budget| budget.get() == 0) {
                return Poll::Ready(FaultyEnd::Ended(FlowEnd::Drained(DrainReason::Fault)));
            }
            match moved {
                Poll::Ready(Ok(())) => Poll::Ready(FaultyEnd::Ended(FlowEnd::Completed)),
                Poll::Ready(Err(failed)) => Poll::Ready(FaultyEnd::Ended(failed.as_end())),
                Poll::Pending => resets.poll(cx, relay).map(|failed| FaultyEnd::Ended(failed.as_end())),
            }
        })
        .await
}
