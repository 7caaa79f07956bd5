//! The saved state in the state store: one key per load balancer's ledger, one for the endpoint indexes, one per object
//! that an API created or changed, one per override.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::chain::chain;
use super::inventory::{ApiResources, RESOURCES, Timestamp, resources_of};
use super::overrides::{OVERRIDES, OperatorOverrides};
use super::saved_error::SavedError;
use super::shared::{self, HEAD, Shared};
use super::store::{
    Entry, ExpectedRevision, MAXIMUM_COMMIT_OPERATIONS, RangeView, Revision, StateKey, StateStore, StoreError, Txn,
    json,
};
use crate::model::GatewayId;
use crate::plan::PortAllocations;

/// The prefix of ledgers, which are keyed by the load balancer's id.
const PORTS: &str = "ports/";
/// Endpoint indexes.
const INDEXES: &str = "endpoints/indexes";

/// Maximum number of keys of a change if several gateways share the store: it is one commit, so that the others see it
/// whole.
const MAXIMUM_SHARED_KEYS: usize = MAXIMUM_COMMIT_OPERATIONS - shared::OPERATIONS;

/// The state that was read from the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Loaded {
    pub(super) held: PortAllocations,
    pub(super) resources: ApiResources,
    pub(super) overrides: OperatorOverrides,
}

type Written = BTreeMap<StateKey, (Bytes, Revision)>;

/// The last known state of the store.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The values, with the revisions that a save compares.
    written: Written,
    /// The state that several gateways share. `None`: the store is not shared.
    shared: Option<Shared>,
}

impl Known {
    /// The config of all gateways; `None`: none is published, or the store is not shared.
    pub(super) fn config(&self) -> Option<&Bytes> {
        self.shared.as_ref().map(Shared::config).filter(|config| !config.is_empty())
    }
}

/// Access to the store.
#[derive(Debug)]
pub(super) struct SavedState {
    store: Arc<dyn StateStore>,
    pub(super) known: Known,
    /// The outcome of a commit is unknown, so `known` has to be read again before the next write.
    in_doubt: bool,
    /// Why the last save failed.
    pub(super) problem: watch::Sender<Option<String>>,
}

impl SavedState {
    /// Reads the state of an earlier process, the API's objects, and the overrides. If the store is not `shared`, the
    /// earlier process' flows are gone, so no port drains any more.
    pub(super) async fn load(store: Arc<dyn StateStore>, shared: Option<Shared>) -> Result<(Self, Loaded), SavedError> {
        let entries = store.range("").await?.entries;
        let shared = shared.map(|shared| shared.read(&entries)).transpose()?;
        let mut loaded = loaded(&entries)?;
        if shared.is_none() {
            loaded.held.release_all();
        }
        let known = Known { written: written(entries), shared };
        Ok((Self { store, known, in_doubt: false, problem: watch::Sender::default() }, loaded))
    }

    /// The state that several gateways share.
    pub(super) fn shared(&self) -> Option<&Shared> {
        self.known.shared.as_ref()
    }

    /// This gateway's id, if several gateways share the store.
    pub(super) fn gateway(&self) -> Option<&GatewayId> {
        self.shared().map(|shared| &shared.id)
    }

    /// Makes draining ports wait for all gateways that may have them open.
    pub(super) fn wait_for_known(&self, held: &mut PortAllocations) {
        if let Some(shared) = self.shared() {
            held.wait_for(&shared.gateways());
        }
    }

    /// Sets the config of all gateways, which the next save publishes; returns the previous one. Does nothing if the
    /// store is not shared.
    pub(super) fn set_config(&mut self, config: impl FnOnce() -> Bytes) -> Option<Bytes> {
        self.known.shared.as_mut().map(|shared| shared.set_config(config()))
    }

