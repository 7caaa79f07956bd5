//! What an update makes of a document.

use bson::{Bson, DateTime, Document, Timestamp};

use super::error::CommandError;
use super::order::{compare, float, integer};
use super::path;

/// A checked update.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Update {
    /// The document becomes this, but for its `_id`.
    Replace(Document),
    /// Operators, each with fields and operands.
    Change(Vec<(Operator, String, Bson)>),
}

/// An update operator that the stand-in knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Set,
    SetOnInsert,
    Unset,
    Inc,
    Mul,
    Min,
    Max,
    Push,
    AddToSet,
    Pull,
    CurrentDate,
}

impl Operator {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "$set" => Self::Set,
            "$setOnInsert" => Self::SetOnInsert,
            "$unset" => Self::Unset,
            "$inc" => Self::Inc,
            "$mul" => Self::Mul,
            "$min" => Self::Min,
            "$max" => Self::Max,
            "$push" => Self::Push,
            "$addToSet" => Self::AddToSet,
            "$pull" => Self::Pull,
            "$currentDate" => Self::CurrentDate,
            _ => return None,
        })
    }
}

impl Update {
    /// Checks what stands beside `u` or `update` in a command.
    pub(super) fn parse(update: &Bson) -> Result<Self, CommandError> {
        let update = match update {
            Bson::Document(update) => update,
            Bson::Array(_) => return Err(CommandError::not_here("update with an aggregation pipeline")),
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
            let operator = Operator::named(name).ok_or_else(|| {
                CommandError::failed_to_parse(format!("Unknown modifier: {name}, or one that the stand-in has not"))
            })?;
            let fields = fields.as_document().ok_or_else(|| {
                CommandError::failed_to_parse(format!("Modifiers operate on fields but we found {fields} for {name}"))
            })?;
            for (field, operand) in fields {
                if field.split('.').any(|part| part.starts_with('$')) {
                    return Err(CommandError::not_here("positional update operator"));
                }
                changes.push((operator, field.clone(), operand.clone()));
            }
        }
        Ok(Self::Change(changes))
    }

