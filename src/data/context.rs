//! What the connections of one worker have in common. It never leaves its thread, so nothing here is locked.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::connect::LegOptions;
use super::descriptors::LeftOver;
use super::idle::Wheel;
use super::keepalive::CHECKS;
use super::pipes::Pipes;
use super::relay::Tools;
use super::scratch::Scratch;
use super::sock_diag::SockDiag;
use super::state::DataPlaneState;
use crate::model::FlowId;

/// How a worker works.
#[derive(Debug, Clone)]
pub(crate) struct WorkerOptions {
    pub(crate) scratch: usize,
    pub(crate) pipes: usize,
    pub(crate) pipe_size: usize,
    pub(crate) accepts_per_wake: u32,
    pub(crate) backlog: i32,
    pub(crate) blackhole_time: Duration,
    pub(crate) leg: LegOptions,
    /// The length of a tick: what idle and connect time-outs are rounded up to.
    pub(crate) tick: Duration,
}

/// A worker's own things, lent to its connections.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) index: usize,
    pub(crate) state: Arc<DataPlaneState>,
    pub(crate) options: WorkerOptions,
    pub(crate) tools: Tools,
    pub(crate) clock: Clock,
    /// To ask the kernel about silent flows; `None` where it gives no such socket.
    pub(crate) diag: Option<SockDiag>,
    /// Which flow is checked for silence at which tick.
    pub(crate) wheel: RefCell<Wheel<FlowId>>,
    pub(crate) left_over: LeftOver,
    next_flow: Cell<u64>,
    next_source: Cell<usize>,
}

impl WorkerContext {
    /// In the present runtime.
    ///
    /// # Errors
    ///
    /// When the kernel gives no timer.
    pub(crate) fn new(index: usize, state: Arc<DataPlaneState>, options: WorkerOptions) -> io::Result<Rc<Self>> {
        let tools =
            Tools { scratch: Scratch::new(options.scratch), pipes: Pipes::new(options.pipes, options.pipe_size) };
        Ok(Rc::new(Self {
            index,
            state,
            tools,
            clock: Clock::new(options.tick)?,
            options,
            diag: SockDiag::open().ok(),
            wheel: RefCell::new(Wheel::new(0)),
            left_over: LeftOver::default(),
            next_flow: Cell::new(0),
            next_source: Cell::new(0),
        }))
    }

    /// Ticks of silence between two checks of a flow that may be silent for `idle`. Before the kernel's first probe is due,
    /// as the first check asks for it.
    pub(crate) fn check_interval(&self, idle: u32) -> u32 {
        let probes = self.options.leg.keepalive.map_or(u32::MAX, |time| self.clock.ticks(time));
        idle.div_ceil(CHECKS).min(probes)
    }

    /// A number for a new flow: unique in this process, as each worker counts in a range of its own.
    pub(crate) fn next_flow(&self) -> FlowId {
        let n = self.next_flow.get() + 1;
        self.next_flow.set(n);
        FlowId((self.index as u64 + 1) << 44 | n)
    }

    /// Which of a pool of source addresses the next dial tries first, modulo their number.
    pub(crate) fn next_source(&self) -> usize {
        let n = self.next_source.get();
        self.next_source.set(n.wrapping_add(1));
        n
    }
}
