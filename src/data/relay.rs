//! Moves bytes between a client and a target until both have finished.
//!
//! Each direction ends independently: a FIN from one side is forwarded while the other direction continues, as on the
//! load balancer. The relay works on any two [`Leg`]s and is independent of routes, listeners or metrics.
//!
//! A direction copies through the worker's scratch buffer until it transfers in bulk, then it splices. Bytes that the
//! peer does not accept at once are kept, and nothing more is read until they are written. An idle flow holds no buffer
//! and no pipe.
//!
//! Written by hand, as `tokio::io::copy_bidirectional` allocates two buffers per flow, cannot splice, and does not
//! report which side failed.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{SpliceFlags, splice};

pub(crate) use super::leg::Leg;
use super::pipes::{Pipe, Pipes};
use super::scratch::{Scratch, Unsent};
use super::socket::Socket;
use crate::model::{FlowEnd, Side};

/// Reads of a direction per poll before the worker's other tasks run. Takes the place of the runtime's cooperative
/// budget, which does not consider the size of a read.
const MOVES_PER_POLL: u32 = 16;
/// A read of at least this many bytes is bulky.
const BULKY: usize = 32 << 10;
/// Consecutive bulky reads after which a direction splices.
const BULKY_READS: u8 = 8;
/// A splice of fewer bytes than this is small.
const SMALL: usize = 8 << 10;
/// Consecutive small splices after which a direction copies again.
const SMALL_SPLICES: u8 = 8;

/// A worker's buffers, used by its flows within one poll.
#[derive(Debug)]
pub(crate) struct RelayBuffers {
    /// Buffers.
    pub(crate) scratch: Scratch,
    /// Pipes.
    pub(crate) pipes: Rc<Pipes>,
}

/// Counts relayed bytes.
pub(crate) trait Meter {
    /// `n` bytes were written to the target.
    fn to_target(&self, n: usize);
    /// `n` bytes were written to the client.
    fn to_client(&self, n: usize);
}

/// An I/O error of one side.
#[derive(Debug)]
pub(crate) struct RelayError {
    /// The side.
    pub(crate) side: Side,
    /// The error.
    pub(crate) error: io::Error,
}

impl RelayError {
    /// Whether the side has sent RST.
    pub(crate) fn is_reset(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        matches!(self.error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted)
    }

    /// The flow's end that this error causes.
    pub(crate) fn as_end(&self) -> FlowEnd {
        FlowEnd::Failed { side: self.side, reset: self.is_reset() }
    }
}

/// The state of a flow's two directions.
#[derive(Debug)]
pub(crate) struct Relay {
    up: Transfer,
    down: Transfer,
}

impl Relay {
    /// Creates a relay.
    pub(crate) fn new() -> Self {
        Self { up: Transfer::new(), down: Transfer::new() }
    }

    /// Whether the client and the target have sent FIN, in this order.
    pub(crate) fn finished(&self) -> [bool; 2] {
        [&self.up, &self.down].map(|direction| matches!(direction.state, TransferState::Closing | TransferState::Done))
    }

    /// Whether a side is not being read, so that a read cannot detect its RST.
    pub(crate) fn is_not_reading(&self) -> bool {
        [&self.up, &self.down].into_iter().any(|direction| match &direction.state {
            TransferState::Copying { .. } => false,
            TransferState::Splicing { pipe, .. } => pipe.held > 0,
            TransferState::Flushing(_) | TransferState::Closing | TransferState::Done => true,
        })
    }

