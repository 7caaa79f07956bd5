//! What the connections of one worker have in common. Never leaves its thread, so nothing here is locked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::connect::LegOptions;
use super::idle::Wheel;
use super::keepalive::LOOKS;
use super::pipes::Pipes;
use super::poll::Poller;
use super::relay::Tools;
use super::scratch::Scratch;
use super::shared::Shared;
use super::sock_diag::SockDiag;
use super::table::FlowRecord;
use crate::model::{CidrSet, FlowId};

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

/// A worker's own things, lent to its connections.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: WorkerOptions,
    pub(crate) tools: Tools,
    pub(crate) poller: Poller,
    /// Sources that no listener lets in.
    pub(crate) service_side: RefCell<Arc<CidrSet>>,
    /// Refused clients that are held unanswered now.
    pub(crate) held: Rc<Cell<usize>>,
    /// To ask the kernel about silent flows; `None` where it gives no such socket.
    pub(crate) diag: Option<SockDiag>,
    /// Which flow in which slot is to be looked at when.
    pub(crate) wheel: RefCell<Wheel<(u32, FlowId)>>,
    tick: Cell<u32>,
    next_flow: Cell<u64>,
    next_source: Cell<usize>,
}

impl Local {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, options: WorkerOptions, poller: Poller) -> Rc<Self> {
        let tools =
            Tools { scratch: Scratch::new(options.scratch), pipes: Pipes::new(options.pipes, options.pipe_size) };
        Rc::new(Self {
            index,
            shared,
            options,
            tools,
            poller,
            service_side: RefCell::default(),
            held: Rc::default(),
            diag: SockDiag::open().ok(),
            wheel: RefCell::new(Wheel::new(0)),
            tick: Cell::new(0),
            next_flow: Cell::new(0),
            next_source: Cell::new(0),
        })
    }

    /// The present tick.
    #[inline]
    pub(crate) fn tick(&self) -> u32 {
        self.tick.get()
    }

    /// A tick is over; the present one from now on.
    pub(crate) fn next_tick(&self) -> u32 {
        self.tick.set(self.tick.get() + 1);
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

    /// Has the tick look at a flow, at `at` or before.
    pub(crate) fn look_at(&self, slot: u32, record: &FlowRecord, at: u32) {
        self.wheel.borrow_mut().place((slot, record.id), at);
    }
}
