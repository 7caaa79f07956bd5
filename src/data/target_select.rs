//! Target selection: which member of a target group a flow is sent to.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::context::WorkerContext;
use super::route::ListenerRoute;
use crate::model::{FlowId, Refusal, TargetState, Zone};
use crate::plan::{Member, TargetGroup};

/// Chooses the member for a flow with this hash that arrived in `zone`; `None` if no member is registered there.
///
/// Flows are distributed over the healthy members of the zone (of all zones with cross-zone). If too few are healthy,
/// the group fails open and uses all members (NLB: *Target groups*, unhealthy state routing). A draining member gets no
/// new flow.
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

/// A slot among the flows of a member, released on drop.
#[derive(Debug)]
pub(crate) struct TargetSlot {
    /// Index of the member in the group.
    pub(crate) member: usize,
    /// The flow's id, part of the hash as the TCP sequence number is on NLB.
    pub(crate) flow: FlowId,
    flows: Arc<AtomicUsize>,
}

impl Drop for TargetSlot {
    fn drop(&mut self) {
        self.flows.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Chooses a member and reserves a slot on it.
///
/// # Errors
///
/// [`Refusal::NoTarget`] when there is no member, [`Refusal::FlowLimit`] when the member has reached its flow limit,
/// [`Refusal::ConnectionLimit`] when its cluster's limit is reached.
pub(crate) fn reserve(ctx: &WorkerContext, route: &ListenerRoute, client: SocketAddr) -> Result<TargetSlot, Refusal> {
    let listener = &route.listener;
    let group = &listener.group;
    let flow = ctx.next_flow();
    let member = if group.members.len() == 1 && group.cross_zone {
        group.is_registered(&group.members[0], &listener.zone).then_some(0)
    } else {
        let mut hasher = DefaultHasher::new();
        (client, listener.address, flow.0).hash(&mut hasher);
        choose(group, &listener.zone, hasher.finish())
    };
    let member = member.ok_or(Refusal::NoTarget)?;
    let flows = Arc::clone(&route.flows_of_members[member]);
    let before = flows.fetch_add(1, Ordering::Relaxed);
    let slot = TargetSlot { member, flow, flows };
    if before >= group.flows_per_target {
        Err(Refusal::FlowLimit)
    } else if group.connections_per_member.is_some_and(|most| before >= most) {
        Err(Refusal::ConnectionLimit)
    } else {
        Ok(slot)
    }
}

#[cfg(test)]
#[path = "target_select_tests.rs"]
mod tests;
