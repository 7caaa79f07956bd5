//! A callback for changes of the open ports.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Called with all addresses on which the gateway accepts connections, before one is opened and after one was closed.
/// The lab's packet filter uses it.
#[derive(Clone)]
pub struct PortWatch(Arc<OnChange>);

type OnChange = dyn Fn(&BTreeSet<SocketAddr>) + Send + Sync;

impl PortWatch {
    /// `callback` must not block.
    pub fn new(callback: impl Fn(&BTreeSet<SocketAddr>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }

    pub(super) fn notify(&self, open: &BTreeSet<SocketAddr>) {
        (self.0)(open);
    }
}

impl fmt::Debug for PortWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortWatch").finish_non_exhaustive()
    }
}