    /// Saves the state: only changes are written, all of them or none. A change with more operations than one commit
    /// may have is written in parts, new values first; a failed part is written with the next save. If several gateways
    /// share the store, such a change is refused, as the others would see half of it.
    ///
    /// # Errors
    ///
    /// After [`StoreError::OutcomeUnknown`] the next save first reads the store, and then overwrites it with the
    /// current state. If several gateways share the store, [`StoreError::Conflict`] when another one committed first:
    /// [`SavedState::read_changes`].
    pub(super) async fn save(
        &mut self,
        held: &PortAllocations,
        resources: &ApiResources,
        overrides: &OperatorOverrides,
    ) -> Result<(), SavedError> {
        let mut wanted: BTreeMap<StateKey, Bytes> =
            resources.iter().map(|(text, value)| (StateKey::own(text), value.clone().into())).collect();
        wanted.extend(overrides.saved().into_iter().map(|(text, value)| (StateKey::own(&text), value.into())));
        for (service, ledger) in &held.ledgers {
            wanted.insert(StateKey::own(&format!("{PORTS}{service}")), json(ledger).into());
        }
        if !held.indexes.is_empty() {
            wanted.insert(StateKey::own(INDEXES), json(&held.indexes).into());
        }
        if self.commits(&wanted).is_empty() {
            return Ok(());
        }
        let outcome = self.write(&wanted).await;
        self.problem.send_replace(outcome.as_ref().err().map(|error| chain(error)));
        outcome
    }

    /// Saves the state and removes `gateway` from the known ones: no port waits for it any more.
    ///
    /// # Errors
    ///
    /// As [`SavedState::save`]; the gateway is still known.
    pub(super) async fn forget(
        &mut self,
        gateway: &GatewayId,
        held: &PortAllocations,
        resources: &ApiResources,
        overrides: &OperatorOverrides,
    ) -> Result<(), SavedError> {
        if let Some(shared) = &mut self.known.shared {
            shared.forgotten = Some(gateway.clone());
        }
        let outcome = self.save(held, resources, overrides).await;
        if let Some(shared) = &mut self.known.shared {
            shared.forgotten = None;
        }
        outcome
    }

    /// Whether `gateway` may have listeners open, according to the state.
    pub(super) fn has_gateway(&self, gateway: &GatewayId) -> bool {
        self.shared().is_some_and(|shared| shared.has_gateway(gateway))
    }

    async fn write(&mut self, wanted: &BTreeMap<StateKey, Bytes>) -> Result<(), SavedError> {
        if self.in_doubt {
            self.known.written = written(self.store.range("").await?.entries);
            self.in_doubt = false;
        }
        for txn in self.commits(wanted) {
            if self.known.shared.is_some() {
                self.commit_shared(txn).await?;
            } else {
                self.commit_alone(txn).await?;
            }
        }
        Ok(())
    }

    /// The transactions that turn the saved state into `wanted`; a single one if several gateways share the store.
    fn commits(&self, wanted: &BTreeMap<StateKey, Bytes>) -> Vec<Txn> {
        let before = |key: &StateKey| self.known.written.get(key);
        let puts = wanted.iter().filter(|(key, value)| before(key).is_none_or(|(written, _)| written != *value));
        let puts = puts.map(|(key, value)| {
            let expected = before(key).map_or(ExpectedRevision::Absent, |(_, at)| ExpectedRevision::At(*at));
            Txn::new().compare(key.clone(), expected).put(key.clone(), value.clone())
        });
        let deletes = self.known.written.iter().filter(|(key, _)| !wanted.contains_key(*key));
        let deletes = deletes
            .map(|(key, (_, at))| Txn::new().compare(key.clone(), ExpectedRevision::At(*at)).delete(key.clone()));
        let operations: Vec<Txn> = puts.chain(deletes).collect();
        let merge = |operations: &[Txn]| {
            operations.iter().cloned().fold(Txn::new(), |mut txn, operation| {
                txn.compares.extend(operation.compares);
                txn.puts.extend(operation.puts);
                txn.deletes.extend(operation.deletes);
                txn
            })
        };
        match self.shared() {
            None => operations.chunks(MAXIMUM_COMMIT_OPERATIONS).map(merge).collect(),
            Some(shared) if operations.is_empty() && !shared.is_due() => Vec::new(),
            Some(_) => vec![merge(&operations)],
        }
    }

