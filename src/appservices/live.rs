//! What is open: clients' connections and WebSockets, and what each is told to do.
//!
//! Time limits cost no timer each: once a tick the worker looks at all of them.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};

use super::headers::Said;

/// Ticks of silence after which a connection keeps nothing but TLS: most clients ask again within a second or not for long.
const REST: u32 = 1;

/// What an open thing has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Go on.
    None,
    /// Take no more requests; end when those at hand are answered.
    Finish,
    /// End now.
    Cut(Cut),
}

/// Why something was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// Silent for too long.
    Idle,
    /// The client took too long for a head, or to take an answer.
    Slow,
    /// It took back too many requests.
    Abuse,
    /// Its address was given up.
    Closed,
}

impl Cut {
    /// The one lower-case name in log, metric and test.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Abuse => "abuse",
            Self::Closed => "drained",
        }
    }
}

/// What a connection's socket says of itself; shared with the socket, which moves between tasks.
#[derive(Debug)]
pub(crate) struct SocketState {
    /// The worker's tick, from 1 on.
    clock: Arc<AtomicU32>,
    /// The tick at which a head began that has not ended; 0: none.
    head_since: AtomicU32,
    /// A request is at hand, so that what is read is no new head.
    busy: AtomicU32,
    /// The tick since which the client takes nothing of what is written; 0: it does.
    stalled_since: AtomicU32,
}

