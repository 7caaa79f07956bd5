//! MongoDB's sort order of values (*Comparison/Sort Order*): first by type, numbers by value.

use std::cmp::Ordering;

use bson::{Bson, Document};

use super::error::CommandError;
use super::path;

/// A value with MongoDB's order, as a map key.
#[derive(Debug, Clone)]
pub(super) struct OrderedBson(pub(super) Bson);

impl Ord for OrderedBson {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for OrderedBson {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for OrderedBson {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for OrderedBson {}

/// Compares two values.
pub(super) fn compare(a: &Bson, b: &Bson) -> Ordering {
    let by_kind = kind(a).cmp(&kind(b));
    by_kind.then_with(|| match (a, b) {
        (Bson::String(a) | Bson::Symbol(a), Bson::String(b) | Bson::Symbol(b)) => a.cmp(b),
        (Bson::Document(a), Bson::Document(b)) => compare_documents(a, b),
        (Bson::Array(a), Bson::Array(b)) => {
            let pairs = a.iter().zip(b).map(|(a, b)| compare(a, b));
            pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
        }
        (Bson::Binary(a), Bson::Binary(b)) => {
            let key = |binary: &bson::Binary| (binary.bytes.len(), u8::from(binary.subtype));
            key(a).cmp(&key(b)).then_with(|| a.bytes.cmp(&b.bytes))
        }
        (Bson::ObjectId(a), Bson::ObjectId(b)) => a.cmp(b),
        (Bson::Boolean(a), Bson::Boolean(b)) => a.cmp(b),
        (Bson::DateTime(a), Bson::DateTime(b)) => a.cmp(b),
        (Bson::Timestamp(a), Bson::Timestamp(b)) => (a.time, a.increment).cmp(&(b.time, b.increment)),
        (Bson::RegularExpression(a), Bson::RegularExpression(b)) => {
            (a.pattern.as_str(), a.options.as_str()).cmp(&(b.pattern.as_str(), b.options.as_str()))
        }
        (Bson::JavaScriptCode(a), Bson::JavaScriptCode(b)) => a.cmp(b),
        (Bson::JavaScriptCodeWithScope(a), Bson::JavaScriptCodeWithScope(b)) => {
            a.code.cmp(&b.code).then_with(|| compare_documents(&a.scope, &b.scope))
        }
        _ => compare_numbers(a, b),
    })
}

/// Whether two values have the same type bracket, so that `$gt` and similar operators compare them.
pub(super) fn comparable(a: &Bson, b: &Bson) -> bool {
    kind(a) == kind(b)
}

/// Sorts items that hold a document each by a sort specification: fields with 1 or -1.
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
        keys.iter().fold(Ordering::Equal, |so_far, (field, descending)| {
            so_far.then_with(|| {
                let value = |item| path::get(document(item), field).unwrap_or(&Bson::Null);
                let order = compare(value(a), value(b));
                if *descending { order.reverse() } else { order }
            })
        })
    });
    Ok(())
}

fn compare_documents(a: &Document, b: &Document) -> Ordering {
    let pairs = a.iter().zip(b).map(|((a_key, a), (b_key, b))| {
        kind(a).cmp(&kind(b)).then_with(|| a_key.cmp(b_key)).then_with(|| compare(a, b))
    });
    pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
}

fn compare_numbers(a: &Bson, b: &Bson) -> Ordering {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => float(b).map_or(Ordering::Equal, |b| integer_to_float(a, b)),
        (None, Some(b)) => float(a).map_or(Ordering::Equal, |a| integer_to_float(b, a).reverse()),
        (None, None) => match (float(a), float(b)) {
            // NaN is the lowest number, and equal to itself; the two zeros are equal.
            (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())),
            _ => Ordering::Equal,
        },
    }
}

fn integer_to_float(integer: i64, float: f64) -> Ordering {
    /// 2^63, the first float past every integer.
    const END: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() || float < -END {
        Ordering::Greater
    } else if float >= END {
        Ordering::Less
    } else {
        integer
            .cmp(&(float.trunc() as i64))
            .then_with(|| 0.0_f64.partial_cmp(&float.fract()).unwrap_or(Ordering::Equal))
    }
}

