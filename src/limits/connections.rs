//! Connections that compete for a number of places. Where too many are open, one that is idle makes place for a new one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::sources::source_of;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// At once.
    pub limit: usize,
    /// Of one source that is not trusted.
    pub per_source: usize,
    /// Those of `limit` that only trusted sources may have.
    pub reserved: usize,
}

/// The open connections of one listener, or of one kind.
#[derive(Debug)]
pub struct Connections {
    shares: Shares,
    open: Mutex<Vec<Arc<State>>>,
    /// Counts upwards: later in time is a higher number.
    turn: AtomicU64,
}

#[derive(Debug)]
struct State {
    source: IpAddr,
    is_trusted: bool,
    /// The turn at which the connection became idle; 0 while a request is answered.
    idle_since: AtomicU64,
    evicted: CancellationToken,
}

/// A connection's entry, which ends with it.
#[derive(Debug)]
pub struct Connection {
    connections: Arc<Connections>,
    state: Arc<State>,
}

impl Connections {
    /// Without any connection yet.
    #[must_use]
    pub fn new(shares: Shares) -> Arc<Self> {
        Arc::new(Self { shares, open: Mutex::default(), turn: AtomicU64::new(1) })
    }

    /// Takes a connection of `source`. Beyond a limit the connection that was idle for longest is closed instead, of the
    /// same source if it has its share, and of the reserved ones none of a trusted source for another's; `None` when none
    /// is idle.
    pub fn admit(self: &Arc<Self>, source: IpAddr, is_trusted: bool) -> Option<Connection> {
        let Shares { limit, per_source, reserved } = self.shares;
        let source = source_of(source);
        let mut open = self.lock();
        let has_its_share = !is_trusted && open.iter().filter(|state| state.source == source).count() >= per_source;
        let limit = if is_trusted { limit } else { limit - reserved };
        if has_its_share || open.len() >= limit {
            let trusted_may = is_trusted || open.iter().filter(|state| state.is_trusted).count() > reserved;
            let may_be_evicted = |state: &State| {
                if has_its_share { state.source == source } else { trusted_may || !state.is_trusted }
            };
            let idle = open.iter().enumerate().filter(|(_, state)| may_be_evicted(state));
            let idle = idle.map(|(at, state)| (state.idle_since.load(Ordering::Relaxed), at));
            let (_, oldest) = idle.filter(|(since, _)| *since > 0).min()?;
            open.swap_remove(oldest).evicted.cancel();
        }
        let idle_since = self.next_turn().into();
        let state = Arc::new(State { source, is_trusted, idle_since, evicted: CancellationToken::new() });
        open.push(Arc::clone(&state));
        Some(Connection { connections: Arc::clone(self), state })
    }

    fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<State>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Marks the connection as busy until what is returned is dropped.
    pub fn busy(&self) -> Busy<'_> {
        self.state.idle_since.store(0, Ordering::Relaxed);
        Busy(self)
    }

    /// It is used now: others have been idle for longer.
    pub fn mark_active(&self) {
        self.state.idle_since.store(self.connections.next_turn(), Ordering::Relaxed);
    }

    /// Whether no request is being answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state.idle_since.load(Ordering::Relaxed) > 0
    }

    /// Resolves once the connection is to make place for another one.
    pub async fn evicted(&self) {
        self.state.evicted.cancelled().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.lock().retain(|state| !Arc::ptr_eq(state, &self.state));
    }
}

/// A connection with a request that is being answered.
#[derive(Debug)]
pub struct Busy<'a>(&'a Connection);

impl Drop for Busy<'_> {
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

    fn is_evicted(connection: &Connection) -> bool {
        connection.state.evicted.is_cancelled()
    }

    #[test]
    fn one_source_has_half_and_then_its_own_oldest_idle_connection_is_closed() {
        let connections = Connections::new(Shares { limit: 32, per_source: 16, reserved: 8 });
        let other = connections.admit(source(1), false).expect("room");
        let mut held: Vec<_> = (0..16).map(|_| connections.admit(source(2), false).expect("room")).collect();
        // It was used since, so it is not the oldest any more.
        drop(held[0].busy());
        held.push(connections.admit(source(2), false).expect("an idle one goes"));
        let evicted: Vec<_> = held.iter().map(is_evicted).collect();
        assert_eq!(evicted.iter().position(|is| *is), Some(1), "{evicted:?}");
        assert_eq!(evicted.iter().filter(|is| **is).count(), 1);
        assert!(!is_evicted(&other), "another source's stays");
    }

    #[test]
    fn a_source_whose_connections_are_all_busy_gets_no_more_and_others_do() {
        let connections = Connections::new(Shares { limit: 32, per_source: 16, reserved: 8 });
        let held: Vec<_> = (0..16).map(|_| connections.admit(source(2), false).expect("room")).collect();
        let busy: Vec<_> = held.iter().map(Connection::busy).collect();
        assert!(connections.admit(source(2), false).is_none());
        assert!(connections.admit(source(1), false).is_some());
        drop(busy);
        assert!(connections.admit(source(2), false).is_some());
    }

    #[test]
    fn some_connections_are_for_trusted_sources_alone() {
        let connections = Connections::new(Shares { limit: 32, per_source: 16, reserved: 8 });
        let held: Vec<_> = (0..24).map(|n| connections.admit(source(n), false).expect("room")).collect();
        let busy: Vec<_> = held.iter().map(Connection::busy).collect();
        assert!(connections.admit(source(100), false).is_none());
        let local: Vec<_> =
            (0..8).map(|_| connections.admit(IpAddr::from([127, 0, 0, 1]), true).expect("room")).collect();
        drop(busy);
        let _remote = connections.admit(source(100), false).expect("an idle one goes");
        assert!(local.iter().all(|connection| !is_evicted(connection)), "not one of a trusted source");
        assert_eq!(held.iter().filter(|connection| is_evicted(connection)).count(), 1);
    }

    #[test]
    fn trusted_sources_cannot_take_every_place_for_ever() {
        let connections = Connections::new(Shares { limit: 32, per_source: 16, reserved: 8 });
        let local = IpAddr::from([127, 0, 0, 1]);
        let held: Vec<_> = (0..40).map(|_| connections.admit(local, true).expect("an idle one goes")).collect();
        let remote: Vec<_> = (0..40).map(|n| connections.admit(source(n), false).expect("an idle one goes")).collect();
        let open = |held: &[Connection]| held.iter().filter(|connection| !is_evicted(connection)).count();
        assert_eq!((open(&held), open(&remote)), (8, 24));
    }

    #[test]
    fn a_connection_that_ends_makes_place() {
        let connections = Connections::new(Shares { limit: 32, per_source: 16, reserved: 8 });
        let held: Vec<_> = (0..24).map(|n| connections.admit(source(n), false).expect("room")).collect();
        drop(held);
        assert!(connections.lock().is_empty());
    }
}
