//! What outlives the process, as it lies in the state store: one key per load balancer's ledger, one for the endpoint
//! indexes, one per object that an API made or changed, one for everything that an operator said.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::inventory::{MADE, Made, Moment, made_of};
use super::said::{SAID, Said};
use super::store::{Entry, ExpectedRevision, Revision, StateKey, StateStore, StoreError, Txn};
use crate::plan::Held;

/// Ledgers lie below this prefix, by the load balancer's id.
const PORTS: &str = "ports/";
/// Endpoint indexes.
const INDEXES: &str = "endpoints/indexes";

/// Why what is held could not be read or saved.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The store failed, or somebody else changed what this process holds.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value is not what this version writes.
    #[error("the saved value at `{key}` can't be read; it was not written by this version, and is left as it is")]
    Value {
        /// Where.
        key: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// The store's copy of what is held, with the revisions that a save compares with.
#[derive(Debug)]
pub(super) struct Saved {
    store: Arc<dyn StateStore>,
    written: BTreeMap<StateKey, (Vec<u8>, Revision)>,
}

impl Saved {
    /// Reads what an earlier process held, what was made, and what was said. Its flows are gone with it, so nothing
    /// drains any more.
    pub(super) async fn load(store: Arc<dyn StateStore>) -> Result<(Self, Held, Made, Said), SavedError> {
        let mut held = Held::default();
        let mut written = BTreeMap::new();
        let mut keep = |entry: &Entry| {
            written.insert(entry.key.clone(), (entry.value.to_vec(), entry.revision));
        };
        for entry in store.range(PORTS).await?.entries {
            let key = entry.key.as_str();
            let service = key
                .trim_start_matches(PORTS)
                .parse()
                .map_err(|error| SavedError::Value { key: key.to_owned(), source: serde::de::Error::custom(error) })?;
            held.ledgers.insert(service, read(&entry)?);
            keep(&entry);
        }
        if let Some(entry) = store.get(&key(INDEXES)).await? {
            held.indexes = read(&entry)?;
            keep(&entry);
        }
        held.release_all();
        let made = store.range(MADE).await?.entries;
        made.iter().for_each(&mut keep);
        let said = store.range(SAID).await?.entries;
        said.iter().for_each(&mut keep);
        let said = Said::load(&said, Moment::now())?;
        Ok((Self { store, written }, held, made_of(&made), said))
    }

    /// Makes all of it durable: only what changed is written, all of it or nothing.
    pub(super) async fn save(&mut self, held: &Held, made: &Made, said: &Said) -> Result<(), SavedError> {
        let mut wanted: BTreeMap<StateKey, Vec<u8>> =
            made.iter().map(|(text, value)| (key(text), value.clone())).collect();
        wanted.extend(said.made().into_iter().map(|(text, value)| (key(&text), value)));
        for (service, ledger) in &held.ledgers {
            wanted.insert(key(&format!("{PORTS}{service}")), json(ledger));
        }
        if !held.indexes.is_empty() {
            wanted.insert(key(INDEXES), json(&held.indexes));
        }
        let mut txn = Txn::new();
        for (key, value) in &wanted {
            let before = self.written.get(key);
            if before.is_none_or(|(bytes, _)| bytes != value) {
                let expected = before.map_or(ExpectedRevision::Absent, |(_, at)| ExpectedRevision::At(*at));
                txn = txn.compare(key.clone(), expected).put(key.clone(), value.clone());
            }
        }
        for (key, (_, at)) in self.written.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
            txn = txn.compare(key.clone(), ExpectedRevision::At(*at)).delete(key.clone());
        }
        if txn.puts.is_empty() && txn.deletes.is_empty() {
            return Ok(());
        }
        let changed: Vec<StateKey> = txn.puts.iter().map(|(key, _)| key.clone()).collect();
        let revision = self.store.commit(txn).await?;
        for key in changed {
            if let Some(value) = wanted.get(&key) {
                self.written.insert(key, (value.clone(), revision));
            }
        }
        self.written.retain(|key, _| wanted.contains_key(key));
        Ok(())
    }
}

fn key(text: &str) -> StateKey {
    text.parse().expect("constants and ids make keys")
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("ids are text, so maps keyed by them are JSON objects")
}

fn read<T: serde::de::DeserializeOwned>(entry: &Entry) -> Result<T, SavedError> {
    serde_json::from_slice(&entry.value)
        .map_err(|source| SavedError::Value { key: entry.key.as_str().to_owned(), source })
}
