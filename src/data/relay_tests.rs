use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use super::*;
use crate::data::leg::Streamed;
use crate::data::testing::{pair, worker_runtime};

#[derive(Default)]
struct Counted {
    to_target: Cell<usize>,
    to_client: Cell<usize>,
}

impl Meter for Counted {
    fn to_target(&self, n: usize) {
        self.to_target.set(self.to_target.get() + n);
    }

    fn to_client(&self, n: usize) {
        self.to_client.set(self.to_client.get() + n);
    }
}

fn buffers(pipes: usize) -> RelayBuffers {
    RelayBuffers { scratch: Scratch::new(128 << 10), pipes: Pipes::new(pipes, 256 << 10) }
}

/// Relays until the end, then closes both legs, as the callers of the relay do.
async fn relay<C, T>(client: C, target: T, buffers: &RelayBuffers, counted: &Counted) -> Result<(), RelayError>
where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client, mut target, mut relay) = (Streamed(client), Streamed(target), Relay::new());
    std::future::poll_fn(|cx| relay.poll(cx, &mut client, &mut target, buffers, counted)).await
}

/// Relays between two connections until the end, as a worker does; `ends` plays the peers.
fn relay_sockets(
    buffers: &RelayBuffers,
    counted: &Counted,
    ends: impl FnOnce(TcpStream, TcpStream) + Send,
) -> Result<(), RelayError> {
    thread::scope(|scope| {
        worker_runtime().block_on(async {
            let ((near, client), (far, target)) = (pair(), pair());
            scope.spawn(|| ends(near, far));
            let mut relay = Relay::new();
            std::future::poll_fn(|cx| relay.poll(cx, &mut &client, &mut &target, buffers, counted)).await
        })
    })
}

/// Bytes without a repeating pattern, so that a lost or duplicated byte is detected.
fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect()
}

#[tokio::test]
async fn one_direction_ends_while_the_other_continues() {
    let (mut client, client_leg) = duplex(64);
    let (mut target, target_leg) = duplex(64);
    let (buffers, counted) = (buffers(0), Counted::default());
    let ends = async {
        client.write_all(b"question").await.expect("written");
        client.shutdown().await.expect("shut down");
        let mut question = String::new();
        target.read_to_string(&mut question).await.expect("read to the FIN");
        assert_eq!(question, "question");
        target.write_all(b"a long answer after the FIN").await.expect("written");
        drop(target);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("read to the FIN");
        assert_eq!(answer, "a long answer after the FIN");
    };
    let (done, ()) = tokio::join!(relay(client_leg, target_leg, &buffers, &counted), ends);
    assert!(done.is_ok());
    assert_eq!((counted.to_target.get(), counted.to_client.get()), (8, 27));
}

#[tokio::test]
async fn bytes_that_a_slow_reader_does_not_take_are_kept_in_order() {
    let (mut client, client_leg) = duplex(200_000);
    let (mut target, target_leg) = duplex(7);
    let (buffers, counted) = (buffers(0), Counted::default());
    let sent = pattern(300_000, 1);
    let ends = async {
        let write = async {
            client.write_all(&sent).await.expect("written");
            client.shutdown().await.expect("shut down");
        };
        let read = async {
            let mut got = Vec::new();
            target.read_to_end(&mut got).await.expect("read");
            assert!(got == sent, "the bytes differ");
            drop(target);
        };
        tokio::join!(write, read);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("FIN");
    };
    let (done, ()) = tokio::join!(relay(client_leg, target_leg, &buffers, &counted), ends);
    assert!(done.is_ok());
    assert_eq!(counted.to_target.get(), sent.len());
}

/// Writes the bulk, then small pieces, then FIN.
fn send(mut to: &TcpStream, bulk: &[u8], pieces: usize) {
    to.write_all(bulk).expect("bulk");
    for _ in 0..pieces {
        to.write_all(b"small").expect("small");
        thread::yield_now();
    }
    to.shutdown(Shutdown::Write).expect("FIN");
}

