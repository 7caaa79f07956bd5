//! What the kernel has to say of a worker's sockets: one epoll a worker (epoll(7)).
//!
//! Connections are watched edge by edge: each is registered once, and what was said of it is kept beside it
//! ([`Socket`](super::socket::Socket)), so that no call is made to be told "not yet". Listening sockets are watched level
//! by level, so that whoever accepts only some is told again of the others.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use crate::model::Side;

/// How many sockets are heard of at once.
const MOST_NEWS: usize = 256;

/// Whom news are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// Somebody has put a command into the worker's queue.
    Bell,
    /// A tick is over.
    Tick,
    /// Somebody connects to this listening socket.
    Door(u32),
    /// This side of a connection in this slot.
    Connection(Key, Side),
}

/// Who sits in a slot. A slot is used again; the generation tells its present owner from those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Bits of a token that say what it is.
const KINDS: u32 = 3;

impl Token {
    /// As epoll carries it: generation, slot, kind.
    fn packed(self) -> EventData {
        let (generation, slot, kind) = match self {
            Self::Bell => (0, 0, 0),
            Self::Tick => (0, 0, 1),
            Self::Door(at) => (0, at, 2),
            Self::Connection(key, Side::Client) => (key.generation, key.slot, 3),
            Self::Connection(key, Side::Target) => (key.generation, key.slot, 4),
        };
        EventData::new_u64(u64::from(generation) << 32 | u64::from(slot << KINDS | kind))
    }

    fn unpacked(data: EventData) -> Self {
        let packed = data.u64();
        let (generation, low) = ((packed >> 32) as u32, packed as u32);
        let (slot, kind) = (low >> KINDS, low & ((1 << KINDS) - 1));
        match kind {
            0 => Self::Bell,
            1 => Self::Tick,
            2 => Self::Door(slot),
            3 => Self::Connection(Key { slot, generation }, Side::Client),
            _ => Self::Connection(Key { slot, generation }, Side::Target),
        }
    }
}

/// What is new about a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News(EventFlags);

impl News {
    /// Bytes, the end or an error can be read.
    pub(crate) fn is_readable(self) -> bool {
        self.0.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
    }

    /// There is room to write, or an error that a write would meet.
    pub(crate) fn is_writable(self) -> bool {
        self.0.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR)
    }

    /// No more bytes will come than those that are there.
    pub(crate) fn is_end(self) -> bool {
        self.0.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
    }

    /// There is urgent data.
    pub(crate) fn is_urgent(self) -> bool {
        self.0.contains(EventFlags::PRI)
    }

    /// The connection is over both ways: reset, failed, or never made.
    pub(crate) fn is_over(self) -> bool {
        self.0.intersects(EventFlags::HUP | EventFlags::ERR)
    }
}

/// Watches the sockets of one worker.
#[derive(Debug)]
pub(crate) struct Poller(OwnedFd);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Watches a connection for every edge. Whatever holds already counts as one, so nothing that came before is missed;
    /// closing the socket ends it.
    pub(crate) fn watch(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, token.packed(), EDGES)?)
    }

    /// Has news of a watched connection go to somebody else; what holds already is told again.
    pub(crate) fn rename(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::modify(&self.0, socket, token.packed(), EDGES)?)
    }

    /// Tells for as long as somebody waits to be accepted, or something is to be read.
    pub(crate) fn watch_level(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, token.packed(), EventFlags::IN)?)
    }

    /// Stops telling of a watched listening socket, or goes on.
    pub(crate) fn pause(&self, socket: impl AsFd, token: Token, paused: bool) -> io::Result<()> {
        let flags = if paused { EventFlags::empty() } else { EventFlags::IN };
        Ok(epoll::modify(&self.0, socket, token.packed(), flags)?)
    }

    /// Waits for news, at most for `time`; `None`: for as long as it takes.
    pub(crate) fn wait(&self, inbox: &mut Inbox, time: Option<Duration>) -> io::Result<()> {
        let time = time.map(timespec);
        match epoll::wait(&self.0, spare_capacity(&mut inbox.events), time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What a connection is watched for.
const EDGES: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::PRI).union(EventFlags::RDHUP).union(EventFlags::ET);

/// The kernel's form of a time; one that is too long for it is cut.
fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() }
}