/// The value of a 32-bit or 64-bit integer.
pub(super) fn integer(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

/// A number as a float; decimals lose what a float can't hold.
pub(super) fn float(value: &Bson) -> Option<f64> {
    match value {
        Bson::Double(number) => Some(*number),
        Bson::Decimal128(number) => number.to_string().parse().ok(),
        other => integer(other).map(|number| number as f64),
    }
}

/// The rank of a value's type.
fn kind(value: &Bson) -> u8 {
    match value {
        Bson::MinKey => 0,
        Bson::Undefined => 1,
        Bson::Null => 2,
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => 3,
        Bson::String(_) | Bson::Symbol(_) => 4,
        Bson::Document(_) => 5,
        Bson::Array(_) => 6,
        Bson::Binary(_) => 7,
        Bson::ObjectId(_) => 8,
        Bson::Boolean(_) => 9,
        Bson::DateTime(_) => 10,
        Bson::Timestamp(_) => 11,
        Bson::RegularExpression(_) => 12,
        Bson::DbPointer(_) => 13,
        Bson::JavaScriptCode(_) => 14,
        Bson::JavaScriptCodeWithScope(_) => 15,
        Bson::MaxKey => 16,
    }
}

#[cfg(test)]
mod tests {
    use bson::{bson, doc, oid::ObjectId};

    use super::*;

    #[test]
    fn numbers_compare_by_value_whatever_their_type() {
        assert_eq!(compare(&bson!(1), &bson!(1.0)), Ordering::Equal);
        assert_eq!(compare(&bson!(1_i64), &bson!(1)), Ordering::Equal);
        assert_eq!(compare(&bson!(i64::MAX), &bson!(9.3e18)), Ordering::Less);
        assert_eq!(compare(&bson!(-1), &bson!(-1.5)), Ordering::Greater);
        assert_eq!(compare(&bson!(f64::NAN), &bson!(f64::NAN)), Ordering::Equal);
        assert_eq!(compare(&bson!(f64::NAN), &bson!(f64::NEG_INFINITY)), Ordering::Less);
        let decimal = Bson::Decimal128("1.5".parse().unwrap());
        assert_eq!(compare(&decimal, &bson!(1.5)), Ordering::Equal);
    }

    #[test]
    fn types_are_in_mongodbs_order() {
        let sorted = [
            Bson::MinKey,
            bson!(null),
            bson!(99),
            bson!("a"),
            bson!({ "a": 1 }),
            bson!([1]),
            Bson::ObjectId(ObjectId::new()),
            bson!(false),
            Bson::DateTime(bson::DateTime::now()),
            Bson::MaxKey,
        ];
        assert!(sorted.is_sorted_by(|a, b| compare(a, b).is_lt()));
    }

    #[test]
    fn documents_compare_field_by_field() {
        assert_eq!(compare(&bson!({ "a": 1, "b": 2 }), &bson!({ "a": 1, "b": 3 })), Ordering::Less);
        assert_eq!(compare(&bson!({ "a": 1 }), &bson!({ "a": 1, "b": 1 })), Ordering::Less);
        assert_eq!(compare(&bson!([1, 2]), &bson!([1, 3])), Ordering::Less);
    }

    #[test]
    fn results_are_sorted_by_several_fields() {
        let mut list = vec![doc! { "a": 1, "b": 1 }, doc! { "b": 9 }, doc! { "a": 1, "b": 2 }];
        sort_by(&mut list, &doc! { "a": -1, "b": -1 }, |document| document).unwrap();
        assert_eq!(list, [doc! { "a": 1, "b": 2 }, doc! { "a": 1, "b": 1 }, doc! { "b": 9 }]);
        assert_eq!(sort_by(&mut list, &doc! { "a": 2 }, |document| document).unwrap_err().code(), 15975);
    }
}