/// Transfers in both directions at once over real sockets, with pauses, so that one direction splices and copies again.
fn is_byte_exact(pipes: usize) {
    let (buffers, counted) = (buffers(pipes), Counted::default());
    let (up, down) = (pattern(24 << 20, 3), pattern(9 << 20, 7));
    let (up, down) = (&up, &down);
    let done = relay_sockets(&buffers, &counted, |client, target| {
        let (client, target) = (&client, &target);
        thread::scope(|scope| {
            scope.spawn(move || send(client, up, 50));
            scope.spawn(move || send(target, down, 0));
            scope.spawn(move || {
                let mut got = Vec::new();
                (&*target).read_to_end(&mut got).expect("read");
                assert!(got[..up.len()] == up[..], "the bytes up differ");
                assert_eq!(got.len(), up.len() + 250);
                assert!(got[up.len()..].chunks(5).all(|word| word == b"small"));
            });
            scope.spawn(move || {
                // A slow reader, so that the target's direction blocks on a full socket.
                let (mut got, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
                loop {
                    let n = (&*client).read(&mut chunk).expect("read");
                    if n == 0 {
                        break;
                    }
                    got.extend_from_slice(&chunk[..n]);
                    thread::yield_now();
                }
                assert!(got == *down, "the bytes down differ");
            });
        });
    });
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(counted.to_target.get(), up.len() + 250);
    assert_eq!(counted.to_client.get(), down.len());
}

#[test]
fn copying_is_byte_exact() {
    is_byte_exact(0);
}

#[test]
fn splicing_is_byte_exact() {
    is_byte_exact(4);
}

#[test]
fn an_answer_after_the_questions_fin_is_forwarded() {
    let (buffers, counted) = (buffers(0), Counted::default());
    let done = relay_sockets(&buffers, &counted, |client, target| {
        thread::scope(|scope| {
            scope.spawn(|| {
                send(&client, b"question", 0);
                let mut answer = String::new();
                (&client).read_to_string(&mut answer).expect("read to the FIN");
                assert_eq!(answer, "answer");
            });
            let mut question = String::new();
            (&target).read_to_string(&mut question).expect("read to the FIN");
            assert_eq!(question, "question");
            send(&target, b"answer", 0);
        });
    });
    done.expect("both ended well");
}

#[test]
fn a_reset_is_distinguished_from_a_fin() {
    let (buffers, counted) = (buffers(0), Counted::default());
    let done = relay_sockets(&buffers, &counted, |client, target| {
        socket2::SockRef::from(&target).set_linger(Some(Duration::ZERO)).expect("a live socket");
        drop(target);
        // The client stays until it sees the end of the relay.
        let _ = (&client).read(&mut [0]);
    });
    let failed = done.expect_err("a reset");
    assert_eq!(failed.side, Side::Target);
    assert!(failed.is_reset());
}

#[test]
fn a_reset_is_detected_while_the_side_is_not_read() {
    let (buffers, counted) = (buffers(0), Counted::default());
    let failed = thread::scope(|scope| {
        worker_runtime().block_on(async {
            let ((near, client), (far, target)) = (pair(), pair());
            // The client sends to a target that does not read, until the relay stops reading the client.
            scope.spawn(move || {
                near.set_write_timeout(Some(Duration::from_millis(100))).expect("a live socket");
                let block = vec![7; 64 << 10];
                while (&near).write_all(&block).is_ok() {}
                socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO)).expect("a live socket");
            });
            let (mut relay, mut resets) = (Relay::new(), ResetWatch::new([&client, &target]));
            let failed = std::future::poll_fn(|cx| {
                assert!(relay.poll(cx, &mut &client, &mut &target, &buffers, &counted).is_pending(), "it is stuck");
                resets.poll(cx, &relay)
            })
            .await;
            drop(far);
            failed
        })
    });
    assert_eq!(failed.side, Side::Client);
    assert!(failed.is_reset(), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_flow_holds_no_buffer_and_moves_nothing() {
    let (_client, client_leg) = duplex(64);
    let (_target, target_leg) = duplex(64);
    let (buffers, counted) = (buffers(4), Counted::default());
    let relaying = relay(client_leg, target_leg, &buffers, &counted);
    assert!(tokio::time::timeout(Duration::from_secs(3600), relaying).await.is_err(), "it waits");
    assert_eq!(counted.to_target.get() + counted.to_client.get(), 0);
}

/// Buffers writes and sends them on flush, as a TLS stream does.
struct Holding {
    inner: DuplexStream,
    held: Vec<u8>,
}

impl AsyncRead for Holding {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Holding {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, held } = &mut *self;
        while !held.is_empty() {
            let taken = ready!(Pin::new(&mut *inner).poll_write(cx, held))?;
            held.drain(..taken);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_leg_that_buffers_writes_is_flushed_until_everything_is_sent() {
    let (mut client, client_leg) = duplex(64 << 10);
    // A target with a small buffer: it must be flushed repeatedly.
    let (mut target, target_leg) = duplex(16);
    let (buffers, counted) = (buffers(0), Counted::default());
    let sent = pattern(10_000, 3);
    let ends = async {
        client.write_all(&sent).await.expect("written");
        let mut received = vec![0; sent.len()];
        target.read_exact(&mut received).await.expect("all of it, while both directions are still open");
        assert_eq!(received, sent);
        client.shutdown().await.expect("shut");
        target.shutdown().await.expect("shut");
        let mut rest = Vec::new();
        target.read_to_end(&mut rest).await.expect("an end");
        assert!(rest.is_empty());
    };
    let leg = Holding { inner: target_leg, held: Vec::new() };
    let (relayed, ()) = tokio::join!(relay(client_leg, leg, &buffers, &counted), ends);
    relayed.expect("both ended well");
}
