//! Reads and writes of documents.

use bson::{Bson, Document, doc};

use super::batch::FirstBatch;
use super::command::CommandCall;
use super::error::{CommandError, CommandResult};
use super::order::{integer, sort_by};
use super::store::{StoreData, StoredAt};
use super::update::Update;
use super::{MAX_BATCH, filter, path, pipeline};

pub(super) fn insert(call: &CommandCall<'_>) -> CommandResult {
    let (db, collection) = (call.db()?, call.collection()?);
    let documents = batch(call, "documents")?;
    let mut data = call.node.store.data();
    let mut inserted = 0_u64;
    let errors = each(call, documents, |_, document| {
        data.insert(db, collection, document.clone())?;
        inserted += 1;
        Ok(())
    })?;
    call.node.store.counts().inserted += inserted;
    Ok(with_errors(doc! { "n": inserted as i32 }, errors))
}

pub(super) fn update(call: &CommandCall<'_>) -> CommandResult {
    let (db, collection) = (call.db()?, call.collection()?);
    let updates = batch(call, "updates")?;
    let mut data = call.node.store.data();
    let (mut matched, mut modified, mut upserted) = (0, 0, Vec::new());
    let errors = each(call, updates, |index, statement| {
        call.refuse(statement, &["arrayFilters", "collation", "c"])?;
        let update = Update::parse(statement.get("u").unwrap_or(&Bson::Null))?;
        let multi = statement.get_bool("multi").unwrap_or(false);
        if multi && matches!(update, Update::Replace(_)) {
            return Err(CommandError::failed_to_parse("multi update is not supported for replacement-style update"));
        }
        let query = sub(statement, "q")?;
        let sort = statement.get_document("sort").cloned().unwrap_or_default();
        let places = select(&data, db, collection, query, &sort, if multi { usize::MAX } else { 1 })?;
        if places.is_empty() && statement.get_bool("upsert").unwrap_or(false) {
            let id = upsert(&mut data, db, collection, query, &update)?;
            upserted.push(doc! { "index": index as i32, "_id": id });
            return Ok(());
        }
        for (place, before) in places {
            matched += 1;
            let after = update.apply(&before)?;
            if after != before {
                data.replace(db, collection, place, after)?;
                modified += 1;
            }
        }
        Ok(())
    })?;
    call.node.store.counts().updated += (modified + upserted.len()) as u64;
    let mut reply = doc! { "n": (matched + upserted.len()) as i32, "nModified": modified as i32 };
    if !upserted.is_empty() {
        reply.insert("upserted", upserted);
    }
    Ok(with_errors(reply, errors))
}

pub(super) fn delete(call: &CommandCall<'_>) -> CommandResult {
    let (db, collection) = (call.db()?, call.collection()?);
    let deletes = batch(call, "deletes")?;
    let mut data = call.node.store.data();
    let mut deleted = 0_u64;
    let errors = each(call, deletes, |_, statement| {
        call.refuse(statement, &["collation"])?;
        let limit = match statement.get("limit").and_then(|limit| integer(limit).or(limit.as_f64().map(|l| l as i64))) {
            Some(0) => usize::MAX,
            Some(1) => 1,
            _ => return Err(CommandError::failed_to_parse("The limit field in delete objects must be 0 or 1")),
        };
        for (place, _) in select(&data, db, collection, sub(statement, "q")?, &Document::new(), limit)? {
            data.remove(db, collection, place);
            deleted += 1;
        }
        Ok(())
    })?;
    call.node.store.counts().deleted += deleted;
    Ok(with_errors(doc! { "n": deleted as i32 }, errors))
}

