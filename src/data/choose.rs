//! Which member of a target group takes a flow.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::listener::ListenerState;
use super::local::Local;
use crate::model::{FlowId, Refusal, TargetState, Zone};
use crate::plan::{Member, TargetGroup};

/// The member for a flow with this hash that arrived in `zone`; `None` when no member is registered there.
///
/// Healthy members of the zone (of all zones with cross-zone) share the flows; when too few are healthy the group fails
/// open and all of them do (NLB: *Target groups*, unhealthy state routing). A draining member gets no new flow.
pub(crate) fn choose(group: &TargetGroup, zone: &Zone, hash: u64) -> Option<usize> {
    let registered = |member: &Member| group.is_registered(member, zone);
    let healthy = |member: &Member| registered(member) && member.state == TargetState::Healthy;
    if group.fails_open(zone) { pick(group, hash, registered) } else { pick(group, hash, healthy) }
}

fn pick(group: &TargetGroup, hash: u64, fits: impl Fn(&Member) -> bool) -> Option<usize> {
    let fitting = group.members.iter().filter(|member| fits(member)).count() as u64;
    let nth = usize::try_from(hash.checked_rem(fitting)?).ok()?;
    group.members.iter().enumerate().filter(|(_, member)| fits(member)).nth(nth).map(|(at, _)| at)
}

/// A place among the flows that a member holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Which member of the group.
    pub(crate) member: usize,
    /// The flow's id, part of the hash as the TCP sequence number is on NLB.
    pub(crate) flow: FlowId,
    held: Arc<AtomicUsize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Chooses a member and takes a place on it.
///
/// # Errors
///
/// [`Refusal::NoTarget`] when there is no member, [`Refusal::FlowLimit`] when it holds as many flows as it may.
pub(crate) fn reserve(local: &Local, state: &ListenerState, client: SocketAddr) -> Result<Seat, Refusal> {
    let group = &state.listener.group;
    let flow = local.next_flow();
    let member = if group.members.len() == 1 && group.cross_zone {
        group.is_registered(&group.members[0], &state.listener.zone).then_some(0)
    } else {
        let mut hasher = DefaultHasher::new();
        (client, state.listener.address, flow.0).hash(&mut hasher);
        choose(group, &state.listener.zone, hasher.finish())
    };
    let member = member.ok_or(Refusal::NoTarget)?;
    let held = Arc::clone(&state.held_flows[member]);
    let before = held.fetch_add(1, Ordering::Relaxed);
    let seat = Seat { member, flow, held };
    if before < group.flows_per_target { Ok(seat) } else { Err(Refusal::FlowLimit) }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
