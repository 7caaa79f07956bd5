//! Listing, creating and dropping databases, collections and indexes.

use bson::{Bson, Document, doc};

use super::batch::FirstBatch;
use super::command::CommandCall;
use super::error::{CommandError, CommandResult};
use super::{crud, filter};

pub(super) fn create(call: &CommandCall<'_>) -> CommandResult {
    let unsupported =
        ["capped", "timeseries", "viewOn", "validator", "clusteredIndex", "collation", "changeStreamPreAndPostImages"];
    call.refuse(call.body, &unsupported)?;
    let mut data = call.node.store.data();
    if data.collection(call.db()?, call.collection()?).is_some() {
        // As on a server, creating the same collection again is not an error.
        return Ok(doc! { "ok": 1.0 });
    }
    data.make_collection(call.db()?, call.collection()?)?;
    Ok(doc! { "ok": 1.0 })
}

pub(super) fn drop(call: &CommandCall<'_>) -> CommandResult {
    let namespace = call.namespace()?;
    // Since MongoDB 7.0, dropping a missing collection succeeds.
    Ok(match call.node.store.data().drop_collection(call.db()?, call.collection()?) {
        true => doc! { "nIndexesWas": 1, "ns": namespace, "ok": 1.0 },
        false => doc! { "ok": 1.0 },
    })
}

pub(super) fn drop_database(call: &CommandCall<'_>) -> CommandResult {
    call.node.store.data().drop_database(call.db()?);
    Ok(doc! { "dropped": call.db()?, "ok": 1.0 })
}

pub(super) fn create_indexes(call: &CommandCall<'_>) -> CommandResult {
    let wanted = call.array("indexes")?;
    let mut indexes = Vec::new();
    for index in wanted {
        let index = index.as_document().ok_or_else(|| CommandError::type_mismatch("an index is no object"))?;
        indexes.push(checked_index(index)?);
    }
    let mut data = call.node.store.data();
    let created = data.collection(call.db()?, call.collection()?).is_none();
    let collection = data.make_collection(call.db()?, call.collection()?)?;
    let before = collection.indexes.len() + 1;
    for index in indexes {
        let name = index.get_str("name").unwrap_or_default();
        match collection.indexes.iter().find(|there| there.get_str("name").is_ok_and(|there| there == name)) {
            None => collection.indexes.push(index),
            Some(there) if there.get("key") == index.get("key") => {}
            Some(_) => {
                let message = format!("An existing index has the same name as the requested index: {name}");
                return Err(CommandError::new(86, "IndexKeySpecsConflict", message));
            }
        }
    }
    let after = collection.indexes.len() + 1;
    Ok(doc! {
        "numIndexesBefore": before as i32, "numIndexesAfter": after as i32,
        "createdCollectionAutomatically": created, "ok": 1.0,
    })
}

/// Accepts indexes that only make reads faster; others would have to be enforced.
fn checked_index(index: &Document) -> CommandResult {
    let needs = |what: &str| CommandError::failed_to_parse(format!("The index specification needs {what}"));
    let key = index.get_document("key").map_err(|_| needs("`key`"))?;
    let name = index.get_str("name").map_err(|_| needs("`name`"))?;
    if key.iter().all(|(field, _)| field == "_id") {
        return Err(CommandError::new(197, "InvalidIndexSpecificationOption", "The index on _id is always there"));
    }
    for option in ["unique", "expireAfterSeconds", "partialFilterExpression", "collation"] {
        if !matches!(index.get(option), None | Some(Bson::Boolean(false) | Bson::Null)) {
            let message = format!("the {} enforces no index, so it makes none with `{option}`", crate::standin::NAME);
            return Err(CommandError::new(67, "CannotCreateIndex", message));
        }
    }
    Ok(doc! { "v": 2, "key": key.clone(), "name": name })
}

pub(super) fn list_indexes(call: &CommandCall<'_>) -> CommandResult {
    let mut indexes = vec![doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" }];
    {
        let data = call.node.store.data();
        let collection = data.collection(call.db()?, call.collection()?).ok_or_else(|| {
            CommandError::new(
                26,
                "NamespaceNotFound",
                format!("ns does not exist: {}.{}", call.db().unwrap_or(""), call.collection().unwrap_or("")),
            )
        })?;
        indexes.extend(collection.indexes.iter().cloned());
    }
    crud::first_batch(call, &call.namespace()?, indexes, FirstBatch::default())
}

pub(super) fn list_collections(call: &CommandCall<'_>) -> CommandResult {
    let (db, wanted) = (call.db()?, call.document("filter")?);
    filter::check(&wanted)?;
    let names_only = call.body.get_bool("nameOnly").unwrap_or(false);
    let mut listed = Vec::new();
    for (name, collection) in call.node.store.data().databases().get(db).into_iter().flatten() {
        let mut entry = doc! { "name": name, "type": "collection" };
        if !names_only {
            entry.extend(doc! {
                "options": {}, "info": { "readOnly": false, "uuid": collection.uuid },
                "idIndex": { "v": 2, "key": { "_id": 1 }, "name": "_id_" },
            });
        }
        if filter::matches(&entry, &wanted)? {
            listed.push(entry);
        }
    }
    crud::first_batch(call, &format!("{db}.$cmd.listCollections"), listed, FirstBatch::default())
}

pub(super) fn list_databases(call: &CommandCall<'_>) -> CommandResult {
    let wanted = call.document("filter")?;
    filter::check(&wanted)?;
    let names_only = call.body.get_bool("nameOnly").unwrap_or(false);
    let (mut listed, mut total) = (Vec::new(), 0);
    for (name, collections) in call.node.store.data().databases() {
        let bytes: usize = collections.values().map(super::store::Collection::bytes).sum();
        total += bytes;
        let entry = match names_only {
            true => doc! { "name": name },
            false => doc! { "name": name, "sizeOnDisk": bytes as i64, "empty": collections.is_empty() },
        };
        if filter::matches(&entry, &wanted)? {
            listed.push(entry);
        }
    }
    let mut reply = doc! { "databases": listed };
    if !names_only {
        reply.extend(doc! { "totalSize": total as i64, "totalSizeMb": (total / 1_048_576) as i64 });
    }
    reply.insert("ok", 1.0);
    Ok(reply)
}
