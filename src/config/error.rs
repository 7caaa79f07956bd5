//! What is wrong with a config file: everything at once.

use std::fmt;

/// One mistake: where it stands and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path of the key, `listener[2].port`; `FILE:LINE:COLUMN` where the text is no TOML; empty for the whole file.
    pub path: String,
    /// What is wrong, in words for people: lower case, no period at the end.
    pub message: String,
}

impl Problem {
    /// A mistake at `path`. Control characters are written as escapes: a message is one line, whatever the file holds.
    pub(super) fn new(path: &str, message: &str) -> Self {
        Self { path: visible(path), message: visible(message) }
    }
}

/// `text` with its control characters as escapes.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = if c.is_control() { Some(c.escape_debug()) } else { None };
            let plain = if c.is_control() { None } else { Some(c) };
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// Every mistake of one file, in the order in which they stand in it. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The file, as it was named.
    pub file: String,
    /// The mistakes.
    pub problems: Vec<Problem>,
}

impl ConfigErrors {
    /// The file as a whole is wrong.
    pub(super) fn whole(file: &str, message: &str) -> Self {
        Self { file: file.to_owned(), problems: vec![Problem::new("", message)] }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.problems.len() == 1 { "" } else { "s" };
        write!(f, "{}: {} problem{plural}", self.file, self.problems.len())?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}
