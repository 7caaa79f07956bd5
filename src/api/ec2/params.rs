//! A request's parameters: `Name`, `Name.1`, `Name.1.Key`.

use std::str::FromStr;

use super::errors::Refusal;
use crate::control::inventory::Tags;

pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name).filter(|value| !value.is_empty()).ok_or_else(|| Refusal::missing(name))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name) {
            None => Ok(None),
            Some("true" | "True" | "TRUE" | "1") => Ok(Some(true)),
            Some("false" | "False" | "FALSE" | "0") => Ok(Some(false)),
            Some(other) => Err(Refusal::invalid(name, other)),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.text(name).map(|text| text.parse().map_err(|_| Refusal::invalid(name, text))).transpose()
    }

    /// `Name.1`, `Name.2`, … in order.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        self.indexes(name).into_iter().filter_map(|n| self.text(&format!("{name}.{n}"))).collect()
    }

    /// The numbers that follow `name.`, in order, each once.
    pub(super) fn indexes(&self, name: &str) -> Vec<u32> {
        let numbers = self.0.iter().filter_map(|(key, _)| {
            let rest = key.strip_prefix(name)?.strip_prefix('.')?;
            rest.split('.').next()?.parse().ok()
        });
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// An id; wrong ones are `InvalidX.Malformed`.
    pub(super) fn id<T: FromStr>(&self, name: &str, code: &'static str, form: &str) -> Result<T, Refusal> {
        parse_id(self.required(name)?, code, form)
    }

    /// Tags for resources of one type.
    pub(super) fn tags(&self, resource: &str) -> Tags {
        let mut tags = Tags::new();
        for n in self.indexes("TagSpecification") {
            let kind = self.text(&format!("TagSpecification.{n}.ResourceType"));
            if kind.is_none_or(|kind| kind == resource) {
                tags.extend(self.tag_list(&format!("TagSpecification.{n}.Tag")));
            }
        }
        tags
    }

    /// `name.N.Key` with `name.N.Value`.
    pub(super) fn tag_list(&self, name: &str) -> Tags {
        let pair = |n| {
            let value = self.text(&format!("{name}.{n}.Value")).unwrap_or_default();
            Some((self.text(&format!("{name}.{n}.Key"))?.to_owned(), value.to_owned()))
        };
        self.indexes(name).into_iter().filter_map(pair).collect()
    }

    /// `Filter.N.Name` with its values.
    pub(super) fn filters(&self) -> Vec<(&str, Vec<&str>)> {
        let filter = |n| {
            let name = self.text(&format!("Filter.{n}.Name"))?;
            Some((name, self.list(&format!("Filter.{n}.Value"))))
        };
        self.indexes("Filter").into_iter().filter_map(filter).collect()
    }

    /// What tells two requests with one client token apart: everything but the token and what signing adds.
    pub(super) fn fingerprint(&self) -> String {
        let mut pairs: Vec<_> =
            self.0.iter().filter(|(key, _)| key != "ClientToken" && !key.starts_with("X-Amz")).collect();
        pairs.sort();
        pairs.iter().map(|(key, value)| format!("{key}={value}&")).collect()
    }
}

pub(super) fn parse_id<T: FromStr>(text: &str, code: &'static str, form: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| Refusal::new(code, format!("Invalid id: \"{text}\" (expecting \"{form}...\")")))
}
