//! Computes which listeners a new snapshot opens, retargets and closes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::snapshot::{Listener, ListenerAccess, Member, Snapshot, TargetGroup};
use crate::model::{ConnectError, DrainReason, EndpointState, ListenerPort, TargetId, TargetState, VpceServiceId};

/// The difference between the listeners of two snapshots. Each list is in order of address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Addresses to bind.
    pub open: Vec<Arc<Listener>>,
    /// Addresses that stay bound but have other targets or access rules: new flows use this listener, open flows keep
    /// what they have.
    pub retarget: Vec<Arc<Listener>>,
    /// Addresses to close, and why their flows drain.
    pub close: Vec<(SocketAddr, DrainReason)>,
    /// Members whose flows end although their listeners stay.
    pub leave: Vec<MemberRemoval>,
}

/// A member that leaves a group whose listeners stay, and what happens to its flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRemoval {
    /// The load balancer.
    pub service: VpceServiceId,
    /// The addressable target.
    pub target: TargetId,
    /// The member.
    pub member: Member,
    /// The reason.
    pub reason: DrainReason,
    /// How long the flows may last.
    pub delay: Duration,
    /// Whether flows that last longer are reset.
    pub cut: bool,
}

impl Changes {
    /// Whether nothing changes for the data plane.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.retarget.is_empty() && self.close.is_empty() && self.leave.is_empty()
    }
}

/// The difference between `old` and `new`: closing, retargeting and opening accordingly turns one's listeners into the
/// other's.
///
/// Listeners with equal values are not affected.
#[must_use]
pub fn diff(old: &Snapshot, new: &Snapshot) -> Changes {
    let mut changes = Changes::default();
    for (address, listener) in &new.listeners {
        match old.listeners.get(address) {
            None => changes.open.push(Arc::clone(listener)),
            Some(before) if before != listener => changes.retarget.push(Arc::clone(listener)),
            Some(_) => {}
        }
    }
    let mut reasons = None;
    for (address, listener) in &old.listeners {
        if !new.listeners.contains_key(address) {
            let reasons = reasons.get_or_insert_with(|| CloseReasons::from(new));
            changes.close.push((*address, reasons.for_closing(listener)));
        }
    }
    changes.leave = leaving(old, new);
    changes
}

/// The members that left a group that still exists, and those that are now unhealthy while their group does not fail
/// open.
///
/// A member is identified by name and address: one that moved to another address has left the old one.
fn leaving(old: &Snapshot, new: &Snapshot) -> Vec<MemberRemoval> {
    let mut seen = BTreeSet::new();
    let mut leaving = Vec::new();
    for (address, before) in &old.listeners {
        let Some(now) = new.listeners.get(address) else { continue };
        let (had, has) = (&before.group, &now.group);
        if had.target != has.target || Arc::ptr_eq(had, has) {
            continue;
        }
        for member in &had.members {
            let same = |other: &&Member| other.name == member.name && other.address == member.address;
            let after = has.members.iter().find(same);
            let out = |member: &Member| matches!(member.state, TargetState::Draining | TargetState::Unused);
            let gone = !out(member) && after.is_none_or(out);
            let ends = after.is_some_and(|member| is_terminated(has, member)) && !is_terminated(had, member);
            let falls = after.is_some_and(is_down) && !is_down(member);
            if !gone && !ends && !falls || !seen.insert((&has.service, &has.target, &member.name)) {
                continue;
            }
            let (reason, delay, cut) = if gone {
                (DrainReason::Deregistered, has.deregistration_delay, has.terminate_on_deregistration)
            } else if falls {
                (DrainReason::Fault, Duration::ZERO, true)
            } else {
                (DrainReason::Unhealthy, Duration::ZERO, true)
            };
            let (service, target) = (has.service.clone(), has.target.clone());
            leaving.push(MemberRemoval { service, target, member: member.clone(), reason, delay, cut });
        }
    }
    leaving
}

