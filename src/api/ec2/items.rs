//! Listing: ids that were asked for, filters, pages. The same for every kind of resource.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::errors::Refusal;
use super::params::Params;
use crate::control::inventory::Tags;

/// One resource as it is listed.
pub(super) struct Item<T> {
    /// What it is.
    pub(super) value: T,
    /// Its id.
    pub(super) id: String,
    /// Its values by filter name.
    pub(super) fields: Vec<(&'static str, Vec<String>)>,
    /// Its tags.
    pub(super) tags: Tags,
}

/// A page of a list, and the token for the next.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<String>,
}

/// The items that a describe request wants. An id that was asked for and isn't there is the caller's error.
pub(super) fn select<T>(
    params: &Params,
    ids: &str,
    mut items: Vec<Item<T>>,
    known: &[&str],
    missing: impl Fn(&str) -> Refusal,
) -> Result<Page<T>, Refusal> {
    let wanted = params.list(ids);
    if let Some(lost) = wanted.iter().find(|id| !items.iter().any(|item| item.id == **id)) {
        return Err(missing(lost));
    }
    if !wanted.is_empty() {
        items.retain(|item| wanted.contains(&item.id.as_str()));
    }
    for (name, values) in params.filters() {
        if !known.contains(&name) && name != "tag-key" && !name.starts_with("tag:") {
            return Err(Refusal::new("InvalidParameterValue", format!("The filter '{name}' is invalid")));
        }
        items.retain(|item| item.passes(name, &values));
    }
    items.sort_by(|a, b| a.id.cmp(&b.id));
    page(params, items)
}

fn page<T>(params: &Params, mut items: Vec<Item<T>>) -> Result<Page<T>, Refusal> {
    if let Some(token) = params.text("NextToken").filter(|token| !token.is_empty()) {
        let after = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let after = after.ok_or_else(|| Refusal::new("InvalidNextToken", "The token is invalid."))?;
        items.retain(|item| item.id > after);
    }
    let limit = match params.number("MaxResults")? {
        None => usize::MAX,
        Some(number) => match usize::try_from(number) {
            Ok(limit @ 1..=1000) => limit,
            _ => return Err(Refusal::invalid("MaxResults", &number.to_string())),
        },
    };
    let more = items.len() > limit;
    items.truncate(limit);
    let next = more.then(|| items.last().map(|item| URL_SAFE_NO_PAD.encode(&item.id))).flatten();
    Ok(Page { items: items.into_iter().map(|item| item.value).collect(), next })
}

impl<T> Item<T> {
    fn passes(&self, name: &str, values: &[&str]) -> bool {
        let fits = |text: &str| values.iter().any(|pattern| matches(pattern.as_bytes(), text.as_bytes()));
        if name == "tag-key" {
            return self.tags.keys().any(|key| fits(key));
        }
        if let Some(key) = name.strip_prefix("tag:") {
            return self.tags.get(key).is_some_and(|value| fits(value));
        }
        let own = self.fields.iter().filter(|(field, _)| *field == name);
        own.flat_map(|(_, values)| values).any(|value| fits(value))
    }
}

/// Whether `text` fits a pattern with `*` and `?`, in time proportional to the product of their lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(c) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_know_stars_and_question_marks() {
        for (pattern, text, fits) in [
            ("available", "available", true),
            ("pending*", "pendingAcceptance", true),
            ("*svc-0?28*", "vpce-svc-0828", true),
            ("a*b*c", "aXbXbXc", true),
            ("avail", "available", false),
            ("", "x", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }
}
