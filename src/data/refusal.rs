//! Refusals: how they are recorded, and what the client sees.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::task::{Poll, ready};

use tokio::task::coop::poll_proceed;

use super::context::WorkerContext;
use super::flow_log_events;
use super::leg::Leg;
use super::route::ListenerRoute;
use super::socket::Socket;
use crate::model::{Refusal, RefusalMode};

/// Counts and logs a refusal.
pub(crate) fn record(ctx: &WorkerContext, route: &ListenerRoute, client: SocketAddr, refusal: Refusal) {
    let shard = route.series.shard(ctx.index);
    shard.refuse(refusal);
    if refusal == Refusal::FlowLimit {
        // On a load balancer the limit is the number of source ports towards the target.
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
            endpoint.id = route.listener.access.label(),
            listener.port = route.listener.address.port(),
            target.id = %route.listener.group.target,
            refusal = refusal.label() },
            "flow refused"
        );
}

/// Ends a refused connection as AWS or the database would: by RST, by silence, or by closing it.
pub(crate) async fn refuse(ctx: &WorkerContext, client: &Socket, source: IpAddr, refusal: Refusal) {
    match refusal.mode() {
        RefusalMode::Dropped => blackhole(ctx, client, source).await,
        RefusalMode::Reset => client.reset(),
        // Dropping the socket closes it.
        RefusalMode::Closed => {}
    }
}

/// Blackholes a client: its input is discarded and never answered, until it gives up or the time limit passes. AWS
/// would not even answer the SYN, which an accepting socket cannot imitate. Beyond the limit of such clients, the one
/// held the longest is reset.
pub(crate) async fn blackhole(ctx: &WorkerContext, client: &Socket, source: IpAddr) {
    if let Some(held) = ctx.state.held.admit(source, false) {
        let silence = async {
            tokio::select! {
                () = held.evicted() => {}
                _ = discard_input(ctx, client, || {}) => {}
            }
        };
        let _ = ctx.clock.within(ctx.options.limits.hold_time, silence).await;
    }
    client.reset();
}

/// Discards input until the end; true if that was a FIN. `read` is called after each read.
pub(crate) async fn discard_input(ctx: &WorkerContext, mut client: &Socket, read: impl Fn()) -> bool {
    poll_fn(|cx| {
        loop {
            let budget = ready!(poll_proceed(cx));
            let n = ready!(client.poll_recv(cx, &mut ctx.buffers.scratch.read()));
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
