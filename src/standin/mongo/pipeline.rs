//! Aggregation, limited to the pipeline of the drivers' `countDocuments`.

use bson::{Bson, Document, doc};

use super::error::CommandError;
use super::filter;
use super::order::integer;

/// Runs `documents` through the stages of `pipeline`.
pub(super) fn run(mut documents: Vec<Document>, pipeline: &[Bson]) -> Result<Vec<Document>, CommandError> {
    for stage in pipeline {
        let single = stage.as_document().filter(|stage| stage.len() == 1).and_then(|stage| stage.iter().next());
        let (name, operand) = single.ok_or_else(|| {
            let message = "A pipeline stage specification object must contain exactly one field.";
            CommandError::new(40323, "Location40323", message)
        })?;
        documents = match (name.as_str(), operand) {
            ("$match", Bson::Document(query)) => {
                filter::check(query)?;
                let mut kept = Vec::new();
                for document in documents {
                    if filter::matches(&document, query)? {
                        kept.push(document);
                    }
                }
                kept
            }
            ("$skip", count) => documents.split_off(number(name, count)?.min(documents.len())),
            ("$limit", count) => {
                documents.truncate(number(name, count)?);
                documents
            }
            ("$group", Bson::Document(group)) => {
                // A single group that counts all documents.
                let id = group.get("_id").filter(|id| !matches!(id, Bson::String(_) | Bson::Document(_)));
                let one = Bson::Document(doc! { "$sum": 1 });
                let counts = || group.iter().filter(|(field, _)| *field != "_id");
                let (Some(id), true) = (id, counts().all(|(_, sum)| *sum == one)) else {
                    return Err(CommandError::unsupported("$group but { _id: constant, n: { $sum: 1 } }"));
                };
                let mut result = doc! { "_id": id.clone() };
                result.extend(counts().map(|(field, _)| (field.clone(), Bson::Int32(documents.len() as i32))));
                if documents.is_empty() { Vec::new() } else { vec![result] }
            }
            _ => return Err(CommandError::unsupported(&format!("pipeline stage {name}"))),
        };
    }
    Ok(documents)
}

fn number(name: &str, operand: &Bson) -> Result<usize, CommandError> {
    let number = integer(operand).or_else(|| operand.as_f64().map(|number| number as i64));
    number
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| CommandError::bad_value(format!("{name} takes a number from 0, found {operand}")))
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
        let documents: Vec<_> = (0..10).map(|n| doc! { "n": n }).collect();
        let pipeline = bson!([
            { "$match": { "n": { "$gte": 2 } } },
            { "$skip": 1 },
            { "$limit": 5_i64 },
            { "$group": { "_id": 1, "n": { "$sum": 1 } } },
        ]);
        assert_eq!(run_on(documents, pipeline.clone()), Ok(vec![doc! { "_id": 1, "n": 5 }]));
        assert_eq!(run_on(vec![], pipeline), Ok(vec![]));
    }

    #[test]
    fn unsupported_stages_are_refused() {
        assert_eq!(run_on(vec![], bson!([{ "$lookup": {} }])), Err(59));
        assert_eq!(run_on(vec![], bson!([{}])), Err(40323));
        assert_eq!(run_on(vec![], bson!([{ "$group": { "_id": "$k", "n": { "$sum": 1 } } }])), Err(59));
        assert_eq!(run_on(vec![], bson!([{ "$group": { "_id": 1, "n": { "$avg": "$v" } } }])), Err(59));
    }
}
