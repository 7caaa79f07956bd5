//! What outlives the process, as it lies in the state store: one key per load balancer's ledger, one for the endpoint
//! indexes, one per object that an API made or changed, one per override of an operator.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::inventory::{ApiResources, RESOURCES, Timestamp, resources_of};
use super::overrides::{OVERRIDES, OperatorOverrides};
use super::owner::chain;
use super::saved_error::SavedError;
use super::shared::{self, Shared};
use super::store::{
    Entry, ExpectedRevision, MAXIMUM_COMMIT_OPERATIONS, RangeView, Revision, StateKey, StateStore, StoreError, Txn,
};
use crate::model::GatewayId;
use crate::plan::PortAllocations;

/// Ledgers lie below this prefix, by the load balancer's id.
const PORTS: &str = "ports/";
/// Endpoint indexes.
const INDEXES: &str = "endpoints/indexes";

/// What the store has.
#[derive(Debug, Clone, Default)]
pub(super) struct Loaded {
    pub(super) held: PortAllocations,
    pub(super) resources: ApiResources,
    pub(super) overrides: OperatorOverrides,
}

/// What the store has of changes that others made, to be taken over.
#[derive(Debug)]
pub(super) struct Absorbed {
    pub(super) loaded: Loaded,
    written: Written,
    shared: Shared,
}

/// What a gateway went by before it took over what others changed.
pub(super) struct Earlier(Written, Option<Shared>);

type Written = BTreeMap<StateKey, (Bytes, Revision)>;

/// The store's copy of what is held, with the revisions that a save compares with.
#[derive(Debug)]
pub(super) struct Saved {
    store: Arc<dyn StateStore>,
    written: Written,
    /// The outcome of a commit is not known, so `written` has to be read again before anything is written.
    in_doubt: bool,
    /// Where several gateways share the store: what they go by. `None`: the store is this process' alone.
    shared: Option<Shared>,
    /// Why the last save that had something to write failed.
    pub(super) problem: watch::Sender<Option<String>>,
}

impl Saved {
    /// Reads what an earlier process held, what the APIs made, and the overrides. Its flows are gone with it, so nothing
    /// of it drains any more. `shared`: the gateway's id and the digest of its config, where the store is not its alone.
    pub(super) async fn load(
        store: Arc<dyn StateStore>,
        shared: Option<(GatewayId, String)>,
    ) -> Result<(Self, Loaded), SavedError> {
        let problem = watch::Sender::default();
        let shared = shared.map(|(id, config)| Shared::new(id, config));
        let mut saved = Self { store, written: BTreeMap::new(), in_doubt: false, shared: None, problem };
        let entries = saved.store.range("").await?.entries;
        let mut loaded = loaded(&entries)?;
        match shared {
            None => loaded.held.release_all(),
            Some(shared) => {
                let shared = shared.read(&entries).map_err(value_error)?;
                let is_alone = shared.known.iter().all(|known| *known == shared.id);
                if !is_alone && !shared.has_config_in_force(None) {
                    return Err(SavedError::OtherConfig);
                }
                saved.shared = Some(shared);
            }
        }
        saved.written = written(entries);
        Ok((saved, loaded))
    }

    /// Where several gateways share the store: this one's id.
    pub(super) fn gateway(&self) -> Option<&GatewayId> {
        self.shared.as_ref().map(|shared| &shared.id)
    }

