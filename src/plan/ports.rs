//! Allocates a load balancer's ports to targets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{GatewayId, ListenerPort, PortRange, TargetId};

/// The ports of one load balancer: the port of each target, and the ports that are reserved while their flows drain.
///
/// Saved as JSON, so that a target keeps its port over reloads, restarts and crashes. No two targets share a port, and
/// no target has a draining one: a saved ledger that violates this is refused when it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SavedLedger")]
pub struct PortLedger {
    held: BTreeMap<TargetId, ListenerPort>,
    draining: BTreeSet<ListenerPort>,
    /// If several gateways share the ledger: the draining ports that each may still have open.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    waiting: BTreeMap<GatewayId, BTreeSet<ListenerPort>>,
}

/// A saved ledger, not yet validated.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedLedger {
    held: BTreeMap<TargetId, ListenerPort>,
    draining: BTreeSet<ListenerPort>,
    #[serde(default)]
    waiting: BTreeMap<GatewayId, BTreeSet<ListenerPort>>,
}

impl PortLedger {
    /// The port of `target`.
    #[must_use]
    pub fn port(&self, target: &TargetId) -> Option<ListenerPort> {
        self.held.get(target).copied()
    }

    /// Every target and its port, in target order.
    pub fn ports(&self) -> impl Iterator<Item = (&TargetId, ListenerPort)> {
        self.held.iter().map(|(target, port)| (target, *port))
    }

    /// Ports that no target may have until they are released.
    pub fn draining(&self) -> impl Iterator<Item = ListenerPort> {
        self.draining.iter().copied()
    }

    /// Whether it has no targets and no draining ports.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.draining.is_empty()
    }

    /// Releases `port`; returns whether it was draining.
    pub fn release(&mut self, port: ListenerPort) -> bool {
        for ports in self.waiting.values_mut() {
            ports.remove(&port);
        }
        self.waiting.retain(|_, ports| !ports.is_empty());
        self.draining.remove(&port)
    }

    /// Makes every draining port that waits for no gateway yet wait for all of `gateways`.
    pub(super) fn wait_for(&mut self, gateways: &BTreeSet<GatewayId>) {
        let waited_for: BTreeSet<_> = self.waiting.values().flatten().copied().collect();
        let new: BTreeSet<_> = self.draining.difference(&waited_for).copied().collect();
        for gateway in gateways.iter().filter(|_| !new.is_empty()) {
            self.waiting.entry(gateway.clone()).or_default().extend(&new);
        }
    }

    /// The draining ports that `gateway` may still have open.
    pub(super) fn waiting_for(&self, gateway: &GatewayId) -> impl Iterator<Item = ListenerPort> {
        self.waiting.get(gateway).into_iter().flatten().copied()
    }

    /// Records that `gateway` does not have `port` open; when no gateway has it open, the port is released.
    pub(super) fn acknowledge(&mut self, gateway: &GatewayId, port: ListenerPort) {
        let Some(ports) = self.waiting.get_mut(gateway) else { return };
        ports.remove(&port);
        self.waiting.retain(|_, ports| !ports.is_empty());
        if !self.waiting.values().any(|ports| ports.contains(&port)) {
            self.draining.remove(&port);
        }
    }

    /// The ledger of a removed load balancer: every port drains.
    #[must_use]
    pub fn retired(&self) -> Self {
        let draining = self.draining.iter().chain(self.held.values()).copied().collect();
        Self { held: BTreeMap::new(), draining, waiting: self.waiting.clone() }
    }
}

impl TryFrom<SavedLedger> for PortLedger {
    type Error = String;

    fn try_from(SavedLedger { held, draining, waiting }: SavedLedger) -> Result<Self, String> {
        let mut holders: BTreeMap<ListenerPort, &TargetId> = BTreeMap::new();
        for (target, &port) in &held {
            if let Some(first) = holders.insert(port, target) {
                return Err(format!(
                    "port {port} is held by `{first}` and by `{target}`; a port belongs to one target"
                ));
            }
            if draining.contains(&port) {
                return Err(format!("port {port} of `{target}` is draining; no target may have a draining port"));
            }
        }
        Ok(Self { held, draining, waiting })
    }
}