pub(super) fn find_and_modify(call: &CommandCall<'_>) -> CommandResult {
    let (db, collection) = (call.db()?, call.collection()?);
    call.refuse(call.body, &["arrayFilters", "collation", "let", "fields"])?;
    let flag = |name: &str| call.body.get_bool(name).unwrap_or(false);
    let query = call.document("query")?;
    let store = &call.node.store;
    let mut data = store.data();
    let found = select(&data, db, collection, &query, &call.document("sort")?, 1)?.pop();
    let value = |document: Option<&Document>| document.map_or(Bson::Null, |found| Bson::Document(found.clone()));
    if flag("remove") {
        if call.body.contains_key("update") {
            return Err(CommandError::failed_to_parse("Cannot specify both an update and remove=true"));
        }
        if let Some((place, _)) = &found {
            data.remove(db, collection, *place);
            store.counts().deleted += 1;
        }
        let count = i32::from(found.is_some());
        let value = value(found.as_ref().map(|(_, document)| document));
        return Ok(doc! { "lastErrorObject": { "n": count }, "value": value, "ok": 1.0 });
    }
    let update = call
        .body
        .get("update")
        .ok_or_else(|| CommandError::failed_to_parse("Either an update or remove=true must be specified"))?;
    let update = Update::parse(update)?;
    match found {
        Some((place, before)) => {
            let after = update.apply(&before)?;
            data.replace(db, collection, place, after.clone())?;
            store.counts().updated += 1;
            let value = value(Some(if flag("new") { &after } else { &before }));
            Ok(doc! { "lastErrorObject": { "n": 1, "updatedExisting": true }, "value": value, "ok": 1.0 })
        }
        None if flag("upsert") => {
            let id = upsert(&mut data, db, collection, &query, &update)?;
            store.counts().updated += 1;
            let made = data.collection(db, collection).and_then(|made| made.by_id(&id)).filter(|_| flag("new"));
            let value = value(made.map(|(_, document)| document));
            let last = doc! { "n": 1, "updatedExisting": false, "upserted": id };
            Ok(doc! { "lastErrorObject": last, "value": value, "ok": 1.0 })
        }
        None => Ok(doc! { "lastErrorObject": { "n": 0, "updatedExisting": false }, "value": null, "ok": 1.0 }),
    }
}

pub(super) fn find(call: &CommandCall<'_>) -> CommandResult {
    let unsupported = ["collation", "let", "min", "max", "tailable", "returnKey", "showRecordId", "projection"];
    call.refuse(call.body, &unsupported)?;
    let (skip, limit) = (call.number("skip")?.unwrap_or(0), call.number("limit")?.filter(|limit| *limit > 0));
    let found = {
        let data = call.node.store.data();
        let most = limit.map_or(usize::MAX, |limit| limit.saturating_add(skip));
        select(&data, call.db()?, call.collection()?, &call.document("filter")?, &call.document("sort")?, most)?
    };
    let documents = found.into_iter().skip(skip).map(|(_, document)| document).collect();
    let wanted = FirstBatch {
        size: call.number("batchSize")?,
        single: call.body.get_bool("singleBatch").unwrap_or(false),
        ..FirstBatch::default()
    };
    first_batch(call, &call.namespace()?, documents, wanted)
}

pub(super) fn aggregate(call: &CommandCall<'_>) -> CommandResult {
    call.refuse(call.body, &["collation", "let", "explain"])?;
    let collection = call.collection().map_err(|_| CommandError::unsupported("aggregation over a whole database"))?;
    let pipeline_stages = call.array("pipeline")?;
    let documents = {
        let data = call.node.store.data();
        let found = data.collection(call.db()?, collection);
        found.into_iter().flat_map(|found| found.iter()).map(|(_, document)| document.clone()).collect()
    };
    let results = pipeline::run(documents, pipeline_stages)?;
    let cursor = call.document("cursor")?;
    let size = cursor.get("batchSize").and_then(integer).and_then(|size| usize::try_from(size).ok());
    first_batch(call, &call.namespace()?, results, FirstBatch { size, ..FirstBatch::default() })
}

pub(super) fn count(call: &CommandCall<'_>) -> CommandResult {
    call.refuse(call.body, &["collation"])?;
    let data = call.node.store.data();
    let query = call.document("query")?;
    let found = select(&data, call.db()?, call.collection()?, &query, &Document::new(), usize::MAX)?;
    let counted = found.len().saturating_sub(call.number("skip")?.unwrap_or(0));
    let counted = call.number("limit")?.filter(|limit| *limit > 0).map_or(counted, |limit| counted.min(limit));
    Ok(doc! { "n": counted as i32, "ok": 1.0 })
}

pub(super) fn get_more(call: &CommandCall<'_>) -> CommandResult {
    let id = call.body.get_i64("getMore").map_err(|_| CommandError::type_mismatch("`getMore` takes a cursor id"))?;
    let collection =
        call.body.get_str("collection").map_err(|_| CommandError::type_mismatch("`collection` of `getMore`"))?;
    let namespace = format!("{}.{collection}", call.db()?);
    let reply = call.node.cursors.next(id, &namespace, call.number("batchSize")?)?;
    count_found(call, &reply, "nextBatch");
    Ok(reply)
}

