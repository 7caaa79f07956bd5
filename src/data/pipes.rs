//! Pooled pipes for `splice`, created when a flow transfers in bulk.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// The two ends of a pipe.
#[derive(Debug)]
struct PipeEnds {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe from a worker's pool. Dropping it returns it to the pool if it is empty, and closes it if it still holds
/// data.
#[derive(Debug)]
pub(crate) struct Pipe {
    ends: Option<PipeEnds>,
    pool: Rc<Pipes>,
    /// Bytes in the pipe.
    pub(crate) held: usize,
}

impl Pipe {
    /// The read end.
    pub(crate) fn read(&self) -> &OwnedFd {
        &self.ends().read
    }

    /// The write end.
    pub(crate) fn write(&self) -> &OwnedFd {
        &self.ends().write
    }

    /// Capacity in bytes.
    pub(crate) fn size(&self) -> usize {
        self.pool.size
    }

    fn ends(&self) -> &PipeEnds {
        self.ends.as_ref().expect("only drop takes the ends")
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.held == 0 {
            self.pool.spare.borrow_mut().extend(self.ends.take());
        } else {
            self.pool.made.set(self.pool.made.get() - 1);
        }
    }
}

/// A worker's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    spare: RefCell<Vec<PipeEnds>>,
    made: Cell<usize>,
    most: usize,
    size: usize,
}

impl Pipes {
    /// Creates a pool of at most `most` pipes of `size` bytes. 0 disables splicing.
    pub(crate) fn new(most: usize, size: usize) -> Rc<Self> {
        Rc::new(Self { spare: RefCell::default(), made: Cell::new(0), most, size })
    }

    /// Takes or creates an empty pipe; `None` at the limit.
    ///
    /// An unprivileged user has 64 MiB of pipe pages in total (`fs.pipe-user-pages-soft`). Beyond that, the kernel
    /// creates pipes of 8 KiB and refuses to grow them. Such a pipe is slower than copying, so it is not used.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Pipe> {
        let spare = self.spare.borrow_mut().pop();
        let ends = match spare {
            Some(ends) => ends,
            None if self.made.get() < self.most => {
                let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
                fcntl_setpipe_size(&write, self.size).ok()?;
                self.made.set(self.made.get() + 1);
                PipeEnds { read, write }
            }
            None => return None,
        };
        Some(Pipe { ends: Some(ends), pool: Rc::clone(self), held: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_holds_data_is_never_used_again() {
        let pipes = Pipes::new(1, 64 << 10);
        let mut pipe = pipes.take().expect("the first pipe");
        assert!(pipes.take().is_none(), "only one may be made");
        pipe.held = 1;
        drop(pipe);
        assert!(pipes.spare.borrow().is_empty());
        let pipe = pipes.take().expect("another one in its place");
        drop(pipe);
        assert_eq!(pipes.spare.borrow().len(), 1);
    }
}
