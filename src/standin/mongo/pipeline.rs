//! Aggregation: as much as drivers' `countDocuments` and simple reports need.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};

use super::error::CommandError;
use super::filter;
use super::order::{Key, compare, float, integer};
use super::path;
use super::project::{self, Projection};

/// Runs `documents` through the stages of `pipeline`.
pub(super) fn run(mut documents: Vec<Document>, pipeline: &[Bson]) -> Result<Vec<Document>, CommandError> {
    for stage in pipeline {
        let (name, operand) =
            stage.as_document().filter(|stage| stage.len() == 1).and_then(|stage| stage.iter().next()).ok_or_else(
                || {
                    let message = "A pipeline stage specification object must contain exactly one field.";
                    CommandError::new(40323, "Location40323", message)
                },
            )?;
        documents = run_stage(documents, name, operand)?;
    }
    Ok(documents)
}

fn run_stage(mut documents: Vec<Document>, name: &str, operand: &Bson) -> Result<Vec<Document>, CommandError> {
    let fields = || {
        let no_object = || CommandError::failed_to_parse(format!("{name} takes an object, found {operand}"));
        operand.as_document().ok_or_else(no_object)
    };
    match name {
        "$match" => {
            filter::check(fields()?)?;
            let mut kept = Vec::new();
            for document in documents {
                if filter::matches(&document, fields()?)? {
                    kept.push(document);
                }
            }
            Ok(kept)
        }
        "$sort" => {
            project::sort(&mut documents, fields()?)?;
            Ok(documents)
        }
        "$skip" => Ok(documents.split_off(number(name, operand)?.min(documents.len()))),
        "$limit" => {
            documents.truncate(number(name, operand)?);
            Ok(documents)
        }
        "$project" => {
            let projection = Projection::parse(fields()?)?;
            Ok(documents.iter().map(|document| projection.apply(document)).collect())
        }
        "$count" => {
            let field = operand.as_str().filter(|field| !field.is_empty());
            let field = field.ok_or_else(|| CommandError::bad_value("the count field must be a non-empty string"))?;
            let count = documents.len() as i32;
            Ok(if count == 0 { Vec::new() } else { vec![doc! { field: count }] })
        }
        "$group" => group(&documents, fields()?),
        _ => {
            let message = format!("Unrecognized pipeline stage name: '{name}', or one that the stand-in has not");
            Err(CommandError::new(40324, "Location40324", message))
        }
    }
}

fn number(name: &str, operand: &Bson) -> Result<usize, CommandError> {
    let number = integer(operand).or_else(|| operand.as_f64().map(|number| number as i64));
    number
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| CommandError::bad_value(format!("{name} takes a number from 0, found {operand}")))
}

fn group(documents: &[Document], fields: &Document) -> Result<Vec<Document>, CommandError> {
    let by = fields
        .get("_id")
        .ok_or_else(|| CommandError::new(15955, "Location15955", "a group specification must include an _id"))?;
    let mut groups: BTreeMap<Key, Vec<&Document>> = BTreeMap::new();
    for document in documents {
        groups.entry(Key(evaluate(document, by)?.unwrap_or(Bson::Null))).or_default().push(document);
    }
    let mut results = Vec::new();
    for (Key(id), members) in groups {
        let mut result = doc! { "_id": id };
        for (field, accumulator) in fields.iter().filter(|(field, _)| *field != "_id") {
            let single = accumulator.as_document().filter(|accumulator| accumulator.len() == 1);
            let (name, expression) = single.and_then(|accumulator| accumulator.iter().next()).ok_or_else(|| {
                let message = format!("The field '{field}' must be an accumulator object");
                CommandError::new(40234, "Location40234", message)
            })?;
            result.insert(field, accumulate(name, expression, &members)?);
        }
        results.push(result);
    }
    Ok(results)
}

fn accumulate(name: &str, expression: &Bson, members: &[&Document]) -> Result<Bson, CommandError> {
    let mut values = Vec::new();
    for member in members {
        values.push(evaluate(member, expression)?);
    }
    let present = || values.iter().flatten().filter(|value| !matches!(value, Bson::Null));
    Ok(match name {
        "$sum" => sum(present()),
        "$count" => Bson::Int32(members.len() as i32),
        "$avg" => {
            let numbers: Vec<f64> = present().filter_map(float).collect();
            let count = numbers.len() as f64;
            if numbers.is_empty() { Bson::Null } else { Bson::Double(numbers.iter().sum::<f64>() / count) }
        }
        "$min" => present().min_by(|a, b| compare(a, b)).cloned().unwrap_or(Bson::Null),
        "$max" => present().max_by(|a, b| compare(a, b)).cloned().unwrap_or(Bson::Null),
        "$first" => values.first().cloned().flatten().unwrap_or(Bson::Null),
        "$last" => values.last().cloned().flatten().unwrap_or(Bson::Null),
        "$push" => Bson::Array(values.into_iter().flatten().collect()),
        _ => {
            let message = format!("unknown group operator '{name}', or one that the stand-in has not");
            return Err(CommandError::new(15952, "Location15952", message));
        }
    })
}

