//! The data of the nodes of a set, or of the `mongos` of a cluster: databases of collections, in memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use tokio::time::Instant;

use super::MAX_DOCUMENT;
use super::error::{CommandError, CommandResult};
use super::order::OrderedBson;

/// Maximum size of the data, in bytes of BSON, to protect the host.
const CAPACITY: usize = 256 * 1024 * 1024;
/// Maximum number of sessions whose last write is kept for retries.
const SESSIONS: usize = 10_000;

/// Counts of a set of stand-in nodes since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct StandInCounts {
    /// Connections that sent at least one message.
    pub connections: u64,
    /// Commands of any kind but `hello`.
    pub commands: u64,
    /// Documents inserted.
    pub inserted: u64,
    /// Documents sent as results of reads.
    pub found: u64,
    /// Documents changed by updates.
    pub updated: u64,
    /// Documents deleted.
    pub deleted: u64,
}

/// The data of a node of a set, or a `mongos` of a cluster: databases, and the last write of every session.
///
/// All nodes share one copy, so that a write is on every node at once. An isolated member gets its own copy
/// ([`fork`](Self::fork)), which is rolled back if another primary was elected meanwhile ([`join`](Self::join)).
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    counts: Arc<Mutex<StandInCounts>>,
    copies: Arc<ReplicaData>,
    member: usize,
}

#[derive(Debug, Default)]
struct ReplicaData {
    /// Locked before `data` where both are.
    retries: Mutex<Replicated<Retries>>,
    data: Mutex<Replicated<StoreData>>,
}

/// By session: its latest retryable write, with its reply and when it was.
type Retries = HashMap<Vec<u8>, (i64, Document, Instant)>;

/// A value that members share, and the copies of isolated members.
#[derive(Debug, Default)]
struct Replicated<T> {
    shared: T,
    forks: BTreeMap<usize, T>,
}

impl<T: Clone> Replicated<T> {
    fn of(&self, member: usize) -> &T {
        self.forks.get(&member).unwrap_or(&self.shared)
    }

    fn of_mut(&mut self, member: usize) -> &mut T {
        self.forks.get_mut(&member).unwrap_or(&mut self.shared)
    }

    fn fork(&mut self, member: usize) {
        let copy = self.shared.clone();
        self.forks.entry(member).or_insert(copy);
    }

    /// Ends a member's own copy: it becomes the shared one, or is discarded.
    fn join(&mut self, member: usize, keep: bool) {
        if let Some(copy) = self.forks.remove(&member).filter(|_| keep) {
            self.shared = copy;
        }
    }
}

/// A member's data, locked.
pub(super) struct DataGuard<'a> {
    copies: MutexGuard<'a, Replicated<StoreData>>,
    member: usize,
}

impl Deref for DataGuard<'_> {
    type Target = StoreData;

    fn deref(&self) -> &StoreData {
        self.copies.of(self.member)
    }
}

impl DerefMut for DataGuard<'_> {
    fn deref_mut(&mut self) -> &mut StoreData {
        self.copies.of_mut(self.member)
    }
}

impl Store {
    /// The store as `member` sees it.
    pub(super) fn of(&self, member: usize) -> Self {
        Self { member, ..self.clone() }
    }

