//! The lifecycle of one connection, from accept to close.

#![expect(clippy::manual_async_fn, reason = "an `async fn` stores its arguments twice, in the task of an idle flow")]

use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::net::{SendFlags, send};
use socket2::SockRef;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connect::{SourcePool, begin};
use super::context::WorkerContext;
use super::descriptors::SpareSocket;
use super::fault::FlowFaults;
use super::faulty_relay::{FaultyEnd, relay_with_faults};
use super::flow_guard::FlowGuard;
use super::keepalive::ProbeWatch;
use super::proxy_header::{HEADER_TIMEOUT, read_proxy_header};
use super::refusal::{blackhole, discard_input, refuse};
use super::relay::{Relay, ResetWatch};
use super::route::{ListenerRoute, RouteWatch};
use super::socket::Socket;
use super::table::{FlowOrder, FlowRecord};
use super::{admission, proxy_protocol, refusal, target_select};
use crate::model::{ConnectError, FlowEnd, Refusal, Side};
use crate::plan::ListenerAccess;

/// How long the sockets of an expired flow are kept, so that later bytes are answered with RST. A load balancer needs
/// no sockets for this; here each flow holds two descriptors, hence the limit.
const EXPIRED_TIMEOUT: Duration = Duration::from_secs(3600);

/// The state of a connection until it is admitted. Boxed, to keep the task of an idle flow small.
pub(crate) struct Accepted {
    pub(crate) route_watch: Rc<RouteWatch>,
    pub(crate) peer: SocketAddr,
    /// A socket for the target.
    pub(crate) spare: Option<SpareSocket>,
}

/// Serves an accepted connection until it is closed.
pub(crate) fn serve(ctx: Rc<WorkerContext>, client: Socket, mut accepted: Box<Accepted>) -> impl Future<Output = ()> {
    async move {
        let _report = ReportPanic;
        let route = &accepted.route_watch.current;
        let admitted = if route.borrow().expects_header(accepted.peer.ip()) {
            Box::pin(admit_by_header(&ctx, &accepted.route_watch, &client, accepted.peer)).await
        } else {
            admit(&ctx, route, accepted.peer)
        };
        let peer = accepted.peer.ip();
        let spare = accepted.spare.take();
        // The client is in the table or refused, so the listener may close: see `RouteWatch::open`.
        drop(accepted);
        let mut flow = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                ctx.spare_socket.keep(spare);
                return Box::pin(refuse(&ctx, &client, peer, refusal)).await;
            }
        };
        // Boxed, to keep the task of an idle flow small.
        let target = match Box::pin(connect_target(&flow, spare)).await {
            Ok(target) => target,
            Err(end) => {
                flow.close(end);
                if end != FlowEnd::Unreachable(ConnectError::PortAllocation) {
                    return client.reset();
                }
                let source = flow.record.client.ip();
                return Box::pin(blackhole(&ctx, &client, source)).await;
            }
        };
        start_idle_timeout(&flow);
        let sides = [&client, &target];
        let mut relay = Relay::new();
        let (end, finished) = match flow.record.faults.clone() {
            None => {
                let moved = until_ended(&flow, Some(sides), pin!(relay_bytes(&flow, &mut relay, sides))).await;
                (moved.unwrap_or_else(|end| end), relay.finished())
            }
            Some(faults) => Box::pin(serve_with_faults(&flow, relay, sides, faults)).await,
        };
        flow.close(end);
        match end {
            FlowEnd::Completed => {}
            FlowEnd::Idle => {
                if Box::pin(is_used_after_expiry(&flow, sides, finished)).await {
                    flow.shard().gateway_resets.add(1);
                    sides.into_iter().for_each(Socket::reset);
                }
            }
            FlowEnd::Drained(_) | FlowEnd::Unreachable(_) | FlowEnd::Failed { .. } => {
                sides.into_iter().for_each(Socket::reset);
            }
        }
    }
}

type Admitted = Result<FlowGuard, Refusal>;

/// Admits the client that the PROXY protocol header names. When the listener closes, a connection whose header is still
/// missing is refused, so that closing does not wait for it.
async fn admit_by_header(
    ctx: &Rc<WorkerContext>,
    route_watch: &RouteWatch,
    client: &Socket,
    peer: SocketAddr,
) -> Admitted {
    let mut changes = route_watch.current.clone();
    let closed = async { while changes.changed().await.is_ok() {} };
    let source = tokio::select! {
        biased;
        source = ctx.clock.within(HEADER_TIMEOUT, read_proxy_header(client, peer)) => source.ok().flatten(),
        () = closed => None,
    };
    if let Some(source) = source {
        return admit(ctx, &route_watch.current, source);
    }
    refusal::record(ctx, &route_watch.current.borrow(), peer, Refusal::ProxyHeader);
    Err(Refusal::ProxyHeader)
}

