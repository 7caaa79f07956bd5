//! The process' descriptors: how many there are, and who may have how many.
//!
//! | for | of the limit |
//! |---|---|
//! | admin, metrics, DNS, files, health probes | 1/8, which flows and HTTP clients leave alone |
//! | refused clients that are held unanswered, over all listeners | at most 1/8 |
//! | one source's flows, two descriptors each | at most 3/4 |
//!
//! The kernel gives out the lowest free number (open(2)), so a descriptor's number says how many are in use at least.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for the gateway's own listeners and files: an eighth, at most these.
const MOST_RESERVED: usize = 1024;

/// The soft limit; until [`raise_limit`] was called, as if there were none.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Raises the soft limit to the hard one, and counts on what the process then has. A gateway that may not raise it works
/// with what it has. Returns their number.
pub(crate) fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    LIMIT.store(limit, Ordering::Relaxed);
    limit
}

/// The `part`th part of the process' descriptors, at least 2 and at most `most`.
pub(crate) fn share(part: usize, most: usize) -> usize {
    (LIMIT.load(Ordering::Relaxed) / part).max(2).min(most)
}

/// How many flows, of two descriptors each, one source may have: three quarters of the descriptors. Others then find some.
pub(crate) fn flows_of_one_source() -> usize {
    share(8, usize::MAX).saturating_mul(3)
}

/// Whether a descriptor is one of those kept for the gateway's own listeners and files, so that a flow gives it back.
pub(crate) fn is_reserved(descriptor: &impl AsFd) -> bool {
    let limit = LIMIT.load(Ordering::Relaxed);
    let number = usize::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0);
    number >= limit - share(8, MOST_RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_early_is_not_reserved_and_shares_are_parts_of_the_limit() {
        assert!(!is_reserved(&std::io::stdin()));
        assert_eq!(share(8, 100), 100.min(share(8, usize::MAX)));
        assert!(flows_of_one_source() > share(8, usize::MAX));
    }
}
