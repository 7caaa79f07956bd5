//! Buffers of a worker: one scratch for every read, and a small pool for what a peer would not take at once.

use std::cell::{RefCell, RefMut};

/// How many spare buffers a worker keeps; more are freed.
const MOST_SPARE_BUFFERS: usize = 64;

/// What a peer did not take yet.
#[derive(Debug)]
pub(crate) struct Leftover {
    bytes: Vec<u8>,
    from: usize,
}

impl Leftover {
    /// The bytes still to be written.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    /// Notes that the peer took `n` more; true when nothing is left.
    pub(crate) fn taken(&mut self, n: usize) -> bool {
        self.from += n;
        self.from == self.bytes.len()
    }
}

/// The buffers of one worker.
#[derive(Debug)]
pub(crate) struct Scratch {
    read: RefCell<Box<[u8]>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Scratch {
    /// A scratch of `size` bytes. Fresh zeros come from the system, so its pages come into being as they are used.
    pub(crate) fn new(size: usize) -> Self {
        Self { read: RefCell::new(vec![0; size].into_boxed_slice()), spare: RefCell::default() }
    }

    /// The buffer to read into. Held within one poll only: no two flows of a worker are polled at once.
    pub(crate) fn read(&self) -> RefMut<'_, Box<[u8]>> {
        self.read.borrow_mut()
    }

    /// Keeps a copy of what was not taken.
    pub(crate) fn keep(&self, bytes: &[u8]) -> Leftover {
        let mut buffer = self.spare.borrow_mut().pop().unwrap_or_default();
        buffer.extend_from_slice(bytes);
        Leftover { bytes: buffer, from: 0 }
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&self, leftover: Leftover) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < MOST_SPARE_BUFFERS {
            let mut buffer = leftover.bytes;
            buffer.clear();
            spare.push(buffer);
        }
    }
}
