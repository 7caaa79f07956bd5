//! Reads the state file of format 1: a log of commits, which this program no longer writes.
//!
//! ```text
//!     0  header   magic, format version, offset of the log, CRC-32C
//!  1024  slot 0   commit counter, revision, end of the log, chain, CRC-32C  ┐ commit n was written to
//!  2048  slot 1   the same                                                  ┘ slot n % 2
//!  4096  log      records: length, chain, body; the first may be a snapshot of everything, the others are commits
//! ```
//!
//! Numbers are little-endian. A record's chain is the CRC-32C of its length and body, starting with the chain of the
//! record before it, or of the header. The newest slot gives a lower bound of the log's end. A whole record after that
//! was being acknowledged when the process ended; a torn one was not.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use super::document::Document;
use super::{Revision, StateKey};

const MAGIC: &[u8] = b"\x89PLGW\r\n\x1a";
const HEADER_LENGTH: usize = 64;
const SLOT_OFFSETS: [usize; 2] = [1024, 2048];
const LOG_START: usize = 4096;
const RECORD_OVERHEAD: usize = 8;

/// Prefixes of keys that were renamed since.
const RENAMED: [(&str, &str); 2] = [("made/", "resources/"), ("said/", "overrides/")];

/// Whether `bytes` are a file of format 1, complete or not.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The state in a file of format 1, or why it can't be read.
pub(super) fn decode(file: &[u8]) -> Result<Document, &'static str> {
    let header = file.get(..HEADER_LENGTH).ok_or("its header is cut")?;
    let mut chain = crc32c(&header[..HEADER_LENGTH - 4]);
    let expected = [MAGIC, &1_u32.to_le_bytes(), &(LOG_START as u32).to_le_bytes()].concat();
    if header[HEADER_LENGTH - 4..] != chain.to_le_bytes() || !header.starts_with(&expected) {
        return Err("its header is not one that was written");
    }
    let slots = [Slot::decode(file, 0), Slot::decode(file, 1)];
    let floor = slots.iter().flatten().max_by_key(|slot| slot.counter).ok_or("neither of its commit slots is whole")?;
    let both = slots.iter().flatten().count() == 2;
    let acknowledged = usize::try_from(floor.end).ok().and_then(|end| file.get(..end)).ok_or("its end is missing")?;

    let mut document = Document::default();
    let mut position = LOG_START;
    while position < acknowledged.len() {
        (position, chain) = read_record(acknowledged, position, chain, &mut document)
            .ok_or("a saved change does not have the checksum that it was written with")?;
    }
    if position != acknowledged.len() || (chain, document.revision) != (floor.chain, floor.revision) {
        return Err("its commit slots and its saved changes do not agree");
    }
    match read_record(file, position, chain, &mut document) {
        Some((end, _)) if end == file.len() => {}
        None if both => {}
        _ => return Err("a commit slot or its last saved change is not whole"),
    }
    let entries = document.entries.into_iter().map(|(key, entry)| Some((renamed(key)?, entry)));
    let entries = entries.collect::<Option<_>>().ok_or("a key is longer than keys may be")?;
    Ok(Document { revision: document.revision, entries })
}

/// The current key for a key of format 1.
fn renamed(key: StateKey) -> Option<StateKey> {
    for (old, new) in RENAMED {
        if let Some(rest) = key.as_str().strip_prefix(old) {
            return format!("{new}{rest}").parse().ok();
        }
    }
    Some(key)
}

struct Slot {
    counter: u64,
    revision: Revision,
    end: u64,
    chain: u32,
}

impl Slot {
    fn decode(file: &[u8], index: usize) -> Option<Self> {
        let mut reader = Reader { bytes: file.get(SLOT_OFFSETS[index]..SLOT_OFFSETS[index] + 32)? };
        let checksum = crc32c(&reader.bytes[..28]);
        let (counter, revision, end, chain) = (reader.u64()?, Revision(reader.u64()?), reader.u64()?, reader.u32()?);
        (reader.u32()? == checksum && counter % 2 == index as u64).then_some(Self { counter, revision, end, chain })
    }
}

/// Applies the record at `position` to `document`; returns its end and its chain. `None`, with the document unchanged,
/// when it is not the next whole record.
fn read_record(file: &[u8], position: usize, chain: u32, document: &mut Document) -> Option<(usize, u32)> {
    let mut reader = Reader { bytes: file.get(position..)? };
    let (length, written) = (reader.u32()?, reader.u32()?);
    let body = reader.take(usize::try_from(length).ok()?)?;
    let chain = crc32c_append(crc32c_append(chain, &length.to_le_bytes()), body);
    if chain != written {
        return None;
    }
    let mut reader = Reader { bytes: body };
    let kind = reader.u8()?;
    let (revision, count) = (Revision(reader.u64()?), reader.u32()?);
    match kind {
        1 => {
            let changes = (0..count).map(|_| reader.change()).collect::<Option<Vec<_>>>()?;
            if !reader.bytes.is_empty() || revision.0.checked_sub(1) != Some(document.revision.0) {
                return None;
            }
            document.revision = revision;
            changes.into_iter().for_each(|(key, value)| document.set(key, value));
        }
        2 if position == LOG_START => {
            let entries = (0..count).map(|_| reader.entry()).collect::<Option<_>>()?;
            if !reader.bytes.is_empty() {
                return None;
            }
            *document = Document { revision, entries };
        }
        _ => return None,
    }
    Some((position + RECORD_OVERHEAD + body.len(), chain))
}

