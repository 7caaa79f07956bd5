//! A worker: one thread, one epoll, its own listening sockets and its own connections.
//!
//! The thread waits for news of its sockets and polls the connection that they are of, which goes on until it would have to
//! wait. Nothing else runs here: what takes time, or can be told once, is for other threads.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::task::{Context, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::door::{Door, Taken};
use super::flow::Flow;
use super::listener::{self, ListenerState};
use super::local::Local;
use super::outer::Outer;
use super::poll::{Bell, Inbox, Key, News, PutOff, Ticks, Token};
use super::refuse::{self, Held};
use super::table::{FlowRecord, Order};
use super::timers::Timers;
use crate::model::{CidrSet, FlowId, Refusal, Side};

/// Connections that are polled again before news are heard of the others.
const MOST_AGAIN: usize = 256;

/// What a worker is told.
pub(crate) enum Command {
    /// Accept on these sockets.
    Open(Vec<(std::net::TcpListener, ListenerState)>, oneshot::Sender<()>),
    /// Use other routes for new flows.
    Retarget(Vec<ListenerState>),
    /// Say when everything told before is done.
    Sync(oneshot::Sender<()>),
    /// Accept no more at this address.
    Close(SocketAddr, oneshot::Sender<()>),
    /// Refuse these sources on every listener.
    ServiceSide(Arc<CidrSet>),
    /// Look at your orders.
    Wake(Vec<Arc<FlowRecord>>),
    /// End, with every flow that is left.
    Stop,
    /// Do something else: panic, or not come back.
    #[cfg(test)]
    Misbehave(Box<dyn FnOnce(&mut Worker) + Send>),
}

/// Tells a worker what to do, from any thread.
#[derive(Debug)]
pub(crate) struct Commands {
    queue: Sender<Command>,
    bell: Arc<Bell>,
}

impl Commands {
    pub(crate) fn new(queue: Sender<Command>, bell: Arc<Bell>) -> Self {
        Self { queue, bell }
    }

    /// A worker that is gone went with the process, and has no use for it.
    pub(crate) fn send(&self, command: Command) {
        if self.queue.send(command).is_ok() {
            self.bell.ring();
        }
    }
}

impl Drop for Commands {
    /// Nobody can tell the worker anything any more.
    fn drop(&mut self) {
        self.send(Command::Stop);
    }
}

/// What a connection wants after it was polled.
#[derive(Debug)]
pub(crate) enum Turn {
    /// To hear of its sockets.
    Wait,
    /// Likewise, and to be polled at this time if nothing comes before.
    WaitUntil(Instant),
    /// To be polled again once the others had their turn.
    Again,
    /// To be closed.
    Over,
    /// That its client is left unanswered.
    Hold,
    /// That the client it is for is let in, or refused.
    Admit(Result<SocketAddr, Refusal>),
}

/// A connection of a worker.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It goes to a target.
    Flow(Box<Flow>),
    /// It was refused, and doesn't know.
    Held(Box<Held>),
    /// For whom it is, is still to be read.
    Outer(Box<Outer>),
    /// It does as a test says.
    #[cfg(test)]
    Scripted(tests::Script),
}

impl Entry {
    fn poll(&mut self, cx: &mut Context<'_>) -> Turn {
        match self {
            Self::Flow(flow) => flow.poll(cx),
            Self::Held(held) => held.poll(cx),
            Self::Outer(outer) => outer.poll(cx),
            #[cfg(test)]
            Self::Scripted(script) => script.poll(),
        }
    }

    /// Has its peers see RST.
    fn reset(&self) {
        match self {
            Self::Flow(flow) => flow.reset(),
            Self::Held(held) => held.client.reset(),
            Self::Outer(outer) => outer.client.reset(),
            #[cfg(test)]
            Self::Scripted(_) => {}
        }
    }
}

