//! A request's body on its way to a backend: streamed, with a limit on silence.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, timeout};

use super::client::{BodyError, InFlightRequest};
use super::client_io::LINGER;

/// A timer that runs only while no data arrives.
#[derive(Debug)]
pub(crate) struct SilenceTimer {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl SilenceTimer {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, running: false }
    }

    /// To be called when data arrives.
    pub(crate) fn stop(&mut self) {
        self.running = false;
    }

    /// Whether no data has arrived for the whole limit.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if self.running
            && let Some(timer) = &mut self.timer
        {
            return timer.as_mut().poll(cx).is_ready();
        }
        let deadline = Instant::now() + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().reset(deadline);
        self.running = true;
        timer.as_mut().poll(cx).is_ready()
    }
}

/// The body of a request to a backend.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// No body.
    Empty,
    /// The client's body without trailers, which a backend might treat as headers.
    Client(Box<ClientBody>),
}

/// A client's body. If it is dropped before its end, the rest is discarded: over HTTP/2 for a while, so that the client
/// reads the response before RST_STREAM; over HTTP/1.1 by [`ClientIo`](super::client_io::ClientIo).
#[derive(Debug)]
pub(crate) struct ClientBody {
    /// `None` while it is being dropped.
    inner: Option<Incoming>,
    silence: SilenceTimer,
    request: Rc<InFlightRequest>,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, request: &Rc<InFlightRequest>, limit: Duration) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        let (silence, request) = (SilenceTimer::new(limit), Rc::clone(request));
        Self::Client(Box::new(ClientBody { inner: Some(inner), silence, request }))
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Client(body) = self.get_mut() else { return Poll::Ready(None) };
        let ClientBody { inner: Some(inner), silence, request } = &mut **body else { return Poll::Ready(None) };
        if request.is_body_abandoned(cx) {
            return Poll::Ready(Some(Err(BodyError::Abandoned)));
        }
        let error = match Pin::new(&mut *inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                silence.stop();
                if inner.is_end_stream() {
                    request.end_body();
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Ok(_)) | None) => {
                request.end_body();
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) if is_malformed(&error) => BodyError::Malformed,
            Poll::Ready(Some(Err(_))) => BodyError::Broken,
            Poll::Pending if silence.is_over(cx) => BodyError::Stalled,
            Poll::Pending => return Poll::Pending,
        };
        request.fail_body(error);
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.inner.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.inner.as_ref().map(Body::size_hint).unwrap_or_default(),
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        if self.request.is_body_over() {
            return;
        }
        if inner.is_end_stream() {
            self.request.end_body();
        } else if self.request.connection.is_h2 {
            discard(inner);
        } else {
            self.request.connection.activity.leave_body_unread();
        }
    }
}

/// Reads and discards the body for a while.
fn discard(mut body: Incoming) {
    tokio::task::spawn_local(async move {
        let _ = timeout(LINGER, async { while let Some(Ok(_)) = body.frame().await {} }).await;
    });
}

/// Whether a body ended because its framing is wrong, rather than its connection.
fn is_malformed(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
        }
        source = error.source();
    }
    false
}
