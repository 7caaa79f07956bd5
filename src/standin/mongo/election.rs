//! The election state of one member: term, votes, time-outs. Pure: time is an argument, and the caller (`member`) sends
//! messages.
//!
//! Sources: *Replica Set Elections* in the MongoDB manual; `src/mongo/db/repl/README.md` of the server. Left out:
//! priorities, arbiters, catch-up (all members share one store) and priority takeover.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// Election timing of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time between two heartbeats (`heartbeatIntervalMillis`).
    pub heartbeat_interval: Duration,
    /// How long a member waits for the primary before it becomes a candidate, plus up to 15 % at random; also how long
    /// a primary without a majority stays primary (`electionTimeoutMillis`).
    pub election_timeout: Duration,
}

impl Default for Timing {
    /// MongoDB's defaults: a new primary 10 to 11.5 s after the loss of the last one.
    fn default() -> Self {
        Self { heartbeat_interval: Duration::from_secs(2), election_timeout: Duration::from_secs(10) }
    }
}

/// A member's role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum MemberRole {
    /// Replicates, and serves secondary reads.
    #[default]
    Secondary,
    /// Won an election, but does not accept writes yet.
    Elected,
    /// Accepts writes.
    Primary,
    /// Stepping down: no longer accepts writes, not yet a secondary.
    SteppingDown,
}

/// The heartbeat that members exchange, in requests and replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heartbeat {
    /// The sender.
    pub(super) from: usize,
    /// The newest term that it knows.
    pub(super) term: i64,
    /// Whether it is the primary of that term.
    pub(super) primary: bool,
}

/// The caller's next action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElectionStep {
    /// Request votes; `dry_run`: first ask whether the members would vote for it.
    RequestVotes { dry_run: bool },
    /// Become a secondary.
    FinishStepDown,
    /// Become primary.
    BecomePrimary,
}

/// The state of one member, kept across restarts, as a server stores its vote on disk.
#[derive(Debug)]
pub(super) struct Election {
    me: usize,
    timing: Timing,
    term: i64,
    /// The newest term in which it voted.
    voted_in: i64,
    role: MemberRole,
    primary: Option<usize>,
    /// When each member was last in contact.
    contacts: Vec<Option<Instant>>,
    /// When it becomes a candidate, unless a heartbeat from the primary arrives first.
    candidate_at: Instant,
    /// A primary that steps down asked it to become a candidate: no dry run.
    handed_over: bool,
    /// It is not a candidate before.
    frozen_until: Option<Instant>,
}

impl Election {
    /// Member `me` of a set of `count` whose member 0 is primary of term 1.
    pub(super) fn new(me: usize, count: usize, timing: Timing, now: Instant) -> Self {
        let role = if me == 0 { MemberRole::Primary } else { MemberRole::Secondary };
        let mut election = Self {
            me,
            timing,
            term: 1,
            voted_in: 1,
            role,
            primary: Some(0),
            contacts: vec![Some(now); count],
            candidate_at: now,
            handed_over: false,
            frozen_until: None,
        };
        election.postpone(now);
        election
    }

    /// Restarts a stopped member: term and vote are kept, contacts are cleared.
    pub(super) fn restart(&mut self, now: Instant) {
        self.role = MemberRole::Secondary;
        self.primary = None;
        self.contacts.fill(None);
        self.frozen_until = None;
        self.postpone(now);
    }

    pub(super) fn term(&self) -> i64 {
        self.term
    }

    pub(super) fn role(&self) -> MemberRole {
        self.role
    }

    /// The primary as far as this member knows.
    pub(super) fn primary(&self) -> Option<usize> {
        self.primary
    }

    /// When `member` was last in contact.
    pub(super) fn contact(&self, member: usize) -> Option<Instant> {
        self.contacts[member]
    }

