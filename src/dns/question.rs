//! Questions.

/// A name and a record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'q> {
    /// Lower case, labels separated by dots, without a final dot; the root is empty. Bytes that no configured name has
    /// are replaced by `!`, so that they match nothing but still count as labels.
    pub name: &'q str,
    /// The kind of record.
    pub kind: QueryType,
}

/// The record types that answers distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Host and port of a service.
    Srv,
    /// Text.
    Txt,
    /// The target of an alias.
    Cname,
    /// The zone's parameters.
    Soa,
    /// The zone's name servers.
    Ns,
    /// Any type.
    Any,
    /// HTTPS and SVCB: browsers and stub resolvers ask for them beside addresses (RFC 9460).
    ServiceBinding,
    /// Any other type; no zone has such records.
    Other,
}

impl QueryType {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::A,
        Self::Aaaa,
        Self::Srv,
        Self::Txt,
        Self::Cname,
        Self::Soa,
        Self::Ns,
        Self::Any,
        Self::ServiceBinding,
        Self::Other,
    ];

    /// The type with this QTYPE (IANA's registry of DNS parameters).
    #[must_use]
    pub fn from_code(code: u16) -> Self {
        match code {
            1 => Self::A,
            2 => Self::Ns,
            5 => Self::Cname,
            6 => Self::Soa,
            16 => Self::Txt,
            28 => Self::Aaaa,
            33 => Self::Srv,
            64 | 65 => Self::ServiceBinding,
            255 => Self::Any,
            _ => Self::Other,
        }
    }

    /// The lower-case name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::Aaaa => "aaaa",
            Self::Srv => "srv",
            Self::Txt => "txt",
            Self::Cname => "cname",
            Self::Soa => "soa",
            Self::Ns => "ns",
            Self::Any => "any",
            Self::ServiceBinding | Self::Other => "other",
        }
    }
}

/// Converts the labels of a received name to the text of [`Question::name`].
pub(super) fn name_text<'l>(labels: impl Iterator<Item = &'l [u8]>) -> String {
    let mut text = String::with_capacity(64);
    for label in labels {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*');
            let byte = if plain { byte.to_ascii_lowercase() } else { b'!' };
            text.push(char::from(byte));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_inside_a_label_does_not_become_a_boundary() {
        let labels: [&[u8]; 3] = [b"Pl-0\xff.x", b"MongoDB", b"net"];
        assert_eq!(name_text(labels.into_iter()), "pl-0!!x.mongodb.net");
        assert_eq!(name_text(std::iter::empty()), "");
    }
}
