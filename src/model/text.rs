//! Types that are serialized as text.

/// Why a text cannot be read as a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseTextError(String);

impl ParseTextError {
    /// An error with this message.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The error that `text` is not `expected`.
    pub(super) fn not(text: &str, expected: &str) -> Self {
        Self(format!("`{text}` is not {expected}"))
    }
}

/// serde by `Display` and `FromStr`.
macro_rules! text_serde {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_serde;

/// The JSON schema of a type that is serialized as text.
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

/// The methods and traits of a newtype of `Arc<str>` that has `FromStr`.
macro_rules! text_traits {
    ($name:ident) => {
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.0)
            }
        }

        $crate::model::text::text_serde!($name);
        $crate::model::text::text_schema!($name);
    };
}
pub(super) use text_traits;

/// Defines a newtype of text: its name, the description of a valid text in messages, and whether a text is valid.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $fits:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl std::str::FromStr for $name {
            type Err = $crate::model::ParseTextError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let fits: fn(&str) -> bool = $fits;
                if fits(text) { Ok(Self(text.into())) } else { Err($crate::model::ParseTextError::not(text, $expected)) }
            }
        }

        $crate::model::text::text_traits!($name);
    };
}
pub(super) use text_type;
