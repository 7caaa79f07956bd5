//! Whether a document fits a query.

use std::cmp::Ordering;

use bson::{Bson, Document};

use super::error::CommandError;
use super::order::{comparable, compare, integer};
use super::path;

type Fits = Result<bool, CommandError>;

/// Whether `document` fits `filter`.
///
/// # Errors
///
/// An operator that the stand-in does not know, or a value that its operator does not take.
pub(super) fn matches(document: &Document, filter: &Document) -> Fits {
    for (key, condition) in filter {
        let fits = match key.as_str() {
            "$and" => clauses(key, condition)?.try_fold(true, |all, clause| Ok(all && matches(document, clause?)?))?,
            "$or" => clauses(key, condition)?.try_fold(false, |any, clause| Ok(any || matches(document, clause?)?))?,
            "$nor" => {
                !clauses(key, condition)?.try_fold(false, |any, clause| Ok(any || matches(document, clause?)?))?
            }
            "$comment" => true,
            "$expr" | "$where" | "$text" | "$jsonSchema" => return Err(CommandError::not_here(key)),
            key if key.starts_with('$') => {
                return Err(CommandError::bad_value(format!("unknown top level operator: {key}")));
            }
            path => fits(&path::values(document, path), condition)?,
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether `filter` can be asked at all, on whatever document.
pub(super) fn check(filter: &Document) -> Result<(), CommandError> {
    matches(&Document::new(), filter).map(|_| ())
}

fn clauses<'a>(
    name: &str,
    value: &'a Bson,
) -> Result<impl Iterator<Item = Result<&'a Document, CommandError>>, CommandError> {
    let must = || CommandError::bad_value(format!("{name} must be a nonempty array of objects"));
    let list = value.as_array().filter(|list| !list.is_empty()).ok_or_else(must)?;
    Ok(list.iter().map(move |clause| clause.as_document().ok_or_else(must)).collect::<Vec<_>>().into_iter())
}

/// Whether the values at a path fit what stands beside it in a query.
fn fits(values: &[Option<&Bson>], condition: &Bson) -> Fits {
    match condition {
        Bson::Document(operators) if operators.keys().next().is_some_and(|key| key.starts_with('$')) => {
            for (name, operand) in operators {
                if !fits_operator(values, name, operand)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Bson::RegularExpression(_) => Err(CommandError::not_here("regular expressions")),
        operand => Ok(equals(values, operand)),
    }
}

fn fits_operator(values: &[Option<&Bson>], name: &str, operand: &Bson) -> Fits {
    let needs = |what: &str| CommandError::bad_value(format!("{name} needs {what}"));
    let list = || operand.as_array().ok_or_else(|| needs("an array"));
    Ok(match name {
        "$eq" => equals(values, operand),
        "$ne" => !equals(values, operand),
        "$gt" => ordered(values, operand, Ordering::is_gt),
        "$gte" => ordered(values, operand, Ordering::is_ge),
        "$lt" => ordered(values, operand, Ordering::is_lt),
        "$lte" => ordered(values, operand, Ordering::is_le),
        "$in" => list()?.iter().any(|operand| equals(values, operand)),
        "$nin" => !list()?.iter().any(|operand| equals(values, operand)),
        "$all" => !list()?.is_empty() && list()?.iter().all(|operand| equals(values, operand)),
        "$exists" => {
            let wanted = !matches!(operand, Bson::Boolean(false) | Bson::Int32(0) | Bson::Int64(0) | Bson::Null);
            values.iter().any(Option::is_some) == wanted
        }
        "$size" => {
            let size = integer(operand).or_else(|| operand.as_f64().map(|size| size as i64));
            let size = size.ok_or_else(|| needs("a number"))?;
            arrays(values).any(|array| array.len() as i64 == size)
        }
        "$not" => {
            let operators = operand.as_document().filter(|operators| !operators.is_empty());
            !fits(values, &Bson::Document(operators.ok_or_else(|| needs("a document of operators"))?.clone()))?
        }
        "$elemMatch" => {
            let query = operand.as_document().ok_or_else(|| needs("an Object"))?;
            let on_values = query
                .keys()
                .next()
                .is_some_and(|key| key.starts_with('$') && !matches!(key.as_str(), "$and" | "$or" | "$nor"));
            let mut found = false;
            for element in arrays(values).flatten() {
                found |= match element {
                    element if on_values => fits(&[Some(element)], operand)?,
                    Bson::Document(element) => matches(element, query)?,
                    _ => false,
                };
            }
            found
        }
        "$regex" | "$options" => return Err(CommandError::not_here("regular expressions")),
        "$type" | "$mod" => return Err(CommandError::not_here(name)),
        _ => return Err(CommandError::bad_value(format!("unknown operator: {name}"))),
    })
}

/// A value equals itself, and an array equals each of its elements too; what is not there equals null.
fn equals(values: &[Option<&Bson>], operand: &Bson) -> bool {
    each(values).any(|value| match value {
        Some(value) => compare(value, operand).is_eq(),
        None => matches!(operand, Bson::Null),
    })
}

fn ordered(values: &[Option<&Bson>], operand: &Bson, fits: fn(Ordering) -> bool) -> bool {
    each(values).any(|value| {
        let value = value.unwrap_or(&Bson::Null);
        comparable(value, operand) && fits(compare(value, operand))
    })
}

/// The values, and after an array its elements.
fn each<'a>(values: &[Option<&'a Bson>]) -> impl Iterator<Item = Option<&'a Bson>> {
    values.iter().flat_map(|value| {
        let elements = value.and_then(Bson::as_array).map(Vec::as_slice).unwrap_or_default();
        std::iter::once(*value).chain(elements.iter().map(Some))
    })
}

