//! What a refused client sees.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::leg::Leg;
use super::listener::ListenerState;
use super::local::Local;
use super::socket::Socket;
use super::tell;
use super::worker::Turn;
use crate::model::{Refusal, WireLook};

/// Reads of what a held client sends before others have their turn.
const READS_A_POLL: u32 = 16;

/// Counts a refusal and lets the client see it as AWS would show it: reset, or held.
pub(crate) fn refuse(
    local: &Local,
    state: &ListenerState,
    client: Socket,
    address: SocketAddr,
    refusal: Refusal,
) -> Option<Held> {
    let shard = state.series.shard(local.index);
    shard.refuse(refusal);
    if refusal == Refusal::FlowLimit {
        // What the load balancer lacks then is a source port towards the target.
        shard.port_allocation_errors.add(1);
    }
    if let Some(log) = &local.shared.flow_log {
        log.refused(tell::refused(&state.listener, address, refusal));
    }
    tracing::info!(
            target: "access",
    {        client.addr = %address,
            endpoint.id = state.listener.gate.label(),
            listener.port = state.listener.address.port(),
            target.id = %state.listener.group.target,
            refusal = refusal.label() },
            "flow refused"
        );
    match refusal.look() {
        WireLook::Dropped => leave_unanswered(local, client),
        WireLook::Reset => {
            client.reset();
            None
        }
    }
}

/// Keeps a client waiting, as one whose packets are dropped; resets it when too many wait already.
pub(crate) fn leave_unanswered(local: &Local, client: Socket) -> Option<Held> {
    if local.held.get() >= local.options.held_refusals {
        client.reset();
        return None;
    }
    Some(Held { client, until: Instant::now() + local.options.hold_time, _place: Place::take(&local.held) })
}

/// A client that waits without an answer: what it sends is read and forgotten, until it gives up or the time is over. In
/// AWS not even its SYN would be answered; a socket that accepts can't do that.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) client: Socket,
    until: Instant,
    _place: Place,
}

impl Held {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Turn {
        if self.until > Instant::now() {
            let mut sink = [0; 512];
            for _ in 0..READS_A_POLL {
                match self.client.poll_take(cx, &mut sink) {
                    Poll::Ready(Ok(n)) if n > 0 => {}
                    Poll::Ready(_) => return self.end(),
                    Poll::Pending => return Turn::WaitUntil(self.until),
                }
            }
            return Turn::Again;
        }
        self.end()
    }

    fn end(&self) -> Turn {
        self.client.reset();
        Turn::Over
    }
}

/// One of the places of held clients.
#[derive(Debug)]
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(taken: &Rc<Cell<usize>>) -> Self {
        taken.set(taken.get() + 1);
        Self(Rc::clone(taken))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