    /// Relays as many bytes as possible. Ready when both directions are closed or one side has failed.
    pub(crate) fn poll<C: Leg, T: Leg>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        target: &mut T,
        buffers: &RelayBuffers,
        meter: &impl Meter,
    ) -> Poll<Result<(), RelayError>> {
        let last = self.down.is_done();
        let up = self.up.poll(cx, client, target, buffers, |n| meter.to_target(n), last).map_err(|(end, error)| {
            RelayError { side: if end == FailedEnd::Source { Side::Client } else { Side::Target }, error }
        });
        if let Poll::Ready(Err(failed)) = up {
            return Poll::Ready(Err(failed));
        }
        let last = self.up.is_done();
        let down = self.down.poll(cx, target, client, buffers, |n| meter.to_client(n), last).map_err(|(end, error)| {
            RelayError { side: if end == FailedEnd::Source { Side::Target } else { Side::Client }, error }
        });
        if let Poll::Ready(Err(failed)) = down {
            return Poll::Ready(Err(failed));
        }
        let target_has_all = target.poll_drain(cx).map_err(|error| RelayError { side: Side::Target, error })?;
        let client_has_all = client.poll_drain(cx).map_err(|error| RelayError { side: Side::Client, error })?;
        if up.is_ready() && down.is_ready() && target_has_all.is_ready() && client_has_all.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

/// Detects RST from a side that is not being read.
pub(crate) struct ResetWatch<'s> {
    sides: [&'s Socket; 2],
    /// Waits for the first error while a side is not read. Boxed, as most flows are rarely in that state.
    failed: Option<Pin<Box<dyn Future<Output = RelayError> + 's>>>,
}

impl<'s> ResetWatch<'s> {
    /// Watches the client and the target.
    pub(crate) fn new(sides: [&'s Socket; 2]) -> Self {
        Self { sides, failed: None }
    }

    /// To be called after `relay` returned `Pending`; ready if a side that it is not reading has failed.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, relay: &Relay) -> Poll<RelayError> {
        if !relay.is_not_reading() {
            self.failed = None;
            return Poll::Pending;
        }
        let [client, target] = self.sides;
        let first = || -> Pin<Box<dyn Future<Output = RelayError> + 's>> {
            Box::pin(async move {
                tokio::select! {
                    error = client.failed() => RelayError { side: Side::Client, error },
                    error = target.failed() => RelayError { side: Side::Target, error },
                }
            })
        };
        self.failed.get_or_insert_with(first).as_mut().poll(cx)
    }
}

/// The end of a direction that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailedEnd {
    Source,
    Sink,
}

/// The state of a direction.
#[derive(Debug)]
enum TransferState {
    /// Reads into the scratch buffer and writes at once; `bulky` is the number of consecutive large reads.
    Copying { bulky: u8 },
    /// Writes the remaining bytes; reads nothing.
    Flushing(Unsent),
    /// Moves bytes through a pipe; `small` is the number of consecutive small splices.
    Splicing { pipe: Pipe, small: u8, finished: bool },
    /// The source has finished: shuts down the sink.
    Closing,
    /// Both the source and the sink are finished.
    Done,
}

impl TransferState {
    /// The initial state.
    const COPYING: Self = Self::Copying { bulky: 0 };
}

/// One direction of a flow.
#[derive(Debug)]
struct Transfer {
    state: TransferState,
}

type TransferResult = Result<(), (FailedEnd, io::Error)>;

impl Transfer {
    fn new() -> Self {
        Self { state: TransferState::COPYING }
    }

    fn is_done(&self) -> bool {
        matches!(self.state, TransferState::Done)
    }

