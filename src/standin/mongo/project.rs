//! The order of results, and which of their fields are sent.

use std::cmp::Ordering;

use bson::{Bson, Document};

use super::error::CommandError;
use super::order::{compare, integer};
use super::path;

/// Sorts by a sort specification: fields with 1 or -1.
pub(super) fn sort(documents: &mut [Document], by: &Document) -> Result<(), CommandError> {
    sort_by(documents, by, |document| document)
}

/// Sorts whatever holds a document each.
pub(super) fn sort_by<T>(items: &mut [T], by: &Document, document: fn(&T) -> &Document) -> Result<(), CommandError> {
    let mut keys = Vec::new();
    for (field, direction) in by {
        let direction = integer(direction).or_else(|| direction.as_f64().map(|direction| direction as i64));
        match direction {
            Some(1) => keys.push((field, false)),
            Some(-1) => keys.push((field, true)),
            _ => {
                let message = "$sort key ordering must be 1 (for ascending) or -1 (for descending)";
                return Err(CommandError::new(15975, "Location15975", message));
            }
        }
    }
    items.sort_by(|a, b| {
        let (a, b) = (document(a), document(b));
        keys.iter().fold(Ordering::Equal, |so_far, (field, descending)| {
            so_far.then_with(|| {
                let order = compare(&sort_key(a, field, *descending), &sort_key(b, field, *descending));
                if *descending { order.reverse() } else { order }
            })
        })
    });
    Ok(())
}

/// What a document is sorted by: of an array its least element, or its greatest in descending order.
fn sort_key(document: &Document, field: &str, descending: bool) -> Bson {
    let values = path::values(document, field).into_iter().flat_map(|value| match value {
        Some(Bson::Array(elements)) if !elements.is_empty() => elements.iter().collect(),
        Some(value) => vec![value],
        None => vec![&Bson::Null],
    });
    let key = if descending { values.max_by(|a, b| compare(a, b)) } else { values.min_by(|a, b| compare(a, b)) };
    key.cloned().unwrap_or(Bson::Null)
}

/// A checked projection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Projection {
    fields: Vec<String>,
    /// The fields are those that are sent; else those that are not.
    include: bool,
    /// Whether `_id` is sent.
    id: bool,
}

impl Projection {
    /// Checks a projection; empty: everything is sent.
    pub(super) fn parse(projection: &Document) -> Result<Self, CommandError> {
        let (mut fields, mut include, mut id) = (Vec::new(), None, None);
        for (field, value) in projection {
            let on = match value {
                Bson::Boolean(on) => *on,
                Bson::Int32(_) | Bson::Int64(_) => integer(value) != Some(0),
                Bson::Double(number) => *number != 0.0,
                _ => return Err(CommandError::not_here(&format!("projection of `{field}` by an expression"))),
            };
            if field == "_id" {
                id = Some(on);
            } else if include.replace(on).is_some_and(|before| before != on) {
                let message = format!("Cannot do inclusion on some fields and exclusion on others: `{field}`");
                return Err(CommandError::new(31254, "Location31254", message));
            } else {
                fields.push(field.clone());
            }
        }
        Ok(Self { fields, include: include.unwrap_or(id == Some(true)), id: id.unwrap_or(true) })
    }

    /// What is sent of `document`.
    pub(super) fn apply(&self, document: &Document) -> Document {
        let mut out = Document::new();
        for (key, value) in document {
            if key == "_id" {
                if self.id {
                    out.insert(key, value.clone());
                }
                continue;
            }
            let below: Vec<&str> = self.fields.iter().filter_map(|field| rest_below(field, key)).collect();
            if let Some(value) = part(value, &below, self.include) {
                out.insert(key, value);
            }
        }
        out
    }
}

/// What is left of a field's path below `key`; empty when `key` is the whole path.
fn rest_below<'a>(field: &'a str, key: &str) -> Option<&'a str> {
    let rest = field.strip_prefix(key)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('.') }
}

/// What is sent of a value, given the paths below it that are named.
fn part(value: &Bson, below: &[&str], include: bool) -> Option<Bson> {
    if below.contains(&"") {
        return include.then(|| value.clone());
    }
    if below.is_empty() {
        return (!include).then(|| value.clone());
    }
    match value {
        Bson::Document(inner) => Some(Bson::Document(
            inner
                .iter()
                .filter_map(|(key, value)| {
                    let deeper: Vec<&str> = below.iter().filter_map(|field| rest_below(field, key)).collect();
                    Some((key.clone(), part(value, &deeper, include)?))
                })
                .collect(),
        )),
        Bson::Array(elements) => {
            let kept = elements.iter().filter(|element| !include || element.as_document().is_some());
            Some(Bson::Array(kept.filter_map(|element| part(element, below, include)).collect()))
        }
        other => (!include).then(|| other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn sent(projection: Document) -> Document {
        let document = doc! { "_id": 1, "a": 1, "b": { "c": 2, "d": 3 }, "l": [{ "x": 1, "y": 2 }, 5] };
        Projection::parse(&projection).expect("a projection").apply(&document)
    }

    #[test]
    fn fields_are_sent_or_left_out_as_asked() {
        assert_eq!(sent(doc! { "a": 1 }), doc! { "_id": 1, "a": 1 });
        assert_eq!(sent(doc! { "a": true, "_id": 0 }), doc! { "a": 1 });
        assert_eq!(sent(doc! { "b.c": 1, "l.x": 1, "_id": 0 }), doc! { "b": { "c": 2 }, "l": [{ "x": 1 }] });
        assert_eq!(sent(doc! { "b.c": 0, "l": 0 }), doc! { "_id": 1, "a": 1, "b": { "d": 3 } });
        assert_eq!(sent(doc! { "_id": 1 }), doc! { "_id": 1 });
        assert_eq!(sent(doc! { "_id": 0 }).len(), 3);
        assert_eq!(sent(doc! {}).len(), 4);
        assert_eq!(Projection::parse(&doc! { "a": 1, "b": 0 }).unwrap_err().code(), 31254);
        assert_eq!(Projection::parse(&doc! { "a": { "$slice": 1 } }).unwrap_err().code(), 238);
    }

    #[test]
    fn results_are_sorted_by_several_fields() {
        let mut list = vec![doc! { "a": 1, "b": 1 }, doc! { "b": 9 }, doc! { "a": 1, "b": 2 }, doc! { "a": [0, 5] }];
        sort(&mut list, &doc! { "a": -1, "b": -1 }).unwrap();
        assert_eq!(list, [doc! { "a": [0, 5] }, doc! { "a": 1, "b": 2 }, doc! { "a": 1, "b": 1 }, doc! { "b": 9 }]);
        assert_eq!(sort(&mut list, &doc! { "a": 2 }).unwrap_err().code(), 15975);
    }
}
