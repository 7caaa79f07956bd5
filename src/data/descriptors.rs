//! File descriptor exhaustion: a client is accepted only when two descriptors are available.
//!
//! A connection needs one descriptor for the client and one for its target. If only one were available, the client
//! would be accepted, the connect would fail, and the client would see RST, or 502 from the HTTP front end. So the
//! target's socket is created *before* the client is accepted. While descriptors are short, clients wait in the listen
//! backlog. A socket that is not needed, because the client was refused, is kept for the next client.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use metrics::{Counter, Key, Label, Level, Metadata, Recorder};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::budget::is_reserved;

/// An unconnected socket, created before its target is known.
#[derive(Debug)]
pub(crate) struct SpareSocket {
    domain: Domain,
    socket: Socket,
}

impl SpareSocket {
    /// Creates a socket for targets of this address family.
    ///
    /// # Errors
    ///
    /// The kernel's, or `EMFILE` when only reserved descriptors are left. [`is_scarcity`] decides whether to wait and
    /// retry.
    pub(crate) fn new(target: SocketAddr) -> io::Result<Self> {
        let domain = Domain::for_address(target);
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if is_reserved(&socket) {
            return Err(Errno::MFILE.into());
        }
        Ok(Self { domain, socket })
    }

    /// Whether it can connect to `target`.
    pub(crate) fn fits(&self, target: SocketAddr) -> bool {
        self.domain == Domain::for_address(target)
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }
}

/// A worker's unused spare socket, if it has one.
#[derive(Debug, Default)]
pub(crate) struct SpareSlot(RefCell<Option<SpareSocket>>);

impl SpareSlot {
    /// The spare socket if it fits `target`, or a new one.
    ///
    /// # Errors
    ///
    /// As [`SpareSocket::new`].
    pub(crate) fn take(&self, target: SocketAddr) -> io::Result<SpareSocket> {
        let left = self.0.borrow_mut().take();
        left.filter(|spare| spare.fits(target)).map_or_else(|| SpareSocket::new(target), Ok)
    }

    /// Keeps an unused socket for the next client.
    pub(crate) fn keep(&self, spare: Option<SpareSocket>) {
        if spare.is_some() {
            *self.0.borrow_mut() = spare;
        }
    }
}

/// Counters of `plgw_accept_errors_total`, by kind.
pub(crate) struct AcceptErrors {
    descriptors: Counter,
    other: Counter,
}

impl fmt::Debug for AcceptErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptErrors").finish_non_exhaustive()
    }
}

impl AcceptErrors {
    const NAME: &str = "plgw_accept_errors_total";

    pub(crate) fn new(recorder: &dyn Recorder) -> Self {
        const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));
        recorder.describe_counter(Self::NAME.into(), None, "Failures to accept a connection.".into());
        let counter = |kind: &'static str| {
            recorder.register_counter(&Key::from_parts(Self::NAME, vec![Label::new("kind", kind)]), &METADATA)
        };
        Self { descriptors: counter("descriptors"), other: counter("other") }
    }

    /// Counts an accept error.
    pub(crate) fn count(&self, error: &io::Error) {
        let is_out = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
        if is_out { &self.descriptors } else { &self.other }.increment(1);
    }
}

/// Whether the process or the host is out of descriptors or memory, so that an immediate retry would fail too.
pub(crate) fn is_scarcity(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Exponential backoff while descriptors are exhausted: 50 ms, doubling to 1 s.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const MAX_DELAY: Duration = Duration::from_secs(1);

    pub(crate) const fn new() -> Self {
        Self(Self::FIRST)
    }

    /// The next delay.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(Self::MAX_DELAY);
        wait
    }

    /// Starts over after a successful accept.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second_and_restart_after_a_success() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..7).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 50);
    }
}