    /// Relays as many bytes as possible. `last`: the other direction is done, so both sockets are about to be closed,
    /// and `shutdown` of the sink is unnecessary.
    fn poll<S: Leg, D: Leg>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut D,
        buffers: &RelayBuffers,
        moved: impl Fn(usize),
        last: bool,
    ) -> Poll<TransferResult> {
        for _ in 0..MOVES_PER_POLL {
            match &mut self.state {
                TransferState::Copying { bulky } => {
                    let mut scratch = buffers.scratch.read();
                    let n = ready!(source.poll_recv(cx, &mut scratch)).map_err(|e| (FailedEnd::Source, e))?;
                    let bytes = &scratch[..n];
                    if bytes.is_empty() {
                        self.state = TransferState::Closing;
                        continue;
                    }
                    *bulky = if bytes.len() >= BULKY { *bulky + 1 } else { 0 };
                    let splice_next = *bulky >= BULKY_READS;
                    let taken = match sink.poll_transmit(cx, bytes) {
                        Poll::Ready(taken) => taken.map_err(|e| (FailedEnd::Sink, e))?,
                        Poll::Pending => 0,
                    };
                    moved(taken);
                    if taken < bytes.len() {
                        self.state = TransferState::Flushing(buffers.scratch.keep(&bytes[taken..]));
                    } else if splice_next {
                        self.state = start_splicing(source, sink, &buffers.pipes);
                    }
                }
                TransferState::Flushing(unsent) => {
                    let taken = ready!(sink.poll_transmit(cx, unsent.rest()));
                    let taken = taken.map_err(|e| (FailedEnd::Sink, e))?;
                    if taken == 0 {
                        return Poll::Ready(Err((FailedEnd::Sink, io::ErrorKind::WriteZero.into())));
                    }
                    moved(taken);
                    if unsent.taken(taken) {
                        let state = std::mem::replace(&mut self.state, TransferState::COPYING);
                        if let TransferState::Flushing(unsent) = state {
                            buffers.scratch.give_back(unsent);
                        }
                    }
                }
                TransferState::Splicing { pipe, small, finished } => {
                    let (Some(from), Some(to)) = (source.socket(), sink.socket()) else {
                        unreachable!("splicing starts between sockets only, and a leg does not change its kind");
                    };
                    if pipe.held > 0 {
                        let n = ready!(poll_splice_out(cx, pipe, to)).map_err(|e| (FailedEnd::Sink, e))?;
                        moved(n);
                    } else if *finished {
                        self.state = TransferState::Closing;
                    } else if *small >= SMALL_SPLICES {
                        self.state = TransferState::COPYING;
                    } else {
                        let n = ready!(poll_splice_in(cx, from, pipe)).map_err(|e| (FailedEnd::Source, e))?;
                        *finished = n == 0;
                        *small = if n < SMALL { *small + 1 } else { 0 };
                    }
                }
                TransferState::Closing => {
                    // A leg that is not a bare socket, such as a TLS stream, has its own end to send.
                    if !last || sink.socket().is_none() {
                        // The error of a closed sink surfaces in the other direction.
                        let _ = ready!(sink.poll_finish(cx));
                    }
                    self.state = TransferState::Done;
                }
                TransferState::Done => return Poll::Ready(Ok(())),
            }
        }
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The splicing state, if both ends are bare sockets and a pipe is available; otherwise the copying state.
fn start_splicing(source: &impl Leg, sink: &impl Leg, pipes: &Rc<Pipes>) -> TransferState {
    let both_bare = source.socket().is_some() && sink.socket().is_some();
    match both_bare.then(|| pipes.take()).flatten() {
        Some(pipe) => TransferState::Splicing { pipe, small: 0, finished: false },
        None => TransferState::COPYING,
    }
}

/// Flags of every splice.
const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// Splices from the socket into the pipe, which is empty, so `WouldBlock` means that the socket is not readable.
fn poll_splice_in(cx: &mut Context<'_>, from: &Socket, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
    let n = ready!(from.poll_read(cx, 0, |fd| splice(fd, None, pipe.write(), None, pipe.size(), FLAGS)))?;
    pipe.held = n;
    Poll::Ready(Ok(n))
}

/// Splices from the pipe, which holds data, into the socket, so `WouldBlock` means that the socket is not writable.
fn poll_splice_out(cx: &mut Context<'_>, pipe: &mut Pipe, to: &Socket) -> Poll<io::Result<usize>> {
    let n = ready!(to.poll_write(cx, 0, |fd| splice(pipe.read(), None, fd, None, pipe.held, FLAGS)))?;
    pipe.held -= n;
    Poll::Ready(Ok(n))
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
