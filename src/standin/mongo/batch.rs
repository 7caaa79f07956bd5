//! Cursors: results that do not fit in one reply.
//!
//! A cursor belongs to the node that created it, as in a real set. On another node it is not found, which reveals a
//! connection that a load balancer sends to another node.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::{Bson, Document, doc};
use tokio::time::Instant;

use super::MAX_DOCUMENT;
use super::error::{CommandError, CommandResult};

/// Default number of documents in a first batch (MongoDB's).
const FIRST_BATCH: usize = 101;
/// How long an unused cursor lives (`cursorTimeoutMillis`).
const IDLE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Maximum number of open cursors per node.
const LIMIT: usize = 1_000;

/// The open cursors of a node.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    open: Mutex<HashMap<i64, Cursor>>,
}

#[derive(Debug)]
struct Cursor {
    namespace: String,
    rest: VecDeque<Document>,
    /// The connection whose end closes it: behind a load balancer, other connections may reach other nodes.
    connection: Option<i32>,
    used: Instant,
}

/// The client's options for the first batch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FirstBatch {
    /// The number of documents; `None`: the default.
    pub(super) size: Option<usize>,
    /// Return only the first batch.
    pub(super) single: bool,
    /// The connection whose end closes the cursor.
    pub(super) connection: Option<i32>,
}

impl Cursors {
    /// The reply with the first of `documents`, and a cursor for the others.
    pub(super) fn first(&self, namespace: &str, documents: Vec<Document>, wanted: FirstBatch) -> CommandResult {
        let mut rest = VecDeque::from(documents);
        let batch = take(&mut rest, wanted.size.unwrap_or(FIRST_BATCH));
        let mut id = 0;
        if !rest.is_empty() && !wanted.single {
            let mut open = self.lock();
            let now = Instant::now();
            open.retain(|_, cursor| now.duration_since(cursor.used) < IDLE_LIMIT);
            if open.len() >= LIMIT {
                let message = format!("the {} holds at most {LIMIT} open cursors", crate::standin::NAME);
                return Err(CommandError::new(235, "ExceededMemoryLimit", message));
            }
            id = new_id(&open);
            let (namespace, connection) = (namespace.to_owned(), wanted.connection);
            open.insert(id, Cursor { namespace, rest, connection, used: now });
        }
        Ok(doc! { "cursor": { "firstBatch": batch, "id": id, "ns": namespace }, "ok": 1.0 })
    }

    /// The reply with the next documents of a cursor.
    pub(super) fn next(&self, id: i64, namespace: &str, size: Option<usize>) -> CommandResult {
        let mut open = self.lock();
        let now = Instant::now();
        let cursor = open.get_mut(&id).filter(|cursor| now.duration_since(cursor.used) < IDLE_LIMIT);
        let cursor =
            cursor.ok_or_else(|| CommandError::new(43, "CursorNotFound", format!("cursor id {id} not found")))?;
        if cursor.namespace != namespace {
            let message =
                format!("Requested getMore on namespace '{namespace}', but cursor belongs to a different one");
            return Err(CommandError::new(13, "Unauthorized", message));
        }
        cursor.used = now;
        let batch = take(&mut cursor.rest, size.filter(|size| *size > 0).unwrap_or(usize::MAX));
        let over = cursor.rest.is_empty();
        if over {
            open.remove(&id);
        }
        let id = if over { 0 } else { id };
        Ok(doc! { "cursor": { "nextBatch": batch, "id": id, "ns": namespace }, "ok": 1.0 })
    }

    /// The reply to `killCursors`.
    pub(super) fn kill(&self, ids: &[Bson]) -> Document {
        let mut open = self.lock();
        let (killed, unknown): (Vec<Bson>, Vec<Bson>) =
            ids.iter().cloned().partition(|id| id.as_i64().is_some_and(|id| open.remove(&id).is_some()));
        let none = Vec::<Bson>::new();
        doc! {
            "cursorsKilled": killed, "cursorsNotFound": unknown, "cursorsAlive": none.clone(), "cursorsUnknown": none,
            "ok": 1.0,
        }
    }

