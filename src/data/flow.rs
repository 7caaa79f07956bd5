//! One flow, from admission to its end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use rustix::net::SendFlags;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::choose::Seat;
use super::connect::connect;
use super::listener::ListenerState;
use super::proxy_protocol;
use super::relay::{Meter, Relay};
use super::table::{FlowRecord, Order};
use super::worker::{GROWN, Worker};
use crate::model::{ConnectError, FlowEnd, Origin, Side};
use crate::plan::Gate;

/// Starts the task of an admitted connection.
pub(crate) fn start(
    worker: &Rc<Worker>,
    state: &ListenerState,
    client: TcpStream,
    address: SocketAddr,
    origin: Origin,
    seat: Seat,
) {
    let group = &state.listener.group;
    let record = Arc::new(FlowRecord::new(
        seat.flow,
        address,
        origin,
        Arc::clone(&state.listener),
        u16::try_from(seat.member).unwrap_or(u16::MAX),
        u16::try_from(worker.index).unwrap_or(u16::MAX),
        Arc::clone(&state.series),
        worker.tick(),
        worker.ticks(group.connect_timeout),
    ));
    let guard = Guard::open(Rc::clone(worker), record, seat);
    tokio::task::spawn_local(run(guard, client));
}

/// An open flow: in the table, counted as opened; its drop counts it as closed, whatever ends it.
struct Guard {
    worker: Rc<Worker>,
    record: Arc<FlowRecord>,
    end: Option<FlowEnd>,
    slot: Option<usize>,
    seat: Option<Seat>,
}

impl Guard {
    fn open(worker: Rc<Worker>, record: Arc<FlowRecord>, seat: Seat) -> Self {
        record.series.shard(worker.index).opened.add(1);
        worker.shared.table.insert(&record);
        Self { worker, record, end: None, slot: None, seat: Some(seat) }
    }

    /// Records the end, once.
    fn close(&mut self, end: FlowEnd) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        self.seat = None;
        let record = &self.record;
        let shard = record.series.shard(self.worker.index);
        shard.close(end);
        match end {
            FlowEnd::Failed { side: Side::Client, reset: true } => shard.client_resets.add(1),
            FlowEnd::Failed { side: Side::Target, reset: true } => shard.target_resets.add(1),
            FlowEnd::Unreachable(ConnectError::Refused) => shard.target_resets.add(1),
            FlowEnd::Drained(_) | FlowEnd::Unreachable(_) => shard.gateway_resets.add(1),
            FlowEnd::Completed | FlowEnd::Idle | FlowEnd::Failed { .. } => {}
        }
        if end == FlowEnd::Unreachable(ConnectError::PortAllocation) {
            shard.port_allocation_errors.add(1);
        }
        self.worker.shared.table.remove(record.id);
        self.worker.shared.flow_ended();
        let member = record.member();
        tracing::info!(
                    target: "access",
        {            flow.id = %record.id,
                    client.addr = %record.client,
                    origin = record.origin.label(),
                    endpoint.id = record.listener.gate.label(),
                    listener.port = record.listener.address.port(),
                    target.id = %record.listener.group.target,
                    target.addr = %member.address,
                    bytes.to_target = record.bytes_to_target(),
                    bytes.to_client = record.bytes_to_client(),
                    duration_ms = record.opened.elapsed().map_or(0, |age| age.as_millis()),
                    end = end.label(),
                    detail = end.detail() },
                    "flow closed"
                );
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A task that is dropped or panics without an end was stopped with the process.
        self.close(FlowEnd::Drained(crate::model::DrainReason::Shutdown));
        if let Some(slot) = self.slot {
            self.worker.leave(slot);
        }
    }
}

impl Meter for Guard {
    #[inline]
    fn to_target(&self, n: usize) {
        self.record.add_to_target(n as u64);
        self.record.series.shard(self.worker.index).to_target.add(n as u64);
        self.record.touch(self.worker.tick());
    }

    #[inline]
    fn to_client(&self, n: usize) {
        self.record.add_to_client(n as u64);
        self.record.series.shard(self.worker.index).to_client.add(n as u64);
        self.record.touch(self.worker.tick());
    }
}

