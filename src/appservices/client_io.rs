//! A client's connection below hyper: records traffic, and closes in stages while the client may still be sending.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::activity::Activity;
use super::socket::HttpSocket;

/// How long bytes that a client still sends are read and discarded after its response, so that RST does not destroy the
/// response (RFC 9112 §9.6). nginx's `lingering_timeout`.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// A client's connection after the TLS handshake.
#[derive(Debug)]
pub(crate) struct ClientIo {
    /// Boxed: it is large, and is moved.
    tls: Box<TlsStream<HttpSocket>>,
    /// `None` for a WebSocket, whose limits and end are the relay's.
    activity: Option<Arc<Activity>>,
    is_h2: bool,
    /// Set once the write side is closed.
    lingering: Option<Pin<Box<Sleep>>>,
    /// Bytes that hyper read and that belong to the WebSocket.
    before: Bytes,
}

impl ClientIo {
    pub(crate) fn new(tls: TlsStream<HttpSocket>, activity: Arc<Activity>, is_h2: bool) -> Self {
        Self { tls: Box::new(tls), activity: Some(activity), is_h2, lingering: None, before: Bytes::new() }
    }

    /// Turns the stream into a WebSocket's; `before` are the bytes already read from it.
    pub(crate) fn into_websocket(mut self, before: Bytes) -> Self {
        self.activity = None;
        // Even an empty one would keep the buffer that it is a part of.
        self.before = if before.is_empty() { Bytes::new() } else { before };
        self
    }

    /// Makes the close send RST.
    pub(crate) fn reset(&self) {
        // Fails only on a socket that is already closed.
        let _ = self.tls.get_ref().0.set_zero_linger();
    }

    fn record_write<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Some(activity) = &self.activity {
            activity.on_write(result.is_ready());
        }
        result
    }

    /// Reads and discards until the client closes too, or [`LINGER`] has passed.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.lingering else { return Poll::Ready(()) };
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut buffer = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            // Bypasses TLS, as the bytes are discarded.
            let read = ready!(Pin::new(&mut *self.tls.get_mut().0).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if self.activity.as_ref().is_some_and(|activity| activity.closes_by_reset()) {
            self.reset();
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.before.is_empty() {
            let n = self.before.len().min(buffer.remaining());
            buffer.put_slice(&self.before[..n]);
            self.before.advance(n);
            if self.before.is_empty() {
                self.before = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.tls).poll_read(cx, buffer);
        if buffer.filled().len() > before
            && let Some(activity) = &self.activity
        {
            activity.on_read();
        }
        match result {
            // A FIN without TLS' close_notify, as many clients send it. HTTP and WebSocket detect truncation by
            // themselves.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            result => result,
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tls).poll_write(cx, bytes);
        self.record_write(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tls).poll_write_vectored(cx, slices);
        self.record_write(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.tls).poll_flush(cx);
        self.record_write(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            let result = Pin::new(&mut self.tls).poll_shutdown(cx);
            ready!(self.record_write(result))?;
            let has_unread = self.activity.as_ref().is_some_and(|activity| self.is_h2 || activity.has_unread());
            if !has_unread {
                return Poll::Ready(Ok(()));
            }
            self.lingering = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        self.poll_linger(cx).map(Ok)
    }
}

/// Maximum number of bytes buffered for an HTTP/2 client before they are flushed: the size of one TLS record.
const BATCH: usize = 16 << 10;

/// An HTTP/2 client's connection that sends everything that hyper wrote in one poll at once. hyper flushes after every
/// DATA frame, so the responses of streams that are ready together would each be a TLS record and a system call. Here
/// hyper's flushes have no effect: the task that polls hyper calls [`poll_send`](Self::poll_send) afterwards.
#[derive(Debug)]
pub(crate) struct Batched<T>(Rc<RefCell<BufWriter<T>>>);

impl<T> Clone for Batched<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: AsyncWrite + Unpin> Batched<T> {
    pub(crate) fn new(io: T) -> Self {
        Self(Rc::new(RefCell::new(BufWriter::with_capacity(BATCH, io))))
    }

    /// Sends the buffered bytes.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Batched<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Batched<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// The bytes of each write.
    #[derive(Debug, Default)]
    struct Writes(Vec<Vec<u8>>);

    impl AsyncWrite for Writes {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn writes(batched: &Batched<Writes>) -> Vec<usize> {
        batched.0.borrow().get_ref().0.iter().map(Vec::len).collect()
    }

    #[tokio::test]
    async fn writes_and_flushes_of_one_poll_are_sent_together() {
        let batched = Batched::new(Writes::default());
        let mut hyper = batched.clone();
        for _ in 0..3 {
            hyper.write_all(&[1; 100]).await.expect("kept");
            hyper.flush().await.expect("put off");
        }
        assert_eq!(writes(&batched), [0; 0]);
        poll_fn(|cx| batched.poll_send(cx)).await.expect("sent");
        assert_eq!(writes(&batched), [300]);
    }

    #[tokio::test]
    async fn no_more_than_a_batch_is_kept_and_the_end_keeps_nothing() {
        let batched = Batched::new(Writes::default());
        let mut hyper = batched.clone();
        for _ in 0..3 {
            hyper.write_all(&[1; BATCH / 2]).await.expect("written");
        }
        assert_eq!(writes(&batched), [BATCH]);
        hyper.shutdown().await.expect("sent");
        assert_eq!(writes(&batched), [BATCH, BATCH / 2]);
    }
}
