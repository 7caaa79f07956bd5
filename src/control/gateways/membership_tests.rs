//! Claims on a virtual clock: renewals that are late, unanswered twice, or lost; pauses, restarts, gateways that leave.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::membership::{LEASE, Membership, RENEWAL, Renewal, TAKEOVER};
use super::records::{GatewayRegistration, PREFIX};
use crate::control::inventory::Timestamp;
use crate::control::store::{MemoryStore, Revision, StateStore, Txn};
use crate::model::ClaimId;

/// The configured claims of the test's gateways.
const WANTED: [(&str, &[&str]); 3] =
    [("a", &["us-east-1a", "public"]), ("b", &["us-east-1b"]), ("c", &["us-east-1a", "us-east-1b"])];

fn claims(texts: &[&str]) -> BTreeSet<ClaimId> {
    texts.iter().map(|text| text.parse().expect("a claim")).collect()
}

fn membership(name: &str, host: &str, wanted: &[&str], process: u64) -> Membership {
    let own = GatewayRegistration {
        process,
        host: host.to_owned(),
        renewal: 0,
        version: "1".to_owned(),
        claims: Some(claims(wanted)),
        serving: BTreeSet::new(),
        admin: None,
        started: Timestamp(0),
    };
    Membership::new(name.parse().expect("an id"), own)
}

/// A gateway whose messages take as long as the test decides.
struct Gateway {
    name: &'static str,
    wanted: &'static [&'static str],
    membership: Membership,
    /// Messages in flight, with the time at which each was sent.
    sent: Vec<(Renewal, Duration)>,
    /// Claims whose addresses it can't bind.
    unbound: BTreeSet<ClaimId>,
    /// Whether the process runs.
    runs: bool,
}

struct World {
    now: Duration,
    store: MemoryStore,
    gateways: Vec<Gateway>,
    processes: u64,
    /// Messages in flight of ended processes.
    stray: Vec<Txn>,
}