/// Whether a fault makes it refuse: its flows are reset, as when a process ends.
fn is_down(member: &Member) -> bool {
    member.faulted && member.reach == Some(ConnectError::Refused)
}

/// Whether the load balancer resets the flows of `member` (*Health checks*, connection termination): it is unhealthy,
/// and its zone's node does not fail open.
fn is_terminated(group: &TargetGroup, member: &Member) -> bool {
    group.terminate_on_unhealthy && member.state == TargetState::Unhealthy && !group.fails_open(&member.zone)
}

/// The state of closed listeners in the new snapshot. Computed only if a listener closes.
struct CloseReasons<'a> {
    new: &'a Snapshot,
    /// The current port of each target; paused ones have none.
    ports: BTreeMap<(&'a VpceServiceId, &'a TargetId), ListenerPort>,
    /// The targets that have a public address.
    public: BTreeSet<(&'a VpceServiceId, &'a TargetId)>,
}

impl<'a> From<&'a Snapshot> for CloseReasons<'a> {
    fn from(new: &'a Snapshot) -> Self {
        let running = new.targets.iter().filter(|target| !target.paused);
        let public = new.listeners.values().filter(|listener| matches!(listener.access, ListenerAccess::Public { .. }));
        Self {
            new,
            ports: running.map(|target| ((&target.service, &target.id), target.port)).collect(),
            public: public.map(|listener| (&listener.group.service, &listener.group.target)).collect(),
        }
    }
}

