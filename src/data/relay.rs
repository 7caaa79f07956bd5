//! Moves bytes between a client and a target until both have finished.
//!
//! Each direction ends on its own: a FIN from one side is passed on while the reply keeps flowing, as through the load
//! balancer. Routes, listeners and metric names are unknown here, so any two streams will do.
//!
//! A direction copies through the worker's one scratch buffer until it proves bulky, then splices; what the peer does not
//! take at once is kept, and nothing more is read until it is gone. An idle flow holds no buffer and no pipe.
//!
//! By hand, as `tokio::io::copy_bidirectional` holds two buffers a flow, cannot splice, and ends both directions when one fails
//! without saying which.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{SpliceFlags, splice};

pub(crate) use super::leg::Leg;
use super::pipes::{Pipe, Pipes};
use super::scratch::{Leftover, Scratch};
use super::socket::Socket;
use crate::model::{FlowEnd, Side};

/// Moves of a direction before the others of its worker run: its part of the cooperative budget, which the runtime does not
/// count here, as it knows nothing of a move's size.
const MOVES_PER_POLL: u32 = 16;
/// A read of at least this many bytes is bulky.
const BULKY: usize = 32 << 10;
/// Bulky reads in a row after which a direction splices.
const BULKY_READS: u8 = 8;
/// A splice of fewer bytes than this is small.
const SMALL: usize = 8 << 10;
/// Small splices in a row after which a direction copies again.
const SMALL_SPLICES: u8 = 8;

/// What a worker lends its flows for the length of a poll.
#[derive(Debug)]
pub(crate) struct Tools {
    /// Buffers.
    pub(crate) scratch: Scratch,
    /// Pipes.
    pub(crate) pipes: Rc<Pipes>,
}

/// Counts bytes as they are written.
pub(crate) trait Meter {
    /// `n` bytes were taken by the target.
    fn to_target(&self, n: usize);
    /// `n` bytes were taken by the client.
    fn to_client(&self, n: usize);
}

/// A side whose socket failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Which one.
    pub(crate) side: Side,
    /// What the kernel said.
    pub(crate) error: io::Error,
}

impl Failed {
    /// Whether the side sent RST, now or before something was written to it.
    pub(crate) fn is_reset(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        matches!(self.error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted)
    }

    /// As a flow's end.
    pub(crate) fn as_end(&self) -> FlowEnd {
        FlowEnd::Failed { side: self.side, reset: self.is_reset() }
    }
}

/// A flow's two directions.
#[derive(Debug)]
pub(crate) struct Relay {
    up: Direction,
    down: Direction,
}

impl Relay {
    /// Nothing moved yet.
    pub(crate) fn new() -> Self {
        Self { up: Direction::new(), down: Direction::new() }
    }

    /// Whether the client and the target have sent FIN.
    pub(crate) fn finished(&self) -> [bool; 2] {
        [&self.up, &self.down].map(|direction| matches!(direction.state, State::Closing | State::Done))
    }

    /// Whether a side is not being read, so that no read would show that it sent RST.
    pub(crate) fn is_not_reading(&self) -> bool {
        [&self.up, &self.down].into_iter().any(|direction| match &direction.state {
            State::Copying { .. } => false,
            State::Splicing { pipe, .. } => pipe.held > 0,
            State::Flushing(_) | State::Closing | State::Done => true,
        })
    }

    /// Moves what can be moved. Ready when both directions are closed, or one side failed.
    pub(crate) fn poll<C: Leg, T: Leg>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        target: &mut T,
        tools: &Tools,
        meter: &impl Meter,
    ) -> Poll<Result<(), Failed>> {
        let last = self.down.is_done();
        let up = self.up.poll(cx, client, target, tools, |n| meter.to_target(n), last).map_err(|(end, error)| Failed {
            side: if end == End::Source { Side::Client } else { Side::Target },
            error,
        });
        if let Poll::Ready(Err(failed)) = up {
            return Poll::Ready(Err(failed));
        }
        let last = self.up.is_done();
        let down = self.down.poll(cx, target, client, tools, |n| meter.to_client(n), last).map_err(|(end, error)| {
            Failed { side: if end == End::Source { Side::Target } else { Side::Client }, error }
        });
        if let Poll::Ready(Err(failed)) = down {
            return Poll::Ready(Err(failed));
        }
        let target_has_all = target.poll_push(cx).map_err(|error| Failed { side: Side::Target, error })?;
        let client_has_all = client.poll_push(cx).map_err(|error| Failed { side: Side::Client, error })?;
        if up.is_ready() && down.is_ready() && target_has_all.is_ready() && client_has_all.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

/// Finds RST from a side that is not being read.
pub(crate) struct ResetWatch<'s> {
    sides: [&'s Socket; 2],
    /// Waits for the first failure while a side is not read; most flows never are in that state for long.
    failed: Option<Pin<Box<dyn Future<Output = Failed> + 's>>>,
}

impl<'s> ResetWatch<'s> {
    /// Of the client and the target.
    pub(crate) fn new(sides: [&'s Socket; 2]) -> Self {
        Self { sides, failed: None }
    }

    /// After a poll of `relay` that was pending: ready when a side has failed that it is not reading.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, relay: &Relay) -> Poll<Failed> {
        if !relay.is_not_reading() {
            self.failed = None;
            return Poll::Pending;
        }
        let [client, target] = self.sides;
        let first = || -> Pin<Box<dyn Future<Output = Failed> + 's>> {
            Box::pin(async move {
                tokio::select! {
                    error = client.failed() => Failed { side: Side::Client, error },
                    error = target.failed() => Failed { side: Side::Target, error },
                }
            })
        };
        self.failed.get_or_insert_with(first).as_mut().poll(cx)
    }
}