/// Reads values from the front of a slice; `None` at its end.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn key(&mut self) -> Option<StateKey> {
        let length = u16::from_le_bytes(self.array()?);
        std::str::from_utf8(self.take(usize::from(length))?).ok()?.parse().ok()
    }

    fn value(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length).map(Bytes::copy_from_slice)
    }

    /// A key, and its new value; `None` in place of that: it was removed.
    fn change(&mut self) -> Option<(StateKey, Option<Bytes>)> {
        match self.u8()? {
            1 => Some((self.key()?, Some(self.value()?))),
            2 => Some((self.key()?, None)),
            _ => None,
        }
    }

    fn entry(&mut self) -> Option<(StateKey, (Bytes, Revision))> {
        let (key, revision) = (self.key()?, Revision(self.u64()?));
        Some((key, (self.value()?, revision)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Files written by the last version with format 1: the first has only commits, the second starts with a snapshot.
    pub(in crate::control::store) const LOG: &[u8] = include_bytes!("testdata/format-1-log.plgw");
    const SNAPSHOT: &[u8] = include_bytes!("testdata/format-1-snapshot.plgw");

    /// The content of [`LOG`]: keys with the revisions of their last write.
    fn keys(document: &Document) -> Vec<(&str, u64)> {
        document.entries.iter().map(|(key, (_, at))| (key.as_str(), at.0)).collect()
    }

    #[test]
    fn files_of_the_old_writer_are_read_with_their_revisions() {
        for (file, revision) in [(LOG, 6), (SNAPSHOT, 16)] {
            let document = decode(file).expect("what the old version wrote");
            assert_eq!(document.revision, Revision(revision));
            let expected = [
                ("binary", 2),
                ("endpoints/indexes", 1),
                ("overrides/fault/x", revision),
                ("ports/vpce-svc-02863655456245e5c", revision - 1),
            ];
            assert_eq!(keys(&document), expected);
            let value = |key: &str| document.entries[key].0.clone();
            assert_eq!(value("binary"), &[0, 255, 10, 34][..]);
            assert_eq!(value("endpoints/indexes"), r#"{"vpce-024f5b57108c8d3ed":0}"#);
            let ledger = r#"{"held":{"Cluster0/shard-00-00":1029,"Cluster0/shard-00-01":1025},"draining":[1028]}"#;
            assert_eq!(value("ports/vpce-svc-02863655456245e5c"), ledger);
            assert_eq!(value("overrides/fault/x"), r#"{"since":7}"#);
        }
    }

    #[test]
    fn an_old_file_cut_anywhere_is_refused() {
        for file in [LOG, SNAPSHOT] {
            assert!((0..file.len()).all(|length| decode(&file[..length]).is_err()));
        }
    }

    #[test]
    fn any_flipped_bit_of_an_old_file_is_refused_or_changes_nothing() {
        for file in [LOG, SNAPSHOT] {
            let (mut bytes, document) = (file.to_vec(), decode(file).unwrap());
            let mut refused = 0;
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    bytes[at] ^= 1 << bit;
                    match decode(&bytes) {
                        Ok(found) => assert_eq!(found, document, "bit {bit} of byte {at}"),
                        Err(_) => refused += 1,
                    }
                    bytes[at] ^= 1 << bit;
                }
            }
            // The header, the log, and the slot without a complete record.
            assert_eq!(refused, 8 * (HEADER_LENGTH + 32 + file.len() - LOG_START));
        }
    }

    #[test]
    fn a_record_torn_by_a_crash_was_never_acknowledged_and_is_dropped() {
        let last = LOG.len() - 4;
        for torn in [&b"\0\0\0"[..], &[0; 64], &LOG[last..], &LOG[LOG_START..]] {
            assert_eq!(decode(&[LOG, torn].concat()), decode(LOG), "{torn:?}");
        }
    }

    #[test]
    fn a_whole_record_whose_slot_was_being_written_is_kept() {
        // Revision 6 is commit 7: the new file's slots were 0 and 1. Its slot was being written; the one before is
        // valid.
        for written in 0..32 {
            let mut bytes = LOG.to_vec();
            bytes[2048 + written..2080].fill(0xaa);
            assert_eq!(decode(&bytes), decode(LOG), "{written} bytes of the slot");
        }
    }
}
