//! One flow, from admission to its end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::net::SendFlags;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::choose::Seat;
use super::connect::{Source, connect};
use super::fault::{self, Plight};
use super::keepalive::Watch;
use super::listener::ListenerState;
use super::proxy_protocol;
use super::relay::{Failed, Meter, Relay};
use super::table::{FlowRecord, Order};
use super::tell;
use super::worker::Worker;
use crate::model::{ConnectError, FlowEnd, Origin, Side};
use crate::plan::Gate;

/// How long the sockets of a forgotten flow are kept for the RST that later bytes are to meet. A load balancer keeps
/// nothing; here each holds two descriptors, so not for ever.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// Starts the task of an admitted connection.
pub(crate) fn start(
    worker: &Rc<Worker>,
    state: &ListenerState,
    client: TcpStream,
    address: SocketAddr,
    origin: Origin,
    seat: Seat,
    plight: Option<Box<Plight>>,
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
        plight.as_ref().map(|plight| plight.names()).unwrap_or_default(),
    ));
    let guard = Guard::open(Rc::clone(worker), record, seat);
    tokio::task::spawn_local(run(guard, client, plight));
}

/// An open flow: in the table, counted as opened; its drop counts it as closed, whatever ends it.
pub(super) struct Guard {
    worker: Rc<Worker>,
    record: Arc<FlowRecord>,
    end: Option<FlowEnd>,
    slot: Option<usize>,
    seat: Option<Seat>,
}

impl Guard {
    fn open(worker: Rc<Worker>, record: Arc<FlowRecord>, seat: Seat) -> Self {
        let shard = record.series.shard(worker.index);
        shard.opened.add(1);
        if record.listener.group.fails_open(&record.listener.zone) {
            shard.unhealthy_routing.add(1);
        }
        worker.shared.table.insert(&record);
        Self { worker, record, end: None, slot: None, seat: Some(seat) }
    }

    /// What it has been told.
    pub(super) fn order(&self) -> Order {
        self.record.order()
    }

    /// Whether its patience is over.
    pub(super) fn is_over(&self) -> bool {
        self.record.deadline() <= self.worker.tick()
    }

    /// Takes back an order to expire: the flow moved meanwhile.
    pub(super) fn go_on(&self) {
        self.record.clear_expire();
        self.look_again();
    }

    /// Has the tick look at it again.
    pub(super) fn look_again(&self) {
        if let Some(slot) = self.slot {
            self.worker.look_again(slot, &self.record);
        }
    }

    /// Notes that something moved.
    pub(super) fn stir(&self) {
        self.record.touch(self.worker.tick());
    }