    /// The counts, to be read or added to.
    pub(super) fn counts(&self) -> MutexGuard<'_, StandInCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the data for one command, which makes it atomic.
    pub(super) fn data(&self) -> DataGuard<'_> {
        let copies = self.copies.data.lock().unwrap_or_else(PoisonError::into_inner);
        DataGuard { copies, member: self.member }
    }

    fn retries(&self) -> MutexGuard<'_, Replicated<Retries>> {
        self.copies.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The member is isolated: from now on, its writes and the others' are separate.
    pub(super) fn fork(&self) {
        let (mut retries, mut data) = (self.retries(), self.data());
        retries.fork(self.member);
        data.copies.fork(self.member);
        data.forked_at = data.version;
    }

    /// The member is reconnected. Its own writes are kept if the others neither wrote nor elected a primary; otherwise
    /// they are rolled back, with the records of its retryable writes. (*Rollbacks* in the MongoDB manual.)
    pub(super) fn join(&self) {
        let (mut retries, mut data) = (self.retries(), self.data());
        let (base, alone) = (data.forked_at, data.version);
        let keep = data.copies.shared.version == base;
        retries.join(self.member, keep);
        data.copies.join(self.member, keep);
        if !keep && alone > base {
            data.rollbacks += 1;
            tracing::info!(member = self.member, "stand-in member rolls back the writes made while it was isolated");
        }
    }

    /// The member was elected: a primary's term begins with a write.
    pub(super) fn elected(&self) {
        self.data().resize(0, 0);
    }

    /// Runs a retryable write once: the same number in the same session gets the first run's reply.
    ///
    /// A driver repeats a write whose reply it did not get, as when the connection was reset on the way.
    pub(super) fn run_once(&self, session: &[u8], number: i64, write: impl FnOnce() -> CommandResult) -> CommandResult {
        let mut copies = self.retries();
        let retries = copies.of_mut(self.member);
        if let Some((last, reply, _)) = retries.get(session) {
            if number == *last {
                return Ok(reply.clone());
            }
            if number < *last {
                let message = format!("Cannot start transaction {number}, transaction {last} has already started");
                return Err(CommandError::new(225, "TransactionTooOld", message));
            }
        }
        let reply = write()?;
        if retries.len() >= SESSIONS && !retries.contains_key(session) {
            // Removes the older half, which is least likely to be retried.
            let mut times: Vec<Instant> = retries.values().map(|(_, _, at)| *at).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            retries.retain(|_, (_, _, at)| *at >= middle);
        }
        retries.insert(session.to_owned(), (number, reply.clone(), Instant::now()));
        Ok(reply)
    }

    /// Forgets a session.
    pub(super) fn end_session(&self, session: &[u8]) {
        self.retries().of_mut(self.member).remove(session);
    }
}

/// All databases.
#[derive(Debug, Clone)]
pub(super) struct StoreData {
    databases: BTreeMap<String, BTreeMap<String, Collection>>,
    bytes: usize,
    last_write: DateTime,
    /// Incremented with every write.
    version: u64,
    /// The version from which a member's own copy was forked.
    forked_at: u64,
    /// How often a member rolled back.
    rollbacks: u64,
}

impl Default for StoreData {
    fn default() -> Self {
        let (version, forked_at, rollbacks) = (0, 0, 0);
        Self { databases: BTreeMap::new(), bytes: 0, last_write: DateTime::now(), version, forked_at, rollbacks }
    }
}

impl StoreData {
    /// When something was last written.
    pub(super) fn last_write(&self) -> DateTime {
        self.last_write
    }

    /// How often members of the set rolled back.
    pub(super) fn rollbacks(&self) -> u64 {
        self.rollbacks
    }

    /// Databases by name.
    pub(super) fn databases(&self) -> &BTreeMap<String, BTreeMap<String, Collection>> {
        &self.databases
    }

    /// The collection, where it exists.
    pub(super) fn collection(&self, db: &str, name: &str) -> Option<&Collection> {
        self.databases.get(db)?.get(name)
    }

    /// The collection, made where it does not exist.
    pub(super) fn make_collection(&mut self, db: &str, name: &str) -> Result<&mut Collection, CommandError> {
        check_names(db, name)?;
        Ok(self.databases.entry(db.to_owned()).or_default().entry(name.to_owned()).or_default())
    }

    /// Removes the collection; false if it did not exist.
    pub(super) fn drop_collection(&mut self, db: &str, name: &str) -> bool {
        let Some(collections) = self.databases.get_mut(db) else {
            return false;
        };
        let Some(dropped) = collections.remove(name) else {
            return false;
        };
        if collections.is_empty() {
            self.databases.remove(db);
        }
        self.resize(dropped.bytes(), 0);
        true
    }

    /// Removes the database.
    pub(super) fn drop_database(&mut self, db: &str) {
        let names: Vec<String> = self.databases.get(db).into_iter().flat_map(|all| all.keys().cloned()).collect();
        for name in names {
            self.drop_collection(db, &name);
        }
    }

    /// Adds a document, with an `_id` in front; returns that.
    pub(super) fn insert(&mut self, db: &str, name: &str, document: Document) -> Result<Bson, CommandError> {
        let document = with_id(document)?;
        let size = self.check_size(&document, 0)?;
        let namespace = format!("{db}.{name}");
        let collection = self.make_collection(db, name)?;
        let id = document.get("_id").cloned().unwrap_or(Bson::Null);
        let key = OrderedBson(id.clone());
        if collection.ids.contains_key(&key) {
            let message =
                format!("E11000 duplicate key error collection: {namespace} index: _id_ dup key: {{ _id: {id} }}");
            let extra = doc! { "keyPattern": { "_id": 1 }, "keyValue": { "_id": id } };
            return Err(CommandError::new(11000, "DuplicateKey", message).with(extra));
        }
        collection.ids.insert(key, collection.next);
        collection.documents.insert(collection.next, Stored { document, size });
        collection.next += 1;
        self.resize(0, size);
        Ok(id)
    }

