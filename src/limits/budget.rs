//! The process' file descriptor budget.
//!
//! | for | of the limit |
//! |---|---|
//! | admin, metrics, DNS, files, health probes | 1/8, reserved |
//! | blackholed clients, over all listeners | at most 1/8 |
//! | one source's flows, two descriptors each | at most 3/4 |
//!
//! The kernel allocates the lowest free number (open(2)), so a descriptor's number is a lower bound of the number in
//! use.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Upper limit of the descriptors reserved for the gateway's own listeners and files.
const MAX_RESERVED: usize = 1024;

/// The soft limit; unlimited until [`raise_limit`] is called.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Raises the soft limit to the hard limit, or keeps it if that is not permitted, and returns the limit in force.
pub(crate) fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    LIMIT.store(limit, Ordering::Relaxed);
    limit
}

/// 1/`part` of the process' descriptors, at least 2 and at most `most`.
pub(crate) fn share(part: usize, most: usize) -> usize {
    (LIMIT.load(Ordering::Relaxed) / part).max(2).min(most)
}

/// The maximum number of flows, of two descriptors each, from one source: three quarters of the descriptors.
pub(crate) fn flows_of_one_source() -> usize {
    share(8, usize::MAX).saturating_mul(3)
}

/// Whether a descriptor belongs to the reserve of the gateway's own listeners and files, so that a flow must close it.
pub(crate) fn is_reserved(descriptor: &impl AsFd) -> bool {
    let limit = LIMIT.load(Ordering::Relaxed);
    let number = usize::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0);
    number >= limit - share(8, MAX_RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_in_use_at_the_start_are_not_reserved_and_shares_are_parts_of_the_limit() {
        assert!(!is_reserved(&std::io::stdin()));
        assert_eq!(share(8, 100), 100.min(share(8, usize::MAX)));
        assert!(flows_of_one_source() > share(8, usize::MAX));
    }
}
