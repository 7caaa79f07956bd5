//! Updates of documents.

use bson::{Bson, Document};

use super::error::CommandError;
use super::order::{compare, float, integer};
use super::path;

/// A checked update.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Update {
    /// Replaces the document, except for its `_id`.
    Replace(Document),
    /// Operators, each with fields and operands.
    Change(Vec<(Operator, String, Bson)>),
}

/// A supported update operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Set,
    Unset,
    Inc,
}

impl Operator {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "$set" => Self::Set,
            "$unset" => Self::Unset,
            "$inc" => Self::Inc,
            _ => return None,
        })
    }
}

impl Update {
    /// Checks the fields beside `u` or `update` in a command.
    pub(super) fn parse(update: &Bson) -> Result<Self, CommandError> {
        let update = match update {
            Bson::Document(update) => update,
            Bson::Array(_) => return Err(CommandError::unsupported("update with an aggregation pipeline")),
            _ => return Err(CommandError::failed_to_parse("Update argument must be either an object or an array")),
        };
        if !update.keys().next().is_some_and(|key| key.starts_with('$')) {
            if let Some(key) = update.keys().find(|key| key.starts_with('$')) {
                let message = format!("The dollar ($) prefixed field '{key}' is not allowed in a replacement");
                return Err(CommandError::new(52, "DollarPrefixedFieldName", message));
            }
            return Ok(Self::Replace(update.clone()));
        }
        let mut changes = Vec::new();
        for (name, fields) in update {
            let operator =
                Operator::named(name).ok_or_else(|| CommandError::unsupported(&format!("update operator {name}")))?;
            let fields = fields.as_document().ok_or_else(|| {
                CommandError::failed_to_parse(format!("Modifiers operate on fields but we found {fields} for {name}"))
            })?;
            for (field, operand) in fields {
                if field.split('.').any(|part| part.starts_with('$')) {
                    return Err(CommandError::unsupported("positional update operator"));
                }
                changes.push((operator, field.clone(), operand.clone()));
            }
        }
        Ok(Self::Change(changes))
    }

    /// Applies the update to `before`.
    pub(super) fn apply(&self, before: &Document) -> Result<Document, CommandError> {
        let after = match self {
            Self::Replace(replacement) => {
                let mut after = Document::new();
                after.extend(before.get("_id").map(|id| ("_id".to_owned(), id.clone())));
                if after.is_empty() || !replacement.contains_key("_id") {
                    after.extend(replacement.clone());
                    after
                } else {
                    replacement.clone()
                }
            }
            Self::Change(changes) => {
                let mut after = before.clone();
                for (operator, field, operand) in changes {
                    change(&mut after, *operator, field, operand)?;
                }
                after
            }
        };
        match (before.get("_id"), after.get("_id")) {
            (Some(old), new) if new.is_none_or(|new| compare(old, new).is_ne()) => {
                let message = "Performing an update on the path '_id' would modify the immutable field '_id'";
                Err(CommandError::new(66, "ImmutableField", message))
            }
            _ => Ok(after),
        }
    }
}

fn change(document: &mut Document, operator: Operator, field: &str, operand: &Bson) -> Result<(), CommandError> {
    let new = match operator {
        Operator::Set => operand.clone(),
        Operator::Unset => {
            path::unset(document, field);
            return Ok(());
        }
        Operator::Inc => add(field, path::get(document, field), operand)?,
    };
    path::set(document, field, new)
}

/// The sum, in the wider of the two types; a 32-bit sum that overflows becomes 64 bits wide.
fn add(field: &str, old: Option<&Bson>, operand: &Bson) -> Result<Bson, CommandError> {
    let number = |value: &Bson| {
        float(value).ok_or_else(|| {
            CommandError::type_mismatch(format!("Cannot apply $inc to '{field}' with {value}, which is no number"))
        })
    };
    let added = number(operand)?;
    let Some(old) = old else {
        return Ok(operand.clone());
    };
    let sum = number(old)? + added;
    match (integer(old), integer(operand)) {
        (Some(a), Some(b)) => {
            let result = a.checked_add(b).ok_or_else(|| {
                CommandError::bad_value(format!("Failed to apply $inc to '{field}': the result does not fit 64 bits"))
            })?;
            let narrow = matches!((old, operand), (Bson::Int32(_), Bson::Int32(_)));
            Ok(i32::try_from(result).ok().filter(|_| narrow).map_or(Bson::Int64(result), Bson::Int32))
        }
        _ => Ok(Bson::Double(sum)),
    }
}

#[cfg(test)]
mod tests {
    use bson::{bson, doc};

    use super::*;

    fn after(before: Document, update: Document) -> Result<Document, i32> {
        let update = Update::parse(&Bson::Document(update)).map_err(|error| error.code())?;
        update.apply(&before).map_err(|error| error.code())
    }

    #[test]
    fn update_operators_change_the_named_fields() {
        let before = doc! { "_id": 1, "n": 1, "f": 1.5, "gone": true };
        let update = doc! { "$set": { "a.b": 2 }, "$inc": { "n": 2, "new": 5_i64, "f": 1 }, "$unset": { "gone": "" } };
        let expected = doc! { "_id": 1, "n": 3, "f": 2.5, "a": { "b": 2 }, "new": 5_i64 };
        assert_eq!(after(before, update), Ok(expected));
    }

    #[test]
    fn integers_widen_but_never_wrap() {
        assert_eq!(after(doc! { "n": i32::MAX }, doc! { "$inc": { "n": 1 } }), Ok(doc! { "n": 2_147_483_648_i64 }));
        assert_eq!(after(doc! { "n": i64::MAX }, doc! { "$inc": { "n": 1 } }), Err(2));
        assert_eq!(after(doc! { "n": "x" }, doc! { "$inc": { "n": 1 } }), Err(14));
    }

    #[test]
    fn a_replacement_keeps_the_id() {
        assert_eq!(after(doc! { "_id": 1, "a": 1 }, doc! { "b": 2 }), Ok(doc! { "_id": 1, "b": 2 }));
        assert_eq!(after(doc! { "_id": 1, "a": 1 }, doc! { "_id": 1, "b": 2 }), Ok(doc! { "_id": 1, "b": 2 }));
        assert_eq!(after(doc! { "_id": 1 }, doc! { "_id": 2 }), Err(66));
        assert_eq!(after(doc! { "_id": 1 }, doc! { "$set": { "_id": 2 } }), Err(66));
        assert_eq!(after(doc! { "_id": 1 }, doc! { "$unset": { "_id": 1 } }), Err(66));
    }

    #[test]
    fn unsupported_updates_are_errors() {
        assert_eq!(after(doc! {}, doc! { "$push": { "a": 1 } }), Err(59));
        assert_eq!(after(doc! {}, doc! { "a": 1, "$set": { "a": 1 } }), Err(52));
        assert_eq!(after(doc! {}, doc! { "$set": { "a.$": 1 } }), Err(59));
        assert_eq!(Update::parse(&bson!([])).map_err(|error| error.code()), Err(59));
    }
}
