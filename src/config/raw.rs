//! The parsed TOML: tables, keys and values with their locations.
//!
//! serde stops at the first mistake; users want all of them at once. So the tables are walked by hand: the code for a
//! table reads the keys that it supports, reports each wrong value under its path, and finally reports the keys that it
//! did not read. The keys that are read *are* the format; there is no second list of them.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::iter::Peekable;
use std::str::CharIndices;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigErrors, ConfigProblem};
use super::positions::Positions;
use crate::model::edits;

/// A location in the file: the path for messages, the offset for their order.
#[derive(Debug, Clone)]
pub(super) struct ConfigLocation {
    /// `project[0].cluster[1].name`; empty for the whole file.
    pub(super) path: String,
    pub(super) offset: usize,
}

impl ConfigLocation {
    /// The location of `key` in this table, at `offset`.
    fn key(&self, key: &str, offset: usize) -> Self {
        let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        Self { path: if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }, offset }
    }

    /// The location of an array's element, at `offset`.
    fn element(&self, index: usize, offset: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), offset }
    }
}

/// A value with its location.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    /// The value.
    pub(super) value: T,
    /// Its location.
    pub(super) location: ConfigLocation,
}

impl<T> Located<T> {
    /// Converts the value, keeping its location.
    pub(super) fn map<U>(&self, change: impl FnOnce(&T) -> U) -> Located<U> {
        Located { value: change(&self.value), location: self.location.clone() }
    }
}

/// The mistakes found so far.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    file: &'t str,
    text: &'t str,
    /// The byte offset, path and message of each.
    found: RefCell<Vec<(usize, String, String)>>,
    notices: RefCell<Vec<String>>,
    /// Every key that was read, by path without indexes: the whole format.
    #[cfg(test)]
    pub(super) known: RefCell<BTreeSet<String>>,
}

impl<'t> Problems<'t> {
    /// No mistakes yet in `text`, the content of `file`.
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self {
            file,
            text,
            found: RefCell::default(),
            notices: RefCell::default(),
            #[cfg(test)]
            known: RefCell::default(),
        }
    }

    /// Adds a mistake at `location`.
    pub(super) fn report(&self, location: &ConfigLocation, message: impl Into<String>) {
        self.found.borrow_mut().push((location.offset, location.path.clone(), message.into()));
    }

    /// Adds a notice at `location`.
    pub(super) fn note(&self, location: &ConfigLocation, message: &str) {
        self.notices.borrow_mut().push(format!("{}: {message}", location.path));
    }

    /// The notices.
    pub(super) fn take_notices(&self) -> Vec<String> {
        self.notices.take()
    }

    /// Converts byte offsets to lines and columns.
    pub(super) fn positions(&self, offsets: HashMap<String, usize>) -> Positions {
        Positions::of(self.text, offsets)
    }

    /// The number of mistakes so far; if a read does not change it, the read succeeded.
    pub(super) fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// The mistakes in the order of the file; `None` if there are none.
    pub(super) fn into_errors(self) -> Option<ConfigErrors> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(offset, ..)| *offset);
        let mut places = LineColumns::new(self.text);
        let problem = |(offset, path, message): &(usize, String, String)| {
            ConfigProblem::new(Some(places.at(*offset)), path, message)
        };
        let problems: Vec<ConfigProblem> = found.iter().map(problem).collect();
        (!problems.is_empty()).then(|| ConfigErrors { file: self.file.to_owned(), problems })
    }
}

/// Converts byte offsets to lines and columns in one pass; the requested offsets must be ascending.
#[derive(Debug)]
pub(super) struct LineColumns<'t> {
    rest: Peekable<CharIndices<'t>>,
    line: usize,
    column: usize,
}

impl<'t> LineColumns<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { rest: text.char_indices().peekable(), line: 1, column: 1 }
    }

    /// Line and column (in characters), both from 1, of the byte at `offset`.
    pub(super) fn at(&mut self, offset: usize) -> (usize, usize) {
        while let Some((_, passed)) = self.rest.next_if(|(at, _)| *at < offset) {
            (self.line, self.column) = if passed == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
        (self.line, self.column)
    }
}