/// News that have come and were not yet attended to.
pub(crate) struct Inbox {
    events: Vec<Event>,
    next: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { events: Vec::with_capacity(MOST_NEWS), next: 0 }
    }

    /// Whether there was no room for more: some that there are may be missing.
    pub(crate) fn is_full(&self) -> bool {
        self.events.len() == MOST_NEWS
    }

    /// The next one.
    pub(crate) fn take(&mut self) -> Option<(Token, News)> {
        let Some(event) = self.events.get(self.next) else {
            self.events.clear();
            self.next = 0;
            return None;
        };
        self.next += 1;
        let (data, flags) = (event.data, event.flags);
        Some((Token::unpacked(data), News(flags)))
    }
}

/// The waker of everything that a worker polls. News come from the poller, so all that a waker can say here is "I gave way
/// to others, and want another turn".
#[derive(Debug, Default)]
pub(crate) struct PutOff(AtomicBool);

impl PutOff {
    /// Whether it was said since this was asked last.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        let said = self.0.load(Ordering::Relaxed);
        if said {
            self.0.store(false, Ordering::Relaxed);
        }
        said
    }
}

impl Wake for PutOff {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Wakes a worker from any thread.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    /// One that `poller` hears.
    pub(crate) fn new(poller: &Poller) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        poller.watch_level(&bell, Token::Bell)?;
        Ok(Self(bell))
    }

    pub(crate) fn ring(&self) {
        // Fails only when it has rung 2^64 times unheard, and then it rings.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Notes that it was heard.
    pub(crate) fn heard(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// A clock that ticks.
#[derive(Debug)]
pub(crate) struct Ticks(OwnedFd);

impl Ticks {
    /// One that `poller` hears every `time`.
    pub(crate) fn new(poller: &Poller, time: Duration) -> io::Result<Self> {
        let clock = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        // A time of 0 would be no tick at all.
        let time = timespec(time.max(Duration::from_millis(1)));
        timerfd_settime(&clock, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: time, it_value: time })?;
        poller.watch_level(&clock, Token::Tick)?;
        Ok(Self(clock))
    }

    /// How many have passed since this was asked last.
    pub(crate) fn passed(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        let key = Key { slot: (1 << 29) - 1, generation: u32::MAX };
        for token in [
            Token::Bell,
            Token::Tick,
            Token::Door(7),
            Token::Connection(key, Side::Client),
            Token::Connection(key, Side::Target),
        ] {
            assert_eq!(Token::unpacked(token.packed()), token);
        }
    }

    #[test]
    fn a_bell_is_heard_until_it_was_attended_to() {
        let poller = Poller::new().expect("epoll");
        let bell = Bell::new(&poller).expect("an eventfd");
        let mut inbox = Inbox::new();
        bell.ring();
        bell.ring();
        for _ in 0..2 {
            poller.wait(&mut inbox, None).expect("it rang");
            assert_eq!(inbox.take().map(|(token, _)| token), Some(Token::Bell));
            assert!(inbox.take().is_none());
        }
        bell.heard();
        poller.wait(&mut inbox, Some(Duration::ZERO)).expect("nothing is wrong");
        assert!(inbox.take().is_none());
    }

    #[test]
    fn ticks_come_again_and_again() {
        let poller = Poller::new().expect("epoll");
        let ticks = Ticks::new(&poller, Duration::from_millis(1)).expect("a timer");
        let (mut inbox, mut passed) = (Inbox::new(), 0);
        while passed < 3 {
            poller.wait(&mut inbox, None).expect("it ticks");
            while inbox.take().is_some() {
                passed += ticks.passed();
            }
        }
    }
}