    /// Replaces the document at `place` by `document`, which has the same `_id`.
    pub(super) fn replace(
        &mut self,
        db: &str,
        name: &str,
        place: StoredAt,
        document: Document,
    ) -> Result<(), CommandError> {
        let before = self.collection(db, name).and_then(|found| found.documents.get(&place.0)).map(|old| old.size);
        let Some(before) = before else {
            return Ok(());
        };
        let size = self.check_size(&document, before)?;
        self.make_collection(db, name)?.documents.insert(place.0, Stored { document, size });
        self.resize(before, size);
        Ok(())
    }

    /// Removes the document at `place`.
    pub(super) fn remove(&mut self, db: &str, name: &str, place: StoredAt) {
        let Some(collection) = self.databases.get_mut(db).and_then(|all| all.get_mut(name)) else {
            return;
        };
        if let Some(gone) = collection.documents.remove(&place.0) {
            if let Some(id) = gone.document.get("_id") {
                collection.ids.remove(&OrderedBson(id.clone()));
            }
            self.resize(gone.size, 0);
        }
    }

    /// A document's size, if it may be stored in place of `before` bytes.
    fn check_size(&self, document: &Document, before: usize) -> Result<usize, CommandError> {
        let size = document.to_vec().map_err(|error| CommandError::bad_value(error.to_string()))?.len();
        if size > MAX_DOCUMENT {
            let message = format!("BSONObj size: {size} is invalid. Size must be between 0 and {MAX_DOCUMENT}");
            return Err(CommandError::new(10334, "BSONObjectTooLarge", message));
        }
        if self.bytes - before + size > CAPACITY {
            let message = format!("the {} holds at most {CAPACITY} bytes", crate::standin::NAME);
            return Err(CommandError::new(14031, "OutOfDiskSpace", message));
        }
        Ok(size)
    }

    fn resize(&mut self, gone: usize, new: usize) {
        self.bytes = self.bytes - gone + new;
        self.last_write = DateTime::now();
        self.version += 1;
    }
}

/// A document's position in its collection, valid while the data stays locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredAt(u64);

/// Documents in insertion order.
#[derive(Debug, Clone, Default)]
pub(super) struct Collection {
    documents: BTreeMap<u64, Stored>,
    ids: BTreeMap<OrderedBson, u64>,
    next: u64,
    /// Indexes besides the one on `_id`: listed, not used.
    pub(super) indexes: Vec<Document>,
    /// Its identity.
    pub(super) uuid: bson::Uuid,
}

#[derive(Debug, Clone)]
struct Stored {
    document: Document,
    size: usize,
}

impl Collection {
    pub(super) fn iter(&self) -> impl Iterator<Item = (StoredAt, &Document)> {
        self.documents.iter().map(|(place, stored)| (StoredAt(*place), &stored.document))
    }

    /// The document with this `_id`.
    pub(super) fn by_id(&self, id: &Bson) -> Option<(StoredAt, &Document)> {
        let place = self.ids.get(&OrderedBson(id.clone()))?;
        Some((StoredAt(*place), &self.documents.get(place)?.document))
    }

    pub(super) fn bytes(&self) -> usize {
        self.documents.values().map(|stored| stored.size).sum()
    }
}

/// The document with its `_id` in front, a new one where it has none.
fn with_id(mut document: Document) -> Result<Document, CommandError> {
    if document.keys().next().is_some_and(|key| key == "_id") {
        check_id(&document)?;
        return Ok(document);
    }
    let id = document.remove("_id").unwrap_or_else(|| Bson::ObjectId(ObjectId::new()));
    let mut whole = doc! { "_id": id };
    whole.extend(document);
    check_id(&whole)?;
    Ok(whole)
}

fn check_id(document: &Document) -> Result<(), CommandError> {
    let what = match document.get("_id") {
        Some(Bson::Array(_)) => "array",
        Some(Bson::RegularExpression(_)) => "regex",
        Some(Bson::Undefined) => "undefined",
        _ => return Ok(()),
    };
    Err(CommandError::new(53, "InvalidIdField", format!("The '_id' value cannot be of type {what}")))
}

