//! Who wants to know which ports are open.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Hears of the addresses on which the gateway takes connections: all of them, before one more is opened and after one was
/// closed. A packet filter goes by it.
#[derive(Clone)]
pub struct PortWatch(Arc<Hear>);

type Hear = dyn Fn(&BTreeSet<SocketAddr>) + Send + Sync;

impl PortWatch {
    /// Tells `hear`, which must not block.
    pub fn new(hear: impl Fn(&BTreeSet<SocketAddr>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    /// These are open.
    pub(super) fn tell(&self, open: &BTreeSet<SocketAddr>) {
        (self.0)(open);
    }
}

impl fmt::Debug for PortWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortWatch").finish_non_exhaustive()
    }
}
