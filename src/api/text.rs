//! Small texts that several fronts write: times, derived ids, checksums.

use crate::control::inventory::Timestamp;

/// `2026-08-10T09:30:00Z`; with `millis`, `2026-08-10T09:30:00.250Z`.
pub(super) fn iso8601(moment: Timestamp, millis: bool) -> String {
    let (seconds, rest) = (moment.0 / 1000, moment.0 % 1000);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let fraction = if millis { format!(".{rest:03}") } else { String::new() };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// The Gregorian date of a day since 1970. Source: Howard Hinnant, *chrono-Compatible Low-Level Date Algorithms*.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// An Atlas id for something that has another one: 24 hex digits, always the same.
pub(super) fn object_id(kind: &str, id: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{kind}/{id}").as_bytes());
    hex(&digest.as_ref()[..12])
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `length` random bytes in hex: tokens, nonces, request ids.
pub(super) fn random_hex(length: usize) -> String {
    use ring::rand::SecureRandom;
    let mut bytes = vec![0u8; length];
    ring::rand::SystemRandom::new().fill(&mut bytes).expect("the system's generator was seeded at boot");
    hex(&bytes)
}

/// A random UUID.
pub(super) fn uuid() -> String {
    let hex = random_hex(16);
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_aws_and_atlas_write_it() {
        assert_eq!(iso8601(Timestamp(0), false), "1970-01-01T00:00:00Z");
        assert_eq!(iso8601(Timestamp(951_827_696_250), true), "2000-02-29T12:34:56.250Z");
        assert_eq!(iso8601(Timestamp(1_786_354_200_000), false), "2026-08-10T09:30:00Z");
    }
}
