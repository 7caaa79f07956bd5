//! Text in common formats of the APIs: times, derived ids, random tokens.

use ring::rand::SecureRandom;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::control::inventory::Timestamp;
use crate::model::derived_digits;

const SECONDS: StaticFormatDescription = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const MILLIS: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// `2026-08-10T09:30:00Z`; with `millis`, `2026-08-10T09:30:00.250Z`. Times after the year 9999 become its last one.
pub(crate) fn iso8601(moment: Timestamp, millis: bool) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(moment.0) * 1_000_000)
        .unwrap_or(PrimitiveDateTime::MAX.assume_utc());
    time.format(if millis { MILLIS } else { SECONDS }).expect("every part of the format is there")
}

/// An Atlas id derived from another id: 24 hex digits.
pub(super) fn object_id(kind: &str, id: &str) -> String {
    derived_digits(&format!("{kind}/{id}"))[..24].to_owned()
}

/// `length` random bytes in hex, for tokens, nonces and request ids.
pub(crate) fn random_hex(length: usize) -> String {
    let mut bytes = vec![0; length];
    fill(&mut bytes);
    hex::encode(bytes)
}

/// A random UUID.
pub(super) fn uuid() -> String {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

fn fill(bytes: &mut [u8]) {
    ring::rand::SystemRandom::new().fill(bytes).expect("the system's generator was seeded at boot");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_aws_and_atlas_write_it() {
        assert_eq!(iso8601(Timestamp(0), false), "1970-01-01T00:00:00Z");
        assert_eq!(iso8601(Timestamp(951_827_696_250), true), "2000-02-29T12:34:56.250Z");
        assert_eq!(iso8601(Timestamp(1_786_354_200_000), false), "2026-08-10T09:30:00Z");
        assert_eq!(iso8601(Timestamp(u64::MAX), false), "9999-12-31T23:59:59Z");
    }
}
