//! Names in DNS, lower case, without the dot at the end.

use std::borrow::Borrow;
use std::str::FromStr;
use std::sync::Arc;

use super::ParseTextError;
use super::text::text_traits;

/// A fully qualified name: lower case, no dot at the end. `*` may be its first label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Arc<str>);

impl DnsName {
    /// The name without its first label; `None` for a name of one label.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, rest)| Self(Arc::from(rest)))
    }

    /// Whether this name is `zone` or below it.
    #[must_use]
    pub fn is_within(&self, zone: &Self) -> bool {
        self.0.strip_suffix(zone.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// This name with `label` prepended.
    ///
    /// # Errors
    ///
    /// [`ParseTextError`] when the result is no name.
    pub fn prefixed(&self, label: &str) -> Result<Self, ParseTextError> {
        format!("{label}.{self}").parse()
    }
}

impl FromStr for DnsName {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, ParseTextError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let label_fits = |(i, label): (usize, &str)| {
            (1..=63).contains(&label.len())
                && (label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                    || (i == 0 && label == "*"))
        };
        if name.len() <= 253 && name.split('.').enumerate().all(label_fits) {
            let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
            Ok(Self(if is_lower { Arc::from(name) } else { Arc::from(name.to_ascii_lowercase()) }))
        } else {
            Err(ParseTextError::not(
                text,
                "a DNS name (labels of 1 to 63 letters, digits, `-` and `_`, 253 characters in all)",
            ))
        }
    }
}

/// Allows look-ups with the text of a received name, in lower case and without the final dot. `Ord` and `Hash` are
/// those of the text, as `Borrow` requires.
impl Borrow<str> for DnsName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

text_traits!(DnsName);

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DnsName {
        text.parse().expect(text)
    }

    #[test]
    fn a_name_is_within_its_zone_by_whole_labels() {
        assert!(name("a.mongodb.net").is_within(&name("mongodb.net.")));
        assert!(name("mongodb.net").is_within(&name("MongoDB.net")));
        assert!(!name("amongodb.net").is_within(&name("mongodb.net")));
    }

    #[test]
    fn empty_and_overlong_labels_are_no_names() {
        assert!("a..b".parse::<DnsName>().is_err());
        assert!("".parse::<DnsName>().is_err());
        assert!(format!("{}.net", "a".repeat(64)).parse::<DnsName>().is_err());
    }
}
