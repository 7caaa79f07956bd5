//! A TCP connection of a worker.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::has_budget_remaining;

use super::leg::Leg;

/// A TCP connection, for one task. It does what `TcpStream` does, for less: a socket that is not ready costs one look at
/// its readiness (no lock, no waker), a short read or write needs no second call to learn that there is no more, and the
/// system calls skip libc's cancellation points. `TcpStream` cannot wait for urgent data either, at which a read stops.
///
/// If its task panics, the peer sees RST.
#[derive(Debug)]
pub(crate) struct Socket {
    io: AsyncFd<OwnedFd>,
    /// The runtime holds the task's waker since the last read that found nothing.
    waits_to_read: Cell<bool>,
}

impl Socket {
    /// Registers a connection that doesn't block with the present runtime.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to watch it.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let io = register(fd, Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY)?;
        Ok(Self { io, waits_to_read: Cell::new(false) })
    }

    /// Waits until the connection is made.
    ///
    /// # Errors
    ///
    /// Why it was not.
    pub(crate) async fn connected(&self) -> io::Result<()> {
        let failed = poll_fn(|cx| self.io.poll_write_ready(cx).map_ok(|ready| ready.ready().is_write_closed())).await?;
        if failed { self.take_error().map_or(Ok(()), Err) } else { Ok(()) }
    }

    /// Waits until the connection has failed, which shows without a read: the peer sent RST, most likely.
    pub(crate) async fn failed(&self) -> io::Error {
        loop {
            match self.io.ready(Interest::ERROR).await {
                Ok(mut ready) => match self.take_error() {
                    Some(error) => return error,
                    None => ready.clear_ready(),
                },
                Err(error) => return error,
            }
        }
    }

    /// Ready when there is something to read: bytes, the end or an error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_read_ready(cx).map(|_| ())
    }

    fn take_error(&self) -> Option<io::Error> {
        SockRef::from(&self.io).take_error().ok().flatten()
    }

    /// Has the peer see RST when the connection is closed.
    pub(crate) fn reset(&self) {
        // Fails only on a socket that is gone already.
        let _ = SockRef::from(&self.io).set_linger(Some(Duration::ZERO));
    }

    /// Ends the connection both ways; with RST, as nothing more is read.
    pub(crate) fn abort(&self) {
        self.reset();
        // Fails only on a socket that is gone already.
        let _ = shutdown(&self.io, Shutdown::Both);
    }

    /// Its own address and its peer's, while it is connected.
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let socket = SockRef::from(&self.io);
        Some((socket.local_addr().ok()?.as_socket()?, socket.peer_addr().ok()?.as_socket()?))
    }

    /// Reads by `call`, which gives the number of bytes that it moved. Fewer than `most` are all that there are.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        most: usize,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut moved = None;
            let tried = self.io.try_io(Interest::READABLE, |fd| {
                // Readiness used the waker up, whatever comes of it.
                self.waits_to_read.set(false);
                let n = retry_on_intr(|| call(fd.as_fd()))?;
                moved = Some(n);
                if self.may_hold_back() { Ok(()) } else { unless_short(n, most) }
            });
            match (moved, tried) {
                (Some(n), _) => return Poll::Ready(Ok(n)),
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                (None, _) => {}
            }
            if self.waits_to_read.get() {
                return Poll::Pending;
            }
            if self.io.poll_read_ready(cx)?.is_pending() {
                // A task whose budget is used up is put off without its waker being kept.
                self.waits_to_read.set(has_budget_remaining());
                return Poll::Pending;
            }
        }
    }

    /// Writes by `call`, which gives the number of bytes that it moved. Fewer than `most` are all that there is room for.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        most: usize,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut moved = None;
            let tried = self.io.try_io(Interest::WRITABLE, |fd| {
                let n = retry_on_intr(|| call(fd.as_fd()))?;
                moved = Some(n);
                unless_short(n, most)
            });
            match (moved, tried) {
                (Some(n), _) => return Poll::Ready(Ok(n)),
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                (None, _) => {}
            }
            let _ = ready!(self.io.poll_write_ready(cx))?;
        }
    }

    /// Whether a short read says nothing: a read stops at urgent data, with more bytes behind it. Of these no readiness
    /// tells later, so it is not cleared.
    fn may_hold_back(&self) -> bool {
        self.io.try_io(Interest::PRIORITY, |_| Ok(())).is_ok()
    }
}