/// Parses `text` as TOML. If that fails, only these mistakes are reported.
///
/// One for each line, as further ones are usually consequences of the first.
pub(super) fn parse_toml<'t>(text: &'t str, problems: &Problems<'t>) -> Option<Spanned<DeTable<'t>>> {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    let offset = |error: &toml::de::Error| error.span().map_or(0, |span| span.start.min(text.len()));
    errors.sort_by_key(offset);
    let mut reported = None;
    for error in &errors {
        let offset = offset(error);
        let same_line = |reported: usize| !text.as_bytes()[reported..offset].contains(&b'\n');
        if !reported.is_some_and(same_line) {
            problems.report(&ConfigLocation { path: String::new(), offset }, error.message());
            reported = Some(offset);
        }
    }
    errors.is_empty().then_some(table)
}

/// A table of the file while it is being read.
#[derive(Debug)]
pub(super) struct Section<'s> {
    /// `None`: the table is not in the file, so all of its keys have their defaults.
    table: Option<&'s DeTable<'s>>,
    /// Its location.
    pub(super) location: ConfigLocation,
    /// Receives mistakes.
    pub(super) problems: &'s Problems<'s>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'s> Section<'s> {
    /// Reads the whole file by `read`, then reports the keys that were not read.
    pub(super) fn root<T>(table: &'s DeTable<'s>, problems: &'s Problems<'s>, read: impl FnOnce(&Self) -> T) -> T {
        Self::visit(Some(table), ConfigLocation { path: String::new(), offset: 0 }, problems, read)
    }

    fn visit<T>(
        table: Option<&'s DeTable<'s>>,
        location: ConfigLocation,
        problems: &'s Problems<'s>,
        read: impl FnOnce(&Self) -> T,
    ) -> T {
        let section = Self { table, location, problems, asked: RefCell::default() };
        let result = read(&section);
        section.report_unknown();
        result
    }

    /// The value of an optional key. An invalid value is reported and treated as missing.
    pub(super) fn get<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'s>) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let (value, location) = self.ask(key)?;
        match read(value) {
            Ok(value) => Some(Located { value, location }),
            Err(message) => {
                self.problems.report(&location, message);
                None
            }
        }
    }

    /// The value of an optional key, or its default.
    pub(super) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&DeValue<'s>) -> Result<T, String>,
    ) -> T {
        self.get(key, read).map_or(default, |found| found.value)
    }

    /// The value of a required key.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'s>) -> Result<T, String>,
    ) -> Option<Located<T>> {
        self.report_missing(key);
        self.get(key, read)
    }

    /// The elements of an optional array; `None` if it is missing. Invalid elements are reported and omitted.
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(&DeValue<'s>) -> Result<T, String>,
    ) -> Option<Vec<Located<T>>> {
        let (value, location) = self.ask(key)?;
        let Some(array) = value.as_array() else {
            self.problems.report(&location, format!("{} is not an array; write it in `[` and `]`", shown(value)));
            return Some(Vec::new());
        };
        let mut elements = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let location = location.element(index, element.span().start);
            match read(element.get_ref()) {
                Ok(value) => elements.push(Located { value, location }),
                Err(message) => self.problems.report(&location, message),
            }
        }
        Some(elements)
    }

    /// The elements of a required array.
    pub(super) fn required_list<T>(
        &self,
        key: &'static str,
        read: impl FnMut(&DeValue<'s>) -> Result<T, String>,
    ) -> Vec<Located<T>> {
        self.report_missing(key);
        self.list(key, read).unwrap_or_default()
    }

    /// Reads the table `[key]` by `read`; a missing one like an empty one.
    pub(super) fn table<T>(&self, key: &'static str, read: impl FnOnce(&Section<'s>) -> T) -> T {
        let found = self.ask(key);
        let location = found
            .as_ref()
            .map_or_else(|| self.location.key(key, self.location.offset), |(_, location)| location.clone());
        let table = found.and_then(|(value, location)| {
            let table = value.as_table();
            if table.is_none() {
                self.problems.report(&location, format!("{} is not a table", shown(value)));
            }
            table
        });
        Section::visit(table, location, self.problems, read)
    }

    /// Reads each table of the array of tables `[[key]]` by `read`; `None` if it is missing.
    pub(super) fn optional_tables<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(&Section<'s>) -> T,
    ) -> Option<Vec<T>> {
        let (value, location) = self.ask(key)?;
        let Some(array) = value.as_array() else {
            self.problems.report(
                &location,
                format!("{} is not an array of tables; write `[[{}]]`", shown(value), without_indexes(&location.path)),
            );
            return Some(Vec::new());
        };
        let mut results = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let location = location.element(index, element.span().start);
            match element.get_ref().as_table() {
                Some(table) => results.push(Section::visit(Some(table), location, self.problems, &mut read)),
                None => self.problems.report(&location, format!("{} is not a table", shown(element.get_ref()))),
            }
        }
        Some(results)
    }

    /// Reads each table of the array of tables `[[key]]` by `read`; none if it is missing.
    pub(super) fn tables<T>(&self, key: &'static str, read: impl FnMut(&Section<'s>) -> T) -> Vec<T> {
        self.optional_tables(key, read).unwrap_or_default()
    }

    /// The location of `key`, or of its table if it is missing.
    pub(super) fn location_of(&self, key: &str) -> ConfigLocation {
        self.find(key).map_or_else(|| self.location.key(key, self.location.offset), |(_, location)| location)
    }

    /// Whether `key` is in the file.
    pub(super) fn is_present(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether `key` is an empty array in the file.
    pub(super) fn is_empty_array(&self, key: &str) -> bool {
        self.find(key).is_some_and(|(value, _)| value.as_array().is_some_and(|array| array.is_empty()))
    }

    /// Adds a mistake at `key`.
    pub(super) fn report(&self, key: &str, message: impl Into<String>) {
        self.problems.report(&self.location_of(key), message);
    }

    /// Reports a required key that is missing.
    fn report_missing(&self, key: &'static str) {
        if !self.is_present(key) {
            self.report(key, "missing; it has no default");
        }
    }

    /// The value and the location of `key`, which is known from now on.
    fn ask(&self, key: &'static str) -> Option<(&'s DeValue<'s>, ConfigLocation)> {
        self.asked.borrow_mut().insert(key);
        #[cfg(test)]
        self.problems.known.borrow_mut().insert(without_indexes(&self.location.key(key, 0).path));
        self.find(key)
    }

    fn find(&self, key: &str) -> Option<(&'s DeValue<'s>, ConfigLocation)> {
        let (name, value) = self.table?.get_key_value(key)?;
        Some((value.get_ref(), self.location.key(key, name.span().start)))
    }

    fn report_unknown(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if asked.contains(name) {
                continue;
            }
            // Up to a third of the letters wrong is a typo; more is another word.
            let slips = |known: &str| (known.len() / 3).max(1);
            let letters = name.chars().count();
            let nearest = asked
                .iter()
                .filter(|known| letters.abs_diff(known.len()) <= slips(known))
                .map(|known| (edits(name, known), *known))
                .filter(|(distance, known)| *distance <= slips(known))
                .min();
            let advice = if let Some((_, known)) = nearest {
                format!("did you mean `{known}`?")
            } else {
                let known: Vec<String> = asked.iter().map(|known| format!("`{known}`")).collect();
                format!("known here: {}", known.join(", "))
            };
            let location = self.location.key(name, key.span().start);
            self.problems.report(&location, format!("unknown key; {advice}"));
        }
    }
}

/// A value as text for messages.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {:?}", text.as_ref()),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => format!("`{value}`"),
        DeValue::Datetime(when) => format!("the date {when}"),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// `project.cluster.name` for `project[0].cluster[1].name`.
pub(super) fn without_indexes(path: &str) -> String {
    let mut depth = 0;
    let outside = |c: &char| {
        depth += i32::from(*c == '[');
        let keep = depth == 0;
        depth -= i32::from(*c == ']');
        keep
    };
    path.chars().filter(outside).collect()
}