/// Which end of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Sink,
}

/// What a direction does next.
#[derive(Debug)]
enum State {
    /// Read into the scratch and write at once; `bulky` reads in a row were large.
    Copying { bulky: u8 },
    /// Write what was not taken; read nothing.
    Flushing(Leftover),
    /// Move through a pipe; `small` splices in a row were small.
    Splicing { pipe: Pipe, small: u8, finished: bool },
    /// The source has finished: pass that on to the sink.
    Closing,
    /// Over.
    Done,
}

impl State {
    /// Nothing is known of the source yet.
    const COPYING: Self = Self::Copying { bulky: 0 };
}

/// One direction of a flow.
#[derive(Debug)]
struct Direction {
    state: State,
}

type Moved = Result<(), (End, io::Error)>;

impl Direction {
    fn new() -> Self {
        Self { state: State::COPYING }
    }

    fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Moves what can be moved. `last`: the other direction is done, so both sockets are about to be closed, and a
    /// `shutdown` of the sink would be one call too many.
    fn poll<S: Leg, D: Leg>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut D,
        tools: &Tools,
        moved: impl Fn(usize),
        last: bool,
    ) -> Poll<Moved> {
        for _ in 0..MOVES_PER_POLL {
            match &mut self.state {
                State::Copying { bulky } => {
                    let mut scratch = tools.scratch.read();
                    let n = ready!(source.poll_take(cx, &mut scratch)).map_err(|e| (End::Source, e))?;
                    let bytes = &scratch[..n];
                    if bytes.is_empty() {
                        self.state = State::Closing;
                        continue;
                    }
                    *bulky = if bytes.len() >= BULKY { *bulky + 1 } else { 0 };
                    let splice_next = *bulky >= BULKY_READS;
                    let taken = match sink.poll_give(cx, bytes) {
                        Poll::Ready(taken) => taken.map_err(|e| (End::Sink, e))?,
                        Poll::Pending => 0,
                    };
                    moved(taken);
                    if taken < bytes.len() {
                        self.state = State::Flushing(tools.scratch.keep(&bytes[taken..]));
                    } else if splice_next {
                        self.state = start_splicing(source, sink, &tools.pipes);
                    }
                }
                State::Flushing(leftover) => {
                    let taken = ready!(sink.poll_give(cx, leftover.rest()));
                    let taken = taken.map_err(|e| (End::Sink, e))?;
                    if taken == 0 {
                        return Poll::Ready(Err((End::Sink, io::ErrorKind::WriteZero.into())));
                    }
                    moved(taken);
                    if leftover.taken(taken) {
                        let state = std::mem::replace(&mut self.state, State::COPYING);
                        if let State::Flushing(leftover) = state {
                            tools.scratch.give_back(leftover);
                        }
                    }
                }
                State::Splicing { pipe, small, finished } => {
                    let (Some(from), Some(to)) = (source.socket(), sink.socket()) else {
                        unreachable!("only bare TCP connections start splicing, and a leg never changes its kind");
                    };
                    if pipe.held > 0 {
                        let n = ready!(poll_splice_out(cx, pipe, to)).map_err(|e| (End::Sink, e))?;
                        moved(n);
                    } else if *finished {
                        self.state = State::Closing;
                    } else if *small >= SMALL_SPLICES {
                        self.state = State::COPYING;
                    } else {
                        let n = ready!(poll_splice_in(cx, from, pipe)).map_err(|e| (End::Source, e))?;
                        *finished = n == 0;
                        *small = if n < SMALL { *small + 1 } else { 0 };
                    }
                }
                State::Closing => {
                    // A leg that is no bare connection has an end of its own to send.
                    if !last || sink.socket().is_none() {
                        // A sink that has gone already has no use for a FIN; its error shows in the other direction.
                        let _ = ready!(sink.poll_finish(cx));
                    }
                    self.state = State::Done;
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Splicing, if both ends are bare TCP and a pipe is to be had; copying goes on otherwise.
fn start_splicing(source: &impl Leg, sink: &impl Leg, pipes: &Rc<Pipes>) -> State {
    let both_bare = source.socket().is_some() && sink.socket().is_some();
    match both_bare.then(|| pipes.take()).flatten() {
        Some(pipe) => State::Splicing { pipe, small: 0, finished: false },
        None => State::COPYING,
    }
}

/// How bytes are spliced.
const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// Moves from the socket into the empty pipe, so that "would block" can only mean that the socket has nothing.
fn poll_splice_in(cx: &mut Context<'_>, from: &Socket, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
    let n = ready!(from.poll_read(cx, 0, |fd| splice(fd, None, pipe.write(), None, pipe.size(), FLAGS)))?;
    pipe.held = n;
    Poll::Ready(Ok(n))
}

/// Moves out of the pipe, which holds data, so that "would block" can only mean that the socket is full.
fn poll_splice_out(cx: &mut Context<'_>, pipe: &mut Pipe, to: &Socket) -> Poll<io::Result<usize>> {
    let n = ready!(to.poll_write(cx, 0, |fd| splice(pipe.read(), None, fd, None, pipe.held, FLAGS)))?;
    pipe.held -= n;
    Poll::Ready(Ok(n))
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
