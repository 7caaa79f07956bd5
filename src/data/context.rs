//! State shared by the connections of one worker. It stays on the worker's thread, so nothing is locked.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::DataOptions;
use super::clock::Clock;
use super::connect::LegOptions;
use super::descriptors::SpareSlot;
use super::idle::TimerWheel;
use super::keepalive::CHECKS;
use super::pipes::Pipes;
use super::relay::RelayBuffers;
use super::scratch::Scratch;
use super::sock_diag::SockDiag;
use super::state::DataPlaneState;
use crate::model::FlowId;

/// Per-worker state, shared by the worker's connections.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) index: usize,
    pub(crate) state: Arc<DataPlaneState>,
    pub(crate) options: DataOptions,
    /// The options of the sockets of flows.
    pub(crate) leg: LegOptions,
    pub(crate) buffers: RelayBuffers,
    pub(crate) clock: Clock,
    /// For queries about silent flows; `None` if the kernel has no `sock_diag`.
    pub(crate) diag: Option<SockDiag>,
    /// When each flow is next checked for its idle time-out.
    pub(crate) wheel: RefCell<TimerWheel<FlowId>>,
    pub(crate) spare_socket: SpareSlot,
    next_flow: Cell<u64>,
    next_source: Cell<usize>,
}

impl WorkerContext {
    /// Creates the context in the current runtime.
    ///
    /// # Errors
    ///
    /// When the kernel cannot create a timer.
    pub(crate) fn new(index: usize, state: Arc<DataPlaneState>, options: DataOptions) -> io::Result<Rc<Self>> {
        let relay = &options.relay;
        let pipes = if relay.splice { relay.pipes_per_worker } else { 0 };
        let buffers = RelayBuffers { scratch: Scratch::new(relay.scratch), pipes: Pipes::new(pipes, relay.pipe_size) };
        Ok(Rc::new(Self {
            index,
            state,
            buffers,
            clock: Clock::new(options.tick)?,
            leg: options.leg(),
            options,
            diag: SockDiag::open().ok(),
            wheel: RefCell::new(TimerWheel::new(0)),
            spare_socket: SpareSlot::default(),
            next_flow: Cell::new(0),
            next_source: Cell::new(0),
        }))
    }

    /// Ticks between two checks of a silent flow with an idle time-out of `idle` ticks. At most the keepalive interval,
    /// as the first check enables keepalive.
    pub(crate) fn check_interval(&self, idle: u32) -> u32 {
        let probes = self.leg.keepalive.map_or(u32::MAX, |time| self.clock.ticks(time));
        idle.div_ceil(CHECKS).min(probes)
    }

    /// A new flow id, unique in this process: each worker has its own range.
    pub(crate) fn next_flow(&self) -> FlowId {
        let n = self.next_flow.get() + 1;
        self.next_flow.set(n);
        FlowId((self.index as u64 + 1) << 44 | n)
    }

    /// The value of [`SourcePool::turn`](super::connect::SourcePool::turn) for the next connection.
    pub(crate) fn next_source(&self) -> usize {
        let n = self.next_source.get();
        self.next_source.set(n.wrapping_add(1));
        n
    }
}
