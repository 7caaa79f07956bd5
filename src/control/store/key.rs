//! Keys of the saved state.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::model::ParseTextError;

/// Maximum length of a key in bytes.
const MAXIMUM_KEY_LENGTH: usize = 512;

/// A key of the saved state: segments separated by `/`, none of them empty, without control characters, at most 512
/// bytes. Ordered byte by byte, as in etcd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey(Arc<str>);

impl StateKey {
    /// The key `text`, which must be built from constants and ids.
    ///
    /// # Panics
    ///
    /// If `text` is not a valid key.
    pub(in crate::control) fn own(text: &str) -> Self {
        text.parse().expect("constants and ids make keys")
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StateKey {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, ParseTextError> {
        let reason = if text.len() > MAXIMUM_KEY_LENGTH {
            "it is longer than 512 bytes"
        } else if text.split('/').any(str::is_empty) {
            "a segment between `/` is empty"
        } else if text.chars().any(char::is_control) {
            "it holds a control character"
        } else {
            return Ok(Self(Arc::from(text)));
        };
        Err(ParseTextError::new(format!("{text:?} is not a key of the saved state: {reason}")))
    }
}

impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for StateKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_segments_between_slashes() {
        assert_eq!("ports/a b".parse::<StateKey>().unwrap().as_str(), "ports/a b");
        for wrong in ["", "/ports", "ports/", "ports//a", "ports/a\nb", &"k".repeat(MAXIMUM_KEY_LENGTH + 1)] {
            assert!(wrong.parse::<StateKey>().is_err(), "{wrong}");
        }
    }
}
