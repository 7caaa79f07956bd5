use std::cell::Cell;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::net::TcpListener;

use super::*;

impl Leg for DuplexStream {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

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

fn tools(pipes: usize) -> Tools {
    Tools { scratch: Scratch::new(128 << 10), pipes: Pipes::new(pipes, 256 << 10) }
}

/// Relays until the end, and then closes both legs, as a flow's task does.
async fn relay<C: Leg, T: Leg>(mut client: C, mut target: T, tools: &Tools, counted: &Counted) -> Result<(), Failed> {
    let mut relay = Relay::new();
    std::future::poll_fn(|cx| relay.poll(cx, &mut client, &mut target, tools, counted)).await
}

/// Bytes that differ at every place, so that a lost or doubled one shows.
fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect()
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("connected"), far.expect("accepted").0)
}

#[tokio::test]
async fn one_way_ends_while_the_other_goes_on() {
    let (mut client, client_leg) = duplex(64);
    let (mut target, target_leg) = duplex(64);
    let (tools, counted) = (tools(0), Counted::default());
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
    let (done, ()) = tokio::join!(relay(client_leg, target_leg, &tools, &counted), ends);
    assert!(done.is_ok());
    assert_eq!((counted.to_target.get(), counted.to_client.get()), (8, 27));
}

#[tokio::test]
async fn what_a_slow_reader_does_not_take_is_kept_in_order() {
    let (mut client, client_leg) = duplex(200_000);
    let (mut target, target_leg) = duplex(7);
    let (tools, counted) = (tools(0), Counted::default());
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
    let (done, ()) = tokio::join!(relay(client_leg, target_leg, &tools, &counted), ends);
    assert!(done.is_ok());
    assert_eq!(counted.to_target.get(), sent.len());
}

/// Both ways at once over real sockets, with pauses, until the way has spliced and copied again.
async fn is_byte_exact(pipes: usize) {
    let (mut client, client_leg) = tcp_pair().await;
    let (target_leg, mut target) = tcp_pair().await;
    let (tools, counted) = (tools(pipes), Counted::default());
    let (up, down) = (pattern(24 << 20, 3), pattern(9 << 20, 7));
    let ends = async {
        let (mut client_read, mut client_write) = client.split();
        let (mut target_read, mut target_write) = target.split();
        let write_up = async {
            client_write.write_all(&up).await.expect("bulk");
            for _ in 0..50 {
                client_write.write_all(b"small").await.expect("small");
                tokio::task::yield_now().await;
            }
            client_write.shutdown().await.expect("FIN");
        };
        let write_down = async {
            target_write.write_all(&down).await.expect("bulk");
            target_write.shutdown().await.expect("FIN");
        };
        let read_up = async {
            let mut got = Vec::new();
            target_read.read_to_end(&mut got).await.expect("read");
            assert!(got[..up.len()] == up, "the bytes up differ");
            assert_eq!(got.len(), up.len() + 250);
            assert!(got[up.len()..].chunks(5).all(|word| word == b"small"));
        };
        let read_down = async {
            let mut got = Vec::new();
            // A slow reader, so that the target's way meets a full socket.
            let mut chunk = vec![0; 64 << 10];
            loop {
                let n = client_read.read(&mut chunk).await.expect("read");
                if n == 0 {
                    break;
                }
                got.extend_from_slice(&chunk[..n]);
                tokio::task::yield_now().await;
            }
            assert!(got == down, "the bytes down differ");
        };
        tokio::join!(write_up, write_down, read_up, read_down);
    };
    let (done, ()) = tokio::join!(relay(client_leg, target_leg, &tools, &counted), ends);
    assert!(done.is_ok());
    assert_eq!(counted.to_target.get(), up.len() + 250);
    assert_eq!(counted.to_client.get(), down.len());
}

#[tokio::test]
async fn copying_is_byte_exact() {
    is_byte_exact(0).await;
}

#[tokio::test]
async fn splicing_is_byte_exact() {
    is_byte_exact(4).await;
}

#[tokio::test]
async fn a_reset_is_told_from_a_fin() {
    let (client, client_leg) = tcp_pair().await;
    let (target_leg, target) = tcp_pair().await;
    let (tools, counted) = (tools(0), Counted::default());
    target.set_zero_linger().expect("a live socket");
    drop(target);
    let failed = relay(client_leg, target_leg, &tools, &counted).await.expect_err("a reset");
    assert_eq!(failed.side, Side::Target);
    assert!(failed.is_reset());
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_silent_flow_holds_no_buffer_and_moves_nothing() {
    let (_client, client_leg) = duplex(64);
    let (_target, target_leg) = duplex(64);
    let (tools, counted) = (tools(4), Counted::default());
    let relaying = relay(client_leg, target_leg, &tools, &counted);
    assert!(tokio::time::timeout(Duration::from_secs(3600), relaying).await.is_err(), "it waits");
    assert_eq!(counted.to_target.get() + counted.to_client.get(), 0);
}

/// Takes writes into a buffer of its own and sends them when pushed, as an encrypting leg does.
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
        self.poll_push(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Leg for Holding {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }

    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let taken = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.held))?;
            self.held.drain(..taken);
        }
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_leg_that_holds_what_it_took_is_pushed_until_all_is_sent() {
    let (mut client, client_leg) = duplex(64 << 10);
    // A narrow target: nothing would come out of it without being pushed again and again.
    let (mut target, target_leg) = duplex(16);
    let (tools, counted) = (tools(0), Counted::default());
    let sent = pattern(10_000, 3);
    let ends = async {
        client.write_all(&sent).await.expect("written");
        let mut received = vec![0; sent.len()];
        target.read_exact(&mut received).await.expect("all of it, while both ways are still open");
        assert_eq!(received, sent);
        client.shutdown().await.expect("shut");
        target.shutdown().await.expect("shut");
        let mut rest = Vec::new();
        target.read_to_end(&mut rest).await.expect("an end");
        assert!(rest.is_empty());
    };
    let leg = Holding { inner: target_leg, held: Vec::new() };
    let (relayed, ()) = tokio::join!(relay(client_leg, leg, &tools, &counted), ends);
    relayed.expect("both ended well");
}