pub(super) fn kill_cursors(call: &CommandCall<'_>) -> CommandResult {
    Ok(call.node.cursors.kill(call.array("cursors")?))
}

/// The reply with the first of `documents`; behind a load balancer, the cursor is closed with the connection.
pub(super) fn first_batch(
    call: &CommandCall<'_>,
    namespace: &str,
    documents: Vec<Document>,
    wanted: FirstBatch,
) -> CommandResult {
    let connection = call.client.load_balanced.then_some(call.client.connection);
    let reply = call.node.cursors.first(namespace, documents, FirstBatch { connection, ..wanted })?;
    count_found(call, &reply, "firstBatch");
    Ok(reply)
}

fn count_found(call: &CommandCall<'_>, reply: &Document, batch: &str) {
    let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array(batch));
    call.node.store.counts().found += batch.map_or(0, Vec::len) as u64;
}

/// Copies of the documents that fit `query`, sorted, at most `most` of them.
fn select(
    data: &StoreData,
    db: &str,
    collection: &str,
    query: &Document,
    sort: &Document,
    most: usize,
) -> Result<Vec<(StoredAt, Document)>, CommandError> {
    filter::check(query)?;
    let Some(collection) = data.collection(db, collection) else {
        return Ok(Vec::new());
    };
    let by_id = query.get("_id").filter(|id| !matches!(id, Bson::Document(_) | Bson::RegularExpression(_)));
    let candidates: Box<dyn Iterator<Item = (StoredAt, &Document)>> = match by_id {
        Some(id) => Box::new(collection.by_id(id).into_iter()),
        None => Box::new(collection.iter()),
    };
    let mut found = Vec::new();
    for (place, document) in candidates {
        if sort.is_empty() && found.len() >= most {
            break;
        }
        if filter::matches(document, query)? {
            found.push((place, document.clone()));
        }
    }
    sort_by(&mut found, sort, |(_, document)| document)?;
    found.truncate(most);
    Ok(found)
}

/// Inserts the document of an upsert: the query's equality fields, modified by the update. Returns its `_id`.
fn upsert(
    data: &mut StoreData,
    db: &str,
    collection: &str,
    query: &Document,
    update: &Update,
) -> Result<Bson, CommandError> {
    let mut start = Document::new();
    for (key, value) in query {
        let is_operator = |condition: &Document| condition.keys().next().is_some_and(|name| name.starts_with('$'));
        // A replacement uses only the `_id` of the query.
        if !value.as_document().is_some_and(is_operator) && (key == "_id" || !matches!(update, Update::Replace(_))) {
            path::set(&mut start, key, value.clone())?;
        }
    }
    data.insert(db, collection, update.apply(&start)?)
}

/// The statements of a write command.
fn batch<'a>(call: &'a CommandCall<'_>, field: &str) -> Result<&'a [Bson], CommandError> {
    let statements = call.array(field)?;
    if (1..=MAX_BATCH).contains(&statements.len()) {
        return Ok(statements);
    }
    let message = format!("Write batch sizes must be between 1 and {MAX_BATCH}. Got {} operations.", statements.len());
    Err(CommandError::new(16, "InvalidLength", message))
}

/// Runs the statements up to the first error, or all if the command is unordered. Returns `writeErrors`.
fn each(
    call: &CommandCall<'_>,
    statements: &[Bson],
    mut run: impl FnMut(usize, &Document) -> Result<(), CommandError>,
) -> Result<Vec<Document>, CommandError> {
    let ordered = call.body.get_bool("ordered").unwrap_or(true);
    let mut errors = Vec::new();
    for (index, statement) in statements.iter().enumerate() {
        let statement = statement
            .as_document()
            .ok_or_else(|| CommandError::type_mismatch(format!("a statement of `{}` is no object", call.name)))?;
        if let Err(error) = run(index, statement) {
            errors.push(error.write_error(index));
            if ordered {
                break;
            }
        }
    }
    Ok(errors)
}

fn with_errors(mut reply: Document, errors: Vec<Document>) -> Document {
    if !errors.is_empty() {
        reply.insert("writeErrors", errors);
    }
    reply.insert("ok", 1.0);
    reply
}

fn sub<'a>(statement: &'a Document, field: &str) -> Result<&'a Document, CommandError> {
    statement.get_document(field).map_err(|_| {
        CommandError::new(40414, "IDLFailedToParse", format!("BSON field '{field}' is missing or no object"))
    })
}
