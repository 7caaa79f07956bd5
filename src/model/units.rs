//! Durations and sizes with units: `350s`, `5m`, `64KiB`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::ParseTextError;
use super::text::text_serde;

/// Units of time in milliseconds, longest first.
const TIME: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of memory in bytes, largest first.
const MEMORY: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A duration in whole milliseconds, shown in the largest unit that divides it: `5m` for 300 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

/// A number of bytes, shown in the largest unit that divides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanSize(pub usize);

/// Renames the `former` key of a time in JSON that an earlier version wrote as a number, converts its value to text,
/// and returns a notice. Null stays null. A value that is not a whole number, or that is present under both keys, is
/// left unchanged.
pub fn rename_former_time(
    object: &mut serde_json::Map<String, Value>,
    (former, now): (&str, &str),
    unit: fn(u64) -> Duration,
) -> Option<String> {
    let time = match object.get(former)? {
        Value::Null => Value::Null,
        value => HumanDuration(unit(value.as_u64()?)).to_string().into(),
    };
    if object.contains_key(now) {
        return None;
    }
    let notice = format!("{former}: the key of an earlier version; write `\"{now}\": {time}`");
    object.remove(former);
    object.insert(now.to_owned(), time);
    Some(notice)
}

/// The number in `text` times its unit; `None` if it is malformed or too large.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Shows `amount` in the largest of `units` that divides it; zero in the unit named `of_zero`.
fn show(f: &mut fmt::Formatter<'_>, amount: u64, units: &[(&str, u64)], of_zero: &str) -> fmt::Result {
    let unit = units.iter().find(|(_, factor)| amount != 0 && amount.is_multiple_of(*factor));
    let (name, factor) = unit.copied().unwrap_or((of_zero, 1));
    f.pad(&format!("{}{name}", amount / factor))
}

impl FromStr for HumanDuration {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, ParseTextError> {
        parse(text, &TIME)
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| ParseTextError::not(text, "a duration; write a number and ms, s, m, h or d, as `350s`"))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &TIME, "s")
    }
}

text_serde!(HumanDuration);

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+ *(ms|s|m|h|d)$",
            "description": "A number and its unit of time, as `350s`.",
        })
    }
}

impl FromStr for HumanSize {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, ParseTextError> {
        parse(text, &MEMORY)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| ParseTextError::not(text, "a size; write a number and B, KiB, MiB or GiB, as `64KiB`"))
    }
}

impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.0 as u64, &MEMORY, "B")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, seconds) in [("350s", 350), ("5m", 300), ("2h", 7200), ("1d", 86_400), ("0s", 0), ("3 s", 3)] {
            assert_eq!(text.parse::<HumanDuration>().expect(text).0, Duration::from_secs(seconds), "{text}");
        }
        assert_eq!("250ms".parse::<HumanDuration>().expect("a duration").0, Duration::from_millis(250));
        for wrong in ["", "s", "5", "-5s", "1.5s", "5 minutes", "5M", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(wrong.parse::<HumanDuration>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_a_number_and_a_binary_unit() {
        for (text, bytes) in [("64KiB", 65_536), ("1MiB", 1 << 20), ("17B", 17), ("0B", 0)] {
            assert_eq!(text.parse::<HumanSize>().expect(text).0, bytes, "{text}");
        }
        for wrong in ["64KB", "64", "KiB", "64k"] {
            assert!(wrong.parse::<HumanSize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_largest_unit_that_divides_is_shown() {
        let shown = |seconds| HumanDuration(Duration::from_secs(seconds)).to_string();
        assert_eq!([shown(350), shown(300), shown(0), shown(3600)], ["350s", "5m", "0s", "1h"]);
        assert_eq!(HumanSize(128 * 1024).to_string(), "128KiB");
        assert_eq!(HumanSize(1025).to_string(), "1025B");
    }

    proptest! {
        #[test]
        fn displayed_values_parse_to_the_same_value(ms in 0..u64::MAX / 2, bytes in 0..usize::MAX) {
            let duration = HumanDuration(Duration::from_millis(ms));
            prop_assert_eq!(duration.to_string().parse::<HumanDuration>(), Ok(duration));
            prop_assert_eq!(HumanSize(bytes).to_string().parse::<HumanSize>(), Ok(HumanSize(bytes)));
        }
    }
}
