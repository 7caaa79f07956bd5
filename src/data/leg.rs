//! One end of a flow: how bytes are taken from it and given to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::has_budget_remaining;

/// One end of a flow.
pub(crate) trait Leg: AsyncRead + AsyncWrite + Unpin {
    /// The socket, where this is a bare TCP connection: what can be spliced.
    fn tcp(&self) -> Option<&TcpStream>;

    /// Sends what the leg took and still holds, as one that encrypts does. Ready when it holds nothing.
    fn poll_push(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Takes what there is; 0 bytes are the end. `armed` remembers from one call to the next that the task is woken when
    /// there is news, and starts as `false`.
    fn poll_take(&mut self, cx: &mut Context<'_>, buffer: &mut [u8], armed: &mut bool) -> Poll<io::Result<usize>> {
        *armed = false;
        let mut buffer = ReadBuf::new(buffer);
        Pin::new(self).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
    }

    /// Gives as much as is taken.
    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }
}

/// What `TcpStream`'s own `AsyncRead` and `AsyncWrite` do, for less: a way without news costs one look at its readiness
/// (no lock, no waker), and the system calls skip libc's cancellation points, which a relay of small messages feels.
impl Leg for TcpStream {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, buffer: &mut [u8], armed: &mut bool) -> Poll<io::Result<usize>> {
        loop {
            let mut taken = None;
            let tried = self.try_io(Interest::READABLE, || {
                // News used the waker up, whatever comes of it.
                *armed = false;
                let (n, _) = retry_on_intr(|| rustix::net::recv(&*self, &mut *buffer, RecvFlags::empty()))?;
                taken = Some(n);
                settled(n, buffer.len())
            });
            match (taken, tried) {
                (Some(n), _) => return Poll::Ready(Ok(n)),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(error)) => return Poll::Ready(Err(error)),
                (None, Ok(())) => unreachable!("what succeeds has taken something, if only nothing"),
            }
            if *armed {
                return Poll::Pending;
            }
            if self.poll_read_ready(cx)?.is_pending() {
                // A task that has used its budget up is put off without its waker being kept.
                *armed = has_budget_remaining();
                return Poll::Pending;
            }
        }
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut given = None;
            let tried = self.try_io(Interest::WRITABLE, || {
                let n = retry_on_intr(|| rustix::net::send(&*self, bytes, SendFlags::NOSIGNAL))?;
                given = Some(n);
                settled(n, bytes.len())
            });
            match (given, tried) {
                (Some(n), _) => return Poll::Ready(Ok(n)),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(error)) => return Poll::Ready(Err(error)),
                (None, Ok(())) => unreachable!("what succeeds has given something, if only nothing"),
            }
            ready!(self.poll_write_ready(cx))?;
        }
    }
}

/// Told to `try_io` after a call that moved `n` of at most `most` bytes. A short one means that the socket has no more
/// now: "would block" makes the runtime wait for the next edge, where another call would only be told so.
fn settled(n: usize, most: usize) -> io::Result<()> {
    if 0 < n && n < most { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
}
