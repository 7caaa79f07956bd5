//! Dotted paths into documents: `a.b.0.c`.

use bson::{Bson, Document};

use super::MAX_DEPTH;
use super::error::CommandError;

/// Largest index that a write may extend an array to (MongoDB allows 1,500,000 more than there are).
const MAX_INDEX: usize = 10_000;

/// Every value that `path` leads to. An array on the way is entered both by index and into each of its elements; `None`
/// stands for a way that ends early.
pub(super) fn values<'a>(document: &'a Document, path: &str) -> Vec<Option<&'a Bson>> {
    let parts: Vec<&str> = path.split('.').collect();
    let mut found = Vec::new();
    follow(document, &parts, &mut found);
    found
}

fn follow<'a>(document: &'a Document, parts: &[&str], found: &mut Vec<Option<&'a Bson>>) {
    let Some((first, rest)) = parts.split_first() else {
        return;
    };
    match document.get(first) {
        Some(value) => enter(value, rest, found),
        None => found.push(None),
    }
}

fn enter<'a>(value: &'a Bson, rest: &[&str], found: &mut Vec<Option<&'a Bson>>) {
    let Some((first, after)) = rest.split_first() else {
        found.push(Some(value));
        return;
    };
    match value {
        Bson::Document(inner) => follow(inner, rest, found),
        Bson::Array(elements) => {
            let before = found.len();
            if let Some(element) = first.parse::<usize>().ok().and_then(|index| elements.get(index)) {
                enter(element, after, found);
            }
            for element in elements {
                if let Bson::Document(inner) = element {
                    follow(inner, rest, found);
                }
            }
            if found.len() == before {
                found.push(None);
            }
        }
        _ => found.push(None),
    }
}

/// The one value at `path`, entering arrays by index alone.
pub(super) fn get<'a>(document: &'a Document, path: &str) -> Option<&'a Bson> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let mut value = document.get(first)?;
    for part in rest.into_iter().flat_map(|rest| rest.split('.')) {
        value = match value {
            Bson::Document(inner) => inner.get(part)?,
            Bson::Array(elements) => elements.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

/// Puts `value` at `path`, making documents on the way.
///
/// # Errors
///
/// When a value on the way is neither document nor array, or the path is deeper than documents may be.
pub(super) fn set(document: &mut Document, path: &str, value: Bson) -> Result<(), CommandError> {
    if path.split('.').any(str::is_empty) {
        let message = format!("The update path '{path}' contains an empty field name, which is not allowed.");
        return Err(CommandError::new(56, "EmptyFieldName", message));
    }
    if path.split('.').count() > MAX_DEPTH {
        return Err(CommandError::new(15, "Overflow", format!("a path of more than {MAX_DEPTH} fields")));
    }
    set_below(document, path, value)
}

fn set_below(document: &mut Document, path: &str, value: Bson) -> Result<(), CommandError> {
    match path.split_once('.') {
        None => {
            document.insert(path, value);
            Ok(())
        }
        Some((first, rest)) => {
            let inner = document.entry(first.to_owned()).or_insert_with(|| Bson::Document(Document::new()));
            set_in(inner, first, rest, value)
        }
    }
}

fn set_in(holder: &mut Bson, name: &str, path: &str, value: Bson) -> Result<(), CommandError> {
    match holder {
        Bson::Document(inner) => set_below(inner, path, value),
        Bson::Array(elements) => {
            let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
            let index = first.parse::<usize>().ok().filter(|index| *index <= elements.len().max(MAX_INDEX));
            let index = index.ok_or_else(|| not_viable(first, name))?;
            if elements.len() <= index {
                elements.resize(index + 1, Bson::Null);
            }
            match rest {
                None => {
                    elements[index] = value;
                    Ok(())
                }
                Some(rest) => {
                    if elements[index] == Bson::Null {
                        elements[index] = Bson::Document(Document::new());
                    }
                    set_in(&mut elements[index], first, rest, value)
                }
            }
        }
        _ => Err(not_viable(path, name)),
    }
}

/// Takes the value at `path` out; an array's element becomes null, so that the others keep their places.
pub(super) fn unset(document: &mut Document, path: &str) {
    let Some((way, last)) = path.rsplit_once('.') else {
        document.remove(path);
        return;
    };
    let (first, rest) = way.split_once('.').map_or((way, None), |(first, rest)| (first, Some(rest)));
    let mut holder = document.get_mut(first);
    for part in rest.into_iter().flat_map(|rest| rest.split('.')) {
        holder = match holder {
            Some(Bson::Document(inner)) => inner.get_mut(part),
            Some(Bson::Array(elements)) => part.parse::<usize>().ok().and_then(|index| elements.get_mut(index)),
            _ => None,
        };
    }
    match holder {
        Some(Bson::Document(inner)) => {
            inner.remove(last);
        }
        Some(Bson::Array(elements)) => {
            if let Some(element) = last.parse::<usize>().ok().and_then(|index| elements.get_mut(index)) {
                *element = Bson::Null;
            }
        }
        _ => {}
    }
}

fn not_viable(field: &str, holder: &str) -> CommandError {
    CommandError::new(28, "PathNotViable", format!("Cannot create field '{field}' in element '{holder}'"))
}

#[cfg(test)]
mod tests {
    use bson::{bson, doc};

    use super::*;

    #[test]
    fn a_path_enters_arrays_by_index_and_by_element() {
        let document = doc! { "a": [{ "b": 1 }, { "b": 2 }, 5], "c": { "d": 3 } };
        assert_eq!(values(&document, "a.b"), [Some(&bson!(1)), Some(&bson!(2))]);
        assert_eq!(values(&document, "a.2"), [Some(&bson!(5)), None, None]);
        assert_eq!(values(&document, "c.d"), [Some(&bson!(3))]);
        assert_eq!(values(&document, "c.d.e"), [None]);
        assert_eq!(get(&document, "a.1.b"), Some(&bson!(2)));
    }

    #[test]
    fn a_write_makes_what_is_missing_on_the_way() {
        let mut document = doc! { "list": [1] };
        set(&mut document, "a.b.c", bson!(1)).unwrap();
        set(&mut document, "list.2", bson!(3)).unwrap();
        assert_eq!(document, doc! { "list": [1, null, 3], "a": { "b": { "c": 1 } } });
        unset(&mut document, "a.b.c");
        unset(&mut document, "list.0");
        unset(&mut document, "not.there");
        assert_eq!(document, doc! { "list": [null, null, 3], "a": { "b": {} } });
        assert_eq!(set(&mut document, "list.x", bson!(1)).unwrap_err().code(), 28);
        assert_eq!(set(&mut document, "list.2.x", bson!(1)).unwrap_err().code(), 28);
        assert_eq!(set(&mut document, "list.99999999", bson!(1)).unwrap_err().code(), 28);
        assert_eq!(set(&mut document, "a..b", bson!(1)).unwrap_err().code(), 56);
        assert_eq!(set(&mut document, &vec!["a"; 101].join("."), bson!(1)).unwrap_err().code(), 15);
    }
}
