//! A member of a running set: heartbeats and elections over TCP, and the step-down commands.
//!
//! Heartbeats use a separate port of the clients' address, so that isolating an address also stops its heartbeats. Each
//! connection carries one request, in `OP_MSG`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{Document, doc};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::election::{Election, ElectionStep, Heartbeat, MemberRole, Timing};
use super::error::{CommandError, CommandResult};
use super::horizon::Horizons;
use super::order::integer;
use super::store::Store;
use super::wire;

/// How long a member stays in a transitional state, so that clients see it.
const PHASE: Duration = Duration::from_millis(30);
/// Checks of the election state per election time-out.
const CHECKS_PER_TIMEOUT: u32 = 40;
/// `replSetStepDown` without a number.
const STEP_DOWN: Duration = Duration::from_secs(60);
/// `secondaryCatchUpPeriodSecs` where it is not given.
const CATCH_UP: Duration = Duration::from_secs(10);

/// The state that all members of a set share.
#[derive(Debug)]
pub(super) struct SetState {
    /// Its name.
    pub(super) name: String,
    /// The clients' address of each member.
    pub(super) nodes: Vec<SocketAddr>,
    pub(super) timing: Timing,
    /// The data; [`Store::of`] a member is its own.
    pub(super) store: Store,
    /// How each member is reached by the others.
    pub(super) links: watch::Sender<Vec<Link>>,
}

/// How a member is reached by the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// The address of its heartbeat listener; `None`: it is stopped.
    pub(super) address: Option<SocketAddr>,
    /// Whether it is isolated from the others.
    pub(super) isolated: bool,
}

impl SetState {
    /// Where `from` reaches `to`.
    fn link(&self, from: usize, to: usize) -> Option<SocketAddr> {
        reaches(&self.links.borrow(), from, to)
    }
}

fn reaches(links: &[Link], from: usize, to: usize) -> Option<SocketAddr> {
    links[to].address.filter(|_| !links[from].isolated && !links[to].isolated)
}

/// How many members have the writes of `member`, itself included.
pub(super) fn replica_count(links: &[Link], member: usize) -> usize {
    1 + (0..links.len()).filter(|other| *other != member && reaches(links, member, *other).is_some()).count()
}

/// A member's state, as `hello` reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SetMemberState {
    /// The counter of `topologyVersion`, incremented with every change that is visible to clients.
    pub(super) counter: i64,
    pub(super) term: i64,
    pub(super) role: MemberRole,
    /// The primary that it knows of.
    pub(super) primary: Option<usize>,
    pub(super) horizons: Horizons,
}

/// One run of a member.
#[derive(Debug)]
pub(super) struct SetMember {
    pub(super) set: Arc<SetState>,
    pub(super) index: usize,
    /// Outlives this run.
    election: Arc<Mutex<Election>>,
    state: watch::Sender<SetMemberState>,
    /// Notifies `act` of a change.
    changed: Notify,
    /// Notifies the heartbeat senders of a change.
    announced: Notify,
}

impl SetMember {
    pub(super) fn new(set: Arc<SetState>, index: usize, election: Arc<Mutex<Election>>, horizons: Horizons) -> Self {
        let state = watch::Sender::new(SetMemberState { horizons, ..SetMemberState::default() });
        let member = Self { set, index, election, state, changed: Notify::new(), announced: Notify::new() };
        member.with(|_| ());
        member.state.send_modify(|state| state.counter = 1);
        member
    }

    /// Its state as it changes.
    pub(super) fn states(&self) -> watch::Receiver<SetMemberState> {
        self.state.subscribe()
    }

    /// Replaces the members' names.
    pub(super) fn set_horizons(&self, horizons: &Horizons) {
        self.state.send_if_modified(|state| {
            let changed = state.horizons != *horizons;
            if changed {
                state.horizons.clone_from(horizons);
                state.counter += 1;
            }
            changed
        });
    }

