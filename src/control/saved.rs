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
use super::store::{
    Entry, ExpectedRevision, MAXIMUM_COMMIT_OPERATIONS, Revision, StateKey, StateStore, StoreError, Txn,
};
use crate::plan::PortAllocations;

/// Ledgers lie below this prefix, by the load balancer's id.
const PORTS: &str = "ports/";
/// Endpoint indexes.
const INDEXES: &str = "endpoints/indexes";

/// The store's copy of what is held, with the revisions that a save compares with.
#[derive(Debug)]
pub(super) struct Saved {
    store: Arc<dyn StateStore>,
    written: BTreeMap<StateKey, (Bytes, Revision)>,
    /// The outcome of a commit is not known, so `written` has to be read again before anything is written.
    in_doubt: bool,
    /// Why the last save that had something to write failed.
    pub(super) problem: watch::Sender<Option<String>>,
}

impl Saved {
    /// Reads what an earlier process held, what the APIs made, and the overrides. Its flows are gone with it, so nothing
    /// drains any more.
    pub(super) async fn load(
        store: Arc<dyn StateStore>,
    ) -> Result<(Self, PortAllocations, ApiResources, OperatorOverrides), SavedError> {
        let mut saved = Self { store, written: BTreeMap::new(), in_doubt: false, problem: watch::Sender::default() };
        let entries = saved.read().await?;
        let mut held = PortAllocations::default();
        let (mut resources, mut overrides) = (Vec::new(), Vec::new());
        for entry in entries {
            let key = entry.key.as_str();
            if let Some(service) = key.strip_prefix(PORTS) {
                let wrong = |error| SavedError::Value { key: key.to_owned(), source: serde::de::Error::custom(error) };
                held.ledgers.insert(service.parse().map_err(wrong)?, read(&entry)?);
            } else if key == INDEXES {
                held.indexes = read(&entry)?;
            } else if key.starts_with(RESOURCES) {
                resources.push(entry);
            } else {
                overrides.push(entry);
            }
        }
        held.release_all();
        let overrides = OperatorOverrides::load(&overrides, Timestamp::now())?;
        Ok((saved, held, resources_of(&resources), overrides))
    }

    /// Makes all of it durable: only what changed is written, all of it or nothing. A change that takes more operations
    /// than a commit may have is written in parts, new values first; a part that is not written is with the next save.
    ///
    /// # Errors
    ///
    /// After [`StoreError::OutcomeUnknown`] the next save first reads what the store has, and then makes it what is held.
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
        if self.commits(&wanted).is_empty() {
            return Ok(());
        }
        let outcome = self.write(&wanted).await;
        self.problem.send_replace(outcome.as_ref().err().map(|error| chain(error)));
        outcome
    }

    async fn write(&mut self, wanted: &BTreeMap<StateKey, Bytes>) -> Result<(), SavedError> {
        if self.in_doubt {
            self.read().await?;
        }
        for txn in self.commits(wanted) {
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
        operations.chunks(MAXIMUM_COMMIT_OPERATIONS).map(merge).collect()
    }

    async fn commit(&mut self, txn: Txn) -> Result<(), SavedError> {
        match self.store.commit(txn.clone()).await {
            Ok(revision) => {
                self.written.extend(txn.puts.into_iter().map(|(key, value)| (key, (value, revision))));
                txn.deletes.iter().for_each(|key| drop(self.written.remove(key)));
                Ok(())
            }
            Err(StoreError::OutcomeUnknown { source }) => {
                self.in_doubt = true;
                if self.read().await.is_err() {
                    return Err(StoreError::OutcomeUnknown { source }.into());
                }
                let is_written =
                    |(key, value): &(StateKey, Bytes)| self.written.get(key).is_some_and(|(is, _)| is == value);
                let happened =
                    txn.puts.iter().all(is_written) && !txn.deletes.iter().any(|key| self.written.contains_key(key));
                if happened { Ok(()) } else { Err(StoreError::Unavailable { source }.into()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what the store has of this, which ends a doubt. Keys of others are left alone.
    async fn read(&mut self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = self.store.range("").await?.entries;
        let prefixes = [PORTS, RESOURCES, OVERRIDES];
        entries.retain(|Entry { key, .. }| {
            key.as_str() == INDEXES || prefixes.iter().any(|prefix| key.as_str().starts_with(prefix))
        });
        self.written = entries.iter().map(|entry| (entry.key.clone(), (entry.value.clone(), entry.revision))).collect();
        self.in_doubt = false;
        Ok(entries)
    }
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
            let (saved, ..) = Saved::load(store.clone()).await.expect("an empty store");
            let mut saver = Self { store, saved };
            saver.save(1024, 1).await.expect("saved");
            saver
        }

        async fn save(&mut self, port: u16, objects: usize) -> Result<(), SavedError> {
            self.saved.save(&held(port), &resources(objects), &OperatorOverrides::default()).await
        }

        /// What another process would find.
        async fn there(&self) -> (PortAllocations, ApiResources) {
            let (_, held, resources, _) = Saved::load(self.store.clone()).await.expect("readable");
            (held, resources)
        }
    }

    #[tokio::test]
    async fn what_is_saved_is_loaded_and_keys_of_others_are_left_alone() {
        let mut saver = Saver::start().await;
        let other = || key("gateways/a");
        saver.store.commit(Txn::new().put(other(), "1")).await.unwrap();
        assert_eq!(saver.there().await, (held(1024), resources(1)));
        let (mut saved, ..) = Saved::load(saver.store.clone()).await.unwrap();
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