/// Allocates a listener port to every wanted target.
///
/// A target keeps the port that `ledger` records for it, so a client's connection string outlives a reload (even when
/// the range has changed since); a target in `moves` gets the requested port; the others get the lowest free ports, in
/// target order. The ports of removed or moved targets drain. A port that was in use before the call is not reassigned
/// in it, so two targets can't swap. Moves of targets that aren't wanted have no effect. The result depends only on the
/// arguments.
///
/// # Errors
///
/// One message for each target that cannot get a port or the requested port; then nothing is assigned.
pub fn allocate(
    range: PortRange,
    ledger: &PortLedger,
    wanted: &BTreeSet<TargetId>,
    moves: &BTreeMap<TargetId, ListenerPort>,
) -> Result<PortLedger, Vec<String>> {
    let holders: BTreeMap<ListenerPort, &TargetId> = ledger.ports().map(|(target, port)| (port, target)).collect();
    let mut errors = Vec::new();
    let mut given: BTreeMap<ListenerPort, &TargetId> = BTreeMap::new();
    let mut next = PortLedger { held: BTreeMap::new(), ..ledger.clone() };

    for (target, &port) in moves.iter().filter(|(target, _)| wanted.contains(*target)) {
        let held = |holder: &TargetId| format!("`{holder}` has it; choose a free port");
        let draining = || "it is still draining; choose a free port or wait".to_owned();
        let reason = if ledger.port(target) == Some(port) {
            continue;
        } else if !range.contains(port) {
            format!("the load balancer's ports are {range}")
        } else if let Some(&holder) = holders.get(&port) {
            let leaves = !wanted.contains(holder) || moves.get(holder).is_some_and(|elsewhere| *elsewhere != port);
            if leaves { draining() } else { held(holder) }
        } else if ledger.draining.contains(&port) {
            draining()
        } else if let Some(&holder) = given.get(&port) {
            held(holder)
        } else {
            given.insert(port, target);
            next.held.insert(target.clone(), port);
            continue;
        };
        errors.push(format!("cannot move `{target}` to port {port}: {reason}"));
    }

    for (target, port) in ledger.ports() {
        if wanted.contains(target) && !next.held.contains_key(target) {
            next.held.insert(target.clone(), port);
        } else {
            next.draining.insert(port);
        }
    }

    let mut free = range
        .ports()
        .filter(|port| !holders.contains_key(port) && !ledger.draining.contains(port) && !given.contains_key(port));
    let mut missing = 0;
    for target in wanted {
        if next.held.contains_key(target) {
            continue;
        }
        match free.next() {
            Some(port) => {
                next.held.insert(target.clone(), port);
            }
            None => missing += 1,
        }
    }
    if missing > 0 {
        errors.push(format!(
            "cannot give {} targets a port each: {missing} find none in {range} ({} ports are draining)",
            wanted.len(),
            next.draining.len()
        ));
    }
    if errors.is_empty() { Ok(next) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(n: usize) -> TargetId {
        format!("Cluster0/shard-00-{n:02}").parse().expect("a target id")
    }

    fn targets(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<TargetId> {
        numbers.into_iter().map(target).collect()
    }

    fn port(number: u16) -> ListenerPort {
        ListenerPort::try_from(number).expect("a port")
    }

    fn range(text: &str) -> PortRange {
        text.parse().expect("a range")
    }

    fn to(moves: &[(usize, u16)]) -> BTreeMap<TargetId, ListenerPort> {
        moves.iter().map(|(n, number)| (target(*n), port(*number))).collect()
    }

    fn ports(ledger: &PortLedger) -> Vec<u16> {
        ledger.ports().map(|(_, port)| port.get()).collect()
    }

    fn three() -> PortLedger {
        allocate(PortRange::atlas(), &PortLedger::default(), &targets(0..3), &to(&[])).expect("room for three")
    }

    #[test]
    fn new_targets_take_the_lowest_free_ports_in_target_order() {
        assert_eq!(ports(&three()), [1024, 1025, 1026]);
    }

    #[test]
    fn a_target_keeps_its_port_when_an_earlier_one_appears() {
        let held = allocate(PortRange::atlas(), &PortLedger::default(), &targets([5]), &to(&[])).expect("room");
        let next = allocate(PortRange::atlas(), &held, &targets([1, 5]), &to(&[])).expect("room");
        assert_eq!((next.port(&target(5)), next.port(&target(1))), (Some(port(1024)), Some(port(1025))));
    }

    #[test]
    fn the_port_of_a_removed_target_is_not_reused_until_it_is_released() {
        let mut ledger = allocate(PortRange::atlas(), &three(), &targets([0, 2]), &to(&[])).expect("room");
        assert_eq!(ledger.draining().collect::<Vec<_>>(), [port(1025)]);
        let next = allocate(PortRange::atlas(), &ledger, &targets([0, 2, 3]), &to(&[])).expect("room");
        assert_eq!(next.port(&target(3)), Some(port(1027)));

        assert!(ledger.release(port(1025)));
        assert!(!ledger.release(port(1025)), "it drains no more");
        let next = allocate(PortRange::atlas(), &ledger, &targets([0, 2, 3]), &to(&[])).expect("room");
        assert_eq!(next.port(&target(3)), Some(port(1025)));
    }

    #[test]
    fn a_moved_target_takes_the_requested_port_and_its_old_one_drains() {
        let ledger = allocate(PortRange::atlas(), &three(), &targets(0..3), &to(&[(1, 2000)])).expect("free");
        assert_eq!(ports(&ledger), [1024, 2000, 1026]);
        assert_eq!(ledger.draining().collect::<Vec<_>>(), [port(1025)]);

        let again = allocate(PortRange::atlas(), &ledger, &targets(0..3), &to(&[(1, 2000)])).expect("done already");
        assert_eq!(again, ledger, "the ask may stay");
        let without = allocate(PortRange::atlas(), &ledger, &targets(0..3), &to(&[])).expect("room");
        assert_eq!(without, ledger, "the target keeps the port after the ask is gone");
    }

    #[test]
    fn a_new_target_does_not_take_the_port_that_a_move_asks_for() {
        let ledger = allocate(PortRange::atlas(), &three(), &targets(0..4), &to(&[(0, 1027)])).expect("room");
        assert_eq!(ports(&ledger), [1027, 1025, 1026, 1028]);
    }

    #[test]
    fn a_move_to_an_impossible_port_is_refused_with_the_reason() {
        let refusals = |moves: &[(usize, u16)]| {
            let errors = allocate(PortRange::atlas(), &three(), &targets(0..3), &to(moves)).expect_err("refused");
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            refusals(&[(0, 80)]),
            ["cannot move `Cluster0/shard-00-00` to port 80: the load balancer's ports are 1024-65535"]
        );
        assert_eq!(
            refusals(&[(0, 1026)]),
            ["cannot move `Cluster0/shard-00-00` to port 1026: `Cluster0/shard-00-02` has it; choose a free port"]
        );
        assert_eq!(
            refusals(&[(0, 1025), (1, 1024)]),
            [
                "cannot move `Cluster0/shard-00-00` to port 1025: it is still draining; choose a free port or wait",
                "cannot move `Cluster0/shard-00-01` to port 1024: it is still draining; choose a free port or wait",
            ],
            "a swap would give a draining port"
        );
        assert_eq!(
            refusals(&[(0, 3000), (1, 3000)]),
            ["cannot move `Cluster0/shard-00-01` to port 3000: `Cluster0/shard-00-00` has it; choose a free port"]
        );
    }

    #[test]
    fn a_move_of_a_target_that_is_not_wanted_has_no_effect() {
        let ledger = allocate(PortRange::atlas(), &three(), &targets(0..3), &to(&[(7, 80)])).expect("ignored");
        assert_eq!(ledger, three());
    }

    #[test]
    fn a_range_that_is_too_small_is_refused_with_the_number_of_missing_ports() {
        let errors =
            allocate(range("1024-1025"), &PortLedger::default(), &targets(0..3), &to(&[])).expect_err("too small");
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["cannot give 3 targets a port each: 1 find none in 1024-1025 (0 ports are draining)"]
        );
    }

    #[test]
    fn a_target_keeps_a_port_that_a_narrower_range_no_longer_has() {
        let ledger = allocate(range("2000-2010"), &three(), &targets(0..4), &to(&[])).expect("room");
        assert_eq!(ports(&ledger), [1024, 1025, 1026, 2000]);
    }

    #[test]
    fn a_ledger_is_saved_with_its_keys_as_text() {
        let ledger = allocate(PortRange::atlas(), &three(), &targets([0, 2]), &to(&[])).expect("room");
        let text = serde_json::to_string(&ledger).expect("JSON");
        assert_eq!(text, r#"{"held":{"Cluster0/shard-00-00":1024,"Cluster0/shard-00-02":1026},"draining":[1025]}"#);
        assert_eq!(serde_json::from_str::<PortLedger>(&text).expect("the same"), ledger);
    }

    #[test]
    fn a_saved_ledger_that_contradicts_itself_is_refused() {
        let error = |text: &str| serde_json::from_str::<PortLedger>(text).expect_err("refused").to_string();
        assert_eq!(
            error(r#"{"held":{"a/x":1024,"b/x":1024},"draining":[]}"#),
            "port 1024 is held by `a/x` and by `b/x`; a port belongs to one target"
        );
        assert_eq!(
            error(r#"{"held":{"a/x":1024},"draining":[1024]}"#),
            "port 1024 of `a/x` is draining; no target may have a draining port"
        );
        assert!(error(r#"{"held":{},"draining":[],"leases":[]}"#).starts_with("unknown field `leases`"));
        assert!(serde_json::from_str::<PortLedger>(r#"{"held":{"a/x":0},"draining":[]}"#).is_err());
    }

    proptest! {
        /// For any sequence of additions, removals, moves and releases.
        #[test]
        fn ports_stick_and_are_distinct_and_no_target_has_a_draining_one(
            steps in prop::collection::vec(
                (
                    prop::collection::btree_set(0usize..12, 0..12),
                    prop::collection::btree_map(0usize..12, 1020u16..1048, 0..3),
                    prop::option::of(1024u16..1044),
                ),
                1..40,
            ),
        ) {
            let range = range("1024-1043");
            let mut ledger = PortLedger::default();
            for (wanted, moves, released) in steps {
                let wanted = targets(wanted);
                let moves = to(&moves.into_iter().collect::<Vec<_>>());
                if let Some(released) = released {
                    ledger.release(port(released));
                }
                let Ok(next) = allocate(range, &ledger, &wanted, &moves) else { continue };

                prop_assert_eq!(next.ports().map(|(target, _)| target.clone()).collect::<BTreeSet<_>>(), wanted);
                let distinct: BTreeSet<_> = next.ports().map(|(_, port)| port).collect();
                prop_assert_eq!(distinct.len(), next.ports().count());
                prop_assert!(distinct.iter().all(|port| range.contains(*port)));
                prop_assert!(next.draining().all(|port| !distinct.contains(&port)));
                for (target, now) in next.ports() {
                    match (ledger.port(target), moves.get(target)) {
                        (_, Some(asked)) => prop_assert_eq!(now, *asked),
                        (Some(before), None) => prop_assert_eq!(now, before),
                        (None, None) => prop_assert!(ledger.draining().all(|port| port != now)),
                    }
                }
                for (_, before) in ledger.ports() {
                    let kept = distinct.contains(&before);
                    prop_assert!(kept != next.draining().any(|port| port == before), "held or draining");
                }
                let saved = serde_json::to_string(&next).expect("JSON");
                prop_assert_eq!(serde_json::from_str::<PortLedger>(&saved).expect("readable"), next.clone());
                ledger = next;
            }
        }
    }
}
