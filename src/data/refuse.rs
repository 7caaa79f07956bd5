//! What a refused client sees.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::listener::ListenerState;
use super::tell;
use super::worker::Worker;
use crate::model::{Refusal, WireLook};

/// Counts a refusal and lets the client see it as AWS would show it.
pub(crate) fn refuse(
    worker: &Rc<Worker>,
    state: &ListenerState,
    client: TcpStream,
    address: SocketAddr,
    refusal: Refusal,
) {
    let shard = state.series.shard(worker.index);
    shard.refuse(refusal);
    if refusal == Refusal::FlowLimit {
        // What the load balancer lacks then is a source port towards the target.
        shard.port_allocation_errors.add(1);
    }
    if let Some(log) = &worker.shared.flow_log {
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
        WireLook::Dropped if worker.held.get() < worker.options.held_refusals => {
            worker.held.set(worker.held.get() + 1);
            let worker = Rc::clone(worker);
            tokio::task::spawn_local(async move {
                hold(&worker, client).await;
                worker.held.set(worker.held.get() - 1);
            });
        }
        WireLook::Dropped | WireLook::Reset => {
            // Fails only on a socket that is gone already.
            let _ = client.set_zero_linger();
        }
    }
}

/// Keeps a client waiting without an answer: what it sends is read and forgotten, until it gives up or the time is
/// over. In AWS not even its SYN would be answered; a socket that accepts can't do that.
async fn hold(worker: &Worker, mut client: TcpStream) {
    let mut sink = [0; 512];
    let forget = async { while matches!(client.read(&mut sink).await, Ok(n) if n > 0) {} };
    let _ = tokio::time::timeout(worker.options.hold_time, forget).await;
    let _ = client.set_zero_linger();
}
