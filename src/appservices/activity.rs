//! Activity of a client connection, and the time limits that follow from it.
//!
//! Each connection has one timer, which traffic does not move. When it fires, or when the connection's task is polled
//! for another reason, the deadline is computed from the recorded activity.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::options::AppLimits;

/// The time limit that a connection exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// No request for too long.
    Idle,
    /// The client took too long to send a head, or to read a response.
    Slow,
}

/// The recorded traffic of a client connection. Only the connection's worker writes it; it is `Sync` because hyper
/// requires the stream that holds it to be `Send`. Times are milliseconds after `opened`, plus one; 0 means "none".
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    /// When a request last began or ended.
    last: AtomicU64,
    /// When the first byte of an incomplete head arrived.
    head_since: AtomicU64,
    /// When the socket stopped accepting writes.
    blocked_since: AtomicU64,
    in_flight: AtomicU32,
    unread: AtomicBool,
    reset: AtomicBool,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            last: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            unread: AtomicBool::new(false),
            reset: AtomicBool::new(false),
        })
    }

    fn at(&self, time: Instant) -> u64 {
        u64::try_from((time - self.opened).as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    fn deadline(&self, since: u64, limit: Duration) -> Instant {
        self.opened + Duration::from_millis(since - 1) + limit
    }

    #[inline]
    pub(crate) fn on_read(&self) {
        if self.in_flight.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// `taken`: whether the socket accepted bytes.
    #[inline]
    pub(crate) fn on_write(&self, taken: bool) {
        let is_blocked = self.blocked_since.load(Ordering::Relaxed) != 0;
        if taken && is_blocked {
            self.blocked_since.store(0, Ordering::Relaxed);
        } else if !taken && !is_blocked {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        }
    }

    pub(crate) fn begin_request(&self, now: Instant) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        self.last.store(self.at(now), Ordering::Relaxed);
    }

    /// To be called when a request and its response have both ended.
    pub(crate) fn end_request(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// A request's body was abandoned before its end.
    pub(crate) fn leave_body_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Whether the client may still be sending: part of a head or of a body is unread.
    pub(crate) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed) || self.head_since.load(Ordering::Relaxed) != 0
    }

    /// Makes the close send RST: the client does not read what the socket still holds.
    pub(crate) fn close_by_reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    pub(crate) fn closes_by_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    /// The limit that is reached next, and when.
    fn next(&self, limits: &AppLimits, is_h2: bool) -> Option<(Instant, Expired)> {
        let at = |since: &AtomicU64, limit, what| {
            let since = since.load(Ordering::Relaxed);
            (since != 0).then(|| (self.deadline(since, limit), what))
        };
        let blocked = at(&self.blocked_since, limits.body_idle, Expired::Slow);
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return blocked;
        }
        let head = if is_h2 { None } else { at(&self.head_since, limits.header_time, Expired::Slow) };
        let idle = at(&self.last, limits.idle, Expired::Idle);
        [blocked, head, idle].into_iter().flatten().min_by_key(|(deadline, _)| *deadline)
    }

    /// Waits until a limit is reached. Poll it after the connection, in the same task.
    pub(crate) async fn expired(&self, limits: &AppLimits, is_h2: bool) -> Expired {
        let mut timer = pin!(sleep_until(Instant::now() + limits.idle));
        poll_fn(|cx| {
            loop {
                let next = self.next(limits, is_h2);
                if let Some((deadline, _)) = next
                    && deadline < timer.deadline()
                {
                    timer.as_mut().reset(deadline);
                }
                ready!(timer.as_mut().poll(cx));
                match next {
                    Some((deadline, what)) if deadline <= Instant::now() => return Poll::Ready(what),
                    Some((deadline, _)) => timer.as_mut().reset(deadline),
                    None => timer.as_mut().reset(Instant::now() + limits.idle),
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn expires(activity: &Activity, is_h2: bool) -> (Expired, u64) {
        let started = Instant::now();
        let what = activity.expired(&AppLimits::default(), is_h2).await;
        (what, started.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_idle_after_75_seconds() {
        assert_eq!(expires(&Activity::new(), false).await, (Expired::Idle, 75));
    }

    #[tokio::test(start_paused = true)]
    async fn an_incomplete_head_is_slow_after_10_seconds_over_http_1_1() {
        let activity = Activity::new();
        tokio::time::sleep(Duration::from_secs(5)).await;
        activity.on_read();
        tokio::time::sleep(Duration::from_secs(1)).await;
        activity.on_read();
        assert_eq!(expires(&activity, false).await, (Expired::Slow, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_flight_has_no_limit_but_that_of_the_socket() {
        let activity = Activity::new();
        activity.begin_request(Instant::now());
        activity.on_read();
        let forever = tokio::time::timeout(Duration::from_secs(100_000), expires(&activity, false)).await;
        assert!(forever.is_err());
        activity.on_write(false);
        assert_eq!(expires(&activity, false).await, (Expired::Slow, 60));
        activity.on_write(true);
        activity.end_request();
        assert_eq!(expires(&activity, false).await, (Expired::Idle, 75));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_noted_while_waiting_counts() {
        let activity = Activity::new();
        let waiting = expires(&activity, false);
        let noting = async {
            tokio::time::sleep(Duration::from_secs(70)).await;
            activity.begin_request(Instant::now());
            activity.end_request();
        };
        assert_eq!(tokio::join!(waiting, noting).0, (Expired::Idle, 145));
    }
}
