//! The key space at one revision, and its JSON form.
//!
//! ```text
//! {"format":2,"revision":7,"entries":{
//! "endpoints/indexes":{"revision":3,"value":{"vpce-024f5b57108c8d3ed":0}},
//! "some/bytes":{"revision":7,"base64":"AP8="}
//! },"sha256":"…"}
//! ```
//! A value that is JSON is stored byte for byte; any other value is in base64. The SHA-256 covers all bytes before
//! `"sha256"`, and the rest has one form only, so any truncated or changed byte is detected. The first line is the same
//! in every later format.
//! line is the same in every later format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Bound;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Entry, ExpectedRevision, RangeView, Revision, StateKey, StoreError, Txn, legacy};

/// The format that is written, and the newest that is read. Format 1 is that of [`legacy`].
const FORMAT: u32 = 2;

/// Length of the rest after the checked bytes: the checksum field and the end of the document.
const SEAL_LENGTH: usize = r#""sha256":""#.len() + 64 + "\"}\n".len();

/// Why bytes are not a valid document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer version of the program wrote it.
    #[error("it has format {format} and this program reads up to {FORMAT}, so run the newer program")]
    Newer {
        /// Its format.
        format: u32,
    },
    /// It is damaged.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// Keys and values at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    pub(super) revision: Revision,
    /// Values with the revision of their last write.
    pub(super) entries: BTreeMap<StateKey, (Bytes, Revision)>,
}

impl Document {
    /// The entries of `prefix`.
    pub(super) fn range(&self, prefix: &str) -> RangeView {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let entries = self.entries.range::<str, _>(from).take_while(|(key, _)| key.as_str().starts_with(prefix));
        let entry = |(key, (value, revision)): (&StateKey, &(Bytes, Revision))| Entry {
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        };
        RangeView { entries: entries.map(entry).collect(), revision: self.revision }
    }

    /// The document after `txn`, `skipped` revisions after the next one; `None` if nothing changes.
    pub(super) fn after(&self, txn: Txn, skipped: u64) -> Result<Option<Self>, StoreError> {
        txn.check()?;
        for (key, expected) in txn.compares {
            let found = self.entries.get(&key).map(|(_, revision)| *revision);
            let holds = match expected {
                ExpectedRevision::Absent => found.is_none(),
                ExpectedRevision::At(revision) => found == Some(revision),
            };
            if !holds {
                return Err(StoreError::Conflict { key, expected, found });
            }
        }
        if txn.puts.is_empty() && !txn.deletes.iter().any(|key| self.entries.contains_key(key)) {
            return Ok(None);
        }
        let mut after = self.clone();
        after.revision = Revision(self.revision.0 + 1 + skipped);
        txn.deletes.into_iter().for_each(|key| after.set(key, None));
        txn.puts.into_iter().for_each(|(key, value)| after.set(key, Some(value)));
        Ok(Some(after))
    }

    /// Sets `key` to `value` at the document's revision, or removes the key.
    pub(super) fn set(&mut self, key: StateKey, value: Option<Bytes>) {
        match value {
            // A value may be a slice of something larger (a request's body), which must not be kept.
            Some(value) => drop(self.entries.insert(key, (Bytes::copy_from_slice(&value), self.revision))),
            None => drop(self.entries.remove(&key)),
        }
    }

