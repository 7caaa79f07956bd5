//! Bodies on their way through: never gathered, never waited for without end.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::backend::Lease;
use super::live::AtHand;

/// Why a body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    /// Whoever sends it was silent for too long.
    #[error("the body stalled")]
    Stalled,
    /// Whoever sends it broke off, or sent what is no body.
    #[error("the body broke off")]
    Broken,
}

/// A timer that runs only while nothing comes.
#[derive(Debug)]
struct Wait {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Wait {
    fn new(limit: Duration) -> Self {
        Self { limit, timer: None, running: false }
    }

    fn came(&mut self) {
        self.running = false;
    }

    /// Whether the time is over.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = Instant::now() + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.running {
            timer.as_mut().reset(deadline);
            self.running = true;
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

/// A client's body, on its way to a backend.
#[derive(Debug)]
pub(crate) enum AskBody {
    /// There is none.
    Empty,
    /// What the client sends, without trailers: a backend might take them for headers.
    Client { inner: Incoming, wait: Box<Waiting> },
}

/// What a client's body is watched by.
#[derive(Debug)]
pub(crate) struct Waiting {
    wait: Wait,
    fault: Rc<Cell<Option<BodyFault>>>,
}

impl AskBody {
    /// The body of a request, and where a fault of it shows.
    pub(crate) fn new(inner: Incoming, limit: Duration) -> (Self, Rc<Cell<Option<BodyFault>>>) {
        let fault = Rc::new(Cell::new(None));
        if inner.is_end_stream() {
            return (Self::Empty, fault);
        }
        let wait = Box::new(Waiting { wait: Wait::new(limit), fault: Rc::clone(&fault) });
        (Self::Client { inner, wait }, fault)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Body for AskBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Self::Client { inner, wait } = self.get_mut() else { return Poll::Ready(None) };
        match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                wait.wait.came();
                Poll::Ready(frame.is_data().then_some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => {
                wait.fault.set(Some(BodyFault::Broken));
                Poll::Ready(Some(Err(BodyFault::Broken)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if wait.wait.is_over(cx) => {
                wait.fault.set(Some(BodyFault::Stalled));
                Poll::Ready(Some(Err(BodyFault::Stalled)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client { inner, .. } => inner.size_hint(),
        }
    }
}

/// A backend's body, on its way to a client.
#[derive(Debug)]
pub(crate) struct BackendBody {
    inner: Incoming,
    wait: Wait,
    /// What the body comes by, moved by whoever waits for it; `None` where it moves by itself. Gives the connection back when the body was taken to its end; dropped earlier, the connection is closed.
    lease: Option<Lease>,
    ended: bool,
    /// Said at the next turn, so that what came before it goes out first.
    fault: Option<BodyFault>,
}

impl BackendBody {
    pub(crate) fn new(inner: Incoming, lease: Option<Lease>, limit: Duration) -> Self {
        Self { inner, wait: Wait::new(limit), lease, ended: false, fault: None }
    }
}

impl Drop for BackendBody {
    fn drop(&mut self) {
        if (self.ended || self.inner.is_end_stream())
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for BackendBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        let mut came = Pin::new(&mut self.inner).poll_frame(cx);
        if came.is_pending()
            && let Some(lease) = &mut self.lease
        {
            // By asking, the connection has learnt that more is wanted.
            lease.turn(cx);
            came = Pin::new(&mut self.inner).poll_frame(cx);
        }
        match came {
            Poll::Ready(Some(Ok(frame))) => {
                self.wait.came();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => {
                self.fault = Some(BodyFault::Broken);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending if self.wait.is_over(cx) => Poll::Ready(Some(Err(BodyFault::Stalled))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What a client is answered with.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    source: Source,
    /// The request is at hand until its answer was taken.
    at_hand: Option<AtHand>,
}

#[derive(Debug)]
enum Source {
    Own(Full<Bytes>),
    Backend(BackendBody),
}

impl AnswerBody {
    /// The gateway's own words.
    pub(crate) fn own(bytes: impl Into<Bytes>) -> Self {
        Self { source: Source::Own(Full::new(bytes.into())), at_hand: None }
    }

    /// A backend's.
    pub(crate) fn backend(body: BackendBody) -> Self {
        Self { source: Source::Backend(body), at_hand: None }
    }

    /// Keeps the request at hand until this was taken.
    pub(crate) fn keep(&mut self, at_hand: AtHand) {
        self.at_hand = Some(at_hand);
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match &mut self.get_mut().source {
            Source::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Source::Backend(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(body) => body.is_end_stream(),
            Source::Backend(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(body) => body.size_hint(),
            Source::Backend(body) => body.size_hint(),
        }
    }
}
