//! Listing of resources: by ids, with filters, in pages. The same for every kind of resource.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::params::{IdForm, Params};
use super::{Ec2Error, Ec2Request, Ec2Result, Xml};
use crate::control::inventory::Tags;

/// How a kind of resource is listed.
pub(super) struct Listing<'l, T> {
    /// The parameter with ids, such as `VpcId`, and the ids' format, unless they are names; `None`: the action has
    /// none.
    pub(super) ids: Option<(&'l str, Option<IdForm>)>,
    /// The allowed page sizes, `MaxResults`; `None`: the action has no pages.
    pub(super) pages: Option<RangeInclusive<usize>>,
    /// A resource's id.
    pub(super) id: fn(&T) -> String,
    /// A resource's tags.
    pub(super) tags: fn(&T) -> Tags,
    /// The documented filters with the values that each compares. A filter without values matches nothing.
    pub(super) filters: &'l [Filter<T>],
    /// The error for a requested id that does not exist.
    pub(super) missing: fn(&str) -> Ec2Error,
}

/// A filter's name, and a resource's values that it compares.
pub(super) type Filter<T> = (&'static str, fn(&T) -> Vec<String>);

/// A resource's values that the chosen filter compares.
type FilterField<'f, T> = Box<dyn Fn(&T) -> Vec<String> + 'f>;

/// The page sizes of most actions. Source: Amazon EC2 API Reference, `MaxResults` of each.
pub(super) const PAGES: RangeInclusive<usize> = 5..=1000;

/// The page sizes of actions on endpoints, which return at most 1,000 items.
pub(super) const ENDPOINT_PAGES: RangeInclusive<usize> = 1..=2_147_483_647;

/// Maximum page size.
const MAX_PAGE_SIZE: usize = 1000;

/// For resources without tags.
pub(super) fn no_tags<T>(_: &T) -> Tags {
    Tags::new()
}

/// For filters on attributes that resources never have here.
pub(super) fn none<T>(_: &T) -> Vec<String> {
    Vec::new()
}

/// A single value for a filter.
pub(super) fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

/// A page of a list, and the token of the next.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<String>,
}

impl<T> Listing<'_, T> {
    /// Selects resources by ids and filters, in pages.
    pub(super) fn select(&self, params: &Params, items: impl Iterator<Item = T>) -> Result<Page<T>, Ec2Error> {
        let mut items: Vec<(String, T)> = items.map(|item| ((self.id)(&item), item)).collect();
        let wanted = self.ids.map(|(name, _)| params.list(name)).unwrap_or_default();
        // If there are a malformed id and a missing one, AWS reports the malformed one.
        if let Some((_, Some(form))) = self.ids {
            wanted.iter().try_for_each(|id| form.check(id))?;
        }
        if let Some(lost) = wanted.iter().find(|id| !items.iter().any(|(own, _)| own == *id)) {
            return Err((self.missing)(lost));
        }
        if !wanted.is_empty() {
            items.retain(|(id, _)| wanted.contains(&id.as_str()));
        }
        for (name, values) in params.filters()? {
            let filter = self.filter(name)?;
            items.retain(|(_, item)| filter(item).iter().any(|text| fits(text, &values)));
        }
        items.sort_by(|(a, _), (b, _)| a.cmp(b));
        page(params, items, self.pages.as_ref(), !wanted.is_empty())
    }

    fn filter<'f>(&'f self, name: &'f str) -> Result<FilterField<'f, T>, Ec2Error> {
        if let Some(key) = name.strip_prefix("tag:") {
            return Ok(Box::new(move |item| (self.tags)(item).remove(key).into_iter().collect()));
        }
        if name == "tag-key" {
            return Ok(Box::new(|item| (self.tags)(item).into_keys().collect()));
        }
        // An old filter that is no longer documented.
        if name == "tag-value" {
            return Ok(Box::new(|item| (self.tags)(item).into_values().collect()));
        }
        let known = self.filters.iter().find(|(known, _)| *known == name);
        let (_, values) =
            known.ok_or_else(|| Ec2Error::new("InvalidParameterValue", format!("The filter '{name}' is invalid")))?;
        Ok(Box::new(values))
    }
}

fn fits(text: &str, values: &[&str]) -> bool {
    values.iter().any(|pattern| matches(pattern.as_bytes(), text.as_bytes()))
}

fn page<T>(
    params: &Params,
    mut items: Vec<(String, T)>,
    pages: Option<&RangeInclusive<usize>>,
    by_id: bool,
) -> Result<Page<T>, Ec2Error> {
    let Some(pages) = pages else {
        return Ok(Page { items: items.into_iter().map(|(_, item)| item).collect(), next: None });
    };
    if let Some(token) = params.text("NextToken").filter(|token| !token.is_empty()) {
        let after = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let after = after.ok_or_else(|| Ec2Error::new("InvalidNextToken", "The token is invalid."))?;
        items.retain(|(id, _)| *id > after);
    }
    let limit = match params.number("MaxResults")? {
        None => usize::MAX,
        Some(_) if by_id => {
            let message = "The parameter MaxResults cannot be used with a list of ids";
            return Err(Ec2Error::new("InvalidParameterCombination", message));
        }
        Some(limit) if pages.contains(&limit) => limit.min(MAX_PAGE_SIZE),
        Some(other) => {
            let (least, most) = (pages.start(), pages.end());
            let message = format!(
                "Value ({other}) for parameter maxResults is invalid. Expecting a value between {least} and {most}."
            );
            return Err(Ec2Error::new("InvalidParameterValue", message));
        }
    };
    let more = items.len() > limit;
    items.truncate(limit);
    let next = more.then(|| items.last().map(|(id, _)| URL_SAFE_NO_PAD.encode(id))).flatten();
    Ok(Page { items: items.into_iter().map(|(_, item)| item).collect(), next })
}

/// Whether `text` matches a pattern with `*` and `?`, in time proportional to the product of their lengths.
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

/// An empty list.
pub(super) fn empty(
    request: &Ec2Request<'_>,
    set: &str,
    ids: Option<(&str, Option<IdForm>)>,
    pages: RangeInclusive<usize>,
    filters: &[Filter<()>],
    missing: fn(&str) -> Ec2Error,
) -> Ec2Result {
    Listing { ids, pages: Some(pages), id: |()| String::new(), tags: no_tags, filters, missing }
        .select(&request.params, std::iter::empty())?;
    let mut xml = Xml::new();
    xml.set(set, Vec::<()>::new(), |_, ()| {});
    Ok(xml)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_stars_and_question_marks() {
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