fn arrays<'a>(values: &[Option<&'a Bson>]) -> impl Iterator<Item = &'a Vec<Bson>> {
    values.iter().filter_map(|value| value.and_then(Bson::as_array))
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn queries_select_what_mongodb_selects() {
        let document =
            doc! { "a": 5, "s": "x", "n": null, "tags": ["p", "q"], "in": { "b": [{ "c": 1 }, { "c": 9 }] } };
        let fitting = [
            doc! {},
            doc! { "a": 5 },
            doc! { "a": 5.0, "s": "x" },
            doc! { "tags": "p" },
            doc! { "tags": ["p", "q"] },
            doc! { "missing": null },
            doc! { "n": null },
            doc! { "a": { "$gt": 4, "$lte": 5_i64 } },
            doc! { "a": { "$in": [1, 5] } },
            doc! { "a": { "$nin": [1, 2] } },
            doc! { "a": { "$ne": 4 } },
            doc! { "a": { "$not": { "$gt": 7 } } },
            doc! { "in.b.c": 9 },
            doc! { "in.b.0.c": 1 },
            doc! { "in.b": { "$elemMatch": { "c": { "$gt": 5 } } } },
            doc! { "tags": { "$elemMatch": { "$gt": "p" } } },
            doc! { "tags": { "$size": 2, "$all": ["q"] } },
            doc! { "missing": { "$exists": false } },
            doc! { "$or": [{ "a": 1 }, { "s": "x" }], "$nor": [{ "a": 1 }] },
            doc! { "$and": [{ "a": 5 }, { "s": { "$lt": "y" } }] },
            doc! { "n": { "$gte": null } },
        ];
        for filter in fitting {
            assert_eq!(matches(&document, &filter), Ok(true), "{filter}");
        }
        let others = [
            doc! { "a": "5" },
            doc! { "a": { "$gt": "4" } },
            doc! { "tags": "r" },
            doc! { "tags": ["q", "p"] },
            doc! { "a": { "$exists": false } },
            doc! { "a": { "$in": [] } },
            doc! { "in.b.0.c": 9 },
            doc! { "missing": { "$gt": 0 } },
            doc! { "$or": [{ "a": 1 }, { "s": "y" }] },
        ];
        for filter in others {
            assert_eq!(matches(&document, &filter), Ok(false), "{filter}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_on_any_document() {
        for (filter, code) in [
            (doc! { "$foo": 1 }, 2),
            (doc! { "a": { "$foo": 1 } }, 2),
            (doc! { "a": { "$in": 1 } }, 2),
            (doc! { "$or": [] }, 2),
            (doc! { "a": { "$regex": "x" } }, 238),
            (doc! { "$where": "true" }, 238),
        ] {
            assert_eq!(check(&filter).map_err(|error| error.code()), Err(code), "{filter}");
        }
    }
}