/// A connection in its slot.
#[derive(Debug)]
struct Seated {
    generation: u32,
    entry: Entry,
    /// The time that it is to be called at: it has a timer for that, and no other.
    call_at: Option<Instant>,
    /// It is among those that are polled again: once, however much news comes meanwhile.
    again: bool,
}

/// Whom a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Connection(Key),
    Door(usize),
}

/// A worker's state.
pub(crate) struct Worker {
    local: Rc<Local>,
    commands: Receiver<Command>,
    bell: Arc<Bell>,
    ticks: Ticks,
    inbox: Inbox,
    entries: Slab<Seated>,
    generation: u32,
    doors: Slab<Door>,
    door_at: HashMap<SocketAddr, usize>,
    /// How often the kernel told all news that there were.
    round: u64,
    timers: Timers<Due>,
    /// Ticks that are over and were not attended to.
    ticks_due: u64,
    /// Who is to be polled once the news are attended to.
    again: VecDeque<Key>,
    /// Raised by a poll that was put off for the sake of others.
    put_off: Arc<PutOff>,
    waker: Waker,
}

impl Worker {
    /// # Errors
    ///
    /// When the kernel gives it no clock.
    pub(crate) fn new(local: Rc<Local>, commands: Receiver<Command>, bell: Arc<Bell>) -> io::Result<Self> {
        let ticks = Ticks::new(&local.poller, local.options.tick)?;
        let put_off = Arc::new(PutOff::default());
        let waker = Waker::from(Arc::clone(&put_off));
        Ok(Self {
            local,
            commands,
            bell,
            ticks,
            inbox: Inbox::new(),
            entries: Slab::new(),
            generation: 0,
            doors: Slab::new(),
            door_at: HashMap::new(),
            round: 0,
            timers: Timers::new(),
            ticks_due: 0,
            again: VecDeque::new(),
            put_off,
            waker,
        })
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self) {
        loop {
            while let Some((token, news)) = self.inbox.take() {
                match token {
                    Token::Connection(key, side) => self.tell(key, side, news),
                    Token::Door(at) => self.accept(at as usize),
                    Token::Tick => self.ticks_due += self.ticks.passed(),
                    Token::Bell => {
                        self.bell.heard();
                        if !self.obey() {
                            return;
                        }
                    }
                }
            }
            if self.ticks_due > 0 {
                self.ticks_due -= 1;
                self.turn();
            }
            self.call();
            for _ in 0..self.again.len().min(MOST_AGAIN) {
                if let Some(key) = self.again.pop_front()
                    && let Some(seated) = self.seated(key)
                {
                    seated.again = false;
                    self.poll(key);
                }
            }
            let busy = !self.again.is_empty() || self.ticks_due > 0;
            let time = if busy { Some(Duration::ZERO) } else { self.timers.wait() };
            self.local.poller.wait(&mut self.inbox, time).expect("an epoll of our own waits");
            // Of thousands that are ready a door may not be among those that fit, although clients wait there.
            self.round += u64::from(!self.inbox.is_full());
        }
    }

