//! What one worker has at a listener's address: a socket that accepts, one that is silent, or one that refuses.
//!
//! On the load balancer a client's handshake completes with the target, so a target that refuses or stays silent shows to
//! the client as a port that does. A gateway's kernel accepts before anybody is asked; so the port itself takes the look
//! that its target has.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use socket2::{SockFilter, SockRef, Socket};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::listener::{self, ListenerState};
use super::worker::Worker;
use crate::plan::Answer;

/// Classic BPF's "return the constant": of the packet, 0 bytes pass. Socket filters need no privilege (socket(7),
/// `SO_ATTACH_FILTER`), and on a listening socket they come before the handshake.
const DROP_ALL: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// One worker's side of a listener.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) state: Rc<RefCell<ListenerState>>,
    listening: Option<(Rc<TcpListener>, JoinHandle<()>)>,
    /// Keeps the port while nothing listens on it: the kernel then answers with RST, and nobody else can take it.
    placeholder: Option<Socket>,
    silent: bool,
    /// The look that the route asks for could not be had: no descriptor, or somebody else took the port.
    failed: bool,
}

impl Door {
    /// Nothing is open yet.
    pub(crate) fn new(state: ListenerState) -> Self {
        Self { state: Rc::new(RefCell::new(state)), listening: None, placeholder: None, silent: false, failed: false }
    }

    fn address(&self) -> SocketAddr {
        self.state.borrow().listener.address
    }

    /// Accepts on `socket`.
    pub(crate) fn open(&mut self, worker: &Rc<Worker>, socket: std::net::TcpListener) {
        match TcpListener::from_std(socket) {
            Ok(socket) => {
                let socket = Rc::new(socket);
                let task = listener::accept(Rc::clone(worker), Rc::clone(&socket), Rc::clone(&self.state));
                self.listening = Some((socket, tokio::task::spawn_local(task)));
                self.silent = false;
            }
            Err(error) => self.lose(worker, &error),
        }
    }

    /// Takes the look that the present route asks for.
    pub(crate) async fn answer(&mut self, worker: &Rc<Worker>) {
        let answer = self.state.borrow().listener.answer;
        let looked = match answer {
            Answer::Refuse => self.refuse().await,
            Answer::Accept => self.listen(worker).and_then(|()| self.silence(false)),
            Answer::Ignore => self.listen(worker).and_then(|()| self.silence(true)),
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

    /// Accepts no more. Its sockets are closed when this returns.
    pub(crate) async fn shut(&mut self) {
        self.placeholder = None;
        if let Some((socket, task)) = self.listening.take() {
            drop(socket);
            task.abort();
            // Only when the task is gone is its socket closed.
            let _ = task.await;
        }
    }

    async fn refuse(&mut self) -> io::Result<()> {
        if self.listening.is_some() {
            // Bound before the listening socket goes, so that the port is never free.
            let placeholder = listener::bound(self.address(), true)?;
            self.shut().await;
            // Whoever binds with `SO_REUSEADDR`, as most servers do, could share it otherwise, and listen.
            placeholder.set_reuse_address(false)?;
            self.placeholder = Some(placeholder);
        }
        Ok(())
    }

    fn listen(&mut self, worker: &Rc<Worker>) -> io::Result<()> {
        if self.listening.is_none() {
            let socket = listener::listening(self.address(), worker.options.backlog, &worker.options.leg)?;
            self.open(worker, socket);
            self.placeholder = None;
        }
        Ok(())
    }

    fn silence(&mut self, silent: bool) -> io::Result<()> {
        if let Some((socket, _)) = self.listening.as_ref().filter(|_| self.silent != silent) {
            let socket = SockRef::from(socket.as_ref());
            if silent { socket.attach_filter(&DROP_ALL) } else { socket.detach_filter() }?;
            self.silent = silent;
        }
        Ok(())
    }

    fn lose(&self, worker: &Worker, error: &io::Error) {
        let address = self.address();
        tracing::error!(%address, %error, "listener is lost: its socket cannot be had");
        worker.shared.lost_listener(address);
    }
}
