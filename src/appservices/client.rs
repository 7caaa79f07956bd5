//! A client's connection and its requests in flight.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::headers::ForwardedFields;
use super::outage::Outage;
use crate::data::descriptors::SpareSocket;

/// A client's connection, shared by its requests.
#[derive(Debug)]
pub(crate) struct ClientConnection {
    /// Unique in its worker.
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    /// The address that the client connected to.
    pub(crate) listener: SocketAddr,
    pub(crate) is_h2: bool,
    pub(crate) activity: Arc<Activity>,
    /// Used for the first connection to a backend that one of its requests needs.
    pub(crate) spare: RefCell<Option<SpareSocket>>,
    /// The fields written for the last request; usually the next request needs the same.
    pub(crate) forwarded: RefCell<Option<ForwardedFields>>,
    /// Whether it accepts no more requests.
    pub(crate) closing: Cell<bool>,
    /// Cancelled to end all connections of its listener at once.
    pub(crate) cut: CancellationToken,
    /// The outage of its listener's zone.
    pub(crate) outage: Rc<Outage>,
    /// Number of requests that the client may cancel in addition to those that were answered.
    pub(crate) resets: u32,
    /// Notified when the client has cancelled more than `resets` allows.
    pub(crate) abuse: Notify,
    pub(crate) answered: Cell<u32>,
    pub(crate) cancelled: Cell<u32>,
}

impl ClientConnection {
    fn count(&self, answered: bool) {
        let counter = if answered { &self.answered } else { &self.cancelled };
        counter.set(counter.get().saturating_add(1));
        if self.is_h2 && self.cancelled.get() > self.answered.get().saturating_add(self.resets) {
            self.abuse.notify_one();
        }
    }
}

/// How a request's body ended early; the gateway's response depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// No data arrived within the time limit.
    #[error("the body stalled")]
    Stalled,
    /// The sender closed or reset the connection before the end.
    #[error("the body broke off")]
    Broken,
    /// Its framing is wrong.
    #[error("the body is malformed")]
    Malformed,
    /// The response ended first, so the rest of the body is not needed.
    #[error("the response ended before the request's body")]
    Abandoned,
}

/// A request, from its head to the end of its body or of its response, whichever is later; both bodies hold it. If it
/// is dropped without a response, the client cancelled it.
#[derive(Debug)]
pub(crate) struct InFlightRequest {
    pub(crate) connection: Rc<ClientConnection>,
    answered: Cell<bool>,
    body_over: Cell<bool>,
    body_error: Cell<Option<BodyError>>,
    abandoned: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl InFlightRequest {
    pub(crate) fn new(connection: &Rc<ClientConnection>, started: Instant, body_over: bool) -> Rc<Self> {
        connection.activity.begin_request(started);
        Rc::new(Self {
            connection: Rc::clone(connection),
            answered: Cell::new(false),
            body_over: Cell::new(body_over),
            body_error: Cell::default(),
            abandoned: Cell::default(),
            waker: RefCell::default(),
        })
    }

    /// Records that a response was sent.
    pub(crate) fn set_answered(&self) {
        self.answered.set(true);
    }

    /// Records that the body was read to its end.
    pub(crate) fn end_body(&self) {
        self.body_over.set(true);
    }

    pub(crate) fn is_body_over(&self) -> bool {
        self.body_over.get()
    }

    pub(crate) fn fail_body(&self, error: BodyError) {
        self.body_error.set(Some(error));
    }

    /// Why the body ended early, if the client caused it.
    pub(crate) fn body_error(&self) -> Option<BodyError> {
        self.body_error.get()
    }

    /// Records that the response has ended: the rest of the body is not forwarded.
    pub(crate) fn abandon_body(&self) {
        if !self.body_over.get() {
            self.abandoned.set(true);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether the rest of the body is not to be forwarded; wakes the task when that changes.
    pub(crate) fn is_body_abandoned(&self, cx: &Context<'_>) -> bool {
        if !self.abandoned.get() {
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        self.abandoned.get()
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.connection.activity.end_request();
        self.connection.count(self.answered.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(is_h2: bool) -> Rc<ClientConnection> {
        let address = "127.0.0.1:1".parse().expect("an address");
        Rc::new(ClientConnection {
            id: 1,
            peer: address,
            listener: address,
            is_h2,
            activity: Activity::new(),
            spare: RefCell::default(),
            forwarded: RefCell::default(),
            closing: Cell::default(),
            cut: CancellationToken::new(),
            outage: Rc::default(),
            resets: 3,
            abuse: Notify::new(),
            answered: Cell::default(),
            cancelled: Cell::default(),
        })
    }

    async fn is_abusive(connection: &ClientConnection) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, connection.abuse.notified()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_requests_are_abuse_when_there_are_too_many() {
        for is_h2 in [true, false] {
            let connection = connection(is_h2);
            InFlightRequest::new(&connection, Instant::now(), true).set_answered();
            for _ in 0..4 {
                drop(InFlightRequest::new(&connection, Instant::now(), true));
            }
            assert!(!is_abusive(&connection).await);
            drop(InFlightRequest::new(&connection, Instant::now(), true));
            assert_eq!(is_abusive(&connection).await, is_h2);
        }
    }
}