    /// Closes the cursors of `connection`.
    pub(super) fn disconnect(&self, connection: i32) {
        self.lock().retain(|_, cursor| cursor.connection != Some(connection));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Cursor>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At most `count` documents, and no more than fit in a reply.
fn take(rest: &mut VecDeque<Document>, count: usize) -> Vec<Bson> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < count
        && let Some(document) = rest.pop_front()
    {
        // A stored document was encodable when it was inserted.
        let size = document.to_vec().map_or(0, |bytes| bytes.len());
        if bytes + size > MAX_DOCUMENT && !batch.is_empty() {
            rest.push_front(document);
            break;
        }
        bytes += size;
        batch.push(Bson::Document(document));
    }
    batch
}

/// An unused random id, as a server's.
fn new_id(open: &HashMap<i64, Cursor>) -> i64 {
    loop {
        let id = (RandomState::new().build_hasher().finish() >> 1).cast_signed();
        if id != 0 && !open.contains_key(&id) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(count: i32) -> Vec<Document> {
        (0..count).map(|n| doc! { "n": n }).collect()
    }

    fn batch(reply: &Document, name: &str) -> (usize, i64) {
        let cursor = reply.get_document("cursor").expect("a cursor");
        (cursor.get_array(name).expect(name).len(), cursor.get_i64("id").expect("an id"))
    }

    #[tokio::test(start_paused = true)]
    async fn results_come_in_batches_until_they_are_all_sent() {
        let cursors = Cursors::default();
        let (count, id) = batch(&cursors.first("d.c", documents(250), FirstBatch::default()).unwrap(), "firstBatch");
        assert_eq!((count, id != 0), (101, true));
        assert_eq!(batch(&cursors.next(id, "d.c", Some(100)).unwrap(), "nextBatch"), (100, id));
        assert_eq!(cursors.next(id, "d.other", None).unwrap_err().code(), 13);
        assert_eq!(batch(&cursors.next(id, "d.c", None).unwrap(), "nextBatch"), (49, 0));
        assert_eq!(cursors.next(id, "d.c", None).unwrap_err().code(), 43);
        let none = FirstBatch { size: Some(0), ..FirstBatch::default() };
        assert_eq!(batch(&cursors.first("d.c", documents(1), none).unwrap(), "firstBatch").0, 0);
        let single = FirstBatch { size: Some(2), single: true, ..FirstBatch::default() };
        assert_eq!(batch(&cursors.first("d.c", documents(9), single).unwrap(), "firstBatch"), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cursor_ends_when_killed_idle_or_left_behind() {
        let cursors = Cursors::default();
        let open = |connection| {
            let wanted = FirstBatch { size: Some(1), connection, ..FirstBatch::default() };
            batch(&cursors.first("d.c", documents(9), wanted).unwrap(), "firstBatch").1
        };
        let (killed, left, idle) = (open(None), open(Some(7)), open(Some(8)));
        let reply = cursors.kill(&[Bson::Int64(killed), Bson::Int64(1)]);
        assert_eq!(reply.get_array("cursorsKilled").unwrap(), &vec![Bson::Int64(killed)]);
        assert_eq!(reply.get_array("cursorsNotFound").unwrap(), &vec![Bson::Int64(1)]);
        cursors.disconnect(7);
        assert_eq!(cursors.next(left, "d.c", None).unwrap_err().code(), 43);
        assert!(cursors.next(idle, "d.c", Some(1)).is_ok());
        tokio::time::advance(IDLE_LIMIT).await;
        assert_eq!(cursors.next(idle, "d.c", None).unwrap_err().code(), 43);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_fits_in_a_reply() {
        let cursors = Cursors::default();
        let large: Vec<_> = (0..3).map(|_| doc! { "x": "y".repeat(9_000_000) }).collect();
        let (count, id) = batch(&cursors.first("d.c", large, FirstBatch::default()).unwrap(), "firstBatch");
        assert_eq!((count, id != 0), (1, true));
    }
}
