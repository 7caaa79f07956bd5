//! Identifiers as AWS and Atlas write them: a prefix and lower-case hex digits.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseIdError {
    text: String,
    expected: &'static str,
}

/// Whether `text` is `prefix` and then one of `lengths` lower-case hex digits.
fn is_prefixed_hex(text: &str, prefix: &str, lengths: &[usize]) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $lengths:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if is_prefixed_hex(text, $prefix, $lengths) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(ParseIdError { text: text.to_owned(), expected: $expected })
                }
            }
        }

        text_traits!($name);
    };
}

/// The JSON schema of a type that is written as text.
macro_rules! text_schema {
    ($name:ident) => {
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    };
}
pub(super) use text_schema;

/// `Display`, `Debug`, serde and JSON schema by text, for a newtype with `as_str` and `FromStr`.
macro_rules! text_traits {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        $crate::model::ids::text_schema!($name);
    };
}
pub(super) use text_traits;

/// 64 hex digits that follow from a text: ids of what has none of its own, the same from start to start.
pub(crate) fn derived_digits(text: &str) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()))
}

hex_id!(
    /// A VPC: `vpc-` and 8 or 17 lower-case hex digits.
    VpcId, "vpc-", &[8, 17], "a VPC id (`vpc-` and 8 or 17 lower-case hex digits)"
);
hex_id!(
    /// A subnet of a VPC: `subnet-` and 8 or 17 lower-case hex digits.
    SubnetId, "subnet-", &[8, 17], "a subnet id (`subnet-` and 8 or 17 lower-case hex digits)"
);
hex_id!(
    /// A security group: `sg-` and 8 or 17 lower-case hex digits.
    SecurityGroupId, "sg-", &[8, 17], "a security group id (`sg-` and 8 or 17 lower-case hex digits)"
);
hex_id!(
    /// A rule of a security group: `sgr-` and 17 lower-case hex digits.
    SecurityRuleId, "sgr-", &[17], "a security group rule id (`sgr-` and 17 lower-case hex digits)"
);
hex_id!(
    /// An elastic network interface: `eni-` and 8 or 17 lower-case hex digits.
    EniId, "eni-", &[8, 17], "a network interface id (`eni-` and 8 or 17 lower-case hex digits)"
);
hex_id!(
    /// An interface endpoint: `vpce-` and 8 or 17 lower-case hex digits.
    VpceId, "vpce-", &[8, 17], "an interface endpoint id (`vpce-` and 8 or 17 lower-case hex digits)"
);
hex_id!(
    /// An endpoint service: `vpce-svc-` and 17 lower-case hex digits.
    VpceServiceId, "vpce-svc-", &[17], "an endpoint service id (`vpce-svc-` and 17 lower-case hex digits)"
);
hex_id!(
    /// An Atlas project (a *group* in the API): 24 lower-case hex digits.
    ProjectId, "", &[24], "a project id (24 lower-case hex digits)"
);

/// An App Services client app id: a name, a dash and five lower-case letters, `myapp-abcde`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(Arc<str>);

impl AppId {
    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fits = text.rsplit_once('-').is_some_and(|(name, suffix)| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && suffix.len() == 5
                && suffix.bytes().all(|b| b.is_ascii_lowercase())
        });
        if fits {
            Ok(Self(Arc::from(text)))
        } else {
            Err(ParseIdError {
                text: text.to_owned(),
                expected: "a client app id (a name, `-`, and five lower-case letters, as `myapp-abcde`)",
            })
        }
    }
}

text_traits!(AppId);

/// The name of one gateway among those that share a state: letters, digits, `-`, `_` and `.`, 63 at most.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(Arc<str>);

impl GatewayId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GatewayId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if (1..=63).contains(&text.len()) && text.bytes().all(is_allowed) {
            Ok(Self(Arc::from(text)))
        } else {
            let expected = "a gateway's id (1 to 63 letters, digits, `-`, `_` and `.`)";
            Err(ParseIdError { text: text.to_owned(), expected })
        }
    }
}

text_traits!(GatewayId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_lengths_that_aws_and_atlas_give_them() {
        assert!("vpce-024f5b57108c8d3ed".parse::<VpceId>().is_ok());
        assert!("vpce-0123abcd".parse::<VpceId>().is_ok());
        assert!("vpce-svc-02863655456245e5c".parse::<VpceServiceId>().is_ok());
        assert!("5f0000000000000000000001".parse::<ProjectId>().is_ok());
        for wrong in ["vpce-", "vpce-024F5B57108C8D3ED", "vpce-024f5b57108c8d3e", "vpce-svc-02863655456245e5c"] {
            assert!(wrong.parse::<VpceId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_app_id_ends_in_five_letters() {
        assert!("myapp-abcde".parse::<AppId>().is_ok());
        assert!("my-app-abcde".parse::<AppId>().is_ok());
        assert!("myapp".parse::<AppId>().is_err());
        assert!("myapp-abcd1".parse::<AppId>().is_err());
    }
}