fn check_names(db: &str, collection: &str) -> Result<(), CommandError> {
    let db_fits = (1..=63).contains(&db.len()) && !db.contains(['/', '\\', '.', ' ', '"', '$', '\0']);
    let fits = !collection.is_empty() && !collection.starts_with('.') && !collection.contains(['$', '\0']);
    if db_fits && fits && db.len() + collection.len() < 255 {
        return Ok(());
    }
    Err(CommandError::new(73, "InvalidNamespace", format!("Invalid namespace specified '{db}.{collection}'")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// For any order of isolating and reconnecting members: writes that were on all members are never lost, and no
        /// member has the writes of an isolated one.
        #[test]
        fn writes_on_all_members_survive_any_isolation(
            steps in proptest::collection::vec((0_usize..3, 0_usize..5), 1..60)
        ) {
            let store = Store::default();
            let has = |member: usize, n: usize| {
                store.of(member).data().collection("d", "c").is_some_and(|all| all.by_id(&Bson::Int64(n as i64)).is_some())
            };
            let (mut alone, mut everywhere) = ([false; 3], Vec::new());
            for (n, (member, step)) in steps.into_iter().enumerate() {
                let own = store.of(member);
                match step {
                    0 if !alone[member] => {
                        own.fork();
                        alone[member] = true;
                    }
                    1 if alone[member] => {
                        own.join();
                        alone[member] = false;
                    }
                    2 if !alone[member] => own.elected(),
                    _ => {
                        own.data().insert("d", "c", doc! { "_id": n as i64 }).expect("it fits");
                        if alone[member] {
                            prop_assert!((0..3).all(|other| other == member || !has(other, n)));
                        } else {
                            everywhere.push(n);
                        }
                    }
                }
                let connected = (0..3).filter(|member| !alone[*member]);
                prop_assert!(connected.into_iter().all(|member| everywhere.iter().all(|n| has(member, *n))));
            }
        }
    }

    #[test]
    fn ids_are_unique_across_number_types_and_stand_in_front() {
        let mut data = StoreData::default();
        assert_eq!(data.insert("d", "c", doc! { "a": 1, "_id": 1 }), Ok(Bson::Int32(1)));
        let error = data.insert("d", "c", doc! { "_id": 1.0 }).unwrap_err().reply();
        assert_eq!(error.get_i32("code").unwrap(), 11000);
        assert_eq!(error.get_document("keyPattern").unwrap(), &doc! { "_id": 1 });
        assert!(error.get_str("errmsg").unwrap().starts_with("E11000 duplicate key error collection: d.c index: _id_"));
        let (_, stored) = data.collection("d", "c").unwrap().iter().next().unwrap();
        assert_eq!(stored.keys().collect::<Vec<_>>(), ["_id", "a"]);
        assert_eq!(data.insert("d", "c", doc! { "_id": [1] }).unwrap_err().code(), 53);
    }

    #[test]
    fn bytes_are_given_back_on_removal() {
        let mut data = StoreData::default();
        for n in 0..10 {
            data.insert("d", "c", doc! { "_id": n }).unwrap();
        }
        let (place, _) = data.collection("d", "c").unwrap().by_id(&Bson::Int64(3)).unwrap();
        data.replace("d", "c", place, doc! { "_id": 3, "much": "x".repeat(1000) }).unwrap();
        data.remove("d", "c", place);
        assert_eq!(data.collection("d", "c").unwrap().by_id(&Bson::Int32(3)), None);
        assert_eq!(data.bytes, data.collection("d", "c").unwrap().bytes());
        data.drop_database("d");
        assert_eq!((data.bytes, data.databases().len()), (0, 0));
    }

    #[test]
    fn oversized_and_misnamed_objects_are_refused() {
        let mut data = StoreData::default();
        let large = doc! { "x": "y".repeat(MAX_DOCUMENT) };
        assert_eq!(data.insert("d", "c", large).unwrap_err().code(), 10334);
        data.bytes = CAPACITY;
        assert_eq!(data.insert("d", "c", doc! {}).unwrap_err().code(), 14031);
        data.bytes = 0;
        for (db, name) in [("", "c"), ("a.b", "c"), ("d", ""), ("d", "a$b"), ("d", ".x")] {
            assert_eq!(data.insert(db, name, doc! {}).unwrap_err().code(), 73, "{db}.{name}");
        }
    }

    #[test]
    fn a_repeated_write_runs_once() {
        let store = Store::default();
        let mut runs = 0;
        for number in [1, 1, 2, 2] {
            let reply = store.run_once(b"session", number, || {
                runs += 1;
                Ok(doc! { "n": runs })
            });
            assert_eq!(reply, Ok(doc! { "n": number as i32 }));
        }
        assert_eq!(store.run_once(b"session", 1, || Ok(doc! {})).unwrap_err().code(), 225);
        store.end_session(b"session");
        assert_eq!(store.run_once(b"session", 1, || Ok(doc! {})), Ok(doc! {}));
    }
}