    /// Reads or changes the election state, and publishes visible changes.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Election) -> T) -> T {
        let mut election = self.election.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut election);
        let changed = self.state.send_if_modified(|state| {
            let changed = (state.role, state.primary) != (election.role(), election.primary());
            (state.term, state.role, state.primary) = (election.term(), election.role(), election.primary());
            state.counter += i64::from(changed);
            changed
        });
        if changed {
            self.changed.notify_one();
            self.announced.notify_waiters();
        }
        outcome
    }

    /// Sends heartbeats and takes part in elections, until it is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let peers = (0..self.set.nodes.len()).filter(|peer| *peer != self.index);
        tokio::join!(join_all(peers.map(|peer| self.send_heartbeats(peer))), self.act());
    }

    async fn send_heartbeats(&self, peer: usize) {
        loop {
            let announced = self.announced.notified();
            let reply = self.ask(peer, encode(self.with(|election| election.heartbeat()))).await;
            if let Some(heartbeat) = reply.as_ref().and_then(decode) {
                self.with(|election| election.receive(heartbeat, Instant::now()));
            }
            // A change is sent at once, also to a peer that did not answer.
            tokio::select! {
                () = sleep(self.set.timing.heartbeat_interval) => {}
                () = announced => {}
            }
        }
    }

    /// Carries out the actions that the election state requires.
    async fn act(&self) {
        let mut look = interval(self.set.timing.election_timeout / CHECKS_PER_TIMEOUT);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = self.changed.notified() => {}
            }
            match self.with(|election| election.due(Instant::now())) {
                None => {}
                Some(ElectionStep::FinishStepDown) => {
                    sleep(PHASE).await;
                    self.with(|election| election.stepped_down(Instant::now()));
                }
                Some(ElectionStep::BecomePrimary) => {
                    sleep(PHASE).await;
                    // The new primary's config, with its term.
                    self.state.send_modify(|state| state.counter += 1);
                    sleep(PHASE).await;
                    self.set.store.of(self.index).elected();
                    self.with(Election::become_primary);
                }
                Some(ElectionStep::RequestVotes { dry_run }) => self.become_candidate(dry_run).await,
            }
        }
    }

    async fn become_candidate(&self, dry_run: bool) {
        if dry_run && !self.wins_election(self.with(|election| election.term()), true).await {
            self.with(|election| election.postpone(Instant::now()));
            return;
        }
        let term = self.with(|election| election.become_candidate(Instant::now()));
        if self.wins_election(term, false).await {
            self.with(|election| election.won(term));
            tracing::info!(set = self.set.name, member = self.index, term, "stand-in member elected primary");
        }
    }

    /// Whether a majority votes for this member.
    async fn wins_election(&self, term: i64, dry_run: bool) -> bool {
        let request = doc! { "replSetRequestVotes": 1, "term": term, "dryRun": dry_run };
        let peers = (0..self.set.nodes.len()).filter(|peer| *peer != self.index);
        let mut answers: FuturesUnordered<_> = peers.map(|peer| self.ask(peer, request.clone())).collect();
        let (mut votes, needed) = (1, self.with(|election| election.majority()));
        while votes < needed
            && let Some(answer) = answers.next().await
        {
            let Some(answer) = answer else { continue };
            votes += usize::from(answer.get_bool("voteGranted").unwrap_or(false));
            let term = answer.get_i64("term").unwrap_or_default();
            self.with(|election| election.observe_term(term));
        }
        votes >= needed
    }

    /// Sends a request to another member; `None` if it cannot be reached or does not reply.
    async fn ask(&self, peer: usize, request: Document) -> Option<Document> {
        let to = self.set.link(self.index, peer)?;
        let exchange = exchange(self.set.nodes[self.index].ip(), to, &request);
        timeout(self.set.timing.election_timeout, exchange).await.ok()?.ok()
    }

    /// Answers another member's request.
    pub(super) async fn answer(self: Arc<Self>, mut stream: TcpStream) {
        let Ok(Some(message)) = wire::read(&mut stream).await else { return };
        let Ok(request) = wire::parse(&message) else { return };
        let now = Instant::now();
        let body = &request.body;
        let reply = match body.keys().next().map_or("", String::as_str) {
            "replSetRequestVotes" => {
                let term = body.get_i64("term").unwrap_or_default();
                let dry_run = body.get_bool("dryRun").unwrap_or(false);
                let (granted, term) = self.with(|election| (election.vote(term, dry_run, now), election.term()));
                doc! { "voteGranted": granted, "term": term, "ok": 1.0 }
            }
            "replSetStepUp" => {
                self.with(|election| election.hand_over(now));
                self.changed.notify_one();
                doc! { "ok": 1.0 }
            }
            _ => {
                let Some(heartbeat) = decode(body) else { return };
                encode(self.with(|election| {
                    election.receive(heartbeat, now);
                    election.heartbeat()
                }))
            }
        };
        if let Ok(bytes) = wire::reply(request.form, 1, request.id, false, &reply) {
            let _ = stream.write_all(&bytes).await;
        }
    }

    /// `replSetStepDown`, unforced with a hand-over: the best member calls an election at once. (*replSetStepDown* in the manual.)
    pub(super) async fn step_down(&self, body: &Document) -> CommandResult {
        let force = body.get_bool("force").unwrap_or(false);
        let period = seconds(body, "replSetStepDown")?.filter(|period| !period.is_zero()).unwrap_or(STEP_DOWN);
        let catch_up = seconds(body, "secondaryCatchUpPeriodSecs")?;
        let catch_up = catch_up.unwrap_or(if force { Duration::ZERO } else { CATCH_UP });
        if period < catch_up {
            return Err(CommandError::bad_value("stepdown period must be longer than secondaryCatchUpPeriodSecs"));
        }
        self.hand_over(period, catch_up, force).await
    }

    /// Steps down for `period`, once a majority is reached; at the latest after `catch_up`, and then only with `force`.
    pub(super) async fn hand_over(&self, period: Duration, catch_up: Duration, force: bool) -> CommandResult {
        let no_primary = || CommandError::new(10107, "NotWritablePrimary", "not primary so can't step down");
        if self.state.borrow().role != MemberRole::Primary {
            return Err(no_primary());
        }
        let mut links = self.set.links.subscribe();
        let majority = self.with(|election| election.majority());
        // A set of one has no member to hand over to.
        let needed = majority.max(2);
        let caught_up =
            timeout(catch_up, links.wait_for(|links| replica_count(links, self.index) >= needed)).await.is_ok();
        if !caught_up && !force {
            let message = "No electable secondaries caught up in time, so the primary does not step down";
            return Err(CommandError::new(262, "ExceededTimeLimit", message));
        }
        if !self.with(|election| election.step_down(period, Instant::now())) {
            return Err(no_primary());
        }
        let mut states = self.states();
        let _ = states.wait_for(|state| state.role == MemberRole::Secondary).await;
        if !force {
            for peer in (0..self.set.nodes.len()).filter(|peer| *peer != self.index) {
                if self.ask(peer, doc! { "replSetStepUp": 1 }).await.is_some() {
                    break;
                }
            }
        }
        Ok(doc! { "ok": 1.0 })
    }

    /// `replSetFreeze`.
    pub(super) fn freeze(&self, body: &Document) -> CommandResult {
        let period = seconds(body, "replSetFreeze")?.unwrap_or_default();
        if !self.with(|election| election.freeze(period, Instant::now())) {
            return Err(CommandError::new(
                95,
                "NotSecondary",
                "cannot freeze node when primary or running for election",
            ));
        }
        Ok(match period.as_secs() {
            0 => doc! { "info": "unfreezing", "ok": 1.0 },
            1 => doc! { "warning": "you really want to freeze for only 1 second?", "ok": 1.0 },
            _ => doc! { "ok": 1.0 },
        })
    }
}

/// A number of seconds from 0 in a command; `None` where there is no number.
fn seconds(body: &Document, field: &str) -> Result<Option<Duration>, CommandError> {
    let number = |value| integer(value).or_else(|| value.as_f64().map(|number| number as i64));
    let wrong = |_| CommandError::bad_value(format!("{field} must be a number of seconds from 0"));
    body.get(field)
        .and_then(number)
        .map(|given| u64::try_from(given).map(Duration::from_secs).map_err(wrong))
        .transpose()
}

fn encode(heartbeat: Heartbeat) -> Document {
    doc! {
        "replSetHeartbeat": 1, "from": heartbeat.from as i64, "term": heartbeat.term, "primary": heartbeat.primary,
        "ok": 1.0,
    }
}

fn decode(document: &Document) -> Option<Heartbeat> {
    Some(Heartbeat {
        from: usize::try_from(document.get_i64("from").ok()?).ok()?,
        term: document.get_i64("term").ok()?,
        primary: document.get_bool("primary").ok()?,
    })
}

/// One request and its reply, over a connection from the member's own address.
async fn exchange(from: IpAddr, to: SocketAddr, request: &Document) -> io::Result<Document> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(to).await?;
    wire::exchange(&mut stream, 1, request).await
}
