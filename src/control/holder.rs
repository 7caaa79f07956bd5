//! The process that serves as a gateway. Two processes with one gateway id would release each other's ports, so the second one is
//! refused at its start, and one that was cut off while another took its id ends.
//!
//! A process writes its key every [`BEAT`]. One that starts takes over a key that was not written for [`LEASE`], by its own monotonic
//! clock: no two clocks are compared, and the store needs no leases. It does so in the transaction of its first change, which
//! rewrites the head of all changes: so whatever the earlier process still sends conflicts.

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

/// By gateway: its [`Holder`].
pub(super) const HOLDERS: &str = "holders/";

/// How often a process writes its key.
const BEAT: Duration = Duration::from_secs(3);

/// A key that was not written for so long is free.
const LEASE: Duration = Duration::from_secs(10);

/// How often a process that starts reads the key of its id.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// How long giving up the key may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a process says of itself while it serves as a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    /// Random: tells the process from an earlier one.
    process: String,
    /// The program's version.
    version: String,
    /// Where its admin API is, as a URL; `None`: it has none.
    admin: Option<String>,
    /// When it started, by its own clock.
    started: Timestamp,
    /// How often it has written its key.
    beat: u64,
}

impl Holder {
    /// This process.
    pub(super) fn new(admin: Option<String>) -> Self {
        let mut process = [0; 8];
        SystemRandom::new().fill(&mut process).expect("the system's generator was seeded at boot");
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { process: hex::encode(process), version, admin, started: Timestamp::now(), beat: 0 }
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

/// Waits until no process serves as `id`; what its key is then.
///
/// # Errors
///
/// [`SavedError::Taken`] as soon as one shows that it is there.
pub(super) async fn vacancy(store: &dyn StateStore, id: &GatewayId) -> Result<ExpectedRevision, SavedError> {
    let mut first: Option<(Revision, Instant)> = None;
    loop {
        let Some((holder, at)) = read(store, id).await? else { return Ok(ExpectedRevision::Absent) };
        match first {
            None => {
                let seconds = LEASE.as_secs();
                tracing::info!(gateway = %id, seconds, "an earlier process served as this gateway; waiting whether it is gone");
                first = Some((at, Instant::now()));
            }
            Some((before, _)) if before != at => return Err(holder.taken(id)),
            Some((_, since)) if since.elapsed() >= LEASE => return Ok(ExpectedRevision::At(at)),
            Some(_) => {}
        }
        sleep(READ_INTERVAL).await;
    }
}

/// Writes the key of `id`, last written at `at`, until the process has `left`, and then gives it up.
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
            sleep(BEAT).await;
            holder.beat += 1;
            let beat = Txn::new().compare(key.clone(), ExpectedRevision::At(at)).put(key.clone(), json(&holder));
            match store.commit(beat).await {
                Ok(revision) => at = revision,
                // An earlier one came through unnoticed, or the gateway joined again; if another process took the id, the owner
                // finds that out from the change by which it did.
                Err(StoreError::Conflict { .. }) => match read(&*store, &id).await {
                    Ok(Some((found, _))) if found.process != holder.process => return,
                    Ok(Some((_, revision))) => at = revision,
                    Ok(None) | Err(_) => {}
                },
                Err(error) => {
                    tracing::debug!(reason = super::chain::chain(&error), "cannot say that this gateway is there")
                }
            }
        }
    };
    if left.run_until_cancelled(work).await.is_none() {
        let gone = Txn::new().compare(key.clone(), ExpectedRevision::At(at)).delete(key);
        // Where it can't be given up it is free once the lease is over.
        let _ = timeout(LEAVE_TIMEOUT, store.commit(gone)).await;
    }
}