    async fn commit_alone(&mut self, txn: Txn) -> Result<(), SavedError> {
        match self.store.commit(txn.clone()).await {
            Ok(revision) => {
                self.has_written(txn, revision);
                Ok(())
            }
            Err(StoreError::OutcomeUnknown { source }) => {
                self.in_doubt = true;
                let Ok(RangeView { entries, .. }) = self.store.range("").await else {
                    return Err(StoreError::OutcomeUnknown { source }.into());
                };
                (self.known.written, self.in_doubt) = (written(entries), false);
                let is_written =
                    |(key, value): &(StateKey, Bytes)| self.known.written.get(key).is_some_and(|(is, _)| is == value);
                let committed = txn.puts.iter().all(is_written)
                    && !txn.deletes.iter().any(|key| self.known.written.contains_key(key));
                if committed { Ok(()) } else { Err(StoreError::Unavailable { source }.into()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The same for a shared store.
    async fn commit_shared(&mut self, txn: Txn) -> Result<(), SavedError> {
        let keys = txn.puts.len() + txn.deletes.len();
        if keys > MAXIMUM_SHARED_KEYS {
            return Err(SavedError::TooManyKeys { keys, most: MAXIMUM_SHARED_KEYS });
        }
        let Some(shared) = &mut self.known.shared else { return Ok(()) };
        let (marked, mark) = shared.mark(txn.clone());
        let revision = shared.send(&*self.store, &marked, &mark).await?;
        // Other gateways may have written since; their changes are absorbed later.
        shared.committed(mark, revision);
        self.has_written(txn, revision);
        Ok(())
    }

    fn has_written(&mut self, txn: Txn, revision: Revision) {
        let written = &mut self.known.written;
        written.extend(txn.puts.into_iter().map(|(key, value)| (key, (value, revision))));
        txn.deletes.iter().for_each(|key| drop(written.remove(key)));
    }

    /// Reads the changes of other gateways; `None` if there are none. They take effect with [`SavedState::replace_known`].
    /// # Errors
    ///
    /// Those of [`Shared::read`], and of invalid entries.
    pub(super) async fn read_changes(&self) -> Result<Option<(Loaded, Known)>, SavedError> {
        let Some(shared) = self.shared() else { return Ok(None) };
        let head = self.store.range(HEAD).await?.entries;
        if shared.is_at(head.first()) {
            return Ok(None);
        }
        self.read().await.map(Some)
    }

    /// Reads the whole state, which takes effect with [`SavedState::replace_known`].
    ///
    /// # Errors
    ///
    /// As [`SavedState::read_changes`].
    pub(super) async fn read(&self) -> Result<(Loaded, Known), SavedError> {
        let entries = self.store.range("").await?.entries;
        let shared = self.shared().map(|shared| shared.read(&entries)).transpose()?;
        Ok((loaded(&entries)?, Known { written: written(entries), shared }))
    }

    /// Replaces the known state; returns the previous one.
    pub(super) fn replace_known(&mut self, known: Known) -> Known {
        std::mem::replace(&mut self.known, known)
    }
}

/// Parses the entries of the store; keys of other programs are ignored.
fn loaded(entries: &[Entry]) -> Result<Loaded, SavedError> {
    let mut held = PortAllocations::default();
    let (mut resources, mut overrides) = (Vec::new(), Vec::new());
    for entry in entries {
        let key = entry.key.as_str();
        if let Some(service) = key.strip_prefix(PORTS) {
            let wrong = |error| SavedError::Value { key: key.to_owned(), source: serde::de::Error::custom(error) };
            held.ledgers.insert(service.parse().map_err(wrong)?, SavedError::read(entry)?);
        } else if key == INDEXES {
            held.indexes = SavedError::read(entry)?;
        } else if key.starts_with(RESOURCES) {
            resources.push(entry.clone());
        } else if key.starts_with(OVERRIDES) {
            overrides.push(entry.clone());
        }
    }
    let overrides = OperatorOverrides::load(&overrides, Timestamp::now())?;
    Ok(Loaded { held, resources: resources_of(&resources), overrides })
}

/// The state's own entries, with their revisions.
fn written(entries: Vec<Entry>) -> Written {
    let is_state = |key: &str| key == INDEXES || [PORTS, RESOURCES, OVERRIDES].iter().any(|own| key.starts_with(own));
    let own = entries.into_iter().filter(|entry| is_state(entry.key.as_str()));
    own.map(|entry| (entry.key, (entry.value, entry.revision))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::holder::Holder;
    use super::super::store::failing::{FailingStore, InjectedFailure};
    use super::*;

    const SERVICE: &str = "vpce-svc-02863655456245e5c";

    /// `n` objects of an API.
    fn resources(n: usize) -> ApiResources {
        (0..n).map(|n| (format!("{RESOURCES}vpc/{n}"), n.to_string().into_bytes())).collect()
    }

    /// A ledger with one assigned port.
    fn held(port: u16) -> PortAllocations {
        let ledger = format!(r#"{{"held":{{"Cluster0/a":{port}}},"draining":[]}}"#);
        let ledgers = [(SERVICE.parse().unwrap(), serde_json::from_str(&ledger).unwrap())].into();
        PortAllocations { ledgers, ..PortAllocations::default() }
    }

    struct Saver {
        store: Arc<FailingStore>,
        saved: SavedState,
    }

    impl Saver {
        /// Starts with one saved ledger and one saved object.
        async fn start() -> Self {
            let store = Arc::new(FailingStore::new());
            let (saved, _) = SavedState::load(store.clone(), None).await.expect("an empty store");
            let mut saver = Self { store, saved };
            saver.save(1024, 1).await.expect("saved");
            saver
        }

        async fn save(&mut self, port: u16, objects: usize) -> Result<(), SavedError> {
            self.saved.save(&held(port), &resources(objects), &OperatorOverrides::default()).await
        }

        /// The state that another process would read.
        async fn there(&self) -> (PortAllocations, ApiResources) {
            let (_, loaded) = SavedState::load(self.store.clone(), None).await.expect("readable");
            (loaded.held, loaded.resources)
        }
    }

    #[tokio::test]
    async fn saved_state_is_loaded_and_other_keys_are_left_alone() {
        let mut saver = Saver::start().await;
        let other = || StateKey::own("gateways/a");
        saver.store.commit(Txn::new().put(other(), "1")).await.unwrap();
        assert_eq!(saver.there().await, (held(1024), resources(1)));
        let (mut saved, _) = SavedState::load(saver.store.clone(), None).await.unwrap();
        saved
            .save(&PortAllocations::default(), &ApiResources::new(), &OperatorOverrides::default())
            .await
            .expect("saved");
        let left = saver.store.range("").await.unwrap().entries;
        assert_eq!(left.into_iter().map(|entry| entry.key).collect::<Vec<_>>(), [other()]);
        let conflict = saver.save(1025, 1).await.expect_err("another writer was first");
        assert!(matches!(conflict, SavedError::Store(StoreError::Conflict { .. })), "{conflict:?}");
    }

    #[tokio::test]
    async fn a_save_without_a_change_needs_no_store() {
        let mut saver = Saver::start().await;
        saver.store.fail(InjectedFailure::Refused);
        saver.store.is_silent.store(true, Ordering::Relaxed);
        saver.save(1024, 1).await.expect("nothing to write");
    }

    #[tokio::test]
    async fn an_unavailable_store_refuses_the_change_and_takes_a_later_one() {
        let mut saver = Saver::start().await;
        saver.store.fail(InjectedFailure::Refused);
        let error = saver.save(1025, 2).await.expect_err("refused");
        assert!(matches!(error, SavedError::Store(StoreError::Unavailable { .. })), "{error:?}");
        assert_eq!(saver.there().await, (held(1024), resources(1)));
        saver.save(1026, 0).await.expect("saved");
        assert_eq!(saver.there().await, (held(1026), resources(0)));
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_found_out_by_reading() {
        let mut saver = Saver::start().await;
        saver.store.fail(InjectedFailure::Unanswered);
        saver.save(1025, 0).await.expect("it happened");
        assert_eq!(saver.there().await, (held(1025), resources(0)));
        saver.store.fail(InjectedFailure::Lost);
        let error = saver.save(1026, 0).await.expect_err("it did not happen");
        assert!(matches!(error, SavedError::Store(StoreError::Unavailable { .. })), "{error:?}");
        assert_eq!(saver.there().await, (held(1025), resources(0)));
        saver.save(1027, 3).await.expect("its revisions are known");
        assert_eq!(saver.there().await, (held(1027), resources(3)));
    }

    #[tokio::test]
    async fn nothing_is_written_until_an_outcome_is_known_and_then_the_store_has_the_held_state() {
        for failure in [InjectedFailure::Unanswered, InjectedFailure::Lost] {
            let mut saver = Saver::start().await;
            saver.store.fail(failure);
            saver.store.is_silent.store(true, Ordering::Relaxed);
            let error = saver.save(1025, 2).await.expect_err("not known");
            assert!(matches!(error, SavedError::Store(StoreError::OutcomeUnknown { .. })), "{error:?}");
            let error = saver.save(1024, 0).await.expect_err("still not known");
            assert!(matches!(error, SavedError::Store(StoreError::Unavailable { .. })), "{error:?}");
            saver.store.is_silent.store(false, Ordering::Relaxed);
            saver.save(1024, 0).await.expect("known");
            assert_eq!(saver.there().await, (held(1024), resources(0)), "{failure:?}");
        }
    }

    #[tokio::test]
    async fn a_change_of_more_keys_than_a_commit_takes_is_saved_in_parts() {
        let mut saver = Saver::start().await;
        saver.save(1025, 300).await.expect("saved");
        assert_eq!(saver.there().await, (held(1025), resources(300)));
        saver.store.fail(InjectedFailure::Unanswered);
        saver.save(1026, 0).await.expect("saved");
        assert_eq!(saver.there().await, (held(1026), resources(0)));
    }

    /// One of several gateways on a store.
    async fn shared_saver() -> Saver {
        let store = Arc::new(FailingStore::new());
        let shared =
            Shared::join(&*store, "a".parse().unwrap(), Holder::new(None, None)).await.expect("the id is free");
        let (saved, _) = SavedState::load(store.clone(), Some(shared)).await.expect("an empty store");
        let mut saver = Saver { store, saved };
        saver.save(1024, 1).await.expect("saved");
        saver
    }

    /// The saved ports and objects, with the number of changes.
    async fn shared_state(store: &FailingStore) -> (PortAllocations, ApiResources, u64) {
        let entries = store.range("").await.expect("readable").entries;
        let head = entries.iter().find(|entry| entry.key.as_str() == HEAD).expect("a head");
        let head: serde_json::Value = serde_json::from_slice(&head.value).unwrap();
        let Loaded { held, resources, .. } = loaded(&entries).expect("readable");
        (held, resources, head["seq"].as_u64().unwrap())
    }

    #[tokio::test]
    async fn a_shared_change_happens_once_whatever_becomes_of_its_answers() {
        let mut saver = shared_saver().await;
        for failures in [
            &[InjectedFailure::Unanswered][..],
            &[InjectedFailure::Lost],
            &[InjectedFailure::Lost, InjectedFailure::Unanswered],
            &[InjectedFailure::Lost, InjectedFailure::Refused],
        ] {
            let (.., before) = shared_state(&saver.store).await;
            failures.iter().for_each(|failure| saver.store.fail(*failure));
            let port = 1025 + u16::try_from(before).unwrap();
            saver.save(port, 2).await.expect("it happens");
            assert_eq!(shared_state(&saver.store).await, (held(port), resources(2), before + 1), "{failures:?}");
        }
    }

    #[tokio::test]
    async fn a_shared_change_that_comes_through_late_is_unknown_and_not_overtaken() {
        let mut saver = shared_saver().await;
        let (.., before) = shared_state(&saver.store).await;
        saver.store.fail(InjectedFailure::Late);
        let error = saver.save(1025, 2).await.expect_err("the outcome stays unknown");
        assert!(matches!(error, SavedError::Store(StoreError::OutcomeUnknown { .. })), "{error:?}");
        saver.store.is_silent.store(false, Ordering::Relaxed);
        assert_eq!(shared_state(&saver.store).await, (held(1025), resources(2), before + 1));
        let error = saver.save(1026, 2).await.expect_err("what came through is to be taken over first");
        assert!(matches!(error, SavedError::Store(StoreError::Conflict { .. })), "{error:?}");
        let (found, known) = saver.saved.read_changes().await.expect("readable").expect("its own change");
        assert_eq!(found.held, held(1025));
        saver.saved.replace_known(known);
        saver.save(1026, 2).await.expect("saved");
        assert_eq!(shared_state(&saver.store).await, (held(1026), resources(2), before + 2));
    }

    #[tokio::test]
    async fn a_shared_change_of_more_keys_than_a_commit_takes_is_refused_and_changes_nothing() {
        let mut saver = shared_saver().await;
        let before = shared_state(&saver.store).await;
        let error = saver.save(1025, 300).await.expect_err("others would see half of it");
        assert!(matches!(error, SavedError::TooManyKeys { keys: 300, most: 120 }), "{error:?}");
        assert_eq!(shared_state(&saver.store).await, before);
        saver.save(1025, 100).await.expect("a smaller step");
    }
}
