//! Ensures that only one process serves as a gateway. Two processes with one gateway id would release each other's
//! ports. So the second one is refused at its start, and a process that was cut off while another took its id ends.
//!
//! A process writes its key every [`HEARTBEAT_INTERVAL`]. A starting process takes over a key that was not written for [`LEASE`],
//! measured by its own monotonic clock: no two clocks are compared, and the store needs no leases. It does so in the
//! transaction of its first change, which rewrites the head of all changes, so whatever the earlier process still sends
//! conflicts.
//!
//! A process that is restarted after a crash does not have to wait: its [`HostLock`] proves that the earlier one is
//! gone.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::inventory::Timestamp;
use super::saved_error::SavedError;
use super::store::{ExpectedRevision, Revision, StateKey, StateStore, StoreError, Txn, json};
use crate::model::GatewayId;

/// Prefix of the keys of holders, by gateway; the value is a [`Holder`].
pub(super) const HOLDERS: &str = "holders/";

/// How often a process writes its key.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// Time after which an unchanged key is free.
const LEASE: Duration = Duration::from_secs(10);

/// How often a starting process reads the key of its id.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// Time limit for releasing the key.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A lock that one process of a host can hold: an abstract socket in the host's network namespace, which disappears
/// with the process however it ends. It carries no data.
#[derive(Debug, Clone)]
pub struct HostLock {
    host: String,
    _socket: Arc<UnixDatagram>,
}

impl HostLock {
    /// Takes the lock of the gateway `id`; `None` if another process has it, if the system has no such sockets, or if
    /// the host can't be identified.
    #[must_use]
    pub fn take(id: &GatewayId) -> Option<Self> {
        let host = host()?;
        let address = SocketAddr::from_abstract_name(format!("plgw/gateway/{id}")).ok()?;
        let socket = UnixDatagram::bind_addr(&address).ok()?;
        Some(Self { host, _socket: Arc::new(socket) })
    }
}

/// Identifies the host: the boot id and the network namespace, within which no address can be bound twice. `None` if it
/// can't be read.
pub(super) fn host() -> Option<String> {
    host_below(Path::new("/proc"))
}

fn host_below(proc: &Path) -> Option<String> {
    let boot = std::fs::read_to_string(proc.join("sys/kernel/random/boot_id")).ok()?;
    let network = std::fs::read_link(proc.join("self/ns/net")).ok()?;
    Some(format!("{} {}", boot.trim(), network.display()))
}

/// The published record of the process that serves as a gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Holder {
    /// Random: distinguishes the process from an earlier one.
    process: String,
    /// The program's version.
    version: String,
    /// The URL of its admin API; `None`: it has none.
    admin: Option<String>,
    /// When it started, by its own clock.
    started: Timestamp,
    /// Number of times that it has written its key.
    beat: u64,
    /// The host whose [`HostLock`] it holds; `None`: none.
    #[serde(default)]
    locked: Option<String>,
    /// The lock, held for as long as the process serves.
    #[serde(skip)]
    _lock: Option<HostLock>,
}

impl Holder {
    /// This process.
    pub(super) fn new(admin: Option<String>, lock: Option<HostLock>) -> Self {
        let mut process = [0; 8];
        SystemRandom::new().fill(&mut process).expect("the system's generator was seeded at boot");
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let locked = lock.as_ref().map(|lock| lock.host.clone());
        Self { process: hex::encode(process), version, admin, started: Timestamp::now(), beat: 0, locked, _lock: lock }
    }

    /// Whether `earlier` is certainly gone: this process holds the lock that it held.
    fn outlives(&self, earlier: &Self) -> bool {
        self.locked.is_some() && self.locked == earlier.locked
    }

    pub(super) fn process(&self) -> &str {
        &self.process
    }

    pub(super) fn taken(&self, id: &GatewayId) -> SavedError {
        let admin = self.admin.as_ref().map(|admin| format!(", whose admin API is at {admin}")).unwrap_or_default();
        SavedError::Taken { id: id.clone(), admin, seconds: LEASE.as_secs() }
    }
}

/// The key of `id`.
pub(super) fn key(id: &GatewayId) -> StateKey {
    StateKey::own(&format!("{HOLDERS}{id}"))
}

async fn read(store: &dyn StateStore, id: &GatewayId) -> Result<Option<(Holder, Revision)>, SavedError> {
    let key = key(id);
    let entries = store.range(key.as_str()).await?.entries;
    let Some(entry) = entries.into_iter().find(|entry| entry.key == key) else { return Ok(None) };
    Ok(Some((SavedError::read(&entry)?, entry.revision)))
}

