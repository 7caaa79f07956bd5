//! The part of the plan that must outlive the process.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ports::PortLedger;
use crate::model::{GatewayId, ListenerPort, VpceId, VpceServiceId};

/// The part of the plan that must outlive the process: each target's port, and the N in each endpoint's `pl-N` names.
///
/// An argument and a result of [`compile`](super::compile()), so that the plan stays pure. Both maps are saved as JSON with
/// ids as keys, whole or entry by entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortAllocations {
    /// The port ledgers of load balancers.
    pub ledgers: BTreeMap<VpceServiceId, PortLedger>,
    /// The N of every endpoint of a project: unique among the endpoints of a load balancer. An endpoint with an entry
    /// was accepted before.
    pub indexes: BTreeMap<VpceId, u16>,
}

impl PortAllocations {
    /// Every draining port, with its load balancer.
    pub fn draining(&self) -> impl Iterator<Item = (&VpceServiceId, ListenerPort)> {
        self.ledgers.iter().flat_map(|(service, ledger)| ledger.draining().map(move |port| (service, port)))
    }

    /// Releases `port` of `service`, which has finished draining; returns whether it was draining.
    pub fn release(&mut self, service: &VpceServiceId, port: ListenerPort) -> bool {
        let Some(ledger) = self.ledgers.get_mut(service) else { return false };
        let was_draining = ledger.release(port);
        if ledger.is_empty() {
            self.ledgers.remove(service);
        }
        was_draining
    }

    /// Makes every draining port that waits for no gateway yet wait for all of `gateways`, as each may have it open.
    pub fn wait_for(&mut self, gateways: &BTreeSet<GatewayId>) {
        self.ledgers.values_mut().for_each(|ledger| ledger.wait_for(gateways));
    }

    /// The draining ports that `gateway` may still have open, with their load balancers.
    pub fn waiting_for<'a>(
        &'a self,
        gateway: &'a GatewayId,
    ) -> impl Iterator<Item = (&'a VpceServiceId, ListenerPort)> {
        let of = |(service, ledger): (&'a VpceServiceId, &'a PortLedger)| {
            ledger.waiting_for(gateway).map(move |port| (service, port))
        };
        self.ledgers.iter().flat_map(of)
    }

    /// Records that `gateway` does not have `port` of `service` open; when no gateway has it open, the port is
    /// released.
    pub fn acknowledge(&mut self, gateway: &GatewayId, service: &VpceServiceId, port: ListenerPort) {
        let Some(ledger) = self.ledgers.get_mut(service) else { return };
        ledger.acknowledge(gateway, port);
        if ledger.is_empty() {
            self.ledgers.remove(service);
        }
    }

    /// Releases all draining ports, as when a process has just started: no flow outlives one.
    pub fn release_all(&mut self) {
        let draining: Vec<_> = self.draining().map(|(service, port)| (service.clone(), port)).collect();
        for (service, port) in draining {
            self.release(&service, port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = concat!(
        r#"{"ledgers":{"vpce-svc-02863655456245e5c":{"held":{"Cluster0/shard-00-00":1024},"draining":[1025]},"#,
        r#""vpce-svc-0718bec2c0bdeab5c":{"held":{},"draining":[1024,1026]}},"indexes":{"vpce-024f5b57108c8d3ed":0}}"#,
    );

    #[test]
    fn port_allocations_are_saved_and_read_as_one_value() {
        let held: PortAllocations = serde_json::from_str(SAVED).expect("readable");
        assert_eq!(serde_json::to_string(&held).expect("JSON"), SAVED);
        assert!(serde_json::from_str::<PortAllocations>(r#"{"ledgers":{},"indexes":{},"version":2}"#).is_err());
    }

    #[test]
    fn a_released_port_is_free_and_an_empty_ledger_goes() {
        let mut held: PortAllocations = serde_json::from_str(SAVED).expect("readable");
        let service: VpceServiceId = "vpce-svc-0718bec2c0bdeab5c".parse().expect("an id");
        let port = |number: u16| ListenerPort::try_from(number).expect("a port");
        assert!(held.release(&service, port(1024)));
        assert!(!held.release(&service, port(1024)));
        assert_eq!(held.draining().count(), 2);
        held.release_all();
        assert_eq!(held.draining().count(), 0);
        assert!(!held.ledgers.contains_key(&service), "nothing is left in it");
        assert_eq!(held.ledgers.len(), 1);
    }

    #[test]
    fn a_port_that_several_gateways_had_open_is_released_by_the_last_one() {
        let [a, b]: [GatewayId; 2] = ["a", "b"].map(|id| id.parse().expect("an id"));
        let service: VpceServiceId = "vpce-svc-02863655456245e5c".parse().expect("an id");
        let port = |number: u16| ListenerPort::try_from(number).expect("a port");
        let mut held: PortAllocations = serde_json::from_str(SAVED).expect("readable");
        held.wait_for(&[a.clone(), b.clone()].into());
        held.wait_for(&["late".parse().expect("an id")].into());
        let saved = serde_json::to_string(&held).expect("writable");
        assert_eq!(serde_json::from_str::<PortAllocations>(&saved).expect("readable"), held);
        assert_eq!(
            held.waiting_for(&a).filter(|(of, _)| **of == service).collect::<Vec<_>>(),
            [(&service, port(1025))]
        );
        held.acknowledge(&a, &service, port(1025));
        held.acknowledge(&a, &service, port(1025));
        assert!(held.draining().any(|drains| drains == (&service, port(1025))), "b may have it open");
        held.acknowledge(&b, &service, port(1025));
        assert!(!held.draining().any(|drains| drains == (&service, port(1025))));
        assert_eq!(held.waiting_for(&b).count(), 2, "the other load balancer's");
    }
}