/// The flow's task.
async fn run(mut guard: Guard, mut client: TcpStream) {
    let worker = Rc::clone(&guard.worker);
    let record = Arc::clone(&guard.record);
    let idle = worker.ticks(record.listener.group.idle_timeout);
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    guard.slot = Some(worker.enter(&record, waker, record.deadline().min(worker.tick() + idle)));

    let mut target = match dial(&guard).await {
        Ok(target) => target,
        Err(end) => {
            // Fails only on a socket that is gone already; so below.
            let _ = client.set_zero_linger();
            if let FlowEnd::Unreachable(ConnectError::Refused | ConnectError::TimedOut | ConnectError::NoRoute) = end {
                worker.shared.failed_dial(record.member().address);
            }
            guard.close(end);
            return;
        }
    };
    record.wait_for(worker.tick(), idle);
    let end = relay(&guard, &mut client, &mut target).await;
    guard.close(end);
    match end {
        FlowEnd::Completed => {}
        FlowEnd::Idle => {
            answer_late_with_reset(&record, &client, &target).await;
            record.series.shard(worker.index).gateway_resets.add(1);
            let _ = client.set_zero_linger();
            let _ = target.set_zero_linger();
        }
        FlowEnd::Drained(_) | FlowEnd::Unreachable(_) | FlowEnd::Failed { .. } => {
            let _ = client.set_zero_linger();
            let _ = target.set_zero_linger();
        }
    }
}

/// Connects to the flow's member; gives up when its patience ends or it is told to.
async fn dial(guard: &Guard) -> Result<TcpStream, FlowEnd> {
    let record = &guard.record;
    let group = &record.listener.group;
    let member = &group.members[usize::from(record.member)];
    let source = match group.source_addresses.as_slice() {
        [] => None,
        pool => Some(pool[guard.worker.next_source() % pool.len()]),
    };
    let started = Instant::now();
    let mut connecting = pin!(connect(member.address, source, &guard.worker.options.leg));
    let target = poll_fn(|cx| match record.order() {
        Order::Cut(reason) => Poll::Ready(Err(FlowEnd::Drained(reason))),
        Order::Expire => Poll::Ready(Err(FlowEnd::Unreachable(ConnectError::TimedOut))),
        Order::None => connecting
            .as_mut()
            .poll(cx)
            .map(|connected| connected.map_err(|error| FlowEnd::Unreachable(ConnectError::from(&error)))),
    })
    .await?;
    record.series.connect_time.record(started.elapsed().as_secs_f64());
    if group.proxy_protocol {
        let vpce = match &record.listener.gate {
            Gate::Endpoint(endpoint) => Some(&endpoint.id),
            Gate::Public { .. } => None,
        };
        let header = proxy_protocol::encode(record.client, record.listener.address, vpce);
        // The socket is new and empty, so the header fits whole. More follows: header and first payload share a segment.
        match rustix::net::send(&target, &header, SendFlags::MORE | SendFlags::NOSIGNAL) {
            Ok(n) if n == header.len() => {}
            Ok(_) | Err(_) => return Err(FlowEnd::Failed { side: Side::Target, reset: true }),
        }
    }
    Ok(target)
}

/// Relays until both sides are done, one fails, the flow has been silent for too long, or it is told to end.
async fn relay(guard: &Guard, client: &mut TcpStream, target: &mut TcpStream) -> FlowEnd {
    let mut relay = Relay::new();
    let mut probed = false;
    poll_fn(|cx| {
        if !probed && guard.worker.tick() - guard.record.born >= GROWN {
            probed = true;
            guard.worker.options.leg.keep_alive(&SockRef::from(&*target));
        }
        match guard.record.order() {
            Order::None => {}
            Order::Cut(reason) => return Poll::Ready(FlowEnd::Drained(reason)),
            Order::Expire if guard.record.deadline() <= guard.worker.tick() => return Poll::Ready(FlowEnd::Idle),
            Order::Expire => {
                guard.record.clear_expire();
                if let Some(slot) = guard.slot {
                    guard.worker.look_again(slot, &guard.record);
                }
            }
        }
        relay.poll(cx, client, target, &guard.worker.tools, guard).map(|done| match done {
            Ok(()) => FlowEnd::Completed,
            Err(failed) => FlowEnd::Failed { side: failed.side, reset: failed.is_reset() },
        })
    })
    .await
}

/// Waits until either side of a forgotten flow says anything, as NLB does: nobody is told of the expiry, and whatever
/// comes later meets RST.
async fn answer_late_with_reset(record: &FlowRecord, client: &TcpStream, target: &TcpStream) {
    poll_fn(|cx| {
        if matches!(record.order(), Order::Cut(_))
            || client.poll_read_ready(cx).is_ready()
            || target.poll_read_ready(cx).is_ready()
        {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every open flow costs beside its sockets and its record.
    const MOST_BYTES: usize = 768;

    fn output_size<A, B, F>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_flows_task_stays_small() {
        let size = output_size(run);
        assert!(size <= MOST_BYTES, "a flow's task takes {size} bytes");
        let record = size_of::<FlowRecord>();
        assert!(record <= 192, "a flow's record takes {record} bytes");
    }
}