    /// Whether this gateway does what only one may do: always where the store is its alone.
    pub(super) fn is_first(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.known.first() == Some(&shared.id))
    }

    /// Lets ports that drain wait for all gateways that may have them open.
    pub(super) fn wait_for_known(&self, held: &mut PortAllocations) {
        if let Some(shared) = &self.shared {
            let own = std::iter::once(shared.id.clone());
            held.wait_for(&shared.known.iter().cloned().chain(own).collect());
        }
    }

    /// Takes over another config's digest, to be written with the next save; the one before.
    pub(super) fn set_config(&mut self, config: impl FnOnce() -> String) -> Option<String> {
        self.shared.as_mut().map(|shared| std::mem::replace(&mut shared.config, config()))
    }

    /// Makes all of it durable: only what changed is written, all of it or nothing. A change that takes more operations
    /// than a commit may have is written in parts, new values first; a part that is not written is with the next save.
    ///
    /// # Errors
    ///
    /// After [`StoreError::OutcomeUnknown`] the next save first reads what the store has, and then makes it what is held.
    /// Where several gateways share the store, [`StoreError::Conflict`] when another one was first: [`Saved::absorb`].
    pub(super) async fn save(
        &mut self,
        held: &PortAllocations,
        resources: &ApiResources,
        overrides: &OperatorOverrides,
    ) -> Result<(), SavedError> {
        let mut wanted: BTreeMap<StateKey, Bytes> =
            resources.iter().map(|(text, value)| (key(text), value.clone().into())).collect();
        wanted.extend(overrides.saved().into_iter().map(|(text, value)| (key(&text), value.into())));
        for (service, ledger) in &held.ledgers {
            wanted.insert(key(&format!("{PORTS}{service}")), json(ledger));
        }
        if !held.indexes.is_empty() {
            wanted.insert(key(INDEXES), json(&held.indexes));
        }
        let is_due = self.shared.as_ref().is_some_and(Shared::is_due);
        if self.commits(&wanted).is_empty() && !is_due {
            return Ok(());
        }
        let outcome = self.write(&wanted, is_due).await;
        self.problem.send_replace(outcome.as_ref().err().map(|error| chain(error)));
        outcome
    }

    /// Saves what is held, and that `gateway` has nothing open any more: no port waits for it from now on.
    ///
    /// # Errors
    ///
    /// As [`Saved::save`]; the gateway is as known as it was.
    pub(super) async fn forget(
        &mut self,
        gateway: &GatewayId,
        held: &PortAllocations,
        resources: &ApiResources,
        overrides: &OperatorOverrides,
    ) -> Result<(), SavedError> {
        if let Some(shared) = &mut self.shared {
            shared.forgotten = Some(gateway.clone());
        }
        let outcome = self.save(held, resources, overrides).await;
        if let Some(shared) = &mut self.shared {
            shared.forgotten = None;
        }
        outcome
    }

    /// Whether `gateway` may have listeners open, as far as the state says.
    pub(super) fn knows(&self, gateway: &GatewayId) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.known.contains(gateway))
    }

    async fn write(&mut self, wanted: &BTreeMap<StateKey, Bytes>, is_due: bool) -> Result<(), SavedError> {
        if self.in_doubt && self.shared.is_none() {
            self.written = written(self.store.range("").await?.entries);
            self.in_doubt = false;
        }
        let mut commits = self.commits(wanted);
        if commits.is_empty() && is_due {
            commits.push(Txn::new());
        }
        for txn in commits {
            self.commit(txn).await?;
        }
        Ok(())
    }

    /// The transactions that make of what was written what is wanted.
    fn commits(&self, wanted: &BTreeMap<StateKey, Bytes>) -> Vec<Txn> {
        let before = |key: &StateKey| self.written.get(key);
        let puts = wanted.iter().filter(|(key, value)| before(key).is_none_or(|(written, _)| written != *value));
        let puts = puts.map(|(key, value)| {
            let expected = before(key).map_or(ExpectedRevision::Absent, |(_, at)| ExpectedRevision::At(*at));
            Txn::new().compare(key.clone(), expected).put(key.clone(), value.clone())
        });
        let deletes = self.written.iter().filter(|(key, _)| !wanted.contains_key(*key));
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
        let own = if self.shared.is_some() { shared::OPERATIONS } else { 0 };
        operations.chunks(MAXIMUM_COMMIT_OPERATIONS - own).map(merge).collect()
    }

    async fn commit(&mut self, txn: Txn) -> Result<(), SavedError> {
        if self.shared.is_some() {
            return self.commit_shared(txn).await;
        }
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
                (self.written, self.in_doubt) = (written(entries), false);
                let is_written =
                    |(key, value): &(StateKey, Bytes)| self.written.get(key).is_some_and(|(is, _)| is == value);
                let happened =
                    txn.puts.iter().all(is_written) && !txn.deletes.iter().any(|key| self.written.contains_key(key));
                if happened { Ok(()) } else { Err(StoreError::Unavailable { source }.into()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The same where others write too. A change whose outcome is not known and that is not there is sent once more: if
    /// the first one comes through after all, the second one conflicts with it.
    async fn commit_shared(&mut self, txn: Txn) -> Result<(), SavedError> {
        let Some(shared) = &mut self.shared else { return Ok(()) };
        let (marked, mark) = shared.mark(txn.clone());
        let mut sent = 0;
        let revision = loop {
            sent += 1;
            let error = match self.store.commit(marked.clone()).await {
                Ok(revision) => break revision,
                Err(error @ StoreError::OutcomeUnknown { .. }) => error,
                Err(error @ StoreError::Conflict { .. }) if sent > 1 => error,
                Err(error) => return Err(error.into()),
            };
            let Ok(RangeView { entries, .. }) = self.store.range("").await else { return Err(error.into()) };
            match shared.find(&mark, &entries) {
                // Others may have gone on since; what they left is absorbed later.
                Some(revision) => break revision,
                None if sent > 1 => return Err(error.into()),
                None => {}
            }
        };
        shared.happened(mark, revision);
        self.has_written(txn, revision);
        Ok(())
    }

    fn has_written(&mut self, txn: Txn, revision: Revision) {
        self.written.extend(txn.puts.into_iter().map(|(key, value)| (key, (value, revision))));
        txn.deletes.iter().for_each(|key| drop(self.written.remove(key)));
    }

    /// What others changed since; `None` when nothing. It counts as known once [`Saved::take_over`] has it.
    ///
    /// # Errors
    ///
    /// [`SavedError::OtherConfig`] when neither this gateway's config is in force nor the one with the digest `before`;
    /// [`SavedError::Lost`] when the store has less than this gateway saw.
    pub(super) async fn absorb(&self, before: Option<&str>) -> Result<Option<Absorbed>, SavedError> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let entries = self.store.range("").await?.entries;
        let found = shared.read(&entries).map_err(value_error)?;
        if found.seq() < shared.seq() {
            return Err(SavedError::Lost { seen: shared.seq(), found: found.seq() });
        }
        if found.head == shared.head {
            return Ok(None);
        }
        if !found.has_config_in_force(before) {
            return Err(SavedError::OtherConfig);
        }
        Ok(Some(Absorbed { loaded: loaded(&entries)?, written: written(entries), shared: found }))
    }

    /// What was absorbed is what this gateway goes by; what it went by before, for [`Saved::take_back`].
    pub(super) fn take_over(&mut self, absorbed: Absorbed) -> Earlier {
        let Absorbed { written, shared, .. } = absorbed;
        Earlier(std::mem::replace(&mut self.written, written), self.shared.replace(shared))
    }

    /// What was absorbed can't be in force: it is absorbed again later, and no change is made until then.
    pub(super) fn take_back(&mut self, Earlier(written, shared): Earlier) {
        (self.written, self.shared) = (written, shared);
    }
}

/// What entries of the store say; keys of others are left alone.
fn loaded(entries: &[Entry]) -> Result<Loaded, SavedError> {
    let mut held = PortAllocations::default();
    let (mut resources, mut overrides) = (Vec::new(), Vec::new());
    for entry in entries {
        let key = entry.key.as_str();
        if let Some(service) = key.strip_prefix(PORTS) {
            let wrong = |error| SavedError::Value { key: key.to_owned(), source: serde::de::Error::custom(error) };
            held.ledgers.insert(service.parse().map_err(wrong)?, read(entry)?);
        } else if key == INDEXES {
            held.indexes = read(entry)?;
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

fn value_error((key, source): (String, serde_json::Error)) -> SavedError {
    SavedError::Value { key, source }
}

fn key(text: &str) -> StateKey {
    text.parse().expect("constants and ids make keys")
}

fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).expect("ids are text, so maps keyed by them are JSON objects").into()
}

fn read<T: serde::de::DeserializeOwned>(entry: &Entry) -> Result<T, SavedError> {
    serde_json::from_slice(&entry.value)
        .map_err(|source| SavedError::Value { key: entry.key.as_str().to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::store::failing::{FailingStore, Failure};
    use super::*;

    const SERVICE: &str = "vpce-svc-02863655456245e5c";

    /// `n` objects that an API made.
    fn resources(n: usize) -> ApiResources {
        (0..n).map(|n| (format!("{RESOURCES}vpc/{n}"), n.to_string().into_bytes())).collect()
    }

    /// A ledger in which `port` is held.
    fn held(port: u16) -> PortAllocations {
        let ledger = format!(r#"{{"held":{{"Cluster0/a":{port}}},"draining":[]}}"#);
        let ledgers = [(SERVICE.parse().unwrap(), serde_json::from_str(&ledger).unwrap())].into();
        PortAllocations { ledgers, ..PortAllocations::default() }
    }

    struct Saver {
        store: Arc<FailingStore>,
        saved: Saved,
    }

    impl Saver {
        /// With one ledger and one object saved.
        async fn start() -> Self {
            let store = Arc::new(FailingStore::new());
            let (saved, _) = Saved::load(store.clone(), None).await.expect("an empty store");
            let mut saver = Self { store, saved };
            saver.save(1024, 1).await.expect("saved");
            saver
        }

        async fn save(&mut self, port: u16, objects: usize) -> Result<(), SavedError> {
            self.saved.save(&held(port), &resources(objects), &OperatorOverrides::default()).await
        }

        /// What another process would find.
        async fn there(&self) -> (PortAllocations, ApiResources) {
            let (_, loaded) = Saved::load(self.store.clone(), None).await.expect("readable");
            (loaded.held, loaded.resources)
        }
    }

    #[tokio::test]
    async fn what_is_saved_is_loaded_and_keys_of_others_are_left_alone() {
        let mut saver = Saver::start().await;
        let other = || key("gateways/a");
        saver.store.commit(Txn::new().put(other(), "1")).await.unwrap();
        assert_eq!(saver.there().await, (held(1024), resources(1)));
        let (mut saved, _) = Saved::load(saver.store.clone(), None).await.unwrap();
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
        saver.store.fail(Failure::Refused);
        saver.store.is_silent.store(true, Ordering::Relaxed);
        saver.save(1024, 1).await.expect("nothing to write");
    }

    #[tokio::test]
    async fn an_unavailable_store_refuses_the_change_and_takes_a_later_one() {
        let mut saver = Saver::start().await;
        saver.store.fail(Failure::Refused);
        let error = saver.save(1025, 2).await.expect_err("refused");
        assert!(matches!(error, SavedError::Store(StoreError::Unavailable { .. })), "{error:?}");
        assert_eq!(saver.there().await, (held(1024), resources(1)));
        saver.save(1026, 0).await.expect("saved");
        assert_eq!(saver.there().await, (held(1026), resources(0)));
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_found_out_by_reading() {
        let mut saver = Saver::start().await;
        saver.store.fail(Failure::Unanswered);
        saver.save(1025, 0).await.expect("it happened");
        assert_eq!(saver.there().await, (held(1025), resources(0)));
        saver.store.fail(Failure::Lost);
        let error = saver.save(1026, 0).await.expect_err("it did not happen");
        assert!(matches!(error, SavedError::Store(StoreError::Unavailable { .. })), "{error:?}");
        assert_eq!(saver.there().await, (held(1025), resources(0)));
        saver.save(1027, 3).await.expect("its revisions are known");
        assert_eq!(saver.there().await, (held(1027), resources(3)));
    }

    #[tokio::test]
    async fn nothing_is_written_until_an_outcome_is_known_and_then_the_store_has_what_is_held() {
        for failure in [Failure::Unanswered, Failure::Lost] {
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
        saver.store.fail(Failure::Unanswered);
        saver.save(1026, 0).await.expect("saved");
        assert_eq!(saver.there().await, (held(1026), resources(0)));
    }
}
