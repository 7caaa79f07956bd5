//! A worker: one thread, one current-thread runtime, its own listening sockets and its own flows.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;
use tokio::sync::{mpsc, oneshot};

use super::connect::LegOptions;
use super::door::Door;
use super::idle::Wheel;
use super::keepalive::LOOKS;
use super::listener::ListenerState;
use super::pipes::Pipes;
use super::relay::Tools;
use super::scratch::Scratch;
use super::shared::Shared;
use super::sock_diag::SockDiag;
use super::table::{FlowRecord, Order};
use crate::model::{CidrSet, FlowId};

/// What a worker is told.
pub(crate) enum Command {
    /// Accept on these sockets.
    Open(Vec<(std::net::TcpListener, ListenerState)>, oneshot::Sender<()>),
    /// Use another route for new flows.
    Retarget(ListenerState),
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
}

/// How a worker works.
#[derive(Debug, Clone)]
pub(crate) struct WorkerOptions {
    pub(crate) scratch: usize,
    pub(crate) pipes: usize,
    pub(crate) pipe_size: usize,
    pub(crate) accepts_per_wake: u32,
    pub(crate) backlog: i32,
    pub(crate) held_refusals: usize,
    pub(crate) hold_time: Duration,
    pub(crate) leg: LegOptions,
    /// The length of a tick: what idle and connect time-outs are rounded up to.
    pub(crate) tick: Duration,
}

/// A worker's state, shared by its tasks.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: WorkerOptions,
    pub(crate) tools: Tools,
    pub(crate) service_side: RefCell<Arc<CidrSet>>,
    /// Refused clients that are held unanswered now.
    pub(crate) held: Cell<usize>,
    /// To ask the kernel about silent flows; `None` where it gives no such socket.
    pub(crate) diag: Option<SockDiag>,
    tick: Cell<u32>,
    next_flow: Cell<u64>,
    next_source: Cell<usize>,
    flows: RefCell<Slab<(Arc<FlowRecord>, Waker)>>,
    wheel: RefCell<Wheel<(usize, FlowId)>>,
    /// Flows to wake at the next tick.
    listening: RefCell<Vec<(usize, FlowId)>>,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, options: WorkerOptions) -> Rc<Self> {
        let tools =
            Tools { scratch: Scratch::new(options.scratch), pipes: Pipes::new(options.pipes, options.pipe_size) };
        Rc::new(Self {
            index,
            shared,
            options,
            tools,
            service_side: RefCell::default(),
            held: Cell::new(0),
            diag: SockDiag::open().ok(),
            tick: Cell::new(0),
            next_flow: Cell::new(0),
            next_source: Cell::new(0),
            flows: RefCell::default(),
            wheel: RefCell::new(Wheel::new(0)),
            listening: RefCell::default(),
        })
    }

    /// Does what it is told until nobody can tell it anything any more.
    pub(crate) async fn run(self: Rc<Self>, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut listeners: HashMap<SocketAddr, Door> = HashMap::new();
        let mut ticks = tokio::time::interval(self.options.tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        ticks.tick().await;
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Open(opened, done)) => {
                        for (socket, state) in opened {
                            let address = state.listener.address;
                            let mut door = Door::new(state);
                            door.open(&self, socket);
                            door.answer(&self).await;
                            listeners.insert(address, door);
                        }
                        let _ = done.send(());
                    }
                    Some(Command::Retarget(state)) => {
                        if let Some(door) = listeners.get_mut(&state.listener.address) {
                            *door.state.borrow_mut() = state;
                            door.answer(&self).await;
                        }
                    }
                    Some(Command::Close(address, done)) => {
                        if let Some(mut door) = listeners.remove(&address) {
                            door.shut().await;
                        }
                        let _ = done.send(());
                    }
                    Some(Command::Sync(done)) => {
                        let _ = done.send(());
                    }
                    Some(Command::ServiceSide(cidrs)) => *self.service_side.borrow_mut() = cidrs,
                    Some(Command::Wake(records)) => self.wake(&records),
                    Some(Command::Stop) | None => return,
                },
                _ = ticks.tick() => {
                    self.turn();
                    for door in listeners.values_mut().filter(|door| door.wants_another_try()) {
                        door.answer(&self).await;
                    }
                }
            }
        }
    }

    /// The present tick.
    #[inline]
    pub(crate) fn tick(&self) -> u32 {
        self.tick.get()
    }

    /// How many ticks `time` takes, rounded up, at least one.
    pub(crate) fn ticks(&self, time: Duration) -> u32 {
        let ticks = time.as_nanos().div_ceil(self.options.tick.as_nanos().max(1));
        u32::try_from(ticks).unwrap_or(u32::MAX / 2).max(1)
    }

    /// Ticks of silence between two looks at a flow that may be silent for `idle`. Before the kernel's first probe is due,
    /// as the first look asks for it.
    pub(crate) fn step(&self, idle: u32) -> u32 {
        let probes = self.options.leg.keepalive.map_or(u32::MAX, |time| self.ticks(time));
        idle.div_ceil(LOOKS).min(probes)
    }

    /// A number for a new flow: unique in this process, as each worker counts in a range of its own.
    pub(crate) fn next_flow(&self) -> FlowId {
        let n = self.next_flow.get() + 1;
        self.next_flow.set(n);
        FlowId((self.index as u64 + 1) << 44 | n)
    }

    /// The turn of the next source address.
    pub(crate) fn next_source(&self) -> usize {
        let n = self.next_source.get();
        self.next_source.set(n.wrapping_add(1));
        n
    }

    /// Makes a flow known to the tick and to orders.
    pub(crate) fn enter(&self, record: &Arc<FlowRecord>, waker: Waker, first_look: u32) -> usize {
        let slot = self.flows.borrow_mut().insert((Arc::clone(record), waker));
        record.slot.store(u32::try_from(slot).unwrap_or(u32::MAX), std::sync::atomic::Ordering::Relaxed);
        self.wheel.borrow_mut().place((slot, record.id), first_look);
        slot
    }

    /// Looks at a flow again that was told to expire while it moved on.
    pub(crate) fn look_again(&self, slot: usize, record: &FlowRecord) {
        self.wheel.borrow_mut().place((slot, record.id), record.next_look(self.tick()));
    }

    /// Forgets a flow.
    pub(crate) fn leave(&self, slot: usize) {
        self.flows.borrow_mut().remove(slot);
    }

    /// One tick: flows that have been silent for a while are told so.
    fn turn(&self) {
        let now = self.tick.get() + 1;
        self.tick.set(now);
        let flows = self.flows.borrow();
        for (slot, id) in self.listening.take() {
            if let Some((_, waker)) = flows.get(slot).filter(|(record, _)| record.id == id) {
                waker.wake_by_ref();
            }
        }
        self.wheel.borrow_mut().turn(now, |(slot, id)| {
            let (record, waker) = flows.get(*slot).filter(|(record, _)| record.id == *id)?;
            if record.is_silent(now) {
                record.tell(Order::Expire);
                waker.wake_by_ref();
                return None;
            }
            Some(record.next_look(now))
        });
    }

    /// Wakes a flow at the next tick.
    pub(crate) fn wake_at_next_tick(&self, slot: usize, id: FlowId) {
        self.listening.borrow_mut().push((slot, id));
    }

    fn wake(&self, records: &[Arc<FlowRecord>]) {
        let flows = self.flows.borrow();
        for record in records {
            let slot = record.slot.load(std::sync::atomic::Ordering::Relaxed) as usize;
            if let Some((held, waker)) = flows.get(slot)
                && held.id == record.id
            {
                waker.wake_by_ref();
            }
        }
    }
}
