//! JSON whose objects have no key twice, at any depth.
//!
//! By hand: a derived `Deserialize` refuses a second key of a struct, but not in what passes through a `Value`, where the last one
//! wins; `serde_with`'s maps refuse those of one map, not of the maps in it.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Any JSON, read and dropped. An object with a key that it has already is an error at the key's place.
pub(super) struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if keys.contains(&key) {
                return Err(A::Error::custom(format_args!("the key `{key}` is given twice; write it once")));
            }
            keys.insert(key);
            entries.next_value::<Self>()?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_given_twice_is_found_at_any_depth_and_however_it_is_written() {
        let read = |text: &str| serde_json::from_str::<UniqueKeys>(text).map(drop).map_err(|error| error.to_string());
        for right in
            ["null", "[]", "-1", "1.5e9", r#""a""#, r#"{"a":{"a":[true,{"a":1},{"a":1}]},"b":18446744073709551615}"#]
        {
            assert_eq!(read(right), Ok(()), "{right}");
        }
        for wrong in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":{"a":1,"c":2,"a":3}}"#,
            r#"[[{"b":[{"a":null,"a":null}]}]]"#,
        ] {
            let said = read(wrong).expect_err(wrong);
            assert!(said.starts_with("the key `a` is given twice; write it once at line 1 column "), "{wrong}: {said}");
        }
    }
}