    /// Encodes the document.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!(r#"{{"format":{FORMAT},"revision":{},"entries":{{"#, self.revision);
        let mut separator = "\n";
        for (key, (value, revision)) in &self.entries {
            let key = serde_json::Value::from(key.as_str());
            let _ = write!(text, r#"{separator}{key}:{{"revision":{revision},"#);
            let _ = match as_json(value) {
                Some(json) => write!(text, r#""value":{json}}}"#),
                None => write!(text, r#""base64":"{}"}}"#, BASE64_STANDARD.encode(value)),
            };
            separator = ",\n";
        }
        text.push_str("\n},");
        let seal = seal(text.as_bytes());
        text.push_str(&seal);
        text.into_bytes()
    }
}

/// Decodes a document, in this format or the one before it. Pure; returns for any input.
///
/// # Errors
///
/// [`DecodeError`] for anything that was not written by [`Document::encode`] or by an earlier version.
pub fn decode(bytes: &[u8]) -> Result<Document, DecodeError> {
    if legacy::is_legacy(bytes) {
        return legacy::decode(bytes).map_err(DecodeError::Damaged);
    }
    let Some((content, end)) = bytes.len().checked_sub(SEAL_LENGTH).map(|at| bytes.split_at(at)) else {
        return Err(DecodeError::Damaged("it is too short"));
    };
    if !end.starts_with(br#""sha256":""#) || !end.ends_with(b"\"}\n") {
        return Err(DecodeError::Damaged("its end, which is its checksum, is missing or changed"));
    }
    if end != seal(content).as_bytes() {
        return Err(DecodeError::Damaged("its content does not have the checksum at its end"));
    }
    let unknown = |_| DecodeError::Damaged("its checksum holds, but no version of this program wrote it");
    let DocumentHead { format } = serde_json::from_slice(bytes).map_err(unknown)?;
    if format > FORMAT {
        return Err(DecodeError::Newer { format });
    }
    let saved: SavedDocument<'_> = serde_json::from_slice(bytes).map_err(unknown)?;
    let mut document = Document { revision: Revision(saved.revision), entries: BTreeMap::new() };
    for (key, entry) in saved.entries {
        let value = match (entry.value, entry.base64) {
            (Some(json), None) => Some(Bytes::copy_from_slice(json.get().as_bytes())),
            (None, Some(text)) => BASE64_STANDARD.decode(text).ok().map(Bytes::from),
            _ => None,
        };
        let (Ok(key), Some(value)) = (key.parse(), value) else {
            return Err(DecodeError::Damaged("its checksum holds, but a key or value in it is not one"));
        };
        document.entries.insert(key, (value, Revision(entry.revision)));
    }
    Ok(document)
}

/// The fields that every format has.
#[derive(Deserialize)]
struct DocumentHead {
    format: u32,
}

#[derive(Deserialize)]
struct SavedDocument<'a> {
    revision: u64,
    #[serde(borrow)]
    entries: BTreeMap<String, SavedEntry<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedEntry<'a> {
    revision: u64,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    base64: Option<String>,
}

/// `value` as text, if it is JSON without surrounding space. `null` is excluded, as it would be read as a missing
/// value.
fn as_json(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let json: &RawValue = serde_json::from_str(text).ok()?;
    (json.get().len() == text.len() && text != "null").then_some(text)
}

/// The end of a document with this content.
fn seal(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    let mut seal = String::from(r#""sha256":""#);
    for byte in digest.as_ref() {
        let _ = write!(seal, "{byte:02x}");
    }
    seal + "\"}\n"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(entries: &[(&str, &[u8], u64)], revision: u64) -> Document {
        let entries = entries
            .iter()
            .map(|(key, value, at)| (key.parse().unwrap(), (Bytes::copy_from_slice(value), Revision(*at))))
            .collect();
        Document { revision: Revision(revision), entries }
    }

    fn small() -> Document {
        let json = br#"{"held":{"Cluster0/shard-00-00":1024},"draining":[]}"#;
        document(
            &[("ports/vpce-svc-1", json, 3), ("a \"b\"", b"\x00\xff", 9), ("overrides/pace", b"\"frozen\"", 2)],
            12,
        )
    }

    #[test]
    fn a_document_is_one_that_a_person_can_read() {
        let text = String::from_utf8(small().encode()).unwrap();
        let (content, end) = text.split_once(r#""sha256":""#).unwrap();
        let expected = r#"{"format":2,"revision":12,"entries":{
"a \"b\"":{"revision":9,"base64":"AP8="},
"overrides/pace":{"revision":2,"value":"frozen"},
"ports/vpce-svc-1":{"revision":3,"value":{"held":{"Cluster0/shard-00-00":1024},"draining":[]}}
},"#;
        assert_eq!(content, expected);
        assert!(end.len() == 67 && end.ends_with("\"}\n"), "{end}");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        assert_eq!(decode(text.as_bytes()), Ok(small()));
    }

    #[test]
    fn a_document_cut_anywhere_or_with_anything_after_it_is_refused() {
        for document in [Document::default(), small()] {
            let whole = document.encode();
            for length in 0..whole.len() {
                assert!(matches!(decode(&whole[..length]), Err(DecodeError::Damaged(_))), "{length} bytes of it");
            }
            for more in [&b"\n"[..], b" ", b"}", &whole] {
                assert!(matches!(decode(&[&whole, more].concat()), Err(DecodeError::Damaged(_))), "{more:?} after it");
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        for document in [Document::default(), small()] {
            let mut bytes = document.encode();
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    bytes[at] ^= 1 << bit;
                    assert!(matches!(decode(&bytes), Err(DecodeError::Damaged(_))), "bit {bit} of byte {at}");
                    bytes[at] ^= 1 << bit;
                }
            }
        }
    }

    /// `content` with its checksum.
    fn sealed(content: &str) -> Vec<u8> {
        format!("{content}{}", seal(content.as_bytes())).into_bytes()
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let newer = sealed(r#"{"format":3,"since":"2030","entries":[],"#);
        assert_eq!(decode(&newer), Err(DecodeError::Newer { format: 3 }));
    }

    #[test]
    fn a_record_of_no_known_version_is_refused_despite_a_valid_checksum() {
        for content in [
            "{",
            "[",
            r#"{"format":2,"#,
            r#"{"format":2,"revision":-1,"entries":{},"#,
            r#"{"format":2,"revision":1,"entries":{"a//b":{"revision":1,"value":1}},"#,
            r#"{"format":2,"revision":1,"entries":{"a":{"revision":1}},"#,
            r#"{"format":2,"revision":1,"entries":{"a":{"revision":1,"value":1,"base64":""}},"#,
            r#"{"format":2,"revision":1,"entries":{"a":{"revision":1,"base64":"?"}},"#,
        ] {
            assert!(matches!(decode(&sealed(content)), Err(DecodeError::Damaged(_))), "{content}");
        }
        assert_eq!(decode(&sealed(r#"{"format":2,"revision":0,"entries":{},"#)), Ok(Document::default()));
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        let json = prop_oneof![
            Just("null"),
            Just(" null"),
            Just("{}"),
            Just(" {}"),
            Just("{ \"a\" : [1.0, 1e2] }"),
            Just("\"\\ud800\""),
            Just("\"a\nb\""),
            Just("1"),
            Just("01"),
            Just("\"\""),
            Just(""),
            Just("true,"),
            Just("\"ü\""),
        ];
        prop_oneof![json.prop_map(|text| text.as_bytes().to_vec()), proptest::collection::vec(any::<u8>(), 0..40)]
    }

    proptest! {
        #[test]
        fn any_document_is_read_as_it_was_written(
            entries in proptest::collection::btree_map("[a-z\"\\\\ü ]{1,6}(/[a-z]{1,3}){0,2}", (value(), any::<u64>()), 0..6),
            revision in any::<u64>(),
        ) {
            let entries: Vec<_> = entries.iter().map(|(key, (value, at))| (key.as_str(), value.as_slice(), *at)).collect();
            let document = document(&entries, revision);
            prop_assert_eq!(decode(&document.encode()), Ok(document));
        }

        #[test]
        fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&noise).is_err());
        }
    }
}
