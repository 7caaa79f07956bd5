//! A client's socket under TLS, which says when bytes come and when they aren't taken.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::live::SocketState;

/// A client's connection after the TLS handshake.
#[derive(Debug)]
pub(crate) struct ClientIo {
    /// Boxed: it is large, and is moved about.
    tls: Box<TlsStream<TcpStream>>,
    state: Arc<SocketState>,
    /// What was read before and nobody has used; it is read again.
    before: Bytes,
}

impl ClientIo {
    pub(crate) fn new(tls: TlsStream<TcpStream>, state: Arc<SocketState>) -> Self {
        Self { tls: Box::new(tls), state, before: Bytes::new() }
    }

    /// Puts back what was read and not used.
    pub(crate) fn put_back(&mut self, before: Bytes) {
        // Even an empty one would keep the buffer that it is a part of.
        self.before = if before.is_empty() { Bytes::new() } else { before };
    }

    /// Waits until there is something to read, or the end.
    pub(crate) fn poll_comes(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.before.is_empty() {
            // A fault shows when it is read.
            let _ = ready!(self.tcp().poll_read_ready(cx));
        }
        Poll::Ready(())
    }

    /// The socket itself.
    pub(crate) fn tcp(&self) -> &TcpStream {
        self.tls.get_ref().0
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.state.wrote(result.is_ready());
        result
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
        if buffer.filled().len() > before {
            self.state.read();
        }
        match result {
            // A FIN without TLS' own end, as many clients do it. HTTP and WebSocket know by themselves what is whole.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            result => result,
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tls).poll_write(cx, bytes);
        self.note(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tls).poll_write_vectored(cx, slices);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.tls).poll_flush(cx);
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.tls).poll_shutdown(cx);
        self.note(result)
    }
}
