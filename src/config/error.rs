//! Errors of a config file, all at once.

use std::fmt;

/// Maximum length of a path or message in bytes, as a file may contain text of any length.
const MAX_TEXT_LENGTH: usize = 1000;

/// How much of the end of a text that is too long is kept, as it says what to write instead.
const KEPT_END: usize = 300;

/// One mistake: where it is and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Line and column (in characters), both from 1; `None` for the whole file.
    pub place: Option<(usize, usize)>,
    /// The path of the key, `listener[2].port`; empty for invalid TOML, and for the whole file.
    pub path: String,
    /// The message: lower case, no full stop.
    pub message: String,
}

impl ConfigProblem {
    /// A mistake at `path`. Control characters are escaped: a message is one line of bounded length, whatever the file
    /// contains.
    /// file holds.
    pub(super) fn new(place: Option<(usize, usize)>, path: &str, message: &str) -> Self {
        Self { place, path: bounded(visible(path)), message: bounded(visible(message)) }
    }
}

/// `text`, with its middle omitted if it is too long.
fn bounded(text: String) -> String {
    if text.len() <= MAX_TEXT_LENGTH {
        return text;
    }
    let start = text.floor_char_boundary(MAX_TEXT_LENGTH - KEPT_END - '…'.len_utf8());
    let end = text.ceil_char_boundary(text.len() - KEPT_END);
    format!("{}…{}", &text[..start], &text[end..])
}

/// `text` with escaped control characters.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = if c.is_control() { Some(c.escape_debug()) } else { None };
            let plain = if c.is_control() { None } else { Some(c) };
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// Every mistake of one file, in file order. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The file, as named by the user.
    pub file: String,
    /// The mistakes.
    pub problems: Vec<ConfigProblem>,
}

impl ConfigErrors {
    /// An error about the whole file.
    pub(super) fn whole(file: &str, message: &str) -> Self {
        Self { file: file.to_owned(), problems: vec![ConfigProblem::new(None, "", message)] }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.problems.len() == 1 { "" } else { "s" };
        write!(f, "{}: {} problem{plural}", self.file, self.problems.len())?;
        for problem in &self.problems {
            f.write_str("\n  ")?;
            if let Some((line, column)) = problem.place {
                write!(f, "{}:{line}:{column}: ", self.file)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
