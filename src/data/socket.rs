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

/// A TCP connection that is used by one task. It costs less than `TcpStream`: polling a socket that is not ready checks
/// a flag (no lock, no waker), a short read or write clears the readiness without a second system call, and the system
/// calls skip libc's cancellation points. It also handles urgent data, at which a read stops; `TcpStream` cannot wait
/// for it.
///
/// If its task panics, the peer sees RST.
#[derive(Debug)]
pub(crate) struct Socket {
    io: AsyncFd<OwnedFd>,
    /// The runtime holds the task's waker since the last read that would have blocked.
    waits_to_read: Cell<bool>,
}

impl Socket {
    /// Registers a non-blocking connection with the current runtime.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to watch it.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let io = register(fd, Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY)?;
        Ok(Self { io, waits_to_read: Cell::new(false) })
    }

    /// Waits until the connection is established.
    ///
    /// # Errors
    /// Why the connect failed.
    pub(crate) async fn connected(&self) -> io::Result<()> {
        let failed = poll_fn(|cx| self.io.poll_write_ready(cx).map_ok(|ready| ready.ready().is_write_closed())).await?;
        if failed { self.take_error().map_or(Ok(()), Err) } else { Ok(()) }
    }

    /// Waits for an error, usually RST from the peer, without reading.
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

    /// Ready when a read would not block: bytes, end of stream or an error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_read_ready(cx).map(|_| ())
    }

    fn take_error(&self) -> Option<io::Error> {
        SockRef::from(&self.io).take_error().ok().flatten()
    }

    /// Makes the close send RST.
    pub(crate) fn reset(&self) {
        // Fails only on a socket that is gone already.
        let _ = SockRef::from(&self.io).set_linger(Some(Duration::ZERO));
    }

    /// Shuts down both directions and makes the close send RST.
    pub(crate) fn abort(&self) {
        self.reset();
        // Fails only on a socket that is gone already.
        let _ = shutdown(&self.io, Shutdown::Both);
    }

    /// The local and the peer's address, while connected.
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let socket = SockRef::from(&self.io);
        Some((socket.local_addr().ok()?.as_socket()?, socket.peer_addr().ok()?.as_socket()?))
    }

    /// Reads by `call`, which returns the number of bytes that it moved. Fewer than `most` mean that the socket is
    /// drained.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        most: usize,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut moved = None;
            let tried = self.io.try_io(Interest::READABLE, |fd| {
                // The readiness event has consumed the waker.
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
                // Without budget, the runtime reschedules the task and does not store its waker.
                self.waits_to_read.set(has_budget_remaining());
                return Poll::Pending;
            }
        }
    }

    /// Writes by `call`, which returns the number of bytes that it moved. Fewer than `most` mean that the send buffer
    /// is full.
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

    /// Whether a short read may leave bytes in the socket: a read stops at urgent data, and no later event reports the
    /// bytes behind it, so the readiness must not be cleared.
    fn may_hold_back(&self) -> bool {
        self.io.try_io(Interest::PRIORITY, |_| Ok(())).is_ok()
    }
}

/// Registers a descriptor with the current runtime.
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

/// The result for `try_io` of a call that moved `n` of at most `most` bytes. `WouldBlock` clears the readiness after a
/// short call, and the next edge sets it again.
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

    fn poll_recv(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read(cx, buffer.len(), |fd| recv(fd, &mut *buffer, RecvFlags::empty()).map(|(n, _)| n))
    }

    fn poll_transmit(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
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
            match poll_fn(|cx| (&*socket).poll_recv(cx, buffer)).await? {
                0 => return Ok(got),
                n => got.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// A read stops at the urgent byte, and no event reports the bytes behind it.
    #[test]
    fn bytes_behind_urgent_data_are_read() {
        worker_runtime().block_on(async {
            let (mut near, far) = pair();
            near.write_all(b"abc").expect("sent");
            socket2::SockRef::from(&near).send_out_of_band(b"!").expect("sent");
            near.write_all(b"def").expect("sent");
            let (mut got, mut buffer) = (Vec::new(), [0; 64]);
            while got != b"abcdef" {
                let n = poll_fn(|cx| (&far).poll_recv(cx, &mut buffer)).await.expect("read");
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
    fn a_reset_is_detected_without_a_read() {
        worker_runtime().block_on(async {
            let (mut near, far) = pair();
            near.write_all(b"unread").expect("sent");
            socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO)).expect("a live socket");
            drop(near);
            assert_eq!(far.failed().await.kind(), io::ErrorKind::ConnectionReset);
        });
    }

    #[test]
    fn a_refused_connection_is_an_error() {
        worker_runtime().block_on(async {
            let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a port");
            let socket = begin(target, None, &LegOptions::default(), None).expect("begun");
            let error = Socket::new(socket).expect("registered").connected().await.expect_err("nothing listens there");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    }

    #[test]
    fn the_peer_of_a_panicked_task_gets_rst() {
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