    /// Whether `member` was in contact within the election time-out.
    pub(super) fn is_up(&self, member: usize, now: Instant) -> bool {
        member == self.me || self.contacts[member].is_some_and(|at| now < at + self.timing.election_timeout)
    }

    /// The members of a majority.
    pub(super) fn majority(&self) -> usize {
        self.contacts.len() / 2 + 1
    }

    /// This member's message to the others.
    pub(super) fn heartbeat(&self) -> Heartbeat {
        Heartbeat { from: self.me, term: self.term, primary: self.role == MemberRole::Primary }
    }

    /// Processes another member's heartbeat.
    pub(super) fn receive(&mut self, heartbeat: Heartbeat, now: Instant) {
        let Some(contact) = self.contacts.get_mut(heartbeat.from) else { return };
        *contact = Some(now);
        self.observe_term(heartbeat.term);
        if heartbeat.term < self.term {
            return;
        }
        if heartbeat.primary {
            self.primary = Some(heartbeat.from);
            self.handed_over = false;
            self.postpone(now);
        } else if self.primary == Some(heartbeat.from) {
            self.primary = None;
        }
    }

    /// Whether this member votes for a candidate of `term`; a dry run changes nothing.
    pub(super) fn vote(&mut self, term: i64, dry_run: bool, now: Instant) -> bool {
        if dry_run {
            return term >= self.term;
        }
        if term < self.term || term <= self.voted_in {
            return false;
        }
        self.observe_term(term);
        self.voted_in = term;
        self.postpone(now);
        true
    }

    /// Processes another member's term; a higher one makes a primary step down.
    pub(super) fn observe_term(&mut self, term: i64) {
        if term <= self.term {
            return;
        }
        self.term = term;
        match self.role {
            MemberRole::Primary => self.role = MemberRole::SteppingDown,
            MemberRole::Elected => (self.role, self.primary) = (MemberRole::Secondary, None),
            MemberRole::Secondary => self.primary = None,
            MemberRole::SteppingDown => {}
        }
    }

    /// The action that is due at `now`. A primary without a majority steps down.
    pub(super) fn due(&mut self, now: Instant) -> Option<ElectionStep> {
        let sees_majority =
            (0..self.contacts.len()).filter(|member| self.is_up(*member, now)).count() >= self.majority();
        match self.role {
            MemberRole::SteppingDown => Some(ElectionStep::FinishStepDown),
            MemberRole::Elected => Some(ElectionStep::BecomePrimary),
            MemberRole::Primary if !sees_majority => {
                self.role = MemberRole::SteppingDown;
                Some(ElectionStep::FinishStepDown)
            }
            MemberRole::Secondary if now >= self.candidate_at && sees_majority && !self.is_frozen(now) => {
                Some(ElectionStep::RequestVotes { dry_run: !std::mem::take(&mut self.handed_over) })
            }
            MemberRole::Primary | MemberRole::Secondary => None,
        }
    }

    /// Becomes a candidate in the next term and votes for itself; returns that term.
    pub(super) fn become_candidate(&mut self, now: Instant) -> i64 {
        self.term += 1;
        self.voted_in = self.term;
        self.primary = None;
        self.postpone(now);
        self.term
    }

    /// Records that a majority voted for it in `term`.
    pub(super) fn won(&mut self, term: i64) {
        if self.term == term && self.role == MemberRole::Secondary {
            (self.role, self.primary) = (MemberRole::Elected, Some(self.me));
        }
    }

    /// The election was not won: postpones the next attempt.
    pub(super) fn postpone(&mut self, now: Instant) {
        let chance = f64::from(RandomState::new().build_hasher().finish() as u16) / f64::from(u16::MAX);
        self.candidate_at = now + self.timing.election_timeout.mul_f64(1.0 + 0.15 * chance);
    }

    /// From elected to primary.
    pub(super) fn become_primary(&mut self) {
        if self.role == MemberRole::Elected {
            self.role = MemberRole::Primary;
        }
    }

