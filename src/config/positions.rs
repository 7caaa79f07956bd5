//! Locations of a config file's objects, for errors that are found later.

use std::collections::{BTreeMap, HashMap};

use super::raw::LineColumns;

/// Line and column (in characters), both from 1, of every id in the file, and of every cluster as `project/name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions(BTreeMap<String, (usize, usize)>);

impl Positions {
    /// Converts `offsets`, in bytes of `text`, to lines and columns.
    pub(super) fn of(text: &str, offsets: HashMap<String, usize>) -> Self {
        let mut offsets: Vec<(usize, String)> = offsets.into_iter().map(|(id, offset)| (offset, id)).collect();
        offsets.sort_unstable();
        let mut lines = LineColumns::new(text);
        Self(offsets.into_iter().map(|(offset, id)| (id, lines.at(offset))).collect())
    }

    /// The location of `id`; `None` if it is not in the file.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<(usize, usize)> {
        self.0.get(id).copied()
    }
}
