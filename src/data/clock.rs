//! A worker's clock: ticks for coarse time limits, exact deadlines for faults and pauses.
//!
//! The workers' runtimes have no time driver. With one, every `epoll_wait` has a time-out, and the kernel arms a
//! high-resolution timer at every park (about 2.5 µs a wake-up on a virtual machine). Each worker uses one timerfd
//! instead, which expires at each tick, and earlier only while a task sleeps until an earlier time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::socket::register;

/// A time limit has elapsed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// The clock of one worker.
#[derive(Debug)]
pub(crate) struct Clock {
    timer: AsyncFd<OwnedFd>,
    tick_length: Duration,
    start: Instant,
    tick: Cell<u32>,
    /// When the timer expires.
    expires: Cell<Instant>,
    sleeping: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next_sleeper: Cell<u64>,
}

impl Clock {
    /// Creates a clock with ticks of `tick_length`, registered with the current runtime.
    ///
    /// # Errors
    ///
    /// When the kernel cannot create a timer.
    pub(crate) fn new(tick_length: Duration) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let start = Instant::now();
        let clock = Self {
            timer: register(timer, Interest::READABLE)?,
            tick_length: tick_length.max(Duration::from_millis(1)),
            start,
            tick: Cell::new(0),
            expires: Cell::new(start),
            sleeping: RefCell::default(),
            next_sleeper: Cell::new(0),
        };
        clock.set_timer(start)?;
        Ok(clock)
    }

    /// The current tick.
    #[inline]
    pub(crate) fn tick(&self) -> u32 {
        self.tick.get()
    }

    /// `time` in ticks, rounded up; at least one.
    pub(crate) fn ticks(&self, time: Duration) -> u32 {
        let ticks = time.as_nanos().div_ceil(self.tick_length.as_nanos());
        u32::try_from(ticks).unwrap_or(u32::MAX / 2).max(1)
    }

    /// Waits for the next tick and returns it. One task of the worker must call this in a loop to drive the clock. If
    /// several ticks are overdue, for example after SIGSTOP, it returns at once for each of them.
    ///
    /// # Errors
    ///
    /// When the timer fails.
    pub(crate) async fn next_tick(&self) -> io::Result<u32> {
        loop {
            let now = Instant::now();
            self.wake_sleepers(now);
            if now >= self.tick_start(self.tick() + 1) {
                self.tick.set(self.tick() + 1);
                return Ok(self.tick());
            }
            self.set_timer(now)?;
            let mut expired = self.timer.readable().await?;
            let mut count = [0; 8];
            // `WouldBlock` means that the timer was re-armed after it expired.
            let _ = rustix::io::read(&self.timer, &mut count);
            expired.clear_ready();
        }
    }

    /// Sleeps until exactly `at`.
    pub(crate) fn sleep_until(&self, at: Instant) -> Sleep<'_> {
        let id = self.next_sleeper.get();
        self.next_sleeper.set(id + 1);
        Sleep { clock: self, at, id }
    }

    /// Runs `future` with a time limit, rounded up to a tick so that the limit causes no extra wake-up.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] when the limit passes first; the future is dropped.
    pub(crate) async fn within<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        let since_start = Instant::now() + limit - self.start;
        let end = self.tick_start(self.ticks(since_start));
        tokio::select! {
            biased;
            done = future => Ok(done),
            () = self.sleep_until(end) => Err(Elapsed),
        }
    }

    /// Drives `poll` to completion. It is polled when its wakers fire, and at the time that it stores in the cell.
    pub(crate) async fn poll_with_wake_ups<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>, &Cell<Option<Instant>>) -> Poll<T>,
    ) -> T {
        let mut sleep = self.sleep_until(self.start);
        poll_fn(|cx| {
            loop {
                let wake_at = Cell::new(None);
                if let Poll::Ready(done) = poll(cx, &wake_at) {
                    return Poll::Ready(done);
                }
                let Some(at) = wake_at.get() else { return Poll::Pending };
                sleep.reset(at);
                ready!(Pin::new(&mut sleep).poll(cx));
            }
        })
        .await
    }

    fn tick_start(&self, tick: u32) -> Instant {
        self.start + self.tick_length * tick
    }

    fn wake_sleepers(&self, now: Instant) {
        loop {
            let mut sleeping = self.sleeping.borrow_mut();
            let Some(first) = sleeping.first_entry().filter(|first| first.key().0 <= now) else { return };
            let waker = first.remove();
            drop(sleeping);
            waker.wake();
        }
    }

    /// Arms the timer for the next tick or the earliest sleeper, whichever comes first.
    fn set_timer(&self, now: Instant) -> io::Result<()> {
        let tick = self.tick_start(self.tick() + 1);
        let first = self.sleeping.borrow().first_key_value().map_or(tick, |((at, _), _)| tick.min(*at));
        self.expires.set(first);
        // A value of 0 would disarm the timer.
        let time = first.saturating_duration_since(now).max(Duration::from_nanos(1));
        let time =
            Timespec { tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: time };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

/// Completes at its deadline.
#[derive(Debug)]
pub(crate) struct Sleep<'c> {
    clock: &'c Clock,
    at: Instant,
    id: u64,
}