    /// Stops accepting writes, and is not a candidate for `period`; false if it is not primary.
    pub(super) fn step_down(&mut self, period: Duration, now: Instant) -> bool {
        let primary = self.role == MemberRole::Primary;
        if primary {
            self.role = MemberRole::SteppingDown;
            self.frozen_until = Some(now + period);
        }
        primary
    }

    /// From stepping down to secondary.
    pub(super) fn stepped_down(&mut self, now: Instant) {
        if self.role == MemberRole::SteppingDown {
            self.role = MemberRole::Secondary;
            self.primary = self.primary.filter(|primary| *primary != self.me);
            self.postpone(now);
        }
    }

    /// Prevents it from becoming a candidate for `period`; zero ends that. False if it is primary or elected.
    pub(super) fn freeze(&mut self, period: Duration, now: Instant) -> bool {
        let secondary = self.role == MemberRole::Secondary;
        if secondary {
            self.frozen_until = (!period.is_zero()).then(|| now + period);
        }
        secondary
    }

    /// Becomes a candidate at once, as the primary hands over.
    pub(super) fn hand_over(&mut self, now: Instant) {
        self.candidate_at = now;
        self.handed_over = true;
    }

    fn is_frozen(&self, now: Instant) -> bool {
        self.frozen_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing =
        Timing { heartbeat_interval: Duration::from_secs(2), election_timeout: Duration::from_secs(10) };
    const STEP: Duration = Duration::from_millis(250);

    /// A simulated set, whose connected members exchange heartbeats, with its own clock.
    struct SimulatedSet {
        members: Vec<Election>,
        connected: Vec<bool>,
        now: Instant,
        start: Instant,
    }

    impl SimulatedSet {
        fn new(count: usize) -> Self {
            let start = Instant::now();
            let members = (0..count).map(|me| Election::new(me, count, TIMING, start)).collect();
            Self { members, connected: vec![true; count], now: start, start }
        }

        fn reaches(&self, from: usize, to: usize) -> bool {
            from != to && self.connected[from] && self.connected[to]
        }

        /// Runs until a member's role changes or `longest` is over; returns how long that took.
        fn run(&mut self, longest: Duration) -> Duration {
            let began = self.now;
            let before = self.primaries();
            while self.now < began + longest && self.primaries() == before {
                self.now += STEP;
                if (self.now - self.start).as_millis().is_multiple_of(TIMING.heartbeat_interval.as_millis()) {
                    self.heartbeats();
                }
                (0..self.members.len()).for_each(|member| self.act(member));
                assert!(self.primaries_of_newest_term() <= 1);
            }
            self.now - began
        }

        fn heartbeats(&mut self) {
            for from in 0..self.members.len() {
                for to in 0..self.members.len() {
                    if !self.reaches(from, to) {
                        continue;
                    }
                    let heartbeat = self.members[from].heartbeat();
                    self.members[to].receive(heartbeat, self.now);
                }
            }
        }

        fn act(&mut self, member: usize) {
            match self.members[member].due(self.now) {
                Some(ElectionStep::RequestVotes { dry_run }) => {
                    let term = self.members[member].term();
                    if dry_run && !self.votes(member, term, true) {
                        self.members[member].postpone(self.now);
                        return;
                    }
                    let term = self.members[member].become_candidate(self.now);
                    if self.votes(member, term, false) {
                        self.members[member].won(term);
                    }
                }
                Some(ElectionStep::BecomePrimary) => {
                    self.members[member].become_primary();
                    self.heartbeats();
                }
                Some(ElectionStep::FinishStepDown) => self.members[member].stepped_down(self.now),
                None => {}
            }
        }

        fn votes(&mut self, candidate: usize, term: i64, dry_run: bool) -> bool {
            let voters: Vec<usize> = (0..self.members.len()).filter(|to| self.reaches(candidate, *to)).collect();
            let now = self.now;
            let yes = voters.iter().filter(|voter| self.members[**voter].vote(term, dry_run, now)).count();
            yes + 1 >= self.members[candidate].majority()
        }

        fn primaries(&self) -> Vec<usize> {
            let primary = |member: &usize| self.members[*member].role() == MemberRole::Primary;
            (0..self.members.len()).filter(primary).collect()
        }

        fn primaries_of_newest_term(&self) -> usize {
            let newest = self.members.iter().map(Election::term).max();
            let primary = |member: &&Election| member.role() == MemberRole::Primary && Some(member.term()) == newest;
            self.members.iter().filter(primary).count()
        }
    }

    #[test]
    fn a_set_whose_members_are_in_contact_keeps_its_primary() {
        let mut set = SimulatedSet::new(3);
        set.run(Duration::from_secs(600));
        assert_eq!((set.primaries(), set.members[2].term()), (vec![0], 1));
    }

    #[test]
    fn a_lost_primary_is_replaced_after_the_election_timeout_and_at_most_15_percent_more() {
        for _ in 0..50 {
            let mut set = SimulatedSet::new(3);
            set.run(Duration::from_secs(60));
            set.connected[0] = false;
            // The old primary detects that it has no majority, or another is elected first.
            let took = set.run(Duration::from_secs(60)) + set.run(Duration::from_secs(5));
            assert!((Duration::from_secs(8)..Duration::from_secs(14)).contains(&took), "{took:?}");
            let new = set.primaries();
            assert!(new == [1] || new == [2], "{new:?}");
            assert_eq!(set.members[new[0]].term(), 2);
            set.connected[0] = true;
            set.run(Duration::from_secs(60));
            assert_eq!(set.primaries(), new, "the old one comes back as a secondary");
            assert_eq!(set.members[0].primary(), Some(new[0]));
        }
    }

    #[test]
    fn a_primary_without_a_majority_steps_down_and_a_minority_elects_none() {
        let mut set = SimulatedSet::new(3);
        set.run(Duration::from_secs(60));
        (set.connected[1], set.connected[2]) = (false, false);
        set.run(Duration::from_secs(60));
        assert!(set.primaries().is_empty());
        set.run(Duration::from_secs(120));
        assert!(set.primaries().is_empty());
        set.connected[1] = true;
        set.run(Duration::from_secs(60));
        assert_eq!(set.primaries().len(), 1, "two of three are a majority");
    }

    #[test]
    fn a_member_votes_once_in_a_term_and_for_no_older_one() {
        let now = Instant::now();
        let mut member = Election::new(1, 3, TIMING, now);
        assert!(!member.vote(1, false, now), "term 1 has its primary");
        assert!(member.vote(1, true, now) && member.vote(1, true, now), "a dry run costs no vote");
        assert!(member.vote(3, false, now));
        assert!(!member.vote(3, false, now) && !member.vote(2, false, now));
        member.restart(now);
        assert!(!member.vote(3, false, now), "a vote outlives a restart");
    }

    #[test]
    fn a_frozen_member_is_no_candidate() {
        let mut set = SimulatedSet::new(3);
        set.run(Duration::from_secs(10));
        assert!(!set.members[0].freeze(Duration::from_secs(60), set.now), "a primary is not frozen");
        assert!(set.members[1].freeze(Duration::from_secs(3600), set.now));
        set.connected[0] = false;
        set.run(Duration::from_secs(60));
        set.run(Duration::from_secs(60));
        assert_eq!(set.primaries(), [2]);
    }

    #[test]
    fn a_greater_term_ends_a_primary() {
        let now = Instant::now();
        let mut member = Election::new(0, 3, TIMING, now);
        member.receive(Heartbeat { from: 1, term: 5, primary: true }, now);
        assert_eq!((member.role(), member.term()), (MemberRole::SteppingDown, 5));
        member.stepped_down(now);
        assert_eq!(member.primary(), Some(1));
    }
}
