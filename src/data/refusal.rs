//! What a refused client sees.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::task::{Poll, ready};

use tokio::task::coop::poll_proceed;

use super::context::WorkerContext;
use super::flow_log_events;
use super::leg::Leg;
use super::route::Route;
use super::socket::Socket;
use crate::model::{Refusal, WireLook};

/// Counts and logs a refusal.
pub(crate) fn record(ctx: &WorkerContext, route: &Route, client: SocketAddr, refusal: Refusal) {
    let shard = route.series.shard(ctx.index);
    shard.refuse(refusal);
    if refusal == Refusal::FlowLimit {
        // What the load balancer lacks then is a source port towards the target.
        shard.port_allocation_errors.add(1);
    }
    if let Some(log) = &ctx.state.flow_log {
        log.refused(flow_log_events::refused(&route.listener, client, refusal));
    }
    if !ctx.state.is_first_refusal(&route.listener, client, refusal) {
        return;
    }
    tracing::info!(
            target: "access",
    {        client.addr = %client,
            endpoint.id = route.listener.gate.label(),
            listener.port = route.listener.address.port(),
            target.id = %route.listener.group.target,
            refusal = refusal.label() },
            "flow refused"
        );
}

/// Ends a refused connection as AWS or the database would: with RST, without an answer, or by closing it.
pub(crate) async fn refuse(ctx: &WorkerContext, client: &Socket, source: IpAddr, refusal: Refusal) {
    match refusal.look() {
        WireLook::Dropped => blackhole(ctx, client, source).await,
        WireLook::Reset => client.reset(),
        // Closed when it is dropped.
        WireLook::Closed => {}
    }
}

/// Keeps a client waiting, as one whose packets are dropped: what it sends is read and forgotten, until it gives up or the
/// time is over. In AWS not even its SYN would be answered; a socket that accepts can't do that. Where too many wait already,
/// the one that has waited for longest is reset.
pub(crate) async fn blackhole(ctx: &WorkerContext, client: &Socket, source: IpAddr) {
    if let Some(held) = ctx.state.held.admit(source, false) {
        let silence = async {
            tokio::select! {
                () = held.evicted() => {}
                _ = read_and_forget(ctx, client, || {}) => {}
            }
        };
        let _ = ctx.clock.within(ctx.options.blackhole_time, silence).await;
    }
    client.reset();
}

/// Reads until the end; true when it was a FIN. `read` is called for each read.
pub(crate) async fn read_and_forget(ctx: &WorkerContext, mut client: &Socket, read: impl Fn()) -> bool {
    poll_fn(|cx| {
        loop {
            let budget = ready!(poll_proceed(cx));
            let n = ready!(client.poll_take(cx, &mut ctx.tools.scratch.read()));
            budget.made_progress();
            match n {
                Ok(0) => return Poll::Ready(true),
                Ok(_) => read(),
                Err(_) => return Poll::Ready(false),
            }
        }
    })
    .await
}
