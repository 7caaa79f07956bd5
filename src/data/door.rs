//! What one worker has at a listener's address: a socket that accepts, one that is silent, or one that refuses.
//!
//! On the load balancer a client's handshake completes with the target, so a target that refuses or stays silent shows to
//! the client as a port that does. A gateway's kernel accepts before anybody is asked; so the port itself takes the look
//! that its target has.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{SockFilter, SockRef};
use tokio::time::Instant;

use super::listener::{self, ListenerState};
use super::local::Local;
use super::poll::Token;
use super::socket::Socket;
use crate::plan::Answer;

/// Classic BPF's "return the constant": of the packet, 0 bytes pass. Socket filters need no privilege (socket(7),
/// `SO_ATTACH_FILTER`), and on a listening socket they come before the handshake.
const DROP_ALL: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// First wait when no descriptor is left; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Longest wait between two tries to accept without descriptors.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// One worker's side of a listener.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) state: ListenerState,
    allowance: Allowance,
    listening: Option<TcpListener>,
    /// Keeps the port while nothing listens on it: the kernel then answers with RST, and nobody else can take it.
    placeholder: Option<socket2::Socket>,
    silent: bool,
    /// The look that the route asks for could not be had: no descriptor, or somebody else took the port.
    failed: bool,
    /// How long it waits when no descriptor is left.
    wait: Duration,
}

/// How many clients a door accepts when it is told of some.
///
/// An `accept` that finds nobody makes a socket and throws it away again, so it costs nearly as much as one that finds
/// somebody; and mostly one client waits. So one is accepted, and twice as many whenever the very next round tells of more.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    clients: u32,
    told_in: u64,
}

impl Allowance {
    const fn new() -> Self {
        Self { clients: 1, told_in: 0 }
    }

    /// Of a door that is told of clients in this round of its worker.
    fn next(&mut self, round: u64, most: u32) -> u32 {
        let are_more = round <= self.told_in + 1;
        self.clients = if are_more { (self.clients * 2).min(most) } else { 1 };
        self.told_in = round;
        self.clients
    }
}

/// What came of accepting.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A client, and its address.
    One(Socket, SocketAddr),
    /// This one failed; the next may not.
    Failed,
    /// The process or the host is out of descriptors or memory; nobody is accepted until then.
    PausedUntil(Instant),
    /// Nobody waits.
    NoMore,
}

impl Door {
    /// Nothing is open yet.
    pub(crate) fn new(state: ListenerState) -> Self {
        Self {
            state,
            listening: None,
            placeholder: None,
            silent: false,
            failed: false,
            wait: FIRST_WAIT,
            allowance: Allowance::new(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.state.listener.address
    }

    /// Accepts on `socket`. `at` is this door's own number, as below.
    pub(crate) fn open(&mut self, local: &Local, at: usize, socket: TcpListener) {
        match local.poller.watch_level(&socket, token(at)) {
            Ok(()) => {
                self.listening = Some(socket);
                self.silent = false;
            }
            Err(error) => self.lose(local, &error),
        }
    }

    /// How many clients to accept, `most` at most, now that it is told of some in this round of its worker.
    pub(crate) fn allowed(&mut self, round: u64, most: u32) -> u32 {
        self.allowance.next(round, most)
    }

    /// Accepts the next client.
    pub(crate) fn accept(&mut self, local: &Local, at: usize) -> Taken {
        let Some(socket) = &self.listening else { return Taken::NoMore };
        let error = match acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((client, address)) => {
                self.wait = FIRST_WAIT;
                return match address.map(SocketAddr::try_from) {
                    Some(Ok(address)) => Taken::One(Socket::new(client), address),
                    Some(Err(_)) | None => Taken::Failed,
                };
            }
            Err(Errno::AGAIN) => return Taken::NoMore,
            Err(Errno::INTR) => return Taken::Failed,
            Err(error) => io::Error::from(error),
        };
        local.shared.accept_error(&error);
        if !listener::is_scarcity(&error) || local.poller.pause(socket, token(at), true).is_err() {
            return Taken::Failed;
        }
        let wait = self.wait;
        tracing::warn!(%error, wait_ms = wait.as_millis(), "accepting waits: the process or the host is out of descriptors or memory");
        self.wait = (wait * 2).min(LONGEST_WAIT);
        Taken::PausedUntil(Instant::now() + wait)
    }

    /// Accepts again after a pause.
    pub(crate) fn go_on(&mut self, local: &Local, at: usize) {
        if let Some(socket) = &self.listening
            && let Err(error) = local.poller.pause(socket, token(at), false)
        {
            self.lose(local, &error);
        }
    }

    /// Takes the look that the present route asks for.
    pub(crate) fn answer(&mut self, local: &Local, at: usize) {
        let looked = match self.state.listener.answer {
            Answer::Refuse => self.refuse(),
            Answer::Accept => self.listen(local, at).and_then(|()| self.silence(false)),
            Answer::Ignore => self.listen(local, at).and_then(|()| self.silence(true)),
        };
        if let Err(error) = &looked
            && !self.failed
        {
            tracing::error!(address = %self.address(), %error, "a listener can't take the look of its target; it is tried again");
        }
        self.failed = looked.is_err();
    }

    /// Whether [`answer`](Self::answer) failed, and may do better by now.
    pub(crate) fn wants_another_try(&self) -> bool {
        self.failed
    }

    fn refuse(&mut self) -> io::Result<()> {
        if self.listening.is_some() {
            // Bound before the listening socket goes, so that the port is never free.
            let placeholder = listener::bound(self.address(), true)?;
            self.listening = None;
            // Whoever binds with `SO_REUSEADDR`, as most servers do, could share it otherwise, and listen.
            placeholder.set_reuse_address(false)?;
            self.placeholder = Some(placeholder);
        }
        Ok(())
    }

    fn listen(&mut self, local: &Local, at: usize) -> io::Result<()> {
        if self.listening.is_none() {
            let socket = listener::listening(self.address(), local.options.backlog, &local.options.leg)?;
            self.open(local, at, socket);
            self.placeholder = None;
        }
        Ok(())
    }

    fn silence(&mut self, silent: bool) -> io::Result<()> {
        if let Some(socket) = self.listening.as_ref().filter(|_| self.silent != silent) {
            let socket = SockRef::from(socket);
            if silent { socket.attach_filter(&DROP_ALL) } else { socket.detach_filter() }?;
            self.silent = silent;
        }
        Ok(())
    }

    fn lose(&self, local: &Local, error: &io::Error) {
        let address = self.address();
        tracing::error!(%address, %error, "listener is lost: its socket cannot be had");
        local.shared.lost_listener(address);
    }
}

/// Whom news of the listening socket are for.
fn token(at: usize) -> Token {
    Token::Door(u32::try_from(at).expect("descriptors end long before numbers do"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_accepts_one_and_twice_as_many_each_round_that_tells_of_more() {
        let mut allowance = Allowance::new();
        let allowed = [3, 9, 10, 11, 12, 13, 14, 15, 20].map(|round| allowance.next(round, 32));
        assert_eq!(allowed, [1, 1, 2, 4, 8, 16, 32, 32, 1]);
        // No round is over while not all news fit.
        assert_eq!([20, 20, 20].map(|round| allowance.next(round, 32)), [2, 4, 8]);
    }
}
