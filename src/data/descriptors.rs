//! Two descriptors for each client, or none: what happens when a process or host runs out of them.
//!
//! A connection needs a descriptor for the client and one for its target. With one alone the client would be accepted, the
//! dial would fail, and the client would see RST, or 502 from the HTTP front end. So the target's socket is made *before*
//! the client is accepted: while either is not to be had, clients wait in the listener's queue, as long as it has room. A
//! socket that turns out not to be needed (the client was refused) serves the next one.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use metrics::{Counter, Key, Label, Level, Metadata, Recorder};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::budget::is_reserved;

/// A socket towards a target, made before it is known which one.
#[derive(Debug)]
pub(crate) struct SpareSocket {
    domain: Domain,
    socket: Socket,
}

impl SpareSocket {
    /// A socket for targets of this address' family. Dropped, it leaves its descriptor to whatever is opened next.
    ///
    /// # Errors
    ///
    /// What the kernel says, or as it says when no descriptor is left but those that are kept for other purposes;
    /// [`is_scarcity`] tells whether waiting helps.
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

/// The socket that a worker has left over, if it has one.
#[derive(Debug, Default)]
pub(crate) struct LeftOver(RefCell<Option<SpareSocket>>);

impl LeftOver {
    /// A socket towards `target`: the one that was left over, or a new one.
    ///
    /// # Errors
    ///
    /// What the kernel says, out of descriptors most likely.
    pub(crate) fn take(&self, target: SocketAddr) -> io::Result<SpareSocket> {
        let left = self.0.borrow_mut().take();
        left.filter(|spare| spare.fits(target)).map_or_else(|| SpareSocket::new(target), Ok)
    }

    /// Keeps a socket that was not needed for the next client.
    pub(crate) fn keep(&self, spare: Option<SpareSocket>) {
        if spare.is_some() {
            *self.0.borrow_mut() = spare;
        }
    }
}

/// Failures to accept a client, as a metric: `plgw_accept_errors_total`.
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

    /// Counts one.
    pub(crate) fn count(&self, error: &io::Error) {
        let is_out = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
        if is_out { &self.descriptors } else { &self.other }.increment(1);
    }
}

/// Whether trying again at once would only fail again: the process or the host is out of descriptors or memory.
pub(crate) fn is_scarcity(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Waits of a listener that is out of descriptors: 50 ms, doubling to 1 s.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(1);

    pub(crate) const fn new() -> Self {
        Self(Self::FIRST)
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(Self::LONGEST);
        wait
    }

    /// Something was accepted.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..7).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 50);
    }
}
