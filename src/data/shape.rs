//! Traffic shaping: a socket whose bytes are delayed, rate-limited, or limited in number, by faults and the bandwidth
//! cap.
//!
//! Flows without either relay bare sockets.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::leg::Leg;
use super::socket::Socket;

/// Burst allowance after a pause, as time at the full rate. It compensates for late wake-ups, so that the rate is met
/// on average.
const BURST: Duration = Duration::from_millis(10);
/// Delayed bytes in one direction of a flow at which its source is no longer read.
const LATE_BYTES: usize = 4 << 20;
/// Maximum bytes of one read from a shaped leg.
const MAX_AT_ONCE: usize = 64 << 10;

/// A token bucket, shared by all flows that hold it.
#[derive(Debug)]
pub(crate) struct Bucket {
    start: Instant,
    bytes_per_second: u64,
    /// The time at which all bytes so far would have passed at the rate, in ns after `start`.
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

    /// When more bytes may pass; `None`: now.
    fn wait(&self) -> Option<Instant> {
        let paid = self.paid.load(Ordering::Relaxed);
        (paid > self.now()).then(|| self.start + Duration::from_nanos(paid))
    }

    /// Accounts for `n` bytes.
    fn pass(&self, n: usize) {
        let cost = (n as u128 * 1_000_000_000 / u128::from(self.bytes_per_second)) as u64;
        let floor = self.now().saturating_sub(u64::try_from(BURST.as_nanos()).unwrap_or(0));
        let _ = self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| Some(paid.max(floor) + cost));
    }

    /// The number of bytes that may pass at a time: one burst, so that the traffic stays smooth.
    fn portion(&self) -> usize {
        let burst = u128::from(self.bytes_per_second) * BURST.as_nanos() / 1_000_000_000;
        usize::try_from(burst).unwrap_or(usize::MAX).clamp(1, MAX_AT_ONCE)
    }
}

/// How bytes from one leg are shaped.
#[derive(Debug, Default)]
pub(crate) struct TrafficShape {
    /// Rate limits.
    pub(crate) buckets: Vec<Arc<Bucket>>,
    /// The delay.
    pub(crate) latency: Option<Latency>,
    /// Bytes that may still pass, of both legs together.
    pub(crate) budget: Option<Rc<Cell<u64>>>,
    /// Delay before the other leg's FIN is forwarded to this one.
    pub(crate) slow_close: Option<Duration>,
}

/// A delay with jitter.
#[derive(Debug)]
pub(crate) struct Latency {
    delay: Duration,
    jitter: Duration,
    random: u64,
}

impl Latency {
    pub(crate) fn new(delay: Duration, jitter: Duration, seed: u64) -> Self {
        Self { delay, jitter, random: seed | 1 }
    }

    /// The delay of the next bytes: `delay` ± `jitter`, not negative.
    fn next(&mut self) -> Duration {
        // xorshift64.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let part = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        (self.delay + self.jitter.mul_f64(2.0 * part)).saturating_sub(self.jitter)
    }
}

/// The state of a shaped leg between polls.
#[derive(Debug, Default)]
pub(crate) struct ShaperState {
    shape: TrafficShape,
    late: VecDeque<(Instant, Vec<u8>)>,
    late_bytes: usize,
    /// When the received FIN is due; nothing is read after it.
    fin: Option<Instant>,
    last_due: Option<Instant>,
    close_at: Option<Instant>,
}

impl ShaperState {
    pub(crate) fn new(shape: TrafficShape) -> Self {
        Self { shape, ..Self::default() }
    }
}

/// A shaped socket, within one poll.
#[derive(Debug)]
pub(crate) struct ShapedLeg<'s> {
    pub(crate) socket: &'s Socket,
    pub(crate) shaped: &'s mut ShaperState,
    /// The earliest time at which the flow must be polled again without I/O.
    pub(crate) wake_at: &'s Cell<Option<Instant>>,
}

/// Ready once `at` is reached; otherwise schedules a poll at `at`.
pub(crate) fn poll_until(wake_at: &Cell<Option<Instant>>, at: Instant) -> Poll<()> {
    if at <= Instant::now() {
        return Poll::Ready(());
    }
    wake_at.set(Some(wake_at.get().map_or(at, |before| before.min(at))));
    Poll::Pending
}