/// Waits until no process other than `own` serves as `id`; returns the state of its key then.
///
/// # Errors
///
/// [`SavedError::Taken`] as soon as another process writes the key.
pub(super) async fn wait_until_free(
    store: &dyn StateStore,
    id: &GatewayId,
    own: &Holder,
) -> Result<ExpectedRevision, SavedError> {
    let mut first: Option<(Revision, Instant)> = None;
    loop {
        let Some((holder, at)) = read(store, id).await? else { return Ok(ExpectedRevision::Absent) };
        if own.outlives(&holder) {
            return Ok(ExpectedRevision::At(at));
        }
        match first {
            None => {
                let seconds = LEASE.as_secs();
                tracing::info!(gateway = %id, seconds, "an earlier process used this gateway id; waiting until its lease ends");
                first = Some((at, Instant::now()));
            }
            Some((before, _)) if before != at => return Err(holder.taken(id)),
            Some((_, since)) if since.elapsed() >= LEASE => return Ok(ExpectedRevision::At(at)),
            Some(_) => {}
        }
        sleep(READ_INTERVAL).await;
    }
}

/// Writes the key of `id`, last written at `at`, until the process has `left`, and then deletes it.
pub(super) async fn hold(
    store: Arc<dyn StateStore>,
    id: GatewayId,
    mut holder: Holder,
    mut at: Revision,
    left: CancellationToken,
) {
    let key = key(&id);
    let work = async {
        loop {
            sleep(HEARTBEAT_INTERVAL).await;
            holder.beat += 1;
            let beat = Txn::new().compare(key.clone(), ExpectedRevision::At(at)).put(key.clone(), json(&holder));
            match store.commit(beat).await {
                Ok(revision) => at = revision,
                // An earlier write succeeded unnoticed, or the gateway joined again. If another process took the id,
                // the owner learns that from that process' change.
                Err(StoreError::Conflict { .. }) => match read(&*store, &id).await {
                    Ok(Some((found, _))) if found.process != holder.process => return,
                    Ok(Some((_, revision))) => at = revision,
                    Ok(None) | Err(_) => {}
                },
                Err(error) => {
                    tracing::debug!(
                        reason = super::chain::chain(&error),
                        "failed to renew the lease of this gateway's id"
                    )
                }
            }
        }
    };
    if left.run_until_cancelled(work).await.is_none() {
        let gone = Txn::new().compare(key.clone(), ExpectedRevision::At(at)).delete(key);
        // If it can't be deleted, it is free when the lease ends.
        let _ = timeout(LEAVE_TIMEOUT, store.commit(gone)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::MemoryStore;
    use super::*;

    /// D4.
    #[tokio::test(start_paused = true)]
    async fn a_process_that_has_the_lock_of_an_earlier_one_does_not_wait_for_it() {
        // The lock is global to the machine: a concurrent test run must use another id.
        let id: GatewayId = format!("holder-test-{}", std::process::id()).parse().unwrap();
        let store = MemoryStore::new();
        let lock = HostLock::take(&id).expect("no other process has it");
        assert!(HostLock::take(&id).is_none(), "one process has it");
        let first = Holder::new(None, Some(lock));
        let at = store.commit(Txn::new().put(key(&id), json(&first))).await.unwrap();
        drop(first);
        let lock = HostLock::take(&id).expect("it went with the process");
        let begun = Instant::now();
        let restarted = Holder::new(None, Some(lock));
        assert_eq!(wait_until_free(&store, &id, &restarted).await.unwrap(), ExpectedRevision::At(at));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for other in [Holder::new(None, None), Holder { locked: Some("elsewhere".to_owned()), ..restarted }] {
            let begun = Instant::now();
            assert_eq!(wait_until_free(&store, &id, &other).await.unwrap(), ExpectedRevision::At(at));
            assert!(begun.elapsed() >= LEASE, "it may live");
        }
    }

    #[test]
    fn a_host_is_known_by_its_boot_and_its_network_or_not_at_all() {
        let proc = tempfile::tempdir().unwrap();
        let (boot, network) = (proc.path().join("sys/kernel/random"), proc.path().join("self/ns"));
        [&boot, &network].into_iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
        assert_eq!(host_below(proc.path()), None);
        std::os::unix::fs::symlink("net:[4026531840]", network.join("net")).unwrap();
        assert_eq!(host_below(proc.path()), None, "all machines may have that one");
        std::fs::write(boot.join("boot_id"), "6a2f\n").unwrap();
        assert_eq!(host_below(proc.path()).as_deref(), Some("6a2f net:[4026531840]"));
        std::fs::remove_file(network.join("net")).unwrap();
        assert_eq!(host_below(proc.path()), None, "any network of that machine");
    }
}
