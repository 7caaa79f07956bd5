//! What a new snapshot opens, retargets and closes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::snapshot::{Gate, Listener, Snapshot};
use crate::model::{DrainReason, EndpointState, ListenerPort, TargetId, VpceServiceId};

/// The way from one snapshot's listeners to another's. Each list is in order of address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Addresses to bind.
    pub open: Vec<Arc<Listener>>,
    /// Addresses that stay bound and lead elsewhere, or let others in: later flows take this listener, running flows
    /// keep what they have.
    pub retarget: Vec<Arc<Listener>>,
    /// Addresses to give up, and why their flows are to drain.
    pub close: Vec<(SocketAddr, DrainReason)>,
}

impl Changes {
    /// Whether nothing changes for the data plane.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.retarget.is_empty() && self.close.is_empty()
    }
}

/// What leads from `old` to `new`: closing, retargeting and opening as told makes the one's listeners the other's.
///
/// Listeners that are equal by value stay untouched.
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
            let reasons = reasons.get_or_insert_with(|| Reasons::from(new));
            changes.close.push((*address, reasons.for_closing(listener)));
        }
    }
    changes
}

/// What the new snapshot says of a listener that it no longer has. Made when something closes.
struct Reasons<'a> {
    new: &'a Snapshot,
    /// Where each target is now; paused ones are nowhere.
    ports: BTreeMap<(&'a VpceServiceId, &'a TargetId), ListenerPort>,
    /// Who has a public address now.
    public: BTreeSet<(&'a VpceServiceId, &'a TargetId)>,
}

impl<'a> From<&'a Snapshot> for Reasons<'a> {
    fn from(new: &'a Snapshot) -> Self {
        let running = new.targets.iter().filter(|target| !target.paused);
        let public = new.listeners.values().filter(|listener| matches!(listener.gate, Gate::Public { .. }));
        Self {
            new,
            ports: running.map(|target| ((&target.service, &target.id), target.port)).collect(),
            public: public.map(|listener| (&listener.group.service, &listener.group.target)).collect(),
        }
    }
}

impl Reasons<'_> {
    fn for_closing(&self, listener: &Listener) -> DrainReason {
        let target = (&listener.group.service, &listener.group.target);
        let elsewhere = match &listener.gate {
            Gate::Endpoint(gate) => {
                let ip = listener.address.ip();
                let still_there = self.new.endpoints.get(&gate.id).is_some_and(|gate| {
                    gate.state == EndpointState::Available && gate.addresses.iter().any(|address| address.ip == ip)
                });
                if !still_there {
                    return DrainReason::EndpointRemoved;
                }
                self.ports.get(&target).is_some_and(|port| port.get() != listener.address.port())
            }
            Gate::Public { .. } => self.public.contains(&target),
        };
        if elsewhere { DrainReason::Moved } else { DrainReason::Deregistered }
    }
}
