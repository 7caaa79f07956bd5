//! A response's body on its way to a client: streamed, with a limit on the backend's silence.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::backend::BackendLease;
use super::client::{BodyError, InFlightRequest};
use super::request_body::SilenceTimer;
use super::streams::StreamProgress;

/// A backend's body.
#[derive(Debug)]
pub(crate) struct BackendBody {
    inner: Incoming,
    silence: SilenceTimer,
    /// Returned to the pool at the end; if it is dropped earlier, the connection is closed.
    lease: Option<BackendLease>,
    ended: bool,
}

impl BackendBody {
    pub(crate) fn new(inner: Incoming, lease: Option<BackendLease>, limit: Duration) -> Self {
        Self { inner, silence: SilenceTimer::new(limit), lease, ended: false }
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
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.silence.stop();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(BodyError::Broken))),
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending if self.silence.is_over(cx) => Poll::Ready(Some(Err(BodyError::Stalled))),
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

/// The body of a response to a client.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    source: Source,
    /// The request is in flight until this is dropped.
    request: Option<Rc<InFlightRequest>>,
    progress: Option<Rc<StreamProgress>>,
}

#[derive(Debug)]
enum Source {
    Own(Full<Bytes>),
    Backend(BackendBody),
}

impl ResponseBody {
    /// A body of the gateway's own.
    pub(crate) fn own(bytes: impl Into<Bytes>) -> Self {
        Self { source: Source::Own(Full::new(bytes.into())), request: None, progress: None }
    }

    pub(crate) fn backend(body: BackendBody) -> Self {
        Self { source: Source::Backend(body), request: None, progress: None }
    }

    /// Ties it to its request and, on HTTP/2, to the stream of the current task.
    pub(crate) fn bind(&mut self, request: Rc<InFlightRequest>) {
        self.progress = StreamProgress::current();
        self.request = Some(request);
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(request) = &self.request {
            request.abandon_body();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match &mut this.source {
            Source::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Source::Backend(body) => Pin::new(body).poll_frame(cx),
        };
        if let Some(progress) = &this.progress {
            if matches!(frame, Poll::Ready(Some(Ok(_)))) {
                progress.mark_sent();
            } else {
                progress.take();
            }
        }
        frame
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