    /// Does what it was told; false when that is to stop.
    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open(opened, done)) => {
                    opened.into_iter().for_each(|(socket, state)| self.open(socket, state));
                    let _ = done.send(());
                }
                Ok(Command::Retarget(states)) => states.into_iter().for_each(|state| self.retarget(state)),
                Ok(Command::Close(address, done)) => {
                    if let Some(at) = self.door_at.remove(&address) {
                        self.doors.remove(at);
                    }
                    let _ = done.send(());
                }
                Ok(Command::Sync(done)) => {
                    let _ = done.send(());
                }
                Ok(Command::ServiceSide(cidrs)) => *self.local.service_side.borrow_mut() = cidrs,
                Ok(Command::Wake(records)) => {
                    for record in records {
                        self.poll_flow_again(record.slot.load(Ordering::Relaxed), record.id);
                    }
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                #[cfg(test)]
                Ok(Command::Misbehave(how)) => how(self),
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn open(&mut self, socket: std::net::TcpListener, state: ListenerState) {
        let address = state.listener.address;
        let vacant = self.doors.vacant_entry();
        let at = vacant.key();
        let door = vacant.insert(Door::new(state));
        door.open(&self.local, at, socket);
        door.answer(&self.local, at);
        self.door_at.insert(address, at);
    }

    fn retarget(&mut self, state: ListenerState) {
        if let Some(&at) = self.door_at.get(&state.listener.address) {
            self.doors[at].state = state;
            self.doors[at].answer(&self.local, at);
        }
    }

    /// Accepts who waits at a door, up to the number after which others have their turn.
    fn accept(&mut self, at: usize) {
        let Some(door) = self.doors.get_mut(at) else { return };
        for _ in 0..door.allowed(self.round, self.local.options.accepts_per_wake) {
            let Some(door) = self.doors.get_mut(at) else { return };
            match door.accept(&self.local, at) {
                Taken::One(client, address) => {
                    if let Some(entry) = listener::take(&self.local, &door.state, client, address) {
                        self.seat(entry);
                    }
                }
                Taken::Failed => {}
                Taken::PausedUntil(time) => return self.timers.set(time, Due::Door(at)),
                Taken::NoMore => return,
            }
        }
    }

    /// One tick: flows that have been silent for a while are told so, and doors that failed try again.
    fn turn(&mut self) {
        let now = self.local.next_tick();
        let (entries, mut silent) = (&self.entries, Vec::new());
        self.local.wheel.borrow_mut().turn(now, |(slot, id)| {
            let Entry::Flow(flow) = &entries.get(*slot as usize)?.entry else { return None };
            let record = flow.record();
            if record.id != *id {
                return None;
            }
            if !record.is_silent(now) {
                return Some(record.next_look(now));
            }
            if record.order() == Order::Frozen {
                // It stands still for another reason, and is seen to afterwards.
                return Some(now + 1);
            }
            record.tell(Order::Expire);
            silent.push((*slot, *id));
            None
        });
        silent.into_iter().for_each(|(slot, id)| self.poll_flow_again(slot, id));
        for (at, door) in self.doors.iter_mut().filter(|(_, door)| door.wants_another_try()) {
            door.answer(&self.local, at);
        }
    }

    /// Calls those whose time has come.
    fn call(&mut self) {
        if self.timers.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(who) = self.timers.due(now) {
            match who {
                Due::Door(door) => {
                    if let Some(open) = self.doors.get_mut(door) {
                        open.go_on(&self.local, door);
                    }
                }
                Due::Connection(key) => {
                    if let Some(seated) = self.seated(key) {
                        seated.call_at = None;
                        self.poll(key);
                    }
                }
            }
        }
    }

    /// Gives a new connection a slot, and its first turn.
    fn seat(&mut self, entry: Entry) {
        let slot = u32::try_from(self.entries.vacant_key()).expect("descriptors end long before slots do");
        self.generation = self.generation.wrapping_add(1);
        let key = Key { slot, generation: self.generation };
        let seated = Seated { generation: key.generation, entry, call_at: None, again: false };
        self.entries.insert(seated);
        self.settle(key);
    }

    /// Makes a connection known under its key, and polls it.
    fn settle(&mut self, key: Key) {
        let Some(seated) = self.entries.get_mut(key.slot as usize) else { return };
        let (poller, token) = (&self.local.poller, Token::Connection(key, Side::Client));
        let watched = match &mut seated.entry {
            Entry::Flow(flow) => {
                flow.enter(key);
                Ok(())
            }
            Entry::Held(held) => held.client.watch(poller, token),
            Entry::Outer(outer) => outer.client.watch(poller, token),
            #[cfg(test)]
            Entry::Scripted(_) => Ok(()),
        };
        match watched {
            Ok(()) => self.poll(key),
            Err(error) => {
                self.local.shared.accept_error(&error);
                seated.entry.reset();
                self.unseat(key);
            }
        }
    }

    fn seated(&mut self, key: Key) -> Option<&mut Seated> {
        self.entries.get_mut(key.slot as usize).filter(|seated| seated.generation == key.generation)
    }

    /// News of a connection.
    #[inline]
    fn tell(&mut self, key: Key, side: Side, news: News) {
        let Some(seated) = self.seated(key) else { return };
        match &mut seated.entry {
            Entry::Flow(flow) => flow.hear(side, news),
            Entry::Held(held) => held.client.hear(news),
            Entry::Outer(outer) => outer.client.hear(news),
            #[cfg(test)]
            Entry::Scripted(_) => {}
        }
        // One that waits for its turn among the others hears of this then.
        if !seated.again {
            self.poll(key);
        }
    }

    /// Has the flow with this id polled, if the slot is still its. Not at once: there may be thousands of them.
    fn poll_flow_again(&mut self, slot: u32, id: FlowId) {
        if let Some(Seated { generation, entry: Entry::Flow(flow), .. }) = self.entries.get(slot as usize)
            && flow.record().id == id
        {
            self.poll_again(Key { slot, generation: *generation });
        }
    }

    /// Lets a connection go on for as long as it can, and does what it wants then. One that panics is closed; nobody else
    /// loses anything by it.
    fn poll(&mut self, key: Key) {
        let Some(seated) = self.entries.get_mut(key.slot as usize).filter(|seated| seated.generation == key.generation)
        else {
            return;
        };
        let (entry, waker) = (&mut seated.entry, &self.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| entry.poll(&mut Context::from_waker(waker))));
        let put_off = self.put_off.take();
        let turn = polled.unwrap_or_else(|_| {
            tracing::error!("a connection panicked and was reset; the others go on");
            seated.entry.reset();
            Turn::Over
        });
        match turn {
            Turn::Wait | Turn::WaitUntil(_) if put_off => self.poll_again(key),
            Turn::Again => self.poll_again(key),
            Turn::Wait => {}
            Turn::WaitUntil(at) => {
                if seated.call_at.is_none_or(|before| at < before) {
                    if let Some(before) = seated.call_at.replace(at) {
                        self.timers.take_back(before, Due::Connection(key));
                    }
                    self.timers.set(at, Due::Connection(key));
                }
            }
            Turn::Over => drop(self.unseat(key)),
            Turn::Hold | Turn::Admit(_) => self.succeed(key, turn),
        }
    }

    /// Frees a connection's slot.
    fn unseat(&mut self, key: Key) -> Entry {
        let seated = self.entries.remove(key.slot as usize);
        if let Some(at) = seated.call_at {
            self.timers.take_back(at, Due::Connection(key));
        }
        seated.entry
    }

    /// Has a connection polled once the others had their turn.
    fn poll_again(&mut self, key: Key) {
        if let Some(seated) = self.seated(key)
            && !std::mem::replace(&mut seated.again, true)
        {
            self.again.push_back(key);
        }
    }

    /// A connection goes on as something else.
    fn succeed(&mut self, key: Key, turn: Turn) {
        let entry = self.unseat(key);
        let next = match (entry, turn) {
            (Entry::Flow(flow), _) => refuse::leave_unanswered(&self.local, flow.into_client()).map(held),
            (Entry::Outer(outer), Turn::Admit(Ok(source))) => {
                let outer = *outer;
                listener::admit(&self.local, &outer.state, outer.client, source)
            }
            (Entry::Outer(outer), Turn::Admit(Err(refusal))) => {
                let outer = *outer;
                refuse::refuse(&self.local, &outer.state, outer.client, outer.address, refusal).map(held)
            }
            (_, _) => None,
        };
        if let Some(entry) = next {
            self.seat(entry);
        }
    }
}

fn held(held: Held) -> Entry {
    Entry::Held(Box::new(held))
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