impl ShapedLeg<'_> {
    /// The number of bytes that may pass now; `Pending` if none.
    fn poll_allowance(&mut self, wanted: usize) -> Poll<usize> {
        let shape = &self.shaped.shape;
        let mut most = wanted.min(MAX_AT_ONCE);
        if let Some(budget) = &shape.budget {
            most = most.min(usize::try_from(budget.get()).unwrap_or(usize::MAX));
            if most == 0 {
                // The flow's task checks the budget and ends the flow.
                return Poll::Pending;
            }
        }
        let wait = shape.buckets.iter().filter_map(|bucket| bucket.wait()).max();
        if let Some(at) = wait {
            ready!(poll_until(self.wake_at, at));
        }
        Poll::Ready(shape.buckets.iter().map(|bucket| bucket.portion()).fold(most, usize::min))
    }

    fn passed(&self, n: usize) {
        let shape = &self.shaped.shape;
        shape.buckets.iter().for_each(|bucket| bucket.pass(n));
        if let Some(budget) = &shape.budget {
            budget.set(budget.get().saturating_sub(n as u64));
        }
    }

    /// Reads and queues received bytes, whose delay starts now.
    fn take_in(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let ShaperState { shape, late, late_bytes, fin, last_due, .. } = &mut *self.shaped;
        let Some(latency) = &mut shape.latency else { return Ok(()) };
        while fin.is_none() && *late_bytes < LATE_BYTES && self.socket.poll_readable(cx).is_ready() {
            let mut bytes = vec![0; MAX_AT_ONCE];
            let Poll::Ready(n) = self.socket.poll_recv(cx, &mut bytes)? else { break };
            // Never earlier than the bytes before, to keep the order.
            let due = (Instant::now() + latency.next()).max(last_due.unwrap_or_else(Instant::now));
            *last_due = Some(due);
            if n == 0 {
                *fin = Some(due);
            } else {
                bytes.truncate(n);
                bytes.shrink_to_fit();
                *late_bytes += n;
                late.push_back((due, bytes));
            }
        }
        Ok(())
    }

    /// Returns queued bytes that are due.
    fn poll_due(&mut self, buffer: &mut [u8], allowed: usize) -> Poll<usize> {
        let ShaperState { late, late_bytes, fin, .. } = &mut *self.shaped;
        let Some(due) = late.front().map(|(due, _)| *due).or(*fin) else { return Poll::Pending };
        ready!(poll_until(self.wake_at, due));
        let Some((due, mut bytes)) = late.pop_front() else { return Poll::Ready(0) };
        if bytes.len() > allowed {
            let rest = bytes.split_off(allowed);
            late.push_front((due, rest));
        }
        *late_bytes -= bytes.len();
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Poll::Ready(bytes.len())
    }
}

impl Leg for ShapedLeg<'_> {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.take_in(cx)?;
        let allowed = ready!(self.poll_allowance(buffer.len()));
        let n = if self.shaped.shape.latency.is_none() {
            ready!(self.socket.poll_recv(cx, &mut buffer[..allowed]))?
        } else {
            ready!(self.poll_due(buffer, allowed))
        };
        self.passed(n);
        Poll::Ready(Ok(n))
    }

    fn poll_transmit(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_transmit(cx, bytes)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(delay) = self.shaped.shape.slow_close {
            let at = *self.shaped.close_at.get_or_insert_with(|| Instant::now() + delay);
            ready!(poll_until(self.wake_at, at));
        }
        self.socket.poll_finish(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::Shutdown;

    use super::*;
    use crate::data::clock::Clock;
    use crate::data::testing::{pair, worker_runtime};

    /// The test's timers have a resolution of 1 ms, in which 125 kB pass at this rate.
    #[tokio::test(start_paused = true)]
    async fn a_rate_of_one_gigabit_per_second_is_met_within_five_percent() {
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

    #[test]
    fn late_bytes_keep_their_order_and_the_end_comes_last() {
        worker_runtime().block_on(async {
            let clock = Rc::new(Clock::new(Duration::from_secs(1)).expect("a timer"));
            let ticking = Rc::clone(&clock);
            tokio::task::spawn_local(async move { while ticking.next_tick().await.is_ok() {} });
            let (near, far) = pair();
            let latency = Some(Latency::new(Duration::from_millis(5), Duration::from_millis(5), 3));
            let mut shaped = ShaperState::new(TrafficShape { latency, ..TrafficShape::default() });
            let sent: Vec<u8> = (0..500_000_u32).map(|i| (i % 251) as u8).collect();
            let bytes = sent.clone();
            let sending = std::thread::spawn(move || {
                bytes.chunks(10_000).for_each(|chunk| (&near).write_all(chunk).expect("written"));
                near.shutdown(Shutdown::Write).expect("FIN");
                near
            });
            let (mut got, mut buffer) = (Vec::new(), vec![0; 20_000]);
            clock
                .poll_with_wake_ups(|cx, wake_at| {
                    let mut leg = ShapedLeg { socket: &far, shaped: &mut shaped, wake_at };
                    loop {
                        match ready!(leg.poll_recv(cx, &mut buffer)).expect("read") {
                            0 => return Poll::Ready(()),
                            n => got.extend_from_slice(&buffer[..n]),
                        }
                    }
                })
                .await;
            sending.join().expect("sent");
            assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
        });
    }
}