impl SocketState {
    pub(crate) fn new(clock: Arc<AtomicU32>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            head_since: AtomicU32::new(0),
            busy: AtomicU32::new(0),
            stalled_since: AtomicU32::new(0),
        })
    }

    /// Bytes came in.
    #[inline]
    pub(crate) fn read(&self) {
        if self.busy.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// A write went through, or didn't.
    #[inline]
    pub(crate) fn wrote(&self, taken: bool) {
        if taken {
            if self.stalled_since.load(Ordering::Relaxed) != 0 {
                self.stalled_since.store(0, Ordering::Relaxed);
            }
        } else if self.stalled_since.load(Ordering::Relaxed) == 0 {
            self.stalled_since.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// An open connection or WebSocket.
#[derive(Debug)]
pub(crate) struct Live {
    /// Which it is, in this worker.
    pub(crate) id: u64,
    /// The client.
    pub(crate) peer: SocketAddr,
    /// The address that it came to.
    pub(crate) door: SocketAddr,
    pub(crate) socket: Arc<SocketState>,
    /// What backends were told of the client last.
    pub(crate) said: RefCell<Option<Said>>,
    is_websocket: bool,
    is_h2: Cell<bool>,
    order: Cell<Order>,
    /// Nothing has moved for a while, so what HTTP keeps for the next request can go.
    rests: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    last: Cell<u32>,
    requests: Cell<u32>,
    answered: Cell<u32>,
    taken_back: Cell<u32>,
}

/// Limits in ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) head: u32,
    pub(crate) idle: u32,
    pub(crate) stall: u32,
    pub(crate) websocket: u32,
}

impl Live {
    pub(crate) fn new(id: u64, peer: SocketAddr, door: SocketAddr, clock: &Arc<AtomicU32>, is_websocket: bool) -> Self {
        Self {
            id,
            peer,
            door,
            socket: SocketState::new(Arc::clone(clock)),
            said: RefCell::default(),
            is_websocket,
            is_h2: Cell::new(false),
            order: Cell::new(Order::None),
            rests: Cell::new(false),
            waker: RefCell::default(),
            last: Cell::new(clock.load(Ordering::Relaxed)),
            requests: Cell::new(0),
            answered: Cell::new(0),
            taken_back: Cell::new(0),
        }
    }

    /// Notes that it speaks HTTP/2.
    pub(crate) fn set_h2(&self) {
        self.is_h2.set(true);
    }

    /// Whether it speaks HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        self.is_h2.get()
    }

    /// Notes that something moved.
    #[inline]
    pub(crate) fn touch(&self) {
        self.last.set(self.socket.clock.load(Ordering::Relaxed));
    }

    /// Tells it to do something; only a stronger order replaces an earlier one.
    pub(crate) fn tell(&self, order: Order) {
        if order > self.order.get() {
            self.order.set(order);
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// What it was told; it is woken when that changes.
    #[inline]
    pub(crate) fn order(&self, cx: &Context<'_>) -> Order {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.order.get()
    }

    /// Whether what HTTP keeps for the next request may go: nothing is at hand, coming in or waiting to be taken.
    #[inline]
    pub(crate) fn may_rest(&self) -> bool {
        self.rests.get()
            && self.requests.get() == 0
            && self.socket.head_since.load(Ordering::Relaxed) == 0
            && self.socket.stalled_since.load(Ordering::Relaxed) == 0
    }

    /// Whether it takes no more requests.
    pub(crate) fn is_finishing(&self) -> bool {
        self.order.get() != Order::None
    }

    /// Looks whether it has outstayed a limit.
    pub(crate) fn look(&self, now: u32, patience: &Patience) {
        let longer_than = |since: u32, limit: u32| since != 0 && now.saturating_sub(since) > limit;
        let last = self.last.get();
        if self.is_websocket {
            if longer_than(last, patience.websocket) {
                self.tell(Order::Cut(Cut::Idle));
            }
            return;
        }
        if longer_than(self.socket.stalled_since.load(Ordering::Relaxed), patience.stall) {
            self.tell(Order::Cut(Cut::Slow));
        }
        if self.requests.get() > 0 {
            return;
        }
        let head = self.socket.head_since.load(Ordering::Relaxed);
        if !self.rests.get() && longer_than(last, REST) {
            self.rests.set(true);
            self.wake();
        }
        if !self.is_h2.get() && longer_than(head, patience.head) {
            self.tell(Order::Cut(Cut::Slow));
        } else if longer_than(last, patience.idle) {
            // One that was told to finish and is still there had its time too.
            let asked = self.order.get() == Order::Finish;
            self.tell(if asked { Order::Cut(Cut::Idle) } else { Order::Finish });
        }
    }

    /// A request came in whole.
    fn begin(&self) {
        self.requests.set(self.requests.get() + 1);
        self.socket.busy.store(1, Ordering::Relaxed);
        self.socket.head_since.store(0, Ordering::Relaxed);
        self.rests.set(false);
        self.touch();
    }

    /// A request is over.
    fn end(&self, answered: bool, resets: u32) {
        self.requests.set(self.requests.get() - 1);
        if self.requests.get() == 0 {
            self.socket.busy.store(0, Ordering::Relaxed);
        }
        self.touch();
        if answered {
            self.answered.set(self.answered.get().saturating_add(1));
            return;
        }
        self.taken_back.set(self.taken_back.get().saturating_add(1));
        if self.is_h2.get() && self.taken_back.get() > self.answered.get().saturating_add(resets) {
            self.tell(Order::Cut(Cut::Abuse));
        }
    }
}

/// A request at hand. Dropped without an answer, it was taken back by the client.
#[derive(Debug)]
pub(crate) struct AtHand {
    live: std::rc::Rc<Live>,
    resets: u32,
    answered: bool,
}

impl AtHand {
    pub(crate) fn new(live: &std::rc::Rc<Live>, resets: u32) -> Self {
        live.begin();
        Self { live: std::rc::Rc::clone(live), resets, answered: false }
    }

    /// It has an answer.
    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for AtHand {
    fn drop(&mut self) {
        self.live.end(self.answered, self.resets);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    const PATIENCE: Patience = Patience { head: 10, idle: 75, stall: 60, websocket: 350 };

    fn live(is_websocket: bool) -> (Rc<Live>, Arc<AtomicU32>) {
        let clock = Arc::new(AtomicU32::new(1));
        let address = "127.0.0.1:1".parse().expect("an address");
        (Rc::new(Live::new(1, address, address, &clock, is_websocket)), clock)
    }

    fn order_at(live: &Live, now: u32) -> Order {
        live.look(now, &PATIENCE);
        live.order.get()
    }

    #[test]
    fn a_head_that_takes_too_long_cuts_the_connection_and_one_at_hand_does_not() {
        let (live, _) = live(false);
        live.socket.read();
        assert_eq!(order_at(&live, 11), Order::None);
        let at_hand = AtHand::new(&live, 3);
        live.socket.read();
        assert_eq!(order_at(&live, 1000), Order::None, "a request is at hand");
        drop(at_hand);
        live.socket.read();
        assert_eq!(order_at(&live, 12), Order::Cut(Cut::Slow));
    }

    #[test]
    fn a_connection_rests_once_nothing_is_at_hand_coming_in_or_waiting_to_be_taken() {
        let (live, _) = live(false);
        assert_eq!(order_at(&live, 2), Order::None);
        assert!(!live.may_rest(), "a moment ago something moved");
        assert_eq!(order_at(&live, 3), Order::None);
        assert!(live.may_rest());
        live.socket.wrote(false);
        assert!(!live.may_rest(), "an answer was not taken");
        live.socket.wrote(true);
        live.socket.read();
        assert!(!live.may_rest(), "a head is coming in");
        let at_hand = AtHand::new(&live, 3);
        assert!(!live.may_rest(), "a request is at hand");
        drop(at_hand);
        assert!(!live.may_rest(), "a request was at hand a moment ago");
    }

    #[test]
    fn an_idle_connection_is_asked_to_finish_and_then_cut() {
        let (live, _) = live(false);
        assert_eq!(order_at(&live, 76), Order::None);
        assert_eq!(order_at(&live, 77), Order::Finish);
        assert_eq!(order_at(&live, 78), Order::Cut(Cut::Idle));
    }

    #[test]
    fn a_client_that_takes_nothing_is_cut_even_with_a_request_at_hand() {
        let (live, _) = live(false);
        let _at_hand = AtHand::new(&live, 3);
        live.socket.wrote(false);
        assert_eq!(order_at(&live, 61), Order::None);
        assert_eq!(order_at(&live, 62), Order::Cut(Cut::Slow));
    }

    #[test]
    fn requests_that_are_taken_back_end_an_http2_connection_when_there_are_too_many() {
        let (live, _) = live(false);
        live.set_h2();
        let mut good = AtHand::new(&live, 3);
        good.answered();
        drop(good);
        for _ in 0..4 {
            drop(AtHand::new(&live, 3));
        }
        assert_eq!(live.order.get(), Order::None);
        drop(AtHand::new(&live, 3));
        assert_eq!(live.order.get(), Order::Cut(Cut::Abuse));
    }

    #[test]
    fn a_websocket_has_an_idle_timeout_of_its_own() {
        let (live, clock) = live(true);
        assert_eq!(order_at(&live, 351), Order::None);
        clock.store(351, Ordering::Relaxed);
        live.touch();
        assert_eq!(order_at(&live, 701), Order::None);
        assert_eq!(order_at(&live, 702), Order::Cut(Cut::Idle));
    }
}
