//! Connection limits. At the limit, the connection that is idle for longest is evicted for a new one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::sources::source_of;

/// Limits on the number of connections.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// Open connections.
    pub limit: usize,
    /// Open connections from one source that is not trusted.
    pub per_source: usize,
    /// The part of `limit` that is reserved for trusted sources.
    pub reserved: usize,
}

/// Limits the open connections of one listener, or of one kind.
#[derive(Debug)]
pub struct Connections {
    shares: Shares,
    open: Mutex<Vec<Arc<SlotState>>>,
    /// A logical clock: incremented at each use.
    turn: AtomicU64,
}

#[derive(Debug)]
struct SlotState {
    source: IpAddr,
    is_trusted: bool,
    /// The logical time at which the connection became idle; 0 while a request is in progress.
    idle_since: AtomicU64,
    evicted: CancellationToken,
}

/// An admitted connection, released on drop.
#[derive(Debug)]
pub struct ConnectionSlot {
    connections: Arc<Connections>,
    state: Arc<SlotState>,
}

impl Connections {
    /// Creates a limiter without connections.
    #[must_use]
    pub fn new(shares: Shares) -> Arc<Self> {
        Arc::new(Self { shares, open: Mutex::default(), turn: AtomicU64::new(1) })
    }

    /// Admits a connection from `source`. At a limit, the connection that is idle for longest is evicted: one of the
    /// same source at the source's limit, and never a trusted source's from the reserve for one that is not trusted.
    /// `None` if none is idle.
    pub fn admit(self: &Arc<Self>, source: IpAddr, is_trusted: bool) -> Option<ConnectionSlot> {
        let Shares { limit, per_source, reserved } = self.shares;
        let source = source_of(source);
        let mut open = self.lock();
        let has_its_share = !is_trusted && open.iter().filter(|state| state.source == source).count() >= per_source;
        let limit = if is_trusted { limit } else { limit - reserved };
        if has_its_share || open.len() >= limit {
            let trusted_may = is_trusted || open.iter().filter(|state| state.is_trusted).count() > reserved;
            let may_be_evicted = |state: &SlotState| {
                if has_its_share { state.source == source } else { trusted_may || !state.is_trusted }
            };
            let idle = open.iter().enumerate().filter(|(_, state)| may_be_evicted(state));
            let idle = idle.map(|(at, state)| (state.idle_since.load(Ordering::Relaxed), at));
            let (_, oldest) = idle.filter(|(since, _)| *since > 0).min()?;
            open.swap_remove(oldest).evicted.cancel();
        }
        let idle_since = self.next_turn().into();
        let state = Arc::new(SlotState { source, is_trusted, idle_since, evicted: CancellationToken::new() });
        open.push(Arc::clone(&state));
        Some(ConnectionSlot { connections: Arc::clone(self), state })
    }

    fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<SlotState>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionSlot {
    /// Marks the connection as busy until the guard is dropped.
    pub fn busy(&self) -> BusyGuard<'_> {
        self.state.idle_since.store(0, Ordering::Relaxed);
        BusyGuard(self)
    }

    /// Records activity.
    pub fn mark_active(&self) {
        self.state.idle_since.store(self.connections.next_turn(), Ordering::Relaxed);
    }

    /// Whether no request is in progress.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state.idle_since.load(Ordering::Relaxed) > 0
    }

    /// Completes once the connection is evicted and must be closed.
    pub async fn evicted(&self) {
        self.state.evicted.cancelled().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.lock().retain(|state| !Arc::ptr_eq(state, &self.state));
    }
}

/// Guard of a busy connection.
#[derive(Debug)]
pub struct BusyGuard<'a>(&'a ConnectionSlot);

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        self.0.mark_active();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn is_evicted(connection: &ConnectionSlot) -> bool {
        connection.state.evicted.is_cancelled()
    }

    #[test]
    fn one_source_has_half_and_then_its_own_oldest_idle_connection_is_closed() {
        let connections = Connections::new(Shares { limit: 32, per_source: 16, reserved: 8 });
        let other = connections.admit(source(1), false).expect("capacity");
        let mut held: Vec<_> = (0..16).map(|_| connections.admit(source(2), false).expect("capacity")).collect();
        // It was used since, so it is not the oldest any more.
        drop(held[0].busy());
        held.push(connections.admit(source(2), false).expect("an idle one goes"));
        let evicted: Vec<_> = held.iter().map(is_evicted).collect();
        assert_eq!(evicted.iter().position(|is| *is), Some(1), "{evicted:?}");
        assert_eq!(evicted.iter().filter(|is| **is).count(), 1);
        assert!(!is_evicted(&other), "another source's stays");
    }

    #[test]
    fn a_source_at_its_connection_limit_gets_no_more_and_others_do() {
        let connections = Connections::new(Shares { limit: 32, per_source: 16, reserved: 8 });
        let held: Vec<_> = (0..16).map(|_| connections.admit(source(2), false).expect("capacity")).collect();
        let busy: Vec<_> = held.iter().map(ConnectionSlot::busy).collect();
        assert!(connections.admit(source(2), false).is_none());
        assert!(connections.admit(source(1), false).is_some());
        drop(busy);
        assert!(connections.admit(source(2), false).is_some());
    }

    #[test]
    fn some_connections_are_for_trusted_sources_alone() {
        let connections = Connections::new(Shares { limit: 32, per_source: 16, reserved: 8 });
        let held: Vec<_> = (0..24).map(|n| connections.admit(source(n), false).expect("capacity")).collect();
        let busy: Vec<_> = held.iter().map(ConnectionSlot::busy).collect();
        assert!(connections.admit(source(100), false).is_none());
        let local: Vec<_> =
            (0..8).map(|_| connections.admit(IpAddr::from([127, 0, 0, 1]), true).expect("capacity")).collect();
        drop(busy);
        let _remote = connections.admit(source(100), false).expect("an idle one goes");
        assert!(local.iter().all(|connection| !is_evicted(connection)), "not one of a trusted source");
        assert_eq!(held.iter().filter(|connection| is_evicted(connection)).count(), 1);
    }

    #[test]
    fn trusted_sources_cannot_occupy_every_slot() {
        let connections = Connections::new(Shares { limit: 32, per_source: 16, reserved: 8 });
        let local = IpAddr::from([127, 0, 0, 1]);
        let held: Vec<_> = (0..40).map(|_| connections.admit(local, true).expect("an idle one goes")).collect();
        let remote: Vec<_> = (0..40).map(|n| connections.admit(source(n), false).expect("an idle one goes")).collect();
        let open = |held: &[ConnectionSlot]| held.iter().filter(|connection| !is_evicted(connection)).count();
        assert_eq!((open(&held), open(&remote)), (8, 24));
    }

    #[test]
    fn a_connection_that_ends_releases_its_slot() {
        let connections = Connections::new(Shares { limit: 32, per_source: 16, reserved: 8 });
        let held: Vec<_> = (0..24).map(|n| connections.admit(source(n), false).expect("capacity")).collect();
        drop(held);
        assert!(connections.lock().is_empty());
    }
}
