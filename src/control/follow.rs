//! Applies the changes that other gateways make to a shared state.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::chain::chain;
use super::config_base::ConfigBase;
use super::draft::EditError;
use super::events::{EventKind, Severity};
use super::inventory::Timestamp;
use super::owner::{ChangeError, Command, Decision, MAX_REPLAYS, Owner, RETRY_DELAY};
use super::plane::Plane;
use super::saved::{Known, Loaded};
use super::saved_error::SavedError;
use super::shared::{HEAD, Shared, SharedStatus};
use super::store::{Entry, StateStore, StoreError};
use crate::model::Desired;
use crate::plan::Generation;

/// Maximum number of attempts to start while other gateways change the state.
const START_ATTEMPTS: usize = 100;

/// How often the latest change is read when the watch is silent. It detects a store that does not answer, and one that was
/// restored from a backup, whose watch stays silent.
const READ_INTERVAL: Duration = Duration::from_secs(2);

/// Sends the latest change of the shared state to the owner by [`Command::Follow`], until `stop`, and records in
/// `status` whether the store answers. Changes are handled one at a time, so a failed one is retried once, however many
/// changes follow it.
pub(super) async fn watch(
    store: Arc<dyn StateStore>,
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Sender<SharedStatus>,
    stop: CancellationToken,
) {
    let work = async {
        let mut answered = Timestamp::now();
        let mut changes = None;
        loop {
            let wait = match store.range(HEAD).await {
                Err(error) => {
                    record_unreachable(&status, answered, &error);
                    RETRY_DELAY
                }
                Ok(view) => {
                    answered = Timestamp::now();
                    status.send_if_modified(|status| status.unreachable.take().is_some());
                    let (done, followed) = oneshot::channel();
                    let head = view.entries.into_iter().next();
                    // The owner is gone only if the process is stopping.
                    let _ = commands.send(Command::Follow { head, done });
                    if changes.is_none() {
                        match store.changes(HEAD).await {
                            // The head is read again: a change may have come before the stream began.
                            Ok(begun) => {
                                changes = Some((begun, Instant::now()));
                                let _ = followed.await;
                                continue;
                            }
                            Err(error) => tracing::debug!(
                                reason = chain(&error),
                                "failed to watch the state store: its latest change is read at intervals"
                            ),
                        }
                    }
                    if followed.await.unwrap_or(true) && changes.is_some() { READ_INTERVAL } else { RETRY_DELAY }
                }
            };
            let Some((stream, begun)) = &mut changes else {
                tokio::time::sleep(wait).await;
                continue;
            };
            if let Ok(None) = timeout(wait, stream.next()).await {
                let lasted = begun.elapsed();
                changes = None;
                // A store that ends each watch at once is asked no more often than one without a watch.
                tokio::time::sleep(RETRY_DELAY.saturating_sub(lasted)).await;
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Records that the store does not answer, and since when.
fn record_unreachable(status: &watch::Sender<SharedStatus>, answered: Timestamp, error: &StoreError) {
    let reason = match error {
        StoreError::Unavailable { source } => chain(source.as_ref()),
        error => chain(error),
    };
    status.send_if_modified(|status| {
        if status.unreachable.is_none() {
            tracing::error!(
                reason,
                "the state store does not answer: the current state stays in force, changes are refused"
            );
        }
        let now = Some((answered, reason));
        std::mem::replace(&mut status.unreachable, now.clone()) != now
    });
}

impl<P: Plane> Owner<P> {
    /// Applies the loaded state, as this gateway's first change. If several gateways share the state, their shared
    /// config applies; if there is none, or no other gateway, the config of the file.
    pub(super) async fn start(&mut self, file: ConfigBase, mut loaded: Loaded) -> Result<(), ChangeError> {
        for tries in 1.. {
            let mut config = file.clone();
            if let Some(published) = self.saved.known.config() {
                let published = ConfigBase::read(published)?;
                if published == file || self.saved.shared().is_some_and(|shared| !shared.is_alone()) {
                    config = published;
                } else {
                    self.saved.set_config(|| file.publish());
                }
            } else {
                self.saved.set_config(|| file.publish());
            }
            (self.held, self.resources, self.overrides) = (loaded.held, loaded.resources, loaded.overrides);
            match Box::pin(self.rebase(config)).await {
                Err(error) if self.lost_race(&error) && tries < START_ATTEMPTS => {}
                outcome => {
                    outcome?;
                    break;
                }
            }
            // Another gateway changed the state meanwhile.
            let (found, known) = self.saved.read().await?;
            loaded = found;
            self.saved.replace_known(known);
        }
        self.file = self.saved.gateway().is_some().then_some(file);
        self.publish_status(None);
        Ok(())
    }

    /// Applies a config. If several gateways share the state, it becomes the config of all.
    pub(super) async fn reload(&mut self, config: &Desired) -> Result<Generation, ChangeError> {
        let wanted = ConfigBase::of(config);
        if self.saved.gateway().is_none() {
            return Box::pin(self.rebase(wanted)).await;
        }
        self.file = Some(wanted.clone());
        self.catch_up().await?;
        let before = self.config.clone();
        for replays in 0.. {
            let published = if wanted == self.config { self.saved.known.config().cloned() } else { None };
            let earlier = self.saved.set_config(|| published.unwrap_or_else(|| wanted.publish()));
            let outcome = Box::pin(self.rebase(wanted.clone())).await;
            let Err(error) = outcome else { return outcome };
            if let Some(earlier) = earlier {
                self.saved.set_config(|| earlier);
            }
            if !self.lost_race(&error) || replays == MAX_REPLAYS {
                return Err(error);
            }
            self.catch_up().await?;
            if self.config != before && self.config != wanted {
                let by = self.saved.shared().and_then(|shared| shared.latest_by()).map(ToString::to_string);
                let by = by.unwrap_or_default();
                let text = format!(
                    "gateway `{by}` changed the config of all gateways at the same time, and that one is in force; reload again \
                     to put this file in its place"
                );
                return Err(EditError::Conflict(text).into());
            }
        }
        unreachable!("the last replay returns")
    }

    /// Whether another gateway's change came first, so that this one must be repeated on the new state.
    pub(super) fn lost_race(&self, error: &ChangeError) -> bool {
        self.saved.gateway().is_some() && error.is_conflict()
    }

    /// Applies the changes of other gateways, so that the next change is decided on the latest state. Does nothing if
    /// the store is not shared.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Save`] when the store can't be read, so that no change is possible.
    pub(super) async fn catch_up(&mut self) -> Result<(), ChangeError> {
        let unreachable = self.shared_status.borrow().unreachable.clone();
        if let Some((_, reason)) = unreachable {
            // Without a request to the store, so that health results do not wait behind changes that can't be saved.
            return Err(SavedError::from(StoreError::Unavailable { source: reason.into() }).into());
        }
        let Some((loaded, known)) = self.saved.read_changes().await? else { return Ok(()) };
        match self.apply_loaded(loaded, known).await {
            Ok(()) => Ok(()),
            Err(error @ ChangeError::Save(_)) => Err(error),
            Err(error) => Err(SavedError::NotFollowed { reason: chain(&error) }.into()),
        }
    }

    /// Whether the shared store does not answer, so that changes have to wait.
    pub(super) fn is_store_unreachable(&self) -> bool {
        self.shared_status.borrow().unreachable.is_some()
    }

    /// Applies the shared state at `head`. Returns false when that failed and should be retried.
    pub(super) async fn follow(&mut self, head: Option<Entry>) -> bool {
        let is_at_head = self.saved.shared().is_none_or(|shared| shared.is_at(head.as_ref()));
        let mut outcome = if is_at_head { Ok(()) } else { self.catch_up().await };
        if outcome.is_ok() {
            // Releases ports that became idle while the store did not answer.
            self.release_idle_ports().await;
        }
        if outcome.is_ok() && self.saved.shared().is_some_and(Shared::is_due) {
            // This gateway was forgotten while it was away.
            outcome = self.saved.save(&self.held, &self.resources, &self.overrides).await.map_err(ChangeError::Save);
        }
        if outcome.is_ok() && !self.unbound.is_empty() {
            // Another process may have freed the addresses.
            let held = self.held.clone();
            outcome = self.apply_decided(self.desired.clone(), Decision::Elsewhere(&held)).await.map(drop);
        }
        if let Err(error) = &outcome {
            self.is_taken = matches!(error, ChangeError::Save(SavedError::Taken { .. }));
            let reason = chain(error);
            if self.shared_status.borrow().behind.as_ref() != Some(&reason) {
                tracing::error!(reason, "failed to apply a change of another gateway; retrying");
            }
        }
        let is_done = outcome.is_ok() && self.unbound.is_empty();
        self.publish_status(outcome.err().as_ref());
        is_done
    }

    /// Publishes this gateway's access to the shared state. `error`: why it can't follow.
    pub(super) fn publish_status(&self, error: Option<&ChangeError>) {
        let Some(shared) = self.saved.shared() else { return };
        let file_differs = self.file.as_ref().is_some_and(|file| *file != self.config);
        self.shared_status.send_if_modified(|status| {
            let now = SharedStatus {
                gateway: Some(shared.id.clone()),
                applied: shared.seq(),
                unreachable: status.unreachable.clone(),
                behind: error.map(|error| chain(error)),
                unbound: self.unbound.values().cloned().collect(),
                file_differs,
            };
            std::mem::replace(status, now.clone()) != now
        });
    }

    async fn apply_loaded(&mut self, loaded: Loaded, known: Known) -> Result<(), ChangeError> {
        let config = match known.config() {
            Some(published) if self.saved.known.config() != Some(published) => ConfigBase::read(published)?,
            _ => self.config.clone(),
        };
        let is_other_config = config != self.config;
        let inventory = config.inventory.clone().with(&loaded.resources)?;
        let overrides = loaded.overrides.over(&config.faults, Timestamp::now()).keeping_progress_of(&self.overrides);
        let mut desired = self.desired_of(&inventory);
        overrides.apply_to(&mut desired);
        // Updated first, so that idle ports are released on the new state.
        let before = (
            self.saved.replace_known(known),
            std::mem::replace(&mut self.config, config),
            std::mem::replace(&mut self.resources, loaded.resources),
            std::mem::replace(&mut self.overrides, overrides),
        );
        if let Err(error) = self.apply_decided(desired, Decision::Elsewhere(&loaded.held)).await {
            self.saved.replace_known(before.0);
            (self.config, self.resources, self.overrides) = (before.1, before.2, before.3);
            return Err(error);
        }
        if is_other_config {
            tracing::info!("config of another gateway applied");
            let message = "the config published by another gateway is in force".to_owned();
            self.events.record(EventKind::Reload, Severity::Info, "", message);
        }
        self.publish_overrides();
        self.inventory = Arc::new(inventory);
        self.inventories.send_replace(Arc::clone(&self.inventory));
        self.start_clocks();
        Ok(())
    }

    /// Publishes the overrides.
    pub(super) fn publish_overrides(&self) {
        self.pace.send_replace(self.overrides.pace.unwrap_or(self.configured_pace));
        self.published_overrides.send_replace(Arc::new(self.overrides.clone()));
    }
}
