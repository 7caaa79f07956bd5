//! Gateways that share a state: what another one changed comes into force here too.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::inventory::{Inventory, Timestamp};
use super::overrides::OperatorOverrides;
use super::owner::{ChangeError, Command, Owner, RETRY, chain};
use super::plane::Plane;
use super::saved::{Absorbed, Loaded};
use super::shared::HEAD;
use super::store::{StateStore, WatchEnd};
use crate::model::{Desired, Fault};
use crate::plan::Generation;

/// How often a config is tried again after others changed the state meanwhile.
const REBASES: usize = 100;

/// Tells the owner, by [`Command::Follow`], that the shared state may have changed, until `stop`.
pub(super) async fn watch(
    store: Arc<dyn StateStore>,
    commands: mpsc::UnboundedSender<Command>,
    stop: CancellationToken,
) {
    let work = async {
        loop {
            // What changes before the watch begins is not missed: the owner reads all there is.
            let outcome = async {
                let now = store.range(HEAD).await?.revision;
                store.watch(HEAD, now).await
            };
            let mut watch = match outcome.await {
                Ok(watch) => watch,
                Err(error) => {
                    tracing::debug!(reason = chain(&error), "cannot watch the shared state; trying again");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            loop {
                // The owner is gone only when the process stops.
                let _ = commands.send(Command::Follow);
                match watch.next().await {
                    Ok(_) => {}
                    Err(WatchEnd::Lagged) => break,
                    Err(WatchEnd::Closed) => return,
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// What the gateways that share a state must have in common of their configs, as one text: the inventory and the faults.
pub(super) fn digest(base: &Inventory, faults: &BTreeMap<String, Arc<Fault>>) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for (key, value) in base.resources(&Inventory::default()) {
        context.update(key.as_bytes());
        context.update(&value);
    }
    context.update(format!("{:?}", base.fixed).as_bytes());
    context.update(&serde_json::to_vec(faults).expect("faults have text keys and no failing serializers"));
    hex::encode(context.finish())
}

impl<P: Plane> Owner<P> {
    /// Whether a change that lost against another gateway's can be made again: that one's is in force now.
    pub(super) async fn can_replay(&mut self) -> bool {
        let shares = self.saved.gateway().is_some();
        shares && self.follow().await.inspect_err(log).is_ok()
    }

    pub(super) async fn follow_or_log(&mut self) {
        let outcome = self.follow().await;
        if let Err(error) = &outcome {
            log(error);
            self.later(RETRY, Command::Follow);
        }
        self.saved.problem.send_if_modified(|problem| {
            let now = outcome.as_ref().err().map(|error| chain(error));
            std::mem::replace(problem, now.clone()) != now
        });
    }

    /// Puts in force what other gateways changed.
    async fn follow(&mut self) -> Result<(), ChangeError> {
        let Some(absorbed) = self.saved.absorb(None).await? else { return Ok(()) };
        self.take_over(absorbed).await
    }

    /// Takes over a config: the one of all gateways from now on, where several share the state.
    pub(super) async fn reload(&mut self, config: &Desired) -> Result<Generation, ChangeError> {
        let before = self.saved.set_config(|| digest(&Inventory::from_config(config), &config.faults));
        let outcome = self.rebase_on_latest(config, before.as_deref()).await;
        if let (Err(_), Some(before)) = (&outcome, before) {
            self.saved.set_config(|| before);
        }
        outcome
    }

    /// Takes over a config, on what other gateways left meanwhile; `before`: the digest of the one before it.
    pub(super) async fn rebase_on_latest(
        &mut self,
        config: &Desired,
        before: Option<&str>,
    ) -> Result<Generation, ChangeError> {
        let mut outcome = Box::pin(self.rebase(config)).await;
        for _ in 0..REBASES {
            if self.saved.gateway().is_none() || !outcome.as_ref().is_err_and(ChangeError::is_conflict) {
                break;
            }
            let Some(absorbed) = self.saved.absorb(before).await? else { break };
            let overrides = self.overrides_after(&absorbed.loaded);
            let Loaded { held, resources, .. } = absorbed.loaded.clone();
            let own = (
                std::mem::replace(&mut self.held, held),
                std::mem::replace(&mut self.resources, resources),
                std::mem::replace(&mut self.overrides, overrides),
                self.saved.take_over(absorbed),
            );
            outcome = Box::pin(self.rebase(config)).await;
            if outcome.is_err() {
                (self.held, self.resources, self.overrides) = (own.0, own.1, own.2);
                self.saved.take_back(own.3);
            }
        }
        outcome
    }

    /// The overrides that others left, going on where they are the same.
    fn overrides_after(&self, loaded: &Loaded) -> OperatorOverrides {
        loaded.overrides.clone().over(&self.configured_faults, Timestamp::now()).keeping_progress_of(&self.overrides)
    }

    async fn take_over(&mut self, absorbed: Absorbed) -> Result<(), ChangeError> {
        let loaded = &absorbed.loaded;
        let inventory = self.base.clone().with(&loaded.resources)?;
        let overrides = self.overrides_after(loaded);
        let mut desired = self.desired_of(&inventory);
        overrides.apply_to(&mut desired);
        let before = (
            std::mem::replace(&mut self.resources, loaded.resources.clone()),
            std::mem::replace(&mut self.overrides, overrides),
        );
        let held = loaded.held.clone();
        // Known first, so that ports which are idle here are released on top of it.
        let earlier = self.saved.take_over(absorbed);
        if let Err(error) = self.put_in_force(desired, Some(&held)).await {
            (self.resources, self.overrides) = before;
            self.saved.take_back(earlier);
            return Err(error);
        }
        self.pace.send_replace(self.overrides.pace.unwrap_or(self.configured_pace));
        self.published_overrides.send_replace(Arc::new(self.overrides.clone()));
        self.inventory = Arc::new(inventory);
        self.inventories.send_replace(Arc::clone(&self.inventory));
        self.start_clocks();
        Ok(())
    }
}

fn log(error: &ChangeError) {
    tracing::error!(reason = chain(error), "what another gateway changed is not in force here; it is tried again soon");
}
