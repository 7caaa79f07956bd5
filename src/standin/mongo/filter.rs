//! Whether a document matches a query: equality, comparisons and `$in`, on dotted paths.

use std::cmp::Ordering;

use bson::{Bson, Document};

use super::error::CommandError;
use super::order::{comparable, compare};
use super::path;

/// Whether `document` matches `filter`.
///
/// # Errors
///
/// An unsupported operator, or an invalid operand.
pub(super) fn matches(document: &Document, filter: &Document) -> Result<bool, CommandError> {
    for (key, condition) in filter {
        if key.starts_with('$') {
            return Err(CommandError::unsupported(&format!("query operator {key}")));
        }
        let value = path::get(document, key);
        let fits = match condition {
            Bson::Document(operators) if operators.keys().next().is_some_and(|key| key.starts_with('$')) => {
                let mut all = true;
                for (name, operand) in operators {
                    all &= fits(value, name, operand)?;
                }
                all
            }
            Bson::RegularExpression(_) => return Err(CommandError::unsupported("regular expressions")),
            operand => equals(value, operand),
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Checks that `filter` is supported, independently of documents.
pub(super) fn check(filter: &Document) -> Result<(), CommandError> {
    filter.iter().try_for_each(|(key, condition)| {
        let alone = [(key.clone(), condition.clone())].into_iter().collect();
        matches(&Document::new(), &alone).map(|_| ())
    })
}

fn fits(value: Option<&Bson>, name: &str, operand: &Bson) -> Result<bool, CommandError> {
    Ok(match name {
        "$eq" => equals(value, operand),
        "$ne" => !equals(value, operand),
        "$gt" => ordered(value, operand, Ordering::is_gt),
        "$gte" => ordered(value, operand, Ordering::is_ge),
        "$lt" => ordered(value, operand, Ordering::is_lt),
        "$lte" => ordered(value, operand, Ordering::is_le),
        "$in" => {
            let list = operand.as_array().ok_or_else(|| CommandError::bad_value("$in needs an array"))?;
            list.iter().any(|operand| equals(value, operand))
        }
        _ => return Err(CommandError::unsupported(&format!("query operator {name}"))),
    })
}

/// Equality, where an array also equals each of its elements, and a missing value equals null.
fn equals(value: Option<&Bson>, operand: &Bson) -> bool {
    match value {
        Some(value) => with_elements(value).any(|value| compare(value, operand).is_eq()),
        None => matches!(operand, Bson::Null),
    }
}

fn ordered(value: Option<&Bson>, operand: &Bson, fits: fn(Ordering) -> bool) -> bool {
    let value = value.unwrap_or(&Bson::Null);
    with_elements(value).any(|value| comparable(value, operand) && fits(compare(value, operand)))
}

fn with_elements(value: &Bson) -> impl Iterator<Item = &Bson> {
    std::iter::once(value).chain(value.as_array().into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn queries_match_as_in_mongodb() {
        let document = doc! { "a": 5, "s": "x", "n": null, "tags": ["p", "q"], "in": { "b": [{ "c": 1 }] } };
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
            doc! { "a": { "$ne": 4 } },
            doc! { "in.b.0.c": 1 },
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
            doc! { "a": { "$in": [] } },
            doc! { "in.b.0.c": 9 },
            doc! { "missing": { "$gt": 0 } },
        ];
        for filter in others {
            assert_eq!(matches(&document, &filter), Ok(false), "{filter}");
        }
    }

    #[test]
    fn unsupported_operators_are_an_error_on_any_document() {
        for (filter, code) in [
            (doc! { "$or": [{ "a": 1 }] }, 59),
            (doc! { "a": 1, "b": { "$exists": true } }, 59),
            (doc! { "a": { "$in": 1 } }, 2),
            (doc! { "a": { "$gt": 1, "$regex": "x" } }, 59),
        ] {
            assert_eq!(check(&filter).map_err(|error| error.code()), Err(code), "{filter}");
        }
    }
}
