//! Buffers of a worker: one scratch buffer for all reads, and a small pool for bytes that a peer does not accept at
//! once.

use std::cell::{RefCell, RefMut};

/// Spare buffers that a worker keeps; more are freed.
const MAX_SPARE_BUFFERS: usize = 64;

/// Bytes that a peer has not accepted yet.
#[derive(Debug)]
pub(crate) struct Unsent {
    bytes: Vec<u8>,
    from: usize,
}

impl Unsent {
    /// The remaining bytes.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    /// Removes the first `n` bytes, which the peer has accepted; true when none are left.
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
    /// Creates a scratch buffer of `size` bytes. Its zeroed pages are allocated on first use.
    pub(crate) fn new(size: usize) -> Self {
        Self { read: RefCell::new(vec![0; size].into_boxed_slice()), spare: RefCell::default() }
    }

    /// The buffer to read into. Borrowed within one poll only, as a worker polls one flow at a time.
    pub(crate) fn read(&self) -> RefMut<'_, Box<[u8]>> {
        self.read.borrow_mut()
    }

    /// Copies bytes that were not accepted.
    pub(crate) fn keep(&self, bytes: &[u8]) -> Unsent {
        let mut buffer = self.spare.borrow_mut().pop().unwrap_or_default();
        buffer.extend_from_slice(bytes);
        Unsent { bytes: buffer, from: 0 }
    }

    /// Returns a buffer to the pool.
    pub(crate) fn give_back(&self, unsent: Unsent) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < MAX_SPARE_BUFFERS {
            let mut buffer = unsent.bytes;
            buffer.clear();
            spare.push(buffer);
        }
    }
}