    /// What its worker lends it.
    pub(super) fn tools(&self) -> &super::relay::Tools {
        &self.worker.tools
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
        let age = record.opened.elapsed().unwrap_or_default();
        record.series.duration.record(age.as_secs_f64());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a bucket is chosen by it, and flows carry less than 2^52 bytes"
        )]
        record.series.bytes.record((record.bytes_to_target() + record.bytes_to_client()) as f64);
        if let Some(log) = &self.worker.shared.flow_log {
            log.ended(tell::ended(record, age, self.worker.diag.as_ref(), end));
        }
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
                    duration_ms = age.as_millis(),
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
async fn run(mut guard: Guard, mut client: TcpStream, plight: Option<Box<Plight>>) {
    let worker = Rc::clone(&guard.worker);
    let record = Arc::clone(&guard.record);
    let idle = worker.ticks(record.listener.group.idle_timeout);
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    guard.slot = Some(worker.enter(&record, waker, record.deadline().min(worker.tick() + worker.step(idle))));

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
    record.wait_for(worker.tick(), idle, worker.step(idle));
    let (end, finished) = match plight {
        None => relay(&guard, &mut client, &mut target).await,
        // In a box: a flow without a fault has no room for one.
        Some(plight) => {
            worker.options.leg.keep_alive(&SockRef::from(&target));
            Box::pin(fault::relay(&guard, &mut client, &mut target, &plight)).await
        }
    };
    guard.close(end);
    match end {
        FlowEnd::Completed => {}
        FlowEnd::Idle => {
            let forgotten = worker.ticks(FORGOTTEN);
            record.wait_for(worker.tick(), forgotten, forgotten);
            guard.go_on();
            if !is_spoken_to(&record, [&client, &target], finished).await {
                return;
            }
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
        pool => {
            let turn = guard.worker.next_source();
            // Every worker begins elsewhere, so that they don't try each other's ports.
            Some(Source { address: pool[turn % pool.len()], turn: turn / pool.len() + guard.worker.index * 4_001 })
        }
    };
    let started = Instant::now();
    let mut connecting = pin!(connect(member.address, source, &guard.worker.options.leg));
    let target = poll_fn(|cx| match record.order() {
        Order::Frozen => Poll::Pending,
        Order::Cut(reason) => Poll::Ready(Err(FlowEnd::Drained(reason))),
        Order::Expire => Poll::Ready(Err(FlowEnd::Unreachable(ConnectError::TimedOut))),
        Order::None if member.faulted && member.reach == Some(ConnectError::Refused) => {
            Poll::Ready(Err(FlowEnd::Unreachable(ConnectError::Refused)))
        }
        // Until patience ends, as no answer comes.
        Order::None if member.faulted => Poll::Pending,
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
async fn relay(guard: &Guard, client: &mut TcpStream, target: &mut TcpStream) -> (FlowEnd, [bool; 2]) {
    let mut relay = Relay::new();
    let mut watch = Watch::default();
    // Whether the tick has lost sight of the flow while it stood still.
    let mut thawed = false;
    let mut heard = None;
    let end = poll_fn(|cx| {
        match guard.record.order() {
            Order::None => {
                if std::mem::take(&mut thawed) {
                    guard.look_again();
                }
            }
            Order::Frozen => {
                thawed = true;
                return Poll::Pending;
            }
            Order::Cut(reason) => return Poll::Ready(FlowEnd::Drained(reason)),
            Order::Expire => {
                look(guard, &mut watch, [client, target]);
                if guard.record.deadline() <= guard.worker.tick() {
                    return Poll::Ready(FlowEnd::Idle);
                }
                guard.go_on();
            }
        }
        let moved = relay.poll(cx, client, target, &guard.worker.tools, guard).map(|done| match done {
            Ok(()) => FlowEnd::Completed,
            Err(failed) => FlowEnd::Failed { side: failed.side, reset: failed.is_reset() },
        });
        if moved.is_pending() && relay.is_deaf() {
            listen_for_resets(guard, &mut heard, [client, target])
        } else {
            moved
        }
    })
    .await;
    (end, relay.finished())
}

/// Asks the kernel, once a tick, whether a side has sent RST: while a way waits for its sink, or has ended, nobody reads
/// its source.
fn listen_for_resets(guard: &Guard, heard: &mut Option<u32>, sides: [&TcpStream; 2]) -> Poll<FlowEnd> {
    let tick = guard.worker.tick();
    if *heard == Some(tick) {
        return Poll::Pending;
    }
    // The first time there is nothing to hear yet; from the next tick on there may be.
    let first = heard.replace(tick).is_none();
    if let Some(slot) = guard.slot {
        guard.worker.wake_at_next_tick(slot, guard.record.id);
    }
    if first {
        return Poll::Pending;
    }
    for (stream, side) in sides.into_iter().zip([Side::Client, Side::Target]) {
        if let Ok(Some(error)) = stream.take_error() {
            let failed = Failed { side, error };
            return Poll::Ready(FlowEnd::Failed { side, reset: failed.is_reset() });
        }
    }
    Poll::Pending
}

/// Has the kernel probe the target of a flow that has fallen silent, and counts a keepalive probe from either side as
/// activity. The client's side has it from its listener.
fn look(guard: &Guard, watch: &mut Watch, sides: [&TcpStream; 2]) {
    let (worker, record) = (&guard.worker, &guard.record);
    if watch.is_first() {
        worker.options.leg.keep_alive(&SockRef::from(sides[1]));
    }
    if let Some(diag) = &worker.diag
        && watch.look(diag, sides, record.last_active(), worker.options.leg.keepalive)
    {
        record.touch(worker.tick());
    }
}

/// Waits until either side of a forgotten flow says anything, as NLB does: nobody is told of the expiry, and whatever
/// comes later meets RST. A side that has finished can say nothing more; its FIN was before. False when the silence has
/// lasted for [`FORGOTTEN`].
async fn is_spoken_to(record: &FlowRecord, sides: [&TcpStream; 2], finished: [bool; 2]) -> bool {
    poll_fn(|cx| {
        let spoken = |(side, finished): (&&TcpStream, bool)| !finished && side.poll_read_ready(cx).is_ready();
        match record.order() {
            Order::Cut(_) => Poll::Ready(true),
            _ if sides.iter().zip(finished).any(spoken) => Poll::Ready(true),
            Order::Expire => Poll::Ready(false),
            Order::None | Order::Frozen => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every open flow costs beside its sockets and its record.
    const MOST_BYTES: usize = 768;

    fn output_size<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
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
