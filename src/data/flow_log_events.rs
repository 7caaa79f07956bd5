//! Converts flows and refusals to flow log events.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::sock_diag::SockDiag;
use super::table::FlowRecord;
use crate::flowlog::{EndedFlow, OpenFlow, Packets, RefusedFlow};
use crate::model::{FlowEnd, Refusal};
use crate::plan::{EndpointAccess, Listener, ListenerAccess};

/// The event of a flow that ended after `age`.
pub(super) fn ended(record: &FlowRecord, age: Duration, diag: Option<&SockDiag>, end: FlowEnd) -> EndedFlow {
    EndedFlow {
        flow: open(record, diag),
        target: record.listener.group.target.clone(),
        target_address: record.member().address,
        ended: record.opened + age,
        end,
    }
}

/// The event of a connection that is refused now.
pub(super) fn refused(listener: &Listener, client: SocketAddr, refusal: Refusal) -> RefusedFlow {
    RefusedFlow {
        client,
        local: listener.address,
        access: access(listener),
        target: listener.group.target.clone(),
        at: SystemTime::now(),
        refusal,
    }
}

/// The state of a flow.
pub(super) fn open(record: &FlowRecord, diag: Option<&SockDiag>) -> OpenFlow {
    OpenFlow {
        id: record.id,
        client: record.client,
        local: record.listener.address,
        access: access(&record.listener),
        origin: record.origin,
        opened: record.opened,
        bytes_to_target: record.bytes_to_target(),
        bytes_to_client: record.bytes_to_client(),
        packets: packets(record, diag),
    }
}

fn access(listener: &Listener) -> Option<Arc<EndpointAccess>> {
    match &listener.access {
        ListenerAccess::Endpoint(access) => Some(Arc::clone(access)),
        ListenerAccess::Public { .. } => None,
    }
}

/// The kernel's segment counts on the client's side. Behind another load balancer, that is the other load balancer's
/// connection.
fn packets(record: &FlowRecord, diag: Option<&SockDiag>) -> Option<Packets> {
    let seen = diag?.ask(record.listener.address, record.client)?;
    Some(Packets { ingress: seen.segments.into(), egress: seen.segments_out.into() })
}