/// Admits or refuses a client, under one borrow of the route: see [`RouteWatch::current`].
fn admit(ctx: &Rc<WorkerContext>, route_watch: &watch::Receiver<Arc<ListenerRoute>>, client: SocketAddr) -> Admitted {
    let route = route_watch.borrow();
    let admitted = admission::admit(&route.listener, client, &ctx.state.service_side.borrow()).and_then(|origin| {
        if route.listener.lease.is_over(|| tokio::time::Instant::now().into_std()) {
            return Err(Refusal::ClaimLost);
        }
        if !ctx.state.sources.has_capacity(client.ip()) {
            return Err(Refusal::SourceLimit);
        }
        let slot = target_select::reserve(ctx, &route, client)?;
        let faults = FlowFaults::draw(&route.faults, route.cap.as_ref())?;
        let record = FlowRecord::new(slot.flow, client, origin, &route, slot.member, ctx.clock.tick(), faults);
        let flow = FlowGuard::open(Rc::clone(ctx), record, slot);
        if route.listener.outage {
            // The kernel completed its handshake before the listening socket fell silent.
            ctx.state.note_frozen();
            flow.record.set_order(FlowOrder::Freeze);
        }
        Ok(flow)
    });
    if let Err(refusal) = &admitted {
        refusal::record(ctx, &route, client, *refusal);
    }
    admitted
}

/// Connects to the flow's member, within the group's connect time-out.
///
/// # Errors
///
/// The flow's end, when the connect fails or an order ends the flow.
async fn connect_target(flow: &FlowGuard, spare: Option<SpareSocket>) -> Result<Socket, FlowEnd> {
    let (ctx, record) = (&flow.ctx, &flow.record);
    let (group, member) = (&record.listener.group, record.member());
    let started = Instant::now();
    let connect = async {
        if member.faulted && member.reach == Some(ConnectError::Refused) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if member.faulted {
            // A silent target: wait for the connect time-out.
            pending::<()>().await;
        }
        let source = match group.source_addresses.as_slice() {
            [] => None,
            pool => Some(SourcePool { pool, turn: ctx.next_source() }),
        };
        let target = Socket::new(begin(member.address, source, &ctx.leg, spare)?)?;
        target.connected().await?;
        Ok(target)
    };
    let connected = until_ended(flow, None, pin!(ctx.clock.within(group.connect_timeout, connect))).await?;
    let target = connected
        .map_or(Err(ConnectError::TimedOut), |target| target.map_err(|error: io::Error| ConnectError::from(&error)))
        .map_err(|error| {
            if matches!(error, ConnectError::Refused | ConnectError::TimedOut | ConnectError::NoRoute) {
                ctx.state.failed_dial(member.address);
            }
            FlowEnd::Unreachable(error)
        })?;
    record.series.connect_time.record(started.elapsed().as_secs_f64());
    if group.proxy_protocol && !send_proxy_header(record, &target) {
        target.reset();
        return Err(FlowEnd::Failed { side: Side::Target, reset: true });
    }
    Ok(target)
}

/// Sends the PROXY protocol header; false if the target's socket has failed.
fn send_proxy_header(record: &FlowRecord, target: &Socket) -> bool {
    let vpce = match &record.listener.access {
        ListenerAccess::Endpoint(endpoint) => Some(&endpoint.id),
        ListenerAccess::Public { .. } => None,
    };
    let header = proxy_protocol::encode(record.client, record.listener.address, vpce);
    // The send buffer is empty, so the whole header fits. `MORE` lets the header and the first payload share a segment.
    matches!(send(target, &header, SendFlags::MORE | SendFlags::NOSIGNAL), Ok(n) if n == header.len())
}

/// Relays until both sides have finished or one fails.
fn relay_bytes(
    flow: &FlowGuard,
    relay: &mut Relay,
    [mut client, mut target]: [&Socket; 2],
) -> impl Future<Output = FlowEnd> {
    async move {
        let mut resets = ResetWatch::new([client, target]);
        poll_fn(|cx| match relay.poll(cx, &mut client, &mut target, &flow.ctx.buffers, &flow.meter()) {
            Poll::Ready(Ok(())) => Poll::Ready(FlowEnd::Completed),
            Poll::Ready(Err(failed)) => Poll::Ready(failed.as_end()),
            Poll::Pending => resets.poll(cx, relay).map(|failed| failed.as_end()),
        })
        .await
    }
}

/// Relays with faults. Also returns whether the client and the target have sent FIN.
async fn serve_with_faults(
    flow: &FlowGuard,
    mut relay: Relay,
    sides: [&Socket; 2],
    faults: Arc<FlowFaults>,
) -> (FlowEnd, [bool; 2]) {
    let (ctx, [client, target]) = (&flow.ctx, sides);
    ctx.leg.keep_alive(&SockRef::from(target));
    let relayed = until_ended(flow, Some(sides), pin!(relay_with_faults(flow, &mut relay, sides, &faults))).await;
    match relayed {
        Ok(FaultyEnd::Ended(end)) | Err(end) => (end, relay.finished()),
        Ok(FaultyEnd::HalfOpen) => {
            // As a host does that discards the connection of a vanished peer.
            target.abort();
            let mark_active = || flow.record.mark_active(ctx.clock.tick());
            let end = match until_ended(flow, Some(sides), pin!(discard_input(ctx, client, mark_active))).await {
                Ok(true) => FlowEnd::Completed,
                Ok(false) => FlowEnd::Failed { side: Side::Client, reset: true },
                Err(end) => end,
            };
            (end, [false, true])
        }
    }
}