    /// The document that `before` becomes. `inserting`: it is being made by an upsert.
    pub(super) fn apply(&self, before: &Document, inserting: bool) -> Result<Document, CommandError> {
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
                    change(&mut after, *operator, field, operand, inserting)?;
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

fn change(
    document: &mut Document,
    operator: Operator,
    field: &str,
    operand: &Bson,
    inserting: bool,
) -> Result<(), CommandError> {
    let old = path::get(document, field);
    let new = match operator {
        Operator::SetOnInsert if !inserting => return Ok(()),
        Operator::Set | Operator::SetOnInsert => operand.clone(),
        Operator::Unset => {
            path::unset(document, field);
            return Ok(());
        }
        Operator::Inc => number(field, old, operand, i64::checked_add, |a, b| a + b)?,
        Operator::Mul => {
            let zero = Bson::Int32(0);
            number(field, Some(old.unwrap_or(&zero)), operand, i64::checked_mul, |a, b| a * b)?
        }
        Operator::Min if old.is_some_and(|old| compare(operand, old).is_ge()) => return Ok(()),
        Operator::Max if old.is_some_and(|old| compare(operand, old).is_le()) => return Ok(()),
        Operator::Min | Operator::Max => operand.clone(),
        Operator::CurrentDate => match operand.as_document().and_then(|kind| kind.get_str("$type").ok()) {
            Some("timestamp") => {
                let seconds = DateTime::now().timestamp_millis() / 1000;
                Bson::Timestamp(Timestamp { time: seconds as u32, increment: 1 })
            }
            _ => Bson::DateTime(DateTime::now()),
        },
        Operator::Push | Operator::AddToSet => {
            let mut list = array(field, old)?;
            for element in each(operand)? {
                if operator == Operator::Push || !list.iter().any(|there| compare(there, element).is_eq()) {
                    list.push(element.clone());
                }
            }
            Bson::Array(list)
        }
        Operator::Pull => {
            if old.is_none() {
                return Ok(());
            }
            if operand.as_document().is_some_and(|operand| operand.keys().any(|key| key.starts_with('$'))) {
                return Err(CommandError::not_here("$pull by a condition"));
            }
            let mut list = array(field, old)?;
            list.retain(|element| compare(element, operand).is_ne());
            Bson::Array(list)
        }
    };
    path::set(document, field, new)
}

/// `old` combined with `operand`, in the widest of their types; a result that a 32-bit number can't hold is 64 bits wide.
fn number(
    field: &str,
    old: Option<&Bson>,
    operand: &Bson,
    integers: fn(i64, i64) -> Option<i64>,
    floats: fn(f64, f64) -> f64,
) -> Result<Bson, CommandError> {
    let no_number = |value: &Bson| {
        CommandError::type_mismatch(format!("Cannot apply $inc or $mul to '{field}' with {value}, which is no number"))
    };
    let operand_float = float(operand).ok_or_else(|| no_number(operand))?;
    let Some(old) = old else {
        return Ok(operand.clone());
    };
    let old_float = float(old).ok_or_else(|| no_number(old))?;
    match (integer(old), integer(operand)) {
        (Some(a), Some(b)) => {
            let result = integers(a, b).ok_or_else(|| {
                CommandError::bad_value(format!("Failed to apply to '{field}': the result does not fit 64 bits"))
            })?;
            let narrow = matches!((old, operand), (Bson::Int32(_), Bson::Int32(_)));
            Ok(i32::try_from(result).ok().filter(|_| narrow).map_or(Bson::Int64(result), Bson::Int32))
        }
        _ => Ok(Bson::Double(floats(old_float, operand_float))),
    }
}

fn array(field: &str, old: Option<&Bson>) -> Result<Vec<Bson>, CommandError> {
    match old {
        None => Ok(Vec::new()),
        Some(Bson::Array(list)) => Ok(list.clone()),
        Some(_) => Err(CommandError::bad_value(format!("The field '{field}' must be an array"))),
    }
}

/// What is to be added: the operand, or all in its `$each`.
fn each(operand: &Bson) -> Result<&[Bson], CommandError> {
    match operand.as_document() {
        Some(modifiers) if modifiers.contains_key("$each") => match modifiers.iter().find(|(key, _)| *key != "$each") {
            Some((key, _)) => Err(CommandError::not_here(&format!("{key} beside $each"))),
            None => modifiers
                .get_array("$each")
                .map(Vec::as_slice)
                .map_err(|_| CommandError::type_mismatch("The argument to $each must be an array")),
        },
        _ => Ok(std::slice::from_ref(operand)),
    }
}

#[cfg(test)]
mod tests {
    use bson::{bson, doc};

    use super::*;

    fn after(before: Document, update: Document) -> Result<Document, i32> {
        let update = Update::parse(&Bson::Document(update)).map_err(|error| error.code())?;
        update.apply(&before, false).map_err(|error| error.code())
    }

    #[test]
    fn operators_change_what_they_name() {
        let before = doc! { "_id": 1, "n": 1, "f": 1.5, "list": ["a"], "gone": true };
        let update = doc! {
            "$set": { "a.b": 2 },
            "$inc": { "n": 2, "new": 5_i64, "f": 1 },
            "$unset": { "gone": "" },
            "$push": { "list": { "$each": ["b", "a"] } },
            "$addToSet": { "set": "x" },
            "$min": { "low": 3 },
            "$max": { "_none": 1 },
            "$setOnInsert": { "fresh": true },
        };
        assert_eq!(
            after(before, update),
            Ok(doc! {
                "_id": 1, "n": 3, "f": 2.5, "list": ["a", "b", "a"], "a": { "b": 2 }, "new": 5_i64, "set": ["x"],
                "low": 3, "_none": 1,
            })
        );
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
    fn what_is_not_understood_is_an_error() {
        assert_eq!(after(doc! {}, doc! { "$foo": { "a": 1 } }), Err(9));
        assert_eq!(after(doc! {}, doc! { "a": 1, "$set": { "a": 1 } }), Err(52));
        assert_eq!(after(doc! {}, doc! { "$set": { "a.$": 1 } }), Err(238));
        assert_eq!(Update::parse(&bson!([])).map_err(|error| error.code()), Err(238));
    }
}
