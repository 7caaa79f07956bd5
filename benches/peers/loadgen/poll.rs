//! Edge-triggered epoll, thinly.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// A set of sockets, each under a number.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(512) })
    }

    /// Watches a socket for the rest of its life; closing it is leaving.
    pub(crate) fn watch(&self, socket: impl AsFd, number: u64, writable: bool) -> io::Result<()> {
        let writable = if writable { EventFlags::OUT } else { EventFlags::empty() };
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET | writable;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(number), flags)?)
    }

    /// Numbers of the sockets where something happened; none when `until` passes first.
    pub(crate) fn wait(&mut self, until: Option<Instant>) -> io::Result<impl Iterator<Item = u64> + '_> {
        Ok(self.wait_for_ends(until)?.map(|(number, _)| number))
    }

    /// The same, and of each whether its peer has sent all that it will: no other edge will come to tell that.
    pub(crate) fn wait_for_ends(
        &mut self,
        until: Option<Instant>,
    ) -> io::Result<impl Iterator<Item = (u64, bool)> + '_> {
        self.events.clear();
        let left = until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        Ok(self.events.iter().map(move |event| {
            // Copied: the structure is packed.
            let flags = event.flags;
            (event.data.u64(), flags.intersects(ends))
        }))
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() }
}

/// The result of a non-blocking call.
pub(crate) fn would_block<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