impl CloseReasons<'_> {
    fn for_closing(&self, listener: &Listener) -> DrainReason {
        if !self.new.serves(listener.claim()) {
            return DrainReason::ClaimLost;
        }
        let target = (&listener.group.service, &listener.group.target);
        let elsewhere = match &listener.access {
            ListenerAccess::Endpoint(access) => {
                let ip = listener.address.ip();
                let still_there = self.new.endpoints.get(&access.id).is_some_and(|access| {
                    access.state == EndpointState::Available && access.addresses.iter().any(|address| address.ip == ip)
                });
                if !still_there {
                    return DrainReason::EndpointRemoved;
                }
                self.ports.get(&target).is_some_and(|port| port.get() != listener.address.port())
            }
            ListenerAccess::Public { .. } => self.public.contains(&target),
        };
        if elsewhere { DrainReason::Moved } else { DrainReason::Deregistered }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PortAllocations;
    use super::super::fixture::{ENDPOINT, SERVICE, documented, endpoint, nets, of, plan_from};
    use super::*;
    use crate::model::Desired;

    /// The difference between the example of MongoDB's documentation and a modified one.
    fn changes(change: impl FnOnce(&mut Desired)) -> Changes {
        changes_of(documented(), change)
    }

    fn changes_of(mut desired: Desired, change: impl FnOnce(&mut Desired)) -> Changes {
        let (old, held) = plan_from(&desired, &PortAllocations::default());
        change(&mut desired);
        diff(&old, &plan_from(&desired, &held).0)
    }

    fn opened(changes: &Changes) -> Vec<String> {
        changes.open.iter().map(|listener| listener.address.to_string()).collect()
    }

    fn closed(changes: &Changes) -> Vec<(String, DrainReason)> {
        changes.close.iter().map(|(address, reason)| (address.to_string(), *reason)).collect()
    }

    #[test]
    fn nothing_changes_when_nothing_is_wanted_otherwise() {
        assert!(changes(|_| ()).is_empty());
        assert!(changes(|desired| desired.projects[0].name = "Other".to_owned()).is_empty());
    }

    #[test]
    fn a_moved_target_opens_its_new_port_and_drains_the_old_one_as_moved() {
        let changes = changes(|desired| {
            let port = ListenerPort::try_from(2000).expect("a port");
            desired.moves.insert((of(SERVICE), of("Cluster0/shard-00-01")), port);
        });
        assert_eq!(opened(&changes), ["10.0.20.54:2000", "10.0.30.194:2000"]);
        let moved = |address: &str| (address.to_owned(), DrainReason::Moved);
        assert_eq!(closed(&changes), [moved("10.0.20.54:1025"), moved("10.0.30.194:1025")]);
        assert_eq!(changes.retarget, []);
    }

    #[test]
    fn a_removed_or_paused_target_drains_as_deregistered() {
        let gone = |address: &str| (address.to_owned(), DrainReason::Deregistered);
        let removed = changes(|desired| drop(desired.projects[0].clusters[0].nodes.remove(2)));
        assert_eq!(closed(&removed), [gone("10.0.20.54:1026"), gone("10.0.30.194:1026")]);
        let paused = changes(|desired| desired.projects[0].clusters[0].paused = true);
        assert_eq!(paused.close.len(), 6);
        assert!(paused.close.iter().all(|(_, reason)| *reason == DrainReason::Deregistered));
    }

    #[test]
    fn flows_of_a_removed_endpoint_drain_as_endpoint_removed() {
        let without = |change: fn(&mut Desired)| {
            let changes = changes(change);
            assert!(changes.close.iter().all(|(_, reason)| *reason == DrainReason::EndpointRemoved), "{changes:?}");
            changes.close.len()
        };
        assert_eq!(without(|desired| desired.endpoints.clear()), 6);
        assert_eq!(without(|desired| endpoint(desired, ENDPOINT).state = EndpointState::Rejected), 6);
        assert_eq!(without(|desired| drop(endpoint(desired, ENDPOINT).addresses.remove(0))), 3);
    }

    #[test]
    fn health_addresses_rules_and_attributes_retarget() {
        let all: [fn(&mut Desired); 4] = [
            |desired| endpoint(desired, ENDPOINT).security_groups.clear(),
            |desired| desired.projects[0].services[0].attributes.proxy_protocol = true,
            |desired| desired.vpcs.values_mut().for_each(|vpc| vpc.peered = nets(&["10.98.0.0/16"])),
            |desired| {
                for node in &mut desired.projects[0].clusters[0].nodes {
                    node.address = of(&node.address.to_string().replace(":27017", ":27018"));
                }
            },
        ];
        for change in all {
            let changes = changes(change);
            assert_eq!((changes.open.len(), changes.retarget.len(), changes.close.len()), (0, 6, 0));
        }
        let one = changes(|desired| {
            let member = (of(SERVICE), of("Cluster0/shard-00-00"), "shard-00-00".to_owned());
            desired.health.insert(member, TargetState::Healthy.into());
        });
        let retargeted: Vec<_> = one.retarget.iter().map(|listener| listener.address.to_string()).collect();
        assert_eq!(retargeted, ["10.0.20.54:1024", "10.0.30.194:1024"]);
        assert_eq!(one.retarget[0].group.members[0].state, TargetState::Healthy);
    }

    #[test]
    fn a_public_address_moves_or_goes() {
        let mut desired = documented();
        desired.projects[0].clusters[0].nodes[0].public_address = Some(of("203.0.113.20:27017"));
        let moved = changes_of(desired.clone(), |desired| {
            desired.projects[0].clusters[0].nodes[0].public_address = Some(of("203.0.113.21:27017"));
        });
        assert_eq!(opened(&moved), ["203.0.113.21:27017"]);
        assert_eq!(closed(&moved), [("203.0.113.20:27017".to_owned(), DrainReason::Moved)]);
        let gone = changes_of(desired.clone(), |desired| {
            desired.projects[0].clusters[0].nodes[0].public_address = None;
        });
        assert_eq!(closed(&gone), [("203.0.113.20:27017".to_owned(), DrainReason::Deregistered)]);
        let listed = changes_of(desired, |desired| desired.projects[0].access_list = nets(&["198.51.100.0/24"]));
        assert_eq!((listed.open.len(), listed.retarget.len(), listed.close.len()), (0, 1, 0));
    }
}