impl World {
    fn new(wanted: &[(&'static str, &'static [&'static str])]) -> Self {
        let gateways = wanted.iter().zip(1..).map(|((name, wanted), process)| Gateway {
            name,
            wanted,
            membership: membership(name, name, wanted, process),
            sent: Vec::new(),
            unbound: BTreeSet::new(),
            runs: true,
        });
        let gateways: Vec<_> = gateways.collect();
        let processes = gateways.len() as u64;
        Self { now: Duration::ZERO, store: MemoryStore::with_gaps(), gateways, processes, stray: Vec::new() }
    }

    /// Commits a message that arrives now.
    fn commit(&self, txn: Txn) -> Option<Revision> {
        self.store.commit(txn).now_or_never().expect("memory answers at once").ok()
    }

    fn read(&mut self, of: usize) {
        let view = self.store.range(PREFIX).now_or_never().expect("memory answers at once").expect("it answers");
        self.gateways[of].membership.read(&view.entries, self.now);
    }

    /// Makes a renewal from the last read, and sends it.
    fn send(&mut self, of: usize) {
        let now = self.now;
        let gateway = &mut self.gateways[of];
        let serving = gateway.membership.leases().into_keys().collect();
        if let Some(renewal) = gateway.membership.renewal(&serving, &gateway.unbound, now) {
            gateway.sent.push((renewal, now));
        }
    }

    /// Delivers the oldest message; `is_answered`: and its response.
    fn arrive(&mut self, of: usize, is_answered: bool) {
        if self.gateways[of].sent.is_empty() {
            return;
        }
        let (renewal, sent) = self.gateways[of].sent.remove(0);
        if let (Some(revision), true) = (self.commit(renewal.txn.clone()), is_answered) {
            self.gateways[of].membership.renewed(renewal, sent, revision);
        }
    }

    /// A whole round of a gateway with access to the store.
    fn round(&mut self, of: usize) {
        if self.gateways[of].runs {
            self.read(of);
            self.send(of);
            self.arrive(of, true);
        }
    }

    /// Rounds of these gateways, one each [`RENEWAL`].
    fn run(&mut self, whose: &[usize], time: Duration) {
        let end = self.now + time;
        while self.now < end {
            whose.iter().for_each(|of| self.round(*of));
            self.check();
            self.now += RENEWAL;
        }
    }

    fn kill(&mut self, of: usize) {
        self.gateways[of].runs = false;
        let lost = std::mem::take(&mut self.gateways[of].sent);
        self.stray.extend(lost.into_iter().map(|(renewal, _)| renewal.txn));
    }

    fn restart(&mut self, of: usize) {
        self.kill(of);
        self.processes += 1;
        let gateway = &mut self.gateways[of];
        (gateway.membership, gateway.runs) =
            (membership(gateway.name, gateway.name, gateway.wanted, self.processes), true);
    }

    /// The gateway stops serving and leaves.
    fn leave(&mut self, of: usize) {
        if !self.gateways[of].runs {
            return;
        }
        self.read(of);
        if let Some(txn) = self.gateways[of].membership.leaving() {
            self.commit(txn).expect("there is no other writer");
        }
        self.kill(of);
    }

    /// The gateways whose listeners accept connections for each claim.
    fn holders(&self) -> BTreeMap<ClaimId, Vec<&'static str>> {
        let mut holders: BTreeMap<ClaimId, Vec<_>> = BTreeMap::new();
        for gateway in self.gateways.iter().filter(|gateway| gateway.runs) {
            for (claim, end) in gateway.membership.leases() {
                if end.is_none_or(|end| self.now < end) {
                    holders.entry(claim).or_default().push(gateway.name);
                }
            }
        }
        holders
    }

    fn holder(&self, claim: &str) -> Option<&'static str> {
        self.holders().get(claim).map(|holders| holders[0])
    }

    fn check(&self) {
        for (claim, holders) in self.holders() {
            assert!(holders.len() == 1, "{claim} is served by {holders:?} at {:?}", self.now);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Wait { milliseconds: u64 },
    Read { of: usize },
    Send { of: usize },
    Arrive { of: usize, is_answered: bool },
    Round { of: usize },
    Run { who: u8, seconds: u64 },
    Restart { of: usize },
    Leave { of: usize },
    Bind { of: usize, can_bind: bool },
    Stray,
}

fn step() -> impl Strategy<Value = Step> {
    let of = 0..WANTED.len();
    prop_oneof![
        4 => prop_oneof![0u64..1500, 5000u64..9000].prop_map(|milliseconds| Step::Wait { milliseconds }),
        3 => of.clone().prop_map(|of| Step::Read { of }),
        3 => of.clone().prop_map(|of| Step::Send { of }),
        3 => (of.clone(), any::<bool>()).prop_map(|(of, is_answered)| Step::Arrive { of, is_answered }),
        4 => of.clone().prop_map(|of| Step::Round { of }),
        4 => (1u8..8, 1u64..12).prop_map(|(who, seconds)| Step::Run { who, seconds }),
        1 => of.clone().prop_map(|of| Step::Restart { of }),
        1 => of.clone().prop_map(|of| Step::Leave { of }),
        2 => (of, any::<bool>()).prop_map(|(of, can_bind)| Step::Bind { of, can_bind }),
        1 => Just(Step::Stray),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// At any time a claim is served by at most one gateway; once everything works again, each claim is served.
    #[test]
    fn a_claim_never_has_two_holders_and_gets_one_in_the_end(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new(&WANTED);
        for step in steps {
            match step {
                Step::Wait { milliseconds } => world.now += Duration::from_millis(milliseconds),
                Step::Read { of } => world.read(of),
                Step::Send { of } if world.gateways[of].runs => world.send(of),
                Step::Send { .. } => {}
                Step::Arrive { of, is_answered } => world.arrive(of, is_answered),
                Step::Round { of } => world.round(of),
                Step::Run { who, seconds } => {
                    let whose: Vec<_> = (0..WANTED.len()).filter(|of| who & (1 << of) != 0).collect();
                    world.run(&whose, Duration::from_secs(seconds));
                }
                Step::Restart { of } => world.restart(of),
                Step::Leave { of } => world.leave(of),
                Step::Bind { of, can_bind } => {
                    let unbound: &[&str] = if can_bind { &[] } else { WANTED[of].1 };
                    world.gateways[of].unbound = claims(unbound);
                }
                Step::Stray => drop(world.stray.pop().map(|txn| world.commit(txn))),
            }
            world.check();
        }
        for of in 0..WANTED.len() {
            if !world.gateways[of].runs {
                world.restart(of);
            }
            world.gateways[of].sent.clear();
            world.gateways[of].unbound.clear();
        }
        world.run(&[0, 1, 2], 3 * TAKEOVER);
        let served: BTreeSet<_> = world.holders().into_keys().collect();
        prop_assert_eq!(served, claims(&["us-east-1a", "us-east-1b", "public"]));
    }
}

#[test]
fn a_renewal_that_arrives_after_another_gateway_took_the_claim_renews_nothing() {
    let mut world = World::new(&WANTED);
    world.run(&[0, 1, 2], Duration::from_secs(3));
    world.run(&[1, 2], Duration::from_secs(5));
    world.read(0);
    world.send(0);
    world.run(&[1, 2], Duration::from_secs(4));
    assert_eq!(world.holder("us-east-1a"), Some("c"));
    world.arrive(0, true);
    world.check();
}

#[test]
fn a_standby_takes_over_once_the_lease_of_the_holder_is_over() {
    let mut world = World::new(&WANTED);
    world.run(&[0, 1, 2], Duration::from_secs(3));
    assert_eq!(world.holder("us-east-1a"), Some("a"));
    let died = world.now;
    world.run(&[1, 2], LEASE - 2 * RENEWAL);
    assert_eq!(world.holder("us-east-1a"), Some("a"), "its lease runs");
    while world.holder("us-east-1a") != Some("c") {
        world.run(&[1, 2], RENEWAL);
        assert!(world.now - died <= TAKEOVER + 2 * RENEWAL, "c waits for too long");
    }
    assert_eq!(world.holder("public"), Some("a"), "without a standby it is served without the store");
    world.run(&[0, 1, 2], Duration::from_secs(3));
    assert_eq!(world.holder("us-east-1a"), Some("c"), "who comes back waits");
}

#[test]
fn a_gateway_that_leaves_is_replaced_at_once_and_a_restarted_one_continues_at_once() {
    let mut world = World::new(&WANTED);
    world.run(&[0, 1, 2], Duration::from_secs(3));
    world.restart(1);
    world.round(1);
    assert_eq!(world.holder("us-east-1b"), Some("b"), "no two processes of one host listen at one address");
    world.leave(0);
    world.round(2);
    assert_eq!(world.holder("us-east-1a"), Some("c"));
}

/// A zone without a standby is served while the store is away; with a standby its lease ends.
#[test]
fn without_the_store_zones_are_served_that_no_other_gateway_may_take() {
    let mut world = World::new(&WANTED);
    world.run(&[0, 1], Duration::from_secs(3));
    world.now += Duration::from_secs(600);
    assert_eq!(world.holders().len(), 3, "no standby is known");
    world.run(&[0, 1, 2], Duration::from_secs(3));
    world.now += Duration::from_secs(600);
    assert_eq!(world.holders().into_keys().collect::<BTreeSet<_>>(), claims(&["public"]));
    let before = world.gateways[0].membership.holders().map(|(_, holder, _)| holder.clone()).collect::<Vec<_>>();
    world.run(&[2], RENEWAL);
    world.run(&[0, 1, 2], Duration::from_secs(3));
    let after = world.gateways[0].membership.holders().map(|(_, holder, _)| holder.clone()).collect::<Vec<_>>();
    assert_eq!(before, after, "all of them were without the store, so none is judged by that time");
}

/// A holder that never saw the standby may serve for ever.
#[test]
fn a_standby_waits_for_a_holder_that_did_not_see_it_until_the_holder_is_forgotten() {
    let mut world = World::new(&WANTED);
    world.run(&[0], Duration::from_secs(3));
    world.run(&[2], 5 * TAKEOVER);
    assert_eq!(world.holder("us-east-1a"), Some("a"));
    let forgetting = world.gateways[2].membership.forgetting(&"a".parse().unwrap(), world.now);
    world.commit(forgetting.expect("it is gone").expect("it is registered")).expect("it did not come back");
    world.kill(0);
    world.round(2);
    assert_eq!(world.holder("us-east-1a"), Some("c"));
    let of = |world: &World, id: &str| world.gateways[2].membership.forgetting(&id.parse().unwrap(), world.now);
    assert!(of(&world, "a").expect("it is gone").is_none(), "it has no registration any more");
    assert!(of(&world, "c").is_err(), "no gateway forgets itself");
    world.round(1);
    world.round(2);
    assert!(of(&world, "b").is_err(), "it lives");
}

#[test]
fn another_process_with_a_gateways_id_waits_until_that_is_gone() {
    let mut world = World::new(&WANTED[..1]);
    world.run(&[0], Duration::from_secs(3));
    let (name, wanted) = ("a elsewhere", WANTED[0].1);
    let membership = membership("a", name, wanted, 7);
    world.gateways.push(Gateway { name, wanted, membership, sent: Vec::new(), unbound: BTreeSet::new(), runs: true });
    world.run(&[0, 1], 3 * TAKEOVER);
    assert_eq!(world.holder("public"), Some("a"));
    world.kill(0);
    world.run(&[1], TAKEOVER + 2 * RENEWAL);
    assert_eq!(world.holder("public"), Some("a elsewhere"));
}

#[test]
fn a_claim_whose_addresses_cannot_be_bound_goes_to_a_standby_that_can_bind_them() {
    let mut world = World::new(&WANTED);
    world.gateways[0].unbound = claims(WANTED[0].1);
    world.run(&[0], 2 * TAKEOVER);
    assert_eq!(world.holders().len(), 2, "no other gateway wants them");
    world.run(&[0, 1, 2], Duration::from_secs(5));
    assert_eq!((world.holder("us-east-1a"), world.holder("public")), (Some("c"), Some("a")));
    world.run(&[0, 1, 2], 3 * TAKEOVER);
    assert_eq!(world.holder("us-east-1a"), Some("c"), "it stays there");
    world.gateways[2].unbound = claims(&["us-east-1a"]);
    world.run(&[0, 1, 2], 3 * TAKEOVER);
    world.gateways[0].unbound.clear();
    world.run(&[0, 1, 2], 2 * TAKEOVER);
    assert_eq!(world.holder("us-east-1a"), Some("a"), "each has tried in turn");
}

#[test]
fn a_process_without_host_information_waits_until_the_earlier_one_is_gone() {
    let mut world = World::new(&WANTED[..1]);
    world.gateways[0].membership = membership("a", "", WANTED[0].1, 1);
    world.run(&[0], Duration::from_secs(3));
    let (name, wanted) = ("a again", WANTED[0].1);
    let membership = membership("a", "", wanted, 7);
    world.gateways.push(Gateway { name, wanted, membership, sent: Vec::new(), unbound: BTreeSet::new(), runs: true });
    world.run(&[0, 1], 3 * TAKEOVER);
    assert_eq!(world.holder("public"), Some("a"));
}
