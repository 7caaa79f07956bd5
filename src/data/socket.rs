//! A connection of a worker, and what is known of it without asking.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use socket2::SockRef;

use super::leg::Leg;
use super::poll::{News, Poller, Token};

/// A TCP connection. Its calls never wait; a [`Poll::Pending`] of its means that news will come from the worker's
/// [`Poller`], whatever waker is passed.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    watched: bool,
    /// A read may find something.
    readable: bool,
    /// A write may find room.
    writable: bool,
    /// A short read says nothing: no bytes will come beyond those that are there, so there will be no news of them; or there
    /// was urgent data, at which a read stops.
    read_on: bool,
    /// Reset, failed, or closed both ways.
    over: bool,
}

impl Socket {
    /// A connection that doesn't block, of which nothing is known yet.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, watched: false, readable: false, writable: false, read_on: false, over: false }
    }

    /// Has `poller` tell of it under this name.
    pub(crate) fn watch(&mut self, poller: &Poller, token: Token) -> io::Result<()> {
        if self.watched {
            return poller.rename(&self.fd, token);
        }
        poller.watch(&self.fd, token)?;
        self.watched = true;
        Ok(())
    }

    /// Takes in what the poller says.
    pub(crate) fn hear(&mut self, news: News) {
        self.readable |= news.is_readable();
        self.writable |= news.is_writable();
        self.read_on |= news.is_end() || news.is_urgent();
        self.over |= news.is_over();
    }

    /// Whether there is something that was not read yet: bytes, the end or an error.
    pub(crate) fn has_something(&self) -> bool {
        self.readable
    }

    /// Whether it is made, failed or is over: whatever it is, it was attempted.
    pub(crate) fn is_settled(&self) -> bool {
        self.writable
    }

    /// Whether it was reset, has failed, or is closed both ways.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Why it is over, if the kernel has said so and nobody was told.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        if self.over { SockRef::from(&self.fd).take_error().ok().flatten() } else { None }
    }

    /// Has the peer see RST when it is closed.
    pub(crate) fn reset(&self) {
        // Fails only on a socket that is gone already.
        let _ = SockRef::from(&self.fd).set_linger(Some(Duration::ZERO));
    }

    /// Its own address and its peer's, while it is connected.
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let socket = SockRef::from(&self.fd);
        Some((socket.local_addr().ok()?.as_socket()?, socket.peer_addr().ok()?.as_socket()?))
    }

    /// Reads by `call`, which gives the bytes that it moved, if a read may find something.
    pub(crate) fn poll_read(
        &mut self,
        call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if !self.readable {
            return Poll::Pending;
        }
        poll_call(&mut self.readable, self.fd.as_fd(), call)
    }

    /// Writes by `call`, which gives the bytes that it moved, if a write may find room.
    pub(crate) fn poll_write(
        &mut self,
        call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if !self.writable {
            return Poll::Pending;
        }
        poll_call(&mut self.writable, self.fd.as_fd(), call)
    }
}

/// Makes a call; "would block" means that the next edge is to be waited for.
fn poll_call(
    may: &mut bool,
    fd: BorrowedFd<'_>,
    mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    match retry_on_intr(|| call(fd)) {
        Ok(n) => Poll::Ready(Ok(n)),
        Err(Errno::AGAIN) => {
            *may = false;
            Poll::Pending
        }
        Err(error) => Poll::Ready(Err(error.into())),
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Leg for Socket {
    fn socket(&mut self) -> Option<&mut Socket> {
        Some(self)
    }

    fn poll_take(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let most = buffer.len();
        let taken = self.poll_read(|fd| recv(fd, &mut *buffer, RecvFlags::empty()).map(|(n, _)| n));
        if let Poll::Ready(Ok(n)) = taken
            && 0 < n
            && n < most
        {
            // It has no more now, and what comes is told as an edge.
            self.readable = self.read_on;
        }
        taken
    }

    fn poll_give(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let given = self.poll_write(|fd| send(fd, bytes, SendFlags::NOSIGNAL));
        if let Poll::Ready(Ok(n)) = given
            && n < bytes.len()
        {
            self.writable = self.over;
        }
        given
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(&self.fd, Shutdown::Write)?))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;

    use crate::data::leg::Leg;
    use crate::data::testing::{drive, pair};

    /// A read stops at the urgent byte, and nothing is said of those behind it.
    #[test]
    fn bytes_behind_urgent_data_are_read() {
        let ((mut near, mut far), (_idle, mut other)) = (pair(), pair());
        near.write_all(b"abc").expect("sent");
        socket2::SockRef::from(&near).send_out_of_band(b"!").expect("sent");
        near.write_all(b"def").expect("sent");
        let (mut got, mut buffer) = (Vec::new(), [0; 64]);
        drive(&mut far, &mut other, |cx, socket, _| {
            while let std::task::Poll::Ready(n) = socket.poll_take(cx, &mut buffer) {
                got.extend_from_slice(&buffer[..n.expect("read")]);
            }
            let all = if got == b"abcdef" { std::task::Poll::Ready(()) } else { std::task::Poll::Pending };
            (all, None)
        });
    }

    #[test]
    fn the_end_behind_the_last_bytes_is_read() {
        let ((mut near, mut far), (_idle, mut other)) = (pair(), pair());
        near.write_all(b"last").expect("sent");
        near.shutdown(Shutdown::Write).expect("FIN");
        let (mut got, mut buffer) = (Vec::new(), [0; 64]);
        drive(&mut far, &mut other, |cx, socket, _| {
            loop {
                match socket.poll_take(cx, &mut buffer) {
                    std::task::Poll::Ready(Ok(0)) => return (std::task::Poll::Ready(()), None),
                    std::task::Poll::Ready(n) => got.extend_from_slice(&buffer[..n.expect("read")]),
                    std::task::Poll::Pending => return (std::task::Poll::Pending, None),
                }
            }
        });
        assert_eq!(got, b"last");
        drop(far);
        assert_eq!(near.read(&mut buffer).expect("FIN"), 0);
    }
}
