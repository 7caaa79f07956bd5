//! A leg whose bytes come late, slowly, or only up to a number: what faults and the bandwidth cap put around a socket.
//!
//! Flows without either never meet this: they relay bare sockets.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::relay::Leg;

/// How much time's worth of bytes may pass at once after a pause: the timers' grain is 1 ms, and what a late wake-up
/// lost is made good from this, so that the rate is met on average.
const BURST: Duration = Duration::from_millis(10);
/// Most bytes that wait for their time in one way of a flow; then its source is read no more.
const LATE_BYTES: usize = 4 << 20;
/// Most bytes that pass a shaped leg at a time.
const MOST_AT_ONCE: usize = 64 << 10;

/// So many bytes a second, shared by whoever holds it.
#[derive(Debug)]
pub(crate) struct Bucket {
    start: Instant,
    bytes_per_second: u64,
    /// When all that has passed would have passed at the rate, in ns after `start`.
    paid: AtomicU64,
}

impl Bucket {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { start: Instant::now(), bytes_per_second: bytes_per_second.max(1), paid: AtomicU64::new(0) }
    }

    pub(crate) fn rate(&self) -> u64 {
        self.bytes_per_second
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// When more may pass; `None`: now.
    fn wait(&self) -> Option<Instant> {
        let paid = self.paid.load(Ordering::Relaxed);
        (paid > self.now()).then(|| self.start + Duration::from_nanos(paid))
    }

    /// Notes that `n` bytes pass.
    fn pass(&self, n: usize) {
        let cost = (n as u128 * 1_000_000_000 / u128::from(self.bytes_per_second)) as u64;
        let floor = self.now().saturating_sub(u64::try_from(BURST.as_nanos()).unwrap_or(0));
        let _ = self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| Some(paid.max(floor) + cost));
    }

    /// How many bytes may pass at a time without the rate becoming a stutter: a burst's worth.
    fn portion(&self) -> usize {
        let burst = u128::from(self.bytes_per_second) * BURST.as_nanos() / 1_000_000_000;
        usize::try_from(burst).unwrap_or(usize::MAX).clamp(1, MOST_AT_ONCE)
    }
}

/// What is done to the bytes that come from one leg.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// Buckets that they must pass.
    pub(crate) buckets: Vec<Arc<Bucket>>,
    /// How late they come.
    pub(crate) lateness: Option<Lateness>,
    /// How many may still come, of both legs together.
    pub(crate) budget: Option<Rc<Cell<u64>>>,
    /// How late this leg is told of the other's FIN.
    pub(crate) slow_close: Option<Duration>,
}

/// How late bytes come.
#[derive(Debug)]
pub(crate) struct Lateness {
    delay: Duration,
    jitter: Duration,
    random: u64,
}

impl Lateness {
    pub(crate) fn new(delay: Duration, jitter: Duration, seed: u64) -> Self {
        Self { delay, jitter, random: seed | 1 }
    }

    /// The delay of the next bytes: `delay`, and `jitter` more or less, but never negative.
    fn next(&mut self) -> Duration {
        // xorshift64.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let part = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        (self.delay + self.jitter.mul_f64(2.0 * part)).saturating_sub(self.jitter)
    }
}

/// A socket, shaped.
#[derive(Debug)]
pub(crate) struct ShapedLeg<'s> {
    stream: &'s mut TcpStream,
    shape: Shape,
    late: VecDeque<(Instant, Vec<u8>)>,
    late_bytes: usize,
    /// When the FIN is due that came; nothing is read after it.
    fin: Option<Instant>,
    last_due: Option<Instant>,
    close_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    close_timer: Pin<Box<Sleep>>,
}

