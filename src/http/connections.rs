//! The open connections of one listener. Where too many are open, one that is idle makes place for a new one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Connections that only loopback may have: the operator's own, and probes on the same machine.
const RESERVED: usize = 8;

pub(super) struct Connections {
    limit: usize,
    open: Mutex<Vec<Arc<State>>>,
    /// Counts upwards: later in time is a higher number.
    turn: AtomicU64,
}

struct State {
    source: IpAddr,
    /// The turn at which the connection became idle; 0 while a request is answered.
    idle_since: AtomicU64,
    evicted: CancellationToken,
}

/// A connection's entry, which ends with it.
pub(super) struct Connection {
    connections: Arc<Connections>,
    state: Arc<State>,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: Mutex::default(), turn: AtomicU64::new(1) })
    }

    /// Takes a connection of `source`: half of the limit may be of one source, loopback excepted. Beyond a limit the
    /// connection that was idle for longest is closed instead; `None` when none is.
    pub(super) fn admit(self: &Arc<Self>, source: IpAddr) -> Option<Connection> {
        let mut open = self.lock();
        let is_local = source.is_loopback();
        let of_source = open.iter().filter(|state| state.source == source).count();
        let has_its_share = !is_local && of_source >= self.limit / 2;
        let limit = if is_local { self.limit } else { self.limit - RESERVED };
        if has_its_share || open.len() >= limit {
            let may_be_evicted = |state: &State| {
                if has_its_share { state.source == source } else { is_local || !state.source.is_loopback() }
            };
            let idle = open.iter().enumerate().filter(|(_, state)| may_be_evicted(state));
            let idle = idle.map(|(at, state)| (state.idle_since.load(Ordering::Relaxed), at));
            let (_, oldest) = idle.filter(|(since, _)| *since > 0).min()?;
            open.swap_remove(oldest).evicted.cancel();
        }
        let state = Arc::new(State { source, idle_since: self.next_turn().into(), evicted: CancellationToken::new() });
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
    pub(super) fn busy(&self) -> Busy<'_> {
        self.state.idle_since.store(0, Ordering::Relaxed);
        Busy(self)
    }

    /// Whether no request is being answered.
    pub(super) fn is_idle(&self) -> bool {
        self.state.idle_since.load(Ordering::Relaxed) > 0
    }

    /// Resolves once the connection is to make place for another one.
    pub(super) async fn evicted(&self) {
        self.state.evicted.cancelled().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.lock().retain(|state| !Arc::ptr_eq(state, &self.state));
    }
}

/// A connection with a request that is being answered.
pub(super) struct Busy<'a>(&'a Connection);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.state.idle_since.store(self.0.connections.next_turn(), Ordering::Relaxed);
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
        let connections = Connections::new(32);
        let other = connections.admit(source(1)).expect("room");
        let mut held: Vec<_> = (0..16).map(|_| connections.admit(source(2)).expect("room")).collect();
        // It was used since, so it is not the oldest any more.
        drop(held[0].busy());
        held.push(connections.admit(source(2)).expect("an idle one goes"));
        let evicted: Vec<_> = held.iter().map(is_evicted).collect();
        assert_eq!(evicted.iter().position(|is| *is), Some(1), "{evicted:?}");
        assert_eq!(evicted.iter().filter(|is| **is).count(), 1);
        assert!(!is_evicted(&other), "another source's stays");
    }

    #[test]
    fn a_source_whose_connections_are_all_busy_gets_no_more_and_others_do() {
        let connections = Connections::new(32);
        let held: Vec<_> = (0..16).map(|_| connections.admit(source(2)).expect("room")).collect();
        let busy: Vec<_> = held.iter().map(Connection::busy).collect();
        assert!(connections.admit(source(2)).is_none());
        assert!(connections.admit(source(1)).is_some());
        drop(busy);
        assert!(connections.admit(source(2)).is_some());
    }

    #[test]
    fn some_connections_are_loopbacks_alone() {
        let connections = Connections::new(32);
        let held: Vec<_> = (0..24).map(|n| connections.admit(source(n)).expect("room")).collect();
        let busy: Vec<_> = held.iter().map(Connection::busy).collect();
        assert!(connections.admit(source(100)).is_none());
        let local: Vec<_> = (0..8).map(|_| connections.admit(IpAddr::from([127, 0, 0, 1])).expect("room")).collect();
        drop(busy);
        let _remote = connections.admit(source(100)).expect("an idle one goes");
        assert!(local.iter().all(|connection| !is_evicted(connection)), "not one of loopback's");
        assert_eq!(held.iter().filter(|connection| is_evicted(connection)).count(), 1);
    }

    #[test]
    fn a_connection_that_ends_makes_place() {
        let connections = Connections::new(32);
        let held: Vec<_> = (0..24).map(|n| connections.admit(source(n)).expect("room")).collect();
        drop(held);
        assert!(connections.lock().is_empty());
    }
}