/// Runs `work` to completion. It is not polled while the flow is frozen.
///
/// # Errors
///
/// The flow's end, when an order or the idle time-out ends it first.
fn until_ended<T>(
    flow: &FlowGuard,
    sides: Option<[&Socket; 2]>,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Result<T, FlowEnd>> {
    async move {
        let mut end = pin!(ordered_end(flow, sides));
        let (mut seen, mut frozen) = (None, false);
        poll_fn(|cx| {
            let changes = Some(flow.record.order_changes());
            // Not `select!`: polling the `Notify` takes a lock, and a busy flow is polled once a message.
            if changes != seen {
                if let Poll::Ready(end) = end.as_mut().poll(cx) {
                    return Poll::Ready(Err(end));
                }
                (seen, frozen) = (changes, flow.record.order() == FlowOrder::Freeze);
            }
            if frozen { Poll::Pending } else { work.as_mut().poll(cx).map(Ok) }
        })
        .await
    }
}

/// Waits until an order or the idle time-out ends the flow.
fn ordered_end(flow: &FlowGuard, sides: Option<[&Socket; 2]>) -> impl Future<Output = FlowEnd> {
    async move {
        let (record, mut watch) = (&flow.record, None::<Box<ProbeWatch>>);
        loop {
            match record.order() {
                FlowOrder::End(reason) => return FlowEnd::Drained(reason),
                FlowOrder::CheckIdle => {
                    if let Some(sides) = sides {
                        check_for_probes(flow, sides, watch.get_or_insert_default());
                    }
                    if record.idle_deadline() <= flow.ctx.clock.tick() {
                        return FlowEnd::Idle;
                    }
                    record.checked();
                }
                _ => {}
            }
            record.order_changed().await;
        }
    }
}

/// Enables keepalive towards the target of a silent flow, and counts a keepalive probe from either side as activity.
/// The client's socket inherits keepalive from its listener.
fn check_for_probes(flow: &FlowGuard, sides: [&Socket; 2], watch: &mut ProbeWatch) {
    let (ctx, record, leg) = (&flow.ctx, &flow.record, &flow.ctx.leg);
    if watch.is_first() {
        leg.keep_alive(&SockRef::from(sides[1]));
    }
    if let Some(diag) = &ctx.diag
        && watch.found_probe(diag, sides, record.last_active(), leg.keepalive)
    {
        record.mark_active(ctx.clock.tick());
    }
}

/// Starts the idle time-out of the flow's group. The worker's tick checks silent flows a few times per time-out, so
/// that no read sets a timer.
fn start_idle_timeout(flow: &FlowGuard) {
    let (ctx, record) = (&flow.ctx, &flow.record);
    let (now, idle) = (ctx.clock.tick(), ctx.clock.ticks(record.listener.group.idle_timeout));
    record.start_idle_timeout(now, idle, ctx.check_interval(idle));
    ctx.wheel.borrow_mut().schedule(record.id, record.next_check(now));
}

/// Waits until a side of an expired flow sends something, or an order ends it; both sides are then reset. NLB does not
/// announce the expiry either. A side that has sent FIN is not polled. False after [`EXPIRED_TIMEOUT`] without
/// activity.
async fn is_used_after_expiry(flow: &FlowGuard, sides: [&Socket; 2], finished: [bool; 2]) -> bool {
    let used = poll_fn(|cx| {
        let used = |(side, finished): (&Socket, bool)| !finished && side.poll_readable(cx).is_ready();
        if sides.into_iter().zip(finished).any(used) { Poll::Ready(()) } else { Poll::Pending }
    });
    let ended = async {
        while !matches!(flow.record.order(), FlowOrder::End(_)) {
            flow.record.order_changed().await;
        }
    };
    let either = async {
        tokio::select! {
            () = used => {}
            () = ended => {}
        }
    };
    flow.ctx.clock.within(EXPIRED_TIMEOUT, either).await.is_ok()
}

/// Logs a panic of a connection's task. The runtime catches the panic; dropping the task resets its sockets and closes
/// its flow.
struct ReportPanic;

impl Drop for ReportPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "a connection's task panicked: the connection is reset, other connections are not affected"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_size<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_flow_stays_small() {
        let task = output_size(serve);
        assert!(task <= 656, "a connection's task takes {task} bytes");
        let record = size_of::<FlowRecord>();
        assert!(record <= 176, "a flow's record takes {record} bytes");
    }
}