/// The sum of the numbers among `values`, in the widest of their types.
fn sum<'a>(values: impl Iterator<Item = &'a Bson> + Clone) -> Bson {
    let numbers = values.filter(|value| float(value).is_some());
    let whole = numbers.clone().map(integer).collect::<Option<Vec<_>>>();
    match whole.and_then(|whole| whole.into_iter().try_fold(0_i64, i64::checked_add)) {
        Some(total) => {
            let wide = numbers.clone().any(|value| matches!(value, Bson::Int64(_)));
            i32::try_from(total).ok().filter(|_| !wide).map_or(Bson::Int64(total), Bson::Int32)
        }
        None => Bson::Double(numbers.filter_map(float).sum()),
    }
}

/// An expression's value: a field by `$path`, a document of expressions, or a constant.
fn evaluate(document: &Document, expression: &Bson) -> Result<Option<Bson>, CommandError> {
    match expression {
        Bson::String(text) if text.starts_with("$$") => Err(CommandError::not_here("aggregation variables")),
        Bson::String(text) => Ok(match text.strip_prefix('$') {
            Some(field) => path::get(document, field).cloned(),
            None => Some(expression.clone()),
        }),
        Bson::Document(fields) => {
            let mut out = Document::new();
            for (field, expression) in fields {
                if field.starts_with('$') {
                    return Err(CommandError::not_here(&format!("aggregation expression {field}")));
                }
                if let Some(value) = evaluate(document, expression)? {
                    out.insert(field, value);
                }
            }
            Ok(Some(Bson::Document(out)))
        }
        constant => Ok(Some(constant.clone())),
    }
}

#[cfg(test)]
mod tests {
    use bson::bson;

    use super::*;

    fn run_on(documents: Vec<Document>, pipeline: Bson) -> Result<Vec<Document>, i32> {
        run(documents, pipeline.as_array().expect("stages")).map_err(|error| error.code())
    }

    #[test]
    fn a_driver_counts_documents() {
        let documents = (0..10).map(|n| doc! { "n": n }).collect();
        let pipeline = bson!([
            { "$match": { "n": { "$gte": 2 } } },
            { "$skip": 1 },
            { "$limit": 5_i64 },
            { "$group": { "_id": 1, "n": { "$sum": 1 } } },
        ]);
        assert_eq!(run_on(documents, pipeline), Ok(vec![doc! { "_id": 1, "n": 5 }]));
    }

    #[test]
    fn groups_accumulate_by_key() {
        let documents =
            vec![doc! { "k": "a", "v": 1 }, doc! { "k": "b", "v": 2.5 }, doc! { "k": "a", "v": 4 }, doc! {}];
        let pipeline = bson!([
            { "$group": {
                "_id": "$k", "sum": { "$sum": "$v" }, "avg": { "$avg": "$v" }, "max": { "$max": "$v" },
                "all": { "$push": "$v" },
            } },
            { "$sort": { "sum": -1 } },
            { "$project": { "avg": 0 } },
        ]);
        assert_eq!(
            run_on(documents, pipeline),
            Ok(vec![
                doc! { "_id": "a", "sum": 5, "max": 4, "all": [1, 4] },
                doc! { "_id": "b", "sum": 2.5, "max": 2.5, "all": [2.5] },
                doc! { "_id": null, "sum": 0, "max": null, "all": [] },
            ])
        );
        assert_eq!(run_on(vec![doc! {}, doc! {}], bson!([{ "$count": "n" }])), Ok(vec![doc! { "n": 2 }]));
        assert_eq!(run_on(vec![], bson!([{ "$count": "n" }])), Ok(vec![]));
    }

    #[test]
    fn stages_that_are_not_there_are_named() {
        assert_eq!(run_on(vec![], bson!([{ "$lookup": {} }])), Err(40324));
        assert_eq!(run_on(vec![], bson!([{}])), Err(40323));
        assert_eq!(run_on(vec![doc! {}], bson!([{ "$group": { "_id": { "$year": "$d" } } }])), Err(238));
    }
}