impl<'s> ShapedLeg<'s> {
    pub(crate) fn new(stream: &'s mut TcpStream, shape: Shape) -> Self {
        Self {
            stream,
            shape,
            late: VecDeque::new(),
            late_bytes: 0,
            fin: None,
            last_due: None,
            close_at: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            close_timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Ready when `at` has come; else the task is woken then.
    fn poll_until(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        if at <= Instant::now() {
            return Poll::Ready(());
        }
        self.timer.as_mut().reset(at);
        self.timer.as_mut().poll(cx)
    }

    /// How many bytes may pass now; `Pending` when none may.
    fn poll_allowance(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        let mut most = wanted.min(MOST_AT_ONCE);
        if let Some(budget) = &self.shape.budget {
            most = most.min(usize::try_from(budget.get()).unwrap_or(usize::MAX));
            if most == 0 {
                // Whoever relays sees that nothing is left.
                return Poll::Pending;
            }
        }
        let wait = self.shape.buckets.iter().filter_map(|bucket| bucket.wait()).max();
        if let Some(at) = wait {
            ready!(self.poll_until(cx, at));
        }
        Poll::Ready(self.shape.buckets.iter().map(|bucket| bucket.portion()).fold(most, usize::min))
    }

    fn passed(&self, n: usize) {
        self.shape.buckets.iter().for_each(|bucket| bucket.pass(n));
        if let Some(budget) = &self.shape.budget {
            budget.set(budget.get().saturating_sub(n as u64));
        }
    }

    /// Takes in what has come, so that its time runs from now.
    fn take_in(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(lateness) = &mut self.shape.lateness else { return Ok(()) };
        while self.fin.is_none() && self.late_bytes < LATE_BYTES {
            let mut bytes = vec![0; 16 << 10];
            let mut buffer = ReadBuf::new(&mut bytes);
            let Poll::Ready(read) = Pin::new(&mut *self.stream).poll_read(cx, &mut buffer) else { break };
            read?;
            let n = buffer.filled().len();
            // In order: nothing overtakes.
            let due = (Instant::now() + lateness.next()).max(self.last_due.unwrap_or_else(Instant::now));
            self.last_due = Some(due);
            if n == 0 {
                self.fin = Some(due);
            } else {
                bytes.truncate(n);
                self.late_bytes += n;
                self.late.push_back((due, bytes));
            }
        }
        Ok(())
    }
}

impl AsyncRead for ShapedLeg<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let leg = self.get_mut();
        leg.take_in(cx)?;
        let allowed = ready!(leg.poll_allowance(cx, buffer.remaining()));
        if leg.shape.lateness.is_none() {
            let mut part = buffer.take(allowed);
            ready!(Pin::new(&mut *leg.stream).poll_read(cx, &mut part))?;
            let n = part.filled().len();
            // The part is the buffer's own memory.
            let bytes = part.filled().to_vec();
            buffer.put_slice(&bytes);
            leg.passed(n);
            return Poll::Ready(Ok(()));
        }
        match leg.late.front().map(|(due, _)| *due).or(leg.fin) {
            None => Poll::Pending,
            Some(due) => {
                ready!(leg.poll_until(cx, due));
                if let Some((due, mut bytes)) = leg.late.pop_front() {
                    if bytes.len() > allowed {
                        let rest = bytes.split_off(allowed);
                        leg.late.push_front((due, rest));
                    }
                    leg.late_bytes -= bytes.len();
                    buffer.put_slice(&bytes);
                    leg.passed(bytes.len());
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for ShapedLeg<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let leg = self.get_mut();
        if let Some(delay) = leg.shape.slow_close {
            if leg.close_at.is_none() {
                let at = Instant::now() + delay;
                leg.close_timer.as_mut().reset(at);
                leg.close_at = Some(at);
            }
            ready!(leg.close_timer.as_mut().poll(cx));
        }
        Pin::new(&mut *leg.stream).poll_shutdown(cx)
    }
}

impl Leg for ShapedLeg<'_> {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Timers have a grain of 1 ms here as outside, in which 125 kB would pass at this rate.
    #[tokio::test(start_paused = true)]
    async fn a_gigabit_a_second_is_kept_within_five_percent() {
        let bucket = Bucket::new(125_000_000);
        let (start, mut passed) = (Instant::now(), 0);
        while passed < 250_000_000 {
            if let Some(at) = bucket.wait() {
                tokio::time::sleep_until(at).await;
            }
            bucket.pass(bucket.portion());
            passed += bucket.portion();
        }
        let took = start.elapsed().as_secs_f64();
        assert!((1.9..=2.1).contains(&took), "2 Gbit at 1 Gbit/s took {took} s");
    }

    #[tokio::test]
    async fn late_bytes_keep_their_order_and_the_end_comes_last() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut near, mut far) = (near.expect("connected"), far.expect("accepted").0);
        let lateness = Some(Lateness::new(Duration::from_millis(5), Duration::from_millis(5), 3));
        let mut leg = ShapedLeg::new(&mut far, Shape { lateness, ..Shape::default() });
        let sent: Vec<u8> = (0..500_000_u32).map(|i| (i % 251) as u8).collect();
        let write = async {
            for chunk in sent.chunks(10_000) {
                near.write_all(chunk).await.expect("written");
            }
            near.shutdown().await.expect("FIN");
        };
        let mut got = Vec::new();
        let ((), read) = tokio::join!(write, leg.read_to_end(&mut got));
        read.expect("read");
        assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
    }
}
