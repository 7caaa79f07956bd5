//! Dotted paths into documents: `a.b.0.c`.

use bson::{Bson, Document};

use super::MAX_DEPTH;
use super::error::CommandError;

/// The value at `path`, entering arrays by index alone.
pub(super) fn get<'a>(document: &'a Document, path: &str) -> Option<&'a Bson> {
    let mut parts = path.split('.');
    let mut value = document.get(parts.next()?)?;
    for part in parts {
        value = match value {
            Bson::Document(inner) => inner.get(part)?,
            Bson::Array(elements) => elements.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

/// Sets `value` at `path`, creating intermediate documents.
///
/// # Errors
///
/// When an intermediate value is not a document, or the path exceeds the nesting limit.
pub(super) fn set(document: &mut Document, path: &str, value: Bson) -> Result<(), CommandError> {
    if path.split('.').any(str::is_empty) {
        let message = format!("The update path '{path}' contains an empty field name, which is not allowed.");
        return Err(CommandError::new(56, "EmptyFieldName", message));
    }
    if path.split('.').count() > MAX_DEPTH {
        return Err(CommandError::new(15, "Overflow", format!("a path of more than {MAX_DEPTH} fields")));
    }
    let (way, last) = path.rsplit_once('.').map_or((None, path), |(way, last)| (Some(way), last));
    let mut holder = document;
    for part in way.into_iter().flat_map(|way| way.split('.')) {
        let inner = holder.entry(part.to_owned()).or_insert_with(|| Bson::Document(Document::new()));
        holder = match inner {
            Bson::Document(inner) => inner,
            Bson::Array(_) => return Err(CommandError::unsupported("update of array elements")),
            _ => {
                let message = format!("Cannot create field in element '{part}' of '{path}'");
                return Err(CommandError::new(28, "PathNotViable", message));
            }
        };
    }
    holder.insert(last, value);
    Ok(())
}

/// Removes the field at `path`.
pub(super) fn unset(document: &mut Document, path: &str) {
    let (way, last) = path.rsplit_once('.').map_or((None, path), |(way, last)| (Some(way), last));
    let mut holder = document;
    for part in way.into_iter().flat_map(|way| way.split('.')) {
        let Some(Bson::Document(inner)) = holder.get_mut(part) else { return };
        holder = inner;
    }
    holder.remove(last);
}

#[cfg(test)]
mod tests {
    use bson::{bson, doc};

    use super::*;

    #[test]
    fn a_path_enters_documents_and_arrays() {
        let document = doc! { "a": [{ "b": 1 }, { "b": 2 }, 5], "c": { "d": 3 } };
        assert_eq!(get(&document, "a.1.b"), Some(&bson!(2)));
        assert_eq!(get(&document, "a.2"), Some(&bson!(5)));
        assert_eq!(get(&document, "c.d"), Some(&bson!(3)));
        assert_eq!(get(&document, "c.d.e"), None);
    }

    #[test]
    fn a_write_creates_intermediate_documents() {
        let mut document = doc! { "list": [1], "n": 1 };
        set(&mut document, "a.b.c", bson!(1)).unwrap();
        assert_eq!(document, doc! { "list": [1], "n": 1, "a": { "b": { "c": 1 } } });
        unset(&mut document, "a.b.c");
        unset(&mut document, "not.there");
        unset(&mut document, "list");
        assert_eq!(document, doc! { "n": 1, "a": { "b": {} } });
        assert_eq!(set(&mut document, "n.x", bson!(1)).unwrap_err().code(), 28);
        assert_eq!(set(&mut document, "a..b", bson!(1)).unwrap_err().code(), 56);
        assert_eq!(set(&mut document, &vec!["a"; 101].join("."), bson!(1)).unwrap_err().code(), 15);
    }
}