impl Sleep<'_> {
    /// Changes the deadline to `at`.
    fn reset(&mut self, at: Instant) {
        if at != self.at {
            self.clock.sleeping.borrow_mut().remove(&(self.at, self.id));
            self.at = at;
        }
    }
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.at <= now {
            return Poll::Ready(());
        }
        let clock = self.clock;
        let mut sleeping = clock.sleeping.borrow_mut();
        sleeping.entry((self.at, self.id)).or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        drop(sleeping);
        if self.at < clock.expires.get() {
            clock.set_timer(now).expect("a timer that exists can be set");
        }
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.clock.sleeping.borrow_mut().remove(&(self.at, self.id));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::rc::Rc;

    use super::*;
    use crate::data::testing::worker_runtime;

    /// Drives `clock` as a worker does.
    fn spawn_ticker(clock: &Rc<Clock>) {
        let clock = Rc::clone(clock);
        tokio::task::spawn_local(async move {
            loop {
                clock.next_tick().await.expect("a timer");
            }
        });
    }

    #[test]
    fn ticks_follow_one_another_and_none_is_left_out() {
        worker_runtime().block_on(async {
            let clock = Clock::new(Duration::from_millis(1)).expect("a timer");
            std::thread::sleep(Duration::from_millis(5));
            for tick in 1..=20 {
                assert_eq!(clock.next_tick().await.expect("a timer"), tick);
                assert_eq!(clock.tick(), tick);
            }
            assert!(clock.start.elapsed() >= Duration::from_millis(20));
        });
    }

    #[test]
    fn sleepers_wake_in_order_at_their_time_whatever_the_tick_is() {
        worker_runtime().block_on(async {
            let clock = Rc::new(Clock::new(Duration::from_secs(3600)).expect("a timer"));
            spawn_ticker(&clock);
            let woken = Rc::new(RefCell::new(Vec::new()));
            let tasks = [30, 10, 20].map(|ms| {
                let (clock, woken) = (Rc::clone(&clock), Rc::clone(&woken));
                tokio::task::spawn_local(async move {
                    let at = clock.start + Duration::from_millis(ms);
                    clock.sleep_until(at).await;
                    assert!(Instant::now() >= at, "too early");
                    woken.borrow_mut().push(ms);
                })
            });
            for task in tasks {
                task.await.expect("no panic");
            }
            assert_eq!(*woken.borrow(), [10, 20, 30]);
            assert!(clock.sleeping.borrow().is_empty());
        });
    }

    #[test]
    fn a_limit_ends_a_future_at_a_tick_and_leaves_nothing_behind() {
        worker_runtime().block_on(async {
            let clock = Rc::new(Clock::new(Duration::from_millis(10)).expect("a timer"));
            spawn_ticker(&clock);
            assert_eq!(clock.within(Duration::from_millis(1), pending::<()>()).await, Err(Elapsed));
            assert!(clock.start.elapsed() >= Duration::from_millis(10));
            assert_eq!(clock.within(Duration::from_secs(60), async { 7 }).await, Ok(7));
            assert!(clock.sleeping.borrow().is_empty());
        });
    }

    #[test]
    fn a_time_is_rounded_up_to_ticks() {
        worker_runtime().block_on(async {
            let clock = Clock::new(Duration::from_secs(1)).expect("a timer");
            let ticks = [0, 1, 1000, 1001, 350_000].map(|ms| clock.ticks(Duration::from_millis(ms)));
            assert_eq!(ticks, [1, 1, 1, 2, 350]);
        });
    }
}