/// Registers a descriptor with the present runtime.
///
/// # Errors
///
/// When the kernel refuses to watch it.
#[expect(
    deprecated,
    reason = "its successor is unsafe, which is forbidden here: a descriptor must not change or close while it is \
              registered, and an OwnedFd never does"
)]
pub(crate) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}

/// What `try_io` is given for a call that moved `n` of at most `most` bytes. "Would block" clears the readiness: the socket has
/// no more now, and the next edge says when it has.
fn unless_short(n: usize, most: usize) -> io::Result<()> {
    if 0 < n && n < most { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.reset();
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl Leg for &Socket {
    fn socket(&self) -> Option<&Socket> {
        Some(self)
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read(cx, buffer.len(), |fd| recv(fd, &mut *buffer, RecvFlags::empty()).map(|(n, _)| n))
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(cx, bytes.len(), |fd| send(fd, bytes, SendFlags::NOSIGNAL))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(&self.io, Shutdown::Write)?))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Shutdown, TcpListener};

    use super::*;
    use crate::data::connect::{LegOptions, begin};
    use crate::data::testing::{pair, worker_runtime};

    async fn read_all(socket: &Socket, buffer: &mut [u8]) -> io::Result<Vec<u8>> {
        let mut got = Vec::new();
        loop {
            match poll_fn(|cx| (&*socket).poll_take(cx, buffer)).await? {
                0 => return Ok(got),
                n => got.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// A read stops at the urgent byte, and no event tells of those behind it.
    #[test]
    fn bytes_behind_urgent_data_are_read() {
        worker_runtime().block_on(async {
            let (mut near, far) = pair();
            near.write_all(b"abc").expect("sent");
            socket2::SockRef::from(&near).send_out_of_band(b"!").expect("sent");
            near.write_all(b"def").expect("sent");
            let (mut got, mut buffer) = (Vec::new(), [0; 64]);
            while got != b"abcdef" {
                let n = poll_fn(|cx| (&far).poll_take(cx, &mut buffer)).await.expect("read");
                got.extend_from_slice(&buffer[..n]);
            }
        });
    }

    #[test]
    fn the_end_behind_the_last_bytes_is_read() {
        worker_runtime().block_on(async {
            let (mut near, far) = pair();
            near.write_all(b"last").expect("sent");
            near.shutdown(Shutdown::Write).expect("FIN");
            let mut buffer = [0; 64];
            assert_eq!(read_all(&far, &mut buffer).await.expect("read"), b"last");
            drop(far);
            assert_eq!(near.read(&mut buffer).expect("FIN"), 0);
        });
    }

    #[test]
    fn a_reset_shows_although_nothing_is_read() {
        worker_runtime().block_on(async {
            let (mut near, far) = pair();
            near.write_all(b"unread").expect("sent");
            socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO)).expect("a live socket");
            drop(near);
            assert_eq!(far.failed().await.kind(), io::ErrorKind::ConnectionReset);
        });
    }

    #[test]
    fn a_connection_that_is_refused_says_so() {
        worker_runtime().block_on(async {
            let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a port");
            let socket = begin(target, None, &LegOptions::default(), None).expect("begun");
            let error = Socket::new(socket).expect("registered").connected().await.expect_err("nothing listens there");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    }

    #[test]
    fn the_peer_of_a_task_that_panics_sees_rst() {
        worker_runtime().block_on(async {
            let (mut near, far) = pair();
            let task = tokio::task::spawn_local(async move {
                let _far = far;
                panic!("as asked");
            });
            assert!(task.await.is_err());
            assert_eq!(near.read(&mut [0]).expect_err("RST").kind(), io::ErrorKind::ConnectionReset);
        });
    }
}
